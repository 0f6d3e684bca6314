/**
 * The composition root: store, catalog, reconciler, programs, API. One command
 * at a time goes through decide → plan → store → kernel, so that what cannot be
 * applied is never stored, and what was answered is both.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Access } from './acl/io/access.ts';
import { aclMode, chooseEnforcement } from './acl/io/enforcement.ts';
import type { PreparedPolicy } from './acl/io/enforcer.ts';
import { hostname } from 'node:os';
import type { AgentStatus, Engine, MapFill, Outcome, SubmitOptions } from './api/engine.ts';
import { startApi } from './api/io/server.ts';
import { claimSocketPath } from './api/io/socket.ts';
import { buildCatalog } from './catalog/catalog.ts';
import type { Catalog } from './catalog/catalog.ts';
import { loadServicesDir } from './config/io/load.ts';
import type { Config } from './config/schema.ts';
import { limitOf } from './datapath/hooks.ts';
import { openCgroup } from './datapath/io/cgroup.ts';
import type { Cgroup } from './datapath/io/cgroup.ts';
import { missingCapabilities, probeFeatures } from './datapath/io/features.ts';
import { KernelTables } from './datapath/io/kernel.ts';
import { Datapath } from './datapath/io/loader.ts';
import { lockPins } from './datapath/io/lock.ts';
import { Pins } from './datapath/io/pins.ts';
import { Reconciler } from './datapath/io/reconciler.ts';
import type { Prepared } from './datapath/io/reconciler.ts';
import { LimitError, SetSizeError } from './datapath/plan.ts';
import { keyToBytes } from './datapath/abi.ts';
import { cidrContains } from './net/cidr.ts';
import { applyChanges } from './state/changes.ts';
import { decide } from './state/commands.ts';
import type { Command } from './state/commands.ts';
import { deadOwners } from './state/io/owners.ts';
import { openStore } from './state/io/store.ts';
import { ProblemError } from './state/problem.ts';
import type { Change, StateSnapshot, StateStore } from './state/records.ts';
import type { Logger } from './telemetry/io/log.ts';
import { releaseMemorySoon } from './telemetry/io/memory.ts';
import { notifySystemd } from './telemetry/io/notify.ts';
import { version } from './version.ts';

/** After a write that the kernel refused. A guess. */
const retryMs = 1000;

/** What one step of the start may take. 10,000 rules are 3 s of work; emulated, a minute. A guess. */
const startStepMs = 300_000;

/** Of a repair, in one log record. */
const reasonsMax = 100;

/** Changes at once that leave enough garbage to be worth a collection. A guess. */
const burstChanges = 1000;

/** How often a plan waits for freed entries to have rested (datapath/allocate.ts). A guess. */
const restTries = 3;

/** How often this host's addresses are looked at. A guess: how long a new one may be open. */
const addressCheckMs = 1500;

export class Agent implements Engine {
  readonly acls: Access;
  readonly #config: Config;
  readonly #log: Logger;
  readonly #cgroup: Cgroup;
  readonly #store: StateStore;
  readonly #datapath: Datapath;
  readonly #reconciler: Reconciler;
  readonly #startedAt = new Date();
  readonly #degraded: readonly string[];
  #catalog: Catalog;
  #queue: Promise<unknown> = Promise.resolve();
  #problem: string | undefined;
  #lastCheck: Date | undefined;
  #repaired = 0;

  constructor(config: Config, log: Logger, store: StateStore, cgroup: Cgroup, pins: Pins) {
    this.#config = config;
    this.#log = log;
    this.#store = store;
    this.#cgroup = cgroup;
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
    this.#catalog = buildCatalog(store.snapshot());
    this.acls = new Access({
      enforcement,
      defaultAction: config.acl.defaultAction,
      sizes: maps,
      cgroupPath: cgroup.path,
      attacher: this.#datapath,
      openMap: (name) => this.#datapath.map(name),
      snapshot: () => this.#store.snapshot(),
      catalog: () => this.#catalog,
    });
  }

  /** Fills the tables, then attaches: no program ever runs over half of them. */
  async start(): Promise<void> {
    const adopted = this.#datapath.adopted;
    const fill = this.#explained(() => this.#reconciler.prepareWhole(this.#catalog));
    // Rules before services: nothing is reachable unguarded for a moment.
    await this.#startAcls();
    fill.apply();
    this.#datapath.activate();
    this.acls.enforcer.settle();
    const { revision, services } = this.#catalog;
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

  async #startAcls(): Promise<void> {
    const adopted = this.#datapath.adoptedAcl;
    const { writes, reasons } = await this.acls.enforcer.start(this.snapshot(), this.#catalog);
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

  snapshot(): StateSnapshot {
    return this.#store.snapshot();
  }

  submit(command: Command, options: SubmitOptions = { dryRun: false }): Promise<Outcome> {
    return this.#exclusive(async () => {
      const { vipCidr4, vipPrefix6 } = this.#config;
      const decision = decide(this.#store.snapshot(), command, { v4: vipCidr4, v6: vipPrefix6 });
      if (decision.problems.length > 0) throw new ProblemError(decision.problems);
      const { warnings, ...done } = await this.#commit(decision.changes, options.dryRun);
      return {
        ...done,
        changes: decision.actions,
        warnings: [...decision.warnings, ...warnings],
      };
    });
  }

  /** Removes backends whose owning process is gone (`zerohop run`, killed). */
  async reapOwners(): Promise<void> {
    await this.#exclusive(async () => {
      try {
        const changes = deadOwners(this.#store.snapshot());
        if (changes.length === 0) return;
        await this.#commit(changes, false);
        this.#log.info({ changes }, 'removed backends of processes that are gone');
      } catch (error) {
        // A full disk or map; tried again at the next look.
        this.#log.error({ error }, 'backends of processes that are gone were not removed');
      }
    });
  }

  /** The periodic full comparison with the kernel. */
  async check(): Promise<void> {
    await this.#exclusive(() => {
      try {
        const repair = this.#reconciler.check(this.#catalog);
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
        this.#problem = error instanceof Error ? error.message : String(error);
        this.#log.error({ error }, 'the comparison with the kernel failed');
      }
      return Promise.resolve();
    });
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
      this.acls.problem = error instanceof Error ? error.message : String(error);
      throw error;
    }
  }

  /** Addresses, users and groups of this host: what rules mean may have changed with them. */
  async refreshAcls(what: 'addresses' | 'identities'): Promise<void> {
    await this.#exclusive(async () => {
      try {
        const { enforcer } = this.acls;
        const changed =
          what === 'addresses'
            ? enforcer.addressesChanged()
            : await enforcer.identitiesChanged(this.snapshot());
        if (!changed) return;
        const writes = enforcer.recompile(this.snapshot(), this.#catalog);
        if (writes > 0) this.#log.info({ what, writes }, 'this host changed: rules compiled anew');
      } catch (error) {
        this.acls.problem = error instanceof Error ? error.message : String(error);
        this.#log.error({ error }, 'this host changed, and its rules could not be compiled anew');
      }
    });
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
      this.#problem = `not in effect: ${hooks}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  status(): AgentStatus {
    const { socketPath, dataDir, pinDir } = this.#config;
    const snapshot = this.#store.snapshot();
    const memory = process.memoryUsage();
    let backends = 0;
    for (const list of snapshot.backends.values()) backends += list.length;
    return {
      version: version(),
      pid: process.pid,
      startedAt: this.#startedAt.toISOString(),
      revision: snapshot.revision,
      services: snapshot.services.size,
      backends,
      node: hostname(),
      dataDir,
      pinDir,
      socketPath,
      cgroupPath: this.#cgroup.path,
      datapath: this.#datapathStatus(),
      acl: this.acls.status(),
      memory: { rssBytes: memory.rss, heapUsedBytes: memory.heapUsed },
    };
  }

  close(): void {
    this.acls.close();
    this.#datapath.close();
    this.#store.close();
  }

  #datapathStatus(): AgentStatus['datapath'] {
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
    ): MapFill => ({
      name,
      used: at,
      max,
      limit: limitOf[name] ?? '',
    });
    return [
      row('zh_vips', used.vips, maps.services * 2),
      row('zh_services', used.services, maps.services),
      row('zh_backends', used.backends, maps.backends),
      row('zh_slots', used.slots, maps.slots),
      ...this.acls.fill(),
    ];
  }

  /** Plan, then store, then kernel; a plan that does not fit stores nothing. */
  async #commit(
    changes: readonly Change[],
    dryRun: boolean,
  ): Promise<Pick<Outcome, 'revision' | 'mapWrites' | 'warnings'>> {
    const before = this.#store.snapshot();
    if (changes.length === 0) return { revision: before.revision, mapWrites: 0, warnings: [] };
    const { snapshot, touched, aclsChanged } = applyChanges(before, changes);
    const catalog = buildCatalog(snapshot, { catalog: this.#catalog, touched });
    const acls = aclsChanged
      ? changes.flatMap((change) => (change.kind === 'put-acl' ? [change.acl] : []))
      : undefined;
    const policy = await this.acls.enforcer.prepare(snapshot, catalog, { touched, acls });
    const prepared = await this.#prepare(catalog, touched);
    const mapWrites = policy.writes + prepared.writes;
    const done = { revision: snapshot.revision, mapWrites, warnings: policy.warnings };
    if (dryRun) {
      prepared.abandon();
      return { ...done, revision: before.revision };
    }
    try {
      this.#store.commit(changes, snapshot);
    } catch (error) {
      prepared.abandon();
      throw error;
    }
    this.#catalog = catalog;
    this.#applyStored(prepared, policy);
    if (changes.length >= burstChanges) releaseMemorySoon();
    return done;
  }

  #applyStored(prepared: Prepared, policy: PreparedPolicy): void {
    let applied = false;
    try {
      policy.apply(() => {
        applied = true;
        prepared.apply();
      });
      this.acls.settle();
    } catch (error) {
      // Nothing of the services is written then, and the whole is compared at the next check.
      if (!applied) prepared.abandon();
      const why = error instanceof Error ? error.message : String(error);
      this.#problem = why;
      this.#log.error({ error }, 'the kernel refused a change that is stored; it is tried again');
      setTimeout(() => void this.check(), retryMs).unref();
      throw new ProblemError(
        [
          {
            code: 'kernel',
            message: `stored, but not in the kernel yet: ${why}`,
            hint: 'the agent tries again in a second, and at every full check; see zerohop status',
          },
        ],
        { cause: error },
      );
    }
  }

  async #prepare(catalog: Catalog, touched: Iterable<string>): Promise<Prepared> {
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

  #explained<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw explain(error);
    }
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}

function explain(error: unknown): unknown {
  if (error instanceof SetSizeError) {
    const hint = 'spread them over several services or ports';
    return new ProblemError([{ code: 'limit', message: error.message, hint }], { cause: error });
  }
  if (!(error instanceof LimitError)) return error;
  return new ProblemError(
    [
      {
        code: 'limit',
        message: error.message,
        hint: `raise maps.${error.limit} in the configuration and restart the agent; running connections are not touched`,
      },
    ],
    { cause: error },
  );
}

/** Applies services.d; what is wrong in one file is logged and spoils no other. */
async function applyServicesDir(agent: Agent, config: Config, log: Logger): Promise<void> {
  if (config.servicesDir === undefined) return;
  const { files, problems } = loadServicesDir(config.servicesDir);
  for (const problem of problems) log.error({ problem }, 'a file of services.d was left out');
  for (const file of files) {
    const { path, documents } = file;
    try {
      const { changes } = await agent.submit({ kind: 'apply', documents });
      log.info({ path, changes: changes.length }, 'applied');
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const located = file.locate(error.problems);
      log.error({ path, problems: located }, 'a file of services.d was left out');
    }
  }
}

/** Resolves with the signal that ends the agent; SIGHUP reads services.d again. */
function untilStopped(agent: Agent, config: Config, log: Logger): Promise<NodeJS.Signals> {
  process.on('SIGHUP', () => {
    void notifySystemd({ state: 'RELOADING' })
      .then(() => agent.refreshAcls('identities'))
      .then(() => applyServicesDir(agent, config, log))
      .catch((error: unknown) => log.error({ error }, 'services.d was not applied'))
      .then(() => notifySystemd({ state: 'READY' }));
  });
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
}

function checkCapabilities(): void {
  const missing = missingCapabilities();
  if (missing.length === 0) return;
  throw new ProblemError([
    {
      code: 'unavailable',
      message: `missing capabilities: ${missing.join(', ')}`,
      hint: 'run the agent as root, or through the systemd unit that ships with it',
    },
  ]);
}

/** Runs until SIGTERM or SIGINT. Throws ProblemError when it cannot start. */
export async function runAgent(config: Config, log: Logger): Promise<number> {
  checkCapabilities();
  const cgroup = openCgroup(config.cgroupPath);
  const pins = new Pins(config.pinDir);
  pins.prepare();
  const lock = lockPins(config.pinDir);
  // Before anything is touched: a living agent's socket means another one's host.
  await claimSocketPath(config.socketPath);
  pins.sweep();
  // Each step may be long on a slow machine, and lets no timer run meanwhile.
  const step = (): void => void notifySystemd({ startTimeoutMs: startStepMs });
  step();
  const store = openStore(config.dataDir);
  const agent = new Agent(config, log, store, cgroup, pins);
  step();
  await agent.start();
  step();
  await applyServicesDir(agent, config, log);
  const api = await startApi(agent, {
    socketPath: config.socketPath,
    version: version(),
    log,
  });
  const stopped = untilStopped(agent, config, log);
  const timers = [
    setInterval(() => {
      void agent.refreshAcls('identities');
      void agent.check();
    }, config.fullCheckIntervalMs),
    setInterval(() => void agent.refreshAcls('addresses'), addressCheckMs),
    setInterval(() => void agent.reapOwners(), config.ownerCheckIntervalMs),
  ];
  const { services, revision } = agent.status();
  log.info(
    { pid: process.pid, socket: config.socketPath, cgroup: cgroup.path, services, revision },
    'ready',
  );
  await notifySystemd({ state: 'READY', status: 'serving' });
  releaseMemorySoon();
  const signal = await stopped;
  log.info({ signal }, 'stopping; the kernel goes on with what is pinned');
  await notifySystemd({ state: 'STOPPING' });
  for (const timer of timers) clearInterval(timer);
  await api.close();
  agent.close();
  lock.release();
  return 0;
}
