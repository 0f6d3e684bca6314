/** DNS over UDP by the addon's thread: what it answers by itself, and what it leaves to others. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { DnsThread } from '../../../addon/index.ts';
import { SERVER_LIMITS, type Answerer } from '../../../src/dns/io/listener.ts';
import { UdpServer } from '../../../src/dns/io/udp.ts';
import { nameToWire } from '../../../src/dns/names.ts';
import { RCODE } from '../../../src/dns/numbers.ts';
import { readQuery } from '../../../src/dns/query.ts';
import { refusal } from '../../../src/dns/packet.ts';
import { resolve } from '../../../src/dns/resolver.ts';
import { plainAnswers, plainAnswer, type Zone } from '../../../src/dns/zone.ts';
import { blockUntilRead } from '../../harness/dns-thread.ts';
import { eventually, patience } from '../../harness/eventually.ts';
import { testSeed } from '../../harness/random.ts';
import { alike, plainKey } from '../../system/servers/dns-alike.ts';
import { everything } from '../../system/servers/dns-questions.ts';
import { DOMAIN, OPTIONS, question, tell, zoneOf } from '../../unit/dns/zones.ts';

const V4 = '127.0.55.60';
const UDP_SIZE_MAX = 1232;
const WEB = `web.${DOMAIN}`;

/** What the resolver says, as to this host. */
function answerOf(zone: Zone, message: Uint8Array, server: string): Uint8Array | undefined {
  const read = readQuery(message);
  if (!read.ok) return read.answer;
  const resolved = resolve(zone, read.query, { ...OPTIONS, udpSizeMax: UDP_SIZE_MAX, server });
  return resolved.kind === 'forward' ? refusal(read.query, RCODE.REFUSED, true) : resolved.bytes;
}

/** Whoever asks from 127.0.0.1 and ::1 has recursion. */
const LOCAL = Uint8Array.from(
  [
    [4, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1],
    [6, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  ].flat(),
);

class Running {
  readonly udp: UdpServer;
  readonly ports = new Map<string, number>();
  zone: Zone;
  /** That came here. */
  readonly asked: Uint8Array[] = [];
  /** What is said; by default what the zone has. */
  say: Answerer;

  constructor(t: TestContext, zone: Zone, hosts: readonly string[] = [V4], isDirect = true) {
    this.zone = zone;
    this.say = (message, { server }) => answerOf(this.zone, message, server);
    this.udp = new UdpServer({
      udpSizeMax: UDP_SIZE_MAX,
      lookup: (name, type) => plainAnswer(this.zone, name, type),
    });
    t.after(() => this.udp.close());
    this.udp.allow(LOCAL);
    for (const host of hosts) {
      const port = [...this.ports.values()][0] ?? 0;
      const listener = this.udp.listen({ host, port }, isDirect, SERVER_LIMITS, {
        answer: (message, asker) => {
          this.asked.push(Uint8Array.from(message));
          return this.say(message, asker);
        },
        dropped: () => undefined,
        failed: (error) => assert.fail(error),
      });
      this.ports.set(host, listener.port);
    }
  }

  get answered(): number {
    const { answered4 = 0, answered6 = 0 } = this.udp.counts() ?? {};
    return answered4 + answered6;
  }
}

async function client(t: TestContext, port: number, host = V4): Promise<Socket> {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.connect(port, host);
  await once(socket, 'connect');
  return socket;
}

async function ask(socket: Socket, message: Uint8Array): Promise<Uint8Array> {
  const heard = once(socket, 'message', { signal: AbortSignal.timeout(10_000 * patience) });
  socket.send(message);
  const [answer] = (await heard) as [Buffer];
  return answer;
}

const addressesOf = (bytes: Uint8Array): string[] =>
  tell(bytes).answers.map((text) => text.split(' ').at(-1) ?? '');

/** Questions; an emulated machine has less time. */
const COUNT = 100_000 / patience;

test(`the thread and the resolver answer ${COUNT.toLocaleString('en')} questions alike, most of them broken or odd`, async (t) => {
  const seed = testSeed(t);
  const zone = everything();
  const running = new Running(t, zone, [V4, '::1']);
  const { udp, ports, asked } = running;
  const port = ports.get(V4) ?? 0;
  const known = new Set<string>();
  const teacher = await client(t, port);
  for (const { name, type } of plainAnswers(zone)) {
    known.add(`${name} ${type}`);
    const wire = nameToWire(name) ?? assert.fail(name);
    await ask(teacher, Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...wire, 0, type, 0, 1));
  }
  assert.deepEqual([udp.counts()?.answers, running.answered], [known.size, 0]);
  asked.length = 0;
  const found = await alike({ count: COUNT, seed, port }, [V4, '::1'], known, (message, server) =>
    answerOf(zone, message, server),
  );
  assert.deepEqual(found.different, []);
  const leftOver = asked.filter((message) => known.has(plainKey(message) ?? ''));
  assert.deepEqual(leftOver, [], 'what the thread shall answer, it does');
  await eventually('all to be read', () => running.answered + asked.length === COUNT);
  t.diagnostic(`${running.answered} by the thread, ${asked.length} by the resolver`);
  for (const count of [found.plain, asked.length, udp.counts()?.answered6 ?? 0])
    assert.ok(count > COUNT / 20, `${count}`);
});

test('the second question of a name is not asked of us, until the name changes', async (t) => {
  const running = new Running(t, zoneOf({ services: { web: { vips: ['240.0.0.1'] } } }));
  const { udp, asked } = running;
  const socket = await client(t, running.ports.get(V4) ?? 0);
  for (let i = 0; i < 3; i++)
    assert.deepEqual(addressesOf(await ask(socket, question(WEB, 'A'))), ['240.0.0.1']);
  assert.deepEqual([asked.length, running.answered], [1, 2]);
  const changes: [string[], string[]][] = [
    [['240.0.0.2'], [WEB]],
    [[], [WEB]],
    [['240.0.0.3'], [WEB]],
  ];
  for (const [i, [vips, names]] of changes.entries()) {
    running.zone = zoneOf({ services: { web: { vips } } });
    udp.changed(new Set(names));
    assert.equal(udp.counts()?.answers, 0);
    assert.deepEqual(addressesOf(await ask(socket, question(WEB, 'A'))), vips);
    assert.equal(asked.length, 2 + i);
  }
  udp.changed('all');
  assert.equal(udp.counts()?.answers, 0);
});

test('while it is paused everything is asked of us', async (t) => {
  const running = new Running(t, zoneOf({ services: { web: { vips: ['240.0.0.1'] } } }));
  const socket = await client(t, running.ports.get(V4) ?? 0);
  await ask(socket, question(WEB, 'A'));
  running.udp.pause();
  running.zone = zoneOf({ services: { web: { vips: ['240.0.0.2'] } } });
  assert.deepEqual(addressesOf(await ask(socket, question(WEB, 'A'))), ['240.0.0.2']);
  assert.equal(running.answered, 0);
  running.udp.changed(new Set());
  await ask(socket, question(WEB, 'A'));
  assert.equal(running.answered, 1);
});

test('where everything is to be asked of us, the thread answers nothing', async (t) => {
  const zone = zoneOf({ services: { web: { vips: ['240.0.0.1'] } } });
  const running = new Running(t, zone, [V4], false);
  const socket = await client(t, running.ports.get(V4) ?? 0);
  for (let i = 0; i < 3; i++) await ask(socket, question(WEB, 'A'));
  assert.deepEqual([running.asked.length, running.answered], [3, 0]);
});

test('whether recursion is available is told to each client as it is', async (t) => {
  const running = new Running(t, zoneOf({ services: { web: { vips: ['240.0.0.1'] } } }));
  const flagsFor = async (address: string): Promise<string> => {
    const socket = createSocket('udp4');
    t.after(() => socket.close());
    socket.bind(0, address);
    await once(socket, 'listening');
    const signal = AbortSignal.timeout(10_000 * patience);
    const heard = once(socket, 'message', { signal }) as Promise<[Buffer]>;
    socket.send(question(WEB, 'A'), running.ports.get(V4), V4);
    return tell((await heard)[0]).flags;
  };
  assert.equal(await flagsFor('127.0.0.1'), 'aa rd ra'); // by the zone, and taught
  assert.equal(await flagsFor('127.0.0.1'), 'aa rd ra');
  assert.equal(await flagsFor('127.0.0.2'), 'aa rd');
  const block = [4, 96 + 31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 2];
  running.udp.allow(Uint8Array.from(block));
  assert.equal(await flagsFor('127.0.0.1'), 'aa rd');
  assert.equal(await flagsFor('127.0.0.3'), 'aa rd ra');
  assert.equal(await flagsFor('127.0.0.4'), 'aa rd');
  assert.equal(running.answered, 5);
});

test('records are shuffled, each of them first about as often', async (t) => {
  const vips = ['240.0.0.1', '240.0.0.2', '240.0.0.3'];
  const running = new Running(t, zoneOf({ services: { web: { vips } } }));
  const socket = await client(t, running.ports.get(V4) ?? 0);
  const orders = new Map<string, number>();
  await ask(socket, question(WEB, 'A'));
  for (let i = 0; i < 600; i++) {
    const addresses = addressesOf(await ask(socket, question(WEB, 'A')));
    assert.deepEqual(addresses.toSorted(), vips);
    const order = addresses.map((address) => address.at(-1)).join('');
    orders.set(order, (orders.get(order) ?? 0) + 1);
  }
  assert.equal(running.answered, 600);
  // Of 600 fair draws among six, less than 40 of one have a chance of 10^-12.
  assert.equal(orders.size, 6);
  for (const count of orders.values()) assert.ok(count >= 40, JSON.stringify([...orders]));
});

test('what comes faster than it is taken is dropped, the oldest first, and counted', async (t) => {
  const running = new Running(t, zoneOf({}));
  const { udp, asked } = running;
  running.say = () => undefined;
  const socket = await client(t, running.ports.get(V4) ?? 0);
  // The loop does not turn meanwhile: only the thread reads.
  for (let i = 0; i < 100_000 && udp.dropped.get('backlog') === undefined; i++)
    socket.send(Uint8Array.of(i >> 16, i >> 8, i));
  const dropped = udp.dropped.get('backlog') ?? 0;
  assert.ok(dropped > 0);
  await eventually('what is left', () => asked.length >= 4096);
  const [first] = asked;
  assert.notDeepEqual([...(first ?? [])], [0, 0, 0]);
});

test('what is longer than 4096 bytes is dropped and counted, and disturbs no question behind it', async (t) => {
  const running = new Running(t, zoneOf({ services: { web: { vips: ['240.0.0.1'] } } }));
  const { udp, asked } = running;
  const port = running.ports.get(V4) ?? 0;
  const socket = await client(t, port);
  // A question at the begin of each: with padding (RFC 7830), whole but for its last bytes.
  const long = (size: number): Uint8Array => {
    const padded = new Uint8Array(size);
    const plain = question(WEB, 'A', { edns: 1232 });
    padded.set(plain);
    new DataView(padded.buffer).setUint32(plain.length - 2, ((size - plain.length) << 16) | 12);
    new DataView(padded.buffer).setUint16(plain.length + 2, size - plain.length - 4);
    return padded;
  };
  assert.deepEqual(addressesOf(await ask(socket, long(4096))), ['240.0.0.1']);
  assert.deepEqual(
    asked.map(({ length }) => length),
    [4096],
  );
  // The loop does not turn meanwhile, so that nothing is taken out of the queue.
  for (const size of [4097, 5000, 65_000, 65_507, 4097, 65_000]) {
    socket.send(long(size));
    blockUntilRead(port);
  }
  assert.deepEqual([...udp.dropped], [['too_long', 6]]);
  assert.deepEqual(addressesOf(await ask(socket, question(WEB, 'A'))), ['240.0.0.1']);
  assert.deepEqual([asked.length, running.answered], [1, 1]);
});

test('what is kept of a question that waits for others is its own bytes, not those of all that came with it', async (t) => {
  const running = new Running(t, zoneOf({}));
  const kept: Uint8Array[] = [];
  const { promise, resolve: answer } = Promise.withResolvers<Uint8Array>();
  running.say = (message) => {
    kept.push(message);
    return promise;
  };
  const peers: Uint8Array[] = [];
  const send = t.mock.method(DnsThread.prototype, 'send', (answers: { peer: Uint8Array }[]) => {
    peers.push(...answers.map(({ peer }) => peer));
  });
  const port = running.ports.get(V4) ?? 0;
  const socket = await client(t, port);
  const sizes = [17, 50, 300];
  for (const size of sizes) socket.send(new Uint8Array(size));
  blockUntilRead(port);
  await eventually('all', () => kept.length === sizes.length);
  answer(Uint8Array.of(1));
  await eventually('the answers', () => peers.length === sizes.length);
  send.mock.restore();
  assert.deepEqual(
    kept.map(({ buffer }) => buffer.byteLength),
    sizes,
  );
  assert.deepEqual(
    peers.map(({ buffer }) => buffer.byteLength),
    [32, 32, 32],
  );
});

test('its answers are counted, with how long they took', async (t) => {
  const running = new Running(t, zoneOf({ services: { web: { vips: ['240.0.0.1'] } } }));
  const socket = await client(t, running.ports.get(V4) ?? 0);
  for (let i = 0; i < 11; i++) await ask(socket, question(WEB, 'A', { edns: 1232 }));
  const counts = running.udp.counts();
  assert.deepEqual([counts?.answered4, counts?.answered6, counts?.unsent], [10, 0, 0]);
  assert.equal(
    counts?.took.reduce((sum, count) => sum + count, 0),
    10,
  );
  assert.ok((counts?.sumNs ?? 0) > 0);
  running.udp.close();
  assert.deepEqual(running.udp.counts(), counts, 'also when it is closed');
});

test('an answer that cannot be sent is counted', async (t) => {
  const running = new Running(t, zoneOf({}));
  const { promise, resolve: answer } = Promise.withResolvers<Uint8Array>();
  running.say = () => promise;
  const socket = await client(t, running.ports.get(V4) ?? 0);
  socket.send(question(WEB, 'A'));
  await eventually('the question', () => running.asked.length === 1);
  // Larger than a datagram can be.
  answer(new Uint8Array(65_530));
  await eventually('that it was not sent', () => running.udp.dropped.get('send') === 1);
});
