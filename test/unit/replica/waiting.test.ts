import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { formatCell } from '../../../src/state/replica/cell.ts';
import { LIMITS } from '../../../src/state/replica/limits.ts';
import { FIRST_EPOCH, LogDocument } from '../../../src/state/replica/log-document.ts';
import { Replica, SHARED, type Update } from '../../../src/state/replica/replica.ts';
import { Waiting } from '../../../src/state/replica/waiting.ts';
import {
  buildUpdate,
  parseUpdate,
  type LogUpdate,
  type Range,
  type Run,
} from '../../../src/state/replica/wire.ts';

const cellOf = (clock: number): string =>
  formatCell(`k${clock}`, { ms: clock + 1, counter: 0, writer: 1 }, '1');

function run(clock: number, length = 1, client = 1): Run {
  const cells = Array.from({ length }, (_, i) => cellOf(clock + i));
  return { client, clock, length, cells };
}

const runs = (...list: Run[]): LogUpdate => ({ runs: list, removals: new Map() });
const removal = (range: Range): LogUpdate => ({ runs: [], removals: new Map([[1, [range]]]) });

/** [from, to) of each. */
const places = ({ runs }: LogUpdate): number[][] =>
  runs.map(({ clock, length }) => [clock, clock + length]);

suite('what waits', () => {
  test('comes with what it waited for: runs follow each other, and nothing is there twice', () => {
    const waiting = new Waiting(10_000);
    let end = 2;
    const admit = (update: LogUpdate): LogUpdate => {
      const admitted = waiting.admit(update, () => end).update;
      end = Math.max(end, ...places(admitted).map(([, to = 0]) => to));
      return admitted;
    };
    assert.deepEqual(places(admit(runs(run(6, 2)))), []);
    assert.deepEqual(places(admit(runs(run(4, 1), run(9, 1)))), []);
    assert.deepEqual(places(admit(runs(run(6, 2)))), []);
    assert.deepEqual(admit(removal({ clock: 1, length: 8 })).removals.get(1), [
      { clock: 1, length: 1 },
    ]);
    const { removals, ...admitted } = admit(runs(run(1, 4)));
    assert.deepEqual(places({ ...admitted, removals }), [[2, 5]]);
    assert.deepEqual(admitted.runs[0]?.cells, [2, 3, 4].map(cellOf));
    assert.deepEqual(removals.get(1), [{ clock: 2, length: 3 }]);
    assert.deepEqual(places(admit(runs(run(5, 4)))), [
      [5, 9],
      [9, 10],
    ]);
    assert.equal(waiting.bytes, 0);
  });

  test('an update that fits, and for which nothing waits, is passed on as it is', () => {
    const waiting = new Waiting(10_000);
    waiting.admit(runs(run(5)), () => 0);
    const update = runs(run(0, 2, 7));
    assert.equal(waiting.admit(update, () => 0).update, update);
  });

  test('is dropped as a whole once it is too much, in bytes or in number', () => {
    for (const update of [
      (i: number) => removal({ clock: 2 * i, length: 1 }),
      (i: number) => runs(run(2 * i)),
    ]) {
      const waiting = new Waiting(100_000);
      let kept = 0;
      for (let i = 1; !waiting.admit(update(i), () => 0).dropped; i++) kept = i;
      assert.ok(kept > 300 && kept < 1000, `${kept}`);
      assert.equal(waiting.bytes, 0);
      assert.equal(waiting.admit(update(1), () => 0).dropped, false);
    }
    const waiting = new Waiting(100_000);
    const long = { client: 1, clock: 5, length: 1, cells: ['x'.repeat(100_000)] };
    assert.equal(waiting.admit(runs(long), () => 0).dropped, true);
  });

  test('is not looked through: not for one more that waits, nor for what fits', () => {
    let reads = 0;
    const counted = <T extends Range>(piece: T): T => {
      const { clock } = piece;
      return Object.defineProperty({ ...piece }, 'clock', {
        enumerable: true,
        get: () => {
          reads += 1;
          return clock;
        },
      });
    };
    const waiting = new Waiting(100_000_000);
    const readsOf = (update: LogUpdate): number => {
      reads = 0;
      waiting.admit(update, () => 1);
      return reads;
    };
    for (let i = 1; i <= 5000; i++) {
      readsOf(removal(counted({ clock: 4 * i, length: 1 })));
      readsOf(runs(counted(run(4 * i + 1))));
    }
    assert.equal(readsOf(runs(run(1, 1, 2))), 0);
    assert.equal(readsOf(removal({ clock: 0, length: 1 })), 0);
    // A binary search looks at 13 of 5,000.
    assert.ok(readsOf(removal({ clock: 10_002, length: 1 })) < 50, `${reads}`);
    assert.ok(readsOf(runs(run(10_002))) < 50, `${reads}`);
    // And one that lets in two of them.
    assert.ok(readsOf(runs(run(1, 4))) < 50, `${reads}`);
  });
});

/** Writes and removals of two hosts that hear of each other now and then: what they broadcast. */
function history(steps: readonly (readonly [number, number, boolean, boolean])[]): {
  readonly updates: readonly Update[];
  readonly digest: string;
} {
  const hosts = [1, 2].map((n) => Replica.open({ node: `n${n}`, writer: n }));
  const updates: Update[] = [];
  for (const [i, [host, key, isRemoval, meets]] of steps.entries()) {
    const value = isRemoval ? undefined : `${i}`;
    const write = { document: 'shared', key: `k${key}`, value } as const;
    const [one, other] = host === 0 ? hosts : hosts.toReversed();
    if (one === undefined || other === undefined) throw new Error('no host');
    if (meets) one.receive(other.whole(SHARED), i);
    updates.push(...one.transact([write], i + 1).updates);
  }
  const all = Replica.open({ node: 'n3', writer: 3 });
  for (const host of hosts) all.receive(host.whole(SHARED), 0);
  return { updates, digest: all.digest(SHARED) ?? '' };
}

test('updates in any order, some twice, make the same document, and nothing waits in the end', () => {
  const step = fc.tuple(fc.nat(1), fc.nat(3), fc.boolean(), fc.boolean());
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 25 }),
      fc.array(fc.nat(), { minLength: 50, maxLength: 50 }),
      (steps, order) => {
        const { updates, digest } = history(steps);
        const document = new LogDocument(SHARED, FIRST_EPOCH, LIMITS);
        const left = [...updates, ...updates.filter((_, i) => i % 3 === 0)];
        for (const at of order) {
          const [update] = left.splice(at % Math.max(1, left.length), 1);
          if (update !== undefined) document.apply(parseUpdate(update.bytes, LIMITS), update.bytes);
        }
        assert.equal(document.digest(), digest);
        assert.equal(document.pendingBytes, 0);
      },
    ),
    { numRuns: Number(process.env['ZEROHOP_RUNS'] ?? 200) },
  );
});

test('a whole copy of which too much waits is no whole copy', () => {
  const far = Array.from({ length: 100 }, (_, i) => ({ clock: 2 * i, length: 1 }));
  const bytes = buildUpdate({ runs: [], removals: new Map([[1, far]]) });
  const limits = { ...LIMITS, pendingBytesMax: 1000 };
  assert.throws(
    () => LogDocument.from(SHARED, { number: 1, proposer: 1 }, bytes, limits),
    /something missing/,
  );
});
