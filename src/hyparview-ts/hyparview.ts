// HyParView: a small symmetric active view that carries traffic, and a larger passive view to mend it from.
// Leitão, Pereira, Rodrigues, "HyParView: a membership protocol for reliable gossip-based broadcast", DSN 2007.
// Never decides that a peer has failed: the detector and the host say so. Departures from the paper:
// - every message may be lost, so requests are answered and time out, and a ping from a peer that is not in the view is
//   answered with Disconnect: both ends of a link agree again within one ping;
// - repair asks as many passive peers at once as links are missing (the paper asks one after the other), and goes on
//   every `repairMs` until the view is full;
// - joins beyond `joinsPerSecondMax` are refused with other peers to try, so that one seed carries a join storm.
import { LIMITS } from './config.ts';
import type { Config } from './config.ts';
import { Bucket } from './dials.ts';
import type { Need } from './dials.ts';
import type { Effects } from './effects.ts';
import { below, jitter, sample } from './random.ts';
import type { Random } from './random.ts';
import type { DownReason, MessageOf, NodeId, Peer } from './types.ts';
import { View } from './view.ts';

interface Pending {
  readonly peer: Peer;
  readonly kind: 'join' | 'high' | 'low' | 'knock';
  readonly deadline: number;
}

export interface MembershipHooks {
  linkUp(peer: Peer, now: number): void;
  /** A neighbour asks to be one: it had lost its end, and what was sent to it since. */
  linkAgain(peer: Peer, now: number): void;
  linkDown(peer: Peer, reason: DownReason, now: number): void;
}

/** Most requests under way at once: joins and neighbours together, and knocks at the dead. */
const PENDING_MAX = 32;
const KNOCKS_MAX = 32;

export class HyParView {
  readonly active: View;
  readonly passive = new View();
  readonly #pending = new Map<NodeId, Pending>();
  /** Whom repair asked since the beginning of this period. */
  readonly #tried = new Set<NodeId>();
  #periodEndsAt = -Infinity;
  /** A dial was withheld: the repair timer may fire for that before the period ends. */
  #isHeldUp = false;
  #seeds: Peer[] = [];
  #untriedSeeds: Peer[] = [];
  #joining = false;
  readonly #joins: Bucket;
  /** For peers that others tell of unasked. */
  readonly #hearsay: Bucket;
  /** How many of them were not taken. */
  unheard = 0;

  readonly self: Peer;
  readonly config: Config;
  readonly random: Random;
  readonly effects: Effects;
  readonly #hooks: MembershipHooks;

  constructor(
    self: Peer,
    config: Config,
    random: Random,
    effects: Effects,
    hooks: MembershipHooks,
  ) {
    this.self = self;
    this.config = config;
    this.random = random;
    this.effects = effects;
    this.active = effects.active;
    this.#hooks = hooks;
    this.#joins = new Bucket(config.joinsPerSecondMax, config.joinsPerSecondMax);
    this.#hearsay = new Bucket(config.toldPeersPerSecond, config.toldPeersBurst);
  }

  get seeds(): readonly Peer[] {
    return this.#seeds;
  }

  /** Requests under way, without the knocks at the dead. */
  get pendingCount(): number {
    return this.#pending.size - this.knockCount;
  }

  get knockCount(): number {
    let knocks = 0;
    for (const { kind } of this.#pending.values()) if (kind === 'knock') knocks += 1;
    return knocks;
  }

  start(known: readonly Peer[], now: number): void {
    for (const peer of known) this.addPassive(peer);
    this.#beginPeriod(now);
    this.repair(now);
  }

  join(seeds: readonly Peer[], now: number): void {
    this.#seeds = seeds.filter(({ id }) => id !== this.self.id).slice(0, LIMITS.seeds);
    this.#joinAnew(now);
  }

  #joinAnew(now: number): void {
    this.#joining = true;
    this.#untriedSeeds = sample(this.random, this.#seeds, this.#seeds.length);
    this.#joinNext(now);
  }

  /** Asks one seed after another, each once; the repair timer begins anew when all were asked in vain. */
  #joinNext(now: number): void {
    if (!this.#joining || this.#isAsking()) return;
    const seed = this.#untriedSeeds.pop();
    if (seed !== undefined) this.#ask(seed, 'join', 'seed', now);
    else this.effects.wakeBy('repair', now + this.config.joinTimeoutMs);
  }

  #isAsking(): boolean {
    for (const { kind } of this.#pending.values()) if (kind === 'join') return true;
    return false;
  }

  /** Whether it was asked. */
  #ask(peer: Peer, kind: Pending['kind'], need: Need, now: number): boolean {
    if (peer.id === this.self.id) return false;
    if (kind !== 'knock' && this.pendingCount >= PENDING_MAX) return false;
    const message =
      kind === 'join'
        ? ({ type: 'join' } as const)
        : ({ type: 'neighbor', high: kind !== 'low' } as const);
    if (!this.effects.send(peer, message, 'normal', need)) return false;
    const wait = kind === 'join' ? this.config.joinTimeoutMs : this.config.neighborTimeoutMs;
    this.#pending.set(peer.id, { peer, kind, deadline: now + wait });
    this.effects.wakeBy('pending', now + wait);
    return true;
  }

  onJoin(from: Peer, now: number): void {
    if (!this.#joins.take(now, 0)) {
      if (this.active.has(from.id)) {
        this.link(from, now);
        this.effects.send(from, { type: 'neighbor-reply', accepted: true, peers: [] });
        return;
      }
      const peers = this.passive.sample(this.random, this.config.shufflePassiveCount, from.id);
      peers.push(...this.active.sample(this.random, this.config.shuffleActiveCount, from.id));
      this.effects.send(from, { type: 'neighbor-reply', accepted: false, peers });
      return;
    }
    this.link(from, now);
    this.effects.send(from, { type: 'neighbor-reply', accepted: true, peers: [] });
    const ttl = this.config.activeWalkLength;
    for (const peer of this.active.peers) {
      if (peer.id === from.id) continue;
      this.effects.send(peer, { type: 'forward-join', peer: from, ttl });
    }
  }

  onForwardJoin(from: Peer, { peer, ttl }: MessageOf<'forward-join'>, now: number): void {
    if (peer.id === this.self.id || !this.active.has(from.id)) return;
    const left = Math.min(ttl, this.config.activeWalkLength);
    if (left === this.config.passiveWalkLength) this.hear([peer], now);
    const next = left > 0 ? this.active.choose(this.random, from.id, peer.id) : undefined;
    if (next === undefined) {
      if (!this.active.has(peer.id)) this.#ask(peer, 'high', 'told', now);
      return;
    }
    this.effects.send(next, { type: 'forward-join', peer, ttl: left - 1 });
  }

  onNeighbor(from: Peer, high: boolean, now: number): void {
    const room = this.active.size < this.config.activeMax;
    const accepted = this.active.has(from.id) || high || room;
    if (accepted) this.link(from, now);
    else this.addPassive(from);
    this.effects.send(from, { type: 'neighbor-reply', accepted, peers: [] });
  }

  onNeighborReply(from: Peer, { accepted, peers }: MessageOf<'neighbor-reply'>, now: number): void {
    const asked = this.#pending.get(from.id);
    this.#pending.delete(from.id);
    // an unasked one would fill the passive view for the repair of the link that its sender gives up next
    if (asked !== undefined) this.hear(peers, now);
    if (accepted) {
      this.#accepted(from, asked, now);
    } else if (asked !== undefined) {
      this.addPassive(from);
      if (asked.kind === 'join') this.#joinThroughOthers(peers, now);
      else this.repair(now);
    }
  }

  #accepted(from: Peer, asked: Pending | undefined, now: number): void {
    if (this.active.has(from.id)) return;
    const room = this.active.size < this.config.activeMax;
    if (asked !== undefined ? asked.kind === 'low' && !room : !room) {
      this.addPassive(from);
      this.effects.send(from, { type: 'disconnect', leaving: false });
      return;
    }
    this.link(from, now);
    if (asked?.kind !== 'join') return;
    this.#joining = false;
    this.effects.event({ type: 'joined', through: from.id });
  }

  /** A crowded seed named others: any of them will do as well. */
  #joinThroughOthers(peers: readonly Peer[], now: number): void {
    if (!this.#joining) return;
    const other = peers[below(this.random, Math.max(1, peers.length))];
    const isOfUse = other !== undefined && !this.active.has(other.id);
    if (!isOfUse || !this.#ask(other, 'join', 'told', now)) this.#joinNext(now);
  }

  onDisconnect(from: Peer, leaving: boolean, now: number): void {
    this.#pending.delete(from.id);
    this.unlink(from.id, leaving ? 'left' : 'disconnected', now);
  }

  /** A ping from a peer that is not in the view: it missed our goodbye, or its acceptance of our request was lost. */
  onStrangersPing(from: Peer, now: number): void {
    const asked = this.#pending.get(from.id);
    if (asked === undefined) {
      this.effects.send(from, { type: 'disconnect', leaving: false });
      return;
    }
    this.#pending.delete(from.id);
    this.#accepted(from, asked, now);
  }

  /** Puts a peer into the active view; somebody else has to go when it is full. */
  link(peer: Peer, now: number, reason: DownReason = 'replaced'): void {
    this.#pending.delete(peer.id);
    if (peer.id === this.self.id) return;
    if (this.active.has(peer.id)) {
      this.#hooks.linkAgain(peer, now);
      return;
    }
    while (this.active.size >= this.config.activeMax) {
      const victim = this.active.choose(this.random);
      if (victim === undefined) return;
      this.effects.send(victim, { type: 'disconnect', leaving: false });
      this.#remove(victim, reason, now);
    }
    this.passive.delete(peer.id);
    this.active.add(peer);
    this.effects.dial(peer);
    this.effects.event({ type: 'link-up', peer });
    this.#hooks.linkUp(peer, now);
  }

  /** Takes a peer out of the active view and looks for another. */
  unlink(id: NodeId, reason: DownReason, now: number): void {
    const peer = this.active.get(id);
    if (reason === 'failed' || reason === 'left') this.passive.delete(id);
    if (peer === undefined) return;
    this.#remove(peer, reason, now);
    this.repair(now);
  }

  /** A neighbour's own word says that it is elsewhere now: another life of it, so the link begins anew. */
  renew(peer: Peer, now: number): void {
    const old = this.active.get(peer.id);
    if (old === undefined || (old.address === peer.address && old.zone === peer.zone)) return;
    // no drop: the connection it came by is the new one
    this.active.delete(old.id);
    this.effects.linkDown(old, 'replaced');
    this.#hooks.linkDown(old, 'replaced', now);
    this.link(peer, now);
  }

  /** Takes a peer out without looking for another: X-BOT has one already. */
  exchange(out: NodeId, for_: Peer, now: number): void {
    const peer = this.active.get(out);
    if (peer !== undefined) this.#remove(peer, 'replaced', now);
    this.link(for_, now);
  }

  #remove(peer: Peer, reason: DownReason, now: number): void {
    this.active.delete(peer.id);
    if (reason !== 'failed' && reason !== 'left') this.addPassive(peer);
    this.effects.linkDown(peer, reason);
    this.effects.drop(peer);
    this.#hooks.linkDown(peer, reason, now);
  }

  /** Adds to the passive view; when it is full, one of `expendable` goes, else a random one (paper, section 4.4). */
  addPassive(peer: Peer, expendable: NodeId[] = []): void {
    if (peer.id === this.self.id || this.active.has(peer.id)) return;
    if (!this.passive.has(peer.id)) {
      while (this.passive.size >= this.config.passiveMax) {
        const first = expendable.shift();
        const victim = first ?? this.passive.choose(this.random)?.id;
        if (victim === undefined) return;
        this.passive.delete(victim);
      }
    }
    this.passive.add(peer);
  }

  /** What others tell of unasked, at a rate: each peer, or address, that is new may cost a dial of repair some day. */
  hear(peers: readonly Peer[], now: number, expendable: NodeId[] = []): void {
    for (const peer of peers) {
      const { id, address } = peer;
      if (id === this.self.id || this.active.has(id)) continue;
      const isKnown = this.passive.get(id)?.address === address;
      if (isKnown || this.#hearsay.take(now, 0)) this.addPassive(peer, expendable);
      else this.unheard += 1;
    }
  }

  /** Asks passive peers to become neighbours, as many as links are missing; each once in `repairMs`. */
  repair(now: number): void {
    let missing = this.config.activeMax - this.active.size - this.pendingCount;
    if (missing > 0 && this.passive.size > 0) {
      const fresh = this.passive.peers.filter(
        ({ id }) => !this.#tried.has(id) && !this.#pending.has(id),
      );
      const kind = this.active.size === 0 ? 'high' : 'low';
      for (const peer of sample(this.random, fresh, missing)) {
        if (this.#ask(peer, kind, 'repair', now)) {
          this.#tried.add(peer.id);
        } else {
          this.#isHeldUp = true;
          this.effects.wakeBy('repair', now + this.config.joinTimeoutMs);
        }
        missing -= 1;
      }
    }
    if (this.active.size === 0 && this.pendingCount === 0) this.#alone(now);
  }

  #alone(now: number): void {
    if (this.#seeds.length === 0 && this.passive.size === 0) return;
    this.#joining = true;
    this.effects.wakeBy('repair', now + this.config.joinTimeoutMs);
  }

  #beginPeriod(now: number): void {
    this.#tried.clear();
    this.#periodEndsAt = now + jitter(this.random, this.config.repairMs, 0.5);
    this.effects.wakeBy('repair', this.#periodEndsAt);
  }

  onRepairTimer(now: number): void {
    // who was tried waits until those were whose dials are withheld; but one that refused takes a node without neighbours
    const goesOn = this.#isHeldUp && now < this.#periodEndsAt && this.active.size > 0;
    this.#isHeldUp = false;
    if (goesOn) this.effects.wakeBy('repair', this.#periodEndsAt);
    else this.#beginPeriod(now);
    if (this.active.size === 0) this.#joinAnew(now);
    else this.#joining = false;
    this.repair(now);
  }

  onPendingTimer(now: number): void {
    let next = Infinity;
    const late: Pending[] = [];
    for (const pending of this.#pending.values()) {
      if (pending.deadline <= now) late.push(pending);
      else next = Math.min(next, pending.deadline);
    }
    for (const { peer } of late) this.#gaveUp(peer.id);
    if (late.length > 0) {
      this.#joinNext(now);
      this.repair(now);
    }
    if (next < Infinity) this.effects.wakeBy('pending', next);
  }

  /** The paper drops a passive peer that cannot be reached (section 4.3). */
  #gaveUp(id: NodeId): void {
    this.#pending.delete(id);
    this.passive.delete(id);
  }

  onUnreachable(id: NodeId, now: number): void {
    const asked = this.#pending.has(id);
    this.#gaveUp(id);
    if (!asked) return;
    this.#joinNext(now);
    this.repair(now);
  }

  /** Whether one more that seemed dead may be asked. */
  get mayKnock(): boolean {
    return this.knockCount < KNOCKS_MAX;
  }

  /** Asks a peer that seemed dead to be a neighbour: whatever split us ends here. False: too many are asked there. */
  reach(peer: Peer, now: number): boolean {
    if (peer.id === this.self.id || this.active.has(peer.id) || this.#pending.has(peer.id))
      return true;
    return this.#ask(peer, 'knock', 'knock', now);
  }

  leave(now: number): void {
    for (const peer of this.active.peers.slice()) {
      this.effects.send(peer, { type: 'disconnect', leaving: true });
      this.#remove(peer, 'left', now);
    }
    this.#pending.clear();
    this.#joining = false;
  }
}
