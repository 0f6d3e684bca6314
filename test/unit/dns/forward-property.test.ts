/**
 * Random upstreams, random clients: exactly one answer for each ask, never after the bound, nothing
 * wrong in it, counters that add up, nothing left over. A failure names its seed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { below, unit, type Random } from '../../../src/hyparview-ts/random.ts';
import type { ForwardStats } from '../../../src/dns/forward/types.ts';
import {
  a,
  decoded,
  ForwardWorld,
  nameOf,
  queryFor,
  replyTo,
  settingsOf,
  soa,
  TCP,
  UDP,
  type Behaviour,
  type Reaction,
} from '../../harness/forward-world.ts';

const LABELS = ['192.0.2.1:53', '192.0.2.2:53', '192.0.2.3:5300', '[2001:db8::4]:53'];
const GOOD = /^10\.0\.0\./;

/** What an upstream may do with one question; only the first kinds are honest. */
function reaction(random: Random, bytes: Uint8Array, transport: string): Reaction[] {
  const name = nameOf(bytes);
  const isThere = !name.toLowerCase().startsWith('no');
  const answers = isThere ? [a(name, `10.0.0.${name.length}`, below(random, 60))] : [];
  const authorities = isThere ? [] : [soa('example', 10)];
  const good = replyTo(bytes, { rcode: isThere ? 0 : 3, answers, authorities });
  const evil = [a(name, '10.6.6.6', 3600)];
  const afterMs = unit(random) < 0.1 ? below(random, 3000) : below(random, 40);
  const id = (good[0] ?? 0) * 256 + (good[1] ?? 0);
  switch (below(random, 14)) {
    case 0:
      return [];
    case 1:
      return [
        { afterMs, bytes: replyTo(bytes, { rcode: [1, 2, 4, 5, 9, 15][below(random, 6)] ?? 2 }) },
      ];
    case 2:
      return [{ afterMs, why: unit(random) < 0.5 ? 'unreachable' : 'local' }];
    case 3:
      return [
        { afterMs, bytes: replyTo(bytes, { id: id ^ (1 + below(random, 65_534)), answers: evil }) },
      ];
    case 4:
      return [{ afterMs, bytes: replyTo(bytes, { name: `x${name}`.slice(0, 60), answers: evil }) }];
    case 5:
      return [{ afterMs, bytes: replyTo(bytes, { answers: [a('evil.example', '10.6.6.6')] }) }];
    case 6:
      return transport === 'udp' ? [{ afterMs, bytes: replyTo(bytes, { flags: 0x200 }) }] : [];
    case 7:
      return [{ afterMs, bytes: good.subarray(0, below(random, good.length)) }];
    case 8:
      return [
        { afterMs, bytes: good },
        { afterMs: afterMs + 1, bytes: good },
      ];
    case 9:
      return [{ afterMs, bytes: replyTo(bytes, { name: name.toLowerCase(), answers }) }];
    default:
      return [{ afterMs, bytes: good }];
  }
}

function checkCounters(world: ForwardWorld, stats: ForwardStats, asked: number): void {
  assert.equal(stats.asks, asked);
  const answered = Object.values(stats.answers).reduce((sum, count) => sum + count, 0);
  assert.equal(answered + stats.waiting, asked);
  assert.equal(stats.waiting, world.waiting);
  assert.equal(stats.attempts, world.open.size);
  for (const { sent, results, pending } of stats.upstreams)
    assert.equal(Object.values(results).reduce((sum, count) => sum + count, 0) + pending, sent);
  assert.ok(stats.flights <= stats.flightsMax && stats.queued <= stats.flightsMax);
  assert.ok(stats.cache.bytes <= stats.cache.bytesMax);
}

function runSeed(seed: number): void {
  const cacheBytes = seed % 3 === 0 ? 3000 : 100_000;
  const timeoutMs = [100, 500, 2000][seed % 3] ?? 2000;
  const labels = LABELS.slice(0, 1 + (seed % LABELS.length));
  const maxConcurrent = [2, 10, 1000][Math.floor(seed / 3) % 3] ?? 10;
  const strict = new Set(seed % 5 < 2 ? [''] : []);
  const world = new ForwardWorld(
    settingsOf(labels, { cacheBytes, timeoutMs, maxConcurrent, strict }),
    seed,
  );
  const { random } = world;
  const honest: Behaviour = ({ bytes, transport }) => reaction(random, bytes, transport);
  for (const label of labels) world.upstreams.set(label, honest);
  let asked = 0;
  for (let i = 0; i < 300; i++) {
    const name = `${below(random, 4) === 0 ? 'no' : 'n'}${below(random, 25)}.example`;
    const flags = unit(random) < 0.1 ? 0x0110 : 0x0100;
    const edns = unit(random) < 0.3 ? { edns: { isDnssecOk: unit(random) < 0.5 } } : {};
    world.ask(queryFor(name, 'A', { flags, ...edns }), unit(random) < 0.1 ? TCP : UDP);
    asked += 1;
    if (below(random, 3) > 0) world.pass(unit(random) < 0.02 ? 20_000 : below(random, 60));
    if (i % 10 === 0) checkCounters(world, world.machine.stats(world.nowMs), asked);
  }
  world.settle();
  assert.equal(world.answers.size, asked);
  for (const { atMs, askedMs, asked: answer } of world.answers.values()) {
    assert.ok(atMs - askedMs < timeoutMs, `${atMs - askedMs} ms`);
    const { answers = [], questions = [], rcode } = decoded(answer);
    for (const record of answers) {
      assert.ok(record.type === 'A' && GOOD.test(record.data), `wrong: ${JSON.stringify(record)}`);
      assert.equal(record.name, questions[0]?.name);
    }
    if (rcode === 3) assert.ok(questions[0]?.name.startsWith('no'));
  }
  const stats = world.machine.stats(world.nowMs);
  checkCounters(world, stats, asked);
  assert.deepEqual([stats.waiting, stats.flights, stats.queued, stats.attempts], [0, 0, 0, 0]);
  assert.deepEqual([world.events, world.open.size], [0, 0], 'nothing is left to come');
}

test('random upstreams: one answer each, in time, nothing wrong, nothing left over', () => {
  for (let seed = 1; seed <= 60; seed++)
    try {
      runSeed(seed);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
});
