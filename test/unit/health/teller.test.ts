/** Which facts this host says, and when. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ephemeral } from '../../../src/cluster/ephemeral.ts';
import { endpointOfKey, FACT_FOR_MS, factKey, Teller } from '../../../src/health/teller.ts';

const words = (sayings: ReturnType<Teller['due']>): string[] =>
  sayings.map(
    ({ key, value, priority }) => `${value === undefined ? 'up' : 'down'} ${key} ${priority}`,
  );

const A = '10.77.0.2 80 tcp';
const B = '10.77.0.2 81 tcp';

test('what is down is said at once, again each 10 s, and withdrawn once; what is up is not spoken of', () => {
  const teller = new Teller();
  assert.deepEqual(words(teller.due(new Set(), 0)), []);
  assert.deepEqual(words(teller.due(new Set([A]), 1000)), [`down down/${A} urgent`]);
  assert.deepEqual(words(teller.due(new Set([A, B]), 2000)), [`down down/${B} urgent`]);
  assert.deepEqual(words(teller.due(new Set([A, B]), 11_000)), [`down down/${A} normal`]);
  assert.deepEqual(words(teller.due(new Set([B]), 11_500)), [`up down/${A} urgent`]);
  assert.deepEqual(words(teller.due(new Set([B]), 12_000)), [`down down/${B} normal`]);
  assert.deepEqual(words(teller.due(new Set(), 13_000)), [`up down/${B} urgent`]);
  assert.deepEqual(words(teller.due(new Set(), 30_000)), []);
});

test('what somebody holds of an earlier life is withdrawn, unless it is so', () => {
  const teller = new Teller();
  teller.due(new Set([A]), 0);
  teller.remind(A);
  teller.remind(B);
  assert.deepEqual(words(teller.due(new Set([A]), 100)), [`up down/${B} urgent`]);
  assert.deepEqual(words(teller.due(new Set([A]), 200)), []);
});

test('no more than the limit are said at a time', () => {
  const teller = new Teller(2);
  const all = ['1', '2', '3'].map((port) => `10.77.0.2 ${port} tcp`);
  assert.equal(teller.due(new Set(all), 0).length, 2);
  assert.deepEqual(words(teller.due(new Set(all.slice(1)), 100)), [
    `up down/${all[0]} urgent`,
    `down down/${all[2]} urgent`,
  ]);
});

test('keys and endpoints are each other’s reverse, and other keys are none', () => {
  assert.equal(endpointOfKey(factKey(A)), A);
  assert.equal(endpointOfKey('load/x'), undefined);
});

test('whoever hears two of three facts knows at each look what is down', () => {
  const step = fc.record({ a: fc.boolean(), b: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
      const teller = new Teller();
      const here = new Ephemeral('here', 1);
      const there = new Ephemeral('there', 1);
      steps.forEach(({ a, b }, n) => {
        const nowMs = n * 1000;
        const down = new Set([...(a ? [A] : []), ...(b ? [B] : [])]);
        for (const { key, value, priority } of teller.due(down, nowMs)) {
          const fact = here.state(key, value, FACT_FOR_MS, nowMs);
          assert.ok(fact !== undefined);
          // Those that are said again may be lost.
          if (priority === 'urgent' || nowMs % 20_000 < 10_000) there.receive([fact], nowMs);
        }
        there.expire(nowMs);
        const known = [A, B].filter(
          (one) => there.value('here', factKey(one), nowMs) !== undefined,
        );
        assert.deepEqual(known, [...down]);
      });
    }),
  );
});
