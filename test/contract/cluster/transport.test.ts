/** The transport between real sockets: who gets in, whose word counts, what is lost and what is not. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { eventually } from '../../harness/eventually.ts';
import { TestCluster, TestNode } from './kit.ts';

const cluster = await TestCluster.found();
const nodes: TestNode[] = [];
async function start(...args: Parameters<typeof TestNode.start>): Promise<TestNode> {
  const node = await TestNode.start(...args);
  nodes.push(node);
  return node;
}
after(() => Promise.all(nodes.map((node) => node.transport.stop())));

test('two nodes exchange messages, each known by its certificate', async () => {
  const [a, b] = [await start(await cluster.identity()), await start(await cluster.identity())];
  assert.equal(a.send(b, 'one'), 'waiting');
  await eventually('the message', () => b.received.length === 1);
  assert.equal(b.send(a, 'two', 'overlay-urgent'), 'sent');
  await eventually('the answer', () => a.received.length === 1);
  assert.deepEqual(b.received, [{ from: a.id, channel: 'state', text: 'one' }]);
  assert.deepEqual(a.received, [{ from: b.id, channel: 'overlay-urgent', text: 'two' }]);
  assert.deepEqual([a.ups, b.ups], [[b.id], [a.id]]);
  assert.equal(a.metrics.cluster_dials_total, 1);
  assert.equal(b.metrics.cluster_dials_total, 0);
});
