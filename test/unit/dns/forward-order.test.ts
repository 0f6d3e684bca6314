/** Upstreams that are asked as listed (dns.order: strict): who, when, and what is kept of whom; in virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  a,
  answering,
  dataOf,
  failing,
  ForwardWorld,
  nameOf,
  queryFor,
  replyTo,
  settingsOf,
  silent,
  soa,
  type Behaviour,
} from '../../harness/forward-world.ts';

const A = '192.0.2.1:53';
const B = '192.0.2.2:53';
const C = '192.0.2.3:53';
/** How long is waited for one that is fast, or that nobody knows: an eighth of the bound. */
const LATE_MS = 250;

const STRICT = { strict: new Set(['']) };

function worldOf(behaviours: Record<string, Behaviour>, more = {}): ForwardWorld {
  const world = new ForwardWorld(settingsOf(Object.keys(behaviours), { ...STRICT, ...more }));
  for (const [label, behaviour] of Object.entries(behaviours))
    world.upstreams.set(label, behaviour);
  return world;
}

/** Who was asked, and how long after the question. */
function resolve(
  world: ForwardWorld,
  name: string,
): { data: unknown[]; rcode: number; tookMs: number; asked: string[]; from: string } {
  world.sends.length = 0;
  const { asked, atMs, askedMs } = world.resolve(queryFor(name));
  return {
    data: dataOf(asked),
    rcode: asked.rcode,
    tookMs: atMs - askedMs,
    asked: world.sends.map((sent) => `${sent.upstream} ${sent.atMs - askedMs}`),
    from: asked.from,
  };
}

/** Knows the names of `inner` alone, and says of others that they are not there. */
function knowing(inner: string, data: string, afterMs: number): Behaviour {
  return ({ bytes }) => {
    const name = nameOf(bytes);
    const isThere = name.toLowerCase().endsWith(inner);
    const answers = isThere ? [a(name, data)] : [];
    const authorities = isThere ? [] : [soa('.', 900)];
    return [{ afterMs, bytes: replyTo(bytes, { rcode: isThere ? 0 : 3, answers, authorities }) }];
  };
}

test('the first one alone is asked while it answers, however fast the others are', () => {
  const world = worldOf({
    [A]: knowing('corp', '10.0.0.1', 60),
    [B]: knowing('org', '10.0.0.2', 1),
  });
  for (let i = 0; i < 50; i++) {
    const inner = resolve(world, `n${i}.corp`);
    assert.deepEqual([inner.asked, inner.data, inner.tookMs], [[`${A} 0`], ['10.0.0.1'], 60]);
    const outer = resolve(world, `n${i}.org`);
    assert.deepEqual(
      [outer.asked, outer.rcode],
      [[`${A} 0`], 3],
      'that there is none is an answer',
    );
    world.pass(1000);
  }
});

test('a zone has its order for itself', () => {
  const upstreams = settingsOf([A, B]).zones.get('') ?? [];
  const zones = new Map([
    ['', upstreams],
    ['corp', upstreams],
  ]);
  const world = worldOf(
    { [A]: answering('10.0.0.1', 5), [B]: answering('10.0.0.2', 5) },
    { zones, strict: new Set(['corp']) },
  );
  assert.deepEqual(resolve(world, 'www.corp').asked, [`${A} 0`]);
  assert.deepEqual(resolve(world, 'www.example').asked, [`${A} 0`, `${B} 0`]);
});

test('the next one is asked when the one before is late, and who answers first then counts', () => {
  const world = worldOf({
    [A]: answering('10.0.0.1', LATE_MS + 30),
    [B]: answering('10.0.0.2', 50),
    [C]: answering('10.0.0.3', 1),
  });
  const slow = resolve(world, 'slow.example');
  assert.deepEqual(slow.asked, [`${A} 0`, `${B} ${LATE_MS}`]);
  assert.deepEqual([slow.data, slow.tookMs], [['10.0.0.1'], LATE_MS + 30]);
  world.upstreams.set(A, silent);
  const dead = resolve(world, 'dead.example');
  assert.deepEqual(dead.asked, [`${A} 0`, `${B} 500`], 'late by its own measure');
  assert.deepEqual([dead.data, dead.tookMs], [['10.0.0.2'], 550]);
});

test('one that is fast mostly may take its time where it has to ask others', () => {
  const world = worldOf({ [A]: answering('10.0.0.1', 2), [B]: answering('10.0.0.2', 1) });
  for (let i = 0; i < 30; i++) resolve(world, `n${i}.example`);
  world.upstreams.set(A, answering('10.0.0.1', LATE_MS - 10));
  const { asked, data } = resolve(world, 'far.example');
  assert.deepEqual([asked, data], [[`${A} 0`], ['10.0.0.1']]);
});

test('at SERVFAIL, REFUSED and where nobody is there the next one is asked at once', () => {
  const gone: Behaviour = () => [{ afterMs: 3, why: 'unreachable' }];
  for (const first of [failing(2, 3), failing(5, 3), gone]) {
    const world = worldOf({ [A]: first, [B]: failing(2, 4), [C]: answering('10.0.0.3', 5) });
    const { asked, data, tookMs } = resolve(world, 'www.example');
    assert.deepEqual(asked, [`${A} 0`, `${B} 3`, `${C} 7`]);
    assert.deepEqual([data, tookMs], [['10.0.0.3'], 12]);
  }
});

test('one that fails late does not have the third one asked before the second one is late', () => {
  const world = worldOf({
    [A]: failing(2, LATE_MS + 10),
    [B]: answering('10.0.0.2', 100),
    [C]: answering('10.0.0.3', 1),
  });
  const { asked, data } = resolve(world, 'www.example');
  assert.deepEqual([asked, data], [[`${A} 0`, `${B} ${LATE_MS}`], ['10.0.0.2']]);
});

test('one that is silent costs two questions the wait, and none once it is back', () => {
  const world = worldOf({ [A]: silent, [B]: answering('10.0.0.2', 5) });
  const waits = Array.from({ length: 20 }, (_, i) => {
    const { tookMs, asked } = resolve(world, `n${i}.example`);
    assert.deepEqual(
      asked.map((text) => text.split(' ')[0]),
      [A, B],
    );
    world.pass(2000);
    return tookMs;
  });
  assert.deepEqual(waits, [LATE_MS + 5, LATE_MS + 5, ...waits.slice(2).fill(5)]);
  world.upstreams.set(A, answering('10.0.0.1', 20));
  resolve(world, 'back.example');
  world.pass(100);
  const { asked, data } = resolve(world, 'as-ever.example');
  assert.deepEqual([asked, data], [[`${A} 0`], ['10.0.0.1']]);
});

test('one that says SERVFAIL late costs as little as a silent one', () => {
  const world = worldOf({ [A]: failing(2, 2 * LATE_MS), [B]: answering('10.0.0.2', 5) });
  const waits = Array.from({ length: 10 }, (_, i) => {
    const { tookMs } = resolve(world, `n${i}.example`);
    world.pass(2000);
    return tookMs;
  });
  assert.deepEqual(waits, [LATE_MS + 5, LATE_MS + 5, ...waits.slice(2).fill(5)]);
});

test('one that answers late each time costs two questions the wait, and what it says is kept', () => {
  const world = worldOf({ [A]: answering('10.0.0.1', 600), [B]: answering('10.0.0.2', 5) });
  const waits = Array.from({ length: 12 }, (_, i) => {
    const { tookMs, data } = resolve(world, `n${i}.example`);
    assert.deepEqual(data, ['10.0.0.2']);
    world.pass(2500);
    assert.deepEqual(resolve(world, `n${i}.example`).data, ['10.0.0.1']);
    return tookMs;
  });
  assert.deepEqual(waits, [LATE_MS + 5, 505, ...waits.slice(2).fill(5)], 'then by its own measure');
});

test('silence of long ago is tried again', () => {
  const world = worldOf({ [A]: silent, [B]: answering('10.0.0.2', 5) });
  for (let i = 0; i < 3; i++) resolve(world, `n${i}.example`);
  world.pass(70_000);
  world.upstreams.set(A, answering('10.0.0.1', 20));
  assert.deepEqual(resolve(world, 'later.example').asked, [`${A} 0`]);
});

test('one that refuses the names of others is asked alone for its own ones', () => {
  const inner: Behaviour = ({ bytes }) => {
    const name = nameOf(bytes);
    const isInner = name.toLowerCase().endsWith('.corp');
    const reply = isInner ? { answers: [a(name, '10.0.0.1')] } : { rcode: 5 };
    return [{ afterMs: 20, bytes: replyTo(bytes, reply) }];
  };
  const world = worldOf({ [A]: inner, [B]: knowing('example', '10.0.0.2', 1) });
  for (let i = 0; i < 30; i++)
    assert.deepEqual(resolve(world, `n${i}.example`).asked, [`${A} 0`, `${B} 20`]);
  const { asked, data } = resolve(world, 'www.corp');
  assert.deepEqual([asked, data], [[`${A} 0`], ['10.0.0.1']]);
  world.pass(200_000);
  assert.equal(resolve(world, 'n0.example').from, 'cache', 'kept as long as it says: A refused it');
});

test('what the second one says is kept for half a minute', () => {
  const world = worldOf({ [A]: silent, [B]: knowing('org', '10.0.0.2', 5) });
  assert.equal(resolve(world, 'www.corp').rcode, 3);
  world.pass(28_000);
  assert.equal(resolve(world, 'www.corp').from, 'cache');
  world.pass(3000);
  world.upstreams.set(A, knowing('corp', '10.0.0.1', 5));
  resolve(world, 'other.corp');
  world.pass(1000);
  assert.deepEqual(resolve(world, 'www.corp').data, ['10.0.0.1']);
});

test('what the first one says at last takes the place of what the second one said', () => {
  const world = worldOf({
    [A]: knowing('corp', '10.0.0.1', LATE_MS + 100),
    [B]: knowing('org', '10.0.0.2', 5),
  });
  assert.equal(resolve(world, 'www.corp').rcode, 3);
  world.pass(200);
  const { from, data } = resolve(world, 'www.corp');
  assert.deepEqual([from, data], ['cache', ['10.0.0.1']]);
  assert.equal(world.machine.stats(world.nowMs).attempts, 0);
});

/** What is kept when all have spoken, and whether it is 100 s later. */
function keptOf(world: ForwardWorld, name: string): { data: unknown[]; isKeptLong: boolean } {
  world.pass(2000);
  const { from, data } = resolve(world, name);
  assert.equal(from, 'cache');
  world.pass(100_000);
  return { data, isKeptLong: resolve(world, name).from === 'cache' };
}

test('of those who are late the one that is listed first has the word', () => {
  for (const [aMs, bMs] of [
    [800, 650],
    [800, 500],
  ] as const) {
    const world = worldOf({
      [A]: answering('10.0.0.1', aMs),
      [B]: answering('10.0.0.2', bMs),
      [C]: answering('10.0.0.3', 5),
    });
    assert.deepEqual(resolve(world, 'www.example').data, ['10.0.0.3']);
    const kept = { data: ['10.0.0.1'], isKeptLong: true };
    assert.deepEqual(keptOf(world, 'www.example'), kept, `A at ${aMs}, B at ${bMs + LATE_MS}`);
  }
  const world = worldOf({
    [A]: answering('10.0.0.1', 800, 0),
    [B]: answering('10.0.0.2', 650),
    [C]: answering('10.0.0.3', 5),
  });
  resolve(world, 'www.example');
  world.pass(2000);
  assert.equal(resolve(world, 'www.example').from, 'upstream', 'also that it is not to be kept');
});

test('what one says late is kept for half a minute where one that is listed before it was silent', () => {
  const kept = (first: Behaviour): unknown => {
    const world = worldOf({
      [A]: first,
      [B]: answering('10.0.0.2', 600),
      [C]: answering('10.0.0.3', 5),
    });
    assert.deepEqual(resolve(world, 'www.example').data, ['10.0.0.3']);
    return keptOf(world, 'www.example');
  };
  assert.deepEqual(kept(silent), { data: ['10.0.0.2'], isKeptLong: false });
  assert.deepEqual(kept(failing(2, 700)), { data: ['10.0.0.2'], isKeptLong: false });
  assert.deepEqual(kept(failing(5, 20)), { data: ['10.0.0.2'], isKeptLong: true });
  assert.deepEqual(kept(failing(5, 700)), { data: ['10.0.0.2'], isKeptLong: true });
});

test('what one says late takes nothing from what one that is listed before it said meanwhile', () => {
  let count = 0;
  const second: Behaviour = (sent) => (++count === 1 ? [] : answering('10.0.0.1', 5)(sent));
  const world = worldOf({
    [A]: second,
    [B]: answering('10.0.0.2', 900),
    [C]: answering('10.0.0.3', 5, 0),
  });
  assert.deepEqual(resolve(world, 'www.example').data, ['10.0.0.3']);
  assert.deepEqual(resolve(world, 'www.example').data, ['10.0.0.1']);
  assert.deepEqual(keptOf(world, 'www.example'), { data: ['10.0.0.1'], isKeptLong: true });
});

test('what comes when it is too late for an answer is kept, of the one that is listed first', () => {
  const keptOfLate = (first: Behaviour): unknown => {
    const world = worldOf({
      [A]: answering('10.0.0.1', 5),
      [B]: answering('10.0.0.2', 5),
      [C]: failing(2),
    });
    resolve(world, 'a.example');
    world.upstreams.set(A, failing(2));
    resolve(world, 'b.example');
    world.upstreams.set(A, first);
    world.upstreams.set(B, answering('10.0.0.2', 600));
    const { rcode, tookMs } = resolve(world, 'www.example');
    assert.deepEqual([rcode, tookMs], [2, 750], 'both are late by their own measure');
    return keptOf(world, 'www.example');
  };
  assert.deepEqual(keptOfLate(silent), { data: ['10.0.0.2'], isKeptLong: false });
  const kept = { data: ['10.0.0.1'], isKeptLong: true };
  assert.deepEqual(keptOfLate(answering('10.0.0.1', 800)), kept, 'before B');
  assert.deepEqual(keptOfLate(answering('10.0.0.1', 900)), kept, 'after B');
});

test('in a race what is late counts for nothing where there was an answer', () => {
  const raceOf = (ttl: number): ForwardWorld => {
    const behaviours = { [A]: answering('10.0.0.1', 800), [B]: answering('10.0.0.2', 5, ttl) };
    const world = worldOf(behaviours, { strict: new Set() });
    assert.deepEqual(resolve(world, 'www.example').data, ['10.0.0.2']);
    return world;
  };
  const kept = { data: ['10.0.0.2'], isKeptLong: true };
  assert.deepEqual(keptOf(raceOf(300), 'www.example'), kept);
  const world = raceOf(0);
  world.pass(2000);
  assert.equal(resolve(world, 'www.example').from, 'upstream');
});

test('one whose answer is fetched by TCP is waited for once more as long', () => {
  const world = worldOf({
    [A]: ({ bytes, transport }) =>
      transport === 'udp'
        ? [{ afterMs: LATE_MS - 10, bytes: replyTo(bytes, { flags: 0x200 }) }]
        : [{ afterMs: 100, bytes: replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] }) }],
    [B]: answering('10.0.0.2', 1),
  });
  const { asked, data } = resolve(world, 'large.example');
  assert.deepEqual(asked, [`${A} 0`, `${A} ${LATE_MS - 10}`]);
  assert.deepEqual(data, ['10.0.0.1']);
});

test('where all are silent they are asked again, and the answer is in time', () => {
  let count = 0;
  const world = worldOf({
    [A]: ({ bytes }) =>
      ++count < 2
        ? []
        : [{ afterMs: 5, bytes: replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] }) }],
    [B]: silent,
  });
  const first = resolve(world, 'www.example');
  assert.ok(first.tookMs <= 1960);
  assert.ok(first.asked.length > 2 && first.asked[2]?.startsWith(A), first.asked.join());
});

test('with another order nothing is kept; in a race the order is of no meaning', () => {
  const behaviours = { [A]: answering('10.0.0.1', 5), [B]: answering('10.0.0.2', 8) };
  const fromAfter = (more: object): string => {
    const world = worldOf(behaviours, more);
    resolve(world, 'www.example');
    world.machine.update({ ...settingsOf([B, A]), ...STRICT, ...more });
    return resolve(world, 'www.example').from;
  };
  assert.equal(fromAfter({}), 'upstream');
  assert.equal(fromAfter({ strict: new Set() }), 'cache');
});
