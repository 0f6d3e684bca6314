/** What is kept, for how long, and what clients get of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import type { Answer } from 'dns-packet';
import type { Asked } from '../../../src/dns/forward/types.ts';
import { u16 } from '../../../src/dns/forward/wire.ts';
import {
  a,
  answering,
  dataOf,
  decoded,
  failing,
  ForwardWorld,
  nameOf,
  queryFor,
  replyTo,
  settingsOf,
  silent,
  soa,
  TCP,
  UDP,
  upstream,
  type Answered,
  type Behaviour,
} from '../../harness/forward-world.ts';

const A = '192.0.2.1:53';

function worldOf(behaviour: Behaviour, more = {}): ForwardWorld {
  const world = new ForwardWorld(settingsOf([A], more));
  world.upstreams.set(A, behaviour);
  return world;
}

function replying(answers: (name: string) => Answer[]): Behaviour {
  return ({ bytes }) => [
    { afterMs: 1, bytes: replyTo(bytes, { answers: answers(nameOf(bytes)) }) },
  ];
}

const isCut = ({ bytes }: Asked): boolean => (u16(bytes, 2) & 0x200) !== 0;
const ttls = ({ asked }: Answered): (number | undefined)[] =>
  (decoded(asked).answers ?? []).map((answer) => ('ttl' in answer ? answer.ttl : undefined));

test('an answer is kept as long as its TTL, which is counted down', () => {
  const world = worldOf(answering('10.0.0.1', 1, 60));
  const first = world.resolve(queryFor('www.example'));
  assert.deepEqual([first.asked.from, ttls(first)], ['upstream', [60]]);
  world.pass(20_500);
  const second = world.resolve(queryFor('WWW.example', 'A', { id: 99 }));
  assert.deepEqual([second.asked.from, ttls(second)], ['cache', [40]]);
  assert.equal(decoded(second.asked).id, 99);
  assert.equal(decoded(second.asked).questions?.[0]?.name, 'WWW.example');
  assert.equal(second.asked.upstream, A);
  const other = worldOf(answering('10.0.0.1', 1, 60));
  other.resolve(queryFor('www.example'));
  other.pass(59_999);
  assert.equal(other.resolve(queryFor('www.example')).asked.from, 'cache');
  other.pass(1);
  assert.equal(other.resolve(queryFor('www.example')).asked.from, 'upstream');
});

test('an answer without TTL is for those who wait, not for the next one', () => {
  const world = worldOf(answering('10.0.0.1', 1, 0));
  const [one, two] = [world.ask(queryFor('www.example')), world.ask(queryFor('www.example'))];
  world.pass(1);
  assert.deepEqual(
    [one, two].map((ask) => world.answers.get(ask)?.asked.from),
    ['upstream', 'upstream'],
  );
  assert.equal(world.sends.length, 1);
  assert.equal(world.resolve(queryFor('www.example')).asked.from, 'upstream');
  assert.equal(world.sends.length, 2);
});

test('that a name is not there is kept for the minimum of the SOA', () => {
  const world = worldOf(({ bytes }) => [
    { afterMs: 1, bytes: replyTo(bytes, { rcode: 3, authorities: [soa('example', 30)] }) },
  ]);
  world.resolve(queryFor('no.example'));
  world.pass(10_000);
  const { asked } = world.resolve(queryFor('no.example'));
  assert.deepEqual([asked.from, asked.rcode], ['cache', 3]);
  const [record] = decoded(asked).authorities ?? [];
  assert.equal(record?.type === 'SOA' && record.ttl, 20);
  world.pass(20_001);
  assert.equal(world.resolve(queryFor('no.example')).asked.from, 'upstream');
});

test('type, DO and CD are part of what is kept; EDNS as such and the wish for AD are not', () => {
  const world = worldOf(answering('10.0.0.1'));
  const from = (...query: Parameters<typeof queryFor>): string =>
    world.resolve(queryFor(...query)).asked.from;
  assert.equal(from('www.example'), 'upstream');
  assert.equal(from('www.example', 'A', { edns: {} }), 'cache');
  assert.equal(from('www.example', 'A', { flags: 0x0120 }), 'cache');
  assert.equal(from('www.example', 'A', { edns: { isDnssecOk: true } }), 'upstream');
  assert.equal(from('www.example', 'A', { flags: 0x0110 }), 'upstream');
});

test('a client without EDNS has an answer without OPT; others have one with DO as they sent it', () => {
  const world = worldOf(answering('10.0.0.1'));
  const opt = (...query: Parameters<typeof queryFor>): unknown =>
    decoded(world.resolve(queryFor(...query)).asked).additionals?.map((one) =>
      one.type === 'OPT' ? [one.udpPayloadSize, one.flag_do, one.ednsVersion] : one,
    );
  assert.deepEqual(opt('www.example'), []);
  assert.deepEqual(opt('www.example', 'A', { edns: {} }), [[1232, false, 0]]);
  assert.deepEqual(opt('www.example', 'A', { edns: { isDnssecOk: true } }), [[1232, true, 0]]);
});

test('AD is for those who asked for it, RA is for all', () => {
  const world = worldOf(({ bytes }) => [
    {
      afterMs: 1,
      bytes: replyTo(bytes, { flags: 0x420, answers: [a(nameOf(bytes), '10.0.0.1')] }),
    },
  ]);
  const flags = (options: Parameters<typeof queryFor>[2]): number =>
    u16(world.resolve(queryFor('www.example', 'A', options)).asked.bytes, 2);
  assert.equal(flags({}).toString(16), '8180');
  assert.equal(flags({ flags: 0x0120 }).toString(16), '81a0');
  assert.equal(flags({ edns: { isDnssecOk: true } }).toString(16), '81a0');
  assert.equal(flags({ flags: 0x0110 }).toString(16), '8190');
});

test('an upstream that says AD to those alone who ask for it says it to us, whoever asks first', () => {
  const world = worldOf(({ bytes }) => {
    const flags = u16(bytes, 2) & 0x20;
    return [
      { afterMs: 1, bytes: replyTo(bytes, { flags, answers: [a(nameOf(bytes), '10.0.0.1', 5)] }) },
    ];
  });
  const ask = (flags: number): [string, boolean] => {
    const { asked } = world.resolve(queryFor('www.example', 'A', { flags }));
    return [asked.from, (u16(asked.bytes, 2) & 0x20) !== 0];
  };
  assert.deepEqual(ask(0x0100), ['upstream', false]);
  assert.deepEqual(ask(0x0120), ['cache', true]);
  assert.deepEqual(ask(0x0100), ['cache', false]);
  world.upstreams.clear();
  world.pass(6000);
  assert.deepEqual(ask(0x0100), ['stale', false]);
});

test('what is too large for the client is cut at a record, with TC; over TCP it is whole', () => {
  const many = (name: string): Answer[] =>
    Array.from({ length: 100 }, (_, i) => a(name, `10.0.0.${i}`));
  const world = worldOf(replying(many));
  const sizes = [
    [queryFor('www.example'), UDP, 512],
    [queryFor('www.example', 'A', { edns: { udpSize: 800 } }), UDP, 800],
    [queryFor('www.example', 'A', { edns: { udpSize: 100 } }), UDP, 512],
    [queryFor('www.example', 'A', { edns: { udpSize: 4096 } }), UDP, 1232],
  ] as const;
  for (const [query, options, max] of sizes) {
    const { asked } = world.resolve(query, options);
    const packet = decoded(asked);
    assert.ok(isCut(asked), `${max}`);
    const room = max - 12 - query.question.length - (query.edns === undefined ? 0 : 11);
    assert.equal(packet.answers?.length, Math.floor(room / 16));
    assert.ok(asked.bytes.length <= max);
  }
  const whole = world.resolve(queryFor('www.example'), TCP).asked;
  assert.deepEqual([isCut(whole), decoded(whole).answers?.length], [false, 100]);
});

test('while all upstreams fail the old answer is given, with 30 seconds, at the latest after 1.8', () => {
  const world = worldOf(answering('10.0.0.1', 1, 60));
  world.resolve(queryFor('www.example'));
  world.pass(61_000);
  world.upstreams.set(A, silent);
  const { asked, atMs, askedMs } = world.resolve(queryFor('www.example'));
  assert.deepEqual([asked.from, dataOf(asked), atMs - askedMs], ['stale', ['10.0.0.1'], 1800]);
  assert.deepEqual(ttls({ asked, atMs, askedMs }), [30]);
  world.pass(500);
  const again = world.resolve(queryFor('www.example'));
  assert.deepEqual(
    [again.asked.from, again.atMs - again.askedMs],
    ['stale', 0],
    'it failed just now',
  );
});

test('the old answer is given at once when upstreams refuse, and within a short bound', () => {
  const refused = worldOf(answering('10.0.0.1', 1, 60));
  refused.resolve(queryFor('www.example'));
  refused.pass(61_000);
  refused.upstreams.set(A, failing(2, 3));
  const { asked, atMs, askedMs } = refused.resolve(queryFor('www.example'));
  assert.deepEqual([asked.from, atMs - askedMs], ['stale', 3]);
  const short = worldOf(answering('10.0.0.1', 1, 60), { timeoutMs: 500 });
  short.resolve(queryFor('www.example'));
  short.pass(61_000);
  short.upstreams.set(A, silent);
  const answered = short.resolve(queryFor('www.example'));
  assert.deepEqual([answered.asked.from, answered.atMs - answered.askedMs], ['stale', 450]);
});

test('the old answer is given in the time that is left, and at once where none is', () => {
  const world = worldOf(answering('10.0.0.1', 1, 60));
  for (const [leftMs, tookMs] of [
    [3000, 1800],
    [1000, 960],
    [30, 0],
    [-5, 0],
  ] as const) {
    const name = `left${leftMs}.example`;
    world.resolve(queryFor(name));
    world.pass(61_000);
    world.upstreams.set(A, answering('10.0.0.2', 1900, 60));
    const ask = world.ask(queryFor(name), { ...TCP, leftMs });
    assert.equal(world.answers.has(ask), tookMs === 0);
    world.pass(tookMs);
    const { asked, atMs, askedMs } = world.answers.get(ask) as Answered;
    assert.deepEqual([asked.from, dataOf(asked), atMs - askedMs], ['stale', ['10.0.0.1'], tookMs]);
    world.pass(2000);
    assert.deepEqual(dataOf(world.resolve(queryFor(name)).asked), ['10.0.0.2'], 'it was asked for');
    world.upstreams.set(A, answering('10.0.0.1', 1, 60));
    world.pass(60_000);
  }
});

test('a good answer that comes after the old one was given is kept', () => {
  const world = worldOf(answering('10.0.0.1', 1, 60));
  world.resolve(queryFor('www.example'));
  world.pass(61_000);
  world.upstreams.set(A, answering('10.0.0.9', 1850, 60));
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.1']);
  world.pass(100);
  const { asked } = world.resolve(queryFor('www.example'));
  assert.deepEqual([asked.from, dataOf(asked)], ['cache', ['10.0.0.9']]);
});

test('an old answer is given at once while its upstreams are known to be away', () => {
  const world = worldOf(answering('10.0.0.1', 1, 60));
  world.resolve(queryFor('www.example'));
  world.pass(61_000);
  world.upstreams.set(A, silent);
  for (let i = 0; i < 6; i++) world.ask(queryFor(`n${i}.example`));
  world.pass(2000);
  const { asked, atMs, askedMs } = world.resolve(queryFor('www.example'));
  assert.deepEqual([asked.from, atMs - askedMs], ['stale', 0]);
  world.upstreams.set(A, answering('10.0.0.2', 1, 60));
  world.pass(3000);
  world.resolve(queryFor('www.example'));
  world.pass(10);
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.2']);
});

test('an answer is not given for longer than a day after its TTL; with 0 not at all', () => {
  for (const [staleSeconds, afterMs, from] of [
    [86_400, 86_399_000, 'stale'],
    [86_400, 86_470_000, 'failure'],
    [0, 1, 'failure'],
  ] as const) {
    const world = worldOf(answering('10.0.0.1', 1, 60), { staleSeconds });
    world.resolve(queryFor('www.example'));
    world.pass(60_000 + afterMs);
    world.upstreams.set(A, failing(2));
    assert.equal(world.resolve(queryFor('www.example')).asked.from, from);
  }
});

test('that asking failed is remembered for a second, and for five at most when it goes on', () => {
  const world = worldOf(failing(2));
  const heldMs: number[] = [];
  for (let i = 0; i < 5; i++) {
    world.sends.length = 0;
    assert.equal(world.resolve(queryFor('www.example')).asked.rcode, 2);
    assert.equal(world.sends.length, 1);
    const sinceMs = world.nowMs;
    for (;;) {
      world.pass(100);
      const { asked, atMs, askedMs } = world.resolve(queryFor('www.example'));
      if (atMs > askedMs) break;
      assert.deepEqual([asked.rcode, asked.from], [2, 'failure']);
    }
    heldMs.push(Math.round((world.nowMs - sinceMs) / 1000) * 1000);
    world.pass(5000); // longer than the failure that was just seen is remembered as one
  }
  assert.deepEqual(heldMs, [1000, 4000, 5000, 5000, 5000]);
  world.upstreams.set(A, answering('10.0.0.1'));
  world.pass(5000);
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.1']);
});

test('a name that is asked for more than once is fetched anew before it expires', () => {
  const world = worldOf(answering('10.0.0.1', 1, 100));
  world.resolve(queryFor('www.example'));
  world.resolve(queryFor('www.example'));
  world.pass(89_900);
  world.resolve(queryFor('www.example'));
  assert.equal(world.sends.length, 1, 'not yet in the last tenth');
  world.pass(200);
  assert.equal(world.resolve(queryFor('www.example')).asked.from, 'cache');
  assert.equal(world.sends.length, 2);
  world.pass(20_001);
  const answered = world.resolve(queryFor('www.example'));
  assert.deepEqual([answered.asked.from, ttls(answered)], ['cache', [80]]);
  assert.equal(world.machine.stats(world.nowMs).cache.prefetched, 1);
});

test('a name that is asked for once is not', () => {
  const world = worldOf(answering('10.0.0.1', 1, 100));
  world.resolve(queryFor('www.example'));
  world.pass(95_000);
  assert.equal(world.resolve(queryFor('www.example')).asked.from, 'cache');
  assert.equal(world.sends.length, 1);
});

test('the cache has no more bytes than it may; who was used longest ago goes', () => {
  const cacheBytes = 64 * 1024;
  const world = worldOf(answering('10.0.0.1', 1, 3600), { cacheBytes });
  world.resolve(queryFor('kept.example'));
  for (let i = 0; i < 2000; i++) {
    world.resolve(queryFor(`n${i}.example`));
    if (i % 10 === 0) assert.equal(world.resolve(queryFor('kept.example')).asked.from, 'cache');
    assert.ok(world.machine.stats(world.nowMs).cache.bytes <= cacheBytes);
  }
  const { cache } = world.machine.stats(world.nowMs);
  assert.ok(cache.entries > 50 && cache.evicted > 1000, JSON.stringify(cache));
  assert.equal(world.resolve(queryFor('n0.example')).asked.from, 'upstream');
});

test('flush() forgets a name with all below it, or all', () => {
  const world = worldOf(answering('10.0.0.1', 1, 3600));
  for (const name of ['example', 'www.example', 'xexample', 'other']) world.resolve(queryFor(name));
  assert.equal(world.machine.flush('example'), 2);
  assert.equal(world.resolve(queryFor('www.example')).asked.from, 'upstream');
  assert.equal(world.resolve(queryFor('xexample')).asked.from, 'cache');
  assert.equal(world.machine.flush(), 3);
  const { cache } = world.machine.stats(world.nowMs);
  assert.deepEqual([cache.entries, cache.bytes], [0, 0]);
});

test('other upstreams of a zone may answer otherwise: nothing is kept then; other limits change nothing', () => {
  const world = worldOf(answering('10.0.0.1', 1, 3600));
  world.resolve(queryFor('www.example'));
  world.machine.update(settingsOf([A], { timeoutMs: 500 }));
  assert.equal(world.resolve(queryFor('www.example')).asked.from, 'cache');
  const zones = new Map([
    ['', [upstream(A)]],
    ['example', [upstream('192.0.2.9:53')]],
  ]);
  world.upstreams.set('192.0.2.9:53', answering('10.0.0.9'));
  world.machine.update(settingsOf([], { zones }));
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.9']);
});

test('the same upstreams in another order, or none for a while, are no others: what is kept stays', () => {
  const B = '192.0.2.9:53';
  const world = new ForwardWorld(settingsOf([A, B]));
  for (const label of [A, B]) world.upstreams.set(label, answering('10.0.0.1', 1, 3600));
  const from = (name: string): string => world.resolve(queryFor(name)).asked.from;
  assert.equal(from('www.example'), 'upstream');
  world.machine.update(settingsOf([B, A]));
  assert.equal(from('www.example'), 'cache');
  world.pass(10);
  world.machine.update(settingsOf([]));
  assert.equal(from('www.example'), 'cache', 'the link is down');
  assert.equal(from('other.example'), 'failure');
  world.pass(10);
  world.machine.update(settingsOf([A, B]));
  assert.equal(from('www.example'), 'cache', 'and up again');
  assert.equal(from('other.example'), 'upstream', 'that nobody was there is not remembered');
  world.machine.update(settingsOf([]));
  world.machine.update(settingsOf([A]));
  assert.equal(from('www.example'), 'upstream', 'others than before');
});

test('what upstreams of before say after a change is for who asked before, and is not kept', () => {
  const B = '192.0.2.9:53';
  const world = worldOf(answering('10.0.0.1', 100, 3600));
  world.upstreams.set(B, answering('10.0.0.9', 1, 3600));
  const before = world.ask(queryFor('www.example'));
  world.pass(10);
  world.machine.update(settingsOf([B]));
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.9']);
  world.pass(200);
  assert.deepEqual(dataOf(world.answers.get(before)?.asked as Asked), ['10.0.0.1']);
  const { asked } = world.resolve(queryFor('www.example'));
  assert.deepEqual([asked.from, dataOf(asked)], ['cache', ['10.0.0.9']]);
  assert.equal(world.machine.stats(world.nowMs).flights, 0);
});

test('neither that upstreams of before failed is kept, nor what they say too late', () => {
  const keptAfter = (isChanged: boolean): number[] => {
    let sends = 0;
    // Only the last time that it is asked, when it is almost over.
    const late: Behaviour = ({ bytes }) => {
      const answers = [a(nameOf(bytes), '10.0.0.1', 60)];
      return ++sends === 4 ? [{ afterMs: 100, bytes: replyTo(bytes, { answers }) }] : [];
    };
    const world = worldOf(late, { timeoutMs: 500 });
    const entries = (): number => world.machine.stats(world.nowMs).cache.entries;
    world.ask(queryFor('www.example'));
    world.pass(100);
    if (isChanged) world.machine.update(settingsOf(['192.0.2.9:53'], { timeoutMs: 500 }));
    world.pass(400);
    const kept = [entries()];
    world.machine.flush();
    world.pass(500);
    return [...kept, entries()];
  };
  assert.deepEqual(keptAfter(false), [1, 1]);
  assert.deepEqual(keptAfter(true), [0, 0]);
});

test('without RD nobody is asked: what is kept, or REFUSED', () => {
  const world = worldOf(answering('10.0.0.1'));
  assert.equal(world.resolve(queryFor('www.example', 'A', { flags: 0 })).asked.rcode, 5);
  assert.equal(world.sends.length, 0);
  world.resolve(queryFor('www.example'));
  const { asked } = world.resolve(queryFor('www.example', 'A', { flags: 0 }));
  assert.deepEqual([asked.from, asked.rcode], ['cache', 0]);
});

test('other classes, transfers and what only two neighbours say to each other are refused', () => {
  const world = worldOf(answering('10.0.0.1'));
  assert.equal(world.resolve(queryFor('version.bind', 'TXT', { class: 'CH' })).asked.rcode, 5);
  for (const type of ['AXFR', 'IXFR', 'TKEY'] as const)
    assert.equal(world.resolve(queryFor('example', type)).asked.rcode, 5, type);
  assert.equal(world.sends.length, 0);
});

test('an answer is a message that others can read, for records of many types', () => {
  const answers = (name: string): Answer[] => [
    { type: 'MX', name, ttl: 60, data: { preference: 10, exchange: 'mail.example' } },
    { type: 'MX', name, ttl: 60, data: { preference: 20, exchange: 'mail2.mail.example' } },
  ];
  const world = worldOf(replying(answers));
  const { asked } = world.resolve(queryFor('example', 'MX'));
  assert.deepEqual(dataOf(asked), [
    { preference: 10, exchange: 'mail.example' },
    { preference: 20, exchange: 'mail2.mail.example' },
  ]);
  const plain = dnsPacket.encode({
    type: 'response',
    questions: [{ type: 'MX', name: 'example' }],
    answers: answers('example'),
  });
  assert.ok(asked.bytes.length < plain.length, 'names are compressed');
});
