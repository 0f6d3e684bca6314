import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chaos } from './chaos.ts';

const FIRST = 1;
const COUNT = 500; // npm run sim -- --scenario chaos --count 100000 runs more

test(`${COUNT} random scenarios of faults end without a violated check`, () => {
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) chaos(seed);
});

test('the same seed is the same run, to the last event; another seed is another', () => {
  const [a, b, other] = [chaos(42), chaos(42), chaos(43)];
  assert.deepEqual(a, b);
  assert.notEqual(a.hash, other.hash);
});
