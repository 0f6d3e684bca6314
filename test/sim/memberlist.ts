// HashiCorp memberlist's failure detector with its LAN defaults, as a machine for the simulator: to compare with, on
// the same network. After state.go, suspicion.go, awareness.go, queue.go and util.go of its main branch: round-robin
// probes, indirect probes with nacks and the TCP fallback, Lifeguard suspicion and awareness, piggybacked broadcasts
// with retransmit limits, gossip ticks, gossip to the recently dead, push-pull over TCP. Not in here: encryption,
// compression, user messages, protocol versions.
import { below, sample, unit } from '../../src/hyparview-ts/random.ts';
import type { Random } from '../../src/hyparview-ts/random.ts';
import type { Machine, MachineInput, MachineOutput, Named } from './simulator.ts';

/** config.go, DefaultLANConfig. */
const LAN = {
  probeMs: 1000,
  probeTimeoutMs: 500,
  indirectChecks: 3,
  suspicionMult: 4,
  suspicionMaxMult: 6,
  retransmitMult: 4,
  awarenessMax: 8,
  gossipMs: 200,
  gossipNodes: 3,
  gossipToTheDeadMs: 30_000,
  pushPullMs: 30_000,
  /** UDPBufferSize 1400 over some 40 bytes a message (alive, suspect and dead with a short name). */
  piggybackMax: 30,
} as const;

type Rank = 'alive' | 'suspect' | 'dead';
interface Rumour {
  readonly rank: Rank;
  readonly peer: Named;
  readonly incarnation: number;
  readonly from: string;
}
export type SwimMessage =
  | {
      readonly type: 'ping' | 'tcp-ping';
      readonly seq: number;
      readonly rumours: readonly Rumour[];
    }
  | { readonly type: 'ack' | 'nack'; readonly seq: number; readonly rumours: readonly Rumour[] }
  | {
      readonly type: 'indirect';
      readonly seq: number;
      readonly target: Named;
      readonly rumours: readonly Rumour[];
    }
  | { readonly type: 'gossip'; readonly rumours: readonly Rumour[] }
  | {
      readonly type: 'push-pull';
      readonly reply: boolean;
      readonly rumours: readonly Rumour[];
    };

interface Member {
  readonly peer: Named;
  rank: Rank;
  incarnation: number;
  changedAt: number;
}
interface Suspicion {
  readonly start: number;
  readonly minMs: number;
  readonly maxMs: number;
  readonly k: number;
  readonly confirmed: Set<string>;
  confirmations: number;
}
interface Probe {
  readonly member: Member;
  readonly deadline: number;
  expectedNacks: number;
  nacks: number;
  asked: boolean;
}

export function isTcp({ type }: SwimMessage): boolean {
  return type === 'tcp-ping' || type === 'push-pull';
}

export class Memberlist implements Machine<SwimMessage> {
  readonly #self: Named;
  readonly #random: Random;
  readonly #members = new Map<string, Member>();
  #deadCount = 0;
  #order: Member[] = [];
  #next = 0;
  #seq = 0;
  #incarnation = 1;
  #awareness = 0;
  readonly #probes = new Map<number, Probe>();
  readonly #relayed = new Map<
    number,
    { readonly to: Named; readonly seq: number; done: boolean }
  >();
  readonly #suspicions = new Map<string, Suspicion>();
  #queue: { readonly rumour: Rumour; transmits: number }[] = [];
  /** Whom the queue speaks of. */
  readonly #queued = new Set<string>();
  #outputs: MachineOutput<SwimMessage>[] = [];
  #now = 0;

  constructor(self: Named, random: Random) {
    this.#self = self;
    this.#random = random;
  }

  start(seeds: readonly Named[], now: number): MachineOutput<SwimMessage>[] {
    this.#now = now;
    this.#schedule('probe', LAN.probeMs * unit(this.#random));
    this.#schedule('gossip', LAN.gossipMs * unit(this.#random));
    this.#schedule('push-pull', this.#pushPullMs() * unit(this.#random));
    const seed = seeds[0];
    if (seed !== undefined) this.#pushPull(seed, false);
    return this.#take();
  }

  get aliveCount(): number {
    return this.#members.size - this.#deadCount;
  }

  handle(input: MachineInput<SwimMessage>, now: number): MachineOutput<SwimMessage>[] {
    this.#now = now;
    if ('message' in input) this.#received(input.from, input.message);
    else if ('key' in input) this.#timer(input.key);
    return this.#take();
  }

  #take(): MachineOutput<SwimMessage>[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  #schedule(key: string, afterMs: number): void {
    this.#outputs.push({ type: 'schedule', key, atMs: this.#now + afterMs });
  }

  #send(to: Named, message: SwimMessage): void {
    this.#outputs.push({ type: 'send', to, message });
  }

  /** suspicionTimeout and retransmitLimit count all members, and this node. */
  get #count(): number {
    return this.aliveCount + 1;
  }

  #pushPullMs(): number {
    if (this.#count <= 32) return LAN.pushPullMs;
    return LAN.pushPullMs * (Math.ceil(Math.log2(this.#count) - Math.log2(32)) + 1);
  }

  #timer(key: string): void {
    const [kind, rest] = key.split(' ');
    if (kind === 'probe') {
      this.#probeNext();
    } else if (kind === 'gossip') {
      this.#gossip();
    } else if (kind === 'push-pull') {
      this.#schedule('push-pull', this.#pushPullMs());
      const peer = sample(this.#random, this.#others('alive'), 1)[0];
      if (peer !== undefined) this.#pushPull(peer.peer, false);
    } else if (kind === 'timeout') {
      this.#probeTimeout(Number(rest));
    } else if (kind === 'deadline') {
      this.#probeFailed(Number(rest));
    } else if (kind === 'nack') {
      const relayed = this.#relayed.get(Number(rest));
      this.#relayed.delete(Number(rest));
      if (relayed !== undefined && !relayed.done) {
        this.#send(relayed.to, { type: 'nack', seq: relayed.seq, rumours: this.#piggyback() });
      }
    } else if (kind === 'suspicion' && rest !== undefined) {
      this.#checkSuspicion(rest);
    }
  }

  #others(least: Rank): Member[] {
    return [...this.#members.values()].filter(
      ({ rank }) => rank === 'alive' || (least !== 'alive' && rank === 'suspect'),
    );
  }

  #probeNext(): void {
    const interval = LAN.probeMs * (this.#awareness + 1);
    this.#schedule('probe', interval);
    for (let tries = 0; tries <= this.#order.length; tries++) {
      if (this.#next >= this.#order.length) {
        this.#next = 0;
        this.#order = sample(this.#random, [...this.#members.values()], this.#members.size);
      }
      const member = this.#order[this.#next++];
      if (member === undefined || member.rank === 'dead') continue;
      const seq = ++this.#seq;
      const deadline = this.#now + interval;
      this.#probes.set(seq, { member, deadline, expectedNacks: 0, nacks: 0, asked: false });
      this.#send(member.peer, { type: 'ping', seq, rumours: this.#piggyback() });
      if (member.rank === 'suspect') this.#tellSuspect(member);
      this.#schedule(`timeout ${seq}`, LAN.probeTimeoutMs);
      this.#schedule(`deadline ${seq}`, interval);
      return;
    }
  }

  /** A suspect is told what is said of it, so that it can refute at once. */
  #tellSuspect({ peer, incarnation }: Member): void {
    const rumour: Rumour = { rank: 'suspect', peer, incarnation, from: this.#self.id };
    this.#send(peer, { type: 'gossip', rumours: [rumour] });
  }

  #probeTimeout(seq: number): void {
    const probe = this.#probes.get(seq);
    if (probe === undefined) return;
    const helpers = this.#others('alive').filter((member) => member !== probe.member);
    for (const { peer } of sample(this.#random, helpers, LAN.indirectChecks)) {
      probe.expectedNacks += 1;
      const target = probe.member.peer;
      this.#send(peer, { type: 'indirect', seq, target, rumours: this.#piggyback() });
    }
    this.#send(probe.member.peer, { type: 'tcp-ping', seq, rumours: [] });
  }

  #probeFailed(seq: number): void {
    const probe = this.#probes.get(seq);
    this.#probes.delete(seq);
    if (probe === undefined) return;
    const missing = probe.expectedNacks - probe.nacks;
    this.#aware(probe.expectedNacks > 0 ? Math.max(0, missing) : 1);
    const { peer, incarnation } = probe.member;
    this.#suspect({ rank: 'suspect', peer, incarnation, from: this.#self.id });
  }

  #aware(by: number): void {
    this.#awareness = Math.max(0, Math.min(LAN.awarenessMax - 1, this.#awareness + by));
  }

  #received(from: Named, message: SwimMessage): void {
    for (const rumour of message.rumours) this.#hear(rumour);
    switch (message.type) {
      case 'ping':
      case 'tcp-ping':
        this.#send(from, { type: 'ack', seq: message.seq, rumours: this.#piggyback() });
        break;
      case 'ack':
        this.#acked(message.seq);
        break;
      case 'nack': {
        const probe = this.#probes.get(message.seq);
        if (probe !== undefined) probe.nacks += 1;
        break;
      }
      case 'indirect': {
        const seq = ++this.#seq;
        this.#relayed.set(seq, { to: from, seq: message.seq, done: false });
        this.#send(message.target, { type: 'ping', seq, rumours: [] });
        this.#schedule(`nack ${seq}`, LAN.probeTimeoutMs * 0.8); // net.go: nack at 80 % of the probe timeout
        break;
      }
      case 'push-pull':
        if (!message.reply) this.#pushPull(from, true);
        break;
      case 'gossip':
        break;
    }
  }

  #acked(seq: number): void {
    const relayed = this.#relayed.get(seq);
    if (relayed !== undefined) {
      relayed.done = true;
      this.#send(relayed.to, { type: 'ack', seq: relayed.seq, rumours: this.#piggyback() });
      return;
    }
    if (this.#probes.delete(seq)) this.#aware(-1);
  }

  #pushPull(to: Named, reply: boolean): void {
    const rumours: Rumour[] = [...this.#members.values()].map(({ peer, rank, incarnation }) => {
      // state.go: a dead node is merged as suspect, so that it may refute
      return { peer, rank: rank === 'dead' ? 'suspect' : rank, incarnation, from: this.#self.id };
    });
    const { id } = this.#self;
    rumours.push({ rank: 'alive', peer: this.#self, incarnation: this.#incarnation, from: id });
    this.#send(to, { type: 'push-pull', reply, rumours });
  }

  #gossip(): void {
    this.#schedule('gossip', LAN.gossipMs);
    if (this.#queue.length === 0) return;
    const targets = [...this.#members.values()].filter(
      ({ rank, changedAt }) => rank !== 'dead' || this.#now - changedAt < LAN.gossipToTheDeadMs,
    );
    for (const { peer } of sample(this.#random, targets, LAN.gossipNodes)) {
      const rumours = this.#piggyback();
      if (rumours.length > 0) this.#send(peer, { type: 'gossip', rumours });
    }
  }

  /** What was sent least goes first, each rumour retransmitMult × log10(n + 1) times. */
  #piggyback(): Rumour[] {
    if (this.#queue.length === 0) return [];
    const limit = LAN.retransmitMult * Math.ceil(Math.log10(this.#count + 1));
    this.#queue.sort((a, b) => a.transmits - b.transmits);
    const chosen = this.#queue.slice(0, LAN.piggybackMax);
    let isAnyDone = false;
    for (const item of chosen) {
      item.transmits += 1;
      if (item.transmits < limit) continue;
      isAnyDone = true;
      this.#queued.delete(item.rumour.peer.id);
    }
    if (isAnyDone) this.#queue = this.#queue.filter(({ transmits }) => transmits < limit);
    return chosen.map(({ rumour }) => rumour);
  }

  #broadcast(rumour: Rumour): void {
    const { id } = rumour.peer;
    if (this.#queued.has(id))
      this.#queue = this.#queue.filter((item) => item.rumour.peer.id !== id);
    this.#queued.add(id);
    this.#queue.unshift({ rumour, transmits: 0 });
  }

  #hear(rumour: Rumour): void {
    if (rumour.rank === 'alive') this.#alive(rumour);
    else if (rumour.rank === 'suspect') this.#suspect(rumour);
    else this.#dead(rumour);
  }

  #alive(rumour: Rumour): void {
    const { peer, incarnation } = rumour;
    if (peer.id === this.#self.id) return;
    let member = this.#members.get(peer.id);
    if (member === undefined) {
      member = { peer, rank: 'dead', incarnation: 0, changedAt: this.#now };
      this.#members.set(peer.id, member);
      this.#deadCount += 1;
      this.#order.splice(below(this.#random, this.#order.length + 1), 0, member);
    }
    if (incarnation <= member.incarnation) return;
    this.#suspicions.delete(peer.id);
    member.incarnation = incarnation;
    if (member.rank !== 'alive') member.changedAt = this.#now;
    const came = member.rank === 'dead';
    if (came) this.#deadCount -= 1;
    member.rank = 'alive';
    this.#broadcast(rumour);
    if (came)
      this.#outputs.push({ type: 'event', event: { type: 'member-up', id: peer.id } as never });
  }

  #refute(rumour: Rumour): void {
    this.#incarnation = Math.max(this.#incarnation, rumour.incarnation) + 1;
    this.#aware(1);
    const { id } = this.#self;
    this.#broadcast({ rank: 'alive', peer: this.#self, incarnation: this.#incarnation, from: id });
  }

  #suspect(rumour: Rumour): void {
    const { peer, incarnation, from } = rumour;
    if (peer.id === this.#self.id) {
      if (incarnation >= this.#incarnation) this.#refute(rumour);
      return;
    }
    const member = this.#members.get(peer.id);
    if (member === undefined || incarnation < member.incarnation) return;
    const running = this.#suspicions.get(peer.id);
    if (running !== undefined) {
      this.#confirm(running, rumour);
      return;
    }
    if (member.rank !== 'alive') return;
    member.rank = 'suspect';
    member.incarnation = incarnation;
    member.changedAt = this.#now;
    this.#broadcast(rumour);
    const n = this.#count;
    const k = n - 2 < LAN.suspicionMult - 2 ? 0 : LAN.suspicionMult - 2;
    const minMs = LAN.suspicionMult * Math.max(1, Math.log10(Math.max(1, n))) * LAN.probeMs;
    const maxMs = LAN.suspicionMaxMult * minMs;
    const confirmed = new Set([from]);
    const suspicion = { start: this.#now, minMs, maxMs, k, confirmed, confirmations: 0 };
    this.#suspicions.set(peer.id, suspicion);
    this.#schedule(`suspicion ${peer.id}`, k < 1 ? minMs : maxMs);
    this.#outputs.push({ type: 'event', event: { type: 'suspected' } });
  }

  #confirm(suspicion: Suspicion, rumour: Rumour): void {
    const { confirmed, k, start } = suspicion;
    if (suspicion.confirmations >= k || confirmed.has(rumour.from)) return;
    confirmed.add(rumour.from);
    suspicion.confirmations += 1;
    this.#broadcast(rumour);
    const left = start + this.#timeoutMs(suspicion) - this.#now;
    this.#schedule(`suspicion ${rumour.peer.id}`, Math.max(0, left));
  }

  #timeoutMs({ minMs, maxMs, k, confirmations }: Suspicion): number {
    if (k < 1) return minMs;
    const part = Math.log(confirmations + 1) / Math.log(k + 1);
    return Math.max(minMs, maxMs - part * (maxMs - minMs));
  }

  #checkSuspicion(id: string): void {
    const suspicion = this.#suspicions.get(id);
    const member = this.#members.get(id);
    if (suspicion === undefined || member === undefined || member.rank !== 'suspect') return;
    const { peer, incarnation } = member;
    this.#dead({ rank: 'dead', peer, incarnation, from: this.#self.id });
  }

  #dead(rumour: Rumour): void {
    const { peer, incarnation } = rumour;
    if (peer.id === this.#self.id) {
      if (incarnation >= this.#incarnation) this.#refute(rumour);
      return;
    }
    const member = this.#members.get(peer.id);
    if (member === undefined || incarnation < member.incarnation || member.rank === 'dead') return;
    this.#suspicions.delete(peer.id);
    this.#deadCount += 1;
    member.rank = 'dead';
    member.incarnation = incarnation;
    member.changedAt = this.#now;
    this.#broadcast(rumour);
    this.#outputs.push({ type: 'event', event: { type: 'member-dead', id: peer.id } as never });
  }
}
