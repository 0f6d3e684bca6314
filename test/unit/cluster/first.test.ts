/** Which one of the members does what one of them has to do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { rankOf, type Sources } from '../../../src/cluster/standing.ts';
import { Node, sfc32 } from '../../../src/hyparview-ts/index.ts';

function rank(others: Readonly<Record<string, 'alive' | 'dead' | 'left'>>, gone = ''): number {
  const liveness = new Liveness({ self: 'm', remembered: [] });
  for (const [id, standing] of Object.entries(others)) liveness.heard(id, standing, 0);
  liveness.known('a-document', 0);
  const self = { id: 'm', address: '10.0.0.9:7946', zone: '' };
  const sources: Sources = {
    node: new Node({ self, random: sfc32(1), incarnation: 1 }),
    liveness,
    record: () => undefined,
    isGone: (id) => id === gone,
    startedAtMs: 0,
    iso: String,
  };
  return rankOf(sources);
}

test('members that are alive are before each other in the order of their ids', () => {
  assert.equal(rank({}), 0);
  assert.equal(rank({ n: 'alive' }), 0);
  assert.equal(rank({ l: 'alive' }), 1);
  assert.equal(rank({ l: 'dead', k: 'left' }), 0);
  assert.equal(rank({ l: 'dead', k: 'alive', j: 'alive' }), 2);
  assert.equal(rank({ l: 'alive' }, 'l'), 0);
});
