import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settle } from './checks.ts';
import type { Cluster } from './cluster.ts';
import { failAtOnce } from './measure.ts';
import { ready } from './torture.ts';

function withheld(cluster: Cluster): string[] {
  return cluster.living().flatMap((index) =>
    Object.entries(cluster.node(index).snapshot().withheld)
      .filter(([, count]) => count > 0)
      .map(([need, count]) => `${index}: ${need} ${count}`),
  );
}

test('the rate of dials is none that an honest cluster meets: joining, cut in two, healed, most of it dead', () => {
  const cluster = ready(1, 150, { everyMs: 1 });
  const { sim } = cluster;
  assert.deepEqual(withheld(cluster), [], 'joined');
  for (const host of sim.hosts) host.side = host.index % 2;
  sim.cuts.add('0 1').add('1 0');
  sim.runUntil(sim.now + 30_000);
  assert.deepEqual(withheld(cluster), [], 'cut');
  sim.cuts.clear();
  settle(cluster, 600_000);
  assert.deepEqual(withheld(cluster), [], 'healed');
  failAtOnce(cluster, 0.95, 1);
  settle(cluster, 600_000);
  assert.deepEqual(withheld(cluster), [], 'most are dead');
});
