/** Waiting in tests: for a condition, with a bound; never for a length of time. */
import { setTimeout as pause } from 'node:timers/promises';

/** Bounds are for a real CPU: an emulated one (QEMU without KVM) is given more, ZEROHOP_TEST_PATIENCE times. */
export const patience = Number(process.env['ZEROHOP_TEST_PATIENCE'] ?? 1);

export interface Bound {
  readonly timeoutMs?: number;
  readonly everyMs?: number;
}

/**
 * Calls `probe` until it answers something other than `undefined` or `false`
 * without throwing, and returns that. After `timeoutMs` throws what the last
 * call threw.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  { timeoutMs = 5000, everyMs = 10 }: Bound = {},
): Promise<Exclude<T, undefined | false>> {
  const end = performance.now() + timeoutMs * patience;
  let cause: unknown;
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= end) {
      const because = cause instanceof Error ? `: ${cause.message}` : '';
      throw new Error(`waited ${timeoutMs} ms in vain for ${what}${because}`, { cause });
    }
    await pause(everyMs);
  }
}

/** The promise's value, or an error after `timeoutMs`. */
export async function within<T>(what: string, promise: Promise<T>, timeoutMs: number): Promise<T> {
  const stop = new AbortController();
  const late = pause(timeoutMs * patience, undefined, { signal: stop.signal }).then(
    () => {
      throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}
