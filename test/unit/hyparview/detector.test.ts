/** When a link ends: one node by hand in virtual time, with the settings of the papers (no link states). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULTS, PAPER } from '../../../src/hyparview-ts/index.ts';
import type { Output } from '../../../src/hyparview-ts/index.ts';
import { peer, sent, Subject } from './subject.ts';

const STEP_MS = 20;
const { pingMaxMs, pingTimeoutMinMs, suspicionMinMs, suspicionMaxMs } = DEFAULTS;
/** All pings have slowed down by then. */
const SETTLED_AT = 20_000;
/** From an answer to the next ping of that link, at most. */
const PING_MS = 1.1 * pingMaxMs;

const pong = (nonce: number) => ({ type: 'pong', nonce, incarnation: 1, digest: 0 }) as const;

/** A node with these neighbours, all of whom have answered until SETTLED_AT. */
class Watcher extends Subject {
  readonly outputs: Output[] = [];
  /** Neighbour → when its link ended. */
  readonly ended = new Map<string, number>();
  readonly suspectedAt = new Map<string, number>();
  readonly #ids: readonly string[];

  constructor(...ids: string[]) {
    super(PAPER, 5);
    this.#ids = ids;
    this.link(...ids);
    this.pass(SETTLED_AT, { answering: ids });
    this.outputs.length = 0;
  }

  /** Goes on until then, in steps of the node's own turns. */
  pass(
    until: number,
    { answering = [], everyMs = STEP_MS }: { answering?: readonly string[]; everyMs?: number } = {},
  ): void {
    for (let at = this.now + everyMs; at <= until; at += everyMs) {
      this.now = at;
      const step = this.run(at, ...answering);
      this.outputs.push(...step);
      for (const output of step) {
        if (output.type === 'event' && output.event.type === 'suspected')
          this.suspectedAt.set(output.event.peer.id, at);
      }
      for (const id of this.#ids) {
        if (!this.ended.has(id) && !this.node.views.active.has(id)) this.ended.set(id, at);
      }
    }
  }

  says(from: string, target: string, alive: boolean): void {
    this.outputs.push(...this.receive(from, { type: 'vouch', target, alive, incarnation: 1 }));
  }

  /** How long after the suspicion the link ended. */
  suspicionMs(id: string): number {
    return (this.ended.get(id) ?? NaN) - (this.suspectedAt.get(id) ?? NaN);
  }
}

function assertBetween(value: number, least: number, most: number): void {
  assert.ok(value >= least && value <= most, `${value} is not from ${least} to ${most}`);
}

test('a neighbour that stops answering is suspected, its other neighbours are asked, and it is dropped', () => {
  const watcher = new Watcher('a', 'b', 'c');
  watcher.pass(SETTLED_AT + 10_000, { answering: ['b', 'c'] });
  const asked = sent(watcher.outputs, 'suspect').map(({ to }) => to);
  assert.deepEqual(asked.sort(), ['a', 'b', 'c']);
  assert.deepEqual([...watcher.ended.keys()], ['a']);
  const untilSuspected = (watcher.suspectedAt.get('a') ?? NaN) - SETTLED_AT;
  assertBetween(untilSuspected, 0, PING_MS + 2 * pingTimeoutMinMs + STEP_MS);
  // b and c do not know a, so they say nothing; but they live: that agrees with nothing.
  assertBetween(watcher.suspicionMs('a'), suspicionMaxMs, suspicionMaxMs + 2 * STEP_MS);
});

test('the more neighbours of a suspect agree, the sooner it is dropped; one that hears it ends that', () => {
  const durations = [0, 1, 3].map((agreeing) => {
    const watcher = new Watcher('a', 'b', 'c', 'd');
    const answering = ['b', 'c', 'd'];
    while (!watcher.suspectedAt.has('a')) watcher.pass(watcher.now + STEP_MS, { answering });
    for (const id of answering.slice(0, agreeing)) watcher.says(id, 'a', false);
    watcher.pass(watcher.now + 3000, { answering });
    return watcher.suspicionMs('a');
  });
  const [alone = 0, one = 0, all = 0] = durations;
  assertBetween(alone, suspicionMaxMs, suspicionMaxMs + 2 * STEP_MS);
  assertBetween(one, suspicionMinMs + 2 * STEP_MS, suspicionMaxMs - 2 * STEP_MS);
  assertBetween(all, suspicionMinMs, suspicionMinMs + 2 * STEP_MS);

  const watcher = new Watcher('a', 'b', 'c', 'd');
  const answering = ['b', 'c', 'd'];
  while (!watcher.suspectedAt.has('a')) watcher.pass(watcher.now + STEP_MS, { answering });
  for (const id of ['b', 'c']) watcher.says(id, 'a', false);
  watcher.says('d', 'a', true);
  watcher.pass(watcher.now + 3000, { answering: [] });
  assertBetween(watcher.suspicionMs('a'), suspicionMaxMs, suspicionMaxMs + 2 * STEP_MS);
});

test('with nobody to ask a neighbour is dropped as if one agreed', () => {
  const watcher = new Watcher('a');
  watcher.pass(SETTLED_AT + 5000);
  const oneAgrees = suspicionMinMs + (suspicionMaxMs - suspicionMinMs) / 2; // log 2 of log 4
  assertBetween(watcher.suspicionMs('a'), oneAgrees, oneAgrees + 2 * STEP_MS);
});

test('whoever asks, and whatever others say, a link ends only after its own two timeouts and a suspicion', () => {
  const subject = new Subject(PAPER, 5);
  subject.link('a', 'b', 'c', 'd');
  let heardAt = 0;
  for (let at = 0; at <= 2000; at += STEP_MS) {
    for (const { to, message } of sent(subject.run(at), 'ping')) {
      subject.receive(to, pong(message.nonce));
      if (to === 'a') heardAt = at;
    }
  }
  subject.run(heardAt + 30);
  for (const from of ['b', 'c', 'd'])
    subject.receive(from, { type: 'suspect', target: 'a', incarnation: 1 });
  subject.run(heardAt + 2 * pingTimeoutMinMs + suspicionMinMs - 1);
  assert.ok(subject.node.views.active.has('a'));
  subject.run(heardAt + 2 * pingTimeoutMinMs + suspicionMinMs + 1);
  assert.ok(!subject.node.views.active.has('a'));
});

test('who is cut off from all at once looks at all when one is silent, and lets go of them sooner than of one', () => {
  const watcher = new Watcher('a', 'b', 'c', 'd', 'e');
  watcher.pass(SETTLED_AT + 4000);
  const ended = [...watcher.ended.values()];
  assert.equal(ended.length, 5);
  assert.equal(watcher.node.detector.localHealth, 0);
  const suspected = [...watcher.suspectedAt.values()];
  const first = Math.min(...suspected);
  // All are asked at the first one's second timeout, and miss two of their own.
  assertBetween(Math.max(...suspected) - first, 0, 2 * pingTimeoutMinMs + 2 * STEP_MS);
  assertBetween(Math.max(...ended) - first, suspicionMinMs, suspicionMaxMs - 2 * STEP_MS);
});

test('what passes while this node stands still is not the silence of others', () => {
  const watcher = new Watcher('a', 'b');
  while (!watcher.suspectedAt.has('a')) watcher.pass(watcher.now + STEP_MS, { answering: ['b'] });
  watcher.pass(watcher.now + 10_000, { answering: ['b'], everyMs: 10_000 });
  assert.deepEqual([...watcher.ended.keys()], []);
  watcher.receive('a', { type: 'ping', nonce: 1, measure: false, digest: 0 });
  watcher.pass(watcher.now + 500, { answering: ['a', 'b'] });
  assert.deepEqual([...watcher.ended.keys()], []);
});

test('one that hardly ever runs lets go of the dead when enough others say so, and not before', () => {
  const SLOW_MS = 500;
  const answering = ['b', 'c', 'd'];
  const slowly = (agreeing: number): number => {
    const watcher = new Watcher('a', 'b', 'c', 'd');
    while (!watcher.suspectedAt.has('a'))
      watcher.pass(watcher.now + SLOW_MS, { answering, everyMs: SLOW_MS });
    watcher.pass(watcher.now + SLOW_MS, { answering, everyMs: SLOW_MS });
    for (const id of answering.slice(0, agreeing)) watcher.says(id, 'a', false);
    watcher.pass(watcher.now + 10_000, { answering, everyMs: SLOW_MS });
    return watcher.suspicionMs('a');
  };
  assertBetween(slowly(3), SLOW_MS, 4 * SLOW_MS);
  assert.ok(!(slowly(2) < 4 * SLOW_MS), `${slowly(2)}`);
});

const SLOWEST_MS = 700;

/** How long after the last answer of a neighbour, which took ever longer to give them, its link ends: three more suspect it. */
function endOfTheSlow(theirLinksEnd: boolean): number {
  const subject = new Subject({ shuffleMs: 1e9, optimiseMs: 0 });
  const ids = ['a', 'b', 'c', 'slow'];
  subject.link(...ids);
  const say = (id: string, sequence: number, ...neighbours: string[]): void => {
    const states = [{ origin: peer(id), incarnation: 1, sequence, left: false, neighbours }];
    subject.receive(id, { type: 'states', purpose: 'urgent', states });
  };
  const others = ids.slice(0, 3);
  say('slow', 1, ...others, 'self');
  for (const id of others) say(id, 1, 'slow', 'self');
  const late: { atMs: number; nonce: number }[] = [];
  const silentAt = 30_000;
  let answerMs = 0;
  for (let ms = 1; ms <= silentAt; ms++) {
    for (const { to, message } of sent(subject.run(ms, ...others), 'ping'))
      if (to === 'slow') {
        answerMs = Math.min(SLOWEST_MS, answerMs + 40); // so that no answer is too late
        late.push({ atMs: ms + answerMs, nonce: message.nonce });
      }
    if (late[0]?.atMs === ms) subject.receive('slow', pong(late.shift()?.nonce ?? 0));
  }
  for (let ms = silentAt + 1; ms <= silentAt + 10_000; ms++) {
    subject.run(ms, ...others);
    const sinceMs = ms - silentAt;
    if (sinceMs === 400)
      for (const id of others)
        subject.receive(id, { type: 'suspect', target: 'slow', incarnation: 1 });
    if (sinceMs === 1000 && theirLinksEnd) for (const id of others) say(id, 2, 'self');
    if (!subject.node.views.active.has('slow')) return sinceMs;
  }
  return Infinity;
}

test('who is slow to answer is waited for longer, but not when all its other neighbours have ended their links', () => {
  const alone = endOfTheSlow(false);
  const withThem = endOfTheSlow(true);
  assert.ok(alone > 3 * SLOWEST_MS, `${alone} ms`);
  assert.ok(withThem >= 400 + 2 * suspicionMinMs && withThem < 1500, `${withThem} ms`);
});

const BUSY_UNTIL = 120_000;

/**
 * A node with a neighbour that pings now and then itself, and answers: every fourth time late, by more and more up to
 * 400 ms, so that none is too late; from `quickAt` on at once. And when it was pinged.
 */
function besideBusy(until: number, quickAt = Infinity): { subject: Subject; pings: number[] } {
  const subject = new Subject(PAPER, 5);
  subject.link('a');
  const due: { readonly at: number; readonly nonce: number }[] = [];
  const pings: number[] = [];
  for (let at = STEP_MS; at <= until; at += STEP_MS) {
    for (const { message } of sent(subject.run(at), 'ping')) {
      pings.push(at);
      const isLate = pings.length % 4 === 0 && at < quickAt;
      due.push({ at: isLate ? at + Math.min(400, 5 * pings.length) : at, nonce: message.nonce });
    }
    while ((due[0]?.at ?? Infinity) <= at) subject.receive('a', pong(due.shift()?.nonce ?? 0));
    if (at % 1500 === 0)
      subject.receive('a', { type: 'ping', nonce: at, measure: false, digest: 0 });
  }
  return { subject, pings };
}

test('what a link learned while a host was busy is forgotten within four seconds after it', () => {
  const { subject } = besideBusy(BUSY_UNTIL + 4000, BUSY_UNTIL);
  while (subject.node.views.active.has('a') && subject.now < BUSY_UNTIL + 10_000)
    subject.run(subject.now + STEP_MS);
  // nobody to ask: as if one agreed
  const most = PING_MS + 2 * pingTimeoutMinMs + suspicionMaxMs;
  assertBetween(subject.now - BUSY_UNTIL - 4000, suspicionMinMs, most);
});

test('a neighbour that is slow now and again, for long, is asked twice as often as others at most', () => {
  const { pings } = besideBusy(BUSY_UNTIL + 600_000);
  assertBetween(pings.filter((at) => at > BUSY_UNTIL).length, 600, 1200);
});
