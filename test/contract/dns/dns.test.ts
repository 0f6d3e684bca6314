/** The resolver of the agent as a whole, without its kernel: who is answered from what, and when. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import * as packet from 'dns-packet';
import { formatAddress, type HostPort } from '../../../src/cluster/address.ts';
import { configSchema, type ConfigInput } from '../../../src/config/schema.ts';
import { answerText, questionOf } from '../../../src/dns/answer-text.ts';
import { Allowed } from '../../../src/dns/allow.ts';
import { DnsCounters } from '../../../src/dns/counters.ts';
import type { Asked } from '../../../src/dns/forward/types.ts';
import { Answering } from '../../../src/dns/io/answering.ts';
import { Dns, type DnsOptions, type DnsWorld } from '../../../src/dns/io/dns.ts';
import type { Query } from '../../../src/dns/query.ts';
import { createLogger } from '../../../src/telemetry/io/log.ts';
import { blockUntilRead } from '../../harness/dns-thread.ts';
import { patience } from '../../harness/eventually.ts';
import { soa } from '../../harness/forward-world.ts';
import { UpstreamServer } from '../../harness/upstream-server.ts';
import { DOMAIN, question, sourcesOf, tell, zoneOf, type Words } from '../../unit/dns/zones.ts';

const log = createLogger('error', 1);
log.level = 'silent';

const LISTEN = { host: '127.0.55.50', port: 5355 };

function worldOf(words: Words): DnsWorld {
  const { catalog, self, nodes, unreachable, records, isReady, pools: _ } = sourcesOf(words);
  return { catalog, self, nodes, unreachable, records, isApplied: isReady };
}

function services(count: number): NonNullable<Words['services']> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`s${i}`, { vips: [`240.1.${i >> 8}.${i & 255}`] }]),
  );
}

class Running {
  world: DnsWorld;
  readonly dns: Dns;

  constructor(
    t: TestContext,
    words: Words,
    dns: ConfigInput['dns'] = {},
    listen: HostPort = { host: '127.0.55.50', port: 0 },
  ) {
    this.world = worldOf(words);
    const config = configSchema.parse({
      dns: { kernel: false, upstreams: ['127.0.55.99'], ...dns },
    });
    this.dns = new Dns({
      config: { ...config.dns, listen: [listen] },
      pools: { v4: config.vipCidr4, v6: config.vipPrefix6 },
      log,
      world: () => this.world,
      // What the kernel would need; it is off.
      cgroup: undefined as unknown as DnsOptions['cgroup'],
      pins: undefined as unknown as DnsOptions['pins'],
      kernelEntriesMax: 16,
    });
    t.after(() => this.dns.close());
  }

  async a(name: string): Promise<string> {
    const { answers, rcode } = await this.dns.query({ name, type: 'A' });
    return answers.map(({ data }) => data).join(' ') || rcode;
  }
}

test('who asks while the zone is being made is answered from all of it', async (t) => {
  const running = new Running(t, { services: services(1000) });
  await running.dns.start();
  const warming = running.dns.warm();
  assert.ok(running.dns.status().names < 1000, 'it is not made yet');
  assert.equal(await running.a(`s999.${DOMAIN}`), '240.1.3.231');
  await warming;
  const entries = [...running.dns.zone().entries].filter(({ from }) => from === 'service');
  assert.deepEqual(
    entries,
    [...new Running(t, { services: services(1000) }).dns.zone().entries].filter(
      ({ from }) => from === 'service',
    ),
  );
  assert.ok(entries.length >= 1000);
});

test('a zone that is made in slices is the one that is made at once, also if things change meanwhile', async (t) => {
  const running = new Running(t, { services: services(1000) });
  const warming = running.dns.warm();
  const changed = { ...services(900), new: { vips: ['240.9.9.9'] } };
  running.world = worldOf({ services: changed, records: ['www.example A 192.0.2.1'] });
  running.dns.apply([...Array.from({ length: 100 }, (_, i) => `s${900 + i}`), 'new']);
  await warming;
  const whole = new Running(t, { services: changed, records: ['www.example A 192.0.2.1'] });
  assert.deepEqual([...running.dns.zone().entries], [...whole.dns.zone().entries]);
});

test('the next answer after a change is as it is now', async (t) => {
  const running = new Running(t, { services: { web: { vips: ['240.0.0.1'] } } });
  assert.equal(await running.a(`web.${DOMAIN}`), '240.0.0.1');
  running.world = worldOf({ services: { web: { vips: ['240.0.0.2'] } } });
  running.dns.apply(['web']);
  assert.equal(await running.a(`web.${DOMAIN}`), '240.0.0.2');
  running.world = worldOf({ services: {}, nodes: { h1: { addresses: ['10.0.0.1'] } } });
  running.dns.apply(['web']);
  assert.equal(await running.a(`web.${DOMAIN}`), 'NXDOMAIN');
  assert.equal(await running.a(`h1.node.${DOMAIN}`), '10.0.0.1');
  running.world = { ...running.world, unreachable: new Set(['h1']) };
  running.dns.apply([]);
  assert.equal(await running.a(`h1.node.${DOMAIN}`), 'NOERROR', 'no address any more');
});

async function client(t: TestContext, { dns }: Running): Promise<Socket> {
  const [, host = '', port = ''] =
    /^(.*):(\d+)$/.exec(dns.status().listeners[0]?.address ?? '') ?? [];
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.connect(Number(port), host);
  await once(socket, 'connect');
  return socket;
}

/** Asks over UDP; nothing of the agent has its turn before the thread has answered, or handed it on. */
function askAtOnce(socket: Socket): Promise<string> {
  const signal = AbortSignal.timeout(10_000 * patience);
  const heard = once(socket, 'message', { signal }) as Promise<[Buffer]>;
  socket.send(question(`web.${DOMAIN}`, 'A'));
  blockUntilRead(socket.remoteAddress().port);
  return heard.then(([bytes]) => {
    const { rcode, answers } = tell(bytes);
    return answers.map((text) => text.split(' ').at(-1)).join(' ') || rcode;
  });
}

test('over UDP too, also of names that the thread answers, in the very moment of the change', async (t) => {
  const running = new Running(t, { services: { web: { vips: ['240.0.0.1'] } } });
  await running.dns.start();
  const socket = await client(t, running);
  const steps = [['240.0.0.1'], ['240.0.0.2'], [], ['240.0.0.3']];
  for (const vips of steps) {
    running.world = worldOf({ services: vips.length === 0 ? {} : { web: { vips } } });
    running.dns.apply(['web']);
    const expected = vips[0] ?? 'NXDOMAIN';
    for (let i = 0; i < 3; i++) assert.equal(await askAtOnce(socket), expected);
  }
  const { counts } = running.dns.read();
  assert.equal(
    counts.requests.find(({ proto, family }) => proto === 'udp' && family === '1')?.count,
    12,
  );
  assert.deepEqual(
    counts.responses.map(({ rcode, from, count }) => `${count} ${rcode} ${from}`).toSorted(),
    ['3 NXDOMAIN zone', '9 NOERROR zone'],
  );
  assert.equal(
    counts.durations.counts.reduce((sum, count) => sum + count, 0),
    12,
  );
});

test('what changes while the agent stops disturbs nobody', async (t) => {
  const running = new Running(t, { services: { web: { vips: ['240.0.0.1'] } } });
  await running.dns.start();
  await running.dns.close();
  running.world = worldOf({ services: { web: { vips: ['240.0.0.2'] } } });
  running.dns.apply(['web']);
  running.dns.look();
  assert.equal(await running.a(`web.${DOMAIN}`), '240.0.0.2');
  assert.deepEqual(running.dns.status().listeners, []);
});

test('its own address among the upstreams is told of, and nobody is asked there', async (t) => {
  const upstreams = [formatAddress(LISTEN), '127.0.55.51:5355'];
  const { dns } = new Running(t, {}, { upstreams }, LISTEN);
  await dns.start();
  assert.deepEqual(dns.status().problems, [
    "dns.upstreams has this agent's own address 127.0.55.50:5355: it is left out",
  ]);
  const { rcode, attempts } = await dns.query({ name: 'a.example', type: 'A' });
  assert.equal(rcode, 'SERVFAIL');
  assert.deepEqual([...new Set(attempts.map(({ upstream }) => upstream))], ['127.0.55.51:5355']);
});

test('a zone of dns.forward below the domain is asked of its servers; one as long or shorter takes nothing away', async (t) => {
  const forward = {
    [`sub.${DOMAIN}`]: ['127.0.55.52:5355'],
    [DOMAIN]: ['127.0.55.53:5355'],
    internal: ['127.0.55.53:5355'],
  };
  const { dns } = new Running(t, {}, { forward, timeoutMs: 500 });
  const below = await dns.query({ name: `a.sub.${DOMAIN}`, type: 'A' });
  assert.deepEqual(
    [...new Set(below.attempts.map(({ upstream }) => upstream))],
    ['127.0.55.52:5355'],
  );
  const ours = await dns.query({ name: `nobody.${DOMAIN}`, type: 'A' });
  assert.deepEqual([ours.rcode, ours.attempts], ['NXDOMAIN', []]);
});

const TIMEOUT_MS = 300;

/** What others say, for nothing: never; the questions that they are asked. A zone of theirs is `corp`. */
function answering(
  words: Words,
  say: (query: Query) => packet.Packet | undefined,
): {
  answering: Answering;
  asked: Query[];
  counters: DnsCounters;
} {
  const zone = zoneOf(words);
  const asked: Query[] = [];
  const counters = new DnsCounters();
  const allowed = new Allowed([]);
  allowed.setOwn(['127.0.0.1']);
  const ask = (query: Query): Promise<Asked> => {
    asked.push(query);
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
  return { answering: new Answering(options), asked, counters };
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

/** A server that says `reply` of every name. */
function saying(reply: (name: string) => packet.Packet): Promise<UpstreamServer> {
  return UpstreamServer.start(({ bytes, reply: send }) => {
    const { id, questions } = packet.decode(bytes);
    const flags = packet.RECURSION_AVAILABLE;
    const said = reply(questions?.[0]?.name ?? '');
    send(packet.encode({ type: 'response', id, questions, flags, ...said }));
  });
}

test('what is behind a CNAME of others is as it is now, although their part is kept', async (t) => {
  await using server = await saying((name) => ({
    flags: NXDOMAIN | packet.RECURSION_AVAILABLE,
    answers: [{ type: 'CNAME', name, ttl: 300, data: `web.${DOMAIN}` }],
    authorities: [soa('internal', 300)],
  }));
  const running = new Running(t, WEB, { upstreams: [server.label] });
  await running.dns.start();
  const socket = await client(t, running);
  const last = async (): Promise<unknown> => {
    const heard = once(socket, 'message', { signal: AbortSignal.timeout(10_000 * patience) });
    socket.send(question('www.example', 'A'));
    const { rcode, answers } = tell(((await heard) as [Buffer])[0]);
    return [rcode, answers.at(-1)?.split(' ').at(-1)];
  };
  assert.deepEqual(await last(), ['NOERROR', '240.0.0.1']);
  for (const vip of ['240.0.0.2', '240.0.0.3']) {
    running.world = worldOf({ services: { web: { vips: [vip] } } });
    running.dns.apply(['web']);
    for (let i = 0; i < 3; i++) assert.deepEqual(await last(), ['NOERROR', vip]);
  }
  running.world = worldOf({});
  running.dns.apply(['web']);
  assert.deepEqual(await last(), ['NXDOMAIN', `web.${DOMAIN}`]);
  assert.equal(server.received.length, 1);
});

test('of servers that know different names the first one has the word where dns.order is strict', async (t) => {
  const none = { flags: NXDOMAIN | packet.RECURSION_AVAILABLE };
  await using inner = await saying((name) =>
    /\.corp$/i.test(name) ? { answers: [{ type: 'A', name, ttl: 5, data: '10.0.0.1' }] } : none,
  );
  await using outer = await saying(() => none);
  const pair = [inner.label, outer.label];
  const forward = { 'a.corp': pair, 'b.corp': { servers: pair, order: 'fastest' as const } };
  const { dns } = new Running(t, {}, { upstreams: pair, forward, order: 'strict' });
  dns.look();
  const asks = async (name: string): Promise<unknown> => {
    const { rcode, attempts } = await dns.query({ name, type: 'A' });
    return [rcode, attempts.map(({ upstream }) => upstream)];
  };
  for (let i = 0; i < 20; i++) {
    assert.deepEqual(await asks(`n${i}.corp`), ['NOERROR', [inner.label]]);
    assert.deepEqual(await asks(`n${i}.a.corp`), ['NOERROR', [inner.label]], 'as dns.order says');
  }
  assert.deepEqual(await asks('n.example'), ['NXDOMAIN', [inner.label]]);
  const [, raced] = (await asks('n.b.corp')) as [string, string[]];
  assert.deepEqual(raced.toSorted(), pair.toSorted(), 'it says otherwise');
});

test('names of .onion and .invalid are asked of who has them by dns.forward, and of nobody else', async (t) => {
  await using tor = await saying((name) => ({
    answers: [{ type: 'A', name, ttl: 5, data: '10.192.0.1' }],
  }));
  const words = { records: ['kept.onion A 192.0.2.9'] };
  const forward = { onion: [tor.label], 'test.invalid': [tor.label] };
  const running = new Running(t, words, { forward });
  const expected = {
    'x.onion': '10.192.0.1',
    onion: '10.192.0.1',
    'a.test.invalid': '10.192.0.1',
    'kept.onion': '192.0.2.9',
    'x.invalid': 'NXDOMAIN',
    'notest.invalid': 'NXDOMAIN',
  };
  for (const [name, says] of Object.entries(expected))
    assert.equal(await running.a(name), says, name);
  const domain = 'cluster.onion';
  const inside = new Running(t, {}, { forward: { onion: [tor.label] }, domain });
  assert.equal(await inside.a(`x.${domain}`), 'NXDOMAIN', 'the domain is ours');
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

test('answers are shown as dns-packet reads them', () => {
  const answers: packet.Answer[] = [
    { type: 'A', name: 'a.example', ttl: 1, data: '192.0.2.1' },
    { type: 'AAAA', name: 'a.example', ttl: 2, data: 'fd00::1' },
    { type: 'MX', name: 'a.example', ttl: 3, data: { preference: 10, exchange: 'mx.example' } },
    {
      type: 'SRV',
      name: 'a.example',
      ttl: 4,
      data: { priority: 1, weight: 2, port: 3, target: 'b' },
    },
    { type: 'TXT', name: 'a.example', ttl: 5, data: ['say "hi"', 'a\\b'] },
    {
      type: 'CAA',
      name: 'a.example',
      ttl: 6,
      data: { flags: 0, tag: 'issue', value: 'ca.example' },
    },
    { type: 'PTR', name: 'a.example', ttl: 7, data: 'b.example' },
    { type: 'NULL', name: 'a.example', ttl: 8, data: Buffer.of(1, 255) },
  ];
  const query = questionOf('A.example', 1);
  const bytes = packet.encode({
    type: 'response',
    questions: [{ name: query.name, type: 'A' }],
    answers,
  });
  assert.deepEqual(
    answerText(bytes)?.answers.map(({ type, ttl, data }) => `${ttl} ${type} ${data}`),
    [
      '1 A 192.0.2.1',
      '2 AAAA fd00::1',
      '3 MX 10 mx.example',
      '4 SRV 1 2 3 b',
      String.raw`5 TXT "say \"hi\"" "a\\b"`,
      '6 CAA 0 issue "ca.example"',
      '7 PTR b.example',
      String.raw`8 TYPE10 \# 2 01ff`,
    ],
  );
});
