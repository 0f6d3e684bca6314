import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blankWrite, FULL_WRITE, isBlank, mayHaveState } from '../../../src/agent/blank.ts';
import { Replica, type Write } from '../../../src/state/replica/replica.ts';

/** What `node` writes in its own document gets to `to`. */
function says(to: Replica, node: string, ...writes: Write[]): void {
  const writer = node.charCodeAt(0);
  const one = node === to.node ? to : Replica.open({ node, writer });
  for (const write of writes)
    for (const update of one.transact([write], 1).updates) if (one !== to) to.receive(update, 1);
}

const name = (n: string): Write => ({ document: 'own', key: 'node/info', value: `"${n}"` });

test('everybody is blank only if all are whom anybody knew who is', () => {
  const a = Replica.open({ node: 'a', writer: 1 });
  says(a, 'a', blankWrite(['b']));
  assert.deepEqual(mayHaveState(a, ['a']), ['b']);
  says(a, 'b', name('b'), blankWrite(['a', 'c']));
  assert.deepEqual(mayHaveState(a, ['a', 'b']), ['c']);
  says(a, 'c', name('c'));
  assert.deepEqual(mayHaveState(a, ['a', 'b', 'c']), ['c']);
  const other = Replica.open({ node: 'a', writer: 1 });
  says(other, 'a', blankWrite([]));
  says(other, 'b', blankWrite(['c']));
  says(other, 'c', blankWrite(['a', 'b']));
  assert.deepEqual(mayHaveState(other, ['a', 'b']), []);
});

test('a host that has its state again is not blank any more', () => {
  const a = Replica.open({ node: 'a', writer: 1 });
  says(a, 'b', blankWrite(['a']), FULL_WRITE);
  assert.equal(isBlank(a, 'b'), false);
});

test('what another version says of it may be anything', () => {
  const a = Replica.open({ node: 'a', writer: 1 });
  for (const [node, value] of [
    ['b', '1'],
    ['c', '{"x":[]}'],
    ['d', '[1,null]'],
    ['e', 'no JSON'],
  ] as const)
    says(a, node, { document: 'own', key: 'node/blank', value });
  assert.deepEqual(mayHaveState(a, ['b', 'c', 'd', 'e']), []);
});
