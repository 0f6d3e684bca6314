/**
 * From a write to the kernel, one at a time: decide → plan → store → tell the
 * other hosts → kernel. What cannot be applied is never stored, and what was
 * answered is both. What other hosts wrote comes in at changed() and what is
 * known of them at reachability() and unhealthy(): stored already, it is applied as it is.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { buildCatalog, type Catalog } from '../../catalog/catalog.ts';
import { servicesBetween, type CatalogContext } from '../../catalog/context.ts';
import type { Outcome, SubmitOptions } from '../../api/engine.ts';
import { readdressed } from '../../cluster/departures.ts';
import { Turn } from '../../cluster/turn.ts';
import type { Config } from '../../config/schema.ts';
import { applyChanges } from '../../state/changes.ts';
import { decide, type Command } from '../../state/commands.ts';
import { deadOrphans, deadOwners } from '../../state/io/owners.ts';
import type { State } from '../../state/io/state.ts';
import { ofNode } from '../../state/owners.ts';
import { ProblemError, whyText } from '../../state/problem.ts';
import type { Rebase } from '../../state/replica/rebase.ts';
import type { Change } from '../../state/records.ts';
import { SHARED, type Changed, type Update, type Write } from '../../state/replica/replica.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import { releaseMemorySoon } from '../../telemetry/io/memory.ts';
import { ALL_REACHABLE, contextOf, type Reachability } from '../context.ts';
import { isOvertaken, isSame, placesOf, takesAway, vipsToSettle } from '../decided.ts';
import { Dirty } from '../dirty.ts';
import { isLimit, NOT_APPLIED, refusedByKernel } from '../refusals.ts';
import { applyWhatFits, unfitText } from './fitting.ts';
import type { HostKernel, NextState, PreparedState } from './host-kernel.ts';

/** After something that the kernel refused. A guess. */
const retryMs = 1000;

/** When what did not fit is tried again; at once where it, or what is in its way, changes. A guess. */
const unfitRetryMs = 5000;

/** When rules that did not fit at the start are tried again without having changed: users, cgroups or services may have. A guess. */
const waitingRetryMs = 30_000;

/** Changes at once that leave enough garbage to be worth a collection. A guess. */
const burstChanges = 1000;

/** Some 50 to 100 ms of work each, with ten backends a service; memory is given back after the last. Guesses. */
const changesATurn = 5000;
const servicesATurn = 500;

/** What was written here: stored, and to be told to the other hosts. */
export interface Written {
  readonly updates: readonly Update[];
  readonly changed: readonly Changed[];
}

export class Pipeline {
  readonly state: State;
  readonly #config: Config;
  readonly #log: Logger;
  readonly #listeners = new Set<(changed: readonly Changed[]) => void>();
  #kernel: HostKernel | undefined;
  #around: (work: () => void) => void = (work) => work();
  #spread: ((written: Written) => void) | undefined;
  #applied: (touched: Iterable<string> | 'all') => void = () => undefined;
  #catalog: Catalog;
  #context: CatalogContext;
  #known: Reachability = ALL_REACHABLE;
  #unhealthy: ReadonlySet<string> = new Set();
  #queue: Promise<unknown> = Promise.resolve();
  #isWoken = false;
  /** What is in the replica and not yet in the snapshot. */
  readonly #pending: Changed[] = [];
  readonly #dirty = new Dirty();
  readonly #epochTurn = new Turn();
  readonly #vipsTurn = new Turn();
  #problem: string | undefined;
  /** A kernel that was not filled, as the rules do not fit into it. */
  #waiting: HostKernel | undefined;
  #retry: NodeJS.Timeout | undefined;
  #unfitRetry: NodeJS.Timeout | undefined;
  #waitingRetry: NodeJS.Timeout | undefined;

  constructor(config: Config, log: Logger, state: State) {
    this.#config = config;
    this.#log = log;
    this.state = state;
    this.#context = this.#contextNow();
    this.#catalog = buildCatalog(state.snapshot(), this.#context);
  }

  get catalog(): Catalog {
    return this.#catalog;
  }

  /** Node ids of members that are not there now. */
  get unreachable(): ReadonlySet<string> {
    return this.#known.unreachable;
  }

  /** Whether the Catalog is what the kernel has, or all of it that fits. */
  get isApplied(): boolean {
    return this.#kernel !== undefined;
  }

  /** Why what other hosts wrote is not in the kernel. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Fills the kernel with what is known now, or with what of it fits. */
  async start(kernel: HostKernel): Promise<void> {
    await this.exclusive(() => this.#begin(kernel));
  }

  async #begin(kernel: HostKernel): Promise<void> {
    this.#follow();
    this.#context = this.#contextNow();
    this.#catalog = buildCatalog(this.state.snapshot(), this.#context);
    this.#dirty.clear();
    this.#waiting = undefined;
    try {
      await kernel.start();
      this.#kernel = kernel;
    } catch (error) {
      if (!isLimit(error)) throw error;
      await this.#beginWithHeld(kernel, error);
    }
    this.#applied('all');
    // What came meanwhile woke nobody.
    this.#wake();
  }

  /** As if this agent had applied what the tables hold, and then heard of all the rest. */
  async #beginWithHeld(kernel: HostKernel, why: ProblemError): Promise<void> {
    const wanted = this.#catalog;
    this.#catalog = { ...wanted, services: kernel.held() };
    const names = new Set([...wanted.services.keys(), ...this.#catalog.services.keys()]);
    try {
      await kernel.start(async () => {
        this.#kernel = kernel;
        this.#dirty.add(names);
        await this.#applySome(this.#dirty.fitting, why);
      });
    } catch (error) {
      if (!isLimit(error)) throw error;
      this.#wait(kernel, error);
    }
  }

  /** The rules do not fit, whatever the services: more of those could be unguarded ones. */
  #wait(kernel: HostKernel, error: ProblemError): void {
    const problem = kernel.hold(whyText(error));
    if (problem !== this.#problem) this.#log.error({ problem }, 'the kernel is not filled');
    this.#waitOn(kernel, problem);
  }

  #waitOn(kernel: HostKernel, problem: string): void {
    this.#problem = problem;
    this.#waiting = kernel;
    this.#waitingRetry ??= setTimeout(() => {
      this.#waitingRetry = undefined;
      this.#dirty.isAcl = true;
      this.#wake();
    }, waitingRetryMs).unref();
  }

  /** Where what is written here goes; undefined in no cluster. */
  spreadBy(spread: ((written: Written) => void) | undefined): void {
    this.#spread = spread;
  }

  /**
   * Hears, when the kernel has it, which services of the Catalog are new or changed; of none where
   * something else may be: nodes, who is reachable, DNS records.
   */
  whenApplied(applied: (touched: Iterable<string> | 'all') => void): void {
    this.#applied = applied;
  }

  /** Hears of every change of a document, here or elsewhere, until the answer is called. */
  listen(listener: (changed: readonly Changed[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** One at a time, in order; everything that changes the state. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  submit(command: Command, options: SubmitOptions): Promise<Outcome> {
    return this.exclusive(async () => {
      this.#follow();
      const { vipCidr4, vipPrefix6, dns } = this.#config;
      const pools = { v4: vipCidr4, v6: vipPrefix6 };
      const decision = decide(this.state.snapshot(), command, pools, dns.domain);
      if (decision.problems.length > 0) throw new ProblemError(decision.problems);
      const { changes } = decision;
      const reused = readdressed(placesOf(command, changes), this.#known.gone);
      const { warnings, ...done } = await this.#commit(changes, { ...options, reused });
      return { ...done, changes: decision.actions, warnings: [...decision.warnings, ...warnings] };
    });
  }

  /** Entries beside services, backends and rules. Throws StoreError or WriteError with nothing changed. */
  write(make: () => readonly Write[]): Promise<Written> {
    return this.exclusive(() => Promise.resolve(this.writeNow(make())));
  }

  /** As write(), for those who have their turn already. */
  writeNow(writes: readonly Write[], telling: 'all' | 'nobody' = 'all'): Written {
    const committed = this.state.write(writes, Date.now());
    if (telling === 'all') this.#spread?.(committed);
    this.#hear(committed.changed);
    this.#dirty.mark(committed);
    this.#wake();
    return committed;
  }

  /** Removes backends whose owning process is gone (`zerohop run`, killed). */
  async reapOwners(): Promise<void> {
    await this.exclusive(async () => {
      try {
        const changes = deadOwners(this.state.snapshot(), this.state.node);
        if (changes.length === 0) return;
        await this.#commit(changes);
        this.#log.info({ changes }, 'removed backends of processes that are gone');
      } catch (error) {
        // A full disk or map; tried again at the next look.
        this.#log.error({ error }, 'backends of processes that are gone were not removed');
      }
    });
  }

  /** Writes of others that are in the replica and kept. */
  changed(changed: readonly Changed[]): void {
    for (const one of changed) this.#pending.push(one);
    if (this.#pending.length >= burstChanges) releaseMemorySoon();
    this.#hear(changed);
    this.#wake();
  }

  /** What is known of other hosts. */
  reachability(known: Reachability): void {
    this.#known = known;
    this.#wake();
  }

  /** endpointText() of backends that the node that has them found not to work. */
  unhealthy(unhealthy: ReadonlySet<string>): void {
    this.#unhealthy = unhealthy;
    this.#wake();
  }

  /** Puts other documents in the place of these, by whoever has the turn. */
  rebase(how: Rebase): void {
    this.#around(() => {
      this.#follow();
      this.#dirty.mark(this.state.rebase(how));
    });
    this.#wake();
  }

  /** A node is gone for good, and what its processes offered. */
  forget(node: string): void {
    const committed = this.state.forget(node);
    this.#hear(committed.changed);
    this.#dirty.mark(committed);
    this.#wake();
  }

  /** What the disk refused is tried again, and history that nobody needs is dropped. `rank` as Cluster has it. */
  async tidy(rank: number | undefined): Promise<void> {
    await this.exclusive(() => {
      this.#follow();
      this.state.saveUnsaved();
      this.#removeOrphans();
      if (rank === undefined) return Promise.resolve();
      const nowMs = Date.now();
      const isDue = this.state.replica.compactionDue(SHARED, nowMs);
      const updates = this.state.compactIfDue(nowMs, this.#epochTurn.isMine(isDue, rank));
      if (updates.length > 0) this.#spread?.({ updates, changed: [] });
      return this.#settleVips(rank);
    });
  }

  /** Of services that are gone, as are the processes: nothing else would ever take them away. */
  #removeOrphans(): void {
    const { view, replica } = this.state;
    const writes = deadOrphans(view.orphans(), replica);
    if (writes.length === 0) return;
    try {
      this.writeNow(writes);
    } catch (error) {
      this.#log.warn({ error }, 'backends of services that are gone were not removed: tried again');
    }
  }

  /**
   * Writes down the VIPs that the catalog gave to services whose own another one has: they keep
   * them when that one goes. Every host would write the same.
   */
  async #settleVips(rank: number): Promise<void> {
    const { conflicts } = this.#catalog;
    const changes = vipsToSettle(this.#catalog, this.state.snapshot());
    if (!this.#vipsTurn.isMine(changes.length > 0, rank)) return;
    try {
      const { revision } = this.state.snapshot();
      const done = await this.#commit(changes, { settles: true });
      if (done.revision === revision) return;
      this.#log.warn({ conflicts }, 'services had one VIP: the later names have others now');
    } catch (error) {
      this.#log.error({ error, conflicts }, 'services have one VIP, and new ones were not stored');
    }
  }

  /** Runs what rebase() does, and may look before and after. */
  aroundRebase(around: (work: () => void) => void): void {
    this.#around = around;
  }

  /** When all that came before is applied, or was refused. */
  async settled(): Promise<void> {
    await this.exclusive(() => this.#integrate());
  }

  /** Nothing is asked of the kernel afterwards. */
  async close(): Promise<void> {
    await this.settled();
    this.#kernel = undefined;
    this.#waiting = undefined;
    clearTimeout(this.#waitingRetry);
    clearTimeout(this.#retry);
    clearTimeout(this.#unfitRetry);
  }

  /** Plan, then store, then kernel; a plan that does not fit stores nothing. */
  async #commit(
    decided: readonly Change[],
    how: { dryRun?: boolean; settles?: boolean; reused?: readonly Write[] } = {},
  ): Promise<Pick<Outcome, 'revision' | 'mapWrites' | 'warnings'>> {
    const before = this.state.snapshot();
    const { dryRun = false, settles = false, reused = [] } = how;
    if (decided.length === 0) {
      if (reused.length > 0 && !dryRun) this.writeNow(reused);
      return { revision: before.revision, mapWrites: 0, warnings: [] };
    }
    const changes = decided.map((change) => ofNode(change, this.state.node));
    const problems = this.state.problems(changes);
    if (problems.length > 0) throw new ProblemError(problems);
    const { snapshot, touched, aclsChanged } = applyChanges(before, changes);
    const catalog = buildCatalog(snapshot, this.#context, { catalog: this.#catalog, touched });
    const acls = aclsChanged
      ? changes.flatMap((change) => (change.kind === 'put-acl' ? [change.acl] : []))
      : undefined;
    const next = { snapshot, catalog, touched: catalog.touched, acls };
    const prepared = await this.#prepare(next, changes);
    const done = {
      mapWrites: prepared?.writes ?? 0,
      warnings: prepared?.warnings ?? [NOT_APPLIED],
    };
    // What came while the kernel planned was not known when this was decided: it is for the next look.
    if (dryRun || (settles && isOvertaken(changes, this.#pending))) {
      prepared?.abandon();
      return { ...done, revision: before.revision };
    }
    let isWhole = false;
    try {
      const committed = this.state.commit(changes, Date.now(), { settles, beside: reused });
      this.#spread?.(committed);
      this.#hear(committed.changed);
      // Other hosts' writes to the same records: applied in their own turn.
      isWhole = prepared !== undefined && isSame(committed.changes, changes);
      if (!isWhole) this.#dirty.mark(committed);
    } catch (error) {
      prepared?.abandon();
      throw error;
    }
    if (prepared !== undefined)
      this.#applyStored(prepared, isWhole ? this.#sharing(touched) : catalog);
    if (changes.length >= burstChanges) releaseMemorySoon();
    if (this.#dirty.isAny) this.#wake();
    return { ...done, revision: this.state.snapshot().revision };
  }

  /** undefined: rules that do not fit are in the way, and these changes only take away. */
  async #prepare(next: NextState, changes: readonly Change[]): Promise<PreparedState | undefined> {
    const isInTheWay = this.#waiting !== undefined || this.#dirty.isAcl;
    try {
      return await this.#running().prepare(next);
    } catch (error) {
      if (isLimit(error) && isInTheWay && changes.every(takesAway)) return undefined;
      throw error;
    }
  }

  /** What was planned, of the records that the state has: nobody else keeps a copy. 25 to 55 ms of 2 s, for 100,000. */
  #sharing(touched: Iterable<string>): Catalog {
    return buildCatalog(this.state.snapshot(), this.#context, { catalog: this.#catalog, touched });
  }

  #applyStored(prepared: PreparedState, catalog: Catalog): void {
    this.#catalog = catalog;
    try {
      prepared.apply();
    } catch (error) {
      this.#log.error({ error }, 'the kernel refused a change that is stored; it is tried again');
      this.#checkSoon();
      throw refusedByKernel(error);
    } finally {
      this.#applied(catalog.touched);
    }
  }

  #hear(changed: readonly Changed[]): void {
    for (const listener of this.#listeners) {
      try {
        listener(changed);
      } catch (error) {
        // Others wrote it: who follows misses it, and nothing else comes to harm.
        this.#log.error({ error }, 'bug: a follower could not be told of a change');
      }
    }
  }

  /** Everything that came meanwhile is one change, also what is yet to be read in this turn of the event loop. */
  #wake(): void {
    if (this.#isWoken || (this.#kernel ?? this.#waiting) === undefined) return;
    this.#isWoken = true;
    void this.exclusive(async () => {
      await nextTurn();
      await this.#integrate();
    });
  }

  #follow(): void {
    const changed = this.#pending.splice(0);
    if (changed.length > 0) this.#dirty.mark(this.state.follow(changed));
  }

  /** The same, while everything else has its turn. */
  async #followInTurns(): Promise<void> {
    while (this.#pending.length > changesATurn) {
      this.#dirty.mark(this.state.follow(this.#pending.splice(0, changesATurn)));
      releaseMemorySoon();
      await nextTurn();
    }
    this.#follow();
  }

  async #integrate(): Promise<void> {
    this.#isWoken = false;
    if (this.#waiting !== undefined) return await this.#beginAgain(this.#waiting);
    if (this.#kernel === undefined) return;
    let isTold = false;
    try {
      await this.#followInTurns();
      const context = this.#contextNow();
      this.#dirty.add(servicesBetween(this.state.snapshot(), this.#context, context));
      this.#context = context;
      try {
        isTold = await this.#applyInTurns();
        if (this.#dirty.unfit.size === 0) this.#problem = undefined;
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error;
        await this.#applySome(this.#dirty.fitting, error);
      }
    } catch (error) {
      this.#problem = `what other hosts wrote is not in the kernel: ${whyText(error)}`;
      this.#log.error({ error }, 'what other hosts wrote is not in the kernel; it is tried again');
      this.#checkSoon();
    } finally {
      if (!isTold) this.#applied([]);
    }
  }

  /** Only new rules are worth another look at all of them. */
  async #beginAgain(kernel: HostKernel): Promise<void> {
    this.#follow();
    if (!this.#dirty.isAcl) return;
    try {
      await this.#begin(kernel);
    } catch (error) {
      this.#log.error({ error }, 'the kernel is not filled; it is tried again');
      this.#waitOn(kernel, `the kernel is not filled: ${whyText(error)}`);
    }
  }

  /** All that fits; rules before the services that they are for. Whether there was any, and is told of. */
  async #applyInTurns(): Promise<boolean> {
    for (;;) {
      const names = this.#dirty.fitting;
      const isLast = names.length <= servicesATurn;
      const isAny = names.length > 0 || this.#dirty.isAcl;
      if (isAny) await this.#apply(names.slice(0, servicesATurn), this.#dirty.isAcl, isLast);
      if (isLast) return isAny;
      releaseMemorySoon();
      await nextTurn();
    }
  }

  /** These services, and with `withAcls` the rules: all, or with a ProblemError nothing. The last bring the revision. */
  async #apply(names: readonly string[], withAcls: boolean, isLast = true): Promise<void> {
    const snapshot = this.state.snapshot();
    const built = buildCatalog(snapshot, this.#context, {
      catalog: this.#catalog,
      touched: names,
    });
    const catalog = isLast ? built : { ...built, revision: this.#catalog.revision };
    // Before the plan: what is written while it is made is for the next one.
    const acls = withAcls ? this.#dirty.takeAcls() : undefined;
    this.#dirty.settle(names);
    const next = { snapshot, catalog, touched: catalog.touched, acls: acls && [...acls.values()] };
    let prepared: PreparedState;
    try {
      prepared = await this.#running().prepare(next);
    } catch (error) {
      for (const name of names) this.#dirty.services.add(name);
      if (acls !== undefined) this.#dirty.giveBackAcls(acls);
      throw error;
    }
    this.#catalog = catalog;
    for (const warning of prepared.warnings)
      this.#log.warn({ warning }, 'of a rule that came from another host');
    try {
      prepared.apply();
    } finally {
      this.#applied(catalog.touched);
    }
  }

  /** What fits of that which did not fit as a whole, for the reason `why`. */
  async #applySome(dirty: readonly string[], why: ProblemError): Promise<void> {
    const { services } = this.state.snapshot();
    const names = dirty.toSorted(); // the same ones are left out on every host
    const gone = names.filter((name) => !services.has(name));
    const there = names.filter((name) => services.has(name));
    const known = there.filter((name) => this.#catalog.services.has(name));
    const fresh = there.filter((name) => !this.#catalog.services.has(name));
    let reason = why;
    const apply = async (some: readonly string[]): Promise<void> => {
      try {
        await this.#apply(some, false);
      } catch (error) {
        if (error instanceof ProblemError) reason = error;
        throw error;
      }
    };
    // Rules first: a new service may be one that nobody is to reach without its rule.
    if (this.#dirty.isAcl) await applyWhatFits([['rules']], () => this.#apply([], true));
    await applyWhatFits([gone, known, ...(this.#dirty.isAcl ? [] : [fresh])], apply);
    for (const name of names) if (this.#dirty.services.has(name)) this.#dirty.unfit.add(name);
    this.#tellUnfit(reason);
  }

  #tellUnfit(error: ProblemError): void {
    const isAcl = this.#dirty.isAcl;
    const problem = isAcl
      ? `rules of other hosts are not in force, and no service that is new: ${whyText(error)}`
      : unfitText(this.#dirty.unfit, error);
    if (problem !== this.#problem)
      this.#log.error({ problem }, 'what other hosts wrote does not fit here; it is tried again');
    this.#problem = problem;
    this.#unfitRetry ??= setTimeout(() => {
      this.#unfitRetry = undefined;
      this.#dirty.unfit.clear();
      this.#wake();
    }, unfitRetryMs).unref();
  }

  #checkSoon(): void {
    if (this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      void this.exclusive(() => Promise.resolve(this.#kernel?.check()));
      this.#wake();
    }, retryMs).unref();
  }

  #contextNow(): CatalogContext {
    const { node: self, view } = this.state;
    return contextOf({
      config: this.#config,
      self,
      nodes: view.nodes(),
      known: this.#known,
      unhealthy: this.#unhealthy,
    });
  }

  #running(): HostKernel {
    if (this.#kernel !== undefined) return this.#kernel;
    if (this.#waiting === undefined) throw new Error('bug: the kernel is not filled yet');
    const message = `nothing is added here for now: ${this.#problem ?? ''}`;
    const hint = 'rules and services can be removed here, and added on other hosts';
    throw new ProblemError([{ code: 'limit', message, hint }]);
  }
}
