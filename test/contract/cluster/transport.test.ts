/** The transport between real sockets: whose word counts, which connection stays, what is lost and what is not. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { after, test } from 'node:test';
import { CHANNELS } from '../../../src/cluster/channels.ts';
import { systemClock, type Clock } from '../../../src/cluster/io/clock.ts';
import type { Identity } from '../../../src/cluster/io/identity.ts';
import { SIGN_PROTOCOL } from '../../../src/cluster/io/listener.ts';
import { Rotation } from '../../../src/cluster/io/rotation.ts';
import { TRANSPORT_LIMITS } from '../../../src/cluster/io/transport-options.ts';
import { Revocations, type Revocation } from '../../../src/cluster/revocation.ts';
import { eventually } from '../../harness/eventually.ts';
import { LocalServer } from '../../harness/local-server.ts';
import { startSigner, TestCluster, TestNode } from './kit.ts';

const cluster = await TestCluster.found();
after(() => cluster.stop());

/** Two nodes, the one with the lower id first. */
async function pair(
  options: Parameters<typeof TestNode.start>[1] = {},
): Promise<[TestNode, TestNode]> {
  const [a, b] = [await cluster.start(options), await cluster.start(options)];
  return a.id < b.id ? [a, b] : [b, a];
}

/** Takes back what nobody takes back. */
class Forgiving extends Revocations {
  isForgiving = false;
  override node(id: string): Revocation | undefined {
    return this.isForgiving ? undefined : super.node(id);
  }
}

/** Time that passes when told to; sockets go on in real time. */
class HeldClock implements Clock {
  #now = 1000;
  #wallAheadMs = 0;
  readonly #timers = new Set<{ atMs: number; run: () => void }>();
  now = (): number => this.#now;
  wallMs = (): number => Date.now() + this.#wallAheadMs;

  after = (ms: number, run: () => void): (() => void) => {
    const timer = { atMs: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  get waiting(): number {
    return this.#timers.size;
  }

  setWallAhead(ms: number): void {
    this.#wallAheadMs = ms;
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers]
        .filter(({ atMs }) => atMs <= end)
        .sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.atMs);
      due.run();
    }
    this.#now = end;
  }

  /** In small steps, with time for the sockets in between. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1000) {
      this.advance(Math.min(left, 1000));
      for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** For clocks that jump over what sockets do in no time. */
const PATIENT = { ...TRANSPORT_LIMITS, stallMs: 1e9 };

test('two nodes exchange messages, each known by its certificate', async () => {
  const [a, b] = [await cluster.start(), await cluster.start()];
  assert.equal(a.send(b, 'one'), 'waiting');
  await eventually('the message', () => b.received.length === 1);
  assert.equal(b.send(a, 'two', 'overlay-urgent'), 'sent');
  await eventually('the answer', () => a.received.length === 1);
  assert.deepEqual(b.received, [{ from: a.id, channel: 'state', text: 'one' }]);
  assert.deepEqual(a.received, [{ from: b.id, channel: 'overlay-urgent', text: 'two' }]);
  assert.deepEqual([a.ups, b.ups], [[b.id], [a.id]]);
  assert.equal(a.metrics.cluster_dials_total, 1);
  assert.equal(b.metrics.cluster_dials_total, 0);
  assert.equal(b.transport.links()[0]?.peer.address, a.address);
});

test('messages of all sizes arrive whole and in order on each channel', async () => {
  const [a, b] = await pair();
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1);
  const sizes = [1, 16_379, 16_380, 16_381, 100_000, 1_000_000, 2];
  const wanted: string[] = [];
  for (const { name } of CHANNELS.slice(1)) {
    for (const [i, size] of sizes.entries()) {
      const text = `${name}${i}`.padEnd(size, 'x').slice(0, size);
      wanted.push(`${name} ${text.length} ${text.slice(0, 40)}`);
      assert.equal(a.send(b, text, name), 'sent');
    }
  }
  await eventually('all of them', () => b.received.length === wanted.length);
  const got = b.received.map(
    ({ channel, text }) => `${channel} ${text.length} ${text.slice(0, 40)}`,
  );
  for (const { name } of CHANNELS) {
    const of = (list: readonly string[]): string[] =>
      list.filter((one) => one.startsWith(`${name} `));
    assert.deepEqual(of(got), of(wanted));
  }
});

test('of two simultaneous dials one connection stays, the same at both ends, and no message is lost', async () => {
  for (let round = 0; round < 15; round++) {
    const [low, high] = await pair();
    low.transport.keep(high.peer);
    high.transport.keep(low.peer);
    const wanted = Array.from({ length: 50 }, (_, i) => `message ${i}`);
    for (const [i, text] of wanted.entries()) {
      low.send(high, text);
      high.send(low, text);
      if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually('all messages', () => low.received.length + high.received.length >= 100);
    await eventually(
      'one connection',
      () => low.transport.sizes.links === 1 && high.transport.sizes.links === 1,
    );
    assert.deepEqual(
      [low.texts().sort(), high.texts().sort()],
      [wanted.toSorted(), wanted.toSorted()],
    );
    const [a, b] = [low.transport.links()[0], high.transport.links()[0]];
    assert.equal(a?.dialledBy === 'self', b?.dialledBy === 'peer');
    assert.deepEqual([low.unreachable, high.unreachable], [[], []]);
    await Promise.all([low.transport.stop(), high.transport.stop()]);
  }
});

test('a node that answers under another id than was dialled is no peer', async () => {
  const [a, b] = await pair();
  a.transport.keep({ ...b.peer, id: (await cluster.identity()).nodeId });
  await eventually('the failure', () => a.unreachable.length > 0);
  assert.ok(a.log.some((line) => line.includes(`node ${b.id} answers there`)));
  assert.deepEqual([a.ups, b.ups], [[], []]);
});

test('a node of another cluster is no peer, whoever dials', async () => {
  const other = await TestCluster.found();
  const [a, b] = [await cluster.start(), await cluster.start({}, await other.identity())];
  a.transport.keep(b.peer);
  b.transport.keep(a.peer);
  await eventually('both failures', () => a.unreachable.length > 0 && b.unreachable.length > 0);
  assert.deepEqual([a.ups, b.ups], [[], []]);
});

test('where nobody listens the peer is unreachable, what waited is dropped, and the dial is tried again', async () => {
  const gone = await cluster.start();
  const { peer } = gone;
  await gone.transport.stop();
  const node = await cluster.start();
  node.transport.keep(peer);
  assert.equal(node.transport.send(peer, 'state', Buffer.from('x')), 'waiting');
  await eventually('the failure', () => node.unreachable.length > 0);
  assert.equal(node.metrics['cluster_messages_dropped_total.unreachable'], 1);
  await eventually('more tries', () => node.metrics.cluster_dials_total >= 3);
  const again = new TestNode(await cluster.identity(gone.id));
  cluster.nodes.push(again);
  await again.transport.listen({ host: '127.0.0.1', port: gone.port });
  await eventually('the connection', () => node.ups.includes(gone.id));
});

test('a connection that breaks is made anew at once, and the peer is not called unreachable', async () => {
  const clock = new HeldClock();
  const [a, b] = [await cluster.start({ clock }), await cluster.start()];
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1);
  clock.advance(20_000); // it was a good one
  await eventually('keepalive to be answered', () => a.metrics.cluster_received_bytes_total > 0);
  const [link] = b.transport.links();
  b.transport.revocations.add({
    kind: 'serial',
    id: link?.serial ?? '',
    revokedAtMs: 0,
    untilMs: 1,
    reason: '',
  });
  a.transport.setIdentity(await cluster.identity(a.id)); // to come back with
  b.transport.enforceRevocations(); // a cut that the other end did not ask for
  await eventually('the second connection', () => a.ups.length === 2);
  assert.deepEqual(a.unreachable, []);
});

test('a peer that comes back as a new process gets its connection, though the old one is not known to be dead', async () => {
  const [a, b] = await pair();
  a.transport.keep(b.peer);
  await eventually('the connection', () => b.ups.length === 1);
  // The higher id dials, from a new process with the same certificate: its old connection would win otherwise.
  const again = new TestNode(await cluster.identity(b.id));
  cluster.nodes.push(again);
  again.transport.keep(a.peer);
  await eventually('the new connection', () => again.ups.length === 1);
  a.transport.send(b.peer, 'state', Buffer.from('to the new one'));
  await eventually('the message', () => again.texts().includes('to the new one'));
});

test('revoking a node cuts its open connections at once, at every node that learns of it', async () => {
  const [a, b] = await pair();
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1 && b.ups.length === 1);
  a.transport.revocations.add({
    kind: 'node',
    id: b.id,
    revokedAtMs: 1,
    untilMs: 1e15,
    reason: 'stolen',
  });
  a.transport.enforceRevocations();
  assert.deepEqual(a.downs, [b.id]);
  assert.deepEqual(a.unreachable, [b.id]);
  assert.equal(a.transport.sizes.links, 0);
  assert.equal(a.send(b, 'x'), 'waiting');
  await eventually('what waited to be dropped', () => a.unreachable.length > 1);
  b.transport.keep(a.peer);
  await eventually(
    'b to be refused',
    () => a.metrics['cluster_handshake_failures_total.revoked'] > 0,
  );
  assert.equal(a.transport.sizes.links, 0);
});

test('a node that is turned away asks less and less often, says so once, and is itself again when it is let in', async () => {
  const clock = new HeldClock();
  const identity = await cluster.identity();
  const revocations = new Forgiving();
  const [a, b] = [await cluster.start({ revocations }), await cluster.start({ clock }, identity)];
  const revoked = { id: b.id, revokedAtMs: 1, untilMs: 2, reason: 'stolen' };
  revocations.add({ ...revoked, kind: 'node' });
  const refused = (): number => a.metrics['cluster_handshake_failures_total.revoked'];
  /** As an overlay that is alone: another try each second. */
  const tries = async (seconds: number): Promise<number[]> => {
    const at: number[] = [];
    for (let second = 0; second < seconds; second++) {
      const [times, dials] = [b.unreachable.length, b.metrics.cluster_dials_total];
      b.send(a, 'hello');
      if (b.metrics.cluster_dials_total > dials) at.push(second);
      await eventually('an answer', () => b.unreachable.length > times);
      clock.advance(1000);
    }
    return at;
  };
  assert.equal(b.transport.turnedAwaySinceMs, undefined);
  // After the fifth 1.5 s, then 3 s, 6 s, …
  assert.deepEqual(await tries(55), [0, 1, 2, 3, 4, 6, 9, 15, 27, 51]);
  assert.equal(refused(), 10);
  assert.equal(b.log.filter((line) => line.includes('leave the cluster')).length, 1);
  assert.equal(typeof b.transport.turnedAwaySinceMs, 'number');
  clock.advance(300_000);
  // And never more than five minutes: with half of the spread 225 s.
  assert.deepEqual(await tries(740), [0, 96, 288, 513, 738]);

  // With another certificate at once.
  b.transport.setIdentity(identity);
  assert.deepEqual(await tries(6), [0, 1, 2, 3, 4]);

  revocations.isForgiving = true;
  clock.advance(300_000);
  b.send(a, 'hello');
  await eventually('the message', () => a.texts().includes('hello'));
  assert.equal(b.transport.turnedAwaySinceMs, undefined);
});

test('a connection that nobody keeps is closed when it is idle, without anybody called unreachable', async () => {
  const clock = new HeldClock();
  const [a, b] = [await cluster.start({ clock }), await cluster.start()];
  a.send(b, 'once');
  await eventually('the message', () => b.received.length === 1);
  await clock.pass(TRANSPORT_LIMITS.idleMs - 1);
  assert.equal(a.transport.links().length, 1);
  clock.advance(2);
  await eventually('the end', () => a.transport.sizes.links === 0 && b.transport.sizes.links === 0);
  await eventually('its socket to be gone', () => b.transport.sizes.sockets === 0);
  assert.deepEqual([a.unreachable, b.unreachable], [[], []]);
  assert.equal(a.transport.sizes.slots, 0);
  assert.equal(clock.waiting, 0);
  a.send(b, 'twice');
  await eventually('the next message', () => b.texts().includes('twice'));
});

test('a connection that is given up is emptied, then closed, and leaves no timer', async () => {
  const clock = new HeldClock();
  const [a, b] = [await cluster.start({ clock }), await cluster.start()];
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1);
  a.send(b, 'x'.repeat(1_000_000));
  a.transport.release(b.id, true);
  assert.deepEqual(a.downs, [b.id]);
  await eventually('the message', () => b.received.length === 1);
  await eventually('the end', () => a.transport.sizes.links === 0 && b.transport.sizes.links === 0);
  assert.equal(clock.waiting, 0);
  assert.deepEqual([a.unreachable, b.unreachable], [[], []]);
});

test('a silent peer is asked, and then given up', async () => {
  const clock = new HeldClock();
  const [a, b] = [await cluster.start({ clock, limits: PATIENT }), await cluster.start()];
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1);
  const before = b.metrics.cluster_received_bytes_total;
  clock.advance(TRANSPORT_LIMITS.keepaliveMs);
  await eventually('the question', () => b.metrics.cluster_received_bytes_total > before);
  clock.advance(TRANSPORT_LIMITS.silentMs); // no time for an answer to be read in between
  assert.equal(a.metrics['cluster_connections_closed_total.silent'], 1);
});

test('a dial that is not answered ends at its deadline', async () => {
  const clock = new HeldClock();
  const mute = await cluster.start();
  await using server = await LocalServer.of(
    createServer((socket) => socket.on('error', () => undefined).resume()),
  );
  const a = await cluster.start({ clock });
  a.transport.keep({ ...mute.peer, address: server.address });
  clock.advance(TRANSPORT_LIMITS.dialTimeoutMs - 1);
  assert.deepEqual(a.unreachable, []);
  clock.advance(1);
  assert.deepEqual(a.unreachable, [mute.id]);
  a.transport.release(mute.id);
});

test('a connection whose peer shows no new certificate ends with the old one', async () => {
  const clock = new HeldClock();
  const [a, b] = [await cluster.start({ clock, limits: PATIENT }), await cluster.start()];
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1);
  clock.setWallAhead(3_600_000); // the kit's certificates live for an hour
  for (let i = 0; i < 2; i++) {
    clock.advance(TRANSPORT_LIMITS.idleMs / 2);
    b.send(a, 'not silent');
    await eventually('it to be heard', () => a.received.length > i);
  }
  assert.equal(a.metrics['cluster_connections_closed_total.expired'], 0); // clocks may be minutes apart
  clock.setWallAhead(3_600_000 + 11 * 60_000);
  clock.advance(TRANSPORT_LIMITS.idleMs);
  assert.equal(a.metrics['cluster_connections_closed_total.expired'], 1);
});

test('rotation under traffic loses no message, and ends with new certificates on new connections', async () => {
  const limits = { ...TRANSPORT_LIMITS, refreshMs: 50 };
  const { node: signer } = await startSigner(cluster);
  const [a, b] = await pair({ limits });
  a.transport.keep(b.peer);
  await eventually('the connection', () => a.ups.length === 1 && b.ups.length === 1);
  const first = a.transport.links()[0]?.serial;
  const identities = new Map<TestNode, Identity>();
  for (const node of [a, b]) {
    const rotation = new Rotation({
      clock: systemClock,
      unit: () => 0,
      identity: await cluster.identity(node.id),
      signers: () => [signer.peer],
      authority: () => undefined,
      adopt: (identity) => {
        identities.set(node, identity);
        node.transport.setIdentity(identity);
      },
    });
    await rotation.renewNow();
    rotation.stop();
  }
  const wanted: string[] = [];
  const isNew = (): boolean =>
    a.transport.links()[0]?.serial === identities.get(b)?.serial &&
    b.transport.links()[0]?.serial === identities.get(a)?.serial;
  await eventually(
    'new connections under traffic',
    () => {
      for (let i = 0; i < 5; i++) {
        const text = `message ${wanted.length}`.padEnd(5000, '.');
        wanted.push(text);
        assert.equal(a.send(b, text), 'sent');
        assert.equal(b.send(a, text), 'sent');
      }
      return isNew();
    },
    { everyMs: 1 },
  );
  await eventually(
    'all messages',
    () => a.received.length === wanted.length && b.received.length === wanted.length,
  );
  assert.notEqual(a.transport.links()[0]?.serial, first);
  assert.deepEqual(a.texts().sort(), wanted.toSorted());
  assert.deepEqual(b.texts().sort(), wanted.toSorted());
  assert.deepEqual([a.downs, b.downs, a.unreachable, b.unreachable], [[], [], [], []]);
});

test('rotation renews itself when two thirds are over, asks the next signer when one fails, and tries again', async () => {
  const clock = new HeldClock();
  const { node: signer } = await startSigner(cluster);
  const { node: useless } = await startSigner(cluster, {
    identity: await cluster.identity(),
    authority: () => undefined,
  });
  const adopted: Identity[] = [];
  let signers = [useless.peer];
  const identity = await cluster.identity();
  const rotation = new Rotation({
    clock,
    unit: () => 0,
    identity,
    signers: () => signers,
    authority: () => undefined,
    adopt: (next) => adopted.push(next),
  });
  const lengthMs = identity.notAfterMs - identity.notBeforeMs;
  assert.equal(rotation.dueAtMs, identity.notBeforeMs + (lengthMs * 2) / 3);
  rotation.start();
  assert.equal(useless.metrics['cluster_renewals_total.refused'], 0);
  clock.setWallAhead(rotation.dueAtMs - Date.now() + 1);
  clock.advance(60_000); // a host that slept: the wall clock has gone further
  await eventually('the refusal', () => useless.metrics['cluster_renewals_total.refused'] === 1);
  await eventually('a new date', () => rotation.dueAtMs > clock.wallMs());
  signers = [useless.peer, signer.peer];
  clock.setWallAhead(rotation.dueAtMs - Date.now() + 1);
  clock.advance(60_000); // a host that slept: the wall clock has gone further
  await eventually('the next certificate', () => adopted.length === 1);
  assert.equal(adopted[0]?.nodeId, identity.nodeId);
  rotation.stop();
  assert.equal(clock.waiting, 0);
});

test('a signer renews its own certificate itself', async () => {
  const adopted: Identity[] = [];
  const rotation = new Rotation({
    clock: systemClock,
    unit: () => 0,
    identity: cluster.founder,
    signers: () => [],
    authority: () => cluster.authority,
    adopt: (next) => adopted.push(next),
  });
  const next = await rotation.renewNow();
  assert.deepEqual(adopted, [next]);
  assert.equal(next.nodeId, cluster.founder.nodeId);
  assert.notEqual(next.keyPem, cluster.founder.keyPem);
});

test('stopping sends what is queued and leaves no socket and no timer', async () => {
  const resources = (): string[] =>
    process
      .getActiveResourcesInfo()
      .filter((kind) => /TCP|TLS/.test(kind))
      .sort();
  const before = resources();
  const clock = new HeldClock();
  const node = await cluster.start({ clock });
  const peers = await Promise.all([1, 2, 3].map(() => cluster.start()));
  for (const peer of peers) node.transport.keep(peer.peer);
  await eventually('the connections', () => node.ups.length === 3);
  const text = 'x'.repeat(3_000_000);
  for (const peer of peers) node.send(peer, text);
  await node.transport.stop();
  for (const peer of peers) await eventually('the last message', () => peer.texts().includes(text));
  assert.equal(clock.waiting, 0);
  await Promise.all(peers.map(({ transport }) => transport.stop()));
  await eventually('no sockets more than before', () => resources().length <= before.length);
  assert.equal(node.send(peers[0] ?? node, 'too late'), 'dropped');
});

test('a second program on the same port is refused with the reason', async () => {
  const node = await cluster.start();
  const second = new TestNode(await cluster.identity());
  await assert.rejects(second.transport.listen({ host: '127.0.0.1', port: node.port }), {
    name: 'ProblemError',
    message: /^cannot listen on 127\.0\.0\.1 port \d+: .*EADDRINUSE/,
  });
  await second.transport.stop();
});

test('a transport without a signer speaks only its own protocol', async () => {
  const node = await cluster.start();
  const { renewIdentity } = await import('../../../src/cluster/io/joining.ts');
  await assert.rejects(
    renewIdentity(await cluster.identity(), node.peer, systemClock),
    /is no zerohop agent/,
  );
  assert.equal(SIGN_PROTOCOL, 'zerohop-sign/1');
});

test('a node that could not greet anybody is refused when it is made', async () => {
  const identity = await cluster.identity();
  assert.throws(() => new TestNode(identity, { software: 'x'.repeat(33) }), /longer than 32/);
  assert.throws(
    () => new TestNode(identity, { self: { address: 'é:1', zone: '' } }),
    /not printable ASCII/,
  );
});
