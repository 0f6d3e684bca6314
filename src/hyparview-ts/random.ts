// Randomness that is passed in: the protocol asks a Random for 32 bits and never makes any of its own.
// sfc32 is Chris Doty-Humphrey's small fast counter generator (PractRand), good to some 2^64 numbers.

export interface Random {
  /** The next 32 bits, as an integer from 0 to 2^32 - 1. */
  next(): number;
}

/** Four words of state from one seed; equal seeds, equal numbers. */
export function sfc32(seed: number, stream = 0): Random {
  let a = seed >>> 0;
  let b = Math.floor(seed / 0x1_0000_0000) >>> 0;
  let c = stream >>> 0;
  let counter = 1;
  const random = {
    next(): number {
      const t = (a + b + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (c << 21) | (c >>> 11);
      c = (c + t) | 0;
      return t >>> 0;
    },
  };
  for (let i = 0; i < 12; i++) random.next(); // sfc32's own warm-up, so that near seeds part
  return random;
}

/** An integer from 0 to n - 1; n must be at least 1. The bias is below 2^-32 × n. */
export function below(random: Random, n: number): number {
  return Math.floor((random.next() / 0x1_0000_0000) * n);
}

/** A number from 0 up to, not including, 1. */
export function unit(random: Random): number {
  return random.next() / 0x1_0000_0000;
}

/** `value` times something from 1 - part to 1 + part: so that nodes started together do not act together. */
export function jitter(random: Random, value: number, part: number): number {
  return value * (1 - part + 2 * part * unit(random));
}

/** Up to `count` different items in random order; the list is left as it is. */
export function sample<T>(random: Random, items: readonly T[], count: number): T[] {
  const pool = [...items];
  const chosen: T[] = [];
  while (chosen.length < count && pool.length > 0) {
    const at = below(random, pool.length);
    const item = pool[at];
    const last = pool.pop();
    if (item === undefined || last === undefined) break;
    if (at < pool.length) pool[at] = last;
    chosen.push(item);
  }
  return chosen;
}
