/**
 * Which facts this host says: each endpoint that is down, again and again, and once that it is not
 * any more. Whoever hears nothing takes an endpoint for up.
 */
import type { Priority } from '../hyparview-ts/index.ts';

/** Fact keys are this and endpointText(). */
const PREFIX = 'down/';
const DOWN: Uint8Array = Uint8Array.of(1);

/** How long one counts, and when it is said again: two may be lost. Guesses. */
export const FACT_FOR_MS = 30_000;
export const FACT_AGAIN_MS = 10_000;
/** Half of what an origin may have (EPHEMERAL_LIMITS.factsPerOriginMax): those withdrawn count for a while. */
export const FACTS_MAX = 1000;

export interface Saying {
  readonly key: string;
  /** undefined withdraws it. */
  readonly value: Uint8Array | undefined;
  readonly priority: Priority;
}

export const factKey = (endpoint: string): string => PREFIX + endpoint;

export function endpointOfKey(key: string): string | undefined {
  return key.startsWith(PREFIX) ? key.slice(PREFIX.length) : undefined;
}

export class Teller {
  readonly #factsMax: number;
  /** When each was said last. */
  readonly #said = new Map<string, number>();
  /** Said in an earlier life of this host, and perhaps not so any more. */
  readonly #old = new Set<string>();

  constructor(factsMax = FACTS_MAX) {
    this.#factsMax = factsMax;
  }

  /** Somebody still has this of an earlier life of this host. */
  remind(endpoint: string): void {
    this.#old.add(endpoint);
  }

  /** `down`: those that are so for all hosts. */
  due(down: ReadonlySet<string>, nowMs: number): Saying[] {
    const sayings: Saying[] = [];
    for (const endpoint of new Set([...this.#said.keys(), ...this.#old])) {
      if (down.has(endpoint)) continue;
      this.#said.delete(endpoint);
      sayings.push({ key: factKey(endpoint), value: undefined, priority: 'urgent' });
    }
    this.#old.clear();
    for (const endpoint of down) {
      const saidMs = this.#said.get(endpoint);
      if (saidMs === undefined && this.#said.size >= this.#factsMax) continue;
      if (saidMs !== undefined && nowMs - saidMs < FACT_AGAIN_MS) continue;
      this.#said.set(endpoint, nowMs);
      const priority = saidMs === undefined ? 'urgent' : 'normal';
      sayings.push({ key: factKey(endpoint), value: DOWN, priority });
    }
    return sayings;
  }
}
