// A token bucket for each key, in a table with a limit. Where the table is full those that were seen longest ago are
// forgotten, half a table at a time, so whoever has very many addresses is held by the overall limit only. Time is passed in.

export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

interface Bucket {
  left: number;
  atMs: number;
}

export class Limiter {
  readonly #rate: Rate;
  readonly #half: number;
  /** Seen since the halves changed places last. */
  #young = new Map<string, Bucket>();
  #old = new Map<string, Bucket>();

  constructor(rate: Rate, keysMax: number) {
    this.#rate = rate;
    this.#half = Math.max(1, Math.floor(keysMax / 2));
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** Whether this key may act once more now. */
  take(key: string, nowMs: number): boolean {
    const { perSecond } = this.#rate;
    const bucket = this.#young.get(key) ?? this.#rejuvenated(key, nowMs);
    const passedMs = Math.max(0, nowMs - bucket.atMs);
    bucket.left = Math.min(this.#rate.burst, bucket.left + (passedMs / 1000) * perSecond);
    bucket.atMs = nowMs;
    const allowed = bucket.left >= 1;
    if (allowed) bucket.left -= 1;
    return allowed;
  }

  /** No key is moved that was seen lately: a Map that is nearly full is made anew every few times one is. */
  #rejuvenated(key: string, nowMs: number): Bucket {
    const bucket = this.#old.get(key) ?? { left: this.#rate.burst, atMs: nowMs };
    this.#old.delete(key);
    if (this.#young.size >= this.#half) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, bucket);
    return bucket;
  }
}

/** One key for all that one host can easily send from: an IPv4 address, or an IPv6 /64. */
export function addressKey(address: string): string {
  const [plain = ''] = address.toLowerCase().split('%');
  if (!plain.includes(':')) return plain;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(plain)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = '', tail] = plain.split('::');
  const front = head === '' ? [] : head.split(':');
  if (tail === undefined) return `${front.slice(0, 4).join(':')}::/64`;
  const back = tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0');
  return `${[...front, ...zeros, ...back].slice(0, 4).join(':')}::/64`;
}
