/** The parts of the guest runner that start no guest: names of rows, consoles, counts, the table. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { guestTestFiles, testFiles } from '../../scripts/test-files.ts';
import { problemsIn } from '../../vagrant/qemu/console.ts';
import { cpio } from '../../vagrant/qemu/cpio.ts';
import { countResults, faults, type RowResult } from '../../vagrant/qemu/matrix.ts';
import { DEFAULT_ROWS, parseRow } from '../../vagrant/qemu/rows.ts';
import { matrixTable, withTable } from '../../vagrant/qemu/table.ts';

test('rows are kernels with BPF LSM, or without', () => {
  assert.deepEqual(parseRow('6.1'), { name: '6.1', kernel: '6.1', bpfLsm: true });
  assert.deepEqual(parseRow('6.1+lsm'), parseRow('6.1'));
  assert.deepEqual(parseRow('6.12-nobpf'), { name: '6.12-nobpf', kernel: '6.12', bpfLsm: false });
  assert.deepEqual(parseRow('6.12-lsm'), parseRow('6.12-nobpf'));
  for (const wrong of ['', '6', '6.1 ', '4.19', '6.1-bpf', '../6.1'])
    assert.throws(() => parseRow(wrong), /^Error: no kernel ".*": there are 5\.10, 6\.1, 6\.12, 7/);
  for (const row of DEFAULT_ROWS) assert.equal(parseRow(row).name, row);
});

test('what a kernel complains of is found on its console', () => {
  const bad = [
    '[   12.345678] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 dev_x+0x1/0x2',
    '[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000000',
    '[   12.345678] watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [node:123]',
    '[   12.345678] Oops: 0000 [#1] PREEMPT SMP NOPTI',
    '[   12.345678] rcu: INFO: rcu_sched self-detected stall on CPU',
    '[   12.345678] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:',
    '[   12.345678] Call Trace:',
    '[   12.345678] BUG: KASAN: use-after-free in x+0x1/0x2',
    '[   12.345678] WARNING: possible circular locking dependency detected',
    '[   12.345678] WARNING: suspicious RCU usage',
    '[   12.345678] INFO: task node:123 blocked for more than 120 seconds.',
    '[   12.345678] general protection fault, probably for non-canonical address 0x1: 0000 [#1]',
    '[   12.345678] Kernel panic - not syncing: sysrq triggered crash',
    '[   12.345678] unregister_netdevice: waiting for lo to become free. Usage count = 2',
    '[   12.345678] kernel BUG at mm/slub.c:1!',
  ];
  for (const line of bad) assert.deepEqual(problemsIn(`before\r\n${line}\r\nafter`), [line]);
});

test('what only looks like a complaint is none', () => {
  const good = [
    '[    0.000000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on',
    '[    1.206785] acpi PNP0A03:00: fail to add MMCONFIG information',
    '[    0.100000] rcu: Hierarchical RCU implementation.',
    '[    5.828003] sysrq: Resetting',
    'WARNING: said by a program, not the kernel',
    '[    0.000000] Linux version 6.1 (gcc) BUGFIX: none',
  ];
  assert.deepEqual(problemsIn(good.join('\n')), []);
});

test('an archive for the initramfs is what cpio takes', (t) => {
  if (execFileSync('sh', ['-c', 'command -v cpio || :']).length === 0)
    return t.skip('no cpio here');
  const archive = cpio([
    { path: 'a', folder: true },
    { path: 'a/odd', data: 'seven..', executable: true },
    { path: 'a/link', link: 'odd' },
  ]);
  assert.equal(archive.length % 4, 0);
  const list = execFileSync('cpio', ['-tv', '--quiet'], { input: archive, encoding: 'utf8' });
  assert.deepEqual(
    list
      .trim()
      .split('\n')
      .map((line) => line.replace(/^(\S+).* (a\S*( -> \S+)?)$/, '$1 $2')),
    ['drwxr-xr-x a', '-rwxr-xr-x a/odd', 'lrwxrwxrwx a/link -> odd'],
  );
});

const line = (outcome: string, name = 'a test', reason?: string): string =>
  JSON.stringify({ file: 'test/bpf/abi.test.ts', name, outcome, reason, ms: 1 });

test('a row passes only when every file spoke, nothing failed and the kernel kept still', () => {
  const end = { code: 0, died: false, problems: [] };
  const files = countResults(`${line('pass')}\n${line('skip', 'another', 'no BTF')}\n`);
  const expected = ['test/bpf/abi.test.ts'];
  assert.deepEqual(files['test/bpf/abi.test.ts'], {
    pass: 1,
    fail: 0,
    skip: 1,
    failed: [],
    skipped: [{ name: 'another', reason: 'no BTF' }],
  });
  assert.deepEqual(faults(end, files, expected), []);
  assert.deepEqual(faults({ ...end, code: 1 }, files, expected), [
    'scripts/test ended with exit code 1',
  ]);
  assert.deepEqual(faults(end, files, [...expected, 'test/bpf/b.test.ts']), [
    'nothing heard of test/bpf/b.test.ts',
  ]);
  assert.deepEqual(faults({ ...end, problems: ['BUG: x'] }, files, expected), ['kernel: BUG: x']);
  assert.deepEqual(faults({ ...end, code: 125, died: true }, files, expected), ['the guest died']);
  assert.deepEqual(faults({ ...end, code: 124, died: true }, files, expected), [
    'killed after its time was up',
  ]);
  assert.deepEqual(faults({ ...end, code: 1 }, countResults(line('fail')), expected), [
    'test/bpf/abi.test.ts: a test',
  ]);
});

test('the table tells passed, failed, skipped and not run apart', () => {
  const files = countResults(
    [line('pass'), line('skip', 'b', 'too old'), line('fail', 'c')].join('\n'),
  );
  const many = countResults(['b', 'd', 'e', 'f'].map((name) => line('skip', name, 'x')).join('\n'));
  const row: RowResult = {
    row: '5.10',
    kernel: 'linux-image 5.10.1-1',
    verdict: 'failed',
    why: ['test/bpf/abi.test.ts: c', 'kernel: BUG: x'],
    seconds: 1,
    files,
  };
  const gone: RowResult = {
    row: '7',
    kernel: '',
    verdict: 'not run',
    why: ['no such kernel'],
    seconds: 0,
    files: {},
  };
  assert.match(
    matrixTable([{ ...row, files: many }]),
    /\| 4 skipped <sup>1<\/sup> \|[^]*\n1\. skipped: 4 tests: x$/m,
  );
  const table = matrixTable([{ ...row, verdict: 'passed' }, row, gone]);
  assert.equal(
    table,
    `|  | 5.10 | 7 (not run) |
| --- | --- | --- |
| Debian kernel | 5.10.1-1 | not to be had |
| \`bpf\` in \`lsm=\` | yes | yes |
| BPF structures and programs | **1 failed**, 1 passed, 1 skipped <sup>1</sup> | not run |
| **as a whole** | failed <sup>2</sup> | not run <sup>3</sup> |

1. skipped: b: too old
2. kernel: BUG: x
3. no such kernel`,
  );
  assert.equal(
    withTable('x\n<!-- matrix -->\nold\n<!-- /matrix -->\ny', 'new'),
    'x\n<!-- matrix -->\nnew\n<!-- /matrix -->\ny',
  );
  assert.throws(() => withTable('no markers', 'new'), /no <!-- matrix -->/);
});

test('the short set has the verdicts of access control, and --full all that depends on the kernel', () => {
  const acl = testFiles(['acl']).filter((file) => /^test\/(bpf|system)\//.test(file));
  assert.ok(acl.length > 0);
  for (const row of DEFAULT_ROWS.map(parseRow)) {
    const short = guestTestFiles([], false, row);
    const full = guestTestFiles([], true, row);
    assert.ok(short.includes('test/bpf/acl.test.ts'));
    const isEnd = ['5.10', '7'].includes(row.name);
    assert.equal(short.includes('test/system/acl-scenarios.test.ts'), isEnd);
    assert.equal(short.includes('test/system/datapath.test.ts'), row.bpfLsm && !isEnd);
    const missing = [...short, ...acl, 'test/system/datapath.test.ts'];
    assert.deepEqual(
      missing.filter((file) => !full.includes(file)),
      [],
    );
    assert.ok(![...short, ...full].some((file) => /^test\/(unit|vm)\//.test(file)));
  }
});
