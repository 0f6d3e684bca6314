/**
 * One upstream of three is dead or dies: what clients wait and what upstreams are asked, counted
 * question by question, in virtual time, a thousand questions a second.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  answering,
  failing,
  ForwardWorld,
  nameOf,
  queryFor,
  settingsOf,
  silent,
  type Behaviour,
} from '../../harness/forward-world.ts';

const A = '192.0.2.1:53';
const B = '192.0.2.2:53';
const C = '192.0.2.3:53';

const refusing: Behaviour = () => [{ afterMs: 0.1, why: 'unreachable' }];

interface Run {
  /** Of each question, how long its answer took. */
  readonly ms: number[];
  /** Of each question, how many were asked. */
  readonly sent: number[];
  /** The most questions that upstreams had at one time. */
  readonly openMax: number;
  readonly world: ForwardWorld;
}

interface Plan {
  /** Milliseconds of A, B and C. */
  readonly latencies: readonly number[];
  readonly fate?: Behaviour;
  /** The question before which it strikes A. */
  readonly at?: number;
  readonly count?: number;
}

function run({ latencies, fate, at = 0, count = 4000 }: Plan): Run {
  const world = new ForwardWorld(settingsOf([A, B, C]));
  for (const [i, label] of [A, B, C].entries())
    world.upstreams.set(label, answering(`10.0.0.${i + 1}`, latencies[i]));
  const asks: number[] = [];
  let openMax = 0;
  for (let i = 0; i < count; i++) {
    if (i === at && fate !== undefined) world.upstreams.set(A, fate);
    asks.push(world.ask(queryFor(`n${i}.example`)));
    world.pass(1);
    openMax = Math.max(openMax, world.open.size);
  }
  world.settle();
  const sent = new Map<string, number>();
  for (const { bytes } of world.sends) {
    const name = nameOf(bytes).toLowerCase();
    sent.set(name, (sent.get(name) ?? 0) + 1);
  }
  const ms = asks.map((ask) => {
    const answered = world.answers.get(ask);
    assert.equal(answered?.asked.rcode, 0);
    return Math.round((answered.atMs - answered.askedMs) * 10) / 10;
  });
  return { ms, sent: asks.map((_, i) => sent.get(`n${i}.example`) ?? 0), openMax, world };
}

const above = (numbers: readonly number[], limit: number): number =>
  numbers.filter((one) => one > limit).length;

test('while all is well two are asked, and the third now and then', () => {
  const { ms, sent, openMax } = run({ latencies: [1, 1, 50] });
  assert.deepEqual(new Set(ms), new Set([1]));
  assert.equal(above(sent, 2), 0);
  assert.ok(openMax <= 60, `${openMax}`);
});

for (const at of [0, 2000])
  for (const [fate, behaviour] of [
    ['refuses', refusing],
    ['is silent', silent],
    ['says SERVFAIL', failing(2, 0.5)],
  ] as const)
    test(`one that ${fate} from question ${at} on: clients wait as if all were well`, () => {
      const dead = run({ latencies: [1, 1, 50], fate: behaviour, at });
      assert.deepEqual(dead.ms, run({ latencies: [1, 1, 50] }).ms);
    });

test('the fastest one refuses: the next question goes to the two that are left', () => {
  const { ms, sent, world } = run({ latencies: [1, 3, 50], fate: refusing, at: 2000 });
  assert.deepEqual(new Set(ms.slice(0, 2000)), new Set([1]));
  assert.deepEqual(new Set(ms.slice(2000)), new Set([3]));
  const more = sent.flatMap((count, i) => (count > 2 ? [i] : []));
  assert.deepEqual(more, [2000]);
  const [a] = world.machine.stats(world.nowMs).upstreams;
  assert.equal(a?.state, 'failing');
  assert.equal(a?.results.unreachable, 1);
});

test('the two fastest refuse: the one that is left is asked at once, and alone is waited for', () => {
  const world = new ForwardWorld(settingsOf([A, B, C]));
  for (const label of [A, B]) world.upstreams.set(label, answering('10.0.0.1', 1));
  world.upstreams.set(C, answering('10.0.0.3', 20));
  const waited = (count: number): number[] =>
    Array.from({ length: count }, (_, i) => {
      const { askedMs, atMs } = world.resolve(queryFor(`n${i}-${world.nowMs}.example`));
      return Math.round((atMs - askedMs) * 10) / 10;
    });
  waited(500);
  for (const label of [A, B]) world.upstreams.set(label, refusing);
  assert.deepEqual(waited(5), [20.1, 20, 20, 20, 20]);
});

test('the fastest one falls silent: after half a second nobody asks it but to see whether it is back', () => {
  const { ms, world } = run({ latencies: [1, 3, 50], fate: silent, at: 2000, count: 8000 });
  assert.deepEqual(new Set(ms.slice(2000)), new Set([3]));
  const struckMs = 1000 + 2000;
  const after = world.sends.filter(({ upstream, atMs }) => upstream === A && atMs >= struckMs);
  const late = after.filter(({ atMs }) => atMs >= struckMs + 500);
  assert.ok(after.length - late.length <= 300, `${after.length - late.length} asked it`);
  assert.equal(late.length, 1, 'a probe in 5 s');
});

test('one that says SERVFAIL to everything is not among the two after twenty questions', () => {
  const { sent } = run({ latencies: [1, 1, 50], fate: failing(2, 0.5), at: 2000 });
  assert.ok(above(sent, 2) <= 20, `${above(sent, 2)} questions went to three`);
});

test('questions that nobody waits for any more are few, however many are asked', () => {
  const { openMax, world } = run({ latencies: [1, 1, 50], fate: silent, at: 2000 });
  assert.ok(openMax <= 70, `${openMax} open`);
  assert.equal(world.open.size, 0);
  const [, b] = world.machine.stats(world.nowMs).upstreams;
  assert.equal(b?.state, 'good');
});

test('one that loses half of what it is asked is known for it, though few of its questions are waited for', () => {
  let nth = 0;
  const lossy: Behaviour = (sent) => (nth++ % 2 === 0 ? [] : answering('10.0.0.1', 1)(sent));
  const { world } = run({ latencies: [1, 3, 50], fate: lossy, at: 0, count: 4000 });
  const [a] = world.machine.stats(world.nowMs).upstreams;
  assert.notEqual(a?.state, 'good');
});

test('a resolver that is slow with many names at once is not taken for gone', () => {
  const world = new ForwardWorld(settingsOf([A, B]));
  for (const label of [A, B]) world.upstreams.set(label, answering('10.0.0.1', 1));
  for (let i = 0; i < 50; i++) world.resolve(queryFor(`known-${i}.example`));
  for (const label of [A, B]) world.upstreams.set(label, answering('10.0.0.1', 240));
  for (let i = 0; i < 30; i++) world.ask(queryFor(`slow-${i}.example`));
  world.settle();
  for (const { state } of world.machine.stats(world.nowMs).upstreams) assert.equal(state, 'good');
});

test('a refusal of what was asked before the last reply is one failure, no more', () => {
  const world = new ForwardWorld(settingsOf([A, B, C]));
  for (const label of [A, B, C]) world.upstreams.set(label, answering('10.0.0.1', 2));
  for (let i = 0; i < 50; i++) world.resolve(queryFor(`known-${i}.example`));
  world.upstreams.set(A, () => [{ afterMs: 10, why: 'unreachable' }]);
  world.resolve(queryFor('strays.example'));
  world.upstreams.set(A, answering('10.0.0.1', 2));
  world.resolve(queryFor('next.example'));
  world.settle();
  const [a] = world.machine.stats(world.nowMs).upstreams;
  assert.deepEqual([a?.state, a?.results.unreachable], ['good', 1]);
});

test('one that died and is back is among the two again within ten seconds', () => {
  const world = new ForwardWorld(settingsOf([A, B, C]));
  for (const [i, label] of [A, B, C].entries())
    world.upstreams.set(label, answering(`10.0.0.${i + 1}`, [1, 3, 50][i]));
  let nth = 0;
  const ask = (seconds: number): string[] =>
    Array.from({ length: seconds * 100 }, () => {
      const { asked } = world.resolve(queryFor(`n${nth++}.example`));
      world.pass(10);
      return asked.upstream ?? '';
    });
  ask(5);
  world.upstreams.set(A, refusing);
  assert.deepEqual(new Set(ask(60)), new Set([B]));
  world.upstreams.set(A, answering('10.0.0.1', 1));
  const back = ask(20);
  assert.ok(back.slice(1000).every((one) => one === A));
});

test('of a reply that nobody needs any more is known whether it was good', () => {
  const replies: readonly (readonly [Behaviour, string, string])[] = [
    [answering('10.0.0.2', 5), 'late', 'good'],
    [failing(3, 5), 'late', 'good'],
    [failing(2, 5), 'servfail', 'unsteady'],
  ];
  for (const [behaviour, result, state] of replies) {
    const world = new ForwardWorld(settingsOf([A, B]));
    world.upstreams.set(A, answering('10.0.0.1', 1));
    world.upstreams.set(B, behaviour);
    world.resolve(queryFor('www.example'));
    world.settle();
    const [, b] = world.machine.stats(world.nowMs).upstreams;
    assert.deepEqual([b?.results, b?.state], [{ [result]: 1 }, state]);
  }
});

test('two of three are dead: two are asked, and nobody once more while the slow one is as slow as ever', () => {
  const world = new ForwardWorld(settingsOf([A, B, C]));
  let nth = 0;
  for (const label of [A, B]) world.upstreams.set(label, answering('10.0.0.1', 1));
  world.upstreams.set(C, (sent) => answering('10.0.0.3', 50 + (nth++ % 10 === 0 ? 5 : 0))(sent));
  const ask = (count: number): void => {
    for (let i = 0; i < count; i++) {
      world.ask(queryFor(`n${i}-${world.nowMs}.example`));
      world.pass(10);
    }
  };
  ask(100);
  world.upstreams.set(A, silent);
  world.upstreams.set(B, failing(2, 0.5));
  ask(500);
  world.sends.length = 0;
  ask(500);
  world.settle();
  const ofC = world.sends.filter(({ upstream }) => upstream === C);
  assert.equal(ofC.length, 500);
  // B, where it is asked, and as it says no at once, A.
  assert.ok(world.sends.length <= 1020, `${world.sends.length} for 500 questions`);
});
