/** X-BOT: of four nodes that exchange links each does what the one it waits for tells it, and nobody else's word moves a link. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Message, MessageOf, Output, Peer } from '../../../src/hyparview-ts/index.ts';
import { peer, sent, Subject } from './subject.ts';

const CONFIG = { activeMax: 3, optimiseMs: 0 };
const linksOf = (subject: Subject): string[] =>
  subject.node.views.active.peers.map(({ id }) => id).toSorted();

/** A full node at rest. */
function full(config = {}): Subject {
  const subject = new Subject({ ...CONFIG, ...config });
  subject.link('a', 'b', 'c');
  return subject;
}

function reply(
  stage: MessageOf<'optimise-reply'>['stage'],
  initiator: string,
  old: string,
  accepted = true,
): Message {
  return { type: 'optimise-reply', stage, accepted, initiator: peer(initiator), old: peer(old) };
}

const switchOf = (initiator: string, candidate: string): Message => ({
  type: 'optimise-switch',
  initiator: peer(initiator),
  candidate: peer(candidate),
});

const replies = (outputs: readonly Output[]): [string, string, boolean][] =>
  sent(outputs, 'optimise-reply').map(({ to, message }) => [to, message.stage, message.accepted]);

test('no reply of an exchange that this node has no part in moves a link', () => {
  for (const stage of ['switch', 'replace', 'optimise'] as const) {
    for (const from of ['bad', 'b']) {
      for (const [initiator, old] of [
        ['self', 'a'],
        ['a', 'a'],
        ['bad', 'a'],
        ['x', 'a'],
      ] as const) {
        const subject = full();
        subject.receive(from, reply(stage, initiator, old));
        assert.deepEqual(linksOf(subject), ['a', 'b', 'c'], `${from} ${stage} ${initiator} ${old}`);
      }
    }
  }
});

test('the old neighbour takes another for the initiator when that says so itself', () => {
  const asked = (): Subject => {
    const subject = full();
    const outputs = subject.receive('d', switchOf('a', 'x'));
    assert.deepEqual(
      sent(outputs, 'optimise-switch').map(({ to, message }) => [to, message.candidate.id]),
      [['a', 'x']],
    );
    assert.deepEqual(linksOf(subject), ['a', 'b', 'c'], 'nothing on the word of another');
    return subject;
  };
  const yes = asked();
  const outputs = yes.receive('a', reply('switch', 'a', 'x'));
  assert.deepEqual(linksOf(yes), ['b', 'c', 'd']);
  assert.deepEqual(replies(outputs), [['d', 'switch', true]]);

  const no = asked();
  assert.deepEqual(replies(no.receive('a', reply('switch', 'a', 'x', false))), [
    ['d', 'switch', false],
  ]);
  const others: [string, Message][] = [
    ['d', reply('switch', 'a', 'x')],
    ['b', reply('switch', 'a', 'x')],
    ['a', reply('switch', 'a', 'y')],
    ['a', reply('switch', 'b', 'x')],
    ['a', reply('replace', 'a', 'x')],
  ];
  for (const [from, said] of others) {
    const subject = asked();
    subject.receive(from, said);
    assert.deepEqual(linksOf(subject), ['a', 'b', 'c']);
  }
  const late = asked();
  late.now += 2000;
  late.receive('a', reply('switch', 'a', 'x'));
  assert.deepEqual(linksOf(late), ['a', 'b', 'c']);
});

test('a switch is refused by who has no such neighbour, has that one already, or is in another exchange', () => {
  const subject = full();
  assert.deepEqual(replies(subject.receive('d', switchOf('nobody', 'x'))), [
    ['d', 'switch', false],
  ]);
  assert.deepEqual(replies(subject.receive('b', switchOf('a', 'x'))), [['b', 'switch', false]]);
  subject.receive('d', switchOf('a', 'x'));
  assert.deepEqual(replies(subject.receive('e', switchOf('b', 'x'))), [['e', 'switch', false]]);
  subject.now += 2000;
  assert.equal(sent(subject.receive('e', switchOf('b', 'x')), 'optimise-switch').length, 1);
});

test('the disconnected gives up the candidate for the old neighbour that it asked, and for nobody else', () => {
  const asked = (): Subject => {
    const subject = full();
    const replace = {
      type: 'optimise-replace',
      initiator: peer('i'),
      old: peer('o'),
    } as const;
    const outputs = subject.receive('a', replace);
    assert.deepEqual(
      sent(outputs, 'optimise-switch').map(({ to }) => to),
      ['o'],
    );
    return subject;
  };
  const subject = asked();
  assert.deepEqual(replies(subject.receive('o', reply('switch', 'i', 'a'))), [
    ['a', 'replace', true],
  ]);
  assert.deepEqual(linksOf(subject), ['b', 'c', 'o']);
  subject.receive('o2', reply('switch', 'i', 'b'));
  assert.deepEqual(linksOf(subject), ['b', 'c', 'o'], 'once');
  const others: [string, Message][] = [
    ['bad', reply('switch', 'i', 'a')],
    ['o', reply('switch', 'i', 'b')],
    ['o', reply('switch', 'i', 'a', false)],
  ];
  for (const [from, said] of others) {
    const other = asked();
    other.receive(from, said);
    assert.deepEqual(linksOf(other), ['a', 'b', 'c']);
  }
});

test('a neighbour has this node ask one stranger at a time for an exchange', () => {
  const subject = full();
  let asked = 0;
  for (let i = 0; i < 100; i++) {
    const old = peer(`ghost-${i}`);
    const outputs = subject.receive('a', { type: 'optimise-replace', initiator: peer('i'), old });
    asked += sent(outputs, 'optimise-switch').length;
    subject.now += 100;
  }
  assert.equal(asked, 5);
});

test('the initiator tells the neighbour that it gives up that it does, no other, and takes the candidate it asked', () => {
  const subject = new Subject({ ...CONFIG, optimiseMs: 1000, randomLinks: 0 });
  const far: Peer = { ...peer('far'), zone: 'y' };
  const peers = new Map([far, peer('b'), peer('c'), peer('near')].map((one) => [one.id, one]));
  for (const id of ['far', 'b', 'c']) {
    const from = peers.get(id);
    if (from !== undefined) subject.receive(from, { type: 'neighbor', high: true });
  }
  const near = { type: 'shuffle', origin: peer('b'), ttl: 0, peers: [peer('near')] } as const;
  subject.receive('b', near);
  const asked: string[] = [];
  for (let at = 20; at < 5000 && asked.length === 0; at += 20) {
    for (const { to, message } of sent(subject.run(at), 'ping')) {
      const { nonce, digest } = message;
      const pong = { type: 'pong', nonce, incarnation: 1, digest } as const;
      const outputs = subject.receive(peers.get(to) ?? to, pong);
      for (const { to: candidate, message: optimise } of sent(outputs, 'optimise'))
        asked.push(candidate, optimise.old.id);
    }
  }
  assert.deepEqual(asked, ['near', 'far']);
  const ask = (from: Peer, candidate: string): unknown =>
    replies(subject.receive(from, switchOf('self', candidate)));
  assert.deepEqual(ask(far, 'near'), [['far', 'switch', true]]);
  assert.deepEqual(ask(far, 'bad'), [['far', 'switch', false]]);
  assert.deepEqual(ask(peer('b'), 'near'), [['b', 'switch', false]]);
  subject.receive('bad', reply('optimise', 'self', 'far'));
  assert.deepEqual(linksOf(subject), ['b', 'c', 'far']);
  subject.receive('near', reply('optimise', 'self', 'far'));
  assert.deepEqual(linksOf(subject), ['b', 'c', 'near']);
});
