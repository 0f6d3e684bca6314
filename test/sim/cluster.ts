// Many hyparview-ts nodes in one simulator: starting, crashing, restarting them, broadcasting, and looking at what
// they believe.
import { DEFAULTS, Names, Node, knownPeers, sfc32 } from '../../src/hyparview-ts/index.ts';
import type {
  Config,
  Event,
  Input,
  Message,
  Peer,
  Priority,
} from '../../src/hyparview-ts/index.ts';
import { Receipts } from './receipts.ts';
import { Simulator } from './simulator.ts';
import type { Host } from './simulator.ts';

/** Of one broadcast; known by a number in its payload, so that two broadcasts with one id are two here. */
export interface Delivery {
  readonly id: string;
  readonly sentAt: number;
  readonly origin: number;
  /** Living nodes when it was sent. */
  readonly targets: ReadonlySet<number>;
  readonly got: Receipts;
  twice: number;
}

export interface Belief {
  readonly at: number;
  readonly kind: 'member-up' | 'member-dead' | 'member-left';
}

export class Cluster {
  readonly sim: Simulator<Message>;
  readonly nodes: (Node | undefined)[] = [];
  readonly deliveries = new Map<number, Delivery>();
  readonly config: Config;
  onEvent: ((host: Host<Message>, event: Event) => void) | undefined;
  /** Undefined: a table for each node, as outside the simulator. */
  names: Names | undefined = new Names(true);
  readonly #seed: number;
  readonly #starts: number[] = [];
  readonly #disks: Peer[][] = [];
  readonly #life: number[] = [];
  #lives = 0;
  #broadcasts = 0;
  /** The same set for all broadcasts between two changes: there may be thousands of both. */
  #targets: ReadonlySet<number> | undefined;

  constructor(seed: number, config: Partial<Config> = {}) {
    this.#seed = seed;
    this.config = { ...DEFAULTS, ...config };
    this.sim = new Simulator<Message>(seed);
    this.sim.onEvent = (host, event) => this.#observe(host, event as Event);
  }

  addHosts(count: number, zones = 1): void {
    for (let i = 0; i < count; i++) {
      const index = this.sim.hosts.length;
      this.sim.addHost(`node-${index.toString(16).padStart(11, '0')}`, `zone-${index % zones}`);
    }
  }

  host(index: number): Host<Message> {
    const host = this.sim.hosts[index];
    if (host === undefined) throw new Error(`no host ${index}`);
    return host;
  }

  node(index: number): Node {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`node ${index} does not run`);
    return node;
  }

  runs(index: number): boolean {
    return this.nodes[index] !== undefined;
  }

  living(): number[] {
    return [...this.nodes.keys()].filter((index) => this.nodes[index] !== undefined);
  }

  /**
   * Starts a node. Its incarnation is the count of its starts, on its disk, or, without a disk, its own clock. Neither
   * knows to which incarnation it was raised while it ran.
   */
  start(index: number, seeds: readonly number[], disk = true): void {
    const host = this.host(index);
    this.#life[index] = ++this.#lives;
    const counter = (this.#starts[index] ?? 0) + 1;
    this.#starts[index] = disk ? counter : 0;
    const incarnation = disk ? counter : Math.max(1, Math.round(this.sim.localTime(host)));
    const node = new Node({
      self: host.peer,
      random: sfc32(this.#seed, 1000 + this.#lives),
      incarnation,
      config: this.config,
      ...(this.names === undefined ? {} : { names: this.names }),
    });
    this.nodes[index] = node;
    this.#targets = undefined;
    this.sim.run(host, node);
    this.give(index, { type: 'start', known: disk ? (this.#disks[index] ?? []) : [] });
    const peers = seeds.filter((seed) => seed !== index).map((seed) => this.host(seed).peer);
    this.give(index, { type: 'join', seeds: peers });
  }

  give(index: number, input: Input): void {
    this.sim.give(this.host(index), input);
  }

  crash(index: number, resets = false): void {
    this.#remember(index);
    this.nodes[index] = undefined;
    this.#targets = undefined;
    this.sim.crash(this.host(index), resets);
  }

  leave(index: number): void {
    this.#remember(index);
    this.give(index, { type: 'leave' });
    this.nodes[index] = undefined;
    this.#targets = undefined;
    this.sim.crash(this.host(index), true);
  }

  #remember(index: number): void {
    const node = this.nodes[index];
    if (node === undefined) return;
    this.#disks[index] = knownPeers(node);
  }

  broadcast(index: number, bytes = 64, priority: Priority = 'normal'): void {
    const payload = new Uint8Array(Math.max(4, bytes));
    new DataView(payload.buffer).setUint32(0, ++this.#broadcasts);
    this.give(index, { type: 'broadcast', payload, priority });
  }

  #observe(host: Host<Message>, event: Event): void {
    // a payload too short for a number was forged
    if (event.type === 'delivered' && event.payload.length >= 4) {
      const { id, payload } = event;
      const number = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
      let delivery = this.deliveries.get(number);
      if (delivery === undefined) {
        const targets = (this.#targets ??= new Set(this.living()));
        const got = new Receipts(this.sim.hosts.length);
        const sentAt = this.sim.now;
        delivery = { id, sentAt, origin: host.index, targets, got, twice: 0 };
        this.deliveries.set(number, delivery);
      }
      const life = this.#life[host.index] ?? 0;
      // a restarted node remembers nothing, and may get it again
      if (delivery.got.lifeOf(host.index) === life) delivery.twice += 1;
      delivery.got.add(host.index, this.sim.now - delivery.sentAt, event.hop, life);
    }
    this.onEvent?.(host, event);
  }

  /** All join through a few seeds, one every `everyMs`. */
  bootstrap(everyMs: number, seedCount = 3): void {
    const seeds = [...this.sim.hosts.keys()].slice(0, seedCount);
    for (const { index } of this.sim.hosts) {
      this.sim.at(this.sim.now + index * everyMs, () => this.start(index, seeds));
    }
  }

  neighbours(index: number): number[] {
    const node = this.nodes[index];
    if (node === undefined) return [];
    return node.views.active.peers.map(({ id }) => this.sim.byId.get(id)?.index ?? -1);
  }
}
