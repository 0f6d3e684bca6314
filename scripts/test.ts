// What scripts/test runs: lint and types, the kernel matrix (vagrant/qemu), then one `node --test` over the test files
// inside a mount, network and cgroup namespace of its own (test-inside.ts). Whatever a test makes (processes, network
// namespaces, cgroups, pins, mounts) lives in there and is gone when this ends, however it ends; so two runs never meet
// on one machine. Without the right to load BPF programs, a guest takes the place of the namespaces.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { makeTestCgroup, removeCgroup, removeStaleTestCgroups } from './cgroup.ts';
import { NODE_TEST } from './node-test-options.ts';
import { NEWEST } from '../vagrant/qemu/rows.ts';
import { dependsOnKernel, testFiles } from './test-files.ts';

const CHECKS = [
  { name: 'lint', label: 'format', command: 'oxfmt --check .' },
  { name: 'lint', label: 'lint', command: 'oxlint --type-aware --deny-warnings' },
  {
    name: 'lint',
    label: 'shell scripts',
    command: 'shellcheck -x $(grep -rlE "^#!.*bash" scripts .ci vagrant)',
  },
  { name: 'types', label: 'types', command: 'tsc --noEmit -p tsconfig.json' },
  {
    name: 'types',
    label: 'types of pure files',
    command: 'tsc --noEmit -p src/tsconfig.pure.json',
  },
];
/** Where an agent without options keeps its files: a test that forgets its options shows here. */
const HOST_PATHS = ['/etc/zerohop', '/var/lib/zerohop', '/run/zerohop', '/sys/fs/bpf/zerohop'];

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function check(label: string, command: string): boolean {
  const start = performance.now();
  process.stdout.write(`  ${label.padEnd(50)} `);
  const { status, stdout, stderr } = spawnSync(command, {
    shell: true,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' }, // the output is captured, and may end in a log file
  });
  const seconds = `${((performance.now() - start) / 1000).toFixed(2)} s`;
  console.log(status === 0 ? seconds.padStart(9) : `failed after ${seconds}\n${stdout}${stderr}`);
  return status === 0;
}

async function runSealed(nodeArgs: readonly string[]): Promise<number> {
  removeStaleTestCgroups();
  const cgroup = makeTestCgroup();
  const tmp = mkdtempSync('/tmp/zht.');
  const sealed = [
    '--mount',
    '--net',
    '--ipc',
    '--cgroup',
    '--',
    process.execPath,
    'scripts/test-inside.ts',
  ];
  const child = spawn(
    'bash',
    ['-c', 'echo $$ >"$0/cgroup.procs" && exec unshare "$@"', cgroup, ...sealed, ...nodeArgs],
    { stdio: 'inherit', env: { ...process.env, TMPDIR: tmp } },
  );
  let interrupted = 0;
  const stop = (signal: NodeJS.Signals): void => {
    interrupted += 1;
    if (interrupted > 1) removeCgroup(cgroup);
    else setTimeout(() => removeCgroup(cgroup), 10_000).unref(); // a guess: node --test ends in well under a second
    child.kill(signal); // Ctrl-C reached it already, a plain `kill` did not
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  try {
    const status = await exited(child);
    return interrupted > 0 ? 130 : status;
  } finally {
    removeCgroup(cgroup);
    rmSync(tmp, { recursive: true, force: true });
  }
}

function exited(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

/** Runs a program of ours; its exit code. */
async function runScript(file: string, ...args: string[]): Promise<number> {
  const child = spawn(process.execPath, [file, ...args], { stdio: 'inherit' });
  const pass = (signal: NodeJS.Signals): boolean => child.kill(signal);
  for (const signal of SIGNALS) process.on(signal, pass);
  try {
    return await exited(child);
  } finally {
    for (const signal of SIGNALS) process.off(signal, pass);
  }
}

const vm = (...args: string[]): Promise<number> => runScript('vagrant/qemu/main.ts', ...args);

/** Why tests cannot load BPF programs on this machine; empty when they can. */
function obstacleHere(): string {
  return execFileSync(process.execPath, ['scripts/can-bpf.ts'], { encoding: 'utf8' }).trim();
}

interface Outcome {
  readonly label: string;
  readonly status: number;
}

/** The matrix first, so that the run ends with the count of the tests here. */
async function runHere(
  files: readonly string[],
  matrix: boolean,
  nodeArgs: readonly string[],
): Promise<Outcome[]> {
  const kernels = matrix ? await vm('test', '--json', '.cache/matrix.json') : 0;
  if (kernels >= 128) return [{ label: 'kernels', status: kernels }];
  const tests = files.length === 0 ? 0 : await runSealed([...nodeArgs, ...files]);
  return [
    { label: 'kernels', status: kernels },
    { label: 'tests', status: tests },
  ];
}

/** For who may not load BPF programs: what needs the kernel in one guest, the rest here and unsealed. */
async function runWithGuest(
  obstacle: string,
  files: readonly string[],
  matrix: boolean,
  nodeArgs: readonly string[],
): Promise<Outcome[]> {
  const guest = files.filter(dependsOnKernel);
  const here = files.filter((file) => !guest.includes(file));
  const kernels = matrix && guest.length === 0 ? await vm('test') : 0;
  let inGuest = 0;
  if (guest.length > 0) {
    console.log(
      `Here, ${obstacle}: the tests that need it run in a guest, a Debian kernel in QEMU.`,
    );
    inGuest = await vm('test', '--kernel', NEWEST, ...guest.flatMap((file) => ['--grep', file]));
  }
  const args = [...NODE_TEST, '--test-reporter=spec', ...nodeArgs, ...here];
  const [first = '', ...rest] = args;
  return [
    { label: 'kernels', status: kernels },
    { label: 'tests in the guest', status: inGuest },
    {
      label: 'tests',
      status: here.length === 0 || inGuest >= 128 ? 0 : await runScript(first, ...rest),
    },
  ];
}

async function main(args: readonly string[]): Promise<number> {
  const dashes = args.indexOf('--');
  const mine = dashes < 0 ? args : args.slice(0, dashes);
  const nodeArgs = dashes < 0 ? [] : args.slice(dashes + 1);
  const testsOnly = mine.includes('--tests-only');
  const filters = mine.filter((arg) => arg !== '--list' && arg !== '--tests-only');
  const checkNames = filters.filter((f) => CHECKS.some(({ name }) => name === f));
  const fileFilters = filters.filter((f) => !checkNames.includes(f));
  const files = filters.length === 0 || fileFilters.length > 0 ? testFiles(fileFilters) : [];
  if (mine.includes('--list')) {
    console.log(files.join('\n'));
    return 0;
  }
  const unknown = fileFilters.filter((f) => testFiles([f]).length === 0);
  if (unknown.length > 0) {
    console.error(
      `test: nothing under test/ matches ${unknown.join(', ')}; see scripts/test --list`,
    );
    return 2;
  }
  const checks = CHECKS.filter(
    ({ name }) => (filters.length === 0 && !testsOnly) || checkNames.includes(name),
  );
  const failed = checks.filter(({ label, command }) => !check(label, command));

  const before = HOST_PATHS.filter((path) => existsSync(path));
  const matrix = !testsOnly && (filters.length === 0 || fileFilters.includes('vm'));
  const obstacle = testsOnly || files.length === 0 ? '' : obstacleHere();
  const outcomes =
    obstacle === ''
      ? await runHere(files, matrix, nodeArgs)
      : await runWithGuest(obstacle, files, matrix, nodeArgs);
  const left = HOST_PATHS.filter((path) => existsSync(path) && !before.includes(path));
  if (left.length > 0) console.error(`test: left behind on this machine: ${left.join(', ')}`);
  const bad = outcomes.filter(({ status }) => status !== 0);
  const labels = [...failed, ...bad].map(({ label }) => label);
  if (labels.length > 0) console.error(`test: failed: ${labels.join(', ')}`);
  return Math.max(0, ...bad.map(({ status }) => status)) || Number(failed.length + left.length > 0);
}

process.exitCode = await main(process.argv.slice(2));
