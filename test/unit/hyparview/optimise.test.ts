import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Output } from '../../../src/hyparview-ts/index.ts';
import { peer, sent, Subject } from './subject.ts';

const NEIGHBOURS = ['a', 'b', 'c', 'd'];
const CANDIDATE = 'x';

/** Whom a node with four links and one candidate asks for a link within two minutes, when answers take so long. */
function asked(answerMs: (id: string, nth: number) => number): string[] {
  const subject = new Subject({ activeMax: NEIGHBOURS.length, optimiseMs: 1000 });
  subject.link(...NEIGHBOURS);
  subject.receive('a', { type: 'forward-join', peer: peer(CANDIDATE), ttl: 5 });
  const pongs: { atMs: number; from: string; nonce: number; digest: number }[] = [];
  const answered = new Map<string, number>();
  const ids: string[] = [];
  const read = (outputs: readonly Output[]): void => {
    ids.push(...sent(outputs, 'optimise').map(({ to }) => to));
    for (const { to, message } of sent(outputs, 'ping')) {
      const nth = (answered.get(to) ?? 0) + 1;
      answered.set(to, nth);
      const { nonce, digest } = message;
      pongs.push({ atMs: subject.now + answerMs(to, nth), from: to, nonce, digest });
    }
  };
  for (let ms = 1; ms <= 120_000; ms++) {
    read(subject.run(ms));
    for (const [i, pong] of pongs.entries()) {
      if (pong.atMs > ms) continue;
      pongs.splice(i, 1);
      const { from, nonce, digest } = pong;
      read(subject.receive(from, { type: 'pong', nonce, incarnation: 1, digest }));
      break;
    }
  }
  assert.ok((answered.get(CANDIDATE) ?? 0) > 50, 'the candidate was measured');
  return ids;
}

test('a candidate that is nearer by half is asked for a link, again and again until it answers', () => {
  const ids = asked((id) => (id === CANDIDATE ? 14 : 30));
  assert.ok(ids.length > 10);
  assert.deepEqual([...new Set(ids)], [CANDIDATE]);
});

test('one that is a little nearer is not', () => {
  assert.deepEqual(
    asked((id) => (id === CANDIDATE ? 16 : 30)),
    [],
  );
});

test('one that answers sooner only because the neighbours are busy is not', () => {
  const busy = (nth: number): number => (nth % 5 === 0 ? 3 : 60);
  assert.deepEqual(
    asked((id, nth) => (id === CANDIDATE ? 2 : busy(nth))),
    [],
  );
});

test('where all ways are short none is nearer', () => {
  assert.deepEqual(
    asked((id) => (id === CANDIDATE ? 0 : 4)),
    [],
  );
});
