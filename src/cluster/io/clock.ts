/** Time as it is handed to everything of this folder that waits: so that tests can hold it still. */

export interface Clock {
  /** Milliseconds that never go back. */
  now(): number;
  /** Milliseconds since 1970, as certificates count; may jump. */
  wallMs(): number;
  /** Calls `run` once after `ms`; the answer takes it back. */
  after(ms: number, run: () => void): () => void;
}

/** setTimeout() takes 31 bits of milliseconds; beyond that it would fire at once. */
const TIMEOUT_MAX_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, Math.min(TIMEOUT_MAX_MS, Math.max(0, ms)));
    return () => clearTimeout(timer);
  },
};
