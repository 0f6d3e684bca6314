/** Dice that can be thrown again: a test prints its seed when it fails. */

const CI_SEED = 20_260_101; // any: what matters is that a run of CI and the next one are the same

/**
 * ZEROHOP_TEST_SEED where it is set. Without it one and the same where CI is set, so that a run there fails only for a
 * change; elsewhere another one each time, so that everybody's runs together meet more. `t` is told how to replay it.
 */
export function testSeed(t?: { diagnostic(message: string): void }): number {
  const { ZEROHOP_TEST_SEED: asked, CI } = process.env;
  const seed = asked === undefined ? (CI ? CI_SEED : Date.now() % 2 ** 32) : Number(asked);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) {
    throw new Error(`ZEROHOP_TEST_SEED is "${asked}": it is a whole number below 2^32`);
  }
  t?.diagnostic(`ZEROHOP_TEST_SEED=${seed}`);
  return seed;
}

export class Dice {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed >>> 0;
  }

  /** A whole number in 0…sides-1 (mulberry32, T. Ettinger 2017). */
  below(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * sides);
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}
