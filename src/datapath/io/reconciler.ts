/**
 * Keeps the kernel's service tables equal to the Catalog: on events against
 * what it applied, on a timer against what the kernel holds. The only writer
 * of the tables. Silent when all is right.
 */
import type { Catalog, CatalogService } from '../../catalog/catalog.ts';
import { frontendsOf } from '../desired.ts';
import type { Frontend } from '../desired.ts';
import { heldServices } from '../held.ts';
import { Planner } from '../plan.ts';
import type { Plan, PlannerOptions } from '../plan.ts';
import type { KernelTables } from './kernel.ts';

/** How often tables that change all the time are compared before it is done at one go. A guess. */
const COMPARE_TRIES = 3;

/** A plan that fits; exactly one of apply and abandon must follow. */
export interface Prepared {
  readonly writes: number;
  /** Throws KernelError; the tables are then read anew at the next check. */
  apply(): void;
  abandon(): void;
}

export interface Repair {
  readonly writes: number;
  /** What was wrong, one line a frontend. */
  readonly reasons: readonly string[];
}

export class Reconciler {
  readonly #kernel: KernelTables;
  readonly #options: PlannerOptions;
  readonly #now: () => number;
  #planner: Planner;
  /**
   * Set when the kernel was found or left other than the Catalog wants; only a
   * plan of everything, applied, clears it.
   */
  #lost = false;
  /** Plans applied. */
  #applied = 0;

  constructor(kernel: KernelTables, options: PlannerOptions, now: () => number) {
    this.#kernel = kernel;
    this.#options = options;
    this.#now = now;
    this.#planner = new Planner(kernel.read(), options);
  }

  get used(): Planner['used'] {
    return this.#planner.used;
  }

  get appliedRevision(): number {
    return this.#planner.tables.revision;
  }

  /** What the tables hold, as services. */
  held(): ReadonlyMap<string, CatalogService> {
    return heldServices(this.#planner.tables);
  }

  /** Plans the touched services of a Catalog. Throws LimitError. */
  prepare(catalog: Catalog, touched: Iterable<string>): Prepared {
    // Which services a failed write left wrong is not known: all are looked at.
    if (this.#lost) return this.prepareWhole(catalog);
    const wanted = new Map<string, Frontend[]>();
    for (const name of touched) wanted.set(name, frontendsOf(catalog.services.get(name)));
    return this.#prepared(this.#planner.plan(wanted, catalog.revision, this.#now()), false);
  }

  /** Plans everything, strangers' entries included. Throws LimitError. */
  prepareWhole(catalog: Catalog): Prepared & Repair {
    if (this.#lost) this.#planner = new Planner(this.#kernel.read(), this.#options);
    const plan = this.#planWhole(catalog);
    return { ...this.#prepared(plan, true), reasons: plan.reasons };
  }

  /**
   * Whether the kernel holds what was applied: as check(), but changes nothing, and lets `turn` pass
   * after each chunk. What is applied meanwhile may make it look wrong: it is looked at again then.
   */
  async isAsApplied(turn: () => Promise<unknown>): Promise<boolean> {
    for (let tries = 0; tries < COMPARE_TRIES; tries++) {
      const [planner, applied] = [this.#planner, this.#applied];
      if (this.#lost || this.#kernel.revision() !== planner.tables.revision) return false;
      const steps = this.#kernel.compare(planner.tables);
      let step = steps.next();
      for (; step.done !== true; step = steps.next()) await turn();
      if (step.value && planner === this.#planner) return true;
      if (applied === this.#applied) return false;
    }
    return false;
  }

  /** Compares with what the kernel holds and puts it right; undefined when it was. */
  check(catalog: Catalog): Repair | undefined {
    const known = this.#planner.tables;
    const held = this.#kernel.read(known);
    const unmarked = held.revision !== known.revision;
    if (!this.#lost && !unmarked && held.equals(known)) return undefined;
    this.#planner = new Planner(held, this.#options);
    // Until this plan is in the kernel, whatever stops it.
    this.#lost = true;
    const plan = this.#planWhole(catalog);
    this.#prepared(plan, true).apply();
    if (plan.writes > 0) return { writes: plan.writes, reasons: plan.reasons };
    return unmarked ? { writes: 1, reasons: ['zh_meta: not what was applied'] } : undefined;
  }

  #planWhole(catalog: Catalog): Plan {
    const wanted = new Map<string, Frontend[]>();
    for (const [name, service] of catalog.services) wanted.set(name, frontendsOf(service));
    return this.#planner.plan(wanted, catalog.revision, this.#now(), true);
  }

  #prepared(plan: Plan, whole: boolean): Prepared {
    const planner = this.#planner;
    return {
      writes: plan.writes,
      apply: () => {
        this.#applied += 1;
        try {
          this.#kernel.apply(plan.groups);
        } catch (error) {
          planner.abandoned();
          this.#lost = true;
          throw error;
        }
        planner.applied(plan);
        if (whole) this.#lost = false;
      },
      abandon: () => planner.abandoned(),
    };
  }
}
