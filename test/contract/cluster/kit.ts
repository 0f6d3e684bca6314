/** Clusters of several nodes in this process, on 127.0.0.1 and ports that the kernel chooses. */
import { randomBytes } from 'node:crypto';
import type { Peer } from '../../../src/hyparview-ts/index.ts';
import type { Channel } from '../../../src/cluster/channels.ts';
import { formatAddress } from '../../../src/cluster/address.ts';
import { validityFrom, type Validity } from '../../../src/cluster/lifetime.ts';
import type { Ledger } from '../../../src/cluster/ledger.ts';
import { drawNodeId } from '../../../src/cluster/names.ts';
import {
  createRequest,
  signRequest,
  type Authority,
} from '../../../src/cluster/io/certificates.ts';
import { systemClock, type Clock } from '../../../src/cluster/io/clock.ts';
import { foundCluster } from '../../../src/cluster/io/founding.ts';
import { identityOf, type Identity } from '../../../src/cluster/io/identity.ts';
import { SIGN_PROTOCOL } from '../../../src/cluster/io/listener.ts';
import { newMetrics, type Metrics } from '../../../src/cluster/io/metrics.ts';
import { Signer } from '../../../src/cluster/io/signer.ts';
import type { TransportOptions } from '../../../src/cluster/io/transport-options.ts';
import { Transport } from '../../../src/cluster/io/transport.ts';

export function random(bytes: Uint8Array): void {
  bytes.set(randomBytes(bytes.length));
}

/** A cluster's CA and what it signs. */
export class TestCluster {
  readonly authority: Authority;
  readonly founder: Identity;
  /** What stop() ends. */
  readonly nodes: TestNode[] = [];

  private constructor(authority: Authority, founder: Identity) {
    this.authority = authority;
    this.founder = founder;
  }

  static async found(): Promise<TestCluster> {
    const { authority, identity } = await foundCluster(systemClock);
    return new TestCluster(authority, identity);
  }

  async identity(
    nodeId = drawNodeId(random),
    validity: Validity = validityFrom(Date.now(), 3_600_000),
  ): Promise<Identity> {
    const { keyPem, request } = await createRequest();
    const name = { clusterId: this.authority.clusterId, nodeId };
    const certPem = await signRequest(this.authority, request, name, validity);
    return identityOf(keyPem, certPem, this.authority.certPem, 'test');
  }

  /** A node that listens, until stop(). */
  async start(options: Partial<TransportOptions> = {}, identity?: Identity): Promise<TestNode> {
    const node = await TestNode.start(identity ?? (await this.identity()), options);
    this.nodes.push(node);
    return node;
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map(({ transport }) => transport.stop()));
  }
}

export interface Received {
  readonly from: string;
  readonly channel: Channel;
  readonly text: string;
}

/** A transport that writes down what happens to it. */
export class TestNode {
  readonly transport: Transport;
  readonly received: Received[] = [];
  readonly ups: string[] = [];
  readonly downs: string[] = [];
  readonly unreachable: string[] = [];
  readonly log: string[] = [];

  constructor(identity: Identity, options: Partial<TransportOptions> = {}) {
    const note = (fields: object, message: string): void => {
      this.log.push(`${message} ${JSON.stringify(fields)}`);
    };
    this.transport = new Transport({
      identity,
      self: { address: '127.0.0.1:1', zone: '' },
      software: 'test',
      clock: systemClock,
      unit: () => 0.5,
      log: { debug: note, info: note, warn: note },
      handlers: {
        message: (from, channel, message) => {
          this.received.push({ from: from.id, channel, text: Buffer.from(message).toString() });
        },
        up: (peer) => this.ups.push(peer.id),
        down: (id) => this.downs.push(id),
        unreachable: (id) => this.unreachable.push(id),
      },
      ...options,
    });
  }

  static async start(
    identity: Identity,
    options: Partial<TransportOptions> = {},
  ): Promise<TestNode> {
    const node = new TestNode(identity, options);
    const bound = await node.transport.listen({ host: '127.0.0.1', port: 0 });
    node.transport.setAddress(formatAddress(bound));
    return node;
  }

  get id(): string {
    return this.transport.id;
  }

  get peer(): Peer {
    return this.transport.self;
  }

  get metrics(): Metrics {
    return this.transport.metrics;
  }

  get address(): string {
    return this.peer.address;
  }

  get port(): number {
    return Number(this.address.split(':')[1]);
  }

  send(to: TestNode, text: string, channel: Channel = 'state'): string {
    return this.transport.send(to.peer, channel, Buffer.from(text));
  }

  texts(): string[] {
    return this.received.map(({ text }) => text);
  }
}

export interface SignerNode {
  readonly node: TestNode;
  readonly signer: Signer;
  /** What was last written to disk. */
  saved: Ledger;
}

/** A node of the cluster that signs, with its ledger in memory. */
export async function startSigner(
  cluster: TestCluster,
  options: {
    readonly identity?: Identity;
    readonly clock?: Clock;
    readonly authority?: () => Authority | undefined;
    readonly limits?: ConstructorParameters<typeof Signer>[0]['limits'];
    readonly validityMs?: number;
    readonly peers?: () => readonly Peer[];
    readonly isGone?: (nodeId: string) => boolean;
    readonly save?: (ledger: Ledger) => void;
  } = {},
): Promise<SignerNode> {
  const metrics = newMetrics();
  const { identity = cluster.founder, clock = systemClock, limits, validityMs } = options;
  const signer = new Signer({
    clock,
    metrics,
    nodeId: identity.nodeId,
    authority: options.authority ?? (() => cluster.authority),
    ledger: [],
    saveLedger: (ledger) => {
      options.save?.(ledger);
      made.saved = ledger;
    },
    peers: options.peers ?? (() => [node.peer]),
    revocations: () => node.transport.revocations.entries(),
    isGone: options.isGone ?? (() => false),
    ...(limits !== undefined && { limits }),
    ...(validityMs !== undefined && { validityMs }),
  });
  const node: TestNode = await cluster.start(
    { metrics, clock, takers: new Map([[SIGN_PROTOCOL, (arrived) => signer.take(arrived)]]) },
    identity,
  );
  const made: SignerNode = { node, signer, saved: [] };
  return made;
}
