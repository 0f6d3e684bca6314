// A rate for connections to peers that this node knows from hearsay only. A message to anybody but a neighbour, or whoever
// spoke just now, makes the host dial an address that somebody else may have made up: without a rate one hostile
// member has all others scan, or flood, whom it likes.
// Two token buckets on this node's own clock, so that what others ask for never takes from what the protocol needs of
// itself; of the latter, the mending of lost links may use what looking at peers has to leave. What is withheld is as if
// the peer did not answer. Never sends.
import type { Config } from './config.ts';
import type { Peer } from './types.ts';

/**
 * What a message to a peer without a connection is for. `told`: another peer's message names it, and asks for this on
 * the spot. `look`: failure detection and measurements. `repair`: links are missing. `knock`: at the dead, at the pace
 * of rejoin.ts. `seed`: the operator's word, which is always heeded.
 */
export type Need = 'told' | 'look' | 'repair' | 'knock' | 'seed';

/** So long a dial is under way at most. */
const DIAL_MS = 3000; // as src/cluster waits

/** The part of the own bucket that is left to repair. */
const REPAIR_PART = 0.5; // a guess

export class Bucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #at = 0;

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** One token, unless that leaves less than this part of all. */
  take(now: number, leave: number): boolean {
    const gained = (Math.max(0, now - this.#at) * this.#perSecond) / 1000;
    this.#tokens = Math.min(this.#burst, this.#tokens + gained);
    this.#at = now;
    if (this.#tokens - 1 < leave * this.#burst) return false;
    this.#tokens -= 1;
    return true;
  }
}

interface UnderWay {
  readonly place: string;
  readonly endsAt: number;
}

export class Dials {
  readonly #told: Bucket;
  readonly #own: Bucket;
  readonly #perAddressMax: number;
  /** Who may be being dialled where, and for what; the first to end first. As many as the buckets and rejoin.ts let through. */
  readonly #underWay = new Map<string, UnderWay>();
  /** How many of these each need has at an address. Needs share no places: what others tell would take those of repair. */
  readonly #taken = new Map<string, number>();
  readonly #withheld: Record<Need, number> = { told: 0, look: 0, repair: 0, knock: 0, seed: 0 };

  constructor(config: Config) {
    this.#told = new Bucket(config.toldDialsPerSecond, config.toldDialsBurst);
    this.#own = new Bucket(config.ownDialsPerSecond, config.ownDialsBurst);
    this.#perAddressMax = config.dialsPerAddressMax;
  }

  get withheld(): Readonly<Record<Need, number>> {
    return { ...this.#withheld };
  }

  get underWayCount(): number {
    return this.#underWay.size;
  }

  allows({ id, address }: Peer, need: Need, now: number): boolean {
    if (need === 'seed') return true;
    this.#end(now);
    const place = `${need} ${address}`;
    const dial = `${place.length} ${place} ${id}`; // an address may be any text
    // the host dials each peer once at a time, so it is different peers at one address that count
    const isRoom = (this.#taken.get(place) ?? 0) < this.#perAddressMax || this.#underWay.has(dial);
    const isAllowed = isRoom && this.#isAffordable(need, now);
    if (isAllowed) this.#note(dial, place, now);
    else this.#withheld[need] += 1;
    return isAllowed;
  }

  #isAffordable(need: Exclude<Need, 'seed'>, now: number): boolean {
    switch (need) {
      case 'told':
        return this.#told.take(now, 0);
      case 'look':
        return this.#own.take(now, REPAIR_PART);
      case 'repair':
        return this.#own.take(now, 0);
      case 'knock':
        return true;
    }
  }

  #end(now: number): void {
    for (const [dial, { place, endsAt }] of this.#underWay) {
      if (endsAt > now) break;
      this.#underWay.delete(dial);
      const left = (this.#taken.get(place) ?? 0) - 1;
      if (left > 0) this.#taken.set(place, left);
      else this.#taken.delete(place);
    }
  }

  /** One that was under way begins anew: it may have failed since. */
  #note(dial: string, place: string, now: number): void {
    if (!this.#underWay.delete(dial)) this.#taken.set(place, (this.#taken.get(place) ?? 0) + 1);
    this.#underWay.set(dial, { place, endsAt: now + DIAL_MS });
  }
}
