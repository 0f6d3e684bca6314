/** Paths as people write them, and the store as the API asks for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  changeText,
  formatPath,
  isBelow,
  parsePath,
  valueText,
} from '../../../src/state/kv-text.ts';
import { KvStore } from '../../../src/state/kv.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { Kv, type KvChange } from '../../../src/state/replica/kv.ts';
import { Replica } from '../../../src/state/replica/replica.ts';
import { FakeKv } from '../api/fake-kv.ts';

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 });
const path = fc.array(name, { minLength: 1, maxLength: 5 });

test('a path survives being written down, and is one word', () => {
  fc.assert(
    fc.property(path, (names) => {
      const text = formatPath(names);
      assert.deepEqual(parsePath(text), names);
      assert.doesNotMatch(text, /\s/);
      assert.equal(text.split('/').length, names.length);
    }),
  );
  assert.equal(formatPath(['a/b', '50%', 'x y', 'ü']), 'a%2Fb/50%25/x%20y/ü');
  assert.deepEqual(parsePath('a%2Fb/50%25/x y'), ['a/b', '50%', 'x y']);
  for (const wrong of ['', '/', 'a/', '/a', 'a//b', '%', '50%', '%zz', '%ff'])
    assert.equal(parsePath(wrong), undefined, wrong);
});

test('what is below a path begins with all of its names', () => {
  assert.ok(isBelow(['a', 'b'], ['a']));
  assert.ok(isBelow(['a'], ['a']));
  assert.ok(isBelow(['a'], []));
  assert.ok(!isBelow(['ab'], ['a']));
  assert.ok(!isBelow(['a'], ['a', 'b']));
});

test('a value takes one line', () => {
  assert.equal(valueText({ type: 'register', value: 'a\n"b"' }), String.raw`"a\n\"b\""`);
  assert.equal(valueText({ type: 'set', elements: ['a', 'b'] }), '["a","b"]');
  assert.equal(valueText({ type: 'counter', value: -3 }), '-3');
  assert.equal(valueText(undefined), '(none)');
  const change: KvChange = {
    path: ['a b', 'c'],
    type: 'flag',
    before: undefined,
    after: { type: 'flag', enabled: true },
  };
  assert.equal(changeText(change), 'flag a%20b/c: (none) → enabled');
});

test('a read is of a path and what is below it, or of one type', async () => {
  const kv = new FakeKv();
  await kv.write([
    { do: 'set', path: ['a'], value: 1 },
    { do: 'increment', path: ['a'], by: 2 },
    { do: 'set', path: ['a', 'b'], value: 3 },
    { do: 'add', path: ['a', 'b', 'c'], element: 'x' },
    { do: 'set', path: ['ab'], value: 4 },
  ]);
  const paths = (...args: Parameters<FakeKv['read']>): string[] =>
    kv.read(...args).map((entry) => `${entry.value.type} ${formatPath(entry.path)}`);
  assert.deepEqual(paths(['a']), ['register a', 'counter a', 'register a/b', 'set a/b/c']);
  assert.deepEqual(paths(['a'], 'register'), ['register a']);
  assert.deepEqual(paths(['a'], 'set'), []);
  assert.deepEqual(paths(['a'], 'map'), ['register a/b', 'set a/b/c']);
  assert.deepEqual(paths(['a', 'b', 'c']), ['set a/b/c']);
  assert.deepEqual(paths([]), [
    'register a',
    'counter a',
    'register a/b',
    'set a/b/c',
    'register ab',
  ]);
  assert.deepEqual(paths(['nothing']), []);
});

test('what cannot be written is refused as a whole, with a reason for people', async () => {
  const kv = new FakeKv();
  const half = [
    { do: 'set', path: ['a'], value: 1 },
    { do: 'set', path: ['b', ''], value: 1 },
  ] as const;
  const refused = async (work: Promise<unknown>, reason: RegExp): Promise<void> =>
    await assert.rejects(
      work,
      (error) =>
        error instanceof ProblemError &&
        error.problems[0]?.code === 'invalid' &&
        reason.test(error.message),
    );
  await refused(kv.write(half), /none is empty/);
  await refused(kv.write([{ do: 'set', path: ['x'.repeat(2000)], value: 1 }]), /cannot be a key/);
  await refused(kv.write([{ do: 'set', path: ['\ud800'], value: 1 }]), /half a character/);
  await refused(kv.write([{ do: 'set', path: ['a'], value: 'x'.repeat(70_000) }]), /at most 65536/);
  await refused(kv.write([{ do: 'increment', path: ['a'], by: 2 ** 43 }]), /±2\^42/);
  assert.throws(() => kv.read(['']), ProblemError);
  assert.deepEqual(kv.read([]), []);
});

test('a follower is told of every change below its path, here and from others, until it ends', async () => {
  const [here, there] = [new FakeKv(1), new FakeKv(2)];
  const told: string[] = [];
  const end = here.follow(['a'], (change) => told.push(changeText(change)));
  const changes = await here.write([
    { do: 'set', path: ['a', 'x'], value: 1 },
    { do: 'set', path: ['ab'], value: 1 },
    { do: 'set', path: ['a', 'x'], value: 2 },
  ]);
  assert.deepEqual(changes.map(changeText), [
    'register a/x: (none) → 2',
    'register ab: (none) → 1',
  ]);
  await there.write([{ do: 'increment', path: ['a', 'hits'], by: 2 }]);
  await here.write([{ do: 'increment', path: ['a', 'hits'], by: 1 }]);
  for (const update of there.updates) here.receive(update);
  assert.deepEqual(told, [
    'register a/x: (none) → 2',
    'counter a/hits: (none) → 1',
    'counter a/hits: 1 → 3',
  ]);
  end();
  await here.write([{ do: 'delete', path: ['a'], type: 'map' }]);
  assert.equal(told.length, 3);
});

test('when other state takes the place of this one, followers are told what is different', async () => {
  const make = (writer: number): { replica: Replica; kv: Kv } => {
    const replica = Replica.open({ node: `n${writer}`, writer });
    return { replica, kv: new Kv(replica) };
  };
  const [old, young] = [make(1), make(2)];
  let now = old.kv;
  const store = new KvStore({
    kv: () => now,
    exclusive: (work) => work(),
    write: (writes) => old.replica.transact(writes, 1000).changed,
  });
  await store.write([
    { do: 'set', path: ['same'], value: 1 },
    { do: 'set', path: ['other'], value: 1 },
    { do: 'add', path: ['gone'], element: 'x' },
  ]);
  young.replica.transact(
    young.kv.writes([
      { do: 'set', path: ['same'], value: 1 },
      { do: 'set', path: ['other'], value: 2 },
      { do: 'enable', path: ['new'] },
    ]),
    1000,
  );
  const told: string[] = [];
  store.follow([], (change) => told.push(changeText(change)));
  store.replaced(() => (now = young.kv));
  assert.deepEqual(told.toSorted(), [
    'flag new: (none) → enabled',
    'register other: 1 → 2',
    'set gone: ["x"] → (none)',
  ]);
});
