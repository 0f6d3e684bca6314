/** Three nodes whose wires are cut at random moments while all else goes on: in the end every pair has one connection. */
import assert from 'node:assert/strict';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { TRANSPORT_LIMITS } from '../../../src/cluster/io/transport-options.ts';
import { eventually, patience } from '../../harness/eventually.ts';
import { Dice, testSeed } from '../../harness/random.ts';
import { TestCluster, TestNode } from './kit.ts';

/** What is dialled in the place of a node: passes bytes on, until it is cut. */
class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  isDown = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(port: number): Promise<Wire> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const wire = new Wire(server);
    server.on('connection', (inside) => wire.#join(inside, port));
    return wire;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #join(inside: Socket, port: number): void {
    if (this.isDown) return void inside.resetAndDestroy();
    const outside = connect(port, '127.0.0.1');
    for (const [one, two] of [
      [inside, outside],
      [outside, inside],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => undefined);
      one.pipe(two);
      one.on('close', () => {
        this.#sockets.delete(one);
        two.destroy();
      });
    }
    return undefined;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

const cleanups: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanup of cleanups) await cleanup();
});

const FREE = { perSecond: 1e6, burst: 1e6 };

test('whatever is cut, kept, released and renewed, every pair ends with one connection that works both ways', async (t) => {
  const dice = new Dice(testSeed(t));
  const cluster = await TestCluster.found();
  const nodes: TestNode[] = [];
  const wires: Wire[] = [];
  for (let i = 0; i < 3; i++) {
    const node = await TestNode.start(await cluster.identity(), {
      unit: () => dice.below(1000) / 1000,
      limits: {
        ...TRANSPORT_LIMITS,
        refreshMs: 100,
        idleMs: 300,
        dialTimeoutMs: 1000 * patience,
        drainMs: 500,
      },
      listener: { arrivals: FREE, arrivalsPerAddress: FREE, handshakeTimeoutMs: 1000 * patience },
    });
    const wire = await Wire.to(node.port);
    node.transport.setAddress(wire.address);
    nodes.push(node);
    wires.push(wire);
    cleanups.push(
      () => node.transport.stop(),
      () => wire.close(),
    );
  }
  let sent = 0;
  const act = async (): Promise<void> => {
    const node = dice.pick(nodes);
    const other = dice.pick(nodes.filter((one) => one !== node));
    const wire = dice.pick(wires);
    switch (dice.below(9)) {
      case 0:
        return wire.cut();
      case 1:
        wire.isDown = !wire.isDown;
        return undefined;
      case 2:
      case 3:
        return node.transport.keep(other.peer);
      case 4:
        return node.transport.release(other.id, dice.below(2) === 0);
      case 5:
        return node.transport.setIdentity(await cluster.identity(node.id));
      default:
        sent += 1;
        node.send(other, `noise ${sent} ${'x'.repeat(dice.below(100_000))}`);
    }
  };
  for (let i = 0; i < 400; i++) {
    await act();
    for (let turns = dice.below(30); turns > 0; turns--)
      await new Promise((resolve) => setImmediate(resolve));
  }
  for (const wire of wires) wire.isDown = false;
  for (const node of nodes)
    for (const other of nodes) if (node !== other) node.transport.keep(other.peer);
  const isSettled = (): boolean =>
    nodes.every((node) => {
      const links = node.transport.links();
      return (
        links.length === 2 &&
        node.transport.sizes.links === 2 &&
        links.every(({ queuedBytes }) => queuedBytes === 0)
      );
    });
  await eventually('one connection for each pair', isSettled, { timeoutMs: 30_000 });
  for (const node of nodes) {
    for (const { peer, dialledBy } of node.transport.links()) {
      const mirror = nodes
        .find(({ id }) => id === peer.id)
        ?.transport.links()
        .find((link) => link.peer.id === node.id);
      assert.notEqual(mirror?.dialledBy, dialledBy, 'both ends hold the same connection');
    }
  }
  for (const node of nodes)
    for (const other of nodes) if (node !== other) node.send(other, `last from ${node.id}`);
  await eventually('the last messages', () =>
    nodes.every(
      (node) => node.texts().filter((text) => text.startsWith('last from ')).length === 2,
    ),
  );
  for (const { received } of nodes) {
    const noise = received.filter(({ text }) => text.startsWith('noise')).map(({ text }) => text);
    assert.equal(new Set(noise).size, noise.length, 'no message came twice');
  }
  for (const { metrics } of nodes)
    assert.equal(metrics['cluster_connections_closed_total.protocol'], 0);
});
