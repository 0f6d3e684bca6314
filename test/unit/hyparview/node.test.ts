import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '../../../src/hyparview-ts/codec.ts';
import {
  DEFAULTS,
  LIMITS,
  Node,
  PAPER,
  knownPeers,
  sfc32,
} from '../../../src/hyparview-ts/index.ts';
import type { Config, Message, Output } from '../../../src/hyparview-ts/index.ts';
import { peer, sent, Subject } from './subject.ts';

/** With the settings of the papers, whatever the defaults are. */
class PaperSubject extends Subject {
  constructor(config: Partial<Config> = {}) {
    super({ ...PAPER, ...config }, 5);
  }
}

test('join() asks one seed, and the next one when that does not answer', () => {
  const subject = new PaperSubject();
  const seeds = [peer('a'), peer('b')];
  const first = sent(subject.node.handle({ type: 'join', seeds }, 0), 'join');
  assert.equal(first.length, 1);
  const second = sent(subject.run(DEFAULTS.joinTimeoutMs + 1), 'join');
  assert.equal(second.length, 1);
  assert.notEqual(first[0]?.to, second[0]?.to);
});

test('a join is passed on to all other neighbours as ForwardJoin with ARWL', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  const outputs = subject.receive('new', { type: 'join' });
  assert.deepEqual(
    sent(outputs, 'forward-join').map(({ to, message }) => [to, message.peer.id, message.ttl]),
    [
      ['a', 'new', PAPER.activeWalkLength],
      ['b', 'new', PAPER.activeWalkLength],
    ],
  );
  assert.ok(subject.node.views.active.has('new'));
});

test('join() drops a random neighbour, with a Disconnect, when the active view is full', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b', 'c', 'd', 'e');
  const outputs = subject.receive('new', { type: 'join' });
  const dropped = sent(outputs, 'disconnect');
  assert.equal(dropped.length, 1);
  assert.equal(subject.node.views.active.size, 5);
  assert.ok(subject.node.views.passive.has(dropped[0]?.to ?? ''));
});

test('a ForwardJoin leaves the newcomer in the passive view at PRWL and walks on', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  const ttl = PAPER.passiveWalkLength;
  const outputs = subject.receive('a', { type: 'forward-join', peer: peer('new'), ttl });
  assert.ok(subject.node.views.passive.has('new'));
  assert.deepEqual(
    sent(outputs, 'forward-join').map(({ to, message }) => [to, message.ttl]),
    [['b', ttl - 1]],
  );
});

test('a ForwardJoin at its end asks the newcomer to be a neighbour, with high priority', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  const outputs = subject.receive('a', { type: 'forward-join', peer: peer('new'), ttl: 0 });
  assert.deepEqual(sent(outputs, 'neighbor'), [
    { to: 'new', message: { type: 'neighbor', high: true } },
  ]);
});

test('a full node refuses a neighbour of low priority and takes one of high', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b', 'c', 'd', 'e');
  const ask = (high: boolean): boolean | undefined =>
    sent(subject.receive('x', { type: 'neighbor', high }), 'neighbor-reply')[0]?.message.accepted;
  assert.deepEqual([ask(false), ask(true)], [false, true]);
});

test('a neighbour that asks to be one had lost its end: it is told what it missed, once', () => {
  const subject = new PaperSubject();
  subject.link('a');
  subject.node.handle(
    { type: 'broadcast', payload: Uint8Array.of(7), priority: 'normal' },
    subject.now,
  );
  subject.link('a', 'a');
  const told = sent(subject.run(DEFAULTS.lazyMs), 'ihave');
  assert.deepEqual(
    told.map(({ to, message }) => [to, message.announcements.length]),
    [['a', 1]],
  );
});

test('a failed neighbour is replaced from the passive view at once, and told to nobody as passive', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  subject.receive('a', { type: 'shuffle', origin: peer('a'), ttl: 0, peers: [peer('p')] });
  subject.run(100);
  const outputs = subject.node.handle({ type: 'unreachable', peer: 'b' }, subject.now);
  assert.deepEqual(
    sent(outputs, 'neighbor').map(({ to, message }) => [to, message.high]),
    [['p', false]],
  );
  assert.ok(!subject.node.views.passive.has('b'));
});

test('a ping from a node that is no neighbour is answered with Disconnect, so that links have two ends', () => {
  const subject = new PaperSubject();
  const ping = { type: 'ping', nonce: 1, measure: false, digest: 0 } as const;
  const outputs = subject.receive('stranger', ping);
  assert.deepEqual([sent(outputs, 'disconnect').length, sent(outputs, 'pong').length], [1, 0]);
});

test('a payload goes along eager links and its announcement along lazy ones', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b', 'c');
  subject.receive('b', { type: 'prune', states: false });
  const payload = Uint8Array.of(7);
  const gossip = { type: 'gossip', id: 'a 1 1', hop: 2, priority: 'normal', payload } as const;
  const outputs = subject.receive('a', gossip);
  assert.deepEqual(
    sent(outputs, 'gossip').map(({ to, message }) => [to, message.hop]),
    [['c', 3]],
  );
  const lazily = sent(subject.run(DEFAULTS.lazyMs), 'ihave');
  assert.deepEqual(
    lazily.map(({ to, message }) => [to, message.announcements]),
    [['b', [{ id: 'a 1 1', hop: 3 }]]],
  );
});

test('what a lazy neighbour announces first is not announced to it', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b', 'c');
  for (const id of ['b', 'c']) subject.receive(id, { type: 'prune', states: false });
  const payload = Uint8Array.of(7);
  for (const id of ['a 1 1', 'a 1 2'])
    subject.receive('a', { type: 'gossip', id, hop: 2, priority: 'normal', payload });
  subject.receive('b', { type: 'ihave', announcements: [{ id: 'a 1 1', hop: 3 }] });
  const told = sent(subject.run(DEFAULTS.lazyMs), 'ihave');
  assert.deepEqual(
    told.map(({ to, message }) => [to, message.announcements.map(({ id }) => id)]),
    [
      ['b', ['a 1 2']],
      ['c', ['a 1 1', 'a 1 2']],
    ],
  );
});

test('a payload that comes twice prunes the second link', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  const payload = Uint8Array.of(7);
  const gossip = { type: 'gossip', id: 'o 1 1', hop: 0, priority: 'normal', payload } as const;
  subject.receive('a', gossip);
  assert.deepEqual(sent(subject.receive('b', gossip), 'prune'), [
    { to: 'b', message: { type: 'prune', states: false } },
  ]);
  assert.deepEqual([subject.node.tree.isEager('a'), subject.node.tree.isEager('b')], [true, false]);
});

test('an announced payload that does not come is grafted from the first announcer, then from the next', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  const announcements = [{ id: 'o 1 1', hop: 1 }];
  subject.receive('a', { type: 'ihave', announcements });
  subject.receive('b', { type: 'ihave', announcements });
  // the announcement may have been late
  const firstMs = DEFAULTS.graftFirstMs - DEFAULTS.lazyMs;
  const first = sent(subject.run(firstMs), 'graft');
  assert.deepEqual(
    first.map(({ to }) => to),
    ['a'],
  );
  const second = sent(subject.run(firstMs + DEFAULTS.graftNextMs), 'graft');
  assert.deepEqual(
    second.map(({ to }) => to),
    ['b'],
  );
});

test('a suspected node refutes with a higher incarnation', () => {
  const subject = new PaperSubject();
  subject.link('a');
  const outputs = subject.receive('a', { type: 'suspect', target: 'self', incarnation: 4 });
  assert.deepEqual(sent(outputs, 'vouch'), [
    { to: 'a', message: { type: 'vouch', target: 'self', alive: true, incarnation: 5 } },
  ]);
});

const ownState = (incarnation: number, sequence: number, ...neighbours: string[]): Message => ({
  type: 'states',
  purpose: 'sync',
  states: [{ origin: peer('self'), incarnation, sequence, left: false, neighbours }],
});

const versionsOf = (outputs: readonly Output[]): [number, number][] =>
  sent(outputs, 'states')
    .flatMap(({ message }) => message.states)
    .map(({ incarnation, sequence }) => [incarnation, sequence]);

test('a node that meets a newer state of its own, or its version alone, says something newer still', () => {
  const subject = new PaperSubject();
  subject.link('a');
  const [first] = versionsOf(subject.run(1000));
  assert.equal(first?.[0], 1);
  const sequence = first?.[1] ?? 0;
  subject.receive('a', ownState(1, sequence));
  assert.deepEqual(versionsOf(subject.run(2000)), [[2, sequence + 1]], 'equal, with other links');
  subject.receive('a', ownState(1, sequence + 9));
  assert.deepEqual(versionsOf(subject.run(3000)), [], 'older than what it says itself');
  subject.receive('a', ownState(7, 1));
  assert.deepEqual(versionsOf(subject.run(4000)), [[8, sequence + 2]]);
  const versions = [{ id: 'self', incarnation: 9, sequence: 3 }];
  subject.receive('a', { type: 'versions', buckets: [], versions });
  assert.deepEqual(versionsOf(subject.run(5000)), [[10, sequence + 3]]);
  subject.receive('a', { type: 'versions', buckets: [3], versions });
  assert.deepEqual(versionsOf(subject.run(6000)), []);
});

test('at the end of all incarnations nothing is said that the wire refuses', () => {
  const subject = new PaperSubject();
  subject.link('a');
  const last = LIMITS.incarnation;
  const outputs = subject.receive('a', { type: 'suspect', target: 'self', incarnation: last });
  outputs.push(...subject.receive('a', ownState(last, 77)), ...subject.run(2000));
  outputs.push(...subject.receive('a', ownState(last, last)), ...subject.run(4000));
  const ping = { type: 'ping', nonce: 1, measure: false, digest: 0 } as const;
  outputs.push(...subject.receive('a', ping));
  assert.ok(versionsOf(outputs).some(([incarnation]) => incarnation === last));
  for (const output of outputs) {
    if (output.type === 'send') assert.deepEqual(decode(encode(output.message)), output.message);
  }
});

test('two lives that begin alike never call two states, or two broadcasts, by one name', () => {
  const names = new Set<string>();
  for (const seed of [1, 2]) {
    const node = new Node({ self: peer('self'), random: sfc32(seed), incarnation: 1 });
    const from = peer('a');
    const outputs = node.handle({ type: 'received', from, message: { type: 'join' } }, 0);
    const payload = Uint8Array.of(1);
    outputs.push(...node.handle({ type: 'broadcast', payload, priority: 'normal' }, 0));
    outputs.push(...node.handle({ type: 'timer', key: 'publish' }, 1000));
    outputs.push(...node.handle({ type: 'timer', key: 'flush' }, 2000));
    for (const output of outputs) {
      if (output.type !== 'event' || output.event.type !== 'delivered') continue;
      names.add(output.event.id);
    }
    for (const version of versionsOf(outputs)) names.add(version.join(' '));
  }
  assert.equal(names.size, 4);
});

test('leave() says goodbye to every neighbour and leaves no timer', () => {
  const subject = new PaperSubject();
  subject.link('a', 'b');
  const outputs = subject.node.handle({ type: 'leave' }, 50);
  assert.deepEqual(
    sent(outputs, 'disconnect').map(({ to, message }) => [to, message.leaving]),
    [
      ['a', true],
      ['b', true],
    ],
  );
  assert.deepEqual(sent(outputs, 'states')[0]?.message.states[0]?.left, true);
  assert.deepEqual(subject.node.snapshot().timers, []);
  assert.deepEqual(subject.receive('a', { type: 'join' }), []);
});

test('a stale timer is harmless', () => {
  const subject = new PaperSubject();
  assert.deepEqual(subject.node.handle({ type: 'timer', key: 'want' }, 1), []);
  assert.deepEqual(subject.node.handle({ type: 'timer', key: 'graft' }, 1), []);
});

test('known peers are the neighbours first, then the passive view, then all other members', () => {
  const subject = new PaperSubject();
  subject.link('a');
  subject.receive('a', { type: 'shuffle', origin: peer('a'), ttl: 0, peers: [peer('p')] });
  const state = { origin: peer('m'), incarnation: 1, sequence: 1, left: false, neighbours: [] };
  subject.receive('a', { type: 'states', purpose: 'sync', states: [state] });
  assert.deepEqual(
    knownPeers(subject.node).map(({ id }) => id),
    ['a', 'p', 'm'],
  );
});
