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

const ALL = new Set([0, 1, 2]);

/** Host 1 is apart from the others from 100–110 ms to 200–210 ms. */
function partitioned(): Truth {
  const truth = new Truth(3);
  const alone = (a: number, b: number): boolean => (a === 1) !== (b === 1);
  for (const at of ALL) truth.maps(at, ALL, 0n);
  truth.network(alone, [100n * MS, 110n * MS]);
  truth.network(alone, [150n * MS, 160n * MS]); // still apart: the same interval
  truth.network(() => false, [200n * MS, 210n * MS]);
  return truth;
}

test('a connect to a host that was apart is told by how long it had been', () => {
  const kind = 'gone';
  assert.deepEqual(partitioned().judge(0, 1, failed(170n, 180n)), { kind, afterMs: 70 });
  assert.deepEqual(partitioned().judge(1, 2, failed(209n, 300n)), { kind, afterMs: 109 });
  // Begun before, and overtaken by it.
  assert.deepEqual(partitioned().judge(0, 1, failed(90n, 180n)), { kind, afterMs: 0 });
});

test('what the maps showed again, by old news, is told from then on', () => {
  const truth = partitioned();
  truth.maps(0, new Set([0, 2]), 120n * MS);
  truth.maps(0, ALL, 160n * MS);
  assert.deepEqual(truth.judge(0, 1, failed(170n, 180n)), { kind: 'gone', afterMs: 10 });
  truth.maps(0, new Set([0, 2]), 175n * MS);
  const spells = truth.spells(1000n * MS).filter(({ at }) => at === 0);
  assert.deepEqual(spells, [
    { kind: 'gone', at: 0, to: 1, sinceNs: 100n * MS, forMs: 20 },
    { kind: 'gone', at: 0, to: 1, sinceNs: 160n * MS, forMs: 15 },
  ]);
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
  truth.agent(0, true, 120n * MS);
  truth.agent(0, false, 130n * MS);
  assert.equal(truth.judge(0, 1, failed(170n, 180n)).kind, 'away');
  assert.equal(truth.judge(2, 1, failed(170n, 180n)).kind, 'gone');
  const kinds = truth.spells(1000n * MS).map(({ at, to, kind }) => `${at} ${to} ${kind}`);
  assert.deepEqual(kinds.toSorted(), ['0 1 away', '1 0 gone', '1 2 gone', '2 1 gone']);
});
