// X-BOT: swaps links for nearer ones, four nodes at a time, so that degrees stay as they are and the overlay one.
// Leitão, Marques, Pereira, Rodrigues, "X-BOT: a protocol for resilient optimization of unstructured overlays",
// SRDS 2009. The initiator gives up `old` for a candidate; the candidate gives up its own dearest link, and the two
// given up link to each other. Departures: the cost is the zone first, then the round trip without what busy hosts
// add, and a nearer one has half of it at most, so that noise swaps nothing; the dearest `randomLinks` links are never
// given up; `old` asks the initiator whether it is given up, by an `optimise-switch` of its own. A node is in one
// exchange at a time, and only the one reply that it waits for there, from whom it waits for it, changes a link.
import type { Config } from './config.ts';
import type { Effects } from './effects.ts';
import type { HyParView } from './hyparview.ts';
import { below, jitter } from './random.ts';
import type { Random } from './random.ts';
import type { MessageOf, NodeId, Peer } from './types.ts';

const ANOTHER_ZONE = 1000;
/** Below it there is no nearer and farther. */
const WAY_MIN_MS = 4; // a guess: what two busy event loops make of none
const CANDIDATES = 2; // X-BOT: passive scan length
/** An exchange not done by then is off; the paper leaves it to the implementer. */
const EXCHANGE_MS = 2000; // a guess

type Reply = MessageOf<'optimise-reply'>;

interface Exchange {
  /** The reply that this node waits for: from whom, and whom it names. */
  readonly stage: Reply['stage'];
  readonly from: NodeId;
  readonly initiator: NodeId;
  readonly old: NodeId;
  readonly until: number;
  end(isAccepted: boolean, from: Peer, now: number): void;
}

export interface OptimiseHooks {
  wayMs(id: NodeId): number | undefined;
  measure(peer: Peer, now: number): void;
}

export class Optimise {
  #exchange: Exchange | undefined;

  readonly #views: HyParView;
  readonly #config: Config;
  readonly #random: Random;
  readonly #effects: Effects;
  readonly #hooks: OptimiseHooks;

  constructor(
    views: HyParView,
    config: Config,
    random: Random,
    effects: Effects,
    hooks: OptimiseHooks,
  ) {
    this.#views = views;
    this.#config = config;
    this.#random = random;
    this.#effects = effects;
    this.#hooks = hooks;
  }

  start(now: number): void {
    if (this.#config.optimiseMs === 0) return;
    this.#effects.wakeBy('optimise', now + jitter(this.#random, this.#config.optimiseMs, 0.5));
  }

  /** Undefined when the way was never measured. */
  #cost(peer: Peer): number | undefined {
    const wayMs = this.#hooks.wayMs(peer.id);
    if (wayMs === undefined) return undefined;
    return this.#zoneCost(peer) + Math.log2(Math.max(WAY_MIN_MS, wayMs));
  }

  #zoneCost(peer: Peer): number {
    return peer.zone === this.#views.self.zone ? 0 : ANOTHER_ZONE;
  }

  /** The dearest link that may be given up. */
  #dearest(): Peer | undefined {
    const cost = (peer: Peer): number => this.#cost(peer) ?? this.#zoneCost(peer);
    const ranked = [...this.#views.active.peers].sort(
      (a, b) => cost(b) - cost(a) || (a.id < b.id ? -1 : 1),
    );
    return ranked[this.#config.randomLinks];
  }

  onTimer(now: number): void {
    this.start(now);
    const { active, passive } = this.#views;
    if (active.size < this.#config.activeMax || this.#isBusy(now)) return;
    const near = passive.peers.filter((peer) => this.#zoneCost(peer) === 0);
    const pool = near.length > 0 ? near : passive.peers;
    for (let i = 0; i < CANDIDATES && pool.length > 0; i++) {
      const candidate = pool[below(this.#random, pool.length)];
      if (candidate !== undefined) this.#hooks.measure(candidate, now);
    }
  }

  #isBusy(now: number): boolean {
    return this.#exchange !== undefined && now < this.#exchange.until;
  }

  #begin(
    stage: Exchange['stage'],
    from: Peer,
    initiator: Peer,
    old: Peer,
    now: number,
    end: Exchange['end'],
  ): void {
    const until = now + EXCHANGE_MS;
    this.#exchange = { stage, from: from.id, initiator: initiator.id, old: old.id, until, end };
  }

  /** A candidate answered: is it nearer than what we have? */
  onMeasured(candidate: Peer, now: number): void {
    const { active } = this.#views;
    const old = this.#dearest();
    if (old === undefined || this.#isBusy(now) || active.has(candidate.id)) return;
    const cost = this.#cost(candidate);
    const oldCost = this.#cost(old);
    if (cost === undefined || oldCost === undefined || cost > oldCost - 1) return;
    this.#effects.send(candidate, { type: 'optimise', old });
    const end: Exchange['end'] = (isAccepted, from, at) => {
      if (!isAccepted) return;
      // it knows already when it switched, and not when the candidate had room
      if (active.has(old.id)) this.#effects.send(old, { type: 'disconnect', leaving: false });
      this.#views.exchange(old.id, from, at);
    };
    this.#begin('optimise', candidate, this.#views.self, old, now, end);
  }

  onOptimise(initiator: Peer, { old }: MessageOf<'optimise'>, now: number): void {
    const { active } = this.#views;
    if (active.has(initiator.id) || active.size < this.#config.activeMax) {
      this.#views.link(initiator, now);
      this.#reply(initiator, 'optimise', true, initiator, old);
      return;
    }
    const mine = this.#dearest();
    const useless = mine === undefined || mine.id === old.id || this.#isBusy(now);
    if (useless || this.#zoneCost(initiator) > this.#zoneCost(mine)) {
      this.#reply(initiator, 'optimise', false, initiator, old);
      return;
    }
    this.#effects.send(mine, { type: 'optimise-replace', initiator, old });
    const end: Exchange['end'] = (isAccepted, from, at) => {
      if (isAccepted && active.has(from.id)) this.#views.exchange(from.id, initiator, at);
      this.#reply(initiator, 'optimise', isAccepted, initiator, old);
    };
    this.#begin('replace', mine, initiator, old, now, end);
  }

  /** The candidate would give me up: is its initiator's old neighbour as near to me? */
  onReplace(candidate: Peer, { initiator, old }: MessageOf<'optimise-replace'>, now: number): void {
    const { active, self } = this.#views;
    const fits = active.has(candidate.id) && !active.has(old.id) && old.id !== self.id;
    if (!fits || this.#isBusy(now) || this.#zoneCost(old) > this.#zoneCost(candidate)) {
      this.#reply(candidate, 'replace', false, initiator, old);
      return;
    }
    this.#effects.send(old, { type: 'optimise-switch', initiator, candidate });
    const end: Exchange['end'] = (isAccepted, from, at) => {
      if (!active.has(candidate.id)) return;
      // the answer first: afterwards the connection is given up
      this.#reply(candidate, 'replace', isAccepted, initiator, from);
      if (isAccepted) this.#views.exchange(candidate.id, from, at);
    };
    this.#begin('switch', old, initiator, candidate, now, end);
  }

  /** The candidate's neighbour would have the initiator's place here, if that gives me up: only it knows. */
  onSwitch(from: Peer, message: MessageOf<'optimise-switch'>, now: number): void {
    const { initiator, candidate } = message;
    const { active, self } = this.#views;
    // the answer is for the one that waits for the candidate
    const answer = (isAccepted: boolean): void =>
      this.#reply(from, 'switch', isAccepted, initiator, candidate);
    if (initiator.id === self.id) {
      answer(this.#givesUp(from.id, candidate.id, now));
      return;
    }
    const giver = active.get(initiator.id);
    if (giver === undefined || active.has(from.id) || this.#isBusy(now)) {
      answer(false);
      return;
    }
    this.#effects.send(giver, message);
    const end: Exchange['end'] = (isAccepted, _, at) => {
      const isDone = isAccepted && active.has(giver.id) && !active.has(from.id);
      if (isDone) this.#views.exchange(giver.id, from, at);
      answer(isDone);
    };
    this.#begin('switch', giver, initiator, candidate, now, end);
  }

  /** Whether this node asked that candidate to be its neighbour in that one's place. */
  #givesUp(old: NodeId, candidate: NodeId, now: number): boolean {
    const own = this.#exchange;
    const isOwn = own?.stage === 'optimise' && own.from === candidate && own.old === old;
    return isOwn && this.#isBusy(now);
  }

  onReply(from: Peer, { stage, accepted, initiator, old }: Reply, now: number): void {
    const own = this.#exchange;
    if (own === undefined || !this.#isBusy(now)) return; // too late, or never asked
    if (stage !== own.stage || from.id !== own.from) return;
    if (initiator.id !== own.initiator || old.id !== own.old) return;
    this.#exchange = undefined;
    own.end(accepted, from, now);
  }

  #reply(to: Peer, stage: Reply['stage'], accepted: boolean, initiator: Peer, old: Peer): void {
    this.#effects.send(to, { type: 'optimise-reply', stage, accepted, initiator, old });
  }
}
