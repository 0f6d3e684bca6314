// What is measured of a cluster: the cost of being there, the quality of broadcasts, the shape of the overlay.
import { encode } from '../../src/hyparview-ts/codec.ts';
import { below, sfc32 } from '../../src/hyparview-ts/random.ts';
import type { LinkState, Message, MessageOf } from '../../src/hyparview-ts/index.ts';
import type { Cluster, Delivery } from './cluster.ts';

const NO_STATES = encode({ type: 'states', purpose: 'tree', states: [] }).length;
const stateBytes = new WeakMap<LinkState, number>();

function bytesOf(state: LinkState): number {
  const known = stateBytes.get(state);
  if (known !== undefined) return known;
  const bytes = encode({ type: 'states', purpose: 'tree', states: [state] }).length - NO_STATES;
  stateBytes.set(state, bytes);
  return bytes;
}

function integerBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest /= 0x80) bytes += 1;
  return bytes;
}

function versionsBytes({ buckets, versions }: MessageOf<'versions'>): number {
  let bytes = 2 + integerBytes(buckets.length) + buckets.length + integerBytes(versions.length);
  for (const { id, incarnation, sequence } of versions) {
    bytes += 1 + id.length + integerBytes(incarnation) + integerBytes(sequence);
  }
  return bytes;
}

/** The bytes of a message on the wire; of the long ones, which go to many, without encoding them every time. */
export function sizeOf(message: Message): number {
  if (message.type === 'versions') return versionsBytes(message);
  if (message.type !== 'states' || message.gone !== undefined) return encode(message).length;
  const { states } = message;
  return states.reduce(
    (sum, state) => sum + bytesOf(state),
    NO_STATES - 1 + integerBytes(states.length),
  );
}

export interface Cost {
  readonly messagesPerNodeSecond: number;
  readonly bytesPerNodeSecond: number;
  readonly otherZoneShare: number;
}

/** What one node sends per second, on average, while `run` passes; of all nodes when some are still to come. */
export function cost(
  cluster: Cluster,
  forMs: number,
  { run, nodes = cluster.living().length }: { run?: () => void; nodes?: number } = {},
): Cost {
  const { sim } = cluster;
  const messages = sim.messages;
  sim.bytes = 0;
  sim.crossZoneBytes = 0;
  sim.sizeOf = sizeOf;
  const start = sim.now;
  run?.();
  sim.runUntil(start + forMs);
  sim.sizeOf = undefined;
  const nodeSeconds = (nodes * forMs) / 1000;
  return {
    messagesPerNodeSecond: (sim.messages - messages) / nodeSeconds,
    bytesPerNodeSecond: sim.bytes / nodeSeconds,
    otherZoneShare: sim.bytes === 0 ? 0 : sim.crossZoneBytes / sim.bytes,
  };
}

export interface BroadcastQuality {
  /** Of the living nodes, how many got it, averaged over broadcasts. */
  readonly reliability: number;
  /** The same for those that got it within `promptMs`: without what repair brought later. */
  readonly prompt: number;
  /** Plumtree's relative message redundancy: payloads received / (nodes - 1) - 1 (PT, section 4.1). */
  readonly rmr: number;
  /** The last delivery hop, averaged over broadcasts. */
  readonly lastHop: number;
  readonly hopOf99Percent: number;
  readonly p99Ms: number;
}

export interface BroadcastOptions {
  readonly count?: number;
  readonly everyMs?: number;
  readonly sources?: number;
  readonly seed?: number;
  readonly waitMs?: number;
  readonly promptMs?: number;
}

/** Broadcasts one after another from `sources` nodes in turn, `everyMs` apart, and looks at each alone. */
export function broadcasts(
  cluster: Cluster,
  {
    count = 100,
    everyMs = 200,
    sources = 1,
    seed = 1,
    waitMs = 5000,
    promptMs = everyMs,
  }: BroadcastOptions = {},
): { all: BroadcastQuality; each: readonly number[]; eachPrompt: readonly number[] } {
  const { sim } = cluster;
  const random = sfc32(seed, 21);
  const living = cluster.living();
  const from = Array.from({ length: sources }, () => living[below(random, living.length)] ?? 0);
  const before = new Set(cluster.deliveries.keys());
  const payloads = sim.sent('gossip');
  for (let i = 0; i < count; i++) {
    const source = from[i % sources] ?? 0;
    if (cluster.runs(source)) cluster.broadcast(source);
    sim.runUntil(sim.now + everyMs);
  }
  sim.runUntil(sim.now + waitMs);
  const made: Delivery[] = [];
  for (const [id, delivery] of cluster.deliveries) if (!before.has(id)) made.push(delivery);
  const each = made.map((delivery) => reached(delivery, Infinity));
  const eachPrompt = made.map((delivery) => reached(delivery, promptMs));
  const reach = { reliability: mean(each), prompt: mean(eachPrompt) };
  return { all: { ...reach, ...quality(made, sim.sent('gossip') - payloads) }, each, eachPrompt };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

function reached({ targets, got }: Delivery, withinMs: number): number {
  let count = 0;
  for (const target of targets) {
    const afterMs = got.afterMs(target);
    if (afterMs !== undefined && afterMs <= withinMs) count += 1;
  }
  return count / Math.max(1, targets.size);
}

function quality(
  made: readonly Delivery[],
  payloads: number,
): Omit<BroadcastQuality, 'reliability' | 'prompt'> {
  const delays = new Float32Array(made.reduce((sum, { got }) => sum + got.size, 0));
  let delayCount = 0;
  let receivers = 0;
  let lastHops = 0;
  let hops99 = 0;
  for (const { got } of made) {
    receivers += Math.max(1, got.size - 1);
    const hops = new Uint16Array(got.size);
    let at = 0;
    for (const host of got.hosts()) {
      hops[at++] = got.hop(host) ?? 0;
      delays[delayCount++] = got.afterMs(host) ?? 0;
    }
    hops.sort();
    lastHops += hops.at(-1) ?? 0;
    hops99 += hops[Math.min(hops.length - 1, Math.floor(0.99 * hops.length))] ?? 0;
  }
  const count = Math.max(1, made.length);
  return {
    rmr: payloads / Math.max(1, receivers) - 1,
    lastHop: lastHops / count,
    hopOf99Percent: hops99 / count,
    p99Ms: delays.sort()[Math.floor(0.99 * delays.length)] ?? 0,
  };
}

/** Kills this part of the nodes at one moment. Their connections are closed, as the paper's TCP would notice. */
export function failAtOnce(cluster: Cluster, part: number, seed: number): number[] {
  const random = sfc32(seed, 22);
  const living = cluster.living();
  const dead: number[] = [];
  const count = Math.round(living.length * part);
  while (dead.length < count) {
    const at = below(random, living.length);
    const victim = living[at];
    if (victim === undefined) break;
    living.splice(at, 1);
    cluster.crash(victim, true);
    dead.push(victim);
  }
  // the kernel of a process that died closes its connections: its neighbours need not send anything to notice
  const { sim } = cluster;
  const ids = new Set(dead.map((index) => cluster.host(index).peer.id));
  for (const index of living) {
    const lost = cluster.node(index).views.active.peers.filter(({ id }) => ids.has(id));
    for (const { id: peer } of lost) {
      sim.after(sim.network.latencyMs, () => cluster.give(index, { type: 'unreachable', peer }));
    }
  }
  return dead;
}

/** One percent of the nodes a minute goes, and comes back after a while. */
export function churn(cluster: Cluster, forMs: number, seed: number): void {
  const { sim } = cluster;
  const random = sfc32(seed, 23);
  const nodes = sim.hosts.length;
  const everyMs = 60_000 / Math.max(1, nodes / 100);
  for (let at = everyMs / 2; at < forMs; at += everyMs) {
    sim.after(at, () => {
      const living = cluster.living();
      const victim = living[3 + below(random, Math.max(1, living.length - 3))];
      if (victim === undefined) return;
      cluster.crash(victim);
      sim.after(5000, () => cluster.start(victim, [0, 1, 2]));
    });
  }
}
