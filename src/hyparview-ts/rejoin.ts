// Knocks at the doors of the dead, so that a healed partition, or an overlay that split without any crash, becomes
// one again. All nodes together knock at every dead one at least once in `rejoinPeriodMs`: each takes the share that
// falls to its rank among the living. On top, random knocks, about four a dead node and round over all nodes, make
// the usual case quick. A few survivors of many knock at some at a time, and go on as answers or timeouts make room; so
// do all where many of the dead are at one address (dials.ts), which holds up nobody elsewhere.
// Never declares anything.
import type { Config } from './config.ts';
import type { Effects } from './effects.ts';
import type { HyParView } from './hyparview.ts';
import type { Members } from './members.ts';
import { below, jitter, unit } from './random.ts';
import type { Random } from './random.ts';
import type { Peer } from './types.ts';

const RANDOM_KNOCKS = 4; // a guess

export class Rejoin {
  #round = 0;
  #nextRoundAt = -Infinity;
  /** Whose turn came while too many others were asked, of all or at its address: each once, the first come first. */
  #waiting: Peer[] = [];

  readonly #self: Peer;
  readonly #views: HyParView;
  readonly #members: Members;
  readonly #config: Config;
  readonly #random: Random;
  readonly #effects: Effects;

  constructor(
    self: Peer,
    views: HyParView,
    members: Members,
    config: Config,
    random: Random,
    effects: Effects,
  ) {
    this.#self = self;
    this.#views = views;
    this.#members = members;
    this.#config = config;
    this.#random = random;
    this.#effects = effects;
  }

  start(now: number): void {
    this.#nextRoundAt = now + jitter(this.#random, this.#config.rejoinMs, 0.2);
    this.#effects.wakeBy('rejoin', this.#nextRoundAt);
  }

  onTimer(now: number): void {
    if (now >= this.#nextRoundAt) this.#begin(now);
    this.#knock(now);
    const again = Math.min(this.#nextRoundAt, now + this.#config.neighborTimeoutMs);
    this.#effects.wakeBy('rejoin', this.#waiting.length > 0 ? again : this.#nextRoundAt);
  }

  #knock(now: number): void {
    const dead = this.#waiting.filter(({ id }) => this.#members.standing(id) !== 'alive');
    const crowded = new Set<string>();
    let isEnough = false;
    this.#waiting = dead.filter((peer) => {
      if (isEnough || crowded.has(peer.address)) return true;
      isEnough = !this.#views.mayKnock;
      if (isEnough) return true;
      if (this.#views.reach(peer, now)) return false;
      crowded.add(peer.address);
      return true;
    });
  }

  #begin(now: number): void {
    this.#nextRoundAt = now + jitter(this.#random, this.#config.rejoinMs, 0.2);
    this.#members.forget(now);
    this.#round += 1;
    const dead = this.#dead();
    const ids = new Set(dead.map(({ id }) => id));
    this.#waiting = this.#waiting.filter(({ id }) => ids.has(id));
    if (dead.length === 0) return;
    const alive = this.#members.alive();
    alive.push(this.#self.id);
    const rank = alive.filter((id) => id < this.#self.id).length;
    const turn = this.#share(dead, rank, alive.length);
    const waiting = new Set(this.#waiting.map(({ id }) => id));
    this.#waiting.push(...turn.filter(({ id }) => !waiting.has(id)));
    if (unit(this.#random) >= (RANDOM_KNOCKS * dead.length) / alive.length) return;
    const lucky = dead[below(this.#random, dead.length)];
    // it takes nobody's turn: where one waits, the places are for those
    if (lucky === undefined || this.#waiting.some(({ address }) => address === lucky.address))
      return;
    this.#waiting.unshift(lucky);
  }

  /** In the order of ids, the same on every node; unreachable seeds among them. */
  #dead(): Peer[] {
    const dead = new Map<string, Peer>();
    for (const [index, { left }] of this.#members.gone) {
      const peer = this.#members.states.at(index)?.state.origin;
      if (peer !== undefined && !left) dead.set(peer.id, peer);
    }
    for (const seed of this.#views.seeds) {
      if (this.#config.linkState && this.#members.standing(seed.id) === 'unknown')
        dead.set(seed.id, seed);
    }
    return [...dead.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** What falls to this rank in this round: every dead node has a rank and a round of its own in each period. */
  #share(dead: readonly Peer[], rank: number, ranks: number): Peer[] {
    const rounds = Math.max(
      1,
      Math.floor(this.#config.rejoinPeriodMs / (1.2 * this.#config.rejoinMs)),
    );
    const round = this.#round % rounds;
    return dead.filter((_, i) => i % ranks === rank && Math.floor(i / ranks) % rounds === round);
  }
}
