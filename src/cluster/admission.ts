// Who may begin a handshake. An unauthenticated connection is cheap to open, so there is a rate at which they are
// taken, and a number of those that may be under way: from one address, and in all. Where that number is reached, the
// oldest one of the address with the most goes: an honest handshake takes milliseconds, and squatting does not help.
import { addressKey, Limiter } from './limiter.ts';
import type { Rate } from './limiter.ts';

export interface AdmissionLimits {
  readonly pendingMax: number;
  readonly pendingPerAddressMax: number;
  readonly arrivals: Rate;
  readonly arrivalsPerAddress: Rate;
  /** Addresses remembered for their rate. */
  readonly addressesMax: number;
}

export type Arrival =
  | { readonly admitted: false; readonly why: 'rate' | 'address-rate' }
  /** `evicted`, when there is one, must be closed. */
  | { readonly admitted: true; readonly id: number; readonly evicted: number | undefined };

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #all: Limiter;
  readonly #perAddress: Limiter;
  /** Oldest first, both of them. */
  readonly #pending = new Map<number, string>();
  readonly #byAddress = new Map<string, Set<number>>();
  #nextId = 1;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
    this.#all = new Limiter(limits.arrivals, 1);
    this.#perAddress = new Limiter(limits.arrivalsPerAddress, limits.addressesMax);
  }

  get pending(): number {
    return this.#pending.size;
  }

  arrive(address: string, nowMs: number): Arrival {
    const key = addressKey(address);
    // The address first: one that floods must not use up what is for all.
    if (!this.#perAddress.take(key, nowMs)) return { admitted: false, why: 'address-rate' };
    if (!this.#all.take('', nowMs)) return { admitted: false, why: 'rate' };
    const evicted = this.#victim(key);
    if (evicted !== undefined) this.done(evicted);
    const id = this.#nextId++;
    this.#pending.set(id, key);
    const own = this.#byAddress.get(key);
    if (own === undefined) this.#byAddress.set(key, new Set([id]));
    else own.add(id);
    return { admitted: true, id, evicted };
  }

  /** It is authenticated, or closed. */
  done(id: number): void {
    const key = this.#pending.get(id);
    if (key === undefined) return;
    this.#pending.delete(id);
    const own = this.#byAddress.get(key);
    own?.delete(id);
    if (own?.size === 0) this.#byAddress.delete(key);
  }

  #victim(key: string): number | undefined {
    const own = this.#byAddress.get(key);
    if (own !== undefined && own.size >= this.#limits.pendingPerAddressMax) return first(own);
    if (this.#pending.size < this.#limits.pendingMax) return undefined;
    let busiest: Set<number> | undefined;
    for (const ids of this.#byAddress.values()) {
      if (busiest === undefined || ids.size > busiest.size) busiest = ids;
    }
    return busiest === undefined ? undefined : first(busiest);
  }
}

function first(ids: ReadonlySet<number>): number | undefined {
  const [id] = ids;
  return id;
}
