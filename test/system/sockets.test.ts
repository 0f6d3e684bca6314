/** What remembers a socket's VIP: many sockets at once, too many, and none left over. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canTellSubflows } from '../../src/datapath/io/features.ts';
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

/** Bytes of struct zh_sock that are not zero when it remembers somebody. */
const COOKIE = [0, 8] as const;
const SPILLED = [12, 16] as const;

/** Entries of living sockets. */
async function remembered(
  host: TestHost,
  ...fields: readonly (readonly [from: number, to: number])[]
): Promise<number> {
  const slots = await dumpMap(host, 'zh_socks');
  const taken = slots.filter(({ value }) =>
    fields.some(([from, to]) => value.slice(from, to).some((byte) => Number(byte) !== 0)),
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
    await eventually(
      'all sockets to be forgotten',
      async () => (await remembered(host, COOKIE, SPILLED)) === 0,
    );
  });
}

test('sockets beyond every limit work all the same; those that find no room show their backend', async () => {
  await using host = await serving(64, 16);
  const client = host.spawn(['/usr/bin/python3', '-c', CLIENT, 'tcp', '100']);
  const [, open, peers] = await client.says(/^(\d+) (\{.*\})$/m);
  const seen = JSON.parse((peers ?? '').replaceAll("'", '"')) as Record<string, number>;
  const [vip, backend] = [seen[VIP4] ?? 0, seen['127.0.0.1'] ?? 0];
  assert.equal(vip + backend, Number(open));
  // The server's sockets take cookies too, so perhaps only every other slot is met.
  assert.ok(vip >= 32, `${vip} show the VIP`);
  assert.ok(backend > 0, 'there is a limit');
  client.kill('SIGKILL');
  await client.result();
  // What aged out of zh_socks_more stays counted in its slot: only a hint where to look.
  await eventually(
    'all sockets to be forgotten',
    async () => (await remembered(host, COOKIE)) === 0,
  );
});

const MPTCP = `
import socket
for i in range(300):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    s.connect(('${VIP4}', 80))
    s.close()
`;

test(
  'MPTCP connections leave nothing behind, though the kernel never releases their subflows to us',
  canTellSubflows() ? {} : { skip: 'needs bpf_skc_to_mptcp_sock, Linux 5.19' },
  async (t) => {
    await using host = await serving(64, 64);
    const { code, stderr } = await host.exec(['/usr/bin/python3', '-c', MPTCP]);
    if (/Protocol not (supported|available)/.test(stderr))
      return t.skip('this kernel has no MPTCP');
    assert.equal(code, 0, stderr);
    assert.equal(await remembered(host, COOKIE, SPILLED), 0);
  },
);
