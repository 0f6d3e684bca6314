/** What peers say of others unasked fills no view, and costs this node nothing that it needs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Peer } from '../../../src/hyparview-ts/index.ts';
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
