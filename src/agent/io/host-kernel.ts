/**
 * What the agent has in this host's kernel: programs, tables of services,
 * tables of rules. One change at a time is planned in all of them, and then
 * written to all: rules first, so that nothing is reachable unguarded. Decides
 * nothing about services, and stores nothing.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Access } from '../../acl/io/access.ts';
import { aclMode, chooseEnforcement } from '../../acl/io/enforcement.ts';
import type { AgentStatus, MapFill } from '../../api/engine.ts';
import type { Catalog, CatalogService } from '../../catalog/catalog.ts';
import type { Config } from '../../config/schema.ts';
import { keyToBytes } from '../../datapath/abi.ts';
import { limitOf } from '../../datapath/hooks.ts';
import type { Cgroup } from '../../datapath/io/cgroup.ts';
import { probeFeatures } from '../../datapath/io/features.ts';
import { KernelTables } from '../../datapath/io/kernel.ts';
import { Datapath } from '../../datapath/io/loader.ts';
import type { Pins } from '../../datapath/io/pins.ts';
import { Reconciler, type Prepared } from '../../datapath/io/reconciler.ts';
import { LimitError, SetSizeError } from '../../datapath/plan.ts';
import { cidrContains } from '../../net/cidr.ts';
import { ProblemError, type Problem } from '../../state/problem.ts';
import type { AclRecord, StateSnapshot } from '../../state/records.ts';
import type { Logger } from '../../telemetry/io/log.ts';

/** Of a repair, in one log record. */
const reasonsMax = 100;

/** How often a plan waits for freed entries to have rested (datapath/allocate.ts). A guess. */
const restTries = 3;

export interface HostKernelOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly cgroup: Cgroup;
  readonly pins: Pins;
  /** The newest of both, for questions and for what happens without a change. */
  readonly snapshot: () => StateSnapshot;
  readonly catalog: () => Catalog;
}

/** What the kernel is to show next, and what of it is not as before. */
export interface NextState {
  readonly snapshot: StateSnapshot;
  readonly catalog: Catalog;
  readonly touched: Iterable<string>;
  /** New and changed rules; undefined: there is no other, and none less. */
  readonly acls: readonly AclRecord[] | undefined;
}

/** A plan that fits; exactly one of apply and abandon must follow. */
export interface PreparedState {
  readonly writes: number;
  readonly warnings: readonly Problem[];
  /** Throws what the kernel says; all is then compared at the next check. */
  apply(): void;
  abandon(): void;
}

export class HostKernel {
  readonly acls: Access;
  readonly #config: Config;
  readonly #log: Logger;
  readonly #snapshot: () => StateSnapshot;
  readonly #catalog: () => Catalog;
  readonly #datapath: Datapath;
  readonly #reconciler: Reconciler;
  readonly #degraded: readonly string[];
  /** Whether it is filled: before that nothing is compared, or put right. */
  #isStarted = false;
  #comparing: Promise<boolean> | undefined;
  /** How the kernel is kept while it cannot be filled, in words. */
  #kept: string | undefined;
  #problem: string | undefined;
  #lastCheck: Date | undefined;
  #repaired = 0;

  constructor(options: HostKernelOptions) {
    const { config, log, cgroup, pins, snapshot, catalog } = options;
    this.#config = config;
    this.#log = log;
    this.#snapshot = snapshot;
    this.#catalog = catalog;
    this.#degraded = probeFeatures()
      .filter((feature) => !feature.available)
      .map((feature) => `${feature.name}: ${feature.without}`);
    const { vipCidr4, vipPrefix6, maps } = config;
    const enforcement = chooseEnforcement(config.acl.enforcement);
    this.#datapath = Datapath.load({
      pins,
      cgroup,
      sizes: maps,
      vipCidr4,
      vipPrefix6,
      aclMode: aclMode[enforcement.name],
      notice: (message, details) => log.warn(details, message),
    });
    const inVipRange = (address: string): boolean => {
      const ip = keyToBytes(address);
      return cidrContains(vipCidr4, ip) || cidrContains(vipPrefix6, ip);
    };
    const kernel = new KernelTables((name) => this.#datapath.map(name as 'zh_vips'));
    this.#reconciler = new Reconciler(kernel, { limits: maps, inVipRange }, () =>
      performance.now(),
    );
    this.acls = new Access({
      enforcement,
      defaultAction: config.acl.defaultAction,
      sizes: maps,
      cgroupPath: cgroup.path,
      attacher: this.#datapath,
      openMap: (name) => this.#datapath.map(name),
      snapshot,
      catalog,
    });
  }

  /** What the tables hold, as services: of the agent before, until they are filled. */
  held(): ReadonlyMap<string, CatalogService> {
    return this.#reconciler.held();
  }

  /**
   * Fills the tables, then attaches: no program ever runs over half of them. What is applied by
   * `rest` is there before that, too. Rejects with ProblemError if it does not fit: nothing is changed then.
   */
  async start(rest: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    const catalog = this.#catalog();
    const adopted = this.#datapath.adopted;
    const fill = explained(() => this.#reconciler.prepareWhole(catalog));
    // Rules before services: nothing is reachable unguarded for a moment.
    try {
      await this.#startAcls();
    } catch (error) {
      fill.abandon();
      throw error;
    }
    fill.apply();
    await rest();
    this.#datapath.activate();
    this.acls.enforcer.settle();
    this.#isStarted = true;
    this.acls.problem = undefined;
    const { revision, services } = catalog;
    const details = { revision, services: services.size, adopted, writes: fill.writes };
    this.#log.info(details, adopted ? 'took over the pinned maps' : 'filled new maps');
    if (adopted && fill.writes > 0) {
      this.#log.warn(
        { writes: fill.writes, reasons: fill.reasons.slice(0, 20) },
        'put the pinned maps right',
      );
    }
    const inert = this.#datapath.attachments().filter((at) => !at.effective);
    if (inert.length > 0) {
      this.#problem = `not in effect: ${inert.map((at) => at.hook).join(', ')}; see zerohop doctor`;
      this.#log.error({ hooks: inert }, 'programs are attached but not in effect');
    }
  }

  /**
   * Keeps closed what rules may close, when they do not fit: what is pinned stays in force as it
   * is, and where nothing is, nothing can be reached. In words.
   */
  hold(why: string): string {
    this.#kept ??= this.#datapath.isPinned ? this.#keepPinned() : this.#closeAll();
    this.acls.problem = `the rules do not fit, and ${this.#kept}: ${why}`;
    return this.acls.problem;
  }

  #keepPinned(): string {
    if (this.#datapath.adoptedAcl) this.acls.enforcer.exemptAgent();
    return 'rules and services stay as the agent before left them';
  }

  #closeAll(): string {
    this.acls.enforcer.closeAll();
    this.#datapath.activate();
    return 'as no others were in force, programs of this host can connect to nothing';
  }

  async #startAcls(): Promise<void> {
    const adopted = this.#datapath.adoptedAcl;
    const { writes, reasons } = await this.acls.enforcer.start(this.#snapshot(), this.#catalog());
    this.acls.settle();
    if (adopted && reasons.length > 0) {
      const details = { writes, reasons: reasons.slice(0, reasonsMax) };
      this.#log.warn(details, 'put the pinned rules right');
    }
    const { state, enforcementText, why, rules, problem } = this.acls.status();
    const details = { rules, enforcement: enforcementText, why };
    if (state === 'unenforced') this.#log.error({ ...details, problem }, 'rules are not enforced');
    else this.#log.info(details, 'access control');
  }

  /** Rejects with ProblemError if it does not fit: nothing is changed then. */
  async prepare({ snapshot, catalog, touched, acls }: NextState): Promise<PreparedState> {
    const names = [...touched];
    const policy = await this.acls.enforcer.prepare(snapshot, catalog, { touched: names, acls });
    const services = await this.#prepareServices(catalog, names);
    return {
      writes: policy.writes + services.writes,
      warnings: policy.warnings,
      abandon: () => services.abandon(),
      apply: () => {
        let applied = false;
        try {
          policy.apply(() => {
            applied = true;
            services.apply();
          });
          this.acls.settle();
        } catch (error) {
          // Nothing of the services is written then, and the whole is compared at the next check.
          if (!applied) services.abandon();
          this.#problem = textOf(error);
          throw error;
        }
      },
    };
  }

  async #prepareServices(catalog: Catalog, touched: readonly string[]): Promise<Prepared> {
    for (let left = restTries; ; left--) {
      try {
        return this.#reconciler.prepare(catalog, touched);
      } catch (error) {
        if (!(error instanceof LimitError) || error.retryAfterMs === undefined || left === 0) {
          throw explain(error);
        }
        await sleep(error.retryAfterMs);
      }
    }
  }

  /** The long part of check(), while everything else has its turn: whether the tables need no other look. */
  isAsApplied(): Promise<boolean> {
    if (!this.#isStarted) return Promise.resolve(false);
    this.#comparing ??= this.#reconciler
      .isAsApplied(() => nextTurn())
      .catch(() => false) // check() says what it is
      .finally(() => (this.#comparing = undefined));
    return this.#comparing;
  }

  /** The periodic full comparison, but of tables that were found right just now. */
  check(areTablesRight = false): void {
    if (!this.#isStarted) return;
    try {
      const repair = areTablesRight ? undefined : this.#reconciler.check(this.#catalog());
      this.#lastCheck = new Date();
      this.#problem = undefined;
      if (repair !== undefined) {
        this.#repaired += repair.writes;
        const { writes, reasons } = repair;
        const details = {
          writes,
          frontends: reasons.length,
          reasons: reasons.slice(0, reasonsMax),
        };
        this.#log.warn(details, 'someone changed the maps: put right');
      }
      this.#checkAcls();
      this.#checkAttachments();
    } catch (error) {
      this.#problem = textOf(error);
      this.#log.error({ error }, 'the comparison with the kernel failed');
    }
  }

  #checkAcls(): void {
    this.acls.problem = undefined;
    try {
      const repair = this.acls.enforcer.check();
      if (repair === undefined) return;
      this.#repaired += repair.writes;
      const details = { writes: repair.writes, reasons: repair.reasons.slice(0, reasonsMax) };
      this.#log.warn(details, 'someone changed the rules in the kernel: put right');
    } catch (error) {
      this.acls.problem = textOf(error);
      throw error;
    }
  }

  /** Attaches anew what somebody detached; says so when that does not help. */
  #checkAttachments(): void {
    const inert = this.#datapath.attachments().filter((at) => !at.effective);
    if (inert.length === 0) return;
    const hooks = inert.map((at) => at.hook).join(', ');
    try {
      if (this.#datapath.heal()) {
        this.#log.warn({ hooks }, 'programs were not in effect: attached anew');
        return;
      }
      this.#problem = `not in effect: ${hooks}`;
    } catch (error) {
      this.#problem = `not in effect: ${hooks}: ${textOf(error)}`;
    }
  }

  /** Addresses, users and groups of this host: what rules mean may have changed with them. */
  async refreshAcls(what: 'addresses' | 'identities'): Promise<void> {
    if (!this.#isStarted) return;
    try {
      const { enforcer } = this.acls;
      const changed =
        what === 'addresses'
          ? enforcer.addressesChanged()
          : await enforcer.identitiesChanged(this.#snapshot());
      if (!changed) return;
      const writes = enforcer.recompile(this.#snapshot(), this.#catalog());
      if (writes > 0) this.#log.info({ what, writes }, 'this host changed: rules compiled anew');
    } catch (error) {
      this.acls.problem = textOf(error);
      this.#log.error({ error }, 'this host changed, and its rules could not be compiled anew');
    }
  }

  status(): AgentStatus['datapath'] {
    const problem = this.#problem ?? this.acls.status().problem;
    return {
      state: problem === undefined ? 'in-sync' : 'degraded',
      ...(problem === undefined ? {} : { problem }),
      appliedRevision: this.#reconciler.appliedRevision,
      adoptedPins: this.#datapath.adopted,
      ...(this.#lastCheck === undefined ? {} : { lastFullCheckAt: this.#lastCheck.toISOString() }),
      repairedEntries: this.#repaired,
      counters: this.#datapath.counters(),
      attachments: this.#datapath.attachments(),
      maps: this.#fill(),
      degradedFeatures: this.#degraded,
    };
  }

  #fill(): MapFill[] {
    const { used } = this.#reconciler;
    const { maps } = this.#config;
    const row = (
      name: 'zh_vips' | 'zh_services' | 'zh_slots' | 'zh_backends',
      at: number,
      max: number,
    ): MapFill => ({ name, used: at, max, limit: limitOf[name] ?? '' });
    return [
      row('zh_vips', used.vips, maps.services * 2),
      row('zh_services', used.services, maps.services),
      row('zh_backends', used.backends, maps.backends),
      row('zh_slots', used.slots, maps.slots),
      ...this.acls.fill(),
    ];
  }

  close(): void {
    this.#isStarted = false;
    this.acls.close();
    this.#datapath.close();
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function explained<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw explain(error);
  }
}

function explain(error: unknown): unknown {
  if (error instanceof SetSizeError) {
    const hint = 'spread them over several services or ports';
    return new ProblemError([{ code: 'limit', message: error.message, hint }], { cause: error });
  }
  if (!(error instanceof LimitError)) return error;
  const hint = `raise maps.${error.limit} in the configuration and restart the agent; running connections are not touched`;
  return new ProblemError([{ code: 'limit', message: error.message, hint }], { cause: error });
}
