/** More of one kind than a call may have arguments: some 120,000 in V8. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Replica, SHARED, type Update, type Write } from '../../../src/state/replica/replica.ts';
import { StateView } from '../../../src/state/replica/view.ts';

const COUNT = 130_000;

const service: Write = {
  document: 'shared',
  key: 'service/web',
  value: JSON.stringify({
    vips: ['240.0.0.1'],
    ports: [{ name: 'http', port: 80, protocol: 'tcp' }],
  }),
};
const backends = Array.from({ length: COUNT }, (_, i): Write => {
  const key = `backend/web/http/10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/80`;
  return { document: 'shared', key, value: '{}' };
});

suite('130,000 backends of one service', () => {
  test('are seen, removed, and taken into an epoch that does not know of them', () => {
    const [a, b] = [Replica.open({ node: 'a', writer: 1 }), Replica.open({ node: 'b', writer: 2 })];
    const view = StateView.open(b);
    const [update] = a.transact([...backends, service], 1).updates as [Update];
    view.follow(b.receive(update, 1).changed);
    assert.equal(view.snapshot().backends.get('web')?.length, COUNT);
    const { writes } = view.writes([{ kind: 'remove-service', name: 'web' }]);
    assert.equal(writes.filter(({ document }) => document === 'shared').length, COUNT + 1);

    const c = Replica.open({ node: 'c', writer: 3 });
    c.transact([{ document: 'shared', key: 'kv/r:a', value: '1' }], 1);
    const { notices, updates } = a.receive(c.compact(SHARED), 1);
    assert.deepEqual(
      notices.map(({ type }) => type),
      ['epoch'],
    );
    for (const carried of updates) c.receive(carried, 1);
    assert.equal(c.stats(SHARED).entries, COUNT + 2);
    assert.equal(c.digest(SHARED), a.digest(SHARED));
  });
});
