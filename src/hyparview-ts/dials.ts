// A rate for connections to peers that this node knows from hearsay only. A message to anybody but a neighbour, or whoever
// spoke just now, makes the host dial an address that somebody else may have made up: without a rate one hostile
// member has all others scan, or flood, whom it likes.
// Two token buckets on this node's own clock, so that what others ask for never takes from what the protocol needs of
// itself; of the latter, the mending of lost links may use what looking at peers has to leave. What is withheld is as if
// the peer did not answer. Never sends.
import type { Config } from './config.ts';
import type { NodeId, Peer } from './types.ts';

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

class Bucket {
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

interface Address {
  readonly ids: NodeId[];
  readonly endsAt: number;
}

export class Dials {
  readonly #told: Bucket;
  readonly #own: Bucket;
  readonly #perAddressMax: number;
  /** Who was dialled where lately, the longest ago first: as many as the buckets and rejoin.ts let through. */
  readonly #lately = new Map<string, Address>();
  readonly #withheld: Record<Need, number> = { told: 0, look: 0, repair: 0, knock: 0, seed: 0 };

  constructor(config: Config) {
    this.#told = new Bucket(config.toldDialsPerSecond, config.toldDialsBurst);
    this.#own = new Bucket(config.ownDialsPerSecond, config.ownDialsBurst);
    this.#perAddressMax = config.dialsPerAddressMax;
  }

  get withheld(): Readonly<Record<Need, number>> {
    return { ...this.#withheld };
  }

  allows(peer: Peer, need: Need, now: number): boolean {
    if (need === 'seed') return true;
    const isAllowed = this.#isRoomAt(peer, now) && this.#isAffordable(need, now);
    if (isAllowed) this.#note(peer, now);
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

  /** The host dials each peer once at a time, so it is different peers at one address that count. */
  #isRoomAt({ id, address }: Peer, now: number): boolean {
    for (const [oldest, { endsAt }] of this.#lately) {
      if (endsAt > now) break;
      this.#lately.delete(oldest);
    }
    const ids = this.#lately.get(address)?.ids ?? [];
    return ids.length < this.#perAddressMax || ids.includes(id);
  }

  #note({ id, address }: Peer, now: number): void {
    const there = this.#lately.get(address);
    if (there === undefined) this.#lately.set(address, { ids: [id], endsAt: now + DIAL_MS });
    else if (!there.ids.includes(id)) there.ids.push(id);
  }
}
