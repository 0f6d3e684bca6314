/** What remembers a socket's VIP: many sockets at once, too many, and none left over. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { smallMaps } from '../harness/config.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { dumpMap } from '../harness/maps.ts';
import { echoes } from '../harness/servers.ts';
import { putService, VIP4 } from '../harness/services.ts';

/** Opens sockets to the VIP in waves, closing every other one between them; says which peers were seen while all were open. */
const CLIENT = `
import collections, socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == 'udp' else socket.SOCK_STREAM
open_ = []
for wave in range(4):
    open_ = open_[::2]
    for i in range(int(sys.argv[2])):
        s = socket.socket(socket.AF_INET, kind)
        s.connect(('${VIP4}', 80))
        open_.append(s)
print(len(open_), dict(collections.Counter(s.getpeername()[0] for s in open_)), flush=True)
input()
`;

async function serving(sockets: number, socketsSpilled: number): Promise<TestHost> {
  const host = await TestHost.create();
  try {
    const maps = { ...smallMaps, sockets, socketsSpilled };
    await host.agent.start({ config: host.writeConfig({ maps }) });
    const { echoes: list } = await echoes(host, { name: 'a' }, { name: 'a', protocol: 'udp' });
    await putService(host, 'web', {
      vips: [VIP4],
      ports: [
        { name: 't', port: 80 },
        { name: 'u', port: 80, protocol: 'udp' },
      ],
      backends: list.map(({ protocol, address, port }) => ({
        portName: protocol === 'tcp' ? 't' : 'u',
        address,
        port,
      })),
    });
    return host;
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
}

/** Entries of living sockets; struct zh_sock begins with the cookie, then lock and number of spilled ones. */
async function remembered(host: TestHost): Promise<number> {
  const slots = await dumpMap(host, 'zh_socks');
  const taken = slots.filter(({ value }) =>
    [...value.slice(0, 8), ...value.slice(12, 16)].some((byte) => Number(byte) !== 0),
  );
  return taken.length + (await dumpMap(host, 'zh_socks_more')).length;
}

interface Counters {
  readonly entries: readonly Readonly<Record<string, number>>[];
}

async function counter(host: TestHost, name: string): Promise<number> {
  const dump = (await host.must('maps', 'dump', 'zh_counters', '--json')).json() as Counters;
  const count = dump.entries[0]?.[name];
  assert.ok(count !== undefined, `no counter ${name} in ${JSON.stringify(dump)}`);
  return count;
}

for (const protocol of ['tcp', 'udp']) {
  test(`${protocol}: far more sockets than slots all show the VIP, and all are forgotten at their end`, async () => {
    await using host = await serving(64, 4096);
    const client = host.spawn(['/usr/bin/python3', '-c', CLIENT, protocol, '200']);
    const [, open, peers] = await client.says(/^(\d+) (\{.*\})$/m);
    assert.equal(peers, `{'${VIP4}': ${open}}`);
    assert.ok((await counter(host, 'spilled')) > 100);
    assert.equal(await counter(host, 'untracked'), 0);
    client.endInput('\n');
    assert.equal((await client.result()).code, 0);
    await eventually('all sockets to be forgotten', async () => (await remembered(host)) === 0);
  });
}

test('sockets beyond every limit work all the same; how many show their backend is counted', async () => {
  await using host = await serving(64, 16);
  const client = host.spawn(['/usr/bin/python3', '-c', CLIENT, 'tcp', '100']);
  const [, open, peers] = await client.says(/^(\d+) (\{.*\})$/m);
  const seen = JSON.parse((peers ?? '').replaceAll("'", '"')) as Record<string, number>;
  const [vip, backend] = [seen[VIP4] ?? 0, seen['127.0.0.1'] ?? 0];
  assert.equal(vip + backend, Number(open));
  assert.ok(vip >= 64, `${vip} show the VIP`);
  assert.ok((await counter(host, 'untracked')) >= backend && backend > 0, `${backend}`);
  client.kill('SIGKILL');
  await client.result();
  await eventually('all sockets to be forgotten', async () => (await remembered(host)) === 0);
});
