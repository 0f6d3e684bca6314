import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import * as Y from 'yjs';
import { Replica, SHARED, type Update } from '../../../src/state/replica/replica.ts';
import { LIMITS } from '../../../src/state/replica/limits.ts';
import { buildUpdate, parseUpdate, UpdateError } from '../../../src/state/replica/wire.ts';
import { valuesOf } from './world.ts';

function filled(): Replica {
  const a = Replica.open({ node: 'a', writer: 1 });
  for (let i = 0; i < 30; i++)
    a.transact([{ document: 'shared', key: `k${i % 7}`, value: `${i}` }], i + 1);
  const b = Replica.open({ node: 'b', writer: 2 });
  b.receive(a.whole(SHARED), 0);
  b.transact([{ document: 'shared', key: 'k1', value: '"b"' }], 50);
  return b;
}

function shared(bytes: Uint8Array, whole = false, number = 0): Update {
  return { document: SHARED, epoch: { number, proposer: number }, whole, bytes };
}

/** Whatever it was: nothing thrown, and the replica goes on as if nothing had been. */
function survives(victim: Replica, update: Update): void {
  const before = [valuesOf(victim, SHARED), victim.digests().get(SHARED)];
  const { notices } = victim.receive(update, 1000);
  if (notices.some(({ type }) => type === 'refused'))
    assert.deepEqual([valuesOf(victim, SHARED), victim.digests().get(SHARED)], before);
  victim.transact([{ document: 'shared', key: 'after', value: '1', always: true }], 2000);
  // Who was told of writes of its own that it does not have may see them end what it writes there.
  if (!notices.some(({ type }) => type === 'own-history'))
    assert.equal(victim.get(SHARED, 'after'), '1');
  // What it holds can be read back, and says the same.
  const again = Replica.open({ node: 'b', writer: 2 }, victim.save());
  assert.deepEqual(valuesOf(again, SHARED), valuesOf(victim, SHARED));
  assert.deepEqual(again.digests(), victim.digests());
}

/** Real update bytes with some of them replaced, left out or doubled. */
const damaged = fc
  .tuple(
    fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255), what: fc.nat(2) }), {
      minLength: 1,
      maxLength: 6,
    }),
    fc.boolean(),
  )
  .map(([edits, isWhole]) => {
    const source = filled();
    source.compact(SHARED);
    source.transact([{ document: 'shared', key: 'x', value: '1' }], 99);
    let bytes = [...(isWhole ? source.whole(SHARED) : filled().whole(SHARED)).bytes];
    for (const { at, byte, what } of edits) {
      const index = at % Math.max(1, bytes.length);
      const removed = what === 2 ? 0 : 1;
      bytes = bytes.toSpliced(index, removed, ...(what === 1 ? [] : [byte]));
    }
    return Uint8Array.from(bytes);
  });

const numRuns = Number(process.env['ZEROHOP_RUNS'] ?? 200);

suite('receive() takes anything', () => {
  test('random bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.boolean(),
        fc.nat(1),
        (bytes, whole, epoch) => {
          survives(filled(), shared(bytes, whole, epoch));
        },
      ),
      { numRuns },
    );
  });

  test('updates with damage', () => {
    fc.assert(
      fc.property(damaged, fc.boolean(), fc.nat(1), (bytes, whole, epoch) => {
        survives(filled(), shared(bytes, whole, epoch));
      }),
      { numRuns },
    );
  });

  test('documents of yjs that are not made of logs are refused', () => {
    const strange: ((doc: Y.Doc) => void)[] = [
      (doc) => doc.getMap('m').set('k', 1),
      (doc) => doc.getText('t').insert(0, 'text'),
      (doc) => doc.getArray('1').push([new Y.Map()]),
      (doc) => doc.getArray('wrong name').push(['k\n1.0\n1']),
      (doc) => doc.getArray('1').push([1]),
      (doc) => doc.getArray('1').push(['no cell']),
      (doc) => doc.getArray('1').push([new Uint8Array(3)]),
      (doc) => {
        doc.getArray('1').push(['k\n1.0\n1']);
        doc.getArray('1').insert(0, ['k\n1.0\n1']);
      },
    ];
    for (const make of strange) {
      const doc = new Y.Doc();
      doc.clientID = 1;
      make(doc);
      const update = Y.encodeStateAsUpdate(doc);
      assert.throws(() => parseUpdate(update, LIMITS), UpdateError);
      const victim = filled();
      assert.equal(victim.receive(shared(update), 0).notices[0]?.type, 'refused');
      survives(victim, shared(update));
    }
  });

  test('a log that yjs made by pushing is the one that is built here', () => {
    const doc = new Y.Doc();
    doc.clientID = 5;
    doc.getArray('5').push(['k\n1.0\n1']);
    doc.getArray('5').push(['l\n2.0\n2']);
    const cells = ['k\n1.0\n1', 'l\n2.0\n2'];
    const runs = [{ client: 5, clock: 0, length: 2, cells }];
    assert.deepEqual(buildUpdate({ runs, removals: new Map() }), Y.encodeStateAsUpdate(doc));
  });

  test('places beyond any log, lists of removals out of order, and clients out of range are refused', () => {
    const cell = ['k\n1.0\n1'];
    const run = { client: 5, clock: 0, length: 1, cells: cell };
    const gap = { client: 5, clock: 0, length: 2 ** 45, cells: undefined };
    const far = new Map([[1, [{ clock: 2 ** 41, length: 1 }]]]);
    const bad = [
      buildUpdate({ runs: [gap], removals: new Map() }),
      buildUpdate({ runs: [], removals: far }),
      buildUpdate({ runs: [{ ...run, client: 2 ** 32 }], removals: new Map() }),
      buildUpdate({ runs: [{ ...run, client: 0 }], removals: new Map() }),
      Uint8Array.of(0, 1, 1, 2, 5, 1, 2, 1),
    ];
    for (const bytes of bad) assert.throws(() => parseUpdate(bytes, LIMITS), UpdateError);
  });

  test('a value nested deeper than any stack is refused', () => {
    // ContentAny with one value: a list in a list in a list…
    const head = [1, 1, 5, 0, 8, 1, 1, 0x35, 1];
    const deep = Uint8Array.from([
      ...head,
      ...Array.from({ length: 200_000 }, () => [117, 1]).flat(),
      126,
      0,
    ]);
    assert.throws(() => parseUpdate(deep, LIMITS), UpdateError);
  });

  test('a whole copy of a newer epoch with something missing is refused', () => {
    const victim = filled();
    const cells = ['k\n1.0\n1'];
    const bytes = buildUpdate({
      runs: [{ client: 5, clock: 3, length: 1, cells }],
      removals: new Map(),
    });
    const { notices } = victim.receive(shared(bytes, true, 1), 0);
    assert.deepEqual(notices, [
      { type: 'refused', document: SHARED, reason: 'a copy with something missing' },
    ]);
  });

  test('names of documents, epochs and vectors may be anything', () => {
    const victim = filled();
    const { bytes } = victim.whole(SHARED);
    const epoch = { number: 0, proposer: 0 };
    for (const number of [-1, 0.5, Infinity, 2 ** 41]) {
      const { notices } = victim.receive(shared(bytes, true, number), 0);
      assert.deepEqual(notices, [{ type: 'refused', document: SHARED, reason: 'no such epoch' }]);
    }
    for (const document of ['', 'other', 'node:', `node:${'x'.repeat(300)}`, 'node:a\nb']) {
      const { notices } = victim.receive({ document, epoch, whole: false, bytes }, 0);
      assert.deepEqual(notices, [{ type: 'refused', document, reason: 'no such document' }]);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 30 }), (vector) => {
        const update = victim.diff({ document: SHARED, epoch, bytes: vector });
        assert.ok(update === undefined || update.bytes.length > 0);
      }),
    );
  });
});
