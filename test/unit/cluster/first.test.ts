/** Which one of the members does what one of them has to do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { isFirstOf, type Sources } from '../../../src/cluster/standing.ts';
import { Node, sfc32 } from '../../../src/hyparview-ts/index.ts';

function isFirst(others: Readonly<Record<string, 'alive' | 'dead' | 'left'>>, gone = ''): boolean {
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
  return isFirstOf(sources);
}

test('of the members that are alive the one with the smallest id is the first', () => {
  assert.equal(isFirst({}), true);
  assert.equal(isFirst({ n: 'alive' }), true);
  assert.equal(isFirst({ l: 'alive' }), false);
  assert.equal(isFirst({ l: 'dead', k: 'left' }), true);
  assert.equal(isFirst({ l: 'dead', k: 'alive' }), false);
  assert.equal(isFirst({ l: 'alive' }, 'l'), true);
});
