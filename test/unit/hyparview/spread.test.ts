import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIMITS, Node, sfc32 } from '../../../src/hyparview-ts/index.ts';
import type {
  LinkState,
  Message,
  MessageOf,
  Output,
  TimerKey,
} from '../../../src/hyparview-ts/index.ts';
import { peer, sent } from './subject.ts';

function state(id: string, sequence = 1): LinkState {
  return { origin: peer(id), incarnation: 1, sequence, left: false, neighbours: [] };
}

class Subject {
  readonly node = new Node({ self: peer('self'), random: sfc32(3), incarnation: 1 });
  readonly #timers = new Map<TimerKey, number>();
  now = 0;

  constructor(...neighbours: string[]) {
    for (const id of neighbours) this.receive(id, { type: 'neighbor', high: true });
    this.fire('publish'); // its own state, so that what follows is of others only
    this.fire('flush');
  }

  #take(outputs: Output[]): Output[] {
    for (const output of outputs) {
      if (output.type === 'schedule') this.#timers.set(output.key, output.atMs);
    }
    return outputs;
  }

  receive(from: string, message: Message): Output[] {
    const input = { type: 'received', from: peer(from), message } as const;
    return this.#take(this.node.handle(input, this.now));
  }

  fire(key: TimerKey): Output[] {
    this.now = this.#timers.get(key) ?? this.now;
    this.#timers.delete(key);
    return this.#take(this.node.handle({ type: 'timer', key }, this.now));
  }

  tell(from: string, purpose: MessageOf<'states'>['purpose'], states: LinkState[]): Output[] {
    return this.receive(from, { type: 'states', purpose, states });
  }
}

const many = (count: number, prefix = 'n'): LinkState[] =>
  Array.from({ length: count }, (_, i) => state(`${prefix}${i}`));

test('a neighbour whose news are mostly known is pruned from the tree, one with as many new ones is not', () => {
  const subject = new Subject('a', 'b');
  subject.tell('a', 'tree', many(4));
  const half = subject.tell('b', 'tree', [...many(2), ...many(2, 'x')]);
  assert.deepEqual(sent(half, 'prune'), []);
  const mostly = subject.tell('b', 'tree', [...many(3), state('y')]);
  assert.deepEqual(sent(mostly, 'prune'), [{ to: 'b', message: { type: 'prune', states: true } }]);
});

test('news go whole along the tree and as versions along every other link, back to nobody they came from', () => {
  const subject = new Subject('a', 'b', 'c', 'd');
  for (const id of ['c', 'd']) subject.receive(id, { type: 'prune', states: true });
  subject.tell('a', 'tree', many(2));
  const out = subject.fire('flush');
  assert.deepEqual(sent(out, 'states'), [
    { to: 'b', message: { type: 'states', purpose: 'tree', states: many(2) } },
  ]);
  assert.deepEqual(
    sent(out, 'versions').map(({ to, message }) => [to, message.versions.length]),
    [
      ['c', 2],
      ['d', 2],
    ],
  );
});

test('in a storm one link that is not of the tree hears of the versions, and another the next time', () => {
  const subject = new Subject('a', 'b', 'c', 'd');
  for (const id of ['c', 'd']) subject.receive(id, { type: 'prune', states: true });
  const told = ['n', 'm'].map((prefix) => {
    subject.tell('a', 'tree', many(100, prefix));
    const versions = sent(subject.fire('flush'), 'versions');
    assert.deepEqual(
      versions.map(({ message }) => message.versions.length),
      [100],
    );
    return versions[0]?.to ?? '';
  });
  assert.deepEqual(told.toSorted(), ['c', 'd']);
});

test('who has nothing in a bucket is sent all of it at once, and asked for versions only where both have some', () => {
  const subject = new Subject('a');
  subject.tell('a', 'sync', many(300));
  const nothing = Array.from({ length: LIMITS.buckets }, () => 0);
  const out = subject.receive('a', { type: 'sync', buckets: nothing });
  const got = sent(out, 'states').flatMap(({ message }) =>
    message.states.map(({ origin }) => origin.id),
  );
  assert.deepEqual(got.toSorted(), [...many(300).map(({ origin }) => origin.id), 'self'].sort());
  assert.deepEqual(sent(out, 'versions'), []);
  const other = subject.receive('a', { type: 'sync', buckets: nothing.map(() => 1) });
  assert.deepEqual(sent(other, 'states'), []);
  assert.equal(sent(other, 'versions')[0]?.message.versions.length, 301);
});

test('failure news is passed on at once, however much of it there is', () => {
  const subject = new Subject('a', 'b');
  for (let i = 0; i < 100; i++) {
    const out = subject.tell('a', 'urgent', [state('n', i + 1)]);
    assert.deepEqual(
      sent(out, 'states').map(({ to }) => to),
      ['b'],
    );
  }
});
