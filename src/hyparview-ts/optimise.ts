// X-BOT: swaps links for nearer ones, four nodes at a time, so that degrees stay as they are and the overlay one.
// Leitão, Marques, Pereira, Rodrigues, "X-BOT: a protocol for resilient optimization of unstructured overlays",
// SRDS 2009. The initiator gives up `old` for a candidate; the candidate gives up its own dearest link, and the two
// given up link to each other. Departures: the cost is the zone first, then the round trip without what busy hosts
// add, and a nearer one has half of it at most, so that noise swaps nothing; the dearest `randomLinks` links are never
// given up.
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

export interface OptimiseHooks {
  wayMs(id: NodeId): number | undefined;
  measure(peer: Peer, now: number): void;
}

export class Optimise {
  #until = -Infinity;
  /** Who asks for a link in the exchange under way, as its own handshake says. */
  #initiator: Peer | undefined;

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
    if (active.size < this.#config.activeMax || now < this.#until) return;
    const near = passive.peers.filter((peer) => this.#zoneCost(peer) === 0);
    const pool = near.length > 0 ? near : passive.peers;
    for (let i = 0; i < CANDIDATES && pool.length > 0; i++) {
      const candidate = pool[below(this.#random, pool.length)];
      if (candidate !== undefined) this.#hooks.measure(candidate, now);
    }
  }

  /** A candidate answered: is it nearer than what we have? */
  onMeasured(candidate: Peer, now: number): void {
    const old = this.#dearest();
    if (old === undefined || now < this.#until || this.#views.active.has(candidate.id)) return;
    const cost = this.#cost(candidate);
    const oldCost = this.#cost(old);
    if (cost === undefined || oldCost === undefined || cost > oldCost - 1) return;
    this.#until = now + EXCHANGE_MS;
    this.#initiator = undefined;
    this.#effects.send(candidate, { type: 'optimise', old });
  }

  onOptimise(initiator: Peer, { old }: MessageOf<'optimise'>, now: number): void {
    const { active } = this.#views;
    if (active.has(initiator.id) || active.size < this.#config.activeMax) {
      this.#views.link(initiator, now);
      this.#reply(initiator, 'optimise', true, initiator, old);
      return;
    }
    const mine = this.#dearest();
    const useless = mine === undefined || mine.id === old.id || now < this.#until;
    if (useless || this.#zoneCost(initiator) > this.#zoneCost(mine)) {
      this.#reply(initiator, 'optimise', false, initiator, old);
      return;
    }
    this.#until = now + EXCHANGE_MS;
    this.#initiator = initiator;
    this.#effects.send(mine, { type: 'optimise-replace', initiator, old });
  }

  /** The candidate would give me up: is its initiator's old neighbour as near to me? */
  onReplace(candidate: Peer, { initiator, old }: MessageOf<'optimise-replace'>): void {
    const { active, self } = this.#views;
    const fits = active.has(candidate.id) && !active.has(old.id) && old.id !== self.id;
    if (!fits || this.#zoneCost(old) > this.#zoneCost(candidate)) {
      this.#reply(candidate, 'replace', false, initiator, old);
      return;
    }
    this.#effects.send(old, { type: 'optimise-switch', initiator, candidate });
  }

  onSwitch(from: Peer, { initiator, candidate }: MessageOf<'optimise-switch'>, now: number): void {
    const { active } = this.#views;
    const accepted = active.has(initiator.id) && !active.has(from.id);
    if (accepted) this.#views.exchange(initiator.id, from, now);
    this.#effects.send(from, {
      type: 'optimise-reply',
      stage: 'switch',
      accepted,
      initiator,
      old: candidate, // the one that waits for the answer
    });
  }

  onReply(from: Peer, message: MessageOf<'optimise-reply'>, now: number): void {
    const { stage, accepted, initiator, old } = message;
    const { active } = this.#views;
    if (stage === 'switch') {
      const candidate = active.get(old.id);
      if (candidate === undefined) return;
      // the answer first: afterwards the connection is given up
      this.#reply(candidate, 'replace', accepted, initiator, from);
      if (accepted) this.#views.exchange(candidate.id, from, now);
      return;
    }
    if (now >= this.#until) return; // too late, or never asked
    if (stage === 'replace') {
      const asking = this.#initiator;
      if (asking?.id !== initiator.id) return; // a link to somebody who did not ask for it
      this.#until = now;
      if (accepted && active.has(from.id)) this.#views.exchange(from.id, asking, now);
      this.#reply(asking, 'optimise', accepted, asking, old);
      return;
    }
    this.#until = now;
    if (accepted && old.id !== from.id) {
      // it knows already when it switched, and not when the candidate had room
      if (active.has(old.id)) this.#effects.send(old, { type: 'disconnect', leaving: false });
      this.#views.exchange(old.id, from, now);
    }
  }

  #reply(
    to: Peer,
    stage: MessageOf<'optimise-reply'>['stage'],
    accepted: boolean,
    initiator: Peer,
    old: Peer,
  ): void {
    this.#effects.send(to, { type: 'optimise-reply', stage, accepted, initiator, old });
  }
}
