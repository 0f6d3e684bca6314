/** V8's threads beside the main one, in a process of their own. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stepBackWorkers } from '../../src/telemetry/io/workers.ts';

const MODULE = join(import.meta.dirname, '../../src/telemetry/io/workers.ts');
const SCRIPT = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { getPriority } from 'node:os';
  import { stepBackWorkers } from ${JSON.stringify(MODULE)};
  const niceOf = (isWorker) => readdirSync('/proc/self/task')
    .filter((tid) => (readFileSync('/proc/self/task/' + tid + '/comm', 'utf8').trim() === 'V8Worker') === isWorker)
    .map((tid) => getPriority(Number(tid)));
  const before = [niceOf(true), niceOf(false)];
  stepBackWorkers();
  console.log(JSON.stringify([...before, niceOf(true), niceOf(false)]));
`;

test('they step back behind it, and nothing else does', () => {
  const text = execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT], {
    encoding: 'utf8',
  });
  const [workers = [], others, after, othersAfter] = JSON.parse(text) as number[][];
  assert.ok(workers.length > 0, 'V8 has such threads');
  assert.deepEqual(
    after,
    workers.map((nice) => Math.min(19, nice + 10)),
  );
  assert.deepEqual(othersAfter, others);
});

test('where /proc is hidden, or that of another namespace, all stays as it is', (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'zerohop-proc-'));
  t.after(() => rmSync(proc, { recursive: true }));
  stepBackWorkers(join(proc, 'hidden'));
  stepBackWorkers(proc);
  const elsewhere = String(process.pid + 1);
  const task = join(proc, elsewhere, 'task', String(process.pid));
  mkdirSync(task, { recursive: true });
  writeFileSync(join(task, 'comm'), 'V8Worker\n');
  symlinkSync(elsewhere, join(proc, 'self'));
  const before = getPriority(process.pid);
  stepBackWorkers(proc);
  assert.equal(getPriority(process.pid), before);
});
