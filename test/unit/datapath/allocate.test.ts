import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BlockPool, IndexPool, orderOf, restMs } from '../../../src/datapath/allocate.ts';

test('no two blocks in use overlap, and everything comes back', () => {
  const step = fc.record({
    take: fc.boolean(),
    count: fc.integer({ min: 1, max: 20 }),
    at: fc.nat(),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.array(step, { maxLength: 60 }),
      (limit, steps) => {
        const pool = new BlockPool(limit);
        const held = new Map<number, number>();
        let now = 0;
        for (const { take, count, at } of steps) {
          now += restMs;
          if (take) {
            const base = pool.take(count, now);
            if (base === undefined) continue;
            const size = 2 ** orderOf(count);
            assert.ok(base % size === 0 && base + size <= limit, `${base}+${size} of ${limit}`);
            for (const [other, length] of held) {
              assert.ok(base + size <= other || other + length <= base, 'overlap');
            }
            held.set(base, size);
          } else {
            const base = [...held.keys()][at % Math.max(1, held.size)];
            if (base === undefined) continue;
            held.delete(base);
            pool.give(base, now);
          }
          assert.equal(
            pool.used,
            [...held.values()].reduce((a, b) => a + b, 0),
          );
        }
        for (const base of held.keys()) pool.give(base, now);
        const order = 31 - Math.clz32(limit);
        assert.notEqual(pool.take(2 ** order, now + restMs), undefined, 'all merged again');
      },
    ),
  );
});

test('blocks that were there before are never given out', () => {
  const pool = new BlockPool(64, [
    { base: 0, count: 5 },
    { base: 16, count: 16 },
  ]);
  assert.equal(pool.used, 24);
  const bases = [pool.take(16, 0), pool.take(16, 0), pool.take(8, 0), pool.take(1, 0)];
  assert.deepEqual(new Set(bases), new Set([8, 32, 48, undefined]));
});

test('a freed index comes back only after its rest, an untaken one at once', () => {
  const pool = new IndexPool(1);
  assert.equal(pool.take(0), 0);
  pool.give(0, 0);
  assert.equal(pool.take(restMs - 1), undefined);
  assert.equal(pool.take(restMs), 0);
  pool.untake(0);
  assert.equal(pool.take(restMs), 0);
});

test('giving back what was never taken changes nothing', () => {
  const pool = new IndexPool(4);
  pool.give(3, 0);
  assert.equal(pool.used, 0);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map(() => pool.take(1000)),
    [0, 1, 2, 3, undefined],
  );
});
