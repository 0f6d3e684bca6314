/** The forwarder over hours, and against somebody hostile; at full length by main.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runDay } from './day.ts';
import { CACHE_BYTES, runHostile } from './hostile.ts';

test('hours with outages: no answer late or wrong, none in vain, known names also while all are away', () => {
  const cacheBytes = 8 * 1024 * 1024; // all of them fit in
  const result = runDay({ seed: 3, hours: 2, perSecond: 10, names: 20_000, cacheBytes });
  assert.deepEqual([result.late, result.wrong, result.failedInVain], [0, 0, 0]);
  assert.ok(result.knownInOutage > 50, `${result.knownInOutage}`);
  assert.equal(result.knownAnswered, result.knownInOutage);
  assert.deepEqual(result.left, { events: 0, open: 0, waiting: 0 });
});

test('a day is the same for the same seed, and its cache as large as it may be', () => {
  const options = { seed: 9, hours: 1, perSecond: 2, names: 500, cacheBytes: 100_000 };
  const result = runDay(options);
  assert.deepEqual(result, runDay(options));
  const [hour] = result.hours;
  assert.ok(hour !== undefined && hour.stats.cache.evicted > 0);
  assert.ok(hour.stats.cache.bytes <= options.cacheBytes);
});

test('whoever guesses, and an upstream that says anything, gets nothing kept that is not theirs to say', () => {
  const result = runHostile(1, 30_000);
  assert.ok(result.replies >= 30_000);
  assert.ok((result.from['upstream'] ?? 0) > 1000 && (result.from['cache'] ?? 0) > 100);
  for (const kind of ['spoofed', 'case', 'unparsable', 'unrelated', 'good'])
    assert.ok((result.results[kind] ?? 0) > 20, `${kind}: ${result.results[kind]}`);
  assert.ok(result.cacheBytesSeen <= CACHE_BYTES && result.attemptsSeen <= 200);
});
