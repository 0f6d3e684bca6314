// The simulator: one event heap, hosts that run a state machine, and a network between them that delays, loses,
// doubles and cuts. Everything follows from the seed: no clock, no Math.random, no iteration order of anything that is
// not an array or an insertion-ordered Map. `hash` takes in every event: two runs are the same when it is.
import { below, sfc32, unit } from '../../src/hyparview-ts/random.ts';
import type { Random } from '../../src/hyparview-ts/random.ts';
import { Heap } from './heap.ts';
import { Uplink } from './uplink.ts';

/** What the simulator needs of a machine's inputs and outputs; hyparview-ts and memberlist.ts both fit. */
export interface Machine<M> {
  handle(input: MachineInput<M>, now: number): readonly MachineOutput<M>[];
}
export interface Named {
  readonly id: string;
  readonly address: string;
  readonly zone: string;
}
export type MachineInput<M> =
  | { readonly type: 'received'; readonly from: Named; readonly message: M }
  | { readonly type: 'unreachable'; readonly peer: string }
  | { readonly type: 'timer'; readonly key: string }
  | { readonly type: string };
export type MachineOutput<M> =
  | {
      readonly type: 'send';
      readonly to: Named;
      readonly message: M;
      readonly priority?: string;
    }
  | { readonly type: 'schedule'; readonly key: string; readonly atMs: number }
  | { readonly type: 'cancel'; readonly key: string }
  | { readonly type: 'event'; readonly event: { readonly type: string } }
  | { readonly type: 'dial' | 'drop'; readonly peer: Named };

export interface Host<M> {
  readonly index: number;
  readonly peer: Named;
  machine: Machine<M> | undefined;
  /** Inputs that came while the host stood still. */
  stalled: MachineInput<M>[] | undefined;
  readonly timers: Map<string, number>;
  /** Its clock: local = offset + rate × time. */
  offsetMs: number;
  rate: number;
  side: number;
  /** Half of its timers fire up to so much too early, as an operating system's do. */
  earlyMs: number;
  /** A process that died on a living host: its peers' connections are reset. */
  resets: boolean;
  uplink?: Uplink<[Host<M>, M]>;
}

export interface NetworkOptions {
  /** One way, in ms. */
  readonly latencyMs: number;
  readonly otherZoneLatencyMs: number;
  /** Up to this part more, at random: also what reorders. */
  readonly jitter: number;
  readonly loss: number;
  readonly duplicate: number;
}

export const CALM: NetworkOptions = {
  latencyMs: 1,
  otherZoneLatencyMs: 1,
  jitter: 0.2,
  loss: 0,
  duplicate: 0,
};

type Item<M> =
  | {
      readonly kind: 'input';
      readonly host: Host<M>;
      readonly life: Machine<M>;
      readonly input: MachineInput<M>;
    }
  | {
      readonly kind: 'message';
      readonly host: Host<M>;
      readonly from: Host<M>;
      readonly message: M;
    }
  | {
      readonly kind: 'timer';
      readonly host: Host<M>;
      readonly key: string;
      readonly version: number;
    }
  | { readonly kind: 'call'; readonly call: () => void };

const TRACE_LENGTH = 64;

export class Simulator<M extends { readonly type: string }> {
  readonly random: Random;
  readonly hosts: Host<M>[] = [];
  readonly byId = new Map<string, Host<M>>();
  network: NetworkOptions = CALM;
  /** Directed cuts between sides: "from to". */
  readonly cuts = new Set<string>();
  /** Directed cuts between two hosts: 65,536 × from + to. */
  readonly pairCuts = new Set<number>();
  now = 0;
  events = 0;
  hash = 0;
  messages = 0;
  bytes = 0;
  crossZoneBytes = 0;
  readonly #sent = new Map<string, { count: number }>();
  sizeOf: ((message: M) => number) | undefined;
  /** What becomes of a message on the wire; nothing when undefined. */
  wire: ((message: M) => M) | undefined;
  onEvent: ((host: Host<M>, event: { readonly type: string }) => void) | undefined;
  /** When set, each host sends one message at a time at this speed. */
  uplinkBytesPerMs: number | undefined;
  keepsPriorities = true;
  /** Messages that go over TCP in the protocol that is simulated; none of hyparview-ts's do here. */
  isReliable: ((message: M) => boolean) | undefined;
  onHandled: ((host: Host<M>) => void) | undefined;
  onSend: ((from: Host<M>, to: Host<M>, message: M) => void) | undefined;
  readonly #heap = new Heap<Item<M>>();
  readonly #traceRing: { time: number; to: number; from: number; what: string }[] = [];
  #timerVersion = 0;

  constructor(seed: number) {
    this.random = sfc32(seed, 1);
  }

  addHost(id: string, zone: string): Host<M> {
    const host: Host<M> = {
      index: this.hosts.length,
      peer: { id, address: `${id}:7000`, zone },
      machine: undefined,
      stalled: undefined,
      timers: new Map(),
      offsetMs: 0,
      rate: 1,
      side: 0,
      earlyMs: 0,
      resets: true,
    };
    this.hosts.push(host);
    this.byId.set(id, host);
    return host;
  }

  at(time: number, call: () => void): void {
    this.#heap.push(Math.max(time, this.now), { kind: 'call', call });
  }

  after(ms: number, call: () => void): void {
    this.at(this.now + ms, call);
  }

  /** The first machine of a host, or its next after a crash. */
  run(host: Host<M>, machine: Machine<M>): void {
    host.machine = machine;
    host.stalled = undefined;
    host.timers.clear();
  }

  crash(host: Host<M>, resets: boolean): void {
    host.machine = undefined;
    host.stalled = undefined;
    host.timers.clear();
    host.resets = resets;
  }

  stall(host: Host<M>): void {
    host.stalled ??= [];
  }

  resume(host: Host<M>): void {
    const inputs = host.stalled ?? [];
    host.stalled = undefined;
    for (const input of inputs) this.give(host, input);
  }

  localTime(host: Host<M>): number {
    return host.offsetMs + host.rate * this.now;
  }

  /** Hands an input to a host and carries out what its machine answers. */
  give(host: Host<M>, input: MachineInput<M>): void {
    const { machine } = host;
    if (machine === undefined) return;
    if (host.stalled !== undefined) {
      host.stalled.push(input);
      return;
    }
    this.perform(host, machine.handle(input, this.localTime(host)));
    this.onHandled?.(host);
  }

  perform(host: Host<M>, outputs: readonly MachineOutput<M>[]): void {
    for (const output of outputs) this.#perform(host, output);
  }

  #perform(host: Host<M>, output: MachineOutput<M>): void {
    switch (output.type) {
      case 'send':
        this.#send(host, output.to, output.message, output.priority ?? 'normal');
        break;
      case 'schedule': {
        const version = ++this.#timerVersion;
        host.timers.set(output.key, version);
        const at = (output.atMs - host.offsetMs) / host.rate;
        // a hair later: the local clock must not read less than asked for, whatever the rounding
        this.#heap.push(Math.max(this.now, at + 1e-6 - this.#early(host)), {
          kind: 'timer',
          host,
          key: output.key,
          version,
        });
        break;
      }
      case 'cancel':
        host.timers.delete(output.key);
        break;
      case 'event':
        this.onEvent?.(host, output.event);
        break;
      case 'dial':
      case 'drop':
        break;
    }
  }

  #early({ earlyMs }: Host<M>): number {
    if (earlyMs === 0) return 0;
    return Math.max(0, 2 * unit(this.random) - 1) * earlyMs;
  }

  #send(from: Host<M>, to: Named, message: M, priority: string): void {
    this.messages += 1;
    this.#count(message.type);
    const host = this.byId.get(to.id);
    if (this.sizeOf !== undefined) {
      const size = this.sizeOf(message);
      this.bytes += size;
      if (host !== undefined && host.peer.zone !== from.peer.zone) this.crossZoneBytes += size;
    }
    if (host === undefined) return;
    this.onSend?.(from, host, message);
    const sent = this.wire === undefined ? message : this.wire(message);
    if (this.uplinkBytesPerMs === undefined) {
      this.#transmit(from, host, sent);
      return;
    }
    from.uplink ??= new Uplink(
      this.uplinkBytesPerMs,
      (ms, call) => this.after(ms, call),
      ([receiver, queued]) => this.#transmit(from, receiver, queued),
    );
    const rank = this.keepsPriorities ? priority : 'normal';
    from.uplink.push([host, sent], this.sizeOf?.(message) ?? 100, rank);
  }

  #count(type: string): void {
    const sent = this.#sent.get(type);
    if (sent === undefined) this.#sent.set(type, { count: 1 });
    else sent.count += 1;
  }

  /** How many messages of this type were sent so far. */
  sent(type: M['type']): number {
    return this.#sent.get(type)?.count ?? 0;
  }

  #transmit(from: Host<M>, host: Host<M>, message: M): void {
    const { loss, duplicate } = this.network;
    const copies = duplicate > 0 && unit(this.random) < duplicate ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const isLost = loss > 0 && unit(this.random) < loss;
      if (isLost && !this.isReliable?.(message)) continue;
      // TCP sends again after its least timeout of 200 ms (Linux)
      const again = isLost ? 200 : 0;
      this.#heap.push(this.now + this.#latency(from, host) + again, {
        kind: 'message',
        host,
        from,
        message,
      });
    }
  }

  #latency(from: Host<M>, to: Host<M>): number {
    const { latencyMs, otherZoneLatencyMs, jitter } = this.network;
    const base = from.peer.zone === to.peer.zone ? latencyMs : otherZoneLatencyMs;
    return base * (1 + jitter * unit(this.random));
  }

  isCut(from: Host<M>, to: Host<M>): boolean {
    if (this.pairCuts.size > 0 && this.pairCuts.has(from.index * 65_536 + to.index)) return true;
    return this.cuts.size > 0 && this.cuts.has(`${from.side} ${to.side}`);
  }

  /** Runs until `time`, or until nothing is left to do. */
  runUntil(time: number): void {
    while (this.#heap.nextTime() <= time) {
      this.now = this.#heap.nextTime();
      const item = this.#heap.pop();
      if (item === undefined) break;
      this.events += 1;
      this.#handle(item);
    }
    this.now = time;
  }

  #handle(item: Item<M>): void {
    switch (item.kind) {
      case 'call':
        item.call();
        break;
      case 'timer':
        if (item.host.timers.get(item.key) !== item.version) return;
        item.host.timers.delete(item.key);
        this.#note(item.host.index, item.host.index, item.key);
        this.give(item.host, { type: 'timer', key: item.key });
        break;
      case 'message':
        this.#deliver(item.from, item.host, item.message);
        break;
      case 'input':
        if (item.host.machine === item.life) this.give(item.host, item.input);
        break;
    }
  }

  #deliver(from: Host<M>, to: Host<M>, message: M): void {
    if (this.isCut(from, to)) return;
    if (to.machine === undefined) {
      const life = from.machine;
      if (!to.resets || life === undefined || this.isCut(to, from)) return;
      const input: MachineInput<M> = { type: 'unreachable', peer: to.peer.id };
      this.#heap.push(this.now + this.#latency(to, from), {
        kind: 'input',
        host: from,
        life,
        input,
      });
      return;
    }
    this.#note(from.index, to.index, message.type);
    this.give(to, { type: 'received', from: from.peer, message });
  }

  #note(from: number, to: number, what: string): void {
    let h = this.hash ^ Math.imul(Math.floor(this.now * 1024) | 0, 0x9e3779b1);
    h = Math.imul(h ^ (from * 65_537 + to), 0x85ebca6b);
    h ^= h >>> 13;
    this.hash = (Math.imul(h, 0xc2b2ae35) + what.length) >>> 0;
    const slot = this.events % TRACE_LENGTH;
    const entry = this.#traceRing[slot];
    if (entry === undefined) {
      this.#traceRing[slot] = { time: this.now, from, to, what };
    } else {
      entry.time = this.now;
      entry.from = from;
      entry.to = to;
      entry.what = what;
    }
  }

  /** The last events, oldest first. */
  trace(): string[] {
    return this.#traceRing
      .filter((entry) => entry !== undefined)
      .toSorted((a, b) => a.time - b.time)
      .map(({ time, from, to, what }) => {
        const who =
          from === to
            ? this.hosts[to]?.peer.id
            : `${this.hosts[from]?.peer.id} → ${this.hosts[to]?.peer.id}`;
        return `${time.toFixed(3)} ms  ${who}  ${what}`;
      });
  }

  get pendingEvents(): number {
    return this.#heap.size;
  }

  choose<T>(items: readonly T[]): T | undefined {
    return items[below(this.random, Math.max(1, items.length))];
  }
}
