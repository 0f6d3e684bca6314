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
  const [, host = '', port = ''] =
    /^(.*):(\d+)$/.exec(running.dns.status().listeners[0]?.address ?? '') ?? [];
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.connect(Number(port), host);
  await once(socket, 'connect');
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

/** What others say; the questions that they are asked. */
function answering(
  words: Words,
  say: (query: Query) => packet.Packet,
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
    const bytes = packet.encode({ type: 'response', id: query.id, ...say(query) });
    return Promise.resolve({ bytes, rcode: (bytes[3] ?? 0) & 15, from: 'upstream', attempts: [] });
  };
  const forwarder = { ask };
  const options = { udpSizeMax: 1232, zone: () => zone, forwarder, allowed, counters, log };
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
    forwarder: { ask: () => Promise.reject(new Error('not asked')) },
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
