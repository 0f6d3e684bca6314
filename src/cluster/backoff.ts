// How long to wait before the next dial: doubling, and drawn from the upper half, so that the many who lost one peer do
// not come back at once (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015: equal jitter).

export const BACKOFF_FIRST_MS = 100; // a guess
export const BACKOFF_MAX_MS = 10_000; // a guess

/** `failures` is 1 after the first one; `unit` is a random number from 0 up to 1. */
export function backoffMs(failures: number, unit: number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(20, failures - 1));
  return (full / 2) * (1 + unit);
}
