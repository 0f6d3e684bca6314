/** What peers say of others unasked fills no view, and costs this node nothing that it needs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULTS } from '../../../src/hyparview-ts/index.ts';
import type { Message, Output, Peer } from '../../../src/hyparview-ts/index.ts';
import { peer, sent, Subject } from './subject.ts';

const ghosts = (what: string, count: number): Peer[] =>
  Array.from({ length: count }, (_, i) => peer(`${what}-${i}`));

test('of replies to a shuffle as many peers are taken as it named, and none that nobody asked for', () => {
  const subject = new Subject({ optimiseMs: 0, shuffleMs: 1000 });
  const { passive } = subject.node.views;
  const reply = (what: string, count: number): void => {
    subject.receive('bad', { type: 'shuffle-reply', peers: ghosts(what, count) });
  };
  subject.link('a', 'b', 'c');
  reply('unasked', 64);
  assert.equal(passive.size, 0);
  const [shuffle] = sent(subject.run(2000, 'a', 'b', 'c'), 'shuffle');
  assert.equal(shuffle?.message.peers.length, 2);
  reply('empty', 0);
  reply('late', 1);
  reply('more', 64);
  reply('again', 64);
  assert.deepEqual(
    passive.peers.map(({ id }) => id),
    ['late-0', 'more-0'],
  );
});

/** With itself as its origin nobody has to be dialled for it. */
const listOf = (origin: string, peers: Peer[]): Message => ({
  type: 'shuffle',
  origin: peer(origin),
  ttl: 0,
  peers,
});

test('a neighbour that comes and goes with ever new peers takes no dial from what this node needs', () => {
  const subject = new Subject({ optimiseMs: 0 });
  const { active, passive } = subject.node.views;
  subject.link('good');
  const asked: string[] = [];
  const refuseAll = (outputs: Output[]): void => {
    const open = [...outputs];
    for (let next = open.shift(); next !== undefined; next = open.shift()) {
      for (const { to } of sent([next], 'neighbor')) {
        asked.push(to);
        open.push(...subject.node.handle({ type: 'unreachable', peer: to }, subject.now));
      }
    }
  };
  const seconds = 60;
  const tells: ((peers: Peer[]) => void)[] = [
    (peers) => subject.receive('bad', listOf('bad', peers)),
    (peers) => {
      for (const told of peers)
        subject.receive('bad', { type: 'forward-join', peer: told, ttl: 5 });
    },
  ];
  for (let i = 0; i < 10 * seconds; i++) {
    refuseAll(subject.run(100 * i, 'good'));
    subject.link('bad');
    tells[i % tells.length]?.(ghosts(`ghost-${i}`, 40));
    refuseAll(subject.receive('bad', { type: 'disconnect', leaving: false }));
  }
  const isGhost = (id: string): boolean => id.startsWith('ghost');
  const dials = asked.filter(isGhost).length;
  const { toldPeersBurst, toldPeersPerSecond } = DEFAULTS;
  assert.ok(dials > seconds * toldPeersPerSecond);
  assert.ok(dials <= toldPeersBurst + seconds * toldPeersPerSecond, `${dials} dials`);
  const { look, repair, heard } = subject.node.snapshot().withheld;
  assert.deepEqual({ look, repair }, { look: 0, repair: 0 });
  assert.ok(heard > 0);
  assert.ok(active.has('good') && !passive.peers.some(({ id }) => isGhost(id)));
});

test('where a peer is, a neighbour changes no sooner than it tells of new ones', () => {
  const subject = new Subject({ toldPeersBurst: 12, toldPeersPerSecond: 0 });
  subject.link('bad');
  const known = ghosts('p', 10);
  subject.receive('bad', listOf('bad', known));
  const elsewhere = known.map((one) => ({ ...one, address: '198.51.100.1:443' }));
  for (let i = 0; i < 3; i++) subject.receive('bad', listOf('bad', elsewhere));
  const { peers } = subject.node.views.passive;
  assert.equal(peers.filter(({ address }) => address.startsWith('198')).length, 2);
});

test('while dials are withheld, who was tried waits until the others were', () => {
  const subject = new Subject({
    optimiseMs: 0,
    repairMs: 60_000,
    ownDialsBurst: 2,
    ownDialsPerSecond: 1,
  });
  subject.link('a');
  const count = 12;
  subject.receive('a', listOf('a', ghosts('p', count)));
  const asked: string[] = [];
  const refuse = (outputs: Output[]): void => {
    for (const { to } of sent(outputs, 'neighbor')) {
      asked.push(to);
      refuse(subject.receive(to, { type: 'neighbor-reply', accepted: false, peers: [] }));
    }
  };
  refuse(subject.receive('b', { type: 'neighbor', high: true }));
  refuse(subject.node.handle({ type: 'unreachable', peer: 'b' }, subject.now));
  for (let at = 100; at < 25_000; at += 100) refuse(subject.run(at, 'a'));
  assert.ok(subject.node.snapshot().withheld.repair > 0);
  assert.equal(asked.length, count);
  assert.equal(new Set(asked).size, count);
});
