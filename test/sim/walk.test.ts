import assert from 'node:assert/strict';
import { test } from 'node:test';
import { distances, overlay } from './graph.ts';
import { ready } from './torture.ts';
import { walkTrees } from './walk.ts';

test('a payload that is followed along an origin’s tree reaches every node once, by the shortest path', () => {
  const cluster = ready(5, 80, { config: { linkState: false } });
  const graph = overlay(cluster);
  for (const origin of [0, 17, 79]) {
    const hops = [...distances(graph, origin).values()].toSorted((a, b) => a - b);
    assert.deepEqual(walkTrees(cluster, [origin]), {
      reliability: 1,
      rmr: 0,
      lastHop: hops.at(-1),
      hopOf99Percent: hops[Math.floor(0.99 * 80)],
    });
  }
});

test('a link with one end is not followed: nobody sends to a neighbour that crashed', () => {
  const cluster = ready(5, 20, { config: { linkState: false } });
  cluster.crash(7);
  const { id } = cluster.host(7).peer;
  assert.ok(cluster.living().some((index) => cluster.node(index).views.active.has(id)));
  const { reliability, rmr } = walkTrees(cluster, [0]);
  assert.deepEqual({ reliability, rmr }, { reliability: 1, rmr: 0 });
});
