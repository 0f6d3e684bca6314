/** Facts that end: the newest counts in whatever order they come, and none outlives its time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ephemeral, isNewer, Strangers, type Fact } from '../../../src/cluster/ephemeral.ts';

/** An origin gives each sequence to one fact: what it says follows from that here. */
const fact: fc.Arbitrary<Fact> = fc
  .record({
    origin: fc.constantFrom('a', 'b'),
    incarnation: fc.nat(2),
    sequence: fc.nat(4),
    key: fc.constantFrom('x', 'y'),
  })
  .map((one) => ({
    ...one,
    forMs: 1000,
    value: one.sequence % 3 === 0 ? undefined : Uint8Array.of(one.incarnation, one.sequence),
  }));

const stateOf = (table: Ephemeral, nowMs: number): (number[] | undefined)[] =>
  ['a', 'b'].flatMap((origin) =>
    ['x', 'y'].map((key) => {
      const value = table.value(origin, key, nowMs);
      return value === undefined ? undefined : [...value];
    }),
  );

test('in any order and as often as they come, the newest of each origin and key counts', () => {
  fc.assert(
    fc.property(fc.array(fact, { maxLength: 20 }), fc.nat(), (facts, turn) => {
      const table = new Ephemeral('me', 1);
      table.receive(facts, 0);
      const other = new Ephemeral('me', 1);
      const at = turn % (facts.length + 1);
      const turned = [...facts.slice(at), ...facts.slice(0, at).toReversed(), ...facts];
      for (const one of turned) other.receive([one], 0);
      assert.deepEqual(stateOf(other, 0), stateOf(table, 0));
      const newest = new Map<string, Fact>();
      for (const one of facts) {
        const name = `${one.origin} ${one.key}`;
        const best = newest.get(name);
        if (best === undefined || isNewer(one, best)) newest.set(name, one);
      }
      for (const { origin, key, value } of newest.values())
        assert.deepEqual(table.value(origin, key, 0), value);
    }),
  );
});

test('what others hold of an earlier life of this host is told, and not kept; of this life nothing is', () => {
  const table = new Ephemeral('me', 2);
  const old = { origin: 'me', incarnation: 1, sequence: 9, key: 'x', forMs: 1000 };
  const value = Uint8Array.of(1);
  assert.deepEqual(table.receive([{ ...old, value }], 0), [{ origin: 'me', key: 'x', value }]);
  assert.deepEqual(table.receive([{ ...old, incarnation: 2, value }], 0), []);
  assert.equal(table.value('me', 'x', 0), undefined);
  assert.equal(table.size, 0);
});

test('changes that are told make up what is there, and nothing outlives its time however it is handed on', () => {
  type Step = readonly [table: number, to: number, waitMs: number];
  const step: fc.Arbitrary<Step> = fc.tuple(fc.nat(2), fc.nat(2), fc.nat(200));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const tables = ['a', 'b', 'c'].map((id) => new Ephemeral(id, 1));
      const seen = tables.map(() => new Map<string, number[]>());
      let nowMs = 0;
      tables[0]?.state('k', Uint8Array.of(7), 1000, 0);
      for (const [from, to, waitMs] of steps) {
        nowMs += waitMs;
        const [source, target, told] = [tables[from], tables[to], seen[to]];
        if (source === undefined || target === undefined || told === undefined) continue;
        const changed = [...target.expire(nowMs), ...target.receive(source.facts(nowMs), nowMs)];
        for (const { origin, key, value } of changed)
          if (value === undefined) told.delete(`${origin} ${key}`);
          else told.set(`${origin} ${key}`, [...value]);
        if (to !== 0) {
          const now = target.value('a', 'k', nowMs);
          assert.deepEqual(told.get('a k'), now === undefined ? undefined : [...now]);
        }
        if (nowMs >= 1000) assert.equal(target.value('a', 'k', nowMs), undefined);
      }
    }),
    { numRuns: 500 },
  );
});

test('an older fact that is late does not bring back what ended, while it is remembered', () => {
  const table = new Ephemeral('me', 1, { rememberMs: 100 });
  const of = (sequence: number, forMs: number): Fact => {
    return {
      origin: 'a',
      incarnation: 1,
      sequence,
      key: 'k',
      forMs,
      value: Uint8Array.of(sequence),
    };
  };
  table.receive([of(2, 10)], 0);
  assert.equal(table.expire(10).length, 1);
  assert.deepEqual(table.receive([of(1, 500)], 50), []);
  assert.equal(table.size, 1);
  assert.equal(table.nextAtMs, 1000);
  assert.deepEqual(table.receive([of(1, 500)], 999), []);
  table.expire(1000);
  assert.equal(table.size, 0);
  assert.equal(table.receive([of(1, 500)], 1001).length, 1);
});

test('facts that were withdrawn one after the other are forgotten together, none too early', () => {
  const table = new Ephemeral('me', 1, { rememberMs: 2500 });
  for (let i = 0; i < 1000; i++) table.state(`k${i}`, undefined, 0, i);
  const looks: (readonly [atMs: number, left: number])[] = [];
  while (table.nextAtMs < Infinity) {
    const atMs = table.nextAtMs;
    table.expire(atMs);
    looks.push([atMs, table.size]);
  }
  // The first 501 were withdrawn by 500 ms.
  assert.deepEqual(looks, [
    [3000, 499],
    [4000, 0],
  ]);
});

test('there is a limit to all facts, to those of one origin, to keys, values and times', () => {
  const table = new Ephemeral('me', 1, { factsMax: 5, factsPerOriginMax: 3, forMsMax: 1000 });
  const of = (origin: string, key: string, more: Partial<Fact> = {}): Fact => {
    return {
      origin,
      incarnation: 1,
      sequence: 1,
      key,
      forMs: 10,
      value: Uint8Array.of(1),
      ...more,
    };
  };
  const taken = (...facts: Fact[]): number => table.receive(facts, 0).length;
  assert.equal(taken(...['1', '2', '3', '4'].map((key) => of('a', key))), 3);
  assert.equal(taken(...['1', '2', '3', '4'].map((key) => of('b', key))), 2);
  assert.equal(table.size, 5);
  table.expire(10);
  table.expire(70_000);
  assert.equal(table.size, 0);
  assert.equal(taken(of('a', ''), of('a', 'k'.repeat(257)), of('a', 'k', { forMs: 1001 })), 0);
  assert.equal(taken(of('a', 'k', { value: new Uint8Array(4097) })), 0);
  assert.equal(taken(of('me', 'k')), 0);
});

test('what a host states has ever higher sequences, and its new life counts more', () => {
  const [old, young] = [new Ephemeral('a', 1), new Ephemeral('a', 2)];
  const table = new Ephemeral('b', 1);
  const state = (from: Ephemeral, value: number): Fact[] => {
    const one = from.state('k', Uint8Array.of(value), 1000, 0);
    return one === undefined ? [] : [one];
  };
  const [first, second, third] = [state(old, 1), state(old, 2), state(young, 3)];
  for (const facts of [second, first, third, second]) table.receive(facts, 0);
  assert.deepEqual(table.value('a', 'k', 0), Uint8Array.of(3));
});

const factOf = (origin: string, key: string, forMs = 1000): Fact => {
  return { origin, incarnation: 1, sequence: 1, key, forMs, value: Uint8Array.of(1) };
};
const keys = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, i) => `k${from + i}`);

test('where all is full, who has most gives way to who has fewer, and what gave way is told', () => {
  const table = new Ephemeral('me', 1, { factsMax: 8, factsPerOriginMax: 6 });
  const told = new Set<string>();
  const give = (facts: readonly Fact[], nowMs: number): void => {
    for (const { origin, key, value } of [...table.receive(facts, nowMs), ...table.expire(nowMs)])
      if (value === undefined) told.delete(`${origin} ${key}`);
      else told.add(`${origin} ${key}`);
    const there = table.facts(nowMs).map(({ origin, key }) => `${origin} ${key}`);
    assert.deepEqual([...told].sort(), there.sort());
    assert.ok(table.size <= 8);
  };
  const count = (origin: string): number =>
    [...told].filter((name) => name.startsWith(origin)).length;
  give(
    keys(6).map((key) => factOf('a', key)),
    0,
  );
  give(
    keys(6).map((key) => factOf('b', key)),
    1,
  );
  assert.deepEqual([count('a'), count('b')], [4, 4]);
  give([factOf('c', 'k'), factOf('d', 'k')], 2);
  assert.deepEqual([count('a'), count('b'), count('c'), count('d')], [3, 3, 1, 1]);
  give([factOf('a', 'k9'), factOf('b', 'k9')], 3);
  assert.deepEqual([count('a'), count('b')], [3, 3], 'none takes from its equal');
});

test('what this host says itself is taken, whatever others have filled the table with', () => {
  const table = new Ephemeral('me', 1, { factsMax: 20, factsPerOriginMax: 10 });
  const crowd = Array.from({ length: 20 }, (_, i) => factOf(`n${i}`, 'k'));
  table.receive(crowd, 0);
  for (const key of keys(10)) assert.equal(table.state(key, Uint8Array.of(1), 1000, 1)?.key, key);
  assert.equal(table.state('one more', Uint8Array.of(1), 1000, 1), undefined);
  assert.deepEqual(table.value('me', 'k0', 2), Uint8Array.of(1));
  table.receive(
    keys(10).map((key) => factOf('late', key)),
    2,
  );
  assert.equal(table.facts(2).filter(({ origin }) => origin === 'me').length, 10);
});

test('facts of strangers wait for their origin to be known, not for long and not many', () => {
  const strangers = new Strangers();
  for (const key of keys(3)) strangers.keep(factOf('a', key, 700), 0);
  strangers.keep(factOf('b', 'k'), 0);
  const isA = (origin: string): boolean => origin === 'a';
  assert.deepEqual(
    strangers.take(isA, 300).map(({ key, forMs }) => [key, forMs]),
    keys(3).map((key) => [key, 400]),
  );
  assert.equal(strangers.size, 1);
  for (const key of keys(5000)) strangers.keep(factOf('x', key), 1000);
  assert.equal(strangers.size, 2000);
  strangers.keep(factOf('a', 'k'), 11_001);
  assert.deepEqual(
    strangers.take(isA, 11_002).map(({ origin }) => origin),
    ['a'],
    'the others have gone by then',
  );
  assert.equal(strangers.size, 0);
});
