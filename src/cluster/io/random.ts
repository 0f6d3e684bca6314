/** The system's randomness, in the two forms that this folder and hyparview-ts take it. */
import { randomFillSync } from 'node:crypto';
import type { Random } from '../../hyparview-ts/index.ts';

/** 32 bits at a time, fetched 64 at once. */
export function systemRandom(): Random {
  const words = new Uint32Array(64);
  let left = 0;
  return {
    next() {
      if (left === 0) {
        randomFillSync(words);
        left = words.length;
      }
      left -= 1;
      return words[left] ?? 0;
    },
  };
}

export function unitOf(random: Random): () => number {
  return () => random.next() / 2 ** 32;
}
