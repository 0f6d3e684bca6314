/**
 * The composition root: store, catalog, kernel, API. One command at a time goes
 * through decide → plan → store → kernel, so that what cannot be applied is
 * never stored, and what was answered is both.
 */
import { hostname } from 'node:os';
import { HostKernel } from './agent/io/host-kernel.ts';
import type { AgentStatus, Engine, Outcome, SubmitOptions } from './api/engine.ts';
import { startApi } from './api/io/server.ts';
import { claimSocketPath } from './api/io/socket.ts';
import { buildCatalog } from './catalog/catalog.ts';
import type { Catalog } from './catalog/catalog.ts';
import { ALONE, type CatalogContext } from './catalog/context.ts';
import { loadServicesDir } from './config/io/load.ts';
import type { Config } from './config/schema.ts';
import { openCgroup } from './datapath/io/cgroup.ts';
import type { Cgroup } from './datapath/io/cgroup.ts';
import { missingCapabilities } from './datapath/io/features.ts';
import { lockPins } from './datapath/io/lock.ts';
import { Pins } from './datapath/io/pins.ts';
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

/** Changes at once that leave enough garbage to be worth a collection. A guess. */
const burstChanges = 1000;

/** How often this host's addresses are looked at. A guess: how long a new one may be open. */
const addressCheckMs = 1500;

export class Agent implements Engine {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #cgroup: Cgroup;
  readonly #store: StateStore;
  readonly #kernel: HostKernel;
  readonly #startedAt = new Date();
  readonly #context: CatalogContext;
  #catalog: Catalog;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: Config, log: Logger, store: StateStore, cgroup: Cgroup, pins: Pins) {
    this.#config = config;
    this.#log = log;
    this.#store = store;
    this.#cgroup = cgroup;
    const { vipCidr4, vipPrefix6 } = config;
    this.#context = { ...ALONE, pools: { v4: vipCidr4, v6: vipPrefix6 } };
    this.#catalog = buildCatalog(store.snapshot(), this.#context);
    this.#kernel = new HostKernel({
      config,
      log,
      cgroup,
      pins,
      snapshot: () => store.snapshot(),
      catalog: () => this.#catalog,
    });
  }

  get acls(): HostKernel['acls'] {
    return this.#kernel.acls;
  }

  async start(): Promise<void> {
    await this.#kernel.start();
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
    await this.#exclusive(() => Promise.resolve(this.#kernel.check()));
  }

  /** Addresses, users and groups of this host: what rules mean may have changed with them. */
  async refreshAcls(what: 'addresses' | 'identities'): Promise<void> {
    await this.#exclusive(() => this.#kernel.refreshAcls(what));
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
      datapath: this.#kernel.status(),
      acl: this.acls.status(),
      memory: { rssBytes: memory.rss, heapUsedBytes: memory.heapUsed },
    };
  }

  close(): void {
    this.#kernel.close();
    this.#store.close();
  }

  /** Plan, then store, then kernel; a plan that does not fit stores nothing. */
  async #commit(
    changes: readonly Change[],
    dryRun: boolean,
  ): Promise<Pick<Outcome, 'revision' | 'mapWrites' | 'warnings'>> {
    const before = this.#store.snapshot();
    if (changes.length === 0) return { revision: before.revision, mapWrites: 0, warnings: [] };
    const { snapshot, touched: changed, aclsChanged } = applyChanges(before, changes);
    const previous = { catalog: this.#catalog, touched: changed };
    const catalog = buildCatalog(snapshot, this.#context, previous);
    const { touched } = catalog;
    const acls = aclsChanged
      ? changes.flatMap((change) => (change.kind === 'put-acl' ? [change.acl] : []))
      : undefined;
    const prepared = await this.#kernel.prepare({ snapshot, catalog, touched, acls });
    const { writes: mapWrites, warnings } = prepared;
    if (dryRun) {
      prepared.abandon();
      return { revision: before.revision, mapWrites, warnings };
    }
    try {
      this.#store.commit(changes, snapshot);
    } catch (error) {
      prepared.abandon();
      throw error;
    }
    this.#catalog = catalog;
    try {
      prepared.apply();
    } catch (error) {
      this.#log.error({ error }, 'the kernel refused a change that is stored; it is tried again');
      setTimeout(() => void this.check(), retryMs).unref();
      throw refusedByKernel(error);
    }
    if (changes.length >= burstChanges) releaseMemorySoon();
    return { revision: snapshot.revision, mapWrites, warnings };
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}

function refusedByKernel(error: unknown): ProblemError {
  const why = error instanceof Error ? error.message : String(error);
  const message = `stored, but not in the kernel yet: ${why}`;
  const hint = 'the agent tries again in a second, and at every full check; see zerohop status';
  return new ProblemError([{ code: 'kernel', message, hint }], { cause: error });
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
