import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  documentOf,
  Replica,
  SHARED,
  WriteError,
  type ReplicaOptions,
  type Write,
} from '../../../src/state/replica/replica.ts';
import { buildUpdate } from '../../../src/state/replica/wire.ts';
import { valuesOf } from './world.ts';

const put = (key: string, value: string): Write => ({ document: 'shared', key, value });
const remove = (key: string): Write => ({ document: 'shared', key, value: undefined });
const own = (key: string, value: string | undefined): Write => ({ document: 'own', key, value });

function replica(n: number, options: Partial<ReplicaOptions> = {}): Replica {
  return Replica.open({ node: `n${n}`, writer: n, ...options });
}

/** Each hears what the other knows of a document. */
function meet(a: Replica, b: Replica, id = SHARED, nowMs = 0): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
    [a, b],
    [b, a],
  ] as const) {
    const update = from.diff(to.vector(id));
    if (update !== undefined) to.receive(update, nowMs);
  }
  assert.equal(a.digests().get(id), b.digests().get(id));
}

function only<T>(list: readonly T[]): T {
  const [first] = list;
  assert.equal(list.length, 1);
  if (first === undefined) throw new Error('none');
  return first;
}

suite('merge rules', () => {
  test('of two writes that did not know of each other the one with the newer stamp is read, by all', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([put('k', '"later"')], 2000);
    b.transact([put('k', '"earlier"')], 1000);
    meet(a, b);
    assert.deepEqual([a.get(SHARED, 'k'), b.get(SHARED, 'k')], ['"later"', '"later"']);
  });

  test('a write that knew of another takes its place, however wrong the clock of the first was', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([put('k', '"from the future"')], 10 ** 9);
    meet(a, b);
    b.transact([put('k', '"now"')], 1000);
    meet(a, b);
    assert.equal(a.get(SHARED, 'k'), '"now"');
  });

  test('what settles a record wins over nothing that is written elsewhere meanwhile, in any order', () => {
    const times = fc.integer({ min: 50_000, max: 200_000 });
    const property = fc.property(times, times, fc.boolean(), fc.nat(), fc.nat(2), (...drawn) => {
      const [settledMs, changedMs, isFirst, order, epoch] = drawn;
      // The one with the higher writer id would win where stamps are the same.
      const [a, b] = isFirst ? [replica(1), replica(2)] : [replica(2), replica(1)];
      const updates = [...a.transact([put('k', '"as it was"')], 100_000).updates];
      meet(a, b, SHARED, 100_000);
      const settled: Write = { ...put('k', '"settled"'), settles: true };
      updates.push(...a.transact([settled], settledMs).updates);
      assert.equal(a.get(SHARED, 'k'), '"settled"');
      updates.push(...b.transact([put('k', '"changed"')], changedMs).updates);
      const c = replica(3);
      for (let i = 0; i < 3; i++) c.receive(only(updates.splice(order % updates.length, 1)), 0);
      if (epoch > 0) (epoch === 1 ? a : b).compact(SHARED);
      meet(a, b);
      meet(b, c);
      for (const one of [a, b, c]) assert.equal(one.get(SHARED, 'k'), '"changed"');
    });
    fc.assert(property);
  });

  test('what settles a record wins over what that had won over', () => {
    const [a, b] = [replica(1), replica(2)];
    b.transact([put('k', '"earlier"')], 1000);
    a.transact([put('k', '"later"')], 2000);
    a.transact([{ ...put('k', '"settled"'), settles: true }], 3000);
    meet(a, b);
    assert.equal(b.get(SHARED, 'k'), '"settled"');
  });

  test('an edit wins over a removal that did not know of it, whichever was later', () => {
    for (const [edited, removed] of [
      [1000, 2000],
      [2000, 1000],
    ] as const) {
      const [a, b] = [replica(1), replica(2)];
      a.transact([put('k', '1')], 1);
      meet(a, b);
      a.transact([put('k', '2')], edited);
      b.transact([remove('k')], removed);
      meet(a, b);
      assert.equal(b.get(SHARED, 'k'), '2');
    }
  });

  test('a removal removes all that its host knew, also what was not being read', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([put('k', '1')], 1);
    b.transact([put('k', '2')], 2);
    meet(a, b);
    a.transact([remove('k')], 3);
    meet(a, b);
    assert.deepEqual([a.get(SHARED, 'k'), b.get(SHARED, 'k')], [undefined, undefined]);
  });

  test('what was being outdone is read again when only the winner is removed by one who knew nothing else', () => {
    const [a, b, c] = [replica(1), replica(2), replica(3)];
    a.transact([put('k', '"winner"')], 2);
    b.transact([put('k', '"other"')], 1);
    meet(a, c);
    c.transact([remove('k')], 3);
    meet(a, b);
    assert.equal(b.get(SHARED, 'k'), '"winner"');
    meet(b, c);
    assert.equal(b.get(SHARED, 'k'), '"other"');
  });

  test('the records of one transaction win or lose together', () => {
    const [a, b] = [replica(1), replica(2)];
    const { changed } = a.transact([put('x', '"a"'), put('y', '"a"')], 1);
    assert.equal(changed.length, 2);
    b.transact([put('y', '"b"'), put('x', '"b"')], 1);
    meet(a, b);
    assert.deepEqual([a.get(SHARED, 'x'), a.get(SHARED, 'y')], ['"b"', '"b"']);
  });
});

suite('replica', () => {
  test('what is so already makes no update; of two writes of one key the last counts', () => {
    const a = replica(1);
    const { changed } = a.transact([put('k', '1'), put('k', '2')], 1);
    assert.deepEqual(changed, [{ document: SHARED, key: 'k', before: undefined, after: '2' }]);
    assert.deepEqual(a.transact([put('k', '2'), remove('other')], 2), { updates: [], changed: [] });
  });

  test('listeners hear once of each call, with the old and the new value, and only of real changes', () => {
    const [a, b] = [replica(1), replica(2)];
    const heard: unknown[] = [];
    const stop = b.subscribe('k', (changed) => heard.push(changed));
    const first = only(a.transact([put('k1', '1'), put('k2', '2'), put('other', '3')], 5).updates);
    const loser = only(replica(3).transact([put('k1', '"older"')], 1).updates);
    b.receive(first, 0);
    b.receive(first, 0);
    b.receive(loser, 0);
    b.transact([put('k1', '4')], 9);
    stop();
    b.transact([put('k1', '5')], 10);
    assert.deepEqual(heard, [
      [
        { document: SHARED, key: 'k1', before: undefined, after: '1' },
        { document: SHARED, key: 'k2', before: undefined, after: '2' },
      ],
      [{ document: SHARED, key: 'k1', before: '1', after: '4' }],
    ]);
  });

  test('keys and values that no version here has made are kept, and go on to others', () => {
    const [a, b, c] = [replica(1), replica(2), replica(3)];
    a.transact([put('from/the/future', 'not even JSON')], 1);
    meet(a, b);
    b.compact(SHARED);
    meet(b, c);
    assert.equal(c.get(SHARED, 'from/the/future'), 'not even JSON');
  });

  test('a writer five minutes ahead is heard, and told of', () => {
    const [a, b] = [replica(1), replica(2)];
    const update = only(a.transact([put('k', '1')], 300_000).updates);
    const { notices } = b.receive(update, 0);
    assert.deepEqual(notices, [{ type: 'clock-ahead', writer: 1, aheadMs: 300_000 }]);
    assert.equal(b.get(SHARED, 'k'), '1');
    b.transact([put('k2', '1')], 10);
    assert.equal(b.entry(SHARED, 'k2')?.ms, 10);
  });

  test('a broadcast about a node that comes from another node is refused', () => {
    const [a, b] = [replica(1), replica(2)];
    const update = only(a.transact([own('k', '1')], 1).updates);
    const forged = b.receive(update, 0, 'n3');
    assert.deepEqual(forged.notices, [
      { type: 'refused', document: documentOf('n1'), reason: 'it is not for n3 to write' },
    ]);
    assert.equal(b.get(a.own, 'k'), undefined);
    assert.deepEqual(b.receive(update, 0, 'n1').notices, []);
    assert.equal(b.get(a.own, 'k'), '1');
  });

  test('nobody removes what a host wrote about itself; a new epoch puts it right elsewhere', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([own('k', '1')], 1);
    meet(a, b, a.own);
    // A stranger that has a's name removes it, in a copy with a's log.
    const stranger = Replica.open({ node: 'n1', writer: 9 });
    stranger.receive(a.whole(a.own), 0);
    const removal = only(stranger.transact([own('k', undefined)], 5).updates);
    b.receive(removal, 0);
    assert.equal(b.get(a.own, 'k'), undefined);
    assert.equal(a.receive(removal, 0).notices[0]?.type, 'refused');
    assert.equal(a.get(a.own, 'k'), '1');
    b.receive(a.compact(a.own), 0);
    assert.equal(b.get(a.own, 'k'), '1');
  });

  test('a host set back to an old copy of its disk hears that it has a past it does not know', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([put('k', '1')], 1);
    const backup = a.save();
    a.transact([put('k', '2')], 2);
    meet(a, b);
    const again = Replica.open({ node: 'n1', writer: 1 }, backup);
    assert.equal(again.writesUnknownHere(b.vector(SHARED)), 1);
    assert.equal(a.writesUnknownHere(b.vector(SHARED)), 0);
    const update = b.diff(again.vector(SHARED));
    assert.ok(update !== undefined);
    const { notices } = again.receive(update, 0);
    assert.deepEqual(notices, [{ type: 'own-history', document: SHARED, writes: 1 }]);
    assert.equal(again.get(SHARED, 'k'), '2');
  });

  test('a host set back hears of its past also from an answer that it refuses', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([own('k', '1')], 1);
    const backup = a.save();
    a.transact([own('k', '2')], 2);
    meet(a, b, a.own);
    const again = Replica.open({ node: 'n1', writer: 1 }, backup);
    const update = b.diff(again.vector(a.own));
    assert.ok(update !== undefined);
    const { notices } = again.receive(update, 0);
    assert.deepEqual(
      notices.map(({ type }) => type),
      ['own-history', 'refused'],
    );
    assert.equal(again.get(a.own, 'k'), '1');
  });

  test('a host hears of its past from a removal of what it does not know that it wrote', () => {
    const a = replica(1);
    a.transact([put('k', '1')], 1);
    const removals = new Map([[1, [{ clock: 3, length: 2 }]]]);
    const bytes = buildUpdate({ runs: [], removals });
    const { notices } = a.receive({ ...only([a.whole(SHARED)]), whole: false, bytes }, 0);
    assert.deepEqual(notices, [{ type: 'own-history', document: SHARED, writes: 4 }]);
  });

  test('a host set back that has written nothing since takes all back under a new writer', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([own('x', '1'), put('k', '1')], 1);
    const backup = a.save();
    meet(a, b, a.own);
    meet(a, b);
    a.transact([own('x', undefined), own('y', '1'), put('l', '1')], 2);
    meet(a, b, a.own);
    meet(a, b);
    const again = Replica.open({ node: 'n1', writer: 1 }, backup);
    // A removal is of what it has seen: it takes no place.
    again.transact([{ document: 'shared', key: 'k', value: undefined }], 3);
    const update = b.diff(again.vector(a.own));
    assert.ok(update !== undefined);
    assert.equal(again.receive(update, 0).notices.at(-1)?.type, 'refused');
    assert.equal(again.renew(9), true);
    again.transact([own('z', '1'), put('m', '1')], 4);
    assert.equal(again.entry(SHARED, 'm')?.writer, 9);
    meet(again, b, a.own);
    meet(again, b);
    for (const id of [SHARED, a.own]) assert.equal(again.digest(id), b.digest(id));
    assert.deepEqual(valuesOf(b, a.own), { y: '1', z: '1' });
    assert.deepEqual(valuesOf(again, SHARED), { l: '1', m: '1' });
  });

  test('a host set back that has written or begun an epoch since keeps its writer', () => {
    for (const write of [
      (a: Replica): unknown => a.transact([put('k', '1')], 1),
      (a: Replica): unknown => a.compact(SHARED),
    ]) {
      const a = replica(1);
      write(a);
      assert.deepEqual([a.renew(9), a.writer], [false, 1]);
    }
  });

  test('a host that lost its disk takes up what others know of it, and what it has written since', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([own('old', '1')], 1);
    a.compact(a.own);
    meet(a, b, a.own);
    const again = Replica.open({ node: 'n1', writer: 3 });
    again.transact([own('new', '1')], 2);
    meet(again, b, a.own);
    assert.deepEqual(valuesOf(b, a.own), { new: '1', old: '1' });
    again.transact([own('old', undefined)], 3);
    meet(again, b, a.own);
    assert.deepEqual(valuesOf(b, a.own), { new: '1' });
  });

  test('limits are said, and nothing is half done', () => {
    const limits = {
      keyCharsMax: 8,
      cellCharsMax: 50,
      entriesPerDocumentMax: 2,
      writesPerTransactionMax: 3,
    };
    const a = replica(1, { limits });
    const refused: readonly (readonly Write[])[] = [
      [put('k', '1'), put('123456789', '1')],
      [put('k', '1'), put('with\nline', '1')],
      [put('k', '1'), put('@k', '1')],
      [put('k', '1'), put('', '1')],
      [put('k', '1'), put('l', 'x'.repeat(50))],
      [put('k', '1'), put('l', '1'), put('m', '1')],
      [put('k', '1'), put('k', '1'), put('k', '1'), put('k', '1')],
      [put('k', '1'), own('1', '1'), own('123456789', '1')],
    ];
    for (const writes of refused) assert.throws(() => a.transact(writes, 1), WriteError);
    assert.deepEqual([a.stats(SHARED).entries, a.stats(a.own).entries], [0, 0]);

    const b = replica(2);
    const { updates } = b.transact(
      ['1', '2', '3'].map((key) => put(key, '1')),
      1,
    );
    const { notices } = a.receive(only(updates), 0);
    assert.deepEqual(notices, [
      { type: 'refused', document: SHARED, reason: 'more than 2 entries' },
    ]);
    const long = only(replica(3).transact([put('k', 'x'.repeat(100))], 1).updates);
    assert.deepEqual(a.receive(long, 0).notices, [
      { type: 'refused', document: SHARED, reason: 'cell 0 of 3 is not KEY, STAMP, VALUE' },
    ]);
    const small = replica(4, { limits: { updateBytesMax: 10 } });
    assert.equal(small.receive(long, 0).notices[0]?.type, 'refused');
  });

  test('too much that waits for what did not come is thrown away, and can be asked for again', () => {
    const a = replica(1);
    const b = replica(2, { limits: { pendingBytesMax: 300 } });
    const updates = Array.from({ length: 20 }, (_, i) =>
      only(a.transact([put(`key${i}`, '"0123456789"')], i + 1).updates),
    );
    const notices = updates.slice(1).flatMap((update) => b.receive(update, 0).notices);
    assert.ok(notices.some(({ type }) => type === 'gap'));
    assert.ok(b.stats(SHARED).pendingBytes <= 300);
    meet(a, b);
    assert.equal(b.stats(SHARED).entries, 20);
  });

  test('removals of places that never come are dropped when they are many, however small they are', () => {
    const pendingBytesMax = 64 * 1024;
    const b = replica(2, { limits: { pendingBytesMax } });
    const { epoch } = b.vector(SHARED);
    let gaps = 0;
    for (let i = 1; i <= 2000; i++) {
      const removals = new Map([[1, [{ clock: 2 * i, length: 1 }]]]);
      const bytes = buildUpdate({ runs: [], removals });
      const update = { document: SHARED, epoch, whole: false, bytes };
      for (const { type } of b.receive(update, 0).notices) if (type === 'gap') gaps += 1;
      assert.ok(b.stats(SHARED).pendingBytes <= pendingBytesMax);
    }
    assert.ok(gaps >= 2, `${gaps}`);
  });

  test('digests differ as long as anything does, also a removal or a write that is gone again', () => {
    const [a, b] = [replica(1), replica(2)];
    const digests = new Set([a.digests().get(SHARED)]);
    a.transact([put('k', '1')], 1);
    digests.add(a.digests().get(SHARED));
    meet(a, b);
    b.transact([remove('k')], 2);
    digests.add(b.digests().get(SHARED));
    b.transact([put('k', '1')], 3);
    digests.add(b.digests().get(SHARED));
    b.transact([remove('k')], 4);
    digests.add(b.digests().get(SHARED));
    b.compact(SHARED);
    digests.add(b.digests().get(SHARED));
    assert.equal(digests.size, 6);
  });

  test('stored updates may be of several epochs, in any order: the newest counts', () => {
    const a = replica(1);
    const { updates } = a.transact([put('k', '1'), put('gone', '1')], 1);
    const old = a.whole(SHARED);
    a.transact([remove('gone')], 2);
    a.compact(SHARED);
    const { updates: after } = a.transact([put('k', '2')], 3);
    const stored = [...after, ...updates, old, a.whole(SHARED)];
    for (const list of [stored, stored.toReversed()]) {
      const again = Replica.open(
        { node: 'n1', writer: 1 },
        { clock: a.clockState(), updates: list },
      );
      assert.deepEqual(valuesOf(again, SHARED), { k: '2' });
      assert.deepEqual(again.digests(), a.digests());
    }
  });

  test('the document of a node that is forgotten goes, and says what went', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([own('k', '1')], 1);
    meet(a, b, a.own);
    assert.deepEqual(b.forgetDocument(a.own), [
      { document: a.own, key: 'k', before: '1', after: undefined },
    ]);
    assert.deepEqual(b.documents(), [SHARED, b.own]);
  });
});

suite('epochs', () => {
  test('a new epoch holds no remains, and says the same', () => {
    const a = replica(1);
    for (let i = 0; i < 1000; i++)
      a.transact([put(`k${(Math.imul(i, 0x9e3779b1) >>> 8) % 300}`, String(i))], i);
    assert.deepEqual(a.stats(SHARED), { entries: 300, items: 314, writers: 1, pendingBytes: 0 });
    const before = valuesOf(a, SHARED);
    a.compact(SHARED);
    assert.deepEqual(a.stats(SHARED), { entries: 300, items: 2, writers: 2, pendingBytes: 0 });
    assert.deepEqual(valuesOf(a, SHARED), before);
  });

  test('without any epoch a document holds at most two items for each entry, and one for each writer', () => {
    const [a, b] = [replica(1), replica(2)];
    for (let i = 0; i < 3000; i++) {
      const update = only(a.transact([put(`k${(i * 7919) % 40}`, String(i))], i).updates);
      b.receive(update, i);
      const back = only(b.transact([put(`k${(i * 31) % 40}`, `${i}b`)], i).updates);
      a.receive(back, i);
    }
    const { entries, items, writers } = a.stats(SHARED);
    assert.equal(entries, 40);
    assert.ok(items <= 2 * entries + writers, `${items} items`);
  });

  test('two epochs begun at once become one, with what was written in both and in neither', () => {
    const [a, b, c] = [replica(1), replica(2), replica(3)];
    a.transact([put('k', '1'), put('gone', '1')], 1);
    meet(a, b);
    meet(a, c);
    a.transact([put('before a', '1')], 2);
    b.transact([put('before b', '1')], 2);
    c.transact([put('in neither', '1'), remove('gone')], 2);
    a.compact(SHARED);
    b.compact(SHARED);
    a.transact([put('after a', '1')], 3);
    b.transact([put('after b', '1')], 3);
    for (const [x, y] of [
      [a, b],
      [b, c],
      [a, c],
      [a, b],
    ] as const)
      meet(x, y);
    const keys = [...a.winners(SHARED)].map(({ key }) => key).toSorted();
    assert.deepEqual(keys, ['after a', 'after b', 'before a', 'before b', 'in neither', 'k']);
    assert.equal(b.digests().get(SHARED), c.digests().get(SHARED));
  });

  test('a host that missed many epochs brings its writes and its removals', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([put('k', '1'), put('gone', '1'), put('removed by a', '1')], 1);
    meet(a, b);
    b.transact([put('new', '1'), remove('gone')], 2);
    a.transact([remove('removed by a')], 2);
    for (let i = 0; i < 5; i++) {
      a.compact(SHARED);
      a.transact([put('k', String(i))], 3 + i);
    }
    meet(a, b);
    const keys = [...a.winners(SHARED)].map(({ key }) => key).toSorted();
    assert.deepEqual(keys, ['k', 'new']);
    assert.equal(b.get(SHARED, 'k'), '4');
  });

  test('writers that are gone for good are left out, but not while anything of them is left', () => {
    const [a, b] = [replica(1), replica(2)];
    for (let i = 0; i < 50; i++) {
      const dead = replica(101 + i);
      dead.transact([put('k', String(i)), ...(i === 7 ? [put('left', '1')] : [])], i);
      meet(dead, a);
    }
    a.transact([put('k', '"a"')], 100);
    const writers = Array.from({ length: 50 }, (_, i) => 101 + i);
    a.transact([put('gone/x', JSON.stringify({ atMs: 0, writers: [1, 2, ...writers] }))], 101);
    meet(a, b);
    assert.equal(a.stats(SHARED).writers, 51);
    const dayMs = 86_400_000;
    assert.equal(a.compactionDue(SHARED, 49 * dayMs), false, 'one that is cut off may come back');
    a.compact(SHARED, 49 * dayMs);
    assert.equal(a.stats(SHARED).writers, 52, 'the seed and all');
    assert.ok(a.compactionDue(SHARED, 50 * dayMs));
    const { updates } = b.receive(a.compact(SHARED, 50 * dayMs), 49.5 * dayMs);
    assert.deepEqual(updates, [], 'a clock that is behind brings nothing back');
    for (const { stats, get } of [a, b].map((r) => ({
      stats: r.stats(SHARED),
      get: r.get(SHARED, 'left'),
    }))) {
      assert.equal(stats.writers, 3); // the seed, a, and the one with something left
      assert.equal(get, '1');
    }
  });

  test('who does not forget them brings them back, but makes no epoch after the other', () => {
    const [a, b] = [replica(1), replica(2)];
    const writers = Array.from({ length: 50 }, (_, i) => 101 + i);
    for (const writer of writers) {
      const gone = replica(writer);
      gone.transact([put('k', '1')], 1);
      gone.transact([remove('k')], 1);
      meet(gone, a);
    }
    a.transact([put('gone/x', JSON.stringify({ atMs: 0, writers }))], 2);
    meet(a, b);
    let epochs = 0;
    const dayMs = 86_400_000;
    for (let minute = 0; minute < 180; minute++) {
      const nowMs = 50 * dayMs + minute * 60_000;
      if (!a.compactionDue(SHARED, nowMs)) continue;
      epochs += 1;
      // A clock that is two days behind.
      const { updates } = b.receive(a.compact(SHARED, nowMs), nowMs - 2 * dayMs);
      for (const update of updates) a.receive(update, nowMs);
    }
    assert.equal(epochs, 3, 'one an hour');
  });

  test('no writer is forgotten that is there, whatever is said of it', () => {
    const [a, b, c] = [replica(1), replica(2), replica(3)];
    for (const one of [a, c]) one.transact([put('x', '1'), own('k', '1')], 1);
    meet(a, b);
    meet(c, b);
    b.transact([remove('x'), put('gone/x', JSON.stringify({ atMs: 0, writers: [1, 3, 4] }))], 2);
    meet(a, b);
    meet(a, c, c.own);
    a.compact(SHARED, 50 * 86_400_000);
    assert.deepEqual(
      a.writersOf(SHARED).toSorted((one, two) => one - two),
      [1, 2, 3],
    );
  });

  test('only the host itself writes its document afresh', () => {
    const [a, b] = [replica(1), replica(2)];
    a.transact([own('k', '1')], 1);
    meet(a, b, a.own);
    assert.throws(() => b.compact(a.own), /not for n2 to write afresh/);
  });
});
