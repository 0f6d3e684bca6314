/** One host's replication: batches to the count, joining, what is told, garbage. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ephemeral, type Fact } from '../../../src/cluster/ephemeral.ts';
import { EMPTY_DIGEST } from '../../../src/cluster/exchange.ts';
import type { ReplicationOutput } from '../../../src/cluster/replication-types.ts';
import {
  decodeReplication,
  encodeReplication,
  type ReplicationMessage,
} from '../../../src/cluster/replication-wire.ts';
import { Replication } from '../../../src/cluster/replication.ts';
import { sfc32 } from '../../../src/hyparview-ts/random.ts';
import { KvStore } from '../../../src/state/kv.ts';
import { Kv, type KvOperation } from '../../../src/state/replica/kv.ts';
import { Replica, SHARED, type Update } from '../../../src/state/replica/replica.ts';
import { batches, One, sent, WALL } from './one.ts';

const types = (outputs: readonly ReplicationOutput[]): string[] => outputs.map(({ type }) => type);
const wake = (outputs: readonly ReplicationOutput[]): number[] =>
  outputs.flatMap((output) => (output.type === 'schedule' ? [output.atMs] : []));

test('the first write goes out at once, those of the next 10 ms together, each stored before', () => {
  const one = new One('a');
  assert.deepEqual(types(one.write('k0', 'x', 100)).slice(0, 3), ['store', 'changed', 'broadcast']);
  const second = one.write('k1', 'x', 101);
  assert.deepEqual(types(second), ['store', 'changed', 'schedule']);
  assert.deepEqual(wake(second), [110]);
  for (let i = 2; i < 50; i++)
    assert.deepEqual(types(one.write(`k${i}`, 'x', 105)), types(second).slice(0, 2));
  assert.deepEqual(batches(one.give({ type: 'timer' }, 109)), []);
  assert.deepEqual(batches(one.give({ type: 'timer' }, 110)), [49]);
  assert.deepEqual(batches(one.give({ type: 'timer' }, 120)), []);
  assert.deepEqual(batches(one.write('k', 'y', 120)), [1]);
});

test('what its caller stored is not stored again, and goes out as anything else', () => {
  const one = new One('a');
  const writes = [{ document: 'shared' as const, key: 'k', value: '1' }];
  const done = one.replica.transact(writes, WALL);
  assert.deepEqual(types(one.give({ type: 'local', ...done, stored: true }, 0)).slice(0, 2), [
    'changed',
    'broadcast',
  ]);
  const fresh = { updates: [one.replica.compact(SHARED)], changed: [], stored: true } as const;
  assert.deepEqual(types(one.give({ type: 'local', ...fresh }, 100)).slice(0, 1), ['broadcast']);
});

test('what several updates of one broadcast changed is told once, after all of them are stored', () => {
  const [one, other] = [new One('a'), new One('bb')];
  const kv = { own: new Kv(other.replica), here: new Kv(one.replica) };
  const store = new KvStore({ kv: () => kv.here, exclusive: (work) => work(), write: () => [] });
  const watched: unknown[] = [];
  store.follow([], ({ path, before, after }) => watched.push([path[0], before, after]));
  const does = (operation: KvOperation, nowMs: number): ReplicationOutput[] => {
    const done = other.replica.transact(kv.own.writes([operation]), WALL + nowMs);
    return other.give({ type: 'local', ...done }, nowMs);
  };
  const path = ['hits'];
  const told = (outputs: readonly ReplicationOutput[], nowMs: number): void => {
    for (const output of outputs) {
      if (output.type !== 'broadcast') continue;
      const heard = one.give({ type: 'broadcast', origin: 'bb', bytes: output.bytes }, nowMs);
      const order = types(heard).filter((type) => type === 'store' || type === 'changed');
      assert.deepEqual(order.indexOf('changed'), order.length - 1, order.join(' '));
      for (const one of heard) if (one.type === 'changed') store.changed(one.changed);
    }
  };
  told(does({ do: 'increment', path, by: 1 }, 0), 0);
  for (const nowMs of [1, 2, 3]) does({ do: 'increment', path, by: 1 }, nowMs);
  does({ do: 'enable', path: ['lock'] }, 4);
  does({ do: 'disable', path: ['lock'] }, 5);
  does({ do: 'set', path: ['leader'], value: 'x' }, 6);
  does({ do: 'set', path: ['leader'], value: 'y' }, 7);
  told(other.give({ type: 'timer' }, 20), 20);
  const count = (value: number): unknown => ({ type: 'counter', value });
  assert.deepEqual(watched, [
    ['hits', undefined, count(1)],
    ['hits', count(1), count(4)],
    ['leader', undefined, { type: 'register', value: 'y' }],
  ]);
});

test('facts beyond what a broadcast holds begin another one', () => {
  const one = new One('a');
  const counts: number[] = [];
  const note = (outputs: readonly ReplicationOutput[]): void => {
    for (const output of outputs) {
      const message = output.type === 'broadcast' ? decodeReplication(output.bytes) : undefined;
      if (message?.type === 'facts') counts.push(message.facts.length);
    }
  };
  const state = (key: string, nowMs: number): void =>
    note(
      one.give(
        { type: 'fact', key, value: Uint8Array.of(1), forMs: 5000, priority: 'normal' },
        nowMs,
      ),
    );
  state('first', 0);
  for (let i = 0; i < 450; i++) state(`f${i}`, 1);
  note(one.give({ type: 'timer' }, 20));
  assert.deepEqual(counts, [1, 200, 200, 50]);
});

test('a full batch does not wait, and what is larger than one is told of, not sent', () => {
  const one = new One('a', [], { batchBytesMax: 1000 });
  one.give({ type: 'up', peer: 'b' }, 0);
  one.write('k', 'x', 1);
  assert.deepEqual(batches(one.write('k1', 'x'.repeat(500), 2)), []);
  assert.deepEqual(batches(one.write('k2', 'x'.repeat(500), 2)), [1]);
  const large = one.write('k3', 'x'.repeat(2000), 3);
  assert.deepEqual(batches(large), []);
  const due = one.give({ type: 'timer' }, 12);
  assert.deepEqual(batches(due), [1]);
  const digest = one.replica.digest(SHARED) ?? '';
  assert.deepEqual(sent(due), [
    { type: 'digests', digests: [{ document: SHARED, digest }], range: undefined },
  ]);
});

test('a broadcast that comes back to its origin does nothing', () => {
  const one = new One('a');
  const out = one.write('k', 'x', 0).find((output) => output.type === 'broadcast');
  assert.ok(out?.type === 'broadcast');
  assert.deepEqual(one.give({ type: 'broadcast', origin: 'a', bytes: out.bytes }, 1), []);
  const other = new One('bb');
  const taken = other.give({ type: 'broadcast', origin: 'a', bytes: out.bytes }, 1);
  assert.deepEqual(types(taken).slice(0, 2), ['store', 'changed']);
});

test('a document in which nothing ever was has the digest of one that is not there', () => {
  assert.equal(new One('a').replica.digest(SHARED), EMPTY_DIGEST);
});

test('what only this host knew of an older epoch is broadcast, after the new one is stored', () => {
  const [one, other] = [new One('a'), new One('bb')];
  one.write('mine', 'x', 0);
  const update = other.replica.compact(SHARED);
  const bytes = encodeReplication({ type: 'updates', updates: [update] });
  const taken = one.give({ type: 'broadcast', origin: 'bb', bytes }, 100);
  const [notice, store, cast] = taken;
  assert.ok(notice?.type === 'notice' && notice.notice.type === 'epoch');
  assert.ok(store?.type === 'store' && store.whole);
  assert.deepEqual(store.updates, [one.replica.whole(SHARED)]);
  assert.ok(cast !== undefined);
  assert.deepEqual(batches([cast]), [1]);
});

test('of what an epoch missed each host broadcasts its own, and tells neighbours of the rest', () => {
  const hosts = ['a', 'bb', 'ccc', 'dddd'].map((node) => new One(node));
  const [, writer, ...others] = hosts;
  const [keeper] = hosts;
  assert.ok(keeper && writer);
  const update = keeper.replica.compact(SHARED); // before it hears of:
  const [cast] = writer.write('theirs', 'x', 0).filter(({ type }) => type === 'broadcast');
  assert.ok(cast?.type === 'broadcast');
  for (const one of others) {
    one.give({ type: 'up', peer: 'a' }, 0);
    one.give({ type: 'broadcast', origin: 'bb', bytes: cast.bytes }, 1);
  }
  const bytes = encodeReplication({ type: 'updates', updates: [update] });
  const taken = [writer, ...others].map((one) =>
    one.give({ type: 'broadcast', origin: 'a', bytes }, 100),
  );
  assert.deepEqual(taken.map(batches), [[1], [], []]);
  const digest = writer.replica.digest(SHARED) ?? '';
  const told = { type: 'digests', digests: [{ document: SHARED, digest }], range: undefined };
  assert.deepEqual(taken.map(sent), [[], [told], [told]]);
});

test('a neighbour that broadcasts into an older epoch is told, others are not', () => {
  const [one, other] = [new One('a'), new One('bb')];
  one.replica.compact(SHARED);
  const [cast] = other.write('k', 'x', 0).filter(({ type }) => type === 'broadcast');
  assert.ok(cast?.type === 'broadcast');
  const heard = (): ReplicationMessage[] =>
    sent(one.give({ type: 'broadcast', origin: 'bb', bytes: cast.bytes }, 0));
  assert.deepEqual(heard(), []);
  one.give({ type: 'up', peer: 'bb' }, 0);
  const digest = one.replica.digest(SHARED) ?? '';
  assert.deepEqual(heard(), [
    { type: 'digests', digests: [{ document: SHARED, digest }], range: undefined },
  ]);
});

test('a neighbour whose list lacks a document is told of it', () => {
  const one = new One('a');
  one.write('k', 'x', 0);
  one.give({ type: 'up', peer: 'p' }, 1);
  const digest = one.replica.digest(SHARED) ?? '';
  const told = (after: string, upTo: string): ReplicationMessage[] =>
    sent(one.tell('p', { type: 'digests', digests: [], range: { after, upTo } }, 100));
  const expected = [{ type: 'digests', digests: [{ document: SHARED, digest }], range: undefined }];
  assert.deepEqual(told('', ''), expected);
  assert.deepEqual(told('node:x', SHARED), expected);
  assert.deepEqual(told(SHARED, ''), []);
  assert.deepEqual(told('', 'node:x'), []);
});

test('whoever still knows more after an answer tells so', () => {
  const [one, other] = [new One('a'), new One('bb')];
  one.write('mine', 'x', 0);
  other.write('theirs', 'x', 0);
  one.give({ type: 'up', peer: 'bb' }, 1);
  const theirs = { document: SHARED, digest: other.replica.digest(SHARED) ?? '' };
  const [ask] = sent(one.tell('bb', { type: 'digests', digests: [theirs], range: undefined }, 2));
  assert.ok(ask?.type === 'ask');
  const update = other.replica.diff(ask.vector);
  assert.ok(update);
  const total = update.bytes.length;
  const { request } = ask;
  const { digest } = theirs;
  const part = { type: 'part', request, digest, total, offset: 0, ...update } as const;
  const digests = (): unknown => [{ document: SHARED, digest: one.replica.digest(SHARED) }];
  assert.deepEqual(sent(one.tell('bb', part, 2)), [
    { type: 'got', bytes: total },
    { type: 'digests', digests: digests(), range: undefined },
  ]);
});

/** What `one` stores of the answer of `other` for the shared document. */
function storedOf(one: One, other: One): Extract<ReplicationOutput, { type: 'store' }> {
  one.give({ type: 'up', peer: 'bb' }, 1);
  const digest = other.replica.digest(SHARED) ?? '';
  const digests = [{ document: SHARED, digest }];
  const [ask] = sent(one.tell('bb', { type: 'digests', digests, range: undefined }, 2));
  assert.ok(ask?.type === 'ask');
  const update = other.replica.diff(ask.vector);
  assert.ok(update);
  const total = update.bytes.length;
  const part = { type: 'part', request: ask.request, digest, total, offset: 0, ...update } as const;
  const store = one.tell('bb', part, 2).find(({ type }) => type === 'store');
  assert.ok(store?.type === 'store');
  return store;
}

test('the first answer is stored as the whole of the document, as it came; one that builds on something is not', () => {
  for (const isEpoch of [false, true]) {
    const [one, other] = [new One('a'), new One('bb')];
    other.write('theirs', 'x', 0);
    if (isEpoch) other.replica.compact(SHARED);
    const { whole, updates, clock } = storedOf(one, other);
    assert.equal(whole, true);
    assert.deepEqual(updates, [other.replica.whole(SHARED)]);
    const again = Replica.open({ node: 'a', writer: 901 }, { clock, updates });
    assert.equal(again.digest(SHARED), other.replica.digest(SHARED));
  }
  const [one, other] = [new One('a'), new One('bb')];
  one.write('mine', 'x', 0);
  other.write('theirs', 'x', 0);
  assert.equal(storedOf(one, other).whole, false);
});

test('an answer to one of whose document something waits takes the place of nothing that was stored', () => {
  const [one, other] = [new One('a'), new One('bb')];
  const late = Replica.open({ node: 'ccc', writer: 77 });
  late.transact([{ document: 'shared', key: 'first', value: '1' }], WALL);
  const { updates } = late.transact([{ document: 'shared', key: 'second', value: '2' }], WALL);
  const bytes = encodeReplication({ type: 'updates', updates });
  one.give({ type: 'broadcast', origin: 'ccc', bytes }, 0);
  other.write('theirs', 'x', 0);
  assert.equal(storedOf(one, other).whole, false);
});

/** Services in the shared document, backends in those of 100 hosts. */
function cluster(): Update[] {
  const updates: Update[] = [];
  for (let h = 0; h < 100; h++) {
    const host = Replica.open({ node: `n${h}`, writer: h + 1 });
    host.transact(
      Array.from({ length: 100 }, (_, i) => ({
        document: 'own' as const,
        key: `backend/svc-${i * 10 + (h % 10)}/http/10.0.${h}.${i}/8080`,
        value: '{}',
      })),
      WALL,
    );
    updates.push(host.whole(host.own));
  }
  const shared = Replica.open({ node: 'n0', writer: 1 });
  shared.transact(
    Array.from({ length: 1000 }, (_, i) => ({
      document: 'shared' as const,
      key: `service/svc-${i}`,
      value: JSON.stringify({ vips: [`240.0.${i >> 8}.${i & 255}`], ports: [] }),
    })),
    WALL,
  );
  return [...updates, shared.whole(SHARED)];
}

test('a joiner of 1,000 services × 10 backends asks once for each document, within the window', () => {
  const config = { partBytes: 4096, windowBytes: 10_000 };
  const updates = cluster();
  const hosts = new Map([
    ['a', new One('a', updates, config)],
    ['bb', new One('bb', updates, config)],
    ['ccc', new One('ccc', [], config)],
  ]);
  const asked = new Map<string, number>();
  const underWay = new Map<string, number>();
  const queue: { to: string; from: string; bytes: Uint8Array }[] = [];
  const note = (from: string, to: string, bytes: Uint8Array): void => {
    const message = decodeReplication(bytes);
    if (message?.type === 'ask')
      asked.set(message.vector.document, (asked.get(message.vector.document) ?? 0) + 1);
    const pair = message?.type === 'part' ? `${from}${to}` : `${to}${from}`;
    const change =
      message?.type === 'part'
        ? message.bytes.length
        : message?.type === 'got'
          ? -message.bytes
          : 0;
    const now = (underWay.get(pair) ?? 0) + change;
    assert.ok(now <= 10_000, `${now} bytes under way`);
    underWay.set(pair, now);
  };
  const run = (from: string, outputs: readonly ReplicationOutput[]): void => {
    for (const output of outputs) {
      if (output.type !== 'send') continue;
      note(from, output.to, output.bytes);
      queue.push({ to: output.to, from, bytes: output.bytes });
    }
  };
  for (const [x, y] of [
    ['a', 'ccc'],
    ['ccc', 'a'],
    ['bb', 'ccc'],
    ['ccc', 'bb'],
  ] as const)
    run(x, hosts.get(x)?.give({ type: 'up', peer: y }, 0) ?? []);
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { to, from, bytes } = next;
    run(to, hosts.get(to)?.give({ type: 'message', from, bytes }, 1) ?? []);
  }
  const joiner = hosts.get('ccc');
  assert.ok(joiner);
  assert.equal(asked.size, 101);
  assert.deepEqual([...new Set(asked.values())], [1]);
  const of = (one: One | undefined): Map<string, string> =>
    new Map([...(one?.replica.digests() ?? [])].filter(([, digest]) => digest !== EMPTY_DIGEST));
  assert.deepEqual(Object.fromEntries(of(joiner)), Object.fromEntries(of(hosts.get('a'))));
  assert.deepEqual([...joiner.replication.lag().values()], [0, 0]);
});

test('how far a neighbour is ahead is not known before it has told of all that it has', () => {
  const here = new One('a');
  const there = new One('bb', cluster());
  const lag = (): (number | undefined)[] => [...here.replication.lag().values()];
  const digests = sent(there.give({ type: 'up', peer: 'a' }, 0));
  const [greeting] = sent(here.give({ type: 'up', peer: 'bb' }, 0));
  assert.deepEqual(lag(), [undefined]);
  const [summary] = digests;
  assert.ok(summary?.type === 'summary' && greeting?.type === 'summary');
  here.tell('bb', summary, 1);
  assert.deepEqual(lag(), [undefined], 'a summary that differs does not say in how much');
  const [all] = sent(there.tell('a', greeting, 1));
  assert.ok(all?.type === 'digests');
  const middle = all.digests[49]?.document ?? '';
  const half = { ...all, digests: all.digests.slice(0, 50), range: { after: '', upTo: middle } };
  here.tell('bb', half, 2);
  assert.deepEqual(lag(), [undefined]);
  const rest = { ...all, digests: all.digests.slice(50), range: { after: middle, upTo: '' } };
  here.tell('bb', rest, 3);
  assert.deepEqual(lag(), [all.digests.length]);
  const same = new One('ccc', cluster());
  same.give({ type: 'up', peer: 'bb' }, 0);
  same.tell('bb', summary, 1);
  assert.deepEqual([...same.replication.lag().values()], [0]);
  same.give({ type: 'down', peer: 'bb' }, 2);
  same.give({ type: 'up', peer: 'bb' }, 3);
  assert.deepEqual([...same.replication.lag().values()], [undefined]);
});

test('facts reach all, the newest counts, and a new neighbour is told', () => {
  const one = new One('a');
  const value = Uint8Array.of(1);
  const out = one.give({ type: 'fact', key: 'health/x', value, forMs: 500, priority: 'urgent' }, 0);
  const [cast] = out.filter((output) => output.type === 'broadcast');
  assert.ok(cast?.type === 'broadcast' && cast.priority === 'urgent');
  const other = new One('bb', [documentFrom('a')]);
  const taken = other.give({ type: 'broadcast', origin: 'a', bytes: cast.bytes }, 0);
  const changed = { origin: 'a', key: 'health/x', value };
  assert.deepEqual(taken[0], { type: 'facts', changed: [changed] });
  // Not from whom it does not concern.
  assert.equal(
    new One('c').give({ type: 'broadcast', origin: 'z', bytes: cast.bytes }, 0)[0]?.type,
    'schedule',
  );
  const [told] = sent(other.give({ type: 'up', peer: 'c' }, 200)).filter(
    ({ type }) => type === 'facts',
  );
  assert.ok(told?.type === 'facts');
  assert.deepEqual(
    told.facts.map(({ forMs }) => forMs),
    [300],
  );
  assert.deepEqual(other.give({ type: 'timer' }, 500)[0], {
    type: 'facts',
    changed: [{ ...changed, value: undefined }],
  });
});

/** What makes a node known. */
function documentFrom(node: string): Update {
  const host = Replica.open({ node, writer: 100 + node.charCodeAt(node.length - 1) });
  host.transact([{ document: 'own', key: 'node/info', value: '{}' }], WALL);
  return host.whole(host.own);
}

const factOf = (origin: string, key: string): Fact => {
  return { origin, incarnation: 1, sequence: 1, key, forMs: 30_000, value: Uint8Array.of(1) };
};

/** Whose facts are told. */
const toldOf = (outputs: readonly ReplicationOutput[]): string[] =>
  outputs.flatMap((output) =>
    output.type === 'facts' ? output.changed.map(({ origin }) => origin) : [],
  );

test('facts of origins that nobody knows leave the room to those of hosts, and to those of this one', () => {
  const one = new One('a', [documentFrom('host')]);
  one.give({ type: 'up', peer: 'bad' }, 0);
  for (let i = 0; i < 25_000; i += 1000) {
    const facts = Array.from({ length: 1000 }, (_, n) => factOf(`ghost-${i + n}`, 'k'));
    assert.deepEqual(toldOf(one.tell('bad', { type: 'facts', facts }, 1)), []);
    const bytes = encodeReplication({ type: 'facts', facts: [factOf(`ghost-${i}`, 'k')] });
    const forged = { type: 'broadcast', origin: `ghost-${i}`, bytes } as const;
    assert.deepEqual(toldOf(one.give(forged, 1)), []);
  }
  assert.deepEqual(toldOf(one.tell('bad', { type: 'facts', facts: [factOf('host', 'k')] }, 2)), [
    'host',
  ]);
  const own = { type: 'fact', key: 'k', value: Uint8Array.of(1), forMs: 500 } as const;
  const said = one.give({ ...own, priority: 'urgent' }, 2);
  assert.ok(said.some(({ type }) => type === 'broadcast'));
  assert.ok(!said.some(({ type }) => type === 'notice'));
  const [all] = sent(one.give({ type: 'up', peer: 'ccc' }, 3)).filter(
    ({ type }) => type === 'facts',
  );
  assert.ok(all?.type === 'facts');
  assert.deepEqual(all.facts.map(({ origin }) => origin).sort(), ['a', 'host']);
});

test('a neighbour is believed what it says of itself, though its document is yet to come', () => {
  const one = new One('a');
  one.give({ type: 'up', peer: 'new' }, 0);
  const facts = [factOf('new', 'k'), factOf('else', 'k')];
  assert.deepEqual(toldOf(one.tell('new', { type: 'facts', facts }, 1)), ['new']);
});

test('a joiner is told facts before the documents that they are of, and knows them when these are there', () => {
  const nodes = ['host-1', 'host-2', 'host-3'];
  const there = new One('bb', nodes.map(documentFrom));
  there.give({ type: 'up', peer: 'other' }, 0);
  there.tell('other', { type: 'facts', facts: nodes.map((node) => factOf(node, 'k')) }, 0);
  const joiner = new One('ccc');
  const told: string[] = [];
  const order: string[] = [];
  const queue: { to: One; from: string; bytes: Uint8Array }[] = [];
  const run = (of: One, from: string, outputs: readonly ReplicationOutput[]): void => {
    if (of === joiner) {
      told.push(...toldOf(outputs));
      order.push(...outputs.map(({ type }) => type));
    }
    for (const output of outputs)
      if (output.type === 'send' && output.to !== 'other')
        queue.push({ to: of === joiner ? there : joiner, from, bytes: output.bytes });
  };
  run(there, 'bb', there.give({ type: 'up', peer: 'ccc' }, 5000));
  run(joiner, 'ccc', joiner.give({ type: 'up', peer: 'bb' }, 5000));
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { to, from, bytes } = next;
    const outputs = to.give({ type: 'message', from, bytes }, 5001);
    const isFacts = to === joiner && decodeReplication(bytes)?.type === 'facts';
    if (isFacts) assert.deepEqual(toldOf(outputs), [], 'nobody is known yet');
    run(to, to === joiner ? 'ccc' : 'bb', outputs);
  }
  assert.deepEqual(told.sort(), nodes);
  assert.ok(order.indexOf('changed') < order.indexOf('facts'));
  assert.equal(toldOf(joiner.give({ type: 'timer' }, 29_999)).length, 0);
  const ended = toldOf(joiner.give({ type: 'timer' }, 30_001));
  assert.deepEqual(ended.sort(), nodes, 'when they end everywhere, not when they were met');
});

test('a fact for which there was no room before its document came is known when it is said again', () => {
  const one = new One('a');
  one.give({ type: 'up', peer: 'bad' }, 0);
  const facts = Array.from({ length: 3000 }, (_, n) => factOf(`ghost-${n}`, 'k'));
  one.tell('bad', { type: 'facts', facts }, 0);
  const said = (sequence: number, nowMs: number): ReplicationOutput[] => {
    const bytes = encodeReplication({
      type: 'facts',
      facts: [{ ...factOf('host', 'k'), sequence }],
    });
    return one.give({ type: 'broadcast', origin: 'host', bytes }, nowMs);
  };
  assert.deepEqual(toldOf(said(1, 1)), []);
  const bytes = encodeReplication({ type: 'updates', updates: [documentFrom('host')] });
  assert.deepEqual(toldOf(one.give({ type: 'broadcast', origin: 'host', bytes }, 100)), []);
  assert.deepEqual(toldOf(said(2, 10_001)), ['host']);
});

test('facts of a node that is gone for good are not taken, and do not wait', () => {
  const gone = new Set(['node:host']);
  const replica = Replica.open(
    { node: 'a', writer: 1 },
    { clock: '', updates: [documentFrom('host')] },
  );
  const replication = new Replication({
    replica,
    ephemeral: new Ephemeral('a', 1),
    random: sfc32(1),
    isWelcome: (document) => !gone.has(document),
  });
  const bytes = encodeReplication({ type: 'facts', facts: [factOf('host', 'k')] });
  const heard = { type: 'broadcast', origin: 'host', bytes } as const;
  assert.deepEqual(toldOf(replication.handle(heard, 0, WALL)), []);
  gone.clear();
  const updates = encodeReplication({ type: 'updates', updates: [documentFrom('else')] });
  const other = { type: 'broadcast', origin: 'else', bytes: updates } as const;
  assert.deepEqual(toldOf(replication.handle(other, 1, WALL)), []);
  assert.deepEqual(toldOf(replication.handle(heard, 2, WALL)), ['host']);
});

test('no bytes make it throw, as a broadcast or from a peer', () => {
  const source = new One('bb');
  source.write('k', 'x', 0);
  source.give({ type: 'up', peer: 'a' }, 0);
  const real: Uint8Array[] = [
    encodeReplication({ type: 'updates', updates: [source.replica.whole(SHARED)] }),
    encodeReplication({ type: 'ask', request: 1, vector: source.replica.vector(SHARED) }),
    encodeReplication({ type: 'summary', high: 1, low: 2 }),
    encodeReplication({
      type: 'digests',
      digests: [{ document: SHARED, digest: '0.0.1' }],
      range: { after: '', upTo: '' },
    }),
    encodeReplication({
      type: 'part',
      request: 1,
      digest: 'x',
      total: source.replica.whole(SHARED).bytes.length,
      offset: 0,
      ...source.replica.whole(SHARED),
    }),
  ];
  const damaged = fc
    .tuple(fc.constantFrom(...real), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 3 }))
    .map(([bytes, changes]) => {
      const copy = bytes.slice();
      for (const [at, value] of changes) copy[at % copy.length] = value;
      return copy;
    });
  const bytes = fc.oneof(damaged, fc.uint8Array({ maxLength: 60 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(bytes, fc.boolean()), { maxLength: 12 }), (all) => {
      const one = new One('a');
      one.give({ type: 'up', peer: 'bb' }, 0);
      one.tell(
        'bb',
        { type: 'digests', digests: [{ document: SHARED, digest: 'y' }], range: undefined },
        0,
      );
      for (const [i, [some, isBroadcast]] of all.entries())
        one.give(
          isBroadcast
            ? { type: 'broadcast', origin: 'bb', bytes: some }
            : { type: 'message', from: 'bb', bytes: some },
          i,
        );
    }),
    { numRuns: 1000 },
  );
});
