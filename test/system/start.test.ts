/**
 * What the agent meets when it starts: other agents, missing file systems, bad
 * disks, old pins. It says what is wrong and what to do, and breaks nothing.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type AgentOptions, withoutBtf } from '../harness/agent.ts';
import type { Result } from '../harness/child.ts';
import { run } from '../harness/child.ts';
import { ask, endLoad, startLoad } from '../harness/clients.ts';
import { smallConfig } from '../harness/config.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { dumpTables, linkIds, mapIds, mapPath } from '../harness/maps.ts';
import { echoes } from '../harness/servers.ts';
import { putBackend, putService, removeBackend, VIP4 } from '../harness/services.ts';

/** A host with a running agent and a service `web` whose backend answers. */
async function serving(
  options: AgentOptions = {},
): Promise<{ host: TestHost; config: string; port: number }> {
  const host = await TestHost.create();
  try {
    const config = host.writeConfig(smallConfig);
    await host.agent.start({ config, ...options });
    const {
      echoes: [echo],
    } = await echoes(host, { name: 'a' });
    const port = echo?.port ?? 0;
    await putService(host, 'web', {
      vips: [VIP4],
      ports: [{ port: 80 }],
      backends: [{ address: '127.0.0.1', port }],
    });
    return { host, config, port };
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
}

async function assertServes(host: TestHost): Promise<void> {
  const seen = await ask(host, 'C', 'tcp', VIP4, 80);
  assert.equal(seen.peer, `${VIP4}:80`, seen.error);
  assert.match(seen.reply ?? '', /^a /);
}

/** Starts one more agent process with other options and expects it to give up. */
async function refuses(host: TestHost, options: AgentOptions, ...says: RegExp[]): Promise<Result> {
  const child = host.agent.launch(options, 'aside');
  const result = await child.result(15_000);
  const text = `${result.stderr}${result.stdout}`;
  assert.notEqual(result.code, 0, text);
  for (const pattern of says) assert.match(text, pattern);
  assert.doesNotMatch(text, /^\s+at .*:\d+/m, 'a stack trace');
  return result;
}

test('a second agent on the same pins is refused and the first goes on', async () => {
  const { host } = await serving();
  await using _host = host;
  const before = [await dumpTables(host), await linkIds(host)];
  const other = { data: join(host.dir, 'data2'), socket: join(host.dir, '2.sock') };
  await refuses(host, { ...other }, new RegExp(`${host.agent.pid}`), /pin/);
  assert.deepEqual([await dumpTables(host), await linkIds(host)], before);
  assert.equal(existsSync(other.socket), false);
  await putBackend(host, 'web', { address: '127.0.0.1', port: 9 });
});

test('a second agent on the same data directory or socket is refused, and takes nothing away', async () => {
  const { host } = await serving();
  await using _host = host;
  const pin = join(host.bpffs, 'other');
  await refuses(
    host,
    { pin, socket: join(host.dir, '2.sock') },
    /data|state\.db/,
    new RegExp(`${host.agent.pid}`),
  );
  await refuses(host, { pin, data: join(host.dir, 'data2') }, /agent\.sock/);
  await assertServes(host);
  assert.equal((await host.zerohop('status')).code, 0);
});

test('a start asks systemd for time at every step, and says when it is done', async () => {
  await using host = await TestHost.create();
  const told = join(host.dir, 'told');
  const stub = join(host.dir, 'systemd-notify');
  writeFileSync(stub, `#!/bin/sh\necho "$@" >>${told}\n`, { mode: 0o755 });
  const env = { NOTIFY_SOCKET: '/nobody', PATH: `${host.dir}:${process.env['PATH'] ?? ''}` };
  await host.agent.start({ env });
  const lines = (): string[] => (existsSync(told) ? readFileSync(told, 'utf8') : '').split('\n');
  await eventually('all of them', () => lines().length === 5);
  assert.deepEqual(lines().toSorted(), [
    '',
    'EXTEND_TIMEOUT_USEC=300000000',
    'EXTEND_TIMEOUT_USEC=300000000',
    'EXTEND_TIMEOUT_USEC=300000000',
    'READY=1 STATUS=serving',
  ]);
});

test('a socket file that a killed agent left is replaced; another file there is not', async () => {
  const { host, config } = await serving();
  await using _host = host;
  await host.agent.kill('SIGKILL');
  assert.ok(existsSync(host.socket));
  await host.agent.start({ config });
  await host.agent.stop();
  assert.equal(existsSync(host.socket), false, 'the socket stays after a clean stop');
  writeFileSync(host.socket, 'precious');
  await refuses(host, { config }, /agent\.sock/);
  assert.equal(readFileSync(host.socket, 'utf8'), 'precious');
});

test('without a bpffs the agent says how to mount one', async () => {
  await using host = await TestHost.create();
  await refuses(host, { pin: join(host.dir, 'plain') }, /bpffs/, /mount -t bpf/);
  assert.equal(existsSync(join(host.dir, 'plain')), false);
});

test('without a cgroup2 path the agent says so', async () => {
  await using host = await TestHost.create();
  await refuses(host, { cgroup: host.dir }, /cgroup2/);
  await refuses(host, { cgroup: `${host.cgroup}/none` }, /none/);
  assert.deepEqual(
    readdirSync(host.bpffs).filter((name) => !name.endsWith('.debug')),
    [],
  );
});

test('without its capabilities the agent names them', async () => {
  await using host = await TestHost.create();
  const drop = ['setpriv', '--bounding-set', '-bpf,-net_admin,-sys_admin', '--inh-caps', '-all'];
  const child = host.spawn([...drop, host.bin, 'agent']);
  const { code, stderr, stdout } = await child.result();
  assert.equal(code, 1);
  assert.match(`${stderr}${stdout}`, /CAP_BPF.*CAP_NET_ADMIN/);
});

/** `CAP_BPF CAP_…` of the unit, in the words of setpriv(1). */
function unitCapabilities(): string {
  const unit = readFileSync(new URL('../../scripts/zerohop.service', import.meta.url), 'utf8');
  const names = /^CapabilityBoundingSet=(.+)$/m.exec(unit)?.[1] ?? assert.fail('no bounding set');
  return names
    .split(' ')
    .map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)
    .join(',');
}

test('the capabilities of the systemd unit are enough, to start and to take over pins', async () => {
  await using host = await TestHost.create();
  const config = host.writeConfig(smallConfig);
  const wrapper = ['setpriv', '--bounding-set', `-all,${unitCapabilities()}`];
  await host.agent.start({ config, wrapper });
  const before = [await linkIds(host), await mapIds(host)];
  await host.agent.kill('SIGKILL');
  await host.agent.start({ config, wrapper });
  assert.deepEqual([await linkIds(host), await mapIds(host)], before);
  const { datapath, dns } = (await host.api('GET', '/v1/status')).json() as {
    datapath: { adoptedPins: boolean; state: string };
    dns: { listeners: object[]; kernel: { state: string; why?: string } };
  };
  assert.deepEqual([datapath.adoptedPins, datapath.state], [true, 'in-sync']);
  assert.deepEqual(dns.listeners, [{ address: '127.0.0.55:53', listening: true }]);
  assert.equal(dns.kernel.state, 'active', dns.kernel.why);
});

test('without kernel BTF services work', async () => {
  await using host = await TestHost.create();
  await host.agent.start({ wrapper: withoutBtf });
  const {
    echoes: [echo],
  } = await echoes(host, { name: 'a' });
  const backends = [{ address: '127.0.0.1', port: echo?.port ?? 0 }];
  await putService(host, 'web', { vips: [VIP4], ports: [{ port: 80 }], backends });
  await assertServes(host);
});

const damages: readonly { what: string; damage: (file: string) => void }[] = [
  {
    what: 'overwritten with garbage',
    damage: (file) => writeFileSync(file, 'garbage'.repeat(2000)),
  },
  { what: 'emptied', damage: (file) => truncateSync(file, 0) },
  { what: 'cut in half', damage: (file) => truncateSync(file, statSync(file).size / 2) },
  {
    what: 'changed in one byte of a record',
    damage: (file) => {
      const data = readFileSync(file);
      const at = data.indexOf('127.0.0.1');
      assert.ok(at > 0, 'no record found');
      data[at + 8] = 0x39;
      writeFileSync(file, data);
    },
  },
];

for (const { what, damage } of damages) {
  test(`a state file that was ${what} is refused, kept as it is, and connects go on`, async () => {
    const { host, config } = await serving();
    await using _host = host;
    await host.agent.stop();
    const file = join(host.dataDir, 'state.db');
    damage(file);
    const [damaged, before] = [readFileSync(file), [await dumpTables(host), await linkIds(host)]];
    await refuses(host, { config }, /state\.db/);
    assert.deepEqual(readFileSync(file), damaged);
    assert.deepEqual([await dumpTables(host), await linkIds(host)], before);
    await assertServes(host);
  });
}

test('a read-only data directory is refused at the start', async () => {
  const { host, config } = await serving();
  await using _host = host;
  await host.agent.stop();
  execFileSync('mount', ['--bind', host.dataDir, host.dataDir]);
  execFileSync('mount', ['-o', 'remount,bind,ro', host.dataDir]);
  await refuses(host, { config }, /read-only/i, new RegExp(host.dataDir));
  await assertServes(host);
});

test('a full disk: changes are refused with a reason, nothing is lost, and later they are taken again', async () => {
  await using host = await TestHost.create();
  const disk = join(host.dir, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
  const config = host.writeConfig(smallConfig);
  const data = join(disk, 'data');
  await host.agent.start({ config, data });
  await putService(host, 'web', { vips: [VIP4], ports: [{ port: 80 }] });
  const fill = join(disk, 'fill');
  execFileSync('sh', ['-c', `dd if=/dev/zero of=${fill} bs=4k 2>/dev/null || true`]);

  let refused;
  let taken = 0;
  for (let i = 0; i < 200 && refused === undefined; i++) {
    const answer = await host.api('PUT', `/v1/services/web/backends/127.0.0.1:${1000 + i}`, {
      weight: 1,
    });
    if (answer.status < 300) taken++;
    else refused = answer;
  }
  assert.ok(refused !== undefined, 'never full');
  assert.match(refused.text, /full|space/);
  const count = async (): Promise<number> =>
    ((await host.api('GET', '/v1/backends')).json() as { backends: unknown[] }).backends.length;
  assert.equal(await count(), taken);
  await host.agent.kill('SIGKILL');
  await run(['rm', fill]);
  await host.agent.start({ config, data });
  assert.equal(await count(), taken);
  await putBackend(host, 'web', { address: '127.0.0.1', port: 999 });
  assert.equal(await count(), taken + 1);
});

test('pins of an older layout are replaced, and no connect fails meanwhile', async () => {
  const { host, config } = await serving();
  await using _host = host;
  await host.agent.stop();
  const before = await mapIds(host);
  const meta = [
    'bpftool',
    'map',
    'update',
    'pinned',
    mapPath(host, 'zh_meta'),
    'key',
    '0',
    '0',
    '0',
    '0',
  ];
  await run([
    ...meta,
    'value',
    'hex',
    ...'6f 68 65 7a 00 00 00 00 07 00 00 00 00 00 00 00'.split(' '),
  ]);
  const load = await startLoad(host, 'tcp', VIP4, 80, { pauseUs: 200 });
  await host.agent.start({ config });
  const { errors, rounds } = await endLoad(load);
  assert.deepEqual(errors, {});
  assert.ok(rounds > 0);
  await assertServes(host);
  const after = await mapIds(host);
  for (const [name, id] of before) assert.notEqual(after.get(name), id, name);
  const said = host.agent.log().some((line) => /layout/.test(String(line['message'])));
  assert.ok(said, 'not a word in the log');
});

test('other sizes in the configuration: the maps are made anew, and no connect fails meanwhile', async () => {
  const { host } = await serving();
  await using _host = host;
  const load = await startLoad(host, 'tcp', VIP4, 80, { pauseUs: 200 });
  const config = host.writeConfig({ maps: { ...smallConfig.maps, services: 128, backends: 512 } });
  await host.agent.stop();
  await host.agent.start({ config });
  const { errors, rounds } = await endLoad(load);
  assert.deepEqual(errors, {});
  assert.ok(rounds > 0);
  await assertServes(host);
});

/** An unconnected UDP socket that asks the VIP once for every line. */
const UDP_ASKER = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
for line in sys.stdin:
    s.sendto(line.encode(), ('${VIP4}', 53))
    print(s.recvfrom(100), flush=True)
`;

test('a UDP socket does not stay with a removed backend, though the maps were made anew meanwhile', async () => {
  await using host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig(smallConfig) });
  const { echoes: list } = await echoes(
    host,
    ...['a', 'b', 'c'].map((name) => ({ name, protocol: 'udp' as const })),
  );
  const [a, b, c] = list.map(({ address, port }) => ({ address, port }));
  assert.ok(a !== undefined && b !== undefined && c !== undefined);
  // New maps number the backends in the order of their ports; old ones in the order they came.
  const ports = [{ port: 53, protocol: 'udp' as const }];
  const sorted = [a, b, c].toSorted((x, y) => x.port - y.port);
  const [first, kept, removed] = sorted as [typeof a, typeof a, typeof a];
  await putService(host, 'dns', { vips: [VIP4], ports, backends: [first] });
  await putBackend(host, 'dns', { ...first, weight: 0 });
  await putBackend(host, 'dns', removed);
  const asker = host.spawn(['python3', '-u', '-c', UDP_ASKER]);
  asker.say('1\n');
  const name = list.find((echo) => echo.port === removed.port)?.name ?? '';
  await asker.says(new RegExp(`b'${name} .* 1`));
  await putBackend(host, 'dns', kept);
  await host.agent.stop();
  const maps = { ...smallConfig.maps, services: 128 };
  await host.agent.start({ config: host.writeConfig({ maps }) });
  await removeBackend(host, 'dns', removed);
  asker.say('2\n');
  const other = list.find((echo) => echo.port === kept.port)?.name ?? '';
  await asker.says(new RegExp(`b'${other} .* 2`));
  asker.endInput();
});

test('status says so when the cgroup of the agent is removed', async () => {
  await using host = await TestHost.create();
  const cgroup = join(host.cgroup, 'sub');
  mkdirSync(cgroup);
  const config = host.writeConfig({ ...smallConfig, fullCheckIntervalMs: 100 });
  await host.agent.start({ config, cgroup });
  rmdirSync(cgroup);
  await eventually('status to call it degraded', async () => {
    const { code, stdout } = await host.zerohop('status');
    return code === 1 && /degraded: not in effect: .*connect4/.test(stdout);
  });
});

test('pins that are somebody else’s maps do not stop the agent for good', async () => {
  const { host, config } = await serving();
  await using _host = host;
  await host.agent.stop();
  const path = mapPath(host, 'zh_backends');
  await run(['rm', path]);
  await run([
    'bpftool',
    'map',
    'create',
    path,
    'type',
    'hash',
    'key',
    '4',
    'value',
    '8',
    'entries',
    '4',
    'name',
    'alien',
  ]);
  await host.agent.start({ config });
  await assertServes(host);
});

test('Ctrl-C ends the agent cleanly: code 0, no socket, connects go on', async () => {
  const { host } = await serving();
  await using _host = host;
  assert.equal(await host.agent.kill('SIGINT'), 0);
  assert.equal(existsSync(host.socket), false);
  await assertServes(host);
});
