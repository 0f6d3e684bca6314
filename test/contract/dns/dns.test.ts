/** The resolver of the agent as a whole, without its kernel: who is answered from what, and when. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import * as packet from 'dns-packet';
import { formatAddress, type HostPort } from '../../../src/cluster/address.ts';
import { configSchema, type ConfigInput } from '../../../src/config/schema.ts';
import { answerText, questionOf } from '../../../src/dns/answer-text.ts';
import { Dns, type DnsOptions, type DnsWorld } from '../../../src/dns/io/dns.ts';
import { createLogger } from '../../../src/telemetry/io/log.ts';
import { blockUntilRead } from '../../harness/dns-thread.ts';
import { patience } from '../../harness/eventually.ts';
import { soa } from '../../harness/forward-world.ts';
import { UpstreamServer } from '../../harness/upstream-server.ts';
import { DOMAIN, question, sourcesOf, tell, type Words } from '../../unit/dns/zones.ts';

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

const NXDOMAIN = 3;

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
  const words = { services: { web: { vips: ['240.0.0.1'] } } };
  const running = new Running(t, words, { upstreams: [server.label] });
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
