/** What of a reply is believed, and what is left out of it before it is kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import type { Answer, RecordType } from 'dns-packet';
import { pack } from '../../../src/dns/forward/pack.ts';
import { matchReply, readReply, type Reading, type Sent } from '../../../src/dns/forward/reply.ts';
import { isWithin, nameKey, readName, recase, u16 } from '../../../src/dns/forward/wire.ts';
import { sfc32 } from '../../../src/hyparview-ts/random.ts';
import { writeAnswer } from '../../../src/dns/forward/answer.ts';
import {
  a,
  answering,
  dataOf,
  decoded,
  ForwardWorld,
  nameOf,
  queryFor,
  replyTo,
  settingsOf,
  soa,
  TCP,
  type Behaviour,
  type ReplyOptions,
} from '../../harness/forward-world.ts';

const A = '192.0.2.1:53';
const B = '192.0.2.2:53';

function sentFor(name: string, type: 'A' | 'TXT' = 'A', isDnssecOk = false): Sent {
  return { id: 7, question: new Uint8Array(queryFor(name, type).question), isDnssecOk };
}

function read(sent: Sent, options: ReplyOptions): Reading {
  const head = new Uint8Array(12 + sent.question.length);
  head[1] = sent.id;
  head[5] = 1;
  head.set(sent.question, 12);
  const reply = replyTo(head, options);
  assert.equal(matchReply(reply, sent), 'same');
  return readReply(reply, sent);
}

/** Owner and data of what was kept, as a client sees it. */
function kept(name: string, options: ReplyOptions, isDnssecOk = false): string[] {
  const reading = read(sentFor(name, 'A', isDnssecOk), options);
  assert.equal(reading.kind, 'good');
  const query = queryFor(name, 'A', isDnssecOk ? { edns: { isDnssecOk } } : {});
  const bytes = writeAnswer(reading.packed, query, TCP, { seconds: 0, isStale: false });
  const packet = dnsPacket.decode(Buffer.from(bytes));
  return [...(packet.answers ?? []), ...(packet.authorities ?? [])].map((answer) => {
    const data = 'data' in answer && typeof answer.data === 'string' ? answer.data : '';
    return `${answer.name} ${answer.type} ${data}`.trim();
  });
}

function worldWith(behaviour: Behaviour): ForwardWorld {
  const world = new ForwardWorld(settingsOf([A]));
  world.upstreams.set(A, behaviour);
  return world;
}

test('only records of the chain from the name that was asked are kept', () => {
  const options = {
    answers: [
      a('evil.example', '10.6.6.6'),
      { type: 'CNAME', name: 'b.example', data: 'c.example', ttl: 60 } as Answer,
      a('c.example', '10.0.0.3'),
      { type: 'CNAME', name: 'www.example', data: 'B.example', ttl: 60 } as Answer,
      { type: 'TXT', name: 'www.example', data: 'not asked for', ttl: 60 } as Answer,
      { ...a('www.example', '10.6.6.7'), class: 'CH' } as Answer,
    ],
    authorities: [{ type: 'NS', name: 'example', data: 'ns.evil.example', ttl: 60 } as Answer],
    additionals: [a('ns.evil.example', '10.6.6.6')],
  };
  assert.deepEqual(kept('www.example', options), [
    'b.example CNAME c.example',
    'c.example A 10.0.0.3',
    'www.example CNAME b.example',
  ]);
});

test('CNAMEs that lead round, or further than anybody follows, are lame', () => {
  const round: Answer[] = [
    { type: 'CNAME', name: 'www.example', data: 'b.example', ttl: 60 },
    { type: 'CNAME', name: 'b.example', data: 'www.example', ttl: 60 },
  ];
  const long: Answer[] = Array.from({ length: 40 }, (_, i) => {
    const name = i === 0 ? 'www.example' : `n${i}.example`;
    return { type: 'CNAME', name, data: `n${i + 1}.example`, ttl: 60 };
  });
  for (const answers of [round, long]) {
    const reading = read(sentFor('www.example'), { answers });
    assert.deepEqual(reading, { kind: 'loss', result: 'lame', rcode: 0 });
  }
});

test('a negative answer keeps the SOA of a zone of the name, and counts for its minimum', () => {
  const good = { rcode: 3, authorities: [soa('example', 30, 3600)] };
  const reading = read(sentFor('www.example'), good);
  assert.equal(reading.kind === 'good' && reading.packed.ttl, 30);
  assert.deepEqual(kept('www.example', good), ['example SOA']);
  const short = read(sentFor('www.example'), { authorities: [soa('example', 900, 20)] });
  assert.equal(short.kind === 'good' && short.packed.ttl, 20);
  const long = read(sentFor('www.example'), {
    rcode: 3,
    authorities: [soa('example', 90_000, 90_000)],
  });
  assert.equal(long.kind === 'good' && long.packed.ttl, 3600, 'an hour at most');
  for (const authorities of [[], [soa('other', 30)], [soa('w.www.example', 30)]]) {
    const unkept = read(sentFor('www.example'), { rcode: 3, authorities });
    assert.equal(unkept.kind === 'good' && unkept.packed.ttl, 0, 'without its SOA it is not kept');
    assert.deepEqual(kept('www.example', { rcode: 3, authorities }), []);
  }
});

test('a TTL of more than a day is a day, one with the highest bit is none', () => {
  const day = read(sentFor('www.example'), { answers: [a('www.example', '10.0.0.1', 1_000_000)] });
  assert.equal(day.kind === 'good' && day.packed.ttl, 86_400);
  const none = read(sentFor('www.example'), { answers: [a('www.example', '10.0.0.1', 2 ** 31)] });
  assert.equal(none.kind === 'good' && none.packed.ttl, 0);
});

test('the smallest TTL of all that is answered counts', () => {
  const answers = [a('www.example', '10.0.0.1', 300), a('www.example', '10.0.0.2', 20)];
  const reading = read(sentFor('www.example'), { answers });
  assert.equal(reading.kind === 'good' && reading.packed.ttl, 20);
});

test('a referral and an answer by who does not resolve are lame; an authoritative one is not', () => {
  const ns: Answer = { type: 'NS', name: 'example', data: 'ns.example', ttl: 60 };
  const referral = read(sentFor('www.example'), { authorities: [ns] });
  assert.deepEqual(referral, { kind: 'loss', result: 'lame', rcode: 0 });
  const empty = read(sentFor('www.example'), { flags: 0 });
  assert.equal(empty.kind, 'good', 'no data, said by a resolver');
  const authoritative = read(sentFor('www.example'), { flags: 0x400, authorities: [ns] });
  assert.equal(authoritative.kind, 'good');
});

const rrsig = (name: string, typeCovered: RecordType, signersName = 'example'): Answer => ({
  type: 'RRSIG',
  name,
  ttl: 60,
  data: {
    typeCovered,
    algorithm: 13,
    labels: 2,
    originalTTL: 60,
    expiration: 2,
    inception: 1,
    keyTag: 1,
    signersName,
    signature: Buffer.from('00', 'hex'),
  },
});

const nsec: Answer = {
  type: 'NSEC',
  name: 'w.example',
  ttl: 60,
  data: { nextDomain: 'x.example', rrtypes: ['A'] },
};

test('signatures and denials are kept for those who can check them', () => {
  const positive = { answers: [a('www.example', '10.0.0.1'), rrsig('www.example', 'A')] };
  assert.equal(kept('www.example', positive).length, 1);
  assert.equal(kept('www.example', positive, true).length, 2);
  const negative = {
    rcode: 3,
    authorities: [
      soa('example', 30),
      rrsig('example', 'SOA'),
      nsec,
      { ...nsec, name: 'evil.test' },
    ],
  };
  assert.deepEqual(kept('www.example', negative), ['example SOA']);
  assert.deepEqual(kept('www.example', negative, true), [
    'example SOA',
    'example RRSIG',
    'w.example NSEC',
  ]);
});

test("that nothing but a wildcard has the name is kept beside the wildcard's answer, of its zone alone", () => {
  const wildcard = {
    answers: [a('x.example', '10.0.0.1'), rrsig('x.example', 'A')],
    authorities: [
      nsec,
      rrsig('w.example', 'NSEC'),
      { ...nsec, name: 'w.test' },
      rrsig('w.test', 'NSEC', 'test'),
      soa('example', 30),
      { type: 'NS', name: 'example', ttl: 60, data: 'ns.example' } as Answer,
      rrsig('example', 'NS'),
    ],
  };
  assert.deepEqual(kept('x.example', wildcard), ['x.example A 10.0.0.1']);
  const all = ['x.example A 10.0.0.1', 'x.example RRSIG', 'w.example NSEC', 'w.example RRSIG'];
  assert.deepEqual(kept('x.example', wildcard, true), all);
  const brief = { ...wildcard, authorities: [{ ...nsec, ttl: 20 }] };
  const reading = read(sentFor('x.example', 'A', true), brief);
  assert.equal(reading.kind === 'good' && reading.packed.ttl, 20, 'it counts for how long');
  const foreign = {
    ...wildcard,
    answers: [a('x.example', '10.0.0.1'), rrsig('x.example', 'A', 'test')],
  };
  assert.equal(kept('x.example', foreign, true).length, 2, 'who signs is above what is signed');
});

test('where CNAMEs lead through zones the denials of each are kept', () => {
  const options = {
    rcode: 3,
    answers: [
      { type: 'CNAME', name: 'x.example', data: 'n.other', ttl: 60 } as Answer,
      rrsig('x.example', 'CNAME'),
    ],
    authorities: [
      nsec,
      rrsig('w.example', 'NSEC'),
      soa('other', 60),
      rrsig('other', 'SOA', 'other'),
      soa('example', 60),
      rrsig('example', 'SOA'),
      { ...nsec, name: 'm.other' },
      { ...nsec, name: 'm.third' },
    ],
  };
  assert.deepEqual(kept('x.example', options, true), [
    'x.example CNAME n.other',
    'x.example RRSIG',
    'w.example NSEC',
    'w.example RRSIG',
    'other SOA',
    'other RRSIG',
    'm.other NSEC',
  ]);
});

test('records whose data cannot be are refused with the whole reply', () => {
  const sent = sentFor('www.example');
  const reply = Buffer.from(
    replyTo(Buffer.concat([Buffer.from('000701000001000000000000', 'hex'), sent.question]), {
      answers: [a('www.example', '10.0.0.1')],
    }),
  );
  assert.equal(readReply(reply, sent).kind, 'good');
  reply.writeUInt16BE(3, reply.length - 6);
  assert.deepEqual(readReply(reply.subarray(0, -1), sent), {
    kind: 'loss',
    result: 'unparsable',
    rcode: 0,
  });
});

test('names in data are read through pointers and written so that others can read them', () => {
  // www.example CNAME (pointer to) a.b.example, which lies in an MX that is left out
  const head = Buffer.from('000781800001000300000000', 'hex');
  const { question } = sentFor('www.example');
  const base = 12 + question.length;
  const mx = Buffer.from('c010000f00010000003c0008000a01610162c010', 'hex');
  const target = base + mx.length - 6;
  const cname = Buffer.from('c00c000500010000003c0002c000', 'hex');
  cname.writeUInt16BE(0xc000 | target, cname.length - 2);
  const address = Buffer.from('c000000100010000003c00040a000001', 'hex');
  address.writeUInt16BE(0xc000 | target, 0);
  const reply = Buffer.concat([head, question, mx, cname, address]);
  const sent = { id: 7, question, isDnssecOk: false };
  assert.equal(matchReply(reply, sent), 'same');
  const reading = readReply(reply, sent);
  assert.equal(reading.kind, 'good');
  const options = { seconds: 0, isStale: false };
  const bytes = writeAnswer(reading.packed, queryFor('www.example'), TCP, options);
  const packet = dnsPacket.decode(Buffer.from(bytes));
  assert.deepEqual(
    packet.answers?.map((answer) => [answer.name, 'data' in answer && answer.data]),
    [
      ['www.example', 'a.b.example'],
      ['a.b.example', '10.0.0.1'],
    ],
  );
  assert.equal(bytes.length, 12 + question.length + 12 + 6 + 16, 'compressed: a.b → pointer');
});

test('pointers that lead forward, to themselves or into the header end the reading', () => {
  for (const pointer of ['c00c', 'c00d', 'c00e', 'c005', 'c0ff'])
    assert.equal(readName(Buffer.from(`${'00'.repeat(12)}${pointer}0000`, 'hex'), 12), undefined);
  const long = Buffer.concat([
    Buffer.alloc(12),
    ...Array.from({ length: 5 }, () => Buffer.from([63, ...Buffer.alloc(63, 97)])),
    Buffer.alloc(1),
  ]);
  assert.equal(readName(long, 12), undefined, '255 bytes at most');
});

test('a name whose labels come from pointers cannot make a message larger than messages are', () => {
  const owner = new Uint8Array(Buffer.from('3f'.padEnd(128, '61').repeat(3) + '00', 'hex'));
  const record = {
    owner,
    key: nameKey(owner),
    type: 16,
    class: 1,
    ttl: 1,
    data: new Uint8Array(60_000),
  };
  const sections = {
    rcode: 0,
    isAuthentic: false,
    answers: [record, record],
    authorities: [],
    ttl: 1,
  };
  assert.equal(pack(sentFor('www.example').question, sections), undefined);
});

test('isWithin() goes by labels', () => {
  const key = (name: string): string => nameKey(queryFor(name).question.subarray(0, -4));
  assert.ok(isWithin(key('a.example'), key('example')));
  assert.ok(isWithin(key('A.EXAMPLE'), key('example')));
  assert.ok(isWithin(key('a.example'), '\0'));
  assert.ok(!isWithin(key('aexample'), key('example')));
  assert.ok(!isWithin(key('example'), key('a.example')));
});

test('case is random in every letter, and in nothing else', () => {
  const question = new Uint8Array(queryFor('www.ex-4mple.test', 'TXT').question);
  const random = sfc32(3);
  const seen = new Set<string>();
  for (let i = 0; i < 64; i++) {
    const made = recase(question, random);
    assert.equal(nameKey(made.subarray(0, -4)), nameKey(question.subarray(0, -4)));
    assert.equal(u16(made, made.length - 4), 16);
    seen.add(Buffer.from(made).toString('latin1'));
  }
  assert.ok(seen.size >= 60);
  assert.deepEqual(recase(recase(question, random), undefined), question);
});

test('a reply with another id, question, type, direction or opcode is none', () => {
  const world = worldWith(({ bytes }) => {
    const good = Buffer.from(replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] }));
    const otherId = Buffer.from(good);
    otherId.writeUInt16BE(good.readUInt16BE(0) ^ 1, 0);
    const query = Buffer.from(good);
    query[2] = 0x01;
    const wrong = [otherId, query];
    return [...wrong.map((reply) => ({ afterMs: 1, bytes: reply })), { afterMs: 2, bytes: good }];
  });
  const { asked } = world.resolve(queryFor('www.example'));
  assert.deepEqual(dataOf(asked), ['10.0.0.1']);
  assert.equal(world.machine.stats(world.nowMs).mismatches, 2);
  const sent = sentFor('www.example');
  const reply = replyTo(
    Buffer.concat([Buffer.from('000701000001000000000000', 'hex'), sent.question]),
  );
  const changed = (change: (bytes: Buffer) => void): string => {
    const bytes = Buffer.from(reply);
    change(bytes);
    return matchReply(bytes, sent);
  };
  assert.equal(
    changed(() => undefined),
    'same',
  );
  assert.equal(
    changed((bytes) => (bytes[13] = 0x57)),
    'case',
  );
  assert.equal(
    changed((bytes) => (bytes[13] = 0x78)),
    'other',
  );
  assert.equal(
    changed((bytes) => (bytes[bytes.length - 3] = 28)),
    'other',
  );
  assert.equal(
    changed((bytes) => (bytes[bytes.length - 1] = 3)),
    'other',
  );
  assert.equal(
    changed((bytes) => (bytes[2] = 0xa8)),
    'other',
  );
  assert.equal(
    changed((bytes) => (bytes[5] = 2)),
    'other',
  );
  assert.equal(matchReply(Buffer.from('000781820000000000000000', 'hex'), sent), 'bare');
  assert.equal(matchReply(Buffer.from('000781800000000000000000', 'hex'), sent), 'other');
});

test('after three replies that do not fit TCP has to tell', () => {
  const world = worldWith(({ bytes, transport }) => {
    const good = replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] });
    if (transport === 'tcp') return [{ afterMs: 1, bytes: good }];
    const guess = (id: number): { afterMs: number; bytes: Uint8Array } => ({
      afterMs: 1,
      bytes: replyTo(bytes, { id: u16(bytes, 0) ^ id, answers: [a(nameOf(bytes), '10.6.6.6')] }),
    });
    return [guess(1), guess(2), guess(3), { afterMs: 2, bytes: good }];
  });
  const { asked } = world.resolve(queryFor('www.example'));
  assert.deepEqual(dataOf(asked), ['10.0.0.1']);
  assert.deepEqual(
    asked.attempts.map(({ transport, result }) => [transport, result]),
    [
      ['udp', 'spoofed'],
      ['tcp', 'good'],
    ],
  );
});

test('a reply in other case is not believed before TCP told that the upstream does not keep case', () => {
  const lower: Behaviour = ({ bytes, transport }) => {
    const name = nameOf(bytes).toLowerCase();
    const data = transport === 'tcp' ? '10.0.0.1' : '10.0.0.2';
    return [{ afterMs: 1, bytes: replyTo(bytes, { name, answers: [a(name, data)] }) }];
  };
  const world = worldWith(lower);
  const first = world.resolve(queryFor('Www.Example')).asked;
  assert.deepEqual(dataOf(first), ['10.0.0.1']);
  assert.deepEqual(
    first.attempts.map(({ transport, result }) => [transport, result]),
    [
      ['udp', 'case'],
      ['tcp', 'good'],
    ],
  );
  assert.equal(decoded(first).questions?.[0]?.name, 'Www.Example', 'the client has its own case');
  const second = world.resolve(queryFor('two.example')).asked;
  assert.deepEqual(dataOf(second), ['10.0.0.2'], 'from then on it is asked in lower case');
  assert.equal(nameOf(world.sends.at(-1)?.bytes ?? new Uint8Array()), 'two.example');
  world.pass(3_600_000);
  const later = world.resolve(queryFor('a-name-with-letters.example')).asked;
  assert.equal(later.attempts[0]?.result, 'case', 'an hour later it has to prove it again');
});

test('where TCP keeps case, the reply in other case was forged, and the next one is checked as well', () => {
  const world = worldWith(({ bytes, transport }) => {
    const good = replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] });
    if (transport === 'tcp') return [{ afterMs: 1, bytes: good }];
    const name = nameOf(bytes).toLowerCase();
    return [{ afterMs: 1, bytes: replyTo(bytes, { name, answers: [a(name, '10.6.6.6')] }) }];
  });
  for (const name of ['one-with-letters.example', 'two-with-letters.example'])
    assert.deepEqual(dataOf(world.resolve(queryFor(name)).asked), ['10.0.0.1']);
  assert.equal(world.machine.stats(world.nowMs).upstreams[0]?.isCaseKept, true);
});

test('one that does not keep case is looked into also when another one always wins', () => {
  const world = new ForwardWorld(settingsOf([A, B]));
  world.upstreams.set(A, answering('10.0.0.1', 1));
  world.upstreams.set(B, ({ bytes }) => {
    const name = nameOf(bytes).toLowerCase();
    return [{ afterMs: 5, bytes: replyTo(bytes, { name, answers: [a(name, '10.0.0.2')] }) }];
  });
  for (const name of ['one-name.example', 'two-name.example']) {
    world.resolve(queryFor(name));
    world.settle();
  }
  const b = world.machine.stats(world.nowMs).upstreams[1];
  assert.deepEqual([b?.upstream, b?.isCaseKept, b?.state], [B, false, 'good']);
});

test('ids are not told by the ones before, and each attempt has its own', () => {
  const world = worldWith(answering('10.0.0.1', 1, 0));
  const ids = new Set<number>();
  for (let i = 0; i < 500; i++) world.resolve(queryFor(`n${i}.example`));
  for (const { bytes } of world.sends) ids.add(u16(bytes, 0));
  assert.ok(ids.size > 490, `${ids.size} different ids of 500`);
});
