/** What strangers and bad peers can do to the cluster port: next to nothing, and every bit of it counted. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import {
  connect as connectTls,
  createServer,
  type ConnectionOptions,
  type TLSSocket,
} from 'node:tls';
import { after, test } from 'node:test';
import { chunk } from '../../../src/cluster/frame.ts';
import { encodeControl } from '../../../src/cluster/greeting.ts';
import { createRequest, signRequest } from '../../../src/cluster/io/certificates.ts';
import { validityFrom } from '../../../src/cluster/lifetime.ts';
import { systemClock } from '../../../src/cluster/io/clock.ts';
import { contextOf, contextOptionsOf, TLS_ONLY_13 } from '../../../src/cluster/io/identity.ts';
import { joinCluster } from '../../../src/cluster/io/joining.ts';
import { MEMBER_PROTOCOL, SIGN_PROTOCOL } from '../../../src/cluster/io/listener.ts';
import type { Counter } from '../../../src/cluster/io/metrics.ts';
import { TRANSPORT_LIMITS } from '../../../src/cluster/io/transport-options.ts';
import { eventually } from '../../harness/eventually.ts';
import { LocalServer } from '../../harness/local-server.ts';
import { encodeToken } from '../../../src/cluster/token.ts';
import { startSigner, TestCluster, TestNode } from './kit.ts';
import { StillClock } from './still-clock.ts';

const cluster = await TestCluster.found();
const other = await TestCluster.found();
after(() => cluster.stop());

interface Stranger<T extends Socket> {
  readonly socket: T;
  /** All that came from the node above TLS, or above TCP for a plain socket. */
  readonly heard: Buffer[];
}

function tcp(node: TestNode): Stranger<Socket> {
  return watch(connectTcp(node.port, '127.0.0.1'));
}

function tls(node: TestNode, options: ConnectionOptions = {}): Stranger<TLSSocket> {
  return watch(
    connectTls({
      host: '127.0.0.1',
      port: node.port,
      ...TLS_ONLY_13,
      rejectUnauthorized: false,
      ALPNProtocols: [MEMBER_PROTOCOL],
      ...options,
    }),
  );
}

async function selfSigned(
  namedCurve: string,
  hash: string,
): Promise<Pick<ConnectionOptions, 'key' | 'cert'>> {
  const { PemConverter, X509CertificateGenerator } = await import('@peculiar/x509');
  const algorithm = { name: 'ECDSA', namedCurve };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const signingAlgorithm = { name: 'ECDSA', hash };
  const certificate = await X509CertificateGenerator.createSelfSigned({ keys, signingAlgorithm });
  const key = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { key: PemConverter.encode(key, 'PRIVATE KEY'), cert: certificate.toString('pem') };
}

function watch<T extends Socket>(socket: T): Stranger<T> {
  const heard: Buffer[] = [];
  socket.on('error', () => undefined);
  socket.on('data', (bytes: Buffer) => heard.push(bytes));
  return { socket, heard };
}

function isEmpty({ transport }: TestNode): boolean {
  const { links, pending, sockets } = transport.sizes;
  return links === 0 && pending === 0 && sockets === 0;
}

/** The stranger is cut, learnt nothing, and was counted as `why`; the node goes on. */
async function isRefused(
  node: TestNode,
  { socket, heard }: Stranger<Socket>,
  why: Counter,
): Promise<void> {
  await eventually('the stranger to be cut', () => socket.destroyed);
  await eventually('it to be counted', () => node.metrics[why] === 1);
  assert.deepEqual(Buffer.concat(heard).toString(), '');
  assert.deepEqual([node.ups, node.received], [[], []]);
  assert.equal(node.transport.sizes.links, 0);
  await eventually('nothing of it to be left', () => isEmpty(node));
}

test('plain bytes over TCP are refused, and get at most an alert of TLS', async () => {
  const node = await cluster.start();
  const stranger = tcp(node);
  stranger.socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await eventually('the stranger to be cut', () => stranger.socket.destroyed);
  await eventually(
    'it to be counted',
    () => node.metrics['cluster_handshake_failures_total.tls'] === 1,
  );
  const heard = Buffer.concat(stranger.heard);
  if (heard.length > 0) assert.equal(heard[0], 21, 'TLS alert (RFC 8446, 5.1)');
  assert.ok(heard.length <= 7);
});

test('TLS 1.2 is refused', async () => {
  const node = await cluster.start();
  const old = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', secureContext: undefined } as const;
  const { keyPem: key, certPem: cert } = await cluster.identity();
  await isRefused(node, tls(node, { ...old, key, cert }), 'cluster_handshake_failures_total.tls');
});

test('no curve is reckoned on but the cheap ones; a peer with P-256 alone is served', async () => {
  const dear = [{ ecdhCurve: 'P-521' }, { ecdhCurve: 'P-384' }, { ecdhCurve: 'X448' }];
  const secureContext = contextOf(await cluster.identity());
  for (const protocol of [MEMBER_PROTOCOL, SIGN_PROTOCOL]) {
    for (const options of dear) {
      const { node } = await startSigner(cluster);
      const stranger = tls(node, { ...options, ALPNProtocols: [protocol] });
      await isRefused(node, stranger, 'cluster_handshake_failures_total.tls');
    }
    const { node } = await startSigner(cluster);
    for (const [options, curve] of [
      [{ secureContext }, 'X25519'],
      [{ ecdhCurve: 'P-521:P-256' }, 'prime256v1'],
    ] as const) {
      const { socket } = tls(node, { ...options, ALPNProtocols: [protocol] });
      await once(socket, 'secureConnect');
      assert.equal((socket.getEphemeralKeyInfo() as { name?: string }).name, curve);
      socket.destroy();
    }
  }
});

test('nobody has a dear signature checked: who has such a key comes without a certificate', async () => {
  const node = await cluster.start();
  const stranger = tls(node, await selfSigned('P-521', 'SHA-512'));
  await isRefused(node, stranger, 'cluster_handshake_failures_total.certificate');
  assert.match(String(node.log), /its certificate: none/);
});

test('a dialler shows no dear curve either, and takes none', async () => {
  const identity = await cluster.identity();
  for (const ecdhCurve of ['P-521', 'P-256']) {
    const server = createServer({ ...contextOptionsOf(identity), ecdhCurve }, (socket) => {
      socket.on('error', () => undefined).end();
    });
    const errors: string[] = [];
    server.on('tlsClientError', ({ code }: NodeJS.ErrnoException) => errors.push(String(code)));
    await using local = await LocalServer.of(server);
    const token = encodeToken({
      expiresAtS: Date.now() / 1000 + 60,
      caFingerprint: new Uint8Array(32),
      issuer: identity.nodeId,
      id: new Uint8Array(8),
      secret: new Uint8Array(16),
    });
    await assert.rejects(joinCluster(local.address, token, systemClock));
    assert.deepEqual(errors, ecdhCurve === 'P-256' ? [] : ['ERR_SSL_NO_SUITABLE_KEY_SHARE']);
  }
});

test('TLS without a certificate is refused', async () => {
  const node = await cluster.start();
  await isRefused(node, tls(node), 'cluster_handshake_failures_total.certificate');
});

test('TLS without our protocol is refused', async () => {
  const node = await cluster.start();
  const secureContext = contextOf(await cluster.identity());
  const without = tls(node, { secureContext, ALPNProtocols: [] });
  await isRefused(node, without, 'cluster_handshake_failures_total.protocol');
  const web = tls(await cluster.start(), { secureContext, ALPNProtocols: ['h2'] });
  await eventually('the stranger to be cut', () => web.socket.destroyed);
  assert.deepEqual(web.heard, []);
});

test("another CA's certificate is refused, though it has the right form", async () => {
  const node = await cluster.start();
  const secureContext = contextOf(await other.identity(node.id));
  await isRefused(
    node,
    tls(node, { secureContext }),
    'cluster_handshake_failures_total.certificate',
  );
});

test('an expired certificate is refused, and so is one that is not valid yet', async () => {
  const day = 86_400_000;
  for (const [from, to] of [
    [-2 * day, -day],
    [day, 2 * day],
  ] as const) {
    const node = await cluster.start();
    const validity = { notBeforeMs: Date.now() + from, notAfterMs: Date.now() + to };
    const secureContext = contextOf(await cluster.identity(undefined, validity));
    await isRefused(
      node,
      tls(node, { secureContext }),
      'cluster_handshake_failures_total.certificate',
    );
  }
});

test("a certificate of our CA that names another cluster's node is refused", async () => {
  const node = await cluster.start();
  const { keyPem: key, request } = await createRequest();
  const name = { clusterId: other.authority.clusterId, nodeId: node.id };
  const validity = validityFrom(Date.now(), 3_600_000);
  const cert = await signRequest(cluster.authority, request, name, validity);
  await isRefused(node, tls(node, { key, cert }), 'cluster_handshake_failures_total.certificate');
});

test('a certificate that names no node is refused: the CA itself does not get in', async () => {
  const node = await cluster.start();
  const { keyPem: key, certPem: cert } = cluster.authority;
  await isRefused(node, tls(node, { key, cert }), 'cluster_handshake_failures_total.certificate');
});

test('a revoked node is refused, and so is one revoked certificate of a node', async () => {
  for (const kind of ['node', 'serial'] as const) {
    const node = await cluster.start();
    const identity = await cluster.identity();
    const id = kind === 'node' ? identity.nodeId : identity.serial;
    node.transport.revocations.add({ kind, id, revokedAtMs: 0, untilMs: 1e15, reason: 'stolen' });
    const stranger = tls(node, { secureContext: contextOf(identity) });
    await isRefused(node, stranger, 'cluster_handshake_failures_total.revoked');
  }
});

test('a member that says nothing after the handshake is cut when its time is up', async () => {
  const node = await cluster.start({ listener: { handshakeTimeoutMs: 200 } });
  const stranger = tls(node, { secureContext: contextOf(await cluster.identity()) });
  await isRefused(node, stranger, 'cluster_handshake_failures_total.timeout');
});

test('who stops in the middle of a handshake is cut when the time is up', async () => {
  const node = await cluster.start({ listener: { handshakeTimeoutMs: 200 } });
  const stranger = tcp(node);
  stranger.socket.write(Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3));
  await isRefused(node, stranger, 'cluster_handshake_failures_total.timeout');
});

test('no session is resumed: a revoked node cannot come back on an old one', async () => {
  const node = await cluster.start();
  const secureContext = contextOf(await cluster.identity());
  const first = tls(node, { secureContext });
  const sessions: Buffer[] = [];
  first.socket.on('session', (session) => sessions.push(session));
  await eventually('the handshake', () => node.metrics.cluster_handshakes_total === 1);
  first.socket.write(helloOf(node.id));
  await eventually('a session, or the end', () => sessions.length > 0 || first.socket.destroyed);
  const again = tls(node, { secureContext, session: sessions[0] });
  await eventually('the second handshake', () => node.metrics.cluster_handshakes_total === 2);
  assert.equal(again.socket.isSessionReused(), false);
  again.socket.destroy();
});

function helloOf(id: string, instance = 'i'): Uint8Array {
  const hello = encodeControl({
    type: 'hello',
    protocolMin: 1,
    protocolMax: 1,
    instance,
    connection: 'c',
    after: '',
    peer: { id, address: '127.0.0.1:1', zone: '' },
    software: 'x',
  });
  return chunk(0, hello, 0);
}

/** A member that holds its own end of the wire. */
async function rogue(
  node: TestNode,
  bytes?: Uint8Array,
): Promise<Stranger<TLSSocket> & { id: string }> {
  const identity = await cluster.identity();
  const stranger = tls(node, { secureContext: contextOf(identity) });
  const id = identity.nodeId;
  stranger.socket.write(bytes ?? helloOf(id));
  if (bytes === undefined) await eventually('the welcome', () => node.ups.includes(id));
  return { ...stranger, id };
}

test('a member that says it is another one is refused', async () => {
  const node = await cluster.start();
  const victim = await cluster.identity();
  const { socket } = await rogue(node, helloOf(victim.nodeId));
  await eventually(
    'the refusal',
    () => node.metrics['cluster_handshake_failures_total.greeting'] === 1,
  );
  assert.deepEqual(node.ups, []);
  socket.destroy();
});

test('a message before the greeting, and a frame that is none, end the connection', async () => {
  for (const bytes of [
    chunk(4, Uint8Array.of(1), 0),
    Uint8Array.of(0, 0, 0, 0),
    Uint8Array.of(0, 0, 0, 1, 0),
  ]) {
    const node = await cluster.start();
    const { socket } = await rogue(node, bytes);
    await eventually('the end', () => socket.destroyed);
    assert.equal(node.metrics['cluster_connections_closed_total.protocol'], 1);
    assert.deepEqual(node.received, []);
  }
});

test('an over-long frame ends the connection before it has come', async () => {
  const node = await cluster.start();
  const { socket, id } = await rogue(node);
  socket.write(Uint8Array.of(4, 0xff, 0xff, 0xff));
  await eventually('the end', () => socket.destroyed);
  assert.deepEqual(node.downs, [id]);
  assert.equal(node.metrics['cluster_connections_closed_total.protocol'], 1);
});

test('a peer that never reads is dropped by the bytes that wait for it, and the others go on', async () => {
  const limits = { ...TRANSPORT_LIMITS, queueBytesMax: 1_000_000 };
  const node = await cluster.start({ limits });
  const friend = await cluster.start();
  const { socket, id } = await rogue(node);
  socket.pause();
  const peer = { id, address: '127.0.0.1:1', zone: '' };
  let most = 0;
  await eventually(
    'it to be dropped',
    () => {
      node.transport.send(peer, 'state', Buffer.alloc(100_000));
      most = Math.max(most, node.transport.sizes.queuedBytes);
      return node.downs.includes(id);
    },
    { everyMs: 1 },
  );
  assert.equal(node.metrics['cluster_connections_closed_total.slow'], 1);
  assert.ok(most <= 1_000_000 + 100_000 + 65_536, `${most} bytes were held`);
  node.send(friend, 'still here');
  await eventually('the message to the friend', () => friend.texts().includes('still here'));
  socket.destroy();
});

test('a peer that never reads is dropped by the time a write takes, and bulk beyond its limit is refused', async () => {
  const limits = { ...TRANSPORT_LIMITS, bulkBytesMax: 500_000, stallMs: 300 };
  const node = await cluster.start({ limits });
  const { socket, id } = await rogue(node);
  socket.pause();
  const peer = { id, address: '127.0.0.1:1', zone: '' };
  await eventually(
    'bulk to be refused',
    () => {
      return node.transport.send(peer, 'state-bulk', Buffer.alloc(100_000)) === 'dropped';
    },
    { everyMs: 1 },
  );
  assert.ok(node.metrics['cluster_messages_dropped_total.bulk'] > 0);
  await eventually('it to be dropped', () => node.downs.includes(id));
  assert.equal(node.metrics['cluster_connections_closed_total.slow'], 1);
  socket.destroy();
});

test('a peer that never reads holds up a stop for a second at most', async () => {
  const clock = new StillClock();
  const node = await cluster.start({ clock });
  const { socket, id } = await rogue(node);
  socket.pause();
  const peer = { id, address: '127.0.0.1:1', zone: '' };
  for (let i = 0; i < 20; i++) node.transport.send(peer, 'state', Buffer.alloc(1_000_000));
  let isOver = false;
  const stopped = node.transport.stop().then(() => (isOver = true));
  clock.go(TRANSPORT_LIMITS.stopMs - 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isOver, false);
  clock.go(1);
  await stopped;
  assert.equal(node.metrics['cluster_connections_closed_total.stopped'], 1);
  socket.destroy();
});

test('a peer that asks without end is answered as fast as it reads, and no faster', async () => {
  const node = await cluster.start();
  const { socket } = await rogue(node);
  socket.pause();
  const ping = chunk(0, encodeControl({ type: 'ping' }), 0);
  for (let i = 0; i < 20; i++)
    socket.write(Buffer.concat(Array.from({ length: 5000 }, () => ping)));
  const bytes = 20 * 5000 * ping.length;
  await eventually('them to be read', () => node.metrics.cluster_received_bytes_total > bytes);
  assert.ok(node.transport.sizes.queuedBytes < 100_000);
  socket.destroy();
});

test('1,000 connections from one address: few are let in, the rest is cut, and members come through', async () => {
  const node = await cluster.start({
    listener: {
      pendingPerAddressMax: 10,
      arrivalsPerAddress: { perSecond: 1e-6, burst: 100 },
    },
  });
  const strangers = Array.from({ length: 1000 }, () => tcp(node));
  const { metrics } = node;
  await eventually('all of them to be seen', () => {
    const refused = metrics['cluster_connections_refused_total.address_rate'];
    return refused + metrics.cluster_connections_accepted_total === 1000;
  });
  assert.equal(metrics.cluster_connections_accepted_total, 100);
  assert.equal(metrics.cluster_connections_evicted_total, 90);
  assert.equal(node.transport.sizes.pending, 10);
  await eventually(
    'all but ten to be cut',
    () => strangers.filter(({ socket }) => !socket.destroyed).length === 10,
  );
  // A member from another address is let in at once.
  const identity = await cluster.identity();
  const member = tls(node, {
    localAddress: '127.0.0.2',
    secureContext: contextOf(identity),
  } as ConnectionOptions);
  member.socket.write(helloOf(identity.nodeId));
  await eventually('the welcome', () => node.ups.includes(identity.nodeId));
  for (const { socket } of [...strangers, member]) socket.destroy();
  await eventually('the places to be free', () => node.transport.sizes.pending === 0);
});

test('handshakes cut at any point by eviction and deadline leave the node whole', async () => {
  const node = await cluster.start({
    listener: {
      pendingPerAddressMax: 3,
      handshakeTimeoutMs: 20,
      arrivals: { perSecond: 1e6, burst: 1e6 },
      arrivalsPerAddress: { perSecond: 1e6, burst: 1e6 },
    },
  });
  const secureContext = contextOf(await cluster.identity());
  for (let round = 0; round < 20; round++) {
    const strangers = Array.from({ length: 15 }, (_, i) =>
      i % 3 === 0 ? tcp(node) : tls(node, { secureContext }),
    );
    await eventually('all of them to be cut', () =>
      strangers.every(({ socket }) => socket.destroyed),
    );
  }
  assert.equal(node.transport.sizes.pending, 0);
  assert.equal(node.metrics.cluster_connections_accepted_total, 300);
});

test('what strangers cause to be written in the log is limited', async () => {
  const node = await cluster.start({
    clock: { ...systemClock, now: () => 0 },
    listener: {
      arrivals: { perSecond: 1, burst: 60 },
      arrivalsPerAddress: { perSecond: 1, burst: 60 },
    },
  });
  for (let i = 0; i < 60; i++) tcp(node).socket.write('this is no TLS');
  await eventually(
    'all of them',
    () => node.metrics['cluster_handshake_failures_total.tls'] === 60,
  );
  assert.equal(node.log.length, 10);
});
