// How long certificates live and when they are renewed. Times are wall-clock milliseconds, passed in.

const DAY_MS = 86_400_000;

export const NODE_VALIDITY_MS = 30 * DAY_MS; // a guess: ten days to notice that renewal fails
export const CA_VALIDITY_MS = 3650 * DAY_MS; // Consul's default
/** A new certificate is valid this far back: clocks of a cluster are minutes apart. Kubernetes has 5 min. */
export const SKEW_MS = 10 * 60_000;

const RENEW_PART = 2 / 3; // what is left is for signers that are away
const RENEW_JITTER = 0.05; // a guess: nodes made together do not renew together
const RETRY_MS = 3_600_000; // a guess
const ENDED_RETRY_MS = 60_000; // a guess: as soon as anybody notices

export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export function validityFrom(nowMs: number, lengthMs: number): Validity {
  return { notBeforeMs: nowMs - SKEW_MS, notAfterMs: nowMs + lengthMs };
}

/** When to ask for the next certificate; `unit` is a random number from 0 up to 1. */
export function renewAtMs({ notBeforeMs, notAfterMs }: Validity, unit: number): number {
  const lengthMs = notAfterMs - notBeforeMs;
  return notBeforeMs + lengthMs * (RENEW_PART - RENEW_JITTER * unit);
}

/** How long to wait after a renewal that failed: an hour, less when the end is near. After it only a clock put right helps. */
export function retryAfterMs({ notAfterMs }: Validity, nowMs: number, unit: number): number {
  const leftMs = notAfterMs - nowMs;
  if (leftMs <= 0) return ENDED_RETRY_MS;
  return Math.max(1000, Math.min(RETRY_MS, leftMs / 10) * (1 - unit / 2));
}
