import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { compareStamps, HybridClock } from '../../../src/state/replica/hlc.ts';

const minutes = 60_000;

suite('hybrid logical clock', () => {
  test('each stamp is newer than all given and followed before, however the wall clock jumps', () => {
    const step = fc.record({
      ms: fc.integer({ min: 0, max: 1_000_000 }),
      hears: fc.option(fc.record({ ms: fc.nat(1_100_000), counter: fc.nat(5) })),
      restarts: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        let clock = new HybridClock({ writer: 1 });
        let newest = { ms: 0, counter: 0, writer: 0 };
        for (const { ms, hears, restarts } of steps) {
          if (restarts) clock = new HybridClock({ writer: 1, state: clock.state() });
          if (hears !== null && clock.observe(hears, ms) === 0) {
            const heard = { ...hears, writer: 0 };
            if (compareStamps(heard, newest) > 0) newest = heard;
          }
          const stamp = clock.tick(ms);
          assert.ok(compareStamps(stamp, newest) > 0);
          newest = stamp;
        }
      }),
    );
  });

  test('stamps are in one total order: time, counter, writer', () => {
    const stamp = fc.record({ ms: fc.nat(2), counter: fc.nat(2), writer: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(stamp), (stamps) => {
        const text = (s: typeof stamps): string[] => s.map((x) => `${x.ms}${x.counter}${x.writer}`);
        assert.deepEqual(text(stamps.toSorted(compareStamps)), text(stamps).toSorted());
      }),
    );
  });

  test('a clock five minutes ahead is not followed, and said to be so', () => {
    const clock = new HybridClock({ writer: 1 });
    assert.equal(clock.observe({ ms: 5 * minutes, counter: 3 }, 0), 5 * minutes);
    assert.deepEqual(clock.tick(7), { ms: 7, counter: 0, writer: 1 });
  });

  test('a clock within the bound is followed', () => {
    const clock = new HybridClock({ writer: 1, driftMsMax: 5 * minutes });
    assert.equal(clock.observe({ ms: 5 * minutes, counter: 3 }, 0), 0);
    assert.deepEqual(clock.tick(7), { ms: 5 * minutes, counter: 4, writer: 1 });
  });

  test('a wall clock set back five minutes counts on from where it was, and says how far it is ahead', () => {
    const clock = new HybridClock({ writer: 1 });
    clock.tick(5 * minutes);
    assert.deepEqual(clock.tick(0), { ms: 5 * minutes, counter: 1, writer: 1 });
    assert.equal(clock.aheadMs(0), 5 * minutes);
  });
});
