/**
 * Access control as the agent drives it: compiles rules against services, this
 * host's addresses and its users, and brings the result into the kernel. One
 * call at a time, in the agent's queue; what was applied last is known here.
 *
 *   prepare()  before anything is stored: does it fit?   → PreparedPolicy
 *   check()    the periodic comparison with the kernel
 *   refresh()  addresses, users and groups change without anybody telling us
 */
import { buildCatalog, type Catalog } from '../../catalog/catalog.ts';
import type { MapSizes } from '../../datapath/hooks.ts';
import { EMPTY_SNAPSHOT } from '../../state/changes.ts';
import { ProblemError, type Problem } from '../../state/problem.ts';
import type { AclRecord, StateSnapshot } from '../../state/records.ts';
import {
  compileAcl,
  NO_NUMBERING,
  numberingOf,
  tablesBetween,
  updateEndpoints,
  type Compiled,
  type CompileProblem,
} from '../compile.ts';
import { countWrites, diffGeneration, type GenerationDiff } from '../plan.ts';
import type { AclTables } from '../tables.ts';
import { LocalAddresses } from './addresses.ts';
import type { Enforcement } from './enforcement.ts';
import { Generations, isPolicy, sameTables, type GenerationsOptions } from './generations.ts';
import { Identities, type WantedNames } from './identities.ts';

/** A policy that fits. At most one call of apply() may follow. */
export interface PreparedPolicy {
  readonly writes: number;
  /** Worth saying, of the rules that are new or changed. */
  readonly warnings: readonly Problem[];
  /**
   * What is new is guarded before `services` makes it reachable, and what is
   * gone loses its guard afterwards. Throws what either throws; the kernel is
   * then compared at the next check.
   */
  apply(services: () => void): void;
}

export interface Repaired {
  readonly writes: number;
  readonly reasons: readonly string[];
}

export interface EnforcerOptions extends Omit<GenerationsOptions, 'lsm'> {
  readonly enforcement: Enforcement;
  readonly defaultAction: 'allow' | 'deny';
  readonly sizes: MapSizes;
}

/** Names in rules that only this host can say numbers for. */
export function namesIn(acls: Iterable<AclRecord>): WantedNames {
  const names = { user: new Set<string>(), group: new Set<string>() };
  for (const { from } of acls) {
    for (const { kind, value } of from) {
      if ((kind === 'user' || kind === 'group') && !/^[0-9]+$/.test(value)) names[kind].add(value);
    }
  }
  return { users: names.user, groups: names.group };
}

const NO_CATALOG = buildCatalog(EMPTY_SNAPSHOT);

/** From a policy to the one after a change of services. */
interface Within extends GenerationDiff {
  readonly next: Compiled;
  /** Guards what was there and what comes. */
  readonly between: AclTables;
  readonly writes: number;
}

export class Enforcer {
  readonly #options: EnforcerOptions;
  readonly #generations: Generations;
  readonly #addresses = new LocalAddresses();
  readonly identities = new Identities();
  #compiled: Compiled;
  /** The services that #compiled is for. */
  #catalog: Catalog = NO_CATALOG;
  /** Whether the kernel may hold something else than #compiled: a write failed. */
  #lost = true;

  constructor(options: EnforcerOptions) {
    this.#options = options;
    const lsm = options.enforcement.name === 'lsm';
    this.#generations = new Generations({ ...options, lsm });
    this.#compiled = this.#compile(new Map(), NO_CATALOG, false);
  }

  get compiled(): Compiled {
    return this.#compiled;
  }

  get generation(): number {
    return this.#enforces ? this.#generations.number : 0;
  }

  /** This host's own. */
  get addresses(): readonly string[] {
    return this.#addresses.list;
  }

  /** Classified ones, as of the last look at the tree. */
  get cgroups(): number {
    return this.#generations.cgroups;
  }

  get #enforces(): boolean {
    return this.#options.enforcement.name !== 'none';
  }

  /** Whether there is anything to judge. */
  get isPolicy(): boolean {
    return isPolicy(this.#compiled.tables);
  }

  /**
   * Takes over what is pinned, or makes it so, before any program runs over it:
   * how many entries had to be written, and why. Throws ProblemError.
   */
  async start(snapshot: StateSnapshot, catalog: Catalog): Promise<Repaired> {
    await this.identities.refresh(namesIn(snapshot.acls.values()));
    const compiled = this.#compile(snapshot.acls, catalog, true);
    this.#refuseFatal(compiled.problems);
    this.#catalog = catalog;
    return this.#enforce(compiled);
  }

  /** For rules that do not fit where none are in force: nothing can be reached, but by the agent. */
  closeAll(): void {
    this.#enforce(this.#compile(new Map(), NO_CATALOG, true, 'deny'));
  }

  /** This process: what is in force may be closed to it. */
  exemptAgent(): void {
    if (this.#enforces) this.#generations.exemptAgent();
  }

  #enforce(compiled: Compiled): Repaired {
    this.#compiled = compiled;
    if (!this.#enforces) return { writes: 0, reasons: [] };
    const { tables } = compiled;
    this.#generations.exemptAgent();
    // What is pinned may be of another load of the programs, which is swapped then.
    this.#options.attacher.attachAcl(this.#generations.parts(tables));
    return this.#putRight(tables);
  }

  /** After the programs of the services are attached: what this policy does not need goes. */
  settle(): void {
    if (!this.#enforces) return;
    const wanted = this.#generations.parts(this.#compiled.tables);
    const rest = (['watch', 'judge', 'ingress'] as const).filter((part) => !wanted.includes(part));
    this.#options.attacher.detachAcl(rest);
  }

  /** Plans what a change of the state means. Throws ProblemError when it does not fit. */
  async prepare(
    snapshot: StateSnapshot,
    catalog: Catalog,
    changed: {
      readonly touched: Iterable<string>;
      readonly acls: readonly AclRecord[] | undefined;
    },
  ): Promise<PreparedPolicy> {
    const { acls } = changed;
    if (acls === undefined && !this.#lost) return this.#prepareWithin(catalog, changed.touched);
    await this.identities.refresh(namesIn(snapshot.acls.values()), true);
    // The new rules for the services as they are: these change afterwards, under both guards.
    const rules = this.#compile(snapshot.acls, this.#catalog, false);
    const within = this.#within(rules, catalog, changed.touched);
    const { problems } = within.next;
    this.#refuseFatal(problems);
    const names = new Set(acls?.map(({ name }) => name));
    const warnings = problems.filter(({ rule }) => rule !== undefined && names.has(rule));
    return {
      writes: this.#enforces ? sizeOf(within.next.tables) : 0,
      warnings,
      apply: (services) => {
        try {
          this.#replace({ ...rules, tables: within.between });
        } catch (error) {
          // It is stored: the next check goes on from there.
          this.#compiled = within.next;
          this.#catalog = catalog;
          throw error;
        }
        this.#settleServices(within, catalog, services);
      },
    };
  }

  /** Compares with what the kernel holds and puts it right; undefined when it was. */
  check(): Repaired | undefined {
    if (!this.#enforces) return undefined;
    const repaired = this.#putRight(this.#compiled.tables);
    return repaired.reasons.length === 0 ? undefined : repaired;
  }

  /** Whether this host's addresses have changed; cheap. */
  addressesChanged(): boolean {
    return this.#addresses.refreshIfCheap();
  }

  /** Whether users and groups that rules name have changed. */
  async identitiesChanged(snapshot: StateSnapshot): Promise<boolean> {
    return await this.identities.refresh(namesIn(snapshot.acls.values()));
  }

  /** Compiles anew, as the host has changed; what had to be written. */
  recompile(snapshot: StateSnapshot, catalog: Catalog): number {
    const next = this.#compile(snapshot.acls, catalog, false);
    this.#catalog = catalog;
    this.#refuseFatal(next.problems);
    const same = this.#enforces && !this.#lost && sameTables(next.tables, this.#compiled.tables);
    if (same) {
      this.#compiled = next;
      return 0;
    }
    return this.#replace(next);
  }

  #compile(
    acls: StateSnapshot['acls'],
    catalog: Catalog,
    first: boolean,
    defaultAction = this.#options.defaultAction,
  ): Compiled {
    const { kernel, sizes } = this.#options;
    const previous = first ? undefined : this.#compiled;
    const adopted = first && this.#enforces ? numberingOf(kernel.rules()) : NO_NUMBERING;
    return compileAcl({
      rules: acls.values(),
      services: catalog.services,
      users: this.identities.all('user'),
      groups: this.identities.all('group'),
      localAddresses: this.#addresses.list,
      defaultAction,
      limits: sizes,
      numbering: previous?.numbering ?? adopted,
      previous,
    });
  }

  #prepareWithin(catalog: Catalog, touched: Iterable<string>): PreparedPolicy {
    const within = this.#within(this.#compiled, catalog, touched);
    this.#refuseFatal(within.next.problems);
    return {
      writes: within.writes,
      warnings: [],
      apply: (services) => this.#settleServices(within, catalog, services),
    };
  }

  /** What a change of services means under the rules of `rules`. */
  #within(rules: Compiled, catalog: Catalog, touched: Iterable<string>): Within {
    const names = [...touched];
    const next = updateEndpoints(rules, catalog.services, names);
    const between = tablesBetween(rules, catalog.services, names);
    const { additions, removals } = diffGeneration(rules.tables, between, next.tables);
    const writes = this.#enforces ? countWrites(additions) + countWrites(removals) : 0;
    return { next, between, additions, removals, writes };
  }

  /** Guards what is new, changes the services, and forgets what is gone. */
  #settleServices(within: Within, catalog: Catalog, services: () => void): void {
    const guarded = this.#compiled.tables === within.between;
    this.#compiled = within.next;
    this.#catalog = catalog;
    this.#guarded(() => {
      if (this.#enforces && !guarded) this.#generations.write(within.additions);
      services();
      if (this.#enforces) this.#generations.write(within.removals);
    });
  }

  #replace(next: Compiled): number {
    const before = this.#lost ? undefined : this.#compiled.tables;
    this.#compiled = next;
    if (!this.#enforces) return 0;
    return this.#guarded(() => {
      const writes = this.#generations.replace(next.tables, before);
      this.#lost = false;
      return writes;
    });
  }

  #putRight(tables: AclTables): Repaired {
    const reasons = this.#generations.compare(tables);
    let writes = 0;
    this.#guarded(() => {
      if (reasons.length > 0) writes = this.#generations.replace(tables, undefined);
      const classes = this.#generations.repairCgroups(tables);
      writes += classes.length;
      reasons.push(...classes);
    });
    this.#lost = false;
    return { writes, reasons };
  }

  /** What nothing enforces needs no room. */
  #refuseFatal(problems: readonly CompileProblem[]): void {
    const fatal = problems.filter((problem) => problem.fatal);
    if (fatal.length === 0 || !this.#enforces) return;
    throw new ProblemError(
      fatal.map(({ code, message, hint }) => ({
        code,
        message,
        ...(hint === undefined ? {} : { hint }),
      })),
    );
  }

  /** After a write that failed nothing is known of the kernel. */
  #guarded<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.#lost = true;
      throw error;
    }
  }
}

function sizeOf({ dests, cidrs, matches, sources }: AclTables): number {
  return dests.size + cidrs.size + matches.size + sources.size;
}
