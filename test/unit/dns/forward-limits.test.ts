/** What is merged, queued, dropped and left out; loops. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deadlines, type Due } from '../../../src/dns/forward/deadlines.ts';
import { Newest } from '../../../src/dns/forward/newest.ts';
import { below, sfc32 } from '../../../src/hyparview-ts/random.ts';
import {
  answering,
  dataOf,
  ForwardWorld,
  nameOf,
  queryFor,
  settingsOf,
  silent,
  upstream,
} from '../../harness/forward-world.ts';

const A = '192.0.2.1:53';
const B = '192.0.2.2:53';

function worldOf(more = {}, labels = [A]): ForwardWorld {
  const world = new ForwardWorld(settingsOf(labels, more));
  for (const label of labels) world.upstreams.set(label, answering('10.0.0.1', 10));
  return world;
}

test('who asks what is under way waits for that answer', () => {
  const world = worldOf();
  const asks = [
    world.ask(queryFor('www.example', 'A', { id: 1 })),
    world.ask(queryFor('WWW.example', 'A', { id: 2 })),
    world.ask(queryFor('www.example', 'A', { id: 3, edns: {} })),
  ];
  world.pass(5);
  asks.push(world.ask(queryFor('www.example', 'A', { id: 4 })));
  assert.equal(world.sends.length, 1);
  world.pass(5);
  assert.deepEqual(
    asks.map((ask) => world.answers.get(ask)?.asked.bytes[1]),
    [1, 2, 3, 4],
  );
  assert.equal(world.machine.stats(world.nowMs).merged, 3);
});

test('a question is kept, not the message it came in', () => {
  const world = worldOf();
  const query = queryFor('www.example');
  const ask = world.ask(query);
  query.question.fill(0xff);
  world.pass(10);
  const asked = world.answers.get(ask)?.asked;
  assert.ok(asked !== undefined);
  assert.deepEqual(dataOf(asked), ['10.0.0.1']);
});

test('above the limit the newest is served first, and the oldest is dropped', () => {
  const world = worldOf({ maxConcurrent: 2 });
  const asks = ['a', 'b', 'c', 'd', 'e'].map((name) => world.ask(queryFor(`${name}.example`)));
  assert.deepEqual(
    world.sends.map(({ bytes }) => nameOf(bytes).toLowerCase()),
    ['a.example', 'b.example'],
  );
  const [, , c] = asks;
  const dropped = world.answers.get(c ?? 0);
  assert.deepEqual(
    [dropped?.asked.rcode, dropped?.asked.from],
    [2, 'failure'],
    'c, the oldest in the queue',
  );
  assert.equal(world.answers.size, 1);
  const stats = world.machine.stats(world.nowMs);
  assert.deepEqual([stats.flights, stats.queued, stats.dropped['queue full']], [2, 2, 1]);
  world.pass(10);
  assert.deepEqual(
    world.sends.slice(2).map(({ bytes }) => nameOf(bytes).toLowerCase()),
    ['e.example', 'd.example'],
  );
  world.settle();
  assert.equal(world.answers.size, 5);
});

test('who waits in the queue has an answer within the bound as well, and is not asked for after it', () => {
  const world = worldOf({ maxConcurrent: 2, timeoutMs: 1000 });
  world.upstreams.set(A, silent);
  world.ask(queryFor('a.example'));
  world.ask(queryFor('b.example'));
  world.pass(100);
  world.ask(queryFor('c.example'));
  world.ask(queryFor('d.example'));
  world.pass(700);
  world.ask(queryFor('a.example'));
  world.settle();
  const waitedMs = [...world.answers.values()].map(({ atMs, askedMs }) => atMs - askedMs);
  assert.deepEqual(waitedMs, [980, 180, 980, 980, 980]);
  const names = world.sends.map(({ bytes }) => nameOf(bytes).toLowerCase());
  assert.deepEqual(new Set(names), new Set(['a.example', 'b.example', 'd.example', 'c.example']));
  assert.ok(names.indexOf('d.example') < names.indexOf('c.example'), 'the newest first');
});

test('who is in the queue until its time is over is answered, and nobody is asked', () => {
  const world = worldOf({ maxConcurrent: 3, timeoutMs: 1000 });
  world.upstreams.set(A, silent);
  for (let i = 0; i < 40; i++) {
    world.ask(queryFor(`n${i}.example`));
    world.pass(200);
  }
  world.settle();
  const served = new Set(world.sends.map(({ bytes }) => nameOf(bytes).toLowerCase()));
  const waitedMs = [...world.answers.values()].map(({ atMs, askedMs }) => atMs - askedMs);
  assert.deepEqual(new Set(waitedMs), new Set([980]));
  const { dropped } = world.machine.stats(world.nowMs);
  assert.deepEqual(dropped, { 'queue full': 0, 'too late': 40 - served.size, 'too many asks': 0 });
  assert.ok(served.size < 40);
});

test('there is a limit for those who wait for one answer: the oldest is dropped', () => {
  const world = worldOf({ maxConcurrent: 2 });
  for (let i = 0; i < 17; i++) world.ask(queryFor('www.example'));
  assert.equal(world.answers.get(1)?.asked.rcode, 2);
  assert.equal(world.answers.size, 1);
  const stats = world.machine.stats(world.nowMs);
  assert.deepEqual([stats.waiting, stats.dropped['too many asks']], [16, 1]);
  world.settle();
  assert.equal(world.answers.get(17)?.asked.from, 'upstream');
});

test('attempts that linger make room for new ones', () => {
  const world = worldOf({ maxConcurrent: 10 }, [A, B]);
  world.upstreams.set(B, silent);
  for (let i = 0; i < 200; i++) {
    assert.equal(world.resolve(queryFor(`n${i}.example`)).asked.from, 'upstream');
    const { attempts } = world.machine.stats(world.nowMs);
    assert.ok(attempts <= 40 && attempts === world.open.size, `${attempts}`);
  }
  world.settle();
  assert.deepEqual([world.open.size, world.machine.stats(world.nowMs).attempts], [0, 0]);
});

test('our own listeners are no upstreams', () => {
  const world = worldOf({ isOwn: (host: string) => host === '192.0.2.1' }, [A, B]);
  world.resolve(queryFor('www.example'));
  assert.deepEqual(
    world.sends.map((sent) => sent.upstream),
    [B],
  );
  const alone = worldOf({ isOwn: () => true });
  assert.equal(alone.resolve(queryFor('www.example')).asked.rcode, 2);
});

test('an upstream that asks us is found out, left out, and taken back when it no longer does', () => {
  const world = worldOf({}, [A]);
  let isLooping = true;
  // It asks us what we ask it, in its own case and with its own id, and never finds an end.
  world.upstreams.set(A, (sent) => {
    if (!isLooping) return answering('10.0.0.1', 5)(sent);
    const name = nameOf(sent.bytes).toLowerCase();
    world.at(world.nowMs + 2, () =>
      world.ask(queryFor(name, sent.bytes.at(-14) === 16 ? 'TXT' : 'A', { id: 5 })),
    );
    return [];
  });
  const first = world.resolve(queryFor('www.example'));
  assert.equal(first.asked.rcode, 2);
  const toA = world.sends.length;
  assert.ok(toA <= 5, `${toA} questions: they are merged, so the loop has no more turns`);
  world.settle();
  const [standing] = world.machine.stats(world.nowMs).upstreams;
  assert.deepEqual([standing?.state, world.machine.loops], ['loop', 1]);
  world.pass(10_000);
  world.sends.length = 0;
  const left = world.resolve(queryFor('other.example'));
  assert.deepEqual([left.asked.rcode, left.atMs - left.askedMs, world.sends.length], [2, 0, 0]);
  world.pass(60_000);
  isLooping = false;
  world.resolve(queryFor('third.example'));
  world.pass(3000);
  assert.deepEqual(dataOf(world.resolve(queryFor('fourth.example')).asked), ['10.0.0.1']);
});

test('one that loops beside a good one is found out as well', () => {
  const world = worldOf({}, [A, B]);
  world.upstreams.set(A, (sent) => {
    const name = nameOf(sent.bytes).toLowerCase();
    const type = sent.bytes.at(-14) === 16 ? 'TXT' : 'A';
    world.at(world.nowMs + 2, () => world.ask(queryFor(name, type)));
    return [];
  });
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.1']);
  world.pass(10);
  const [standing] = world.machine.stats(world.nowMs).upstreams;
  assert.equal(standing?.state, 'loop');
});

test('while it still loops it is not asked but for that', () => {
  const world = worldOf({}, [A]);
  world.upstreams.set(A, (sent) => {
    const name = nameOf(sent.bytes).toLowerCase();
    world.at(world.nowMs + 2, () =>
      world.ask(queryFor(name, sent.bytes.at(-14) === 16 ? 'TXT' : 'A')),
    );
    return [];
  });
  world.resolve(queryFor('www.example'));
  for (let i = 0; i < 100; i++) {
    world.pass(3000);
    world.sends.length = 0;
    world.resolve(queryFor(`n${i}.example`));
    assert.ok(world.sends.every(({ bytes }) => !nameOf(bytes).toLowerCase().startsWith('n')));
  }
  assert.ok(world.machine.loops >= 4, `${world.machine.loops}`);
});

test('a change of upstreams takes nothing from questions under way', () => {
  const world = worldOf({}, [A]);
  const ask = world.ask(queryFor('www.example'));
  world.machine.update(settingsOf([B], { zones: new Map([['', [upstream(B)]]]) }));
  world.pass(10);
  assert.equal(world.answers.get(ask)?.asked.from, 'upstream');
  world.upstreams.set(B, answering('10.0.0.2', 1));
  assert.equal(world.resolve(queryFor('two.example')).asked.upstream, B);
});

test('a queue that is served from its newest end forgets nothing and keeps no holes', () => {
  const random = sfc32(5);
  const queue = new Newest<{ n: number }>();
  let model: { n: number }[] = [];
  for (let n = 0; n < 20_000; n++) {
    const what = below(random, 5);
    if (what < 3) {
      const item = { n };
      queue.push(item);
      model.push(item);
    } else if (what === 3) {
      assert.equal(queue.takeNewest(), model.pop());
    } else if (below(random, 2) === 0) {
      assert.equal(queue.takeOldest(), model.shift());
    } else {
      const gone = model[below(random, Math.max(1, model.length))];
      if (gone !== undefined) queue.remove(gone);
      model = model.filter((item) => item !== gone);
    }
    assert.equal(queue.size, model.length);
  }
});

test('deadlines come in order, also when they were moved or taken out', () => {
  const random = sfc32(6);
  const deadlines = new Deadlines<Due & { n: number }>();
  const model = new Set<Due & { n: number }>();
  for (let n = 0; n < 5000; n++) {
    const item = { n, dueMs: 0, heapIndex: -1 };
    deadlines.set(item, below(random, 1000));
    model.add(item);
    const [any] = model;
    if (n % 3 === 0 && any !== undefined) deadlines.set(any, below(random, 1000));
    if (n % 5 === 0 && any !== undefined) {
      deadlines.remove(any);
      model.delete(any);
    }
  }
  assert.equal(deadlines.size, model.size);
  const due: number[] = [];
  for (let item = deadlines.pop(Infinity); item; item = deadlines.pop(Infinity))
    due.push(item.dueMs);
  assert.deepEqual(
    due,
    [...model].map(({ dueMs }) => dueMs).sort((x, y) => x - y),
  );
});
