import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { aliasTable, sharesOf } from '../../../src/datapath/alias.ts';

const weights = fc.array(fc.oneof(fc.constant(0), fc.constant(1), fc.nat(65_535)), {
  maxLength: 200,
});

test('every member gets exactly its share, to what 2^32 can tell', () => {
  fc.assert(
    fc.property(weights, (list) => {
      const total = list.reduce((a, b) => a + b, 0);
      const shares = sharesOf(aliasTable(list), list.length);
      for (const [i, weight] of list.entries()) {
        const share = shares[i] ?? Number.NaN;
        const wanted = total === 0 ? 0 : weight / total;
        assert.ok(Math.abs(share - wanted) < 2 ** -30, `${share} for ${wanted}`);
        if (weight === 0) assert.equal(share, 0);
      }
    }),
    { numRuns: 1000 },
  );
});

test('no weight at all makes no table', () => {
  assert.deepEqual(aliasTable([]), []);
  assert.deepEqual(aliasTable([0, 0]), []);
});

test('equal weights need no alias', () => {
  for (const column of aliasTable([3, 3, 3, 3])) assert.equal(column.threshold, 2 ** 32 - 1);
});
