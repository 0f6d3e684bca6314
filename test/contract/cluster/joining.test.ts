/** Joining by token, and everything that must not work: what is refused, what is told, and to whom. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer as createTcp, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, test } from 'node:test';
import {
  connect as connectTls,
  createServer as createTls,
  type ConnectionOptions,
  type TLSSocket,
} from 'node:tls';
import { ProblemError } from '../../../src/state/problem.ts';
import { systemClock, type Clock } from '../../../src/cluster/io/clock.ts';
import { createRequest } from '../../../src/cluster/io/certificates.ts';
import {
  contextOf,
  contextOptionsOf,
  identityOf,
  type Identity,
} from '../../../src/cluster/io/identity.ts';
import { joinCluster, renewIdentity } from '../../../src/cluster/io/joining.ts';
import { SIGN_PROTOCOL } from '../../../src/cluster/io/listener.ts';
import { bindingOf, keyOfSecret, prove } from '../../../src/cluster/io/proof.ts';
import { decodeToken, encodeToken } from '../../../src/cluster/token.ts';
import {
  encodeRequest,
  type SignAnswer,
  type SignRequest,
} from '../../../src/cluster/sign-wire.ts';
import { eventually } from '../../harness/eventually.ts';
import { LocalServer } from '../../harness/local-server.ts';
import { startSigner, TestCluster, type SignerNode, type TestNode } from './kit.ts';
import { StillClock } from './still-clock.ts';

const HOUR = 3_600_000;
const cluster = await TestCluster.found();
const other = await TestCluster.found();
after(() => Promise.all([cluster.stop(), other.stop()]));

function start(
  ...[of = cluster, options]: Partial<Parameters<typeof startSigner>>
): Promise<SignerNode> {
  return startSigner(of, options);
}

async function refusal(joining: Promise<unknown>): Promise<string> {
  try {
    await joining;
  } catch (error) {
    assert.ok(error instanceof ProblemError, String(error));
    assert.ok(error.problems[0]?.hint !== undefined, 'a refusal says what to do');
    return error.message;
  }
  return 'joined';
}

/** A stranger at the joining port of a node, by default without a certificate. */
function dial(node: TestNode, options: ConnectionOptions = {}): TLSSocket {
  return connectTls({
    host: '127.0.0.1',
    port: node.port,
    ca: cluster.authority.certPem,
    checkServerIdentity: () => undefined,
    ALPNProtocols: [SIGN_PROTOCOL],
    ...options,
  });
}

/** Asks, without a certificate, for what `make` makes of the connection's binding. */
async function ask(
  node: TestNode,
  make: (binding: Uint8Array) => SignRequest,
): Promise<{ answer: SignAnswer; binding: Uint8Array }> {
  const socket = dial(node);
  await once(socket, 'secureConnect');
  const binding = bindingOf(socket);
  socket.write(encodeRequest(make(binding)));
  const bytes = await buffer(socket);
  return { answer: JSON.parse(bytes.subarray(4).toString()) as SignAnswer, binding };
}

/** A clock that is `aheadMs` off. */
function shifted(aheadMs: number): Clock {
  return { ...systemClock, wallMs: () => Date.now() + aheadMs };
}

test('a host joins by token: certificate, CA and peers, and no CA key', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  const { identity, caKeyPem, peers } = await joinCluster(node.address, word, systemClock);
  assert.equal(identity.clusterId, cluster.authority.clusterId);
  assert.equal(identity.caPem, cluster.authority.certPem);
  assert.notEqual(identity.nodeId, node.id);
  assert.deepEqual(peers, [node.peer]);
  assert.equal(caKeyPem, undefined);
  assert.ok(identity.notBeforeMs <= Date.now() - 5 * 60_000);
});

test('a token for a signer brings the CA key, and what that signs is of the cluster', async () => {
  const { node, signer } = await start();
  const first = await joinCluster(node.address, signer.issueToken(HOUR, true), systemClock);
  assert.equal(first.caKeyPem, cluster.authority.keyPem);
  const second = await start(cluster, { identity: first.identity });
  const word = second.signer.issueToken(HOUR, false);
  const { identity } = await joinCluster(second.node.address, word, systemClock);
  assert.equal(identity.caPem, cluster.authority.certPem);
});

test('a node without the CA key makes no tokens, and says who does', async () => {
  const { signer } = await start(cluster, { authority: () => undefined });
  assert.throws(() => signer.issueToken(HOUR, false), /it has not the CA key of the cluster/);
});

test('a token works once, also when two come with it at the same time', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  const tries = await Promise.all(
    [1, 2, 3].map(() => refusal(joinCluster(node.address, word, systemClock))),
  );
  assert.deepEqual(tries.sort(), [
    'joined',
    'the join token was used before',
    'the join token was used before',
  ]);
  assert.equal(
    await refusal(joinCluster(node.address, word, systemClock)),
    'the join token was used before',
  );
});

test('a token is on disk as used before its answer leaves; what cannot be written is not granted', async () => {
  let full = false;
  const made = await start(cluster, {
    save: () => {
      if (full) throw new Error('ENOSPC');
    },
  });
  const word = made.signer.issueToken(HOUR, false);
  full = true;
  const said = await refusal(joinCluster(made.node.address, word, systemClock));
  assert.equal(said, 'signing the certificate failed there');
  full = false;
  await joinCluster(made.node.address, word, systemClock);
  assert.equal(made.saved.length, 1);
  assert.notEqual(made.saved[0]?.used, undefined);
});

test('the ledger holds no secret', async () => {
  const made = await start();
  const { secret } = decodeToken(made.signer.issueToken(HOUR, false));
  const text = JSON.stringify(made.saved);
  for (const form of ['hex', 'base64', 'base64url'] as const) {
    assert.ok(!text.includes(Buffer.from(secret).toString(form)));
  }
});

test('an expired token is refused by the joiner, and by the issuer when the joiner believes in it', async () => {
  const { node, signer } = await start(cluster, { clock: shifted(3 * HOUR) });
  const word = signer.issueToken(-2 * HOUR, false); // ended an hour from now by the clock here
  assert.equal(
    await refusal(joinCluster(node.address, word, shifted(2 * HOUR))),
    'the join token has expired',
  );
  assert.equal(
    await refusal(joinCluster(node.address, word, systemClock)),
    'the join token has expired',
  );
  assert.equal(node.metrics['cluster_join_requests_total.refused'], 1);
});

test('a token that has ended is good no more when the clock is set back, also where the disk is full', async () => {
  for (const isFull of [false, true]) {
    let aheadMs = 0;
    const save = (): void => {
      if (isFull && aheadMs > 0) throw new Error('ENOSPC');
    };
    const clock = { ...systemClock, wallMs: () => Date.now() + aheadMs };
    const made = await start(cluster, { clock, save });
    const word = made.signer.issueToken(HOUR, false);
    aheadMs = 2 * HOUR;
    made.signer.look();
    aheadMs = 0;
    made.signer.look();
    assert.equal(made.saved[0]?.ended, isFull ? undefined : true);
    const said = await refusal(joinCluster(made.node.address, word, systemClock));
    assert.equal(said, 'the join token has expired');
  }
});

test('a withdrawn token is not known', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  signer.withdrawToken(signer.tokens()[0]?.id ?? '');
  assert.equal(
    await refusal(joinCluster(node.address, word, systemClock)),
    'the join token is not known there',
  );
});

test('a mistyped token is refused before anything is sent', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  const broken = word.slice(0, 60) + (word[60] === 'a' ? 'b' : 'a') + word.slice(61);
  assert.match(
    await refusal(joinCluster(node.address, broken, systemClock)),
    /^the join token is mistyped/,
  );
  assert.equal(node.metrics.cluster_connections_accepted_total, 0);
});

test("another cluster's token is refused by the joiner, who sends nothing", async () => {
  const [here, there] = [await start(), await start(other, { identity: other.founder })];
  const word = there.signer.issueToken(HOUR, false);
  assert.equal(
    await refusal(joinCluster(here.node.address, word, systemClock)),
    `${here.node.address} is not of the cluster that the token is for`,
  );
  assert.equal(here.node.metrics['cluster_join_requests_total.refused'], 0);
});

test('a token at another node of the cluster is refused by the joiner, who names the right one', async () => {
  const issuer = await start();
  const wrong = await start(cluster, { identity: await cluster.identity() });
  const word = issuer.signer.issueToken(HOUR, false);
  assert.equal(
    await refusal(joinCluster(wrong.node.address, word, systemClock)),
    `${wrong.node.address} is node ${wrong.node.id}, not ${issuer.node.id}`,
  );
  await assert.rejects(joinCluster(wrong.node.address, word, systemClock), ({ problems }) =>
    String(problems[0].hint).includes(
      `\`zerohop members\` on any member shows for ${issuer.node.id}`,
    ),
  );
  assert.equal(wrong.node.metrics['cluster_join_requests_total.refused'], 0);
  await joinCluster(issuer.node.address, word, systemClock); // it is still good
});

test('a wrong secret is refused like an unknown token, and the token stays good', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  const token = decodeToken(word);
  const forged = encodeToken({ ...token, secret: new Uint8Array(16) });
  const unknown = encodeToken({ ...token, id: new Uint8Array(8) });
  const said = 'the join token is not known there';
  assert.equal(await refusal(joinCluster(node.address, forged, systemClock)), said);
  assert.equal(await refusal(joinCluster(node.address, unknown, systemClock)), said);
  await joinCluster(node.address, word, systemClock);
});

/** A server that takes whatever comes and writes down every byte of it in `heard`. */
async function startMitm(identity: Identity, chain: string, heard: Buffer[]): Promise<LocalServer> {
  const server = createTls(
    {
      ...contextOptionsOf(identity),
      cert: identity.certPem + chain,
      ALPNProtocols: [SIGN_PROTOCOL],
    },
    (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => heard.push(bytes));
    },
  );
  server.on('tlsClientError', () => undefined);
  return await LocalServer.of(server);
}

test('a server in between gets neither secret nor proof nor request, whatever chain it shows', async () => {
  const { signer } = await start();
  const word = signer.issueToken(HOUR, false);
  // A certificate of another CA, with that CA; and with ours, which anybody can fetch.
  for (const [chain, said] of [
    [other.founder.caPem, /is not of the cluster that the token is for/],
    [
      cluster.authority.certPem,
      /is not of the cluster that the token is for|only pretends to be of the cluster/,
    ],
    [
      other.founder.caPem + cluster.authority.certPem,
      /is not of the cluster|only pretends to be of the cluster/,
    ],
  ] as const) {
    const heard: Buffer[] = [];
    await using mitm = await startMitm(other.founder, chain, heard);
    assert.match(await refusal(joinCluster(mitm.address, word, systemClock)), said);
    assert.deepEqual(heard, []);
  }
});

test('a member in between, with a good certificate, gets no secret either', async () => {
  const { signer } = await start();
  const word = signer.issueToken(HOUR, false);
  const heard: Buffer[] = [];
  const identity = await cluster.identity();
  await using mitm = await startMitm(identity, cluster.authority.certPem, heard);
  assert.match(await refusal(joinCluster(mitm.address, word, systemClock)), /is node .+, not /);
  assert.deepEqual(heard, []);
});

test('a proof is of no use on another connection: the secret is never sent, and nothing can be replayed', async () => {
  const { node, signer } = await start();
  const { id, secret } = decodeToken(signer.issueToken(HOUR, false));
  const { request } = await createRequest();
  const key = keyOfSecret(secret);
  const askWith = (makeProof: (binding: Uint8Array) => Uint8Array): ReturnType<typeof ask> =>
    ask(node, (binding) => ({ type: 'join', tokenId: id, proof: makeProof(binding), request }));
  const replayed = await askWith(() => prove(key, new Uint8Array(32).fill(1), request));
  assert.deepEqual(replayed.answer, { refused: 'unknown' });
  const first = await askWith((binding) => prove(key, binding, Uint8Array.of(1))); // for another request
  assert.deepEqual(first.answer, { refused: 'unknown' });
  const good = await askWith((binding) => prove(key, binding, request));
  assert.ok('granted' in good.answer);
  assert.notDeepEqual(good.binding, first.binding);
});

test('a request that is none, or for a key of another kind, is refused and the token stays good', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  const { id, secret } = decodeToken(word);
  const request = Uint8Array.of(0x30, 0x03, 1, 2, 3);
  const { answer } = await ask(node, (binding) => {
    const proof = prove(keyOfSecret(secret), binding, request);
    return { type: 'join', tokenId: id, proof, request };
  });
  assert.deepEqual(answer, { refused: 'request' });
  await joinCluster(node.address, word, systemClock);
});

test('attempts to join are limited for each address, and a limited one does not use up the token', async () => {
  const { node, signer } = await start(cluster, {
    limits: { joinsPerAddress: { perSecond: 1e-6, burst: 3 } },
  });
  const word = signer.issueToken(HOUR, false);
  const forged = encodeToken({ ...decodeToken(word), secret: new Uint8Array(16) });
  const said: string[] = [];
  for (let i = 0; i < 3; i++)
    said.push(await refusal(joinCluster(node.address, forged, systemClock)));
  assert.deepEqual(new Set(said), new Set(['the join token is not known there']));
  assert.equal(
    await refusal(joinCluster(node.address, word, systemClock)),
    'too many hosts are joining just now',
  );
  assert.equal(node.metrics['cluster_join_requests_total.granted'], 0);
  assert.equal(signer.tokens()[0]?.used, undefined);
});

test('a stranger without a token uses up none of the joins that are for all', async () => {
  const { node, signer } = await start(cluster, {
    limits: { joins: { perSecond: 1e-6, burst: 1 } },
  });
  const [first, second] = [signer.issueToken(HOUR, false), signer.issueToken(HOUR, false)];
  const forged = encodeToken({ ...decodeToken(first), secret: new Uint8Array(16) });
  for (let i = 0; i < 3; i++) await refusal(joinCluster(node.address, forged, systemClock));
  await joinCluster(node.address, first, systemClock);
  assert.equal(
    await refusal(joinCluster(node.address, second, systemClock)),
    'too many hosts are joining just now',
  );
  assert.equal(node.metrics['cluster_join_requests_total.limited'], 1);
  assert.equal(signer.tokens()[1]?.used, undefined);
});

test('addresses where nobody, or somebody else, listens are told apart', async () => {
  const word = (await start()).signer.issueToken(HOUR, false);
  await using server = await LocalServer.of(
    createTcp((socket) => socket.resume().end('220 ready\r\n')),
  );
  const { address } = server;
  assert.equal(
    await refusal(joinCluster(address, word, systemClock)),
    `what listens at ${address} is no zerohop agent`,
  );
  await server.close();
  assert.equal(
    await refusal(joinCluster(address, word, systemClock)),
    `nobody listens at ${address}`,
  );
  assert.equal(
    await refusal(joinCluster('no address', word, systemClock)),
    '"no address" is not an address',
  );
});

/** Between a joiner and a node: connections go through, unless `spoil` says that it dealt with this one. */
async function inBetween(
  node: TestNode,
  spoil: (socket: Socket, count: number) => boolean,
): Promise<LocalServer & { count: number }> {
  const server = await LocalServer.of(
    createTcp((socket) => {
      between.count += 1;
      socket.on('error', () => undefined);
      if (spoil(socket, between.count)) return;
      const onward = connect(node.port, '127.0.0.1');
      onward.on('error', () => undefined);
      socket.pipe(onward).pipe(socket);
    }),
  );
  const between = Object.assign(server, { count: 0 });
  return between;
}

test('a handshake that is cut off is tried again, three times at most, and later each time', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  let cut = 2;
  await using server = await inBetween(node, (socket) => {
    if (cut === 0) return false;
    cut -= 1;
    socket.once('data', () => socket.resetAndDestroy());
    return true;
  });
  const waits: number[] = [];
  const clock: Clock = {
    ...systemClock,
    after(ms, run) {
      if (ms < 1000) waits.push(ms); // what is longer is how long it waits for the other side
      return systemClock.after(ms, run);
    },
  };
  await joinCluster(server.address, word, clock, () => 0.5);
  assert.equal(server.count, 4); // two cut off; the CA is looked for; the request
  assert.deepEqual(waits, [250, 500]);
  cut = Infinity;
  server.count = 0;
  const said = await refusal(joinCluster(server.address, word, clock, () => 0.9));
  assert.match(said, /^cannot talk to .*: .*ECONNRESET$/);
  assert.equal(server.count, 3);
  assert.deepEqual(waits.slice(2), [350, 700]);
});

test('a handshake without an answer is tried again, until the deadline of the whole join', async () => {
  const { node, signer } = await start();
  const word = signer.issueToken(HOUR, false);
  let isSilent = (count: number): boolean => count === 1;
  await using server = await inBetween(
    node,
    (socket, count) => isSilent(count) && socket.resume() !== undefined,
  );
  const clock = new StillClock();
  /** Lets the time pass in which connection `count` could have been answered; then the next one follows. */
  const silence = async (count: number, ms: number, pauseMs: number): Promise<void> => {
    await eventually(`connection ${count}`, () => server.count === count);
    clock.go(ms - 1);
    assert.equal(server.count, count);
    clock.go(1);
    if (pauseMs === 0) return;
    await eventually('the pause', () => clock.timers.size === 1);
    clock.go(pauseMs);
  };
  const joining = joinCluster(server.address, word, clock, () => 0.5);
  await silence(1, 5000, 250);
  await joining;
  assert.equal(server.count, 3);

  server.count = 0;
  isSilent = (count) => count !== 3; // where the CA is found
  const late = refusal(
    joinCluster(server.address, signer.issueToken(HOUR, false), clock, () => 0.5),
  );
  await silence(1, 5000, 250);
  await silence(2, 5000, 500);
  await silence(4, 5000, 250);
  await silence(5, 2000, 0);
  assert.match(await late, /^cannot talk to .*: no answer in 18 s$/);
  assert.equal(server.count, 5);
});

test('a member gets its next certificate from a signer: same name, new key, and the old one still works', async () => {
  const { node } = await start();
  const old = await cluster.identity();
  const { identity } = await renewIdentity(old, node.peer, systemClock);
  assert.equal(identity.nodeId, old.nodeId);
  assert.notEqual(identity.keyPem, old.keyPem);
  assert.notEqual(identity.serial, old.serial);
  await renewIdentity(old, node.peer, systemClock);
  assert.equal(node.metrics['cluster_renewals_total.granted'], 2);
});

test('however many are revoked, hosts join and renew: the newest are told, without reasons', async () => {
  const { node, signer } = await start();
  const nowMs = Date.now();
  const revoke = (i: number, revokedAtMs: number, untilMs: number): void => {
    const id = `${i}`.padStart(26, 'x');
    const reason = 'r'.repeat(512);
    node.transport.revocations.add({ kind: 'node', id, revokedAtMs, untilMs, reason });
  };
  for (let i = 0; i < 5000; i++) revoke(i, nowMs - i, nowMs + HOUR);
  revoke(5000, nowMs - 40 * 24 * HOUR, 1e15); // no certificate lasts that long
  const word = signer.issueToken(HOUR, false);
  const { identity, revocations } = await joinCluster(node.address, word, systemClock);
  assert.equal(revocations.length, 4096);
  assert.deepEqual(new Set(revocations.map(({ reason }) => reason)), new Set(['']));
  assert.equal(Math.min(...revocations.map(({ revokedAtMs }) => revokedAtMs)), nowMs - 4095);
  const { granted } = await renewIdentity(identity, node.peer, systemClock);
  assert.deepEqual(granted.revocations, []);
});

test('a revocation ends for new hosts when no certificate can be good any more, whatever it says', async () => {
  const { node, signer } = await start();
  const of = { kind: 'node', untilMs: 1e15, reason: '' } as const;
  const nowMs = Date.now();
  node.transport.revocations.add({ ...of, id: 'long-ago', revokedAtMs: nowMs - 32 * 24 * HOUR });
  node.transport.revocations.add({ ...of, id: 'lately', revokedAtMs: nowMs - 29 * 24 * HOUR });
  const word = signer.issueToken(HOUR, false);
  const { revocations } = await joinCluster(node.address, word, systemClock);
  assert.deepEqual(
    revocations.map(({ id }) => id),
    ['lately'],
  );
});

test('an answer that would be too long uses no token up', async () => {
  const peers = [{ id: 'x', address: '127.0.0.1:1', zone: 'z'.repeat(2 ** 20) }];
  const { node, signer } = await start(cluster, { peers: () => peers });
  const word = signer.issueToken(HOUR, false);
  assert.equal(
    await refusal(joinCluster(node.address, word, systemClock)),
    'signing the certificate failed there',
  );
  assert.equal(signer.tokens()[0]?.used, undefined);
});

test('nobody renews without a certificate, with a revoked one, when gone for good, or at a node that cannot sign', async () => {
  const { node } = await start();
  const { request } = await createRequest();
  const { answer } = await ask(node, () => ({ type: 'renew', request }));
  assert.deepEqual(answer, { refused: 'request' });
  const revoked = await cluster.identity();
  node.transport.revocations.add({
    kind: 'node',
    id: revoked.nodeId,
    revokedAtMs: 0,
    untilMs: 1e15,
    reason: '',
  });
  assert.match(await refusal(renewIdentity(revoked, node.peer, systemClock)), /^cannot talk to/);
  const gone = await cluster.identity();
  const knowing = await start(cluster, { isGone: (id) => id === gone.nodeId });
  assert.match(
    await refusal(renewIdentity(gone, knowing.node.peer, systemClock)),
    /does not renew the certificate: request$/,
  );
  const without = await start(cluster, {
    identity: await cluster.identity(),
    authority: () => undefined,
  });
  assert.match(
    await refusal(renewIdentity(await cluster.identity(), without.node.peer, systemClock)),
    /does not renew the certificate: no-signer$/,
  );
});

test('who comes for a certificate with one that is not of the cluster is cut', async () => {
  const { node } = await start();
  const secureContext = contextOf(other.founder);
  const socket = dial(node, { secureContext, rejectUnauthorized: false });
  socket.on('error', () => undefined).resume();
  await eventually('the end', () => socket.destroyed);
  assert.equal(node.metrics['cluster_handshake_failures_total.certificate'], 1);
});

test('a stranger who says nothing, or too much, on the joining port is cut', async () => {
  const { node } = await start(cluster);
  const socket = dial(node);
  socket.on('error', () => undefined);
  socket.on('secureConnect', () => socket.write(Buffer.alloc(100_000, 1)));
  socket.resume();
  await eventually('the end of it', () => socket.destroyed);
  await eventually('its place to be free', () => node.transport.sizes.pending === 0);
  const raw = connect(node.port, '127.0.0.1');
  await eventually('its place', () => node.transport.sizes.pending === 1);
  raw.destroy();
  await eventually('its place to be free', () => node.transport.sizes.pending === 0);
});

test('what a signer grants cannot be used under another name', async () => {
  const { node, signer } = await start();
  const { identity } = await joinCluster(node.address, signer.issueToken(HOUR, false), systemClock);
  const { keyPem } = await createRequest();
  assert.throws(
    () => identityOf(keyPem, identity.certPem, identity.caPem, 'x'),
    /do not belong together/,
  );
  assert.throws(
    () => identityOf(identity.keyPem, identity.certPem, other.authority.certPem, 'x'),
    /is not signed by cluster/,
  );
});
