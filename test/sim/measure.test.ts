import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encode } from '../../src/hyparview-ts/codec.ts';
import { message as any } from '../unit/hyparview/arbitrary.ts';
import { broadcasts, failAtOnce, sizeOf } from './measure.ts';
import { ready } from './torture.ts';

test('the bytes that are counted for a message are those it has on the wire', () => {
  fc.assert(
    fc.property(any, (message) => {
      assert.equal(sizeOf(message), encode(message).length);
    }),
    { numRuns: 2000 },
  );
});

test('the neighbours of nodes that failed at once notice after one latency, with nothing sent to them', () => {
  const cluster = ready(7, 40);
  const { sim } = cluster;
  const linked = (): string[] => {
    const dead = new Set(sim.hosts.filter(({ index }) => !cluster.runs(index)));
    const ids = new Set([...dead].map(({ peer }) => peer.id));
    return cluster.living().flatMap((index) => {
      const { peers } = cluster.node(index).views.active;
      return peers.filter(({ id }) => ids.has(id)).map(({ id }) => `${index} ${id}`);
    });
  };
  const lost: string[] = [];
  cluster.onEvent = ({ index }, event) => {
    if (event.type === 'link-down') lost.push(`${index} ${event.peer.id}`);
  };
  assert.equal(failAtOnce(cluster, 0.5, 7).length, 20);
  const links = linked();
  assert.ok(links.length > 20, `${links.length} links to the dead`);
  sim.runUntil(sim.now + 0.99 * sim.network.latencyMs);
  assert.deepEqual(linked(), links);
  sim.runUntil(sim.now + 0.01 * sim.network.latencyMs);
  assert.deepEqual(linked(), []);
  assert.deepEqual(lost.toSorted(), links.toSorted());
});

test('a node that never gets a broadcast counts as not reached, in time or late', () => {
  const cluster = ready(3, 10);
  const [cutOff = 0] = cluster.living().slice(-1);
  for (const host of cluster.sim.hosts) host.side = host.index === cutOff ? 0 : 1;
  cluster.sim.cuts.add('0 1').add('1 0');
  const { all, each, eachPrompt } = broadcasts(cluster, { count: 20, everyMs: 10, sources: 20 });
  assert.deepEqual(new Set(each), new Set([0.9, 0.1]), 'of the nine, and of the one');
  assert.equal(all.reliability, each.reduce((sum, value) => sum + value, 0) / 20);
  assert.ok(eachPrompt.every((value, i) => value <= (each[i] ?? 0)));
});
