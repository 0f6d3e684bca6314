// A token bucket for each key, in a table with a limit. Where the table is full the key that was seen longest ago is
// forgotten, so whoever has very many addresses is held by the overall limit only. Time is passed in.

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
  readonly #keysMax: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(rate: Rate, keysMax: number) {
    this.#rate = rate;
    this.#keysMax = keysMax;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Whether this key may act once more now. */
  take(key: string, nowMs: number): boolean {
    const { perSecond, burst } = this.#rate;
    const bucket = this.#buckets.get(key) ?? { left: burst, atMs: nowMs };
    const passedMs = Math.max(0, nowMs - bucket.atMs);
    bucket.left = Math.min(burst, bucket.left + (passedMs / 1000) * perSecond);
    bucket.atMs = nowMs;
    const allowed = bucket.left >= 1;
    if (allowed) bucket.left -= 1;
    this.#buckets.delete(key); // to the end of the map's order
    this.#buckets.set(key, bucket);
    this.#forgetOldest();
    return allowed;
  }

  #forgetOldest(): void {
    if (this.#buckets.size <= this.#keysMax) return;
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined) this.#buckets.delete(oldest);
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
