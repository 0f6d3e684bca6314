// Runs inside the namespaces that test.ts made: gives them mounts of their own, runs `node --test` with this file's
// arguments, and fails the run if a test left a process, cgroup, network namespace, mount or pin behind.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { cgroup2Mount, cgroupsBelow, processesIn } from './cgroup.ts';
import { NODE_TEST } from './node-test-options.ts';

const LEFTOVER_WAIT_MS = 3000; // a guess: a process killed by a test's last hook needs a moment to go

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: 'inherit' });
}

function seal(): void {
  const cgroups = cgroup2Mount();
  run('umount', '-l', cgroups);
  run('mount', '-t', 'cgroup2', 'cgroup2', cgroups); // its root is now this run's cgroup
  run('mount', '-t', 'bpf', 'bpf', '/sys/fs/bpf');
  if (!existsSync('/sys/kernel/security/lsm')) {
    run('mount', '-t', 'securityfs', 'securityfs', '/sys/kernel/security');
  }
  run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run'); // network namespaces have their names here
  for (const dir of ['/run/netns', '/run/lock']) mkdirSync(dir);
  run('ip', 'link', 'set', 'lo', 'up');
}

const mounts = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => !point.startsWith('/run/netns'));

const pins = (): string[] => readdirSync('/sys/fs/bpf'); // a new bpffs is not empty: maps.debug

function nameOf(pid: number): string {
  try {
    return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()}`;
  } catch {
    return `${pid}`;
  }
}

interface Before {
  readonly mounts: readonly string[];
  readonly pins: readonly string[];
}

function leftovers(before: Before): string[] {
  const root = cgroup2Mount();
  return [
    ...processesIn(root)
      .filter((pid) => pid !== process.pid)
      .map((pid) => `process ${nameOf(pid)}`),
    ...cgroupsBelow(root)
      .filter((path) => path !== root)
      .map((path) => `cgroup ${path.slice(root.length)}`),
    ...readdirSync('/run/netns').map((name) => `network namespace ${name}`),
    ...pins()
      .filter((name) => !before.pins.includes(name))
      .map((name) => `BPF pin ${name}`),
    ...mounts()
      .filter((path) => !before.mounts.includes(path))
      .map((path) => `mount ${path}`),
  ];
}

/** spec for people; and where ZEROHOP_TEST_RESULTS says, what the matrix of kernels counts. */
function reporters(): string[] {
  const results = process.env['ZEROHOP_TEST_RESULTS'];
  const spec = ['--test-reporter=spec', '--test-reporter-destination=stdout'];
  if (results === undefined) return spec;
  return [
    ...spec,
    '--test-reporter=./vagrant/qemu/reporter.ts',
    `--test-reporter-destination=${results}`,
  ];
}

seal();
const before: Before = { mounts: mounts(), pins: pins() };
const child = spawn(process.execPath, [...NODE_TEST, ...reporters(), ...process.argv.slice(2)], {
  stdio: 'inherit',
});
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true;
    child.kill(signal);
  });
}
const status = await new Promise<number>((resolve) => {
  child.on('exit', (code) => resolve(code ?? 1));
});
process.exitCode = status;
if (!interrupted) {
  const deadline = performance.now() + LEFTOVER_WAIT_MS;
  let left = leftovers(before);
  while (left.length > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    left = leftovers(before);
  }
  if (left.length > 0) {
    console.error(
      `${basename(import.meta.filename)}: the tests left behind:\n  ${left.join('\n  ')}`,
    );
    process.exitCode = status === 0 ? 1 : status;
  }
}
