import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MUTATIONS, tryMutation } from './mutations.ts';

for (const mutation of MUTATIONS) {
  test(`the checks find it when ${mutation.what}`, () => {
    const { seed, violation } = tryMutation(mutation, 600);
    assert.notEqual(seed, undefined, `${violation}: chaos with seeds 1 to 200 saw nothing wrong`);
  });
}
