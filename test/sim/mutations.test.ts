import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MUTATIONS, SEEDS_MAX, tryMutation } from './mutations.ts';

for (const mutation of MUTATIONS) {
  test(`the checks find it when ${mutation.what}`, () => {
    const { seed, violation } = tryMutation(mutation, SEEDS_MAX);
    assert.notEqual(seed, undefined, `${violation}: chaos with seeds 1 to ${SEEDS_MAX}`);
  });
}

test('where nothing is broken the checks find nothing', () => {
  const line = 'this.#effects.cancelAll();';
  const unchanged = { what: 'nothing is changed', file: 'node.ts', from: line, to: line };
  assert.deepEqual(tryMutation(unchanged, 30), {
    seed: undefined,
    violation: 'survived',
  });
});
