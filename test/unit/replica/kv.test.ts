import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Kv, type Json, type KvOperation, type Path } from '../../../src/state/replica/kv.ts';
import { Replica, SHARED, WriteError, type Update } from '../../../src/state/replica/replica.ts';
import { KvModel, type Op } from './kv-model.ts';

interface Host {
  readonly replica: Replica;
  readonly kv: Kv;
  readonly model: KvModel;
  /** From each other host, in the order it was sent. */
  readonly inbox: { readonly update: Update; readonly op: Op }[][];
  changes: number;
}

class Hosts {
  readonly hosts: readonly Host[];
  #ids = 0;
  #ms = 1000;

  constructor(count: number) {
    this.hosts = Array.from({ length: count }, (_, i) => {
      const replica = Replica.open({ node: `n${i}`, writer: i + 1 });
      const inbox = Array.from({ length: count }, () => []);
      return { replica, kv: new Kv(replica), model: new KvModel(), inbox, changes: 0 };
    });
  }

  at(index: number): Host {
    const host = this.hosts[index];
    if (host === undefined) throw new Error('no such host');
    return host;
  }

  do(index: number, operation: KvOperation, later = 1): void {
    const { replica, kv, model } = this.at(index);
    this.#ms += later;
    const total =
      operation.do === 'increment' ? model.part(index, operation.path) + operation.by : 0;
    const knew = new Set(model.ops.keys());
    const op: Op = { id: this.#ids++, host: index, operation, knew, at: this.#ms, total };
    model.learn(op);
    const before = kv.all();
    const { updates, changed } = replica.transact(kv.writes([operation]), this.#ms);
    const told = kv.changes(changed);
    assert.equal(told.length > 0, JSON.stringify(before) !== JSON.stringify(kv.all()));
    for (const [to, { inbox }] of this.hosts.entries())
      for (const update of updates) if (to !== index) inbox[index]?.push({ update, op });
    this.compare(index);
  }

  deliver(to: number, from: number): boolean {
    const { replica, kv, model, inbox } = this.at(to);
    const next = inbox[from]?.shift();
    if (next === undefined) return false;
    const before = kv.all();
    const { changed, notices } = replica.receive(next.update, this.#ms);
    assert.deepEqual(notices, []);
    const told = kv.changes(changed);
    assert.equal(told.length > 0, JSON.stringify(before) !== JSON.stringify(kv.all()));
    model.learn(next.op);
    this.compare(to);
    return true;
  }

  compare(index: number): void {
    const { kv, model } = this.at(index);
    assert.deepEqual(kv.all(), model.all());
  }

  /** Everything arrives. */
  settle(): void {
    for (const [to] of this.hosts.entries())
      for (const [from] of this.hosts.entries()) while (this.deliver(to, from));
    const [first] = this.hosts;
    for (const { kv, replica } of this.hosts) {
      assert.deepEqual(kv.all(), first?.kv.all());
      assert.equal(replica.digests().get(SHARED), first?.replica.digests().get(SHARED));
    }
  }
}

const path = fc.constantFrom<Path[]>(['a'], ['b'], ['m', 'a'], ['m', 'm', 'a']);
const element = fc.constantFrom('x', 'y/ä\n', '%');
const operation: fc.Arbitrary<KvOperation> = fc.oneof(
  fc.record({ do: fc.constant('set' as const), path, value: fc.nat(3) }),
  fc.record({ do: fc.constantFrom('add' as const, 'remove' as const), path, element }),
  fc.record({ do: fc.constantFrom('enable' as const, 'disable' as const), path }),
  fc.record({ do: fc.constant('increment' as const), path, by: fc.integer({ min: -5, max: 5 }) }),
  fc.record({
    do: fc.constant('delete' as const),
    path: fc.constantFrom<Path[]>(['a'], ['m'], ['m', 'm']),
    type: fc.constantFrom(
      'register' as const,
      'set' as const,
      'flag' as const,
      'counter' as const,
      'map' as const,
      'map' as const,
    ),
  }),
);

const numRuns = Number(process.env['ZEROHOP_RUNS'] ?? 300);

suite('kv', () => {
  test('three hosts say what a list of operations says, in whatever order they hear of them', () => {
    const step = fc.oneof(
      fc.record({ host: fc.nat(2), operation, later: fc.nat(2) }),
      fc.record({ to: fc.nat(2), from: fc.nat(2) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const hosts = new Hosts(3);
        for (const one of steps) {
          // Of one moment, the later operation of a host has the higher counter, which no model knows.
          if ('operation' in one) hosts.do(one.host, one.operation, one.later + 1);
          else hosts.deliver(one.to, one.from);
        }
        hosts.settle();
      }),
      { numRuns },
    );
  });

  /** Each host does its part without knowing of the other's; then they meet. */
  function atOnce(
    before: readonly KvOperation[],
    first: readonly KvOperation[],
    second: readonly KvOperation[],
  ): Kv {
    const hosts = new Hosts(2);
    for (const one of before) hosts.do(0, one);
    hosts.settle();
    for (const one of first) hosts.do(0, one);
    for (const one of second) hosts.do(1, one);
    hosts.settle();
    return hosts.at(0).kv;
  }

  const p: Path = ['x'];

  test('register: of two values set at once the later one stays', () => {
    const kv = atOnce(
      [],
      [{ do: 'set', path: p, value: 1 }],
      [{ do: 'set', path: p, value: { two: 2 } }],
    );
    assert.deepEqual(kv.get(p, 'register'), { type: 'register', value: { two: 2 } });
  });

  test('register: a value set without knowing of a deletion stays, also the one it had', () => {
    const one: KvOperation = { do: 'set', path: p, value: 1 };
    const kv = atOnce([one], [one], [{ do: 'delete', path: p, type: 'register' }]);
    assert.deepEqual(kv.get(p, 'register'), { type: 'register', value: 1 });
  });

  test('set: an element added and removed at once stays, also if it was there before', () => {
    const add: KvOperation = { do: 'add', path: p, element: 'e' };
    const kv = atOnce([add], [add], [{ do: 'remove', path: p, element: 'e' }]);
    assert.deepEqual(kv.get(p, 'set'), { type: 'set', elements: ['e'] });
  });

  test('set: elements added at once are all there', () => {
    const kv = atOnce(
      [],
      [{ do: 'add', path: p, element: 'b' }],
      [{ do: 'add', path: p, element: 'a' }],
    );
    assert.deepEqual(kv.get(p, 'set'), { type: 'set', elements: ['a', 'b'] });
  });

  test('flag: enabled and disabled at once is enabled', () => {
    const kv = atOnce(
      [{ do: 'enable', path: p }],
      [{ do: 'enable', path: p }],
      [{ do: 'disable', path: p }],
    );
    assert.deepEqual(kv.get(p, 'flag'), { type: 'flag', enabled: true });
  });

  test('counter: what is counted at once adds up', () => {
    const by = (n: number): KvOperation => ({ do: 'increment', path: p, by: n });
    const kv = atOnce([by(10)], [by(1), by(1)], [by(-5)]);
    assert.deepEqual(kv.get(p, 'counter'), { type: 'counter', value: 7 });
  });

  test('counter: a host that counts while another deletes brings back its own part, and no other', () => {
    const hosts = new Hosts(2);
    hosts.do(0, { do: 'increment', path: p, by: 10 });
    hosts.do(1, { do: 'increment', path: p, by: 100 });
    hosts.settle();
    hosts.do(0, { do: 'increment', path: p, by: 1 });
    hosts.do(1, { do: 'delete', path: p, type: 'counter' });
    hosts.settle();
    assert.deepEqual(hosts.at(1).kv.get(p, 'counter'), { type: 'counter', value: 11 });
  });

  test('map: a field written while the map is deleted stays, the others go', () => {
    const set = (name: string, value: number): KvOperation => ({
      do: 'set',
      path: ['m', name],
      value,
    });
    const kv = atOnce(
      [set('a', 1), set('b', 1)],
      [set('a', 2)],
      [{ do: 'delete', path: ['m'], type: 'map' }],
    );
    assert.deepEqual(kv.get(['m'], 'map'), {
      type: 'map',
      fields: [{ name: 'a', value: { type: 'register', value: 2 } }],
    });
  });

  test('map: one name made as two types at once is there as both', () => {
    const kv = atOnce(
      [],
      [{ do: 'set', path: ['m', 'a'], value: 1 }],
      [{ do: 'enable', path: ['m', 'a'] }],
    );
    assert.deepEqual(kv.get(['m'], 'map'), {
      type: 'map',
      fields: [
        { name: 'a', value: { type: 'flag', enabled: true } },
        { name: 'a', value: { type: 'register', value: 1 } },
      ],
    });
  });

  test('several operations in one transaction build on each other', () => {
    const { kv, replica } = new Hosts(1).at(0);
    const by = { do: 'increment', path: p, by: 2 } as const;
    const { changed } = replica.transact(
      kv.writes([
        by,
        by,
        { do: 'add', path: ['s'], element: 'e' },
        { do: 'delete', path: ['s'], type: 'set' },
      ]),
      1,
    );
    assert.deepEqual(kv.changes(changed), [
      { path: p, type: 'counter', before: undefined, after: { type: 'counter', value: 4 } },
    ]);
  });

  test('paths without a name, half characters and counters out of range are refused', () => {
    const { kv } = new Hosts(1).at(0);
    const bad: KvOperation[] = [
      { do: 'enable', path: [] },
      { do: 'enable', path: ['a', ''] },
      { do: 'add', path: p, element: '\ud800' },
      { do: 'increment', path: p, by: 0.5 },
      { do: 'increment', path: p, by: 2 ** 43 },
    ];
    for (const one of bad) assert.throws(() => kv.writes([one]), WriteError);
  });

  test('a value with more levels than can be written again is refused, and of others not read', () => {
    const { kv, replica } = new Hosts(1).at(0);
    const nested = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`;
    const set = (text: string): KvOperation => ({
      do: 'set',
      path: p,
      value: JSON.parse(text) as Json,
    });
    assert.throws(() => kv.writes([set(nested(257))]), WriteError);
    const { changed } = replica.transact(kv.writes([set(nested(256))]), 1);
    assert.equal(kv.changes(changed).length, 1);
    const [first] = changed;
    assert.ok(first !== undefined);
    const { key } = first;
    const theirs = replica.transact([{ document: 'shared', key, value: nested(30_000) }], 2);
    assert.deepEqual(kv.changes(theirs.changed)[0]?.after, undefined);
    assert.equal(kv.get(p, 'register'), undefined);
  });
});
