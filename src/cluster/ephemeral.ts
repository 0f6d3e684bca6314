/**
 * Facts that change fast and matter for a while (health, load): for each origin and key the newest
 * value, by (incarnation, sequence) of the origin. A fact ends after a time counted on each host's
 * own clock, so clocks need not agree; what is handed on carries the rest of its time, never more.
 *
 * Where all is full, the origin with most facts gives way to those with fewer, and this host's own are always taken.
 *
 * An ended or withdrawn fact is remembered without its value for `rememberMs`, and up to `forgetEveryMs`
 * longer, so that an older one which is still under way does not come back. Never sends and never asks the time.
 */
export interface Fact {
  readonly origin: string;
  /** Of the origin's life, and the place within it: what is higher is newer. */
  readonly incarnation: number;
  readonly sequence: number;
  readonly key: string;
  /** How long it still counts. */
  readonly forMs: number;
  /** undefined withdraws it. */
  readonly value: Uint8Array | undefined;
}

/** `value` undefined: the fact ended, or was withdrawn. */
export interface FactChanged {
  readonly origin: string;
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

export interface EphemeralLimits {
  readonly factsMax: number;
  readonly factsPerOriginMax: number;
  readonly keyCharsMax: number;
  readonly valueBytesMax: number;
  readonly forMsMax: number;
  readonly rememberMs: number;
  /** All that is due to be forgotten within so long is forgotten at once: each time costs a look at all facts. */
  readonly forgetEveryMs: number;
}

/** Guesses: two facts for each backend of a host of 1,000, and 10 hosts like that. */
export const EPHEMERAL_LIMITS: EphemeralLimits = {
  factsMax: 20_000,
  factsPerOriginMax: 2000,
  keyCharsMax: 256,
  valueBytesMax: 4096,
  forMsMax: 600_000,
  rememberMs: 60_000,
  forgetEveryMs: 1000,
};

/** Of origins that are not known yet. Guesses: as many as of one origin; by then health facts are said again. */
const STRANGERS_MAX = 2000;
const STRANGERS_MS = 10_000;

interface Held {
  readonly fact: Fact;
  readonly endsAtMs: number;
  /** From then on nothing is known of it. */
  readonly forgetAtMs: number;
}

export class Ephemeral {
  readonly #origins = new Map<string, Map<string, Held>>();
  readonly #self: string;
  readonly #incarnation: number;
  readonly #limits: EphemeralLimits;
  #sequence = 0;
  #size = 0;
  #nextAtMs = Infinity;
  /** What gave way, and is yet to be told. */
  #outcast: FactChanged[] = [];

  /** `incarnation` is higher than in any earlier life of `self`. */
  constructor(self: string, incarnation: number, limits: Partial<EphemeralLimits> = {}) {
    this.#self = self;
    this.#incarnation = incarnation;
    this.#limits = { ...EPHEMERAL_LIMITS, ...limits };
  }

  get size(): number {
    return this.#size;
  }

  /** A fact of this host, to be broadcast; undefined if it is too large, or one too many of this host. */
  state(
    key: string,
    value: Uint8Array | undefined,
    forMs: number,
    nowMs: number,
  ): Fact | undefined {
    const { forMsMax } = this.#limits;
    const fact: Fact = {
      origin: this.#self,
      incarnation: this.#incarnation,
      sequence: this.#sequence + 1,
      key,
      forMs: Math.min(forMsMax, Math.max(0, Math.floor(forMs))),
      value,
    };
    if (this.#put(fact, nowMs) !== 'taken') return undefined;
    this.#sequence += 1;
    return fact;
  }

  /**
   * Facts of others, however they came. What this host said itself nobody knows better; what it said
   * in an earlier life, and others still hold, is told and not kept.
   */
  receive(facts: readonly Fact[], nowMs: number): FactChanged[] {
    const changed: FactChanged[] = [];
    for (const fact of facts) {
      if (fact.origin === this.#self) {
        const { origin, key, value } = fact;
        if (fact.incarnation < this.#incarnation) changed.push({ origin, key, value });
        continue;
      }
      const before = this.value(fact.origin, fact.key, nowMs);
      if (this.#put(fact, nowMs) !== 'taken') continue;
      const { origin, key } = fact;
      const value = this.value(origin, key, nowMs);
      if (!isSame(before, value)) changed.push({ origin, key, value });
    }
    return changed;
  }

  value(origin: string, key: string, nowMs: number): Uint8Array | undefined {
    const held = this.#origins.get(origin)?.get(key);
    return held !== undefined && held.endsAtMs > nowMs ? held.fact.value : undefined;
  }

  /** All that counts now, each with the rest of its time: for a new neighbour. */
  facts(nowMs: number): Fact[] {
    const facts: Fact[] = [];
    for (const held of this.#all())
      if (held.endsAtMs > nowMs)
        facts.push({ ...held.fact, forMs: Math.ceil(held.endsAtMs - nowMs) });
    return facts;
  }

  /** When `expire` has something to do; at once where others gave way. */
  get nextAtMs(): number {
    return this.#nextAtMs;
  }

  expire(nowMs: number): FactChanged[] {
    if (nowMs < this.#nextAtMs) return [];
    const changed = this.#outcast.filter(
      ({ origin, key }) => this.value(origin, key, nowMs) === undefined,
    );
    this.#outcast = [];
    this.#nextAtMs = Infinity;
    for (const [origin, keys] of this.#origins) {
      for (const [key, held] of keys) {
        let now = held;
        if (held.endsAtMs <= nowMs && held.fact.value !== undefined) {
          now = { ...held, fact: { ...held.fact, value: undefined } };
          keys.set(key, now);
          changed.push({ origin, key, value: undefined });
        }
        if (held.forgetAtMs <= nowMs) {
          keys.delete(key);
          this.#size -= 1;
        } else {
          this.#wake(now);
        }
      }
      if (keys.size === 0) this.#origins.delete(origin);
    }
    return changed;
  }

  #put(fact: Fact, nowMs: number): 'taken' | 'old' | 'refused' {
    const { key, origin, value } = fact;
    const { keyCharsMax, valueBytesMax, forMsMax } = this.#limits;
    if (key === '' || key.length > keyCharsMax) return 'refused';
    if ((value?.length ?? 0) > valueBytesMax || fact.forMs > forMsMax) return 'refused';
    const keys = this.#origins.get(origin) ?? new Map<string, Held>();
    const there = keys.get(key);
    if (there !== undefined && !isNewer(fact, there.fact)) return 'old';
    if (there === undefined) {
      const { factsMax, factsPerOriginMax } = this.#limits;
      if (keys.size >= factsPerOriginMax) return 'refused';
      if (this.#size >= factsMax && !this.#makeRoom(origin, keys.size, nowMs)) return 'refused';
      this.#size += 1;
      this.#origins.set(origin, keys);
    }
    const endsAtMs = nowMs + fact.forMs;
    const held: Held = { fact, endsAtMs, forgetAtMs: this.#forgetAtMs(endsAtMs) };
    keys.set(key, held);
    this.#wake(held);
    return 'taken';
  }

  /** Whoever has most gives way to whoever has fewer: nobody keeps the others out. */
  #makeRoom(origin: string, count: number, nowMs: number): boolean {
    let most: Map<string, Held> | undefined;
    let crowd = '';
    for (const [id, keys] of this.#origins) {
      if (id === this.#self || keys.size <= (most?.size ?? count + 1)) continue;
      most = keys;
      crowd = id;
    }
    if (most === undefined) return origin === this.#self;
    for (const [key, { fact }] of most) {
      most.delete(key);
      this.#size -= 1;
      if (fact.value !== undefined) this.#outcast.push({ origin: crowd, key, value: undefined });
      this.#nextAtMs = nowMs;
      break;
    }
    return true;
  }

  #forgetAtMs(endsAtMs: number): number {
    const { rememberMs, forgetEveryMs } = this.#limits;
    return Math.ceil((endsAtMs + rememberMs) / forgetEveryMs) * forgetEveryMs;
  }

  #wake({ fact, endsAtMs, forgetAtMs }: Held): void {
    this.#nextAtMs = Math.min(this.#nextAtMs, fact.value === undefined ? forgetAtMs : endsAtMs);
  }

  *#all(): Iterable<Held> {
    for (const keys of this.#origins.values()) yield* keys.values();
  }
}

/** Facts that came before their origin was known, as a newcomer's may: kept aside, a while and not too many. */
export class Strangers {
  #waiting: { readonly fact: Fact; readonly sinceMs: number }[] = [];

  get size(): number {
    return this.#waiting.length;
  }

  keep(fact: Fact, nowMs: number): void {
    const [oldest] = this.#waiting;
    if (oldest !== undefined && nowMs - oldest.sinceMs >= STRANGERS_MS)
      this.take(() => false, nowMs);
    if (this.#waiting.length < STRANGERS_MAX) this.#waiting.push({ fact, sinceMs: nowMs });
  }

  /** Those whose origin is known by now, each with the rest of its time. */
  take(isKnown: (origin: string) => boolean, nowMs: number): Fact[] {
    const known: Fact[] = [];
    this.#waiting = this.#waiting.filter(({ fact, sinceMs }) => {
      const waitedMs = nowMs - sinceMs;
      if (waitedMs >= STRANGERS_MS) return false;
      if (!isKnown(fact.origin)) return true;
      known.push({ ...fact, forMs: Math.max(0, fact.forMs - Math.ceil(waitedMs)) });
      return false;
    });
    return known;
  }
}

export function isNewer(a: Fact, b: Fact): boolean {
  return a.incarnation !== b.incarnation ? a.incarnation > b.incarnation : a.sequence > b.sequence;
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
