/** `zerohop run` with real processes, sockets and cgroups, against an agent without a kernel. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { startApi, type ApiServer } from '../../src/api/io/server.ts';
import { deadOwners } from '../../src/state/io/owners.ts';
import { LOCAL_NODE } from '../../src/state/io/state.ts';
import { cgroup2Root } from '../harness/cgroup.ts';
import { eventually } from '../harness/eventually.ts';
import { SELF } from '../unit/api/fake-cluster.ts';
import { FakeEngine } from '../unit/api/fake-engine.ts';

const suite = { skip: process.getuid?.() === 0 ? false : 'cgroups need root' };
const directory = mkdtempSync(join(tmpdir(), 'zerohop-run-'));
const socket = join(directory, 'agent.sock');
const main = join(import.meta.dirname, '../../src/main.ts');
const engine = new FakeEngine();
const running = new Set<Run>();
let api: ApiServer;

interface Run {
  readonly child: ChildProcess;
  out: string;
  err: string;
}

before(async () => {
  if (suite.skip !== false) return;
  engine.cgroupPath = join(cgroup2Root(), `zerohop-run-test-${process.pid}`);
  mkdirSync(engine.cgroupPath);
  const log = { debug: () => undefined, error: () => undefined };
  api = await startApi(engine, { socketPath: socket, version: '0', log });
  const ports = [{ name: 'http', port: 80, protocol: 'tcp' as const }];
  await engine.submit({ kind: 'add-service', service: { name: 'web', ports } });
  await engine.submit({
    kind: 'add-service',
    service: { name: 'dns', ports: [{ name: 'dns', port: 53, protocol: 'udp' as const }] },
  });
});

after(async () => {
  if (suite.skip !== false) return;
  await api.close();
  rmdirSync(engine.cgroupPath);
  rmSync(directory, { recursive: true });
});

afterEach(async () => {
  for (const { child } of running) {
    // What `run` leaves behind when a test fails half way.
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  }
  running.clear();
  engine.cluster.list = [];
  for (const list of engine.snapshot().backends.values()) {
    for (const backend of list) await engine.submit({ kind: 'remove-backend', backend });
  }
  if (suite.skip !== false) return;
  const parent = join(engine.cgroupPath, 'zerohop-run');
  if (!existsSync(parent)) return;
  for (const entry of readdirSync(parent, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    await eventually('the cgroup to be empty', () => emptied(join(parent, entry.name)));
  }
  rmdirSync(parent);
});

/** Without cgroup.kill, which Linux 5.10 does not have. */
function emptied(path: string): true {
  for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean))
    process.kill(Number(pid), 'SIGKILL');
  rmdirSync(path);
  return true;
}

function run(options: readonly string[], ...command: string[]): Run {
  const args = [main, 'run', '--socket', socket, ...options, '--', ...command];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const made: Run = { child, out: '', err: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (made.out += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (made.err += text));
  running.add(made);
  return made;
}

/** JavaScript as a program of its own. */
function node(code: string): string[] {
  return [process.execPath, '-e', code];
}

async function codeOf({ child }: Run): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

function backends(service = 'web'): string[] {
  const list = engine.snapshot().backends.get(service) ?? [];
  return list.map((one) => `${one.address}:${one.port} ${one.state}`);
}

async function registered(count: number, service = 'web'): Promise<string[]> {
  return await eventually(
    `${count} backends`,
    () => (backends(service).length === count ? backends(service) : undefined),
    { timeoutMs: 10_000 },
  );
}

function cgroups(): string[] {
  const parent = join(engine.cgroupPath, 'zerohop-run');
  if (!existsSync(parent)) return [];
  return readdirSync(parent, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

const SERVER = `const s = require('net').createServer().listen(0, '127.0.0.1');`;

test(
  'the port that a program listens on is found, registered with its owner, and removed at its end',
  suite,
  async () => {
    const web = run(
      ['--service', 'web', '--weight', '5'],
      ...node(`${SERVER} process.on('SIGTERM', () => process.exit(3))`),
    );
    const [backend] = await registered(1);
    assert.match(backend ?? '', /^127\.0\.0\.1:\d+ active$/);
    const [record] = engine.snapshot().backends.get('web') ?? [];
    assert.equal(record?.weight, 5);
    assert.equal(record?.owner?.pid, web.child.pid);
    assert.deepEqual(deadOwners(engine.snapshot(), LOCAL_NODE), []);
    assert.deepEqual(cgroups(), [`web-${web.child.pid}`]);
    web.child.kill('SIGTERM');
    assert.equal(await codeOf(web), 3);
    assert.deepEqual(backends(), []);
    assert.deepEqual(cgroups(), []);
  },
);

test('SIGTERM drains before the program is told', suite, async () => {
  const states: string[] = [];
  const web = run(
    ['--service', 'web'],
    ...node(`${SERVER} process.on('SIGTERM', () => { console.log('told'); })`),
  );
  await registered(1);
  web.child.stdout?.on('data', () => states.push(...backends()));
  web.child.kill('SIGTERM');
  await eventually('the program to be told', () => web.out.includes('told'));
  assert.match(states.join(), /draining/);
  web.child.kill('SIGKILL');
});

test(
  'the exit code of the program is the exit code of run, 128 + n for a signal',
  suite,
  async () => {
    assert.equal(await codeOf(run(['--service', 'web'], 'sh', '-c', 'exit 7')), 7);
    assert.equal(await codeOf(run(['--service', 'web'], 'sh', '-c', 'kill -9 $$')), 137);
    assert.equal(await codeOf(run(['--service', 'web'], 'sh', '-c', 'exit 0')), 0);
  },
);

test(
  'a socket on all addresses is registered for both families, one for IPv6 only just for that',
  suite,
  async () => {
    const dual = run(
      ['--service', 'web'],
      ...node(`require('net').createServer().listen(0, '::')`),
    );
    const addresses = (list: string[]): string[] =>
      list.map((text) => text.replace(/:\d+ active$/, ''));
    assert.deepEqual(addresses(await registered(2)), ['127.0.0.1', '::1']);
    dual.child.kill('SIGTERM');
    await codeOf(dual);
    const only = run(
      ['--service', 'web'],
      ...node(`require('net').createServer().listen({ port: 0, host: '::', ipv6Only: true })`),
    );
    assert.deepEqual(addresses(await registered(1)), ['::1']);
    only.child.kill('SIGTERM');
    await codeOf(only);
  },
);

test(
  'a program goes with its host into a cluster and out of it: others reach it at the address there',
  suite,
  async () => {
    const web = run(
      ['--service', 'web'],
      ...node("require('net').createServer().listen(0, '0.0.0.0')"),
    );
    const address = async (wanted: string): Promise<void> => {
      const found = (): boolean => backends().length === 1 && backends().join().startsWith(wanted);
      await eventually(wanted, found, { timeoutMs: 15_000 });
    };
    await address('127.0.0.1:');
    engine.cluster.list = [SELF];
    await address('10.0.0.1:');
    engine.cluster.list = [];
    await address('127.0.0.1:');
    web.child.kill('SIGTERM');
    assert.equal(await codeOf(web), 128 + 15);
    assert.deepEqual(backends(), []);
  },
);

test(
  'a child that listens counts, and a program in the background keeps run waiting',
  suite,
  async () => {
    const web = run(
      ['--service', 'web'],
      'sh',
      '-c',
      '"$0" -e "$1" & exit 0',
      process.execPath,
      `${SERVER} process.on('SIGTERM', () => process.exit(0))`,
    );
    await registered(1);
    assert.equal(web.child.exitCode, null);
    web.child.kill('SIGTERM');
    assert.equal(await codeOf(web), 0);
    assert.deepEqual(backends(), []);
  },
);

test('what a failing program leaves behind is ended with it', suite, async () => {
  const web = run(
    ['--service', 'web'],
    'sh',
    '-c',
    '"$0" -e "$1" & read line <"$2"; exit 9',
    process.execPath,
    SERVER,
    join(directory, 'fifo'),
  );
  // Reading a file that is not there fails at once, with the child under way.
  assert.equal(await codeOf(web), 9);
  assert.deepEqual(cgroups(), []);
  assert.deepEqual(backends(), []);
});

test(
  'a UDP program serves a UDP port; one that moves to another port is followed',
  suite,
  async () => {
    const code = `const d = require('dgram'); let s = d.createSocket('udp4').bind(0, '127.0.0.1');
    process.on('SIGUSR1', () => { s.close(); s = d.createSocket('udp4').bind(0, '127.0.0.2'); })`;
    const dns = run(['--service', 'dns'], ...node(code));
    assert.match((await registered(1, 'dns'))[0] ?? '', /^127\.0\.0\.1:/);
    dns.child.kill('SIGUSR1');
    await eventually(
      'the other address',
      () => backends('dns').join().startsWith('127.0.0.2:') && backends('dns').length === 1,
    );
    dns.child.kill('SIGTERM');
    await codeOf(dns);
  },
);

test('kill -9 of run leaves a backend whose owner the agent finds dead', suite, async () => {
  const web = run(['--service', 'web'], ...node(SERVER));
  await registered(1);
  web.child.kill('SIGKILL');
  await codeOf(web);
  const changes = deadOwners(engine.snapshot(), LOCAL_NODE);
  assert.equal(changes[0]?.kind, 'remove-backend');
});

test('a backend that passed to another run is not removed by the first', suite, async () => {
  const web = run(['--service', 'web'], ...node(SERVER));
  await registered(1);
  const [record] = engine.snapshot().backends.get('web') ?? [];
  assert.ok(record?.owner);
  const { service, owner, ...backend } = record;
  await engine.submit({
    kind: 'put-backend',
    service,
    backend: { ...backend, owner: { ...owner, pid: 1 } },
  });
  web.child.kill('SIGTERM');
  await codeOf(web);
  assert.equal(backends().length, 1);
});

test('with :PORT the service is made', suite, async () => {
  const made = run(['--service', 'made:8080'], ...node(SERVER));
  await registered(1, 'made');
  assert.deepEqual(engine.snapshot().services.get('made')?.ports, [
    { name: 'tcp-8080', port: 8080, protocol: 'tcp' },
  ]);
  made.child.kill('SIGTERM');
  await codeOf(made);
});
