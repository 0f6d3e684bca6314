// Knocks at the doors of the dead, so that a healed partition, or an overlay that split without any crash, becomes
// one again. All nodes together knock at every dead one at least once in `rejoinPeriodMs`: each takes the share that
// falls to its rank among the living. On top, random knocks, about four a dead node and round over all nodes, make
// the usual case quick. Never declares anything.
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
    this.#effects.wakeBy('rejoin', now + jitter(this.#random, this.#config.rejoinMs, 0.2));
  }

  onTimer(now: number): void {
    this.start(now);
    this.#members.forget(now);
    this.#round += 1;
    const dead = this.#dead();
    if (dead.length === 0) return;
    const alive = this.#members.alive();
    alive.push(this.#self.id);
    const rank = alive.filter((id) => id < this.#self.id).length;
    for (const peer of this.#share(dead, rank, alive.length)) this.#views.reach(peer, now);
    if (unit(this.#random) >= (RANDOM_KNOCKS * dead.length) / alive.length) return;
    const lucky = dead[below(this.#random, dead.length)];
    if (lucky !== undefined) this.#views.reach(lucky, now);
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
