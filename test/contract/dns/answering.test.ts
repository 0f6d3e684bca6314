/** From a client's message to its answer, with others who say what a test wants: CNAMEs between them and us, who may ask, bugs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as packet from 'dns-packet';
import { answerText, questionOf } from '../../../src/dns/answer-text.ts';
import { Allowed } from '../../../src/dns/allow.ts';
import { DnsCounters } from '../../../src/dns/counters.ts';
import type { Asked, AskOptions } from '../../../src/dns/forward/types.ts';
import { Answering } from '../../../src/dns/io/answering.ts';
import type { Query } from '../../../src/dns/query.ts';
import { createLogger } from '../../../src/telemetry/io/log.ts';
import { patience } from '../../harness/eventually.ts';
import { DOMAIN, question, tell, zoneOf, type Words } from '../../unit/dns/zones.ts';

const log = createLogger('error', 1);
log.level = 'silent';

const TIMEOUT_MS = 300;

/** What others say, for nothing: never; the questions that they are asked. A zone of theirs is `corp`. */
function answering(
  words: Words,
  say: (query: Query) => packet.Packet | undefined,
): {
  answering: Answering;
  asked: Query[];
  leftMs: (number | undefined)[];
  counters: DnsCounters;
} {
  const zone = zoneOf(words);
  const asked: Query[] = [];
  const left: (number | undefined)[] = [];
  const counters = new DnsCounters();
  const allowed = new Allowed([]);
  allowed.setOwn(['127.0.0.1']);
  const ask = (query: Query, { leftMs }: AskOptions): Promise<Asked> => {
    asked.push(query);
    left.push(leftMs);
    const said = say(query);
    if (said === undefined) return new Promise(() => undefined);
    const questions: packet.Question[] = [{ name: query.name, type: 'A' }];
    const bytes = packet.encode({ type: 'response', id: query.id, questions, ...said });
    const attempt = { upstream: query.name, transport: 'udp', ms: 1, result: 'good' } as const;
    const rcode = (bytes[3] ?? 0) & 15;
    return Promise.resolve({ bytes, rcode, from: 'upstream', attempts: [attempt] });
  };
  const forwarder = { ask, zoneOf: (name: string) => (/(^|\.)corp$/.test(name) ? 'corp' : '') };
  const limits = { udpSizeMax: 1232, timeoutMs: TIMEOUT_MS };
  const options = { ...limits, zone: () => zone, forwarder, allowed, counters, log };
  return { answering: new Answering(options), asked, leftMs: left, counters };
}

const LOCAL = { transport: 'udp', server: '127.0.0.55', client: '127.0.0.1' } as const;
const STRANGER = { ...LOCAL, client: '192.0.2.7' } as const;

const shown = (bytes: Uint8Array | undefined): unknown => {
  const text = answerText(bytes ?? new Uint8Array());
  return [text?.rcode, text?.answers.map(({ name, type, data }) => `${name} ${type} ${data}`)];
};

test('a CNAME to a name of others has their answer behind it, as one message', async () => {
  const theirs = (query: Query): packet.Packet => ({
    questions: [{ name: query.name, type: 'A' }],
    answers: [
      { type: 'CNAME', name: 'cdn.example', ttl: 30, data: 'edge.cdn.example' },
      { type: 'A', name: 'edge.cdn.example', ttl: 30, data: '192.0.2.1' },
    ],
  });
  const records = ['www.corp CNAME cdn.example'];
  const { answering: resolver, asked } = answering({ records }, theirs);
  const bytes = await resolver.answer(question('WwW.corp', 'A', { edns: 1232 }), LOCAL);
  assert.deepEqual(shown(bytes), [
    0,
    [
      'www.corp CNAME cdn.example',
      'cdn.example CNAME edge.cdn.example',
      'edge.cdn.example A 192.0.2.1',
    ],
  ]);
  const read = packet.decode(Buffer.from(bytes ?? []));
  assert.deepEqual(
    [read.id, read.questions?.[0]?.name, read.answers?.length, read.additionals?.length],
    [0x1234, 'WwW.corp', 3, 1],
  );
  assert.deepEqual(
    asked.map(({ name, type }) => [name, type]),
    [['cdn.example', 1]],
  );
  assert.deepEqual(shown(await resolver.answer(question('www.corp', 'A'), STRANGER)), [
    0,
    ['www.corp CNAME cdn.example'],
  ]);
  assert.equal(asked.length, 1, 'a stranger has others asked for nothing');
});

/** CNAMEs, from the name that is asked on, and what is said of the last one. */
function leading(
  chains: Readonly<Record<string, readonly string[]>>,
  said: { readonly flags?: number; readonly more?: readonly packet.Answer[] } = {},
): (query: Query) => packet.Packet {
  return ({ name }) => ({
    flags: said.flags ?? 0,
    answers: [
      ...(chains[name] ?? []).map((target, i): packet.Answer => {
        const owner = i === 0 ? name : (chains[name]?.[i - 1] ?? '');
        return { type: 'CNAME', name: owner, ttl: 300, data: target };
      }),
      ...(said.more ?? []),
    ],
  });
}

const NXDOMAIN = 3;
const AUTHENTIC = packet.AUTHENTIC_DATA;
const WEB = { services: { web: { vips: ['240.0.0.1'] } } };

test('a CNAME of others to a name of ours is answered by us, whatever they say of that name', async () => {
  const chain = { 'www.example': ['cdn.example', `WEB.${DOMAIN}`] };
  const evil: packet.Answer[] = [{ type: 'A', name: `web.${DOMAIN}`, ttl: 300, data: '6.6.6.6' }];
  for (const said of [{ flags: NXDOMAIN | AUTHENTIC }, { flags: AUTHENTIC, more: evil }]) {
    const { answering: resolver, asked } = answering(WEB, leading(chain, said));
    const asking = { edns: 1232, flags: packet.RECURSION_DESIRED | AUTHENTIC };
    const bytes = await resolver.answer(question('wWw.example', 'A', asking), LOCAL);
    assert.deepEqual(tell(bytes ?? new Uint8Array()), {
      rcode: 'NOERROR',
      flags: 'rd ra',
      answers: [
        'wWw.example 300 CNAME cdn.example',
        `cdn.example 300 CNAME WEB.${DOMAIN}`,
        `WEB.${DOMAIN} 5 A 240.0.0.1`,
      ],
      authorities: [],
      additionals: [],
      opt: { size: 1232, isDnssecOk: false },
      bytes: bytes?.length,
    });
    assert.deepEqual(
      asked.map(({ name }) => name),
      ['www.example'],
    );
  }
});

test('DNAMEs and signatures of what leads to us stay, those of what is beyond go', async () => {
  const signature = (name: string, typeCovered: string): packet.Answer => {
    const times = { inception: 1, expiration: 2, originalTTL: 300 };
    const rest = { algorithm: 13, labels: 2, keyTag: 1, signersName: 'example', ...times };
    const data = { typeCovered, ...rest, signature: Buffer.alloc(64) };
    return { type: 'RRSIG', name, ttl: 300, data };
  };
  const more: packet.Answer[] = [
    { type: 'DNAME', name: 'old.example', ttl: 300, data: DOMAIN },
    signature('old.example', 'DNAME'),
    { type: 'DNAME', name: DOMAIN, ttl: 300, data: 'evil.example' },
    signature('web.old.example', 'CNAME'),
    signature(`web.${DOMAIN}`, 'A'),
  ];
  const chain = { 'web.old.example': [`web.${DOMAIN}`] };
  const { answering: resolver } = answering(WEB, leading(chain, { more }));
  const asking = { edns: 1232, isDnssecOk: true };
  const bytes = await resolver.answer(question('web.old.example', 'A', asking), LOCAL);
  const { answers } = tell(bytes ?? new Uint8Array());
  assert.deepEqual(
    answers.map((text) => text.split(' ').slice(0, 3).join(' ')),
    [
      'web.old.example 300 CNAME',
      'old.example 300 DNAME',
      'old.example 300 RRSIG',
      'web.old.example 300 RRSIG',
      `web.${DOMAIN} 5 A`,
    ],
  );
});

test('of a name of ours that is not there the answer has our code and SOA', async () => {
  const chain = { 'www.example': [`nobody.${DOMAIN}`], 'txt.example': [`web.${DOMAIN}`] };
  const { answering: resolver } = answering(WEB, leading(chain, { flags: 0 }));
  const says = async (name: string, type: string): Promise<unknown> => {
    const bytes = await resolver.answer(question(name, type), LOCAL);
    const { rcode, answers, authorities } = tell(bytes ?? new Uint8Array());
    return [rcode, answers.length, authorities.map((text) => text.split(' ')[0])];
  };
  assert.deepEqual(await says('www.example', 'A'), ['NXDOMAIN', 1, [DOMAIN]]);
  assert.deepEqual(await says('txt.example', 'MX'), ['NOERROR', 1, [DOMAIN]]);
});

test('a CNAME into a zone of dns.forward is asked of its servers, and may lead on to us', async () => {
  const chains = {
    'a.corp': ['b.corp', 'back.example'],
    'b.example': ['b.corp'],
    'c.corp': [`web.${DOMAIN}`],
    'c.example': ['c.corp'],
  };
  const more: packet.Answer[] = [
    { type: 'A', name: 'b.corp', ttl: 9, data: '10.0.0.2' },
    { type: 'A', name: 'back.example', ttl: 9, data: '10.0.0.3' },
  ];
  const { answering: resolver, asked } = answering(WEB, leading(chains, { more }));
  const says = async (name: string): Promise<unknown> => {
    asked.length = 0;
    const done = await resolver.resolve(questionOf(name, 1), LOCAL);
    const [code, texts] = shown(done.bytes) as [number, string[]];
    const last = texts.at(-1);
    return [code, last, asked.map((one) => one.name), done.attempts?.length];
  };
  const b = ['b.example', 'b.corp'];
  assert.deepEqual(await says('b.example'), [0, 'back.example A 10.0.0.3', b, 2]);
  assert.deepEqual(await says('a.corp'), [0, 'back.example A 10.0.0.3', ['a.corp'], 1]);
  const c = [0, `web.${DOMAIN} A 240.0.0.1`, ['c.example', 'c.corp'], 2];
  assert.deepEqual(await says('c.example'), c);
});

test('who asks for the CNAME itself, or for all, has it as others gave it; and so where it is cut', async () => {
  const chain = { 'www.example': [`web.${DOMAIN}`] };
  for (const [type, flags] of [
    ['CNAME', 0],
    ['ANY', 0],
    ['A', packet.TRUNCATED_RESPONSE],
  ] as const) {
    const { answering: resolver } = answering(WEB, leading(chain, { flags }));
    const bytes = await resolver.answer(question('www.example', type), LOCAL);
    assert.deepEqual(shown(bytes), [0, [`www.example CNAME web.${DOMAIN}`]], type);
  }
});

test('CNAMEs that lead round between us and others end as SERVFAIL', async () => {
  const records = [`round.${DOMAIN} CNAME round.example`];
  const chain = {
    'round.example': [`round.${DOMAIN}`],
    'www.example': ['a.corp'],
    'a.corp': [`round.${DOMAIN}`],
  };
  for (const name of ['round.example', 'www.example', `round.${DOMAIN}`]) {
    const { answering: resolver, asked } = answering({ records }, leading(chain));
    assert.deepEqual(shown(await resolver.answer(question(name, 'A'), LOCAL)), [2, []], name);
    assert.ok(asked.length <= 8, `${asked.length} questions`);
  }
});

test('however often a CNAME leads on, the answer is within the bound', async () => {
  const say = ({ name }: Query): packet.Packet | undefined =>
    name === 'a.corp' ? undefined : leading({ 'www.example': ['a.corp'] })(questionOf(name, 1));
  const { answering: resolver } = answering({}, say);
  const startMs = performance.now();
  assert.deepEqual(shown(await resolver.answer(question('www.example', 'A'), LOCAL)), [2, []]);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < TIMEOUT_MS + 1000 * patience, `${tookMs} ms`);
});

test('who is asked for what is behind a CNAME hears how much of the bound is left', async () => {
  const chains = { 'www.example': ['a.corp'], 'a.corp': [`web.${DOMAIN}`] };
  const { answering: resolver, leftMs } = answering(WEB, leading(chains));
  await resolver.answer(question('www.example', 'A'), LOCAL);
  const [first, second = Infinity] = leftMs;
  assert.deepEqual([leftMs.length, first], [2, undefined], 'the whole of it');
  assert.ok(second < TIMEOUT_MS, `${second} ms`);
});

test('parts that fit into no message together are SERVFAIL, and nothing that is logged', async (t) => {
  const vips = Array.from({ length: 200 }, (_, i) => `240.0.1.${i}`);
  const times = { inception: 1, expiration: 2, originalTTL: 300 };
  const rest = { algorithm: 13, labels: 2, keyTag: 1, signersName: 'example', ...times };
  const data = { typeCovered: 'CNAME', ...rest, signature: Buffer.alloc(2195) };
  const more = Array.from({ length: 29 }, (): packet.Answer => ({
    type: 'RRSIG',
    name: 'www.example',
    ttl: 300,
    data,
  }));
  const chain = { 'www.example': [`web.${DOMAIN}`] };
  const { answering: resolver, counters } = answering(
    { services: { web: { vips } } },
    leading(chain, { more }),
  );
  const error = t.mock.method(log, 'error');
  const asking = question('www.example', 'A', { edns: 1232, isDnssecOk: true });
  assert.deepEqual(shown(await resolver.answer(asking, LOCAL)), [2, []]);
  assert.equal(error.mock.callCount(), 0);
  assert.deepEqual(counters.read().responses, [{ rcode: 'SERVFAIL', from: 'failure', count: 1 }]);
});

test('who may not ask for names of others is refused, and it is counted', async () => {
  const { answering: resolver, asked, counters } = answering({}, () => ({}));
  assert.deepEqual(shown(await resolver.answer(question('a.example', 'A'), STRANGER)), [5, []]);
  const withoutRecursion = question('a.example', 'A', { flags: 0 });
  assert.deepEqual(shown(await resolver.answer(withoutRecursion, LOCAL)), [5, []]);
  assert.equal(asked.length, 0);
  assert.equal(await resolver.answer(new Uint8Array(5), LOCAL), undefined);
  const { requests, responses } = counters.read();
  assert.deepEqual(responses, [{ rcode: 'REFUSED', from: 'refused', count: 2 }]);
  assert.deepEqual(
    requests.map(({ count }) => count),
    [2, 0, 0, 0],
  );
});

test('a bug is answered SERVFAIL, and the next question as ever', async () => {
  let isBroken = true;
  const resolver = new Answering({
    udpSizeMax: 1232,
    zone: () => {
      if (isBroken) throw new Error('a bug');
      return zoneOf({ services: { web: { vips: ['240.0.0.1'] } } });
    },
    forwarder: { ask: () => Promise.reject(new Error('not asked')), zoneOf: () => '' },
    timeoutMs: TIMEOUT_MS,
    allowed: new Allowed([]),
    counters: new DnsCounters(),
    log,
  });
  const ask = (): ReturnType<typeof resolver.answer> =>
    resolver.answer(question(`web.${DOMAIN}`, 'A'), LOCAL);
  assert.deepEqual(shown(await ask()), [2, []]);
  isBroken = false;
  assert.deepEqual(shown(await ask()), [0, [`web.${DOMAIN} A 240.0.0.1`]]);
});
