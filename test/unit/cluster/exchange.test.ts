/** Peers that lie, are silent, ask too much, or are slower than a broadcast. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReplicationOutput } from '../../../src/cluster/replication-types.ts';
import {
  decodeReplication,
  type ReplicationMessage,
} from '../../../src/cluster/replication-wire.ts';
import { SHARED } from '../../../src/state/replica/replica.ts';
import { One, sent } from './one.ts';

/** A peer that tells of something new every 10 ms for 10 minutes, and has nothing. */
function lie(documentAt: (i: number) => string): number {
  const one = new One('a');
  one.give({ type: 'up', peer: 'liar' }, 0);
  let asks = 0;
  for (let i = 0; i < 60_000; i++) {
    const digest = `0.0.${String(i).padStart(16, '0')}`;
    const digests = [{ document: documentAt(i), digest }];
    for (const message of sent(
      one.tell('liar', { type: 'digests', digests, range: undefined }, i * 10),
    )) {
      if (message.type !== 'ask') continue;
      asks += 1;
      one.tell('liar', { type: 'none', request: message.request }, i * 10);
    }
  }
  return asks;
}

test('a peer that lies about a document for ever is asked less and less', () => {
  // 0.2, 0.4 … 51.2 s, then once a minute.
  assert.equal(
    lie(() => SHARED),
    18,
  );
});

test('a peer that makes up ever other documents is asked once a second in the end', () => {
  const asks = lie((i) => `node:x${i}`);
  assert.ok(asks >= 256 && asks <= 256 + 600, String(asks));
});

/** What a peer has comes by broadcast between ask and answer, each 300 ms for 10 minutes. */
function race(isNews: boolean, answer: 'part' | 'none'): number {
  const [one, other] = [new One('a'), new One('bb')];
  one.give({ type: 'up', peer: 'bb' }, 0);
  let asks = 0;
  for (let i = 0; i < 2000; i++) {
    const nowMs = i * 300;
    const outputs = isNews ? other.write(`k${i % 5}`, `v${i}`, nowMs) : [];
    const digest = isNews ? (other.replica.digest(SHARED) ?? '') : `0.0.${i}`;
    const digests = [{ document: SHARED, digest }];
    const [ask] = sent(one.tell('bb', { type: 'digests', digests, range: undefined }, nowMs));
    for (const output of outputs)
      if (output.type === 'broadcast')
        one.give({ type: 'broadcast', origin: 'bb', bytes: output.bytes }, nowMs + 1);
    if (ask?.type !== 'ask') continue;
    asks += 1;
    const { request, vector } = ask;
    const update = other.replica.diff(vector);
    assert.ok(update);
    const total = update.bytes.length;
    const part = { type: 'part', request, digest, total, offset: 0, ...update } as const;
    one.tell('bb', answer === 'part' ? part : { type: 'none', request }, nowMs + 2);
  }
  return asks;
}

test('answers that a broadcast was faster than do not make a peer be asked less', () => {
  assert.equal(race(true, 'part'), 2000);
});

test('answers without use do where nothing else came, and asks without an answer always', () => {
  const asks = [race(false, 'part'), race(false, 'none'), race(true, 'none')];
  assert.ok(
    asks.every((count) => count <= 18),
    asks.join(' '),
  );
});

test('a peer that does not answer is given up, and another one asked', () => {
  const one = new One('a');
  for (const peer of ['p', 'q']) one.give({ type: 'up', peer }, 0);
  const digests = [{ document: SHARED, digest: '0.0.00000000000000aa' }];
  const asks = (outputs: readonly ReplicationOutput[]): string[] =>
    outputs.flatMap((output) =>
      output.type === 'send' && decodeReplication(output.bytes)?.type === 'ask' ? [output.to] : [],
    );
  assert.deepEqual(asks(one.tell('p', { type: 'digests', digests, range: undefined }, 1)), ['p']);
  assert.deepEqual(asks(one.tell('q', { type: 'digests', digests, range: undefined }, 2)), []);
  assert.deepEqual(asks(one.give({ type: 'timer' }, 10_000)), []);
  assert.deepEqual(asks(one.give({ type: 'timer' }, 10_001)), ['q']);
  assert.deepEqual(asks(one.give({ type: 'down', peer: 'q' }, 10_002)), []);
});

/** What `from` is asked, when it says that it has these documents. */
function asked(
  one: One,
  from: string,
  documents: readonly string[],
  nowMs: number,
): Extract<ReplicationMessage, { type: 'ask' }>[] {
  const digests = documents.map((document) => ({ document, digest: '0.0.00000000000000aa' }));
  const outputs = one.tell(from, { type: 'digests', digests, range: undefined }, nowMs);
  return sent(outputs).flatMap((message) => (message.type === 'ask' ? [message] : []));
}

/** Hands over what `other` has of SHARED, in parts of so many bytes. */
function answer(one: One, from: string, other: One, bytes: number, nowMs: number): number {
  const [ask] = asked(one, from, [SHARED], nowMs);
  assert.ok(ask);
  const update = other.replica.diff(ask.vector);
  assert.ok(update);
  const total = update.bytes.length;
  const digest = other.replica.digest(SHARED) ?? '';
  for (let offset = 0; offset < total; offset += bytes) {
    const piece = update.bytes.subarray(offset, offset + bytes);
    const { request } = ask;
    const part = { ...update, type: 'part', request, digest, total, offset, bytes: piece } as const;
    one.tell(from, part, nowMs);
  }
  return total;
}

/** In how many documents it is known to be behind a peer that has told of all that it has. */
function behind(one: One, peer: string): number | undefined {
  return one.replication.lag().get(peer);
}

/** A peer that says that it has these documents and no other. */
function tellsAll(one: One, from: string, documents: readonly string[], nowMs: number): void {
  const digests = documents.map((document) => ({ document, digest: '0.0.00000000000000aa' }));
  const range = { after: '', upTo: '' };
  one.tell(from, { type: 'digests', digests, range }, nowMs);
}

test('a host is behind a peer that is silent, or has no answer, as long as it has not what was told', () => {
  const one = new One('a');
  for (const peer of ['silent', 'none']) one.give({ type: 'up', peer }, 0);
  assert.deepEqual([behind(one, 'silent'), behind(one, 'none')], [undefined, undefined]);
  tellsAll(one, 'silent', [SHARED], 1);
  for (let nowMs = 5000; nowMs <= 60_000; nowMs += 5000) one.give({ type: 'timer' }, nowMs);
  assert.equal(behind(one, 'silent'), 1);
  tellsAll(one, 'none', [], 60_001);
  assert.equal(behind(one, 'none'), 0);
  for (const { request } of asked(one, 'none', [SHARED], 60_002))
    one.tell('none', { type: 'none', request }, 60_003);
  assert.equal(behind(one, 'none'), 1);
  // What it lacks comes from another one.
  const full = new One('bb');
  full.write('k', 'v', 0);
  one.give({ type: 'up', peer: 'bb' }, 60_004);
  answer(one, 'bb', full, 1000, 60_005);
  const digests = [{ document: SHARED, digest: full.replica.digest(SHARED) ?? '' }];
  one.tell('none', { type: 'digests', digests, range: undefined }, 60_006);
  assert.equal(behind(one, 'none'), 0);
  const equal = sent(one.give({ type: 'up', peer: 'new' }, 60_007)).find(
    ({ type }) => type === 'summary',
  );
  assert.ok(equal);
  one.tell('silent', equal, 60_008);
  assert.equal(behind(one, 'silent'), 0);
});

test('a host is behind a peer whose answer it refuses, and not behind one whose answer was here already', () => {
  const [one, other] = [new One('a'), new One('bb')];
  one.give({ type: 'up', peer: 'bb' }, 0);
  tellsAll(one, 'bb', [], 1);
  const [ask] = asked(one, 'bb', [SHARED], 2);
  assert.ok(ask);
  const bytes = Uint8Array.of(7, 7, 7);
  const { request } = ask;
  const epoch = { number: 0, proposer: 0 };
  const part = { type: 'part', request, document: SHARED, epoch, digest: '0.0.aa' } as const;
  const outputs = one.tell('bb', { ...part, whole: true, total: 3, offset: 0, bytes }, 3);
  const notices = outputs.flatMap((out) => (out.type === 'notice' ? [out.notice.type] : []));
  assert.deepEqual(notices, ['refused']);
  assert.equal(behind(one, 'bb'), 1);
  answer(one, 'bb', other, 1000, 10_000);
  assert.equal(behind(one, 'bb'), 0, 'it has nothing');
});

test('a host is behind with what was told while an answer was under way', () => {
  const [one, other] = [new One('a'), new One('bb')];
  one.give({ type: 'up', peer: 'bb' }, 0);
  tellsAll(one, 'bb', [], 1);
  const [ask] = asked(one, 'bb', [SHARED], 2);
  assert.ok(ask);
  other.write('k', 'v', 0);
  const update = other.replica.diff(ask.vector);
  assert.ok(update);
  const digests = [{ document: SHARED, digest: '0.0.00000000000000bb' }];
  one.tell('bb', { type: 'digests', digests, range: undefined }, 3);
  const { request } = ask;
  const total = update.bytes.length;
  one.tell('bb', { ...update, type: 'part', request, digest: 'x', total, offset: 0 }, 4);
  assert.notEqual(one.replica.get(SHARED, 'k'), undefined);
  assert.equal(behind(one, 'bb'), 1);
});

test('very short parts count for what they cost', () => {
  const other = new One('bb');
  other.write('k', 'x'.repeat(900), 0);
  for (const [bytes, isTaken] of [
    [100, true],
    [1, false],
  ] as const) {
    const one = new One('a', [], { assemblyBytesMax: 100_000 });
    one.give({ type: 'up', peer: 'bb' }, 1);
    const total = answer(one, 'bb', other, bytes, 2);
    assert.ok(total < 2000);
    assert.equal(one.replica.get(SHARED, 'k') !== undefined, isTaken);
  }
});

test('a peer that never completes an answer does not keep the answers of others out', () => {
  const [one, other] = [new One('a', [], { assemblyBytesMax: 10_000 }), new One('bb')];
  other.write('k', 'x'.repeat(900), 0);
  for (const peer of ['bad', 'bb']) one.give({ type: 'up', peer }, 1);
  const [ask] = asked(one, 'bad', ['node:x'], 2);
  assert.ok(ask);
  const { request } = ask;
  const half = { epoch: { number: 0, proposer: 0 }, whole: false, digest: 'x', total: 1e6 };
  const bytes = new Uint8Array(9900);
  one.tell('bad', { type: 'part', request, document: 'node:x', ...half, offset: 0, bytes }, 3);
  answer(one, 'bb', other, 600, 4);
  assert.notEqual(one.replica.get(SHARED, 'k'), undefined);
});

test('an ask whose turn it is ends without a word on it, whatever else the peer answers', () => {
  for (const says of ['nothing', 'short parts', 'whole parts'] as const) {
    const one = new One('a', [], { partBytes: 1000 });
    for (const peer of ['bad', 'q']) one.give({ type: 'up', peer }, 0);
    const [first] = asked(one, 'bad', ['node:x'], 1);
    assert.deepEqual(asked(one, 'q', ['node:x'], 1), []);
    assert.ok(first);
    const { request } = first;
    const elsewhere: number[] = [];
    for (let i = 1; i < 10; i++) {
      const nowMs = i * 4000;
      const outputs = one.give({ type: 'timer' }, nowMs);
      if (outputs.some((output) => output.type === 'send' && output.to === 'q'))
        elsewhere.push(nowMs);
      for (const ask of asked(one, 'bad', [`node:y${i}`], nowMs))
        one.tell('bad', { type: 'none', request: ask.request }, nowMs);
      const size = says === 'whole parts' ? 1000 : 10;
      const part = { document: 'node:x', whole: false, digest: 'x', total: 1e6, offset: i * size };
      const bytes = new Uint8Array(size);
      const epoch = { number: 0, proposer: 0 };
      if (says !== 'nothing')
        one.tell('bad', { type: 'part', request, epoch, ...part, bytes }, nowMs);
    }
    assert.deepEqual(elsewhere.slice(0, 1), says === 'whole parts' ? [] : [12_000], says);
  }
});

test('a peer that asks more than it may is told that there is nothing', () => {
  const one = new One('a', [], { windowBytes: 1 });
  one.write('k', 'x', 0);
  one.give({ type: 'up', peer: 'p' }, 0);
  const vector = new One('bb').replica.vector(SHARED);
  const answers = Array.from({ length: 30 }, (_, i) =>
    sent(one.tell('p', { type: 'ask', request: i + 1, vector }, 1)).map(({ type }) => type),
  );
  // One is under way, one ready to go, 16 wait.
  const expected = Array.from({ length: 30 }, (_, i) =>
    i === 0 ? ['part'] : i < 18 ? [] : ['none'],
  );
  assert.deepEqual(answers, expected);
});
