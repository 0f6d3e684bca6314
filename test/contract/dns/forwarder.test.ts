/** The forwarder with real sockets and servers on loopback addresses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Asked, ForwardSettings } from '../../../src/dns/forward/types.ts';
import { systemClock } from '../../../src/cluster/io/clock.ts';
import {
  Forwarder,
  type ForwarderLog,
  type ForwarderWorld,
} from '../../../src/dns/io/upstreams.ts';
import { readQuery } from '../../../src/dns/query.ts';
import { sfc32 } from '../../../src/hyparview-ts/random.ts';
import { eventually } from '../../harness/eventually.ts';
import {
  a,
  dataOf,
  nameOf,
  queryFor,
  replyTo,
  settingsOf,
  UDP,
} from '../../harness/forward-world.ts';
import { UpstreamServer, type Received } from '../../harness/upstream-server.ts';

const QUIET = { warn: () => undefined, error: () => undefined };

/** Answers with its address, after so long. */
function answering(data: string, afterMs = 0): (received: Received) => void {
  return ({ bytes, reply }) => {
    const answer = replyTo(bytes, { answers: [a(nameOf(bytes), data)] });
    if (afterMs === 0) reply(answer);
    else setTimeout(() => reply(answer), afterMs).unref();
  };
}

const silent = (): void => undefined;

function forwarderTo(
  servers: readonly UpstreamServer[],
  more: Partial<ForwardSettings> = {},
  { log = QUIET, ...world }: Partial<ForwarderWorld> & { log?: ForwarderLog } = {},
): Forwarder & Disposable {
  const zones = new Map([['', servers.map(({ upstream }) => upstream)]]);
  const forwarder = new Forwarder(settingsOf([], { zones, ...more }), log, world);
  return Object.assign(forwarder, { [Symbol.dispose]: () => forwarder.close() });
}

/** Time that passes when it is told to. */
class HeldClock {
  #nowMs = 0;
  readonly #timers = new Set<{ readonly atMs: number; readonly run: () => void }>();

  readonly now = (): number => this.#nowMs;

  readonly after = (ms: number, run: () => void): (() => void) => {
    const timer = { atMs: this.#nowMs + ms, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const timer of this.#timers) {
      if (timer.atMs > this.#nowMs || !this.#timers.delete(timer)) continue;
      timer.run();
    }
  }
}

async function restsEmpty(forwarder: Forwarder): Promise<void> {
  await eventually('no open socket', () => forwarder.open.sockets === 0);
  const { attempts, flights, waiting, queued } = forwarder.stats();
  assert.deepEqual([attempts, flights, waiting, queued], [0, 0, 0, 0]);
}

const ask = (forwarder: Forwarder, name: string): Promise<Asked> =>
  forwarder.ask(queryFor(name), UDP);

/** Nothing is asked again before a reply came, however slow the machine is. */
const PATIENT = { timeoutMs: 60_000 };

test('the faster one of two is the answer; both were asked, from ports and with ids of their own', async () => {
  const held: Received[] = [];
  await using fast = await UpstreamServer.start(answering('10.0.0.1'), '127.0.0.2');
  await using slow = await UpstreamServer.start((received) => held.push(received), '127.0.0.3');
  using forwarder = forwarderTo([slow, fast], PATIENT);
  const asked = await ask(forwarder, 'www.example');
  assert.deepEqual(dataOf(asked), ['10.0.0.1']);
  assert.deepEqual([asked.from, asked.upstream], ['upstream', fast.label]);
  assert.deepEqual(
    asked.attempts.map(({ upstream, transport, result }) => [upstream, transport, result]),
    [
      [slow.label, 'udp', 'pending'],
      [fast.label, 'udp', 'good'],
    ],
  );
  for (let i = 0; i < 60; i++) await ask(forwarder, `n${i}.example`);
  await eventually('all have come', () => held.length === forwarder.stats().upstreams[0]?.sent);
  for (const received of held) answering('10.0.0.2')(received);
  await restsEmpty(forwarder);
  const ports = new Set(fast.received.map(({ port }) => port));
  const ids = new Set(fast.received.map(({ bytes }) => bytes.readUInt16BE(0)));
  assert.ok(ports.size > 50 && ids.size > 50, `${ports.size} ports and ${ids.size} ids`);
  const [first, second] = forwarder.stats().upstreams;
  assert.deepEqual(first?.results, { late: 32, cancelled: held.length - 32 });
  assert.equal(second?.results.good, 61);
  assert.equal(second?.latency.count, fast.received.length);
});

test('one that drops everything and one that says SERVFAIL cost nobody an answer', async () => {
  await using drops = await UpstreamServer.start(silent, '127.0.0.2');
  await using refuses = await UpstreamServer.start(
    ({ bytes, reply }) => reply(replyTo(bytes, { rcode: 2 })),
    '127.0.0.3',
  );
  await using good = await UpstreamServer.start(answering('10.0.0.1'), '127.0.0.4');
  using forwarder = forwarderTo([drops, refuses, good], { timeoutMs: 500 });
  let count = 0;
  await eventually('both are known', async () => {
    const asked = await ask(forwarder, `n${++count}.example`);
    assert.deepEqual(dataOf(asked), ['10.0.0.1'], `${count}`);
    const states = forwarder.stats().upstreams.map(({ state }) => state);
    return states.join(' ') === 'failing failing good';
  });
  await restsEmpty(forwarder);
});

test("one that dies in mid-run is noticed by the kernel's word and left out", async () => {
  await using dies = await UpstreamServer.start(answering('10.0.0.1'), '127.0.0.2');
  await using stays = await UpstreamServer.start(answering('10.0.0.2', 2), '127.0.0.3');
  await using third = await UpstreamServer.start(answering('10.0.0.3', 2), '127.0.0.4');
  using forwarder = forwarderTo([dies, stays, third]);
  for (let i = 0; i < 60; i++) {
    if (i === 20) dies.die();
    const asked = await ask(forwarder, `n${i}.example`);
    assert.equal(asked.rcode, 0);
  }
  await restsEmpty(forwarder);
  const [dead] = forwarder.stats().upstreams;
  assert.notEqual(dead?.state, 'good');
  assert.ok((dead?.results.unreachable ?? 0) > 0, JSON.stringify(dead?.results));
});

test('if nobody listens anywhere SERVFAIL comes at once, and the old answer where there is one', async () => {
  await using server = await UpstreamServer.start(({ bytes, reply }) =>
    reply(replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1', 1)] })),
  );
  let aheadMs = 0;
  const clock = { ...systemClock, now: () => performance.now() + aheadMs };
  using forwarder = forwarderTo([server], PATIENT, { clock });
  assert.equal((await ask(forwarder, 'www.example')).from, 'upstream');
  server.die();
  const asked = await ask(forwarder, 'other.example');
  assert.deepEqual([asked.rcode, asked.from], [2, 'failure']);
  assert.equal(asked.attempts[0]?.result, 'unreachable');
  aheadMs = 1000; // its TTL
  const old = await ask(forwarder, 'www.example');
  assert.deepEqual([old.from, dataOf(old)], ['stale', ['10.0.0.1']]);
});

test('wrong ids, questions and sources are not believed', async () => {
  await using server = await UpstreamServer.start(({ bytes, reply }) => {
    const evil = { answers: [a(nameOf(bytes), '10.6.6.6')] };
    reply(replyTo(bytes, evil), { fromElsewhere: true });
    reply(replyTo(bytes, { ...evil, id: bytes.readUInt16BE(0) ^ 0x101 }));
    reply(replyTo(bytes, { ...evil, name: 'evil.example' }));
    setTimeout(() => answering('10.0.0.1')({ bytes, reply } as Received), 20);
  });
  using forwarder = forwarderTo([server], PATIENT);
  const asked = await ask(forwarder, 'www.example');
  assert.deepEqual(dataOf(asked), ['10.0.0.1']);
  assert.equal(forwarder.stats().mismatches, 2, 'the kernel keeps the one from another port away');
});

test('truncated answers come over TCP: one connection, several questions, answers in any order', async () => {
  const held: (() => void)[] = [];
  await using server = await UpstreamServer.start(({ bytes, transport, reply }) => {
    if (transport === 'udp') return reply(replyTo(bytes, { flags: 0x200 }));
    held.push(() => answering(`10.0.0.${held.length}`)({ bytes, reply } as Received));
    if (held.length === 3) for (const answer of held.toReversed()) answer();
  });
  using forwarder = forwarderTo([server], PATIENT);
  const all = await Promise.all(['a', 'b', 'c'].map((name) => ask(forwarder, `${name}.example`)));
  assert.deepEqual(
    all.map(({ rcode }) => rcode),
    [0, 0, 0],
  );
  assert.deepEqual(
    all[0]?.attempts.map(({ transport, result }) => [transport, result]),
    [
      ['udp', 'truncated'],
      ['tcp', 'good'],
    ],
  );
  assert.equal(server.connections, 1);
  server.behave = ({ bytes, transport, reply }) =>
    transport === 'udp'
      ? reply(replyTo(bytes, { flags: 0x200 }))
      : answering('10.0.0.9')({ bytes, reply } as Received);
  assert.deepEqual(dataOf(await ask(forwarder, 'later.example')), ['10.0.0.9']);
  assert.deepEqual([server.connections, forwarder.open.connections], [1, 1], 'it is used again');
});

test('what was asked on a kept connection that ends is asked once more on a new one', async () => {
  let isHangingUp = false;
  await using server = await UpstreamServer.start(({ bytes, transport, reply, hangUp }) => {
    if (transport === 'udp') return reply(replyTo(bytes, { flags: 0x200 }));
    if (isHangingUp) {
      isHangingUp = false;
      return hangUp();
    }
    answering('10.0.0.1')({ bytes, reply } as Received);
  });
  using forwarder = forwarderTo([server], PATIENT);
  await ask(forwarder, 'a.example');
  isHangingUp = true;
  assert.deepEqual(dataOf(await ask(forwarder, 'b.example')), ['10.0.0.1']);
  assert.equal(server.connections, 2);
});

test('a kept connection that died without a word gets one question, and the next one a new connection', async () => {
  const dead = new Set<number>();
  await using server = await UpstreamServer.start(({ bytes, transport, port, reply }) => {
    if (transport === 'udp') return reply(replyTo(bytes, { flags: 0x200 }));
    if (!dead.has(port)) answering('10.0.0.1')({ bytes, reply } as Received);
  });
  using forwarder = forwarderTo([server], { timeoutMs: 4000 });
  await ask(forwarder, 'a.example');
  const [first] = server.received.filter(({ transport }) => transport === 'tcp');
  dead.add(first?.port ?? 0);
  assert.deepEqual(dataOf(await ask(forwarder, 'b.example')), ['10.0.0.1']);
  assert.deepEqual(dataOf(await ask(forwarder, 'c.example')), ['10.0.0.1']);
  const ports = server.received.filter(({ transport }) => transport === 'tcp');
  const [x, y, z] = ports.slice(1).map(({ port }) => port === first?.port);
  assert.deepEqual([x, y, z, ports.length], [true, false, false, 4]);
  assert.equal(server.connections, 2);
  const bound = { timeoutMs: 2000 }; // before it would be for being idle
  await eventually('the dead one is closed', () => forwarder.open.connections === 1, bound);
});

test('a connection is idle from when something was heard, whatever is written to it', async () => {
  const held: Received[] = [];
  let isSilent = false;
  await using server = await UpstreamServer.start((received) => {
    const { bytes, transport, reply } = received;
    if (transport === 'udp') reply(replyTo(bytes, { flags: 0x200 }));
    else if (isSilent) held.push(received);
    else answering('10.0.0.1')(received);
  });
  const clock = new HeldClock();
  using forwarder = forwarderTo([server], PATIENT, { clock });
  await ask(forwarder, 'a.example');
  isSilent = true;
  clock.advance(4000);
  const asked = ask(forwarder, 'b.example');
  await eventually('it is asked', () => held.length === 1);
  clock.advance(999);
  assert.equal(forwarder.open.connections, 1);
  isSilent = false;
  clock.advance(1);
  await eventually('it is asked once more on a new one', () => server.connections === 2);
  assert.deepEqual(dataOf(await asked), ['10.0.0.1']);
});

test('an answer of 60,000 bytes comes through', async () => {
  await using server = await UpstreamServer.start(({ bytes, transport, reply }) => {
    if (transport === 'udp') return reply(replyTo(bytes, { flags: 0x200 }));
    const answers = Array.from({ length: 1500 }, (_, i) =>
      a(nameOf(bytes), `10.0.${i >> 8}.${i & 255}`),
    );
    reply(replyTo(bytes, { answers }));
  });
  using forwarder = forwarderTo([server]);
  const asked = await forwarder.ask(queryFor('big.example'), {
    transport: 'tcp',
    udpSizeMax: 1232,
  });
  assert.equal(dataOf(asked).length, 1500);
});

test('upstreams over IPv6', async () => {
  await using server = await UpstreamServer.start(({ bytes, transport, reply }) => {
    if (transport === 'udp') return reply(replyTo(bytes, { flags: 0x200 }));
    answering('10.0.0.6')({ bytes, reply } as Received);
  }, '::1');
  using forwarder = forwarderTo([server]);
  const asked = await ask(forwarder, 'www.example');
  assert.deepEqual([dataOf(asked), asked.upstream], [['10.0.0.6'], server.label]);
  assert.ok(server.label.startsWith('[::1]:'));
});

test('an upstream that asks us is found out and told of in the log', async () => {
  const logged: unknown[] = [];
  const warn = (fields: object, message: string): number => logged.push([fields, message]);
  const log = { ...QUIET, warn };
  await using server = await UpstreamServer.start(silent);
  using made = forwarderTo([server], { timeoutMs: 1000 }, { log });
  server.behave = ({ bytes, reply }) => {
    const read = readQuery(bytes);
    if (read.ok) void made.ask(read.query, UDP).then((asked) => reply(asked.bytes));
  };
  assert.equal((await ask(made, 'www.example')).rcode, 2);
  await eventually('the loop is seen', () => made.stats().upstreams[0]?.state === 'loop');
  await restsEmpty(made);
  assert.ok(server.received.length <= 6, `${server.received.length} questions`);
  await eventually('it is told of', () => logged.length === 1);
  assert.deepEqual((logged[0] as [object])[0], { upstreams: [server.label] });
  assert.equal((await ask(made, 'again.example')).rcode, 2);
});

test('a bug with one question costs nobody else an answer, and who asked it has SERVFAIL', async () => {
  const errors: object[] = [];
  const log = { ...QUIET, error: (fields: object) => errors.push(fields) };
  await using server = await UpstreamServer.start(answering('10.0.0.1', 20));
  const good = sfc32(1);
  let isBroken = false;
  const next = (): number => {
    if (isBroken) throw new Error('as a bug would');
    return good.next();
  };
  using forwarder = forwarderTo([server], { timeoutMs: 1000 }, { log, random: { next } });
  const before = ask(forwarder, 'before.example');
  isBroken = true;
  assert.equal((await ask(forwarder, 'broken.example')).rcode, 2);
  // It waits for what the bug left behind.
  const along = ask(forwarder, 'broken.example');
  isBroken = false;
  assert.deepEqual(dataOf(await ask(forwarder, 'after.example')), ['10.0.0.1']);
  assert.deepEqual(dataOf(await before), ['10.0.0.1']);
  assert.equal((await along).rcode, 2);
  assert.deepEqual(
    errors.map((fields) => ({ ...fields, error: undefined })),
    [{ error: undefined, input: 'ask' }],
  );
});

test('many at once: each has one answer, none is asked for above the limit, nothing stays open', async () => {
  await using one = await UpstreamServer.start(answering('10.0.0.1'), '127.0.0.2');
  await using two = await UpstreamServer.start(silent, '127.0.0.3');
  using forwarder = forwarderTo([one, two], { maxConcurrent: 50, timeoutMs: 5000 });
  const asks = Array.from({ length: 100 }, (_, i) => ask(forwarder, `n${i}.example`));
  const { flights, queued } = forwarder.stats();
  assert.deepEqual([flights, queued], [50, 50]);
  const all = await Promise.all(asks);
  assert.deepEqual(
    all.map(({ rcode }) => rcode),
    Array.from({ length: 100 }, () => 0),
  );
  assert.ok(forwarder.open.sockets <= 200);
  await restsEmpty(forwarder);
});

test('close() answers all who wait, and leaves nothing open', async () => {
  await using server = await UpstreamServer.start(silent);
  using forwarder = forwarderTo([server]);
  const waiting = [ask(forwarder, 'a.example'), ask(forwarder, 'b.example')];
  forwarder.close();
  const all = await Promise.all([...waiting, ask(forwarder, 'c.example')]);
  assert.deepEqual(
    all.map(({ rcode, from }) => [rcode, from]),
    [
      [2, 'failure'],
      [2, 'failure'],
      [2, 'failure'],
    ],
  );
  assert.deepEqual(forwarder.open, { sockets: 0, connections: 0 });
});

test('the bound holds by the clock it is given', async () => {
  await using server = await UpstreamServer.start(silent);
  let nowMs = 0;
  let timers: { atMs: number; run: () => void }[] = [];
  const clock = {
    now: () => nowMs,
    after: (ms: number, run: () => void) => {
      const timer = { atMs: nowMs + ms, run };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
  };
  const zones = new Map([['', [server.upstream]]]);
  const forwarder = new Forwarder(settingsOf([], { zones, timeoutMs: 500 }), QUIET, { clock });
  const answers: number[] = [];
  void ask(forwarder, 'www.example').then(({ rcode }) => answers.push(nowMs, rcode));
  for (; answers.length === 0 && nowMs < 1000; nowMs++) {
    const due = timers.filter(({ atMs }) => atMs <= nowMs);
    timers = timers.filter(({ atMs }) => atMs > nowMs);
    for (const { run } of due) run();
    await Promise.resolve();
    await Promise.resolve();
  }
  assert.deepEqual(answers, [490, 2]);
  forwarder.close();
  assert.equal(timers.length, 0);
});

test('an upstream that talks on over TCP without being asked is hung up on', async () => {
  let isTalking = false;
  await using server = await UpstreamServer.start(({ bytes, transport, reply }) => {
    if (transport === 'udp') return reply(replyTo(bytes, { flags: 0x200 }));
    const stray = replyTo(bytes, { id: bytes.readUInt16BE(0) ^ 1 });
    if (isTalking) for (let i = 0; i < 1100; i++) reply(stray);
    else answering('10.0.0.1')({ bytes, reply } as Received);
  });
  using forwarder = forwarderTo([server], PATIENT);
  await ask(forwarder, 'a.example');
  isTalking = true;
  assert.equal((await ask(forwarder, 'b.example')).rcode, 2);
  assert.equal(forwarder.open.connections, 0);
});
