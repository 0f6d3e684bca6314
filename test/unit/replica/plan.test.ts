import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  Replica,
  SHARED,
  WriteError,
  type Plan,
  type Write,
} from '../../../src/state/replica/replica.ts';

const writes: fc.Arbitrary<readonly Write[]> = fc.array(
  fc.record(
    {
      document: fc.constantFrom('shared' as const, 'own' as const),
      key: fc.constantFrom('a', 'b', 'c'),
      value: fc.option(fc.constantFrom('1', '2'), { nil: undefined }),
      always: fc.boolean(),
    },
    { requiredKeys: ['document', 'key', 'value'] },
  ),
  { maxLength: 4 },
);

/** All that can be seen of a replica. */
function everything(replica: Replica): unknown {
  return {
    saved: replica.save(),
    digests: new Map(replica.digests()),
    entries: replica.documents().map((id) => [...replica.winners(id)]),
    stats: replica.documents().map((id) => replica.stats(id)),
  };
}

function open(): Replica {
  return Replica.open({ node: 'n1', writer: 1 });
}

suite('plan', () => {
  test('a plan that is dropped has changed nothing, and one that is made is a transaction', () => {
    const step = fc.record({
      writes,
      ms: fc.nat(5),
      fate: fc.constantFrom('write', 'write, drop', 'compact', 'compact, drop'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const [planning, plain] = [open(), open()];
        let told = 0;
        planning.subscribe('', (changed) => (told += changed.length));
        for (const { writes: list, ms, fate } of steps) {
          const before = everything(planning);
          const wasTold = told;
          const plan: Plan = fate.startsWith('write')
            ? planning.plan(list, ms)
            : planning.planCompaction(SHARED, 0);
          assert.deepEqual(everything(planning), before);
          assert.equal(told, wasTold);
          if (fate.endsWith('drop')) continue;
          const done = planning.commit(plan);
          assert.equal(told, wasTold + done.changed.length);
          if (fate === 'write') assert.deepEqual(done, plain.transact(list, ms));
          else assert.deepEqual(done, { updates: [plain.compact(SHARED)], changed: [] });
          assert.equal(planning.clockState(), plan.clock);
          assert.deepEqual(everything(planning), everything(plain));
        }
      }),
    );
  });

  test('what is planned is what others take in: the bytes and the clock are those to be stored', () => {
    const one = open();
    one.transact([{ document: 'shared', key: 'a', value: '1' }], 10);
    const saved = one.save();
    const plan = one.plan([{ document: 'shared', key: 'a', value: '2' }], 20);
    const stored = Replica.open(
      { node: 'n1', writer: 1 },
      { clock: plan.clock, updates: [...saved.updates, ...plan.updates] },
    );
    assert.equal(one.get(SHARED, 'a'), '1');
    one.commit(plan);
    assert.deepEqual(everything(stored), everything(one));
  });

  test('a plan of what was before is not made', () => {
    const write: Write = { document: 'shared', key: 'a', value: '1' };
    const between: ((replica: Replica) => void)[] = [
      (replica) => replica.transact([write], 1),
      (replica) => replica.compact(SHARED),
      (replica) => {
        const other = Replica.open({ node: 'n2', writer: 2 });
        for (const update of other.transact([write], 1).updates) replica.receive(update, 1);
      },
    ];
    for (const change of between) {
      const replica = open();
      const plans = [replica.plan([write], 1), replica.planCompaction(SHARED, 0)];
      change(replica);
      const before = everything(replica);
      for (const plan of plans)
        assert.throws(() => replica.commit(plan), /a plan of what was before/);
      assert.deepEqual(everything(replica), before);
    }
  });

  test('a plan over a limit is an error and changes nothing', () => {
    const replica = open();
    const before = everything(replica);
    const value = `"${'x'.repeat(70_000)}"`;
    assert.throws(
      () =>
        replica.plan(
          [
            { document: 'shared', key: 'a', value: '1' },
            { document: 'own', key: 'a', value },
          ],
          5,
        ),
      WriteError,
    );
    assert.deepEqual(everything(replica), before);
  });
});
