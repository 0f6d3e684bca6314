/**
 * Hybrid logical clock (Kulkarni, Demirbas et al., "Logical Physical Clocks", OPODIS 2014): wall
 * milliseconds, a counter, and who wrote, in one total order that follows cause and effect.
 *
 * Decides only between writes that did not know of each other (see README.md), so a wrong clock
 * can make the wrong one of those win, and nothing else. Never reads a clock: the time is passed in.
 *
 * Departure: a stamp further ahead than `driftMsMax` is kept as it is but not followed, so that one
 * host with a clock in the future does not take all others along.
 */

export interface Stamp {
  readonly ms: number;
  readonly counter: number;
  /** Id of a data directory, 1 to 2^31 - 1. */
  readonly writer: number;
}

/** Negative when `a` is older. */
export function compareStamps(a: Stamp, b: Stamp): number {
  return a.ms - b.ms || a.counter - b.counter || a.writer - b.writer;
}

/** A counter that got there counts on in the next millisecond; small integers are cheap in V8. */
const COUNTER_MAX = 2 ** 30;

/** Milliseconds of any stamp stay below this (the year 10889), so that sums are exact. */
export const STAMP_MS_MAX = 2 ** 48;

/** What a clock says of itself that has just given this stamp. */
export function clockText({ ms, counter }: Pick<Stamp, 'ms' | 'counter'>): string {
  return `${ms}.${counter}`;
}

export interface ClockOptions {
  readonly writer: number;
  /** NTP keeps hosts within milliseconds; a guess that forgives a host without it. */
  readonly driftMsMax?: number;
  /** What state() gave before: no stamp of this life is older than those of the last. */
  readonly state?: string | undefined;
}

export class HybridClock {
  readonly driftMsMax: number;
  #writer: number;
  #ms = 0;
  #counter = 0;

  constructor(options: ClockOptions) {
    this.#writer = options.writer;
    this.driftMsMax = options.driftMsMax ?? 60_000;
    const saved = /^(\d+)\.(\d+)$/.exec(options.state ?? '');
    if (saved !== null) this.#raise(Number(saved[1]), Number(saved[2]));
  }

  /** A stamp newer than any given or followed so far, whatever the wall clock did. */
  tick(wallMs: number): Stamp {
    const stamp = this.next(wallMs);
    this.advance(stamp);
    return stamp;
  }

  /** What tick() would give; it may be dropped, or given to advance(). */
  next(wallMs: number): Stamp {
    const wall = Math.floor(wallMs);
    const writer = this.#writer;
    if (wall > this.#ms) return { ms: wall, counter: 0, writer };
    if (this.#counter < COUNTER_MAX) return { ms: this.#ms, counter: this.#counter + 1, writer };
    return { ms: this.#ms + 1, counter: 0, writer };
  }

  /** A stamp of next() was used. */
  advance({ ms, counter }: Stamp): void {
    this.#raise(ms, counter);
  }

  /** Follows a stamp that was received; how far it is ahead in milliseconds if that is too far. */
  observe(stamp: Pick<Stamp, 'ms' | 'counter'>, wallMs: number): number {
    const aheadMs = stamp.ms - Math.floor(wallMs);
    if (aheadMs > this.driftMsMax) return aheadMs;
    this.#raise(stamp.ms, stamp.counter);
    return 0;
  }

  /** How far this clock is ahead of the wall clock: large after the wall clock was set back. */
  aheadMs(wallMs: number): number {
    return Math.max(0, this.#ms - Math.floor(wallMs));
  }

  /** To be stored with every write, and given back at the next start. */
  state(): string {
    return clockText({ ms: this.#ms, counter: this.#counter });
  }

  #raise(ms: number, counter: number): void {
    if (ms > this.#ms) {
      this.#ms = ms;
      this.#counter = counter;
    } else if (ms === this.#ms) {
      this.#counter = Math.max(this.#counter, counter);
    }
  }
}
