/**
 * Whole agents (agent.ts) in the simulator: makes hosts with disks, starts, kills and restarts their
 * agents, gives them commands, and looks at what they hold. Everything follows from the seed.
 */
import { base32 } from '../../../src/cluster/base32.ts';
import { NODE_ID_BYTES } from '../../../src/cluster/names.ts';
import { DEFAULT_POOLS, type VipPools } from '../../../src/catalog/vips.ts';
import type { ReplicationNotice } from '../../../src/cluster/replication-types.ts';
import { below, sfc32, unit } from '../../../src/hyparview-ts/random.ts';
import { Names } from '../../../src/hyparview-ts/index.ts';
import type { Config, Event, Random } from '../../../src/hyparview-ts/index.ts';
import { Replica, type Update, type Write } from '../../../src/state/replica/replica.ts';
import { NODE_KEY, writeNode } from '../../../src/state/replica/schema.ts';
import { Simulator } from '../simulator.ts';
import type { Host } from '../simulator.ts';
import { Agent, type AgentInput, type AgentMessage, type Command } from './agent.ts';
import { Disk } from './disk.ts';
import { FakeMap } from './fake-map.ts';

export interface Place {
  readonly index: number;
  readonly id: string;
  readonly address: string;
  readonly disk: Disk;
  readonly map: FakeMap;
  agent: Agent | undefined;
  /** Counts starts. */
  life: number;
  /** Of the wall clock. */
  skewMs: number;
}

export interface FleetOptions {
  readonly seed: number;
  readonly pools?: VipPools;
  readonly config?: Partial<Config>;
  /** From and to: how long a write to the disk takes. */
  readonly diskMs?: readonly [number, number];
}

/** Some day in 2027. */
const WALL_MS = 1_800_000_000_000;
/** An fsync of a good SSD takes 0.2 to 2 ms; a guess. */
const DISK_MS = [0.2, 2] as const;
/** What may happen in any run; anything else is an error of ours. */
const TOLERATED: ReadonlySet<string> = new Set(['epoch', 'clock-ahead', 'gap', 'no-answer']);

export class Fleet {
  readonly sim: Simulator<AgentMessage>;
  readonly places: Place[] = [];
  /** How often replication noticed what. */
  readonly notices = new Map<string, number>();
  onEvent: ((place: Place, event: Event) => void) | undefined;
  onKilled: ((place: Place) => void) | undefined;
  onWrites: ((place: Place, agent: Agent, writes: readonly Write[]) => () => void) | undefined;
  /** Of all that replication sent and broadcast. */
  bytesHash = 0;
  readonly pools: VipPools;
  readonly #options: FleetOptions;
  readonly #names = new Names(true);
  readonly #diskRandom: Random;

  constructor(options: FleetOptions) {
    const { seed, pools = DEFAULT_POOLS } = options;
    this.#options = options;
    this.pools = pools;
    this.#diskRandom = sfc32(seed, 3);
    this.sim = new Simulator<AgentMessage>(seed);
    this.sim.onEvent = ({ index }, event) => this.onEvent?.(this.place(index), event as Event);
    this.sim.onSend = (_from, _to, message) => this.#fold(message);
  }

  place(index: number): Place {
    const place = this.places[index];
    if (place === undefined) throw new Error(`no host ${index}`);
    return place;
  }

  agent(index: number): Agent {
    const { agent } = this.place(index);
    if (agent === undefined) throw new Error(`the agent of host ${index} does not run`);
    return agent;
  }

  living(): Place[] {
    return this.places.filter(({ agent }) => agent !== undefined);
  }

  host(index: number): Host<AgentMessage> {
    const host = this.sim.hosts[index];
    if (host === undefined) throw new Error(`no host ${index}`);
    return host;
  }

  addHosts(count: number, zones: number): Place[] {
    return Array.from({ length: count }, () => {
      const index = this.places.length;
      const id = nodeIdOf(index);
      this.sim.addHost(id, `zone-${index % zones}`);
      const place: Place = {
        index,
        id,
        address: `10.77.${index >> 8}.${index & 255}`,
        disk: new Disk(index + 1),
        map: new FakeMap(),
        agent: undefined,
        life: 0,
        skewMs: 0,
      };
      this.places.push(place);
      return place;
    });
  }

  /**
   * Hosts whose disks hold a cluster as it was: what each has in its own document, and what all
   * share. Saves the join of a thousand hosts, one after the other.
   */
  formed(
    count: number,
    zones: number,
    own: (place: Place) => readonly Write[],
    shared: readonly Write[],
  ): void {
    const places = this.addHosts(count, zones);
    const updates: Update[] = [];
    const clocks: string[] = [];
    for (const [i, place] of places.entries()) {
      const replica = Replica.open({ node: place.id, writer: place.disk.writer });
      const writes = [infoOf(place, this.host(place.index).peer.zone), ...own(place)];
      replica.transact([...writes, ...(i === 0 ? shared : [])], WALL_MS - 1000);
      updates.push(replica.whole(replica.own));
      if (i === 0 && shared.length > 0) updates.push(replica.whole('shared'));
      clocks.push(replica.clockState());
    }
    for (const [i, place] of places.entries()) {
      const disk = new Disk(place.disk.writer, { clock: clocks[i] ?? '', updates });
      this.places[place.index] = { ...place, disk };
    }
  }

  wallMs(place: Place): number {
    return WALL_MS + Math.floor(this.sim.localTime(this.host(place.index))) + place.skewMs;
  }

  start(index: number, seeds: readonly number[]): void {
    const place = this.place(index);
    const host = this.host(index);
    place.life += 1;
    const [from, to] = this.#options.diskMs ?? DISK_MS;
    const agent = new Agent({
      self: host.peer,
      disk: place.disk,
      map: place.map,
      pools: this.pools,
      random: sfc32(this.#options.seed, 1000 + index * 1000 + place.life),
      names: this.#names,
      config: this.#options.config ?? {},
      wallMs: () => this.wallMs(place),
      diskMs: () => from + (to - from) * unit(this.#diskRandom),
      onWrites: (one, writes) => this.onWrites?.(place, one, writes) ?? ((): void => {}),
      onNotice: (notice, peer) => this.#notice(place, notice, peer),
    });
    place.agent = agent;
    this.sim.run(host, agent);
    this.command(index, { writes: () => [infoOf(place, host.peer.zone)] });
    this.give(index, { type: 'start', known: place.disk.overlay.known });
    const peers = seeds.filter((seed) => seed !== index).map((seed) => this.host(seed).peer);
    this.give(index, { type: 'join', seeds: peers });
  }

  give(index: number, input: AgentInput): void {
    this.sim.give(this.host(index), input);
  }

  command(index: number, command: Command): void {
    this.give(index, { type: 'command', command });
  }

  /** The power of the host is cut; or only its process is killed, and the kernel closes its connections. */
  kill(index: number, how: 'silently' | 'reset'): void {
    const place = this.place(index);
    if (place.agent === undefined) return;
    const neighbours = place.agent.overlay.views.active.peers.map(({ id }) => id);
    this.#end(place, how);
    if (how === 'silently') return;
    for (const id of neighbours) {
      const other = this.sim.byId.get(id);
      if (other === undefined || this.sim.isCut(this.host(index), other)) continue;
      this.sim.after(this.sim.network.latencyMs, () =>
        this.sim.give(other, { type: 'unreachable', peer: place.id }),
      );
    }
  }

  /** A clean stop. */
  leave(index: number): void {
    const place = this.place(index);
    if (place.agent === undefined) return;
    this.give(index, { type: 'leave' });
    this.#end(place, 'reset');
  }

  #end(place: Place, how: 'silently' | 'reset'): void {
    if (how === 'silently') place.disk.cut(this.#diskRandom);
    else place.disk.kill(this.#diskRandom);
    place.agent = undefined;
    this.sim.crash(this.host(place.index), how === 'reset');
    this.onKilled?.(place);
  }

  /** All start, one every `everyMs`, and join through the first three. */
  bootstrap(everyMs: number): void {
    const seeds = [0, 1, 2].slice(0, this.places.length);
    for (const { index } of this.places)
      this.sim.at(this.sim.now + index * everyMs, () => this.start(index, seeds));
  }

  #notice(place: Place, notice: ReplicationNotice, from: string): void {
    this.notices.set(notice.type, (this.notices.get(notice.type) ?? 0) + 1);
    if (TOLERATED.has(notice.type)) return;
    throw new Violation(`host ${place.index}, from ${from}: ${JSON.stringify(notice)}`);
  }

  #fold(message: AgentMessage): void {
    if (message.type === 'state') this.#foldBytes(message.bytes);
    else if (message.type === 'gossip') this.#foldBytes(message.payload);
  }

  /** FNV-1a. */
  #foldBytes(bytes: Uint8Array): void {
    let hash = this.bytesHash ^ bytes.length;
    for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
    this.bytesHash = hash >>> 0;
  }
}

/** A check that failed: what, with the numbers. */
export class Violation extends Error {}

function nodeIdOf(index: number): string {
  const random = sfc32(index, 4);
  return base32(Uint8Array.from({ length: NODE_ID_BYTES }, () => below(random, 256)));
}

function infoOf({ index, address }: Place, zone: string): Write {
  const record = {
    name: `host-${index}`,
    zone,
    version: '0.1.0',
    address: `${address}:7946`,
    addresses: [address],
    signer: index < 3,
  };
  return { document: 'own', key: NODE_KEY, value: writeNode(record, undefined) };
}
