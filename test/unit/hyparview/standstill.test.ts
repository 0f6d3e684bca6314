import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Standstill } from '../../../src/hyparview-ts/standstill.ts';

test('time counts while inputs are handled when they are due, or little later', () => {
  const clock = new Standstill();
  for (const [now, dueAt] of [
    [0, Infinity],
    [100, 100],
    [250, 200],
    [300, 400],
  ] as const)
    clock.handled(now, dueAt);
  assert.equal(clock.own(300), 300);
  assert.equal(clock.real(400), 400);
});

test('from when a wake-up was due until it is handled late, time does not count', () => {
  const clock = new Standstill();
  clock.handled(100, 200);
  clock.handled(700, 200); // received meanwhile, handled before the wake-up
  clock.handled(700, 200); // the wake-up itself: counted already
  assert.equal(clock.own(700), 200);
  assert.equal(clock.own(750), 250);
  assert.equal(clock.real(300), 800);
});

test('a wake-up that is overdue while others are handled loses no more than has passed', () => {
  const clock = new Standstill();
  clock.handled(100, 110);
  clock.handled(200, 110);
  clock.handled(220, 110); // 110 late, of which 90 are counted already
  assert.equal(clock.own(220), 110);
});
