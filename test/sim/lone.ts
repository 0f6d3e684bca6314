// One real node that is told of a whole cluster: what it holds and computes, apart from any network. Every record comes
// over the wire, and the node has a table of names of its own, as outside the simulator.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { decode, encode } from '../../src/hyparview-ts/codec.ts';
import { LIMITS, Node, sfc32 } from '../../src/hyparview-ts/index.ts';
import type { Input, LinkState, Message, Peer } from '../../src/hyparview-ts/index.ts';
import { below } from '../../src/hyparview-ts/random.ts';
import type { Random } from '../../src/hyparview-ts/random.ts';

export interface LoneResult {
  readonly nodes: number;
  /** Heap and arrays, for each record. */
  readonly bytesPerRecord: number;
  readonly fillMs: number;
  /** Decoding, storing, passing on and paths, for each of single changes. */
  readonly microsPerChange: number;
  /** To find its place in the tree of one more origin. */
  readonly microsPerTree: number;
}

const DEGREE = 7;
const CHANGES = 500;
const ORIGINS = 50;

export function lone(nodes: number, seed: number): LoneResult {
  const random = sfc32(seed, 61);
  const links = randomLinks(nodes, random);
  const subject = new Subject(links);
  const before = heapBytes();
  const fillMs = elapsed(() => subject.fill());
  const bytesPerRecord = (heapBytes() - before) / nodes;
  if (subject.node.members.aliveCount !== nodes - 1) throw new Error('not all are known alive');
  const changesMs = elapsed(() => {
    for (let i = 0; i < CHANGES; i++) subject.change(1 + below(random, nodes - 1), random);
  });
  const treesMs = elapsed(() => {
    for (let i = 0; i < ORIGINS; i++) subject.hear(1 + below(random, nodes - 1), i);
  });
  return {
    nodes,
    bytesPerRecord: Math.round(bytesPerRecord),
    fillMs,
    microsPerChange: (1000 * changesMs) / CHANGES,
    microsPerTree: (1000 * treesMs) / ORIGINS,
  };
}

function elapsed(run: () => void): number {
  const start = process.cpuUsage().user;
  run();
  return (process.cpuUsage().user - start) / 1000;
}

function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** A ring, so that it is one, and chords up to the degree of most nodes. */
function randomLinks(nodes: number, random: Random): Set<number>[] {
  const links = Array.from({ length: nodes }, () => new Set<number>());
  const link = (a: number, b: number): void => {
    links[a]?.add(b);
    links[b]?.add(a);
  };
  for (let i = 0; i < nodes; i++) link(i, (i + 1) % nodes);
  for (let i = 0; i < nodes; i++) {
    for (let tries = 0; tries < 50 && (links[i]?.size ?? 0) < DEGREE; tries++) {
      const other = below(random, nodes);
      if (other !== i && (links[other]?.size ?? 0) < DEGREE) link(i, other);
    }
  }
  return links;
}

function id(index: number): string {
  return `node-${index.toString(16).padStart(11, '0')}`;
}

function peer(index: number): Peer {
  return { id: id(index), address: `10.0.0.1:${index}`, zone: 'zone-0' };
}

class Subject {
  readonly node: Node;
  readonly #links: readonly Set<number>[];
  readonly #sequences: number[] = [];
  readonly #timers = new Map<string, number>();
  #now = 1000;

  constructor(links: readonly Set<number>[]) {
    this.#links = links;
    const config = { multicastNodesMax: links.length };
    this.node = new Node({ self: peer(0), random: sfc32(1), incarnation: 1, config });
    for (const index of links[0] ?? []) this.#receive(index, { type: 'neighbor', high: true });
  }

  #give(input: Input): void {
    for (const output of this.node.handle(input, this.#now)) {
      if (output.type === 'schedule') this.#timers.set(output.key, output.atMs);
    }
  }

  #receive(from: number, message: Message): void {
    this.#give({ type: 'received', from: peer(from), message: decode(encode(message)) });
  }

  /** Only the timers of link states: nobody answers pings here. */
  #pass(ms: number): void {
    this.#now += ms;
    for (const key of ['publish', 'flush', 'routes', 'hold', 'want', 'lazy'] as const) {
      if ((this.#timers.get(key) ?? Infinity) <= this.#now) this.#give({ type: 'timer', key });
    }
  }

  #state(index: number): LinkState {
    const sequence = (this.#sequences[index] ?? 0) + 1;
    this.#sequences[index] = sequence;
    const neighbours = [...(this.#links[index] ?? [])].map(id);
    return { origin: peer(index), incarnation: 1, sequence, left: false, neighbours };
  }

  #tell(purpose: 'sync' | 'tree', indices: readonly number[]): void {
    const from = [...(this.#links[0] ?? [])][0] ?? 1;
    const states = indices.map((index) => this.#state(index));
    this.#receive(from, { type: 'states', purpose, states });
  }

  fill(): void {
    const all = this.#links.map((_, index) => index).slice(1);
    for (let at = 0; at < all.length; at += LIMITS.statesPerMessage) {
      this.#tell('sync', all.slice(at, at + LIMITS.statesPerMessage));
    }
    for (let i = 0; i < 10; i++) this.#pass(1000);
  }

  /** A node gives up one of its links for another. */
  change(index: number, random: Random): void {
    const own = this.#links[index];
    const old = [...(own ?? [])].find((other) => other > 0 && Math.abs(other - index) > 1);
    const fresh = 1 + below(random, this.#links.length - 1);
    if (own === undefined || old === undefined || fresh === index || own.has(fresh)) return;
    own.delete(old);
    own.add(fresh);
    this.#links[old]?.delete(index);
    this.#links[fresh]?.add(index);
    for (const changed of [index, old, fresh]) this.#tell('tree', [changed]);
    this.#pass(100);
  }

  hear(origin: number, number: number): void {
    this.#now += 1000; // above 1,000 nodes one tree is made at a time
    const from = [...(this.#links[0] ?? [])][0] ?? 1;
    const name = `${id(origin)} 1 ${(number + 1).toString(36)}`;
    const payload = new Uint8Array(8);
    this.#receive(from, { type: 'gossip', id: name, hop: 3, priority: 'normal', payload });
  }
}
