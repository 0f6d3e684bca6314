import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Child, run } from '../harness/child.ts';
import { ask, endLoad, plain, startLoad, steps } from '../harness/clients.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { languages } from '../harness/programs.ts';
import { echoes, nginx, redis } from '../harness/servers.ts';

/** Of one host, or of all whose names begin so. */
const tracesOf = (name: string): string[] => [
  ...readdirSync('/run/netns').filter((netns) => netns === name || netns.startsWith(`${name}-`)),
  ...readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`/${name}-`)),
  ...readdirSync(tmpdir()).filter((file) => file.startsWith(`${name}-`)),
];

test('a test host is a network of its own with nothing but loopback, and its processes are in its cgroup', async () => {
  await using host = await TestHost.create();
  assert.match(await host.output(['ip', '-o', 'link']), /^1: lo: <LOOPBACK,UP[^\n]*\n$/);
  assert.match(
    await host.output(['cat', '/proc/self/cgroup']),
    new RegExp(`^0::.*/${host.name}\\.slice$`, 'm'),
  );
});

test('a test host leaves nothing behind', async () => {
  const host = await TestHost.create();
  const inner = `${host.cgroup}/inner`;
  await host.output([
    'sh',
    '-c',
    `mkdir ${inner} && echo $$ >${inner}/cgroup.procs && { sleep 60 >&- 2>&- & }`,
  ]);
  const child = host.spawn(['sleep', '60']);
  await host[Symbol.asyncDispose]();
  assert.equal(child.running, false);
  assert.deepEqual(tracesOf(host.name), []);
  assert.equal(existsSync(host.cgroup), false);
});

/** Gone, or a zombie that its new parent has not collected yet. */
function ended(pid: string): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

const holder = fileURLToPath(new URL('../harness/hold.ts', import.meta.url));

for (const kind of ['host', 'cluster'] as const) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    test(`a test process with a ${kind} that gets ${signal} leaves nothing behind`, async () => {
      const child = new Child([process.execPath, holder, kind]);
      const [, name = '', cgroup = '', pid = ''] = await child.says(/^(\S+) (\S+) (\d+)$/m);
      const all = name.slice(0, name.lastIndexOf('-'));
      // The hosts, and the switch of the cluster.
      const namespaces = readdirSync('/run/netns').filter((netns) => netns.startsWith(`${all}-`));
      assert.equal(namespaces.length, kind === 'host' ? 1 : 3);
      child.kill(signal);
      await child.result();
      await eventually(
        'nothing to be left',
        () => tracesOf(all).length === 0 && !existsSync(cgroup) && ended(pid),
      );
    });
  }
}

test('a test process that ends with an uncaught exception leaves nothing behind', async () => {
  const child = new Child([process.execPath, holder, 'host', 'throw']);
  const { code, stdout } = await child.result();
  assert.equal(code, 1);
  const [name = '', cgroup = ''] = stdout.trim().split(' ');
  assert.deepEqual(tracesOf(name), []);
  assert.equal(existsSync(cgroup), false);
});

test('every client reaches every kind of echo server directly', async () => {
  await using host = await TestHost.create();
  for (const protocol of ['tcp', 'udp'] as const) {
    const server = await echoes(
      host,
      { name: 'four', protocol },
      { name: 'six', protocol, address: '::1' },
    );
    for (const echo of server.echoes) {
      await Promise.all(
        languages.map(async (language) => {
          const seen = await ask(host, language, protocol, echo.address, echo.port);
          const at = echo.name === 'six' ? `[::1]:${echo.port}` : `127.0.0.1:${echo.port}`;
          assert.equal(plain(seen.peer), at, language);
          assert.equal(
            seen.reply,
            `${echo.name} ${plain(seen.local)} ${language.toLowerCase()}`,
            language,
          );
        }),
      );
    }
  }
});

test('client.c does what its steps say without any VIP', async () => {
  await using host = await TestHost.create();
  const { echoes: made } = await echoes(host, { name: 't' }, { name: 'u', protocol: 'udp' });
  const [tcp, udp] = made.map((echo) => echo.port);
  for (const how of ['connect', 'nonblock', 'uring', 'fastopen']) {
    const [connected, said] = await steps(
      host,
      4,
      'tcp',
      `${how}=127.0.0.1,${tcp}`,
      how === 'fastopen' ? 'hear' : 'say=x',
    );
    assert.equal(connected?.peer, `127.0.0.1:${tcp}`);
    assert.equal(said?.reply, `t ${connected?.local} ${how === 'fastopen' ? 'fast' : 'x'}`);
  }
  const [, got] = await steps(host, 4, 'udp', `sendto=127.0.0.1,${udp}`, 'recvfrom');
  assert.equal(got?.from, `127.0.0.1:${udp}`);
  const [refused] = await steps(host, 4, 'tcp', 'connect=127.0.0.1,1');
  assert.equal(refused?.error, 'ECONNREFUSED');
  const load = await endLoad(
    await startLoad(host, 'tcp', '127.0.0.1', tcp ?? 0, { count: 500, log: true }),
  );
  assert.deepEqual([load.answers, load.errors, load.log.length], [{ t: 500 }, {}, 500]);
});

test('nginx and redis run on a test host', async () => {
  await using host = await TestHost.create();
  await nginx(host, 'a', 8001);
  await redis(host, 6379);
  assert.equal(await host.output(['curl', '-s', 'http://127.0.0.1:8001/']), 'a 127.0.0.1\n');
  assert.equal(await host.output(['redis-cli', '-p', '6379', 'ping']), 'PONG\n');
  assert.match(await run(['ip', 'netns', 'list']), new RegExp(host.name));
});
