/** How the benchmark of the cluster judges failed connects. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Truth } from '../../bench/cluster-truth.ts';

const MS = 1_000_000n;
const failed = (fromMs: bigint, toMs: bigint): Parameters<Truth['judge']>[2] => ({
  fromNs: fromMs * MS,
  toNs: toMs * MS,
  error: 'connect ETIMEDOUT',
  backend: '',
});

/** Host 1 is apart from the others from 100–110 ms to 200–210 ms. */
function partitioned(): Truth {
  const truth = new Truth();
  const alone = (a: number, b: number): boolean => (a === 1) !== (b === 1);
  truth.network(3, alone, [100n * MS, 110n * MS]);
  truth.network(3, alone, [150n * MS, 160n * MS]); // still apart: the same interval
  truth.network(3, () => false, [200n * MS, 210n * MS]);
  return truth;
}

test('a connect to a host that was apart is told by how long it had been', () => {
  const gone = { kind: 'gone', sinceNs: 100n * MS };
  assert.deepEqual(partitioned().judge(0, 1, failed(170n, 180n)), { ...gone, afterMs: 70 });
  assert.deepEqual(partitioned().judge(1, 2, failed(209n, 300n)), { ...gone, afterMs: 109 });
  // Begun before, and overtaken by it.
  assert.deepEqual(partitioned().judge(0, 1, failed(90n, 180n)), { ...gone, afterMs: 0 });
});

test('a connect to a host that could be reached all the time, or to nobody known, is strange', () => {
  for (const [at, to, failure] of [
    [0, 2, failed(170n, 180n)],
    [0, 1, failed(90n, 99n)],
    [0, 1, failed(211n, 300n)],
    [0, undefined, failed(170n, 180n)],
  ] as const)
    assert.deepEqual(partitioned().judge(at, to, failure), { kind: 'strange' });
});

test('what a host could not know as its agent was away is told apart', () => {
  const truth = partitioned();
  truth.agent(0, true, [120n * MS, 120n * MS]);
  truth.agent(0, false, [130n * MS, 130n * MS]);
  assert.equal(truth.judge(0, 1, failed(170n, 180n)).kind, 'agent-away');
  assert.equal(truth.judge(2, 1, failed(170n, 180n)).kind, 'gone');
});
