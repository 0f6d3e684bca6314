/** scripts/vm run, with real guests: exit codes, bytes, deaths, and nothing written here. A boot takes some seconds. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { cachedKernel } from '../../vagrant/qemu/cache.ts';
import { missingPackages } from '../../vagrant/qemu/machine.ts';
import { Child, type Result, testEnvironment } from '../harness/child.ts';
import { eventually } from '../harness/eventually.ts';
import { checkout } from '../harness/host.ts';

const ROW = '6.1';
const PATIENCE_MS = 600_000; // other guests may hold the places for this long

const missing = process.arch === 'x64' ? missingPackages() : ['an x86-64 machine'];
const skip =
  missing.length > 0
    ? `guests need ${missing.join(', ')}`
    : cachedKernel(ROW) === undefined
      ? `kernel ${ROW} is not in the cache: scripts/vm fetch ${ROW}`
      : false;

const vm = (...args: string[]): Child =>
  new Child([join(checkout, 'scripts/vm'), 'run', ...args], { input: '', env: testEnvironment() });
const guest = (...args: string[]): Promise<Result> => vm(ROW, ...args).result(PATIENCE_MS);

/** Processes that have `text` in their command line. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false; // it just ended
      }
    })
    .map(Number);
}

test('a guest', { skip, timeout: PATIENCE_MS }, async (t) => {
  const file = join(tmpdir(), `zerohop-guest-wrote-this-${process.pid}`);
  before(() => rmSync(file, { force: true }));

  await t.test(
    'gives back exit code, output and environment, and writes nothing here',
    async () => {
      const script = `
      echo to stdout; echo to stderr >&2
      echo "$GIVEN" && touch ${file} && test -e ${file} && echo touched
      mkdir /.vm/h && mount -t virtiofs hostroot /.vm/h
      mount -o remount,rw /.vm/h; touch /.vm/h${file} || echo refused
      echo 'WARNING: said by a test' >/dev/kmsg
      exit 7`;
      const { code, stdout, stderr } = await guest('-e', "GIVEN=it's given", script);
      assert.equal(code, 7, stderr);
      assert.equal(stdout, "to stdout\nit's given\ntouched\nrefused\n");
      assert.match(stderr, /^to stderr$/m);
      assert.match(stderr, /its kernel complained:\n {2}\[ *[\d.]+\] WARNING: said by a test/);
      assert.equal(existsSync(file), false);
    },
  );

  await t.test('passes 20 MB byte by byte, and arguments as they are', async () => {
    const bytes = 20_000_000;
    const program = `const { createHash } = require('node:crypto');
      const some = Buffer.alloc(65_537);
      for (let i = 0, x = 1; i < some.length; i++) some[i] = (x = (x * 48271) % 2147483647) & 127;
      const data = Buffer.alloc(${bytes}, some);
      process.stdout.write(data, () => console.error(createHash('sha256').update(data).digest('hex'), process.argv[1]));`;
    const { code, stdout, stderr } = await guest('--', process.execPath, '-e', program, 'a "b" $c');
    assert.equal(code, 0, stderr);
    assert.equal(stdout.length, bytes);
    const sum = createHash('sha256').update(stdout).digest('hex');
    assert.equal(stderr, `${sum} a "b" $c\n`);
  });

  await t.test('that hangs is killed, with its console shown and exit code 124', async () => {
    const { code, stderr } = await guest('-t', '20', 'echo "<0>last words" >/dev/kmsg; sleep 1000');
    assert.equal(code, 124, stderr);
    assert.match(stderr, /^vm: killed after 20 s$/m);
    assert.match(stderr, /the end of its console:[^]*last words/);
  });

  await t.test('whose kernel panics is exit code 125, with the panic shown', async () => {
    const { code, stdout, stderr } = await guest('echo before; echo c >/proc/sysrq-trigger');
    assert.equal(code, 125, stderr);
    assert.equal(stdout, 'before\n');
    assert.match(stderr, /^vm: the guest died before its command ended$/m);
    assert.match(
      stderr,
      /its kernel complained:[^]*Kernel panic - not syncing: sysrq triggered crash/,
    );
  });

  await t.test('that never comes to its command is tried twice, then exit code 125', async () => {
    const { code, stderr } = await guest('-a', 'init=/nowhere rdinit=/nowhere', 'true');
    assert.equal(code, 125, stderr);
    assert.match(stderr, /^vm: the guest did not come to its command$/m);
    assert.match(stderr, /^vm: once more$/m);
  });

  await t.test('dies with kill -9 of the tool, and nothing of it is left', async () => {
    const child = vm(ROW, 'echo up; sleep 1000');
    await child.says(/^up$/m, PATIENCE_MS);
    const folders = (): string[] =>
      readdirSync(tmpdir())
        .filter((name) => name.startsWith('zhvm.'))
        .map((name) => join(tmpdir(), name))
        // Other guests of this machine have theirs.
        .filter((path) =>
          processesWith(`path=${path}/out.s`).some((pid) => parentOf(pid) === child.pid),
        );
    const [folder = 'no folder', ...others] = folders();
    assert.ok(existsSync(folder));
    assert.deepEqual(others, []);
    await child.stop('SIGKILL');
    await eventually('QEMU, virtiofsd and their folder to go', () => {
      return !existsSync(folder) && processesWith(folder).length === 0;
    });
  });
});

function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  } catch {
    return 0;
  }
}

test('mistakes are told in a line, with exit code 2', async () => {
  for (const [args, message] of [
    [[], /run needs a row and a command/],
    [['4.19', 'true'], /no kernel "4\.19": there are 5\.10, 6\.1, 6\.12, 7/],
    [['6.1', '-e', 'novalue', 'true'], /-e novalue: not NAME=VALUE/],
    [['6.1', '-t', 'soon', 'true'], /-t soon: not a number of seconds/],
    [['6.1', 'ls', '-l'], /Unknown option '-l'/],
  ] as const) {
    const { code, stderr } = await vm(...args).result();
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});
