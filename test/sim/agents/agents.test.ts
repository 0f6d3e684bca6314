/** Whole agents over fake maps: short runs of what npm run sim:agents does at length. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Disk, type Step } from './disk.ts';
import { departures, propagation } from './measure.ts';
import { MUTATIONS, tryMutation } from './mutations.ts';
import { torture } from './torture.ts';
import type { Update } from '../../../src/state/replica/replica.ts';
import { sfc32 } from '../../../src/hyparview-ts/index.ts';

const SHORT = { hosts: 6, forMs: 20_000, writeMs: 200 };

test('hosts that are parted, killed and cut off from power while all write end up with one state and one map', () => {
  for (let seed = 1; seed <= 4; seed++) {
    const { judged, kills, partitions, acknowledged } = torture(seed, SHORT);
    assert.ok(judged > 30 && acknowledged > 40, `seed ${seed} judges next to nothing`);
    assert.ok(kills > 0 && partitions > 0, `seed ${seed} breaks nothing`);
  }
});

test('the same seed is the same torture, to the last byte', () => {
  assert.deepEqual(torture(11, SHORT), torture(11, SHORT));
  assert.notEqual(torture(11, SHORT).hash, torture(12, SHORT).hash);
});

test('a service that is added is in the map of each other host, once', () => {
  const size = { hosts: 12, zones: 3, count: 10 };
  const { samples, p50Ms } = propagation(1, { ...size, churn: false });
  assert.equal(samples, 10 * 11);
  assert.ok(p50Ms >= 1, 'nothing travels faster than a link');
});

test('the backends of a host that is gone leave the map of each that is left, whether or not it says goodbye', () => {
  const size = { hosts: 12, zones: 1, count: 4 };
  for (const how of ['silently', 'reset', 'goodbye'] as const)
    assert.equal(departures(1, { ...size, how }).samples, 11 + 10 + 9 + 8, how);
});

for (const what of [
  'an epoch is told to others before it is durable',
  'summaries are not compared',
])
  test(`it is found when ${what}, and its seed is told`, () => {
    const mutation = MUTATIONS.find((one) => one.what === what);
    assert.ok(mutation !== undefined);
    const { seed, violation } = tryMutation(mutation, 3);
    assert.ok(seed !== undefined, violation);
  });

function step(name: string): Step {
  const bytes = Uint8Array.of(0);
  const update: Update = { document: name, epoch: { number: 0, proposer: 0 }, whole: false, bytes };
  return { updates: [update], clock: name, clear: [] };
}

test('the disk of the simulator loses the last of what nobody waited for, and only in a power cut', () => {
  const left = new Set<string>();
  for (let seed = 1; seed <= 50; seed++) {
    const disk = new Disk(1);
    disk.begin(step('own'));
    disk.end();
    disk.write(step('other-1'));
    disk.write(step('other-2'));
    disk.kill(sfc32(seed, 1));
    const names = (): string =>
      disk
        .saved()
        .updates.map(({ document }) => document)
        .join(' ');
    assert.equal(names(), 'own other-1 other-2');
    disk.cut(sfc32(seed, 1));
    left.add(names());
  }
  assert.deepEqual([...left].toSorted(), ['own', 'own other-1', 'own other-1 other-2']);
});
