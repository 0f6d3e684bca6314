/**
 * The composition root: state, catalog, kernel, cluster, API. What happens with
 * a write is in agent/io/pipeline.ts, with other hosts in agent/io/cluster.ts.
 */
import { hostname } from 'node:os';
import type {
  AgentStatus,
  DnsEngine,
  Engine,
  Nodes,
  Outcome,
  SubmitOptions,
} from './api/engine.ts';
import { startApi } from './api/io/server.ts';
import { claimSocketPath } from './api/io/socket.ts';
import { Cluster } from './agent/io/cluster.ts';
import { hasOthers } from './agent/io/enrolment.ts';
import { HostKernel } from './agent/io/host-kernel.ts';
import { Pipeline } from './agent/io/pipeline.ts';
import { Resolver } from './agent/io/resolver.ts';
import type { Catalog } from './catalog/catalog.ts';
import { loadServicesDir } from './config/io/load.ts';
import type { Config } from './config/schema.ts';
import { openCgroup, type Cgroup } from './datapath/io/cgroup.ts';
import { missingCapabilities } from './datapath/io/features.ts';
import { lockPins } from './datapath/io/lock.ts';
import { Pins } from './datapath/io/pins.ts';
import { Health } from './health/io/health.ts';
import type { Command } from './state/commands.ts';
import { State } from './state/io/state.ts';
import { KvStore } from './state/kv.ts';
import { StoreError } from './state/io/store-error.ts';
import { ProblemError } from './state/problem.ts';
import type { StateSnapshot } from './state/records.ts';
import type { Logger } from './telemetry/io/log.ts';
import { releaseMemorySoon } from './telemetry/io/memory.ts';
import { startMetrics } from './telemetry/io/metrics-server.ts';
import { MetricsText } from './telemetry/io/metrics.ts';
import { notifySystemd } from './telemetry/io/notify.ts';
import { version } from './version.ts';

/** What one step of the start may take. 10,000 rules are 3 s of work; emulated, a minute. A guess. */
const startStepMs = 300_000;

/** How often this host's addresses are looked at. A guess: how long a new one may be open. */
const addressCheckMs = 1500;

/** How often what the disk refused is tried again, and whether history can be dropped. A guess. */
const diskCheckMs = 5000;

export class Agent implements Engine {
  readonly cluster: Cluster;
  readonly kv: KvStore;
  readonly #config: Config;
  readonly #cgroup: Cgroup;
  readonly #state: State;
  readonly #pipeline: Pipeline;
  readonly #kernel: HostKernel;
  readonly #health: Health;
  readonly #resolver: Resolver;
  readonly #startedAt = new Date();
  readonly #metrics = new MetricsText(this);

  constructor(config: Config, log: Logger, state: State, cgroup: Cgroup, pins: Pins) {
    this.#config = config;
    this.#cgroup = cgroup;
    this.#state = state;
    const pipeline = new Pipeline(config, log, state);
    this.#pipeline = pipeline;
    this.#kernel = new HostKernel({
      config,
      log,
      cgroup,
      pins,
      snapshot: () => state.snapshot(),
      catalog: () => pipeline.catalog,
    });
    this.#health = new Health({
      settings: config.health,
      log,
      world: () => ({ self: state.node, snapshot: state.snapshot(), nodes: state.view.nodes() }),
      changed: (unhealthy) => pipeline.unhealthy(unhealthy),
    });
    this.cluster = new Cluster(config, log, pipeline, this.#health);
    this.#resolver = new Resolver({ config, log, cgroup, pins, state, pipeline });
    this.kv = new KvStore({
      kv: () => state.kv,
      exclusive: (work) => pipeline.exclusive(work),
      write: (writes) => pipeline.writeNow(writes).changed,
    });
    pipeline.listen((changed) => this.kv.changed(changed));
    pipeline.aroundRebase((work) => this.kv.replaced(work));
  }

  get acls(): HostKernel['acls'] {
    return this.#kernel.acls;
  }

  get dns(): DnsEngine {
    return this.#resolver.engine;
  }

  /** The cluster and a look around first: what is known to be dead is not put into the kernel. */
  async start(): Promise<void> {
    await this.cluster.start();
    await this.cluster.caughtUp();
    await this.#health.start();
    await this.#pipeline.start(this.#kernel);
    await this.#resolver.start();
  }

  snapshot(): StateSnapshot {
    return this.#state.snapshot();
  }

  catalog(): Catalog {
    return this.#pipeline.catalog;
  }

  nodes(): Nodes {
    const { node, view } = this.#state;
    return { self: node, records: view.nodes() };
  }

  submit(command: Command, options: SubmitOptions = { dryRun: false }): Promise<Outcome> {
    return this.#pipeline.submit(command, options);
  }

  /** What is looked at now and then, as nobody tells of it. */
  async look(at: 'kernel' | 'owners' | 'addresses' | 'identities' | 'disk'): Promise<void> {
    const pipeline = this.#pipeline;
    if (at === 'owners') return pipeline.reapOwners();
    if (at === 'disk') return pipeline.tidy(this.cluster.rank);
    if (at === 'addresses') {
      this.#resolver.look();
      await this.cluster.refresh();
    }
    const areTablesRight = at === 'kernel' && (await this.#kernel.isAsApplied());
    return pipeline.exclusive(async () => {
      if (at === 'kernel') this.#kernel.check(areTablesRight);
      else await this.#kernel.refreshAcls(at);
    });
  }

  status(): AgentStatus {
    const { socketPath, dataDir, pinDir } = this.#config;
    const snapshot = this.#state.snapshot();
    const memory = process.memoryUsage();
    let backends = 0;
    for (const list of snapshot.backends.values()) backends += list.length;
    const datapath = this.#kernel.status();
    const { problem } = this.#pipeline;
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
      datapath:
        problem === undefined || datapath.problem !== undefined
          ? datapath
          : { ...datapath, state: 'degraded', problem },
      acl: this.acls.status(),
      cluster: this.cluster.status(),
      dns: this.dns.status(),
      store: this.#state.storeSize,
      memory: { rssBytes: memory.rss, heapUsedBytes: memory.heapUsed },
    };
  }

  /** What can wait until the agent serves. */
  warm(): void {
    this.#resolver.warm();
  }

  metrics(): Promise<string> {
    return this.#metrics.text();
  }

  /** `goodbye`: other hosts let go of this one's backends before it ends. */
  async close(goodbye: boolean): Promise<void> {
    this.#health.close();
    await this.cluster.stop(goodbye);
    await this.#resolver.close();
    await this.#pipeline.close();
    this.#kernel.close();
    this.#state.close();
  }
}

const COPIED =
  'state.db is not the file that it was (a restored backup, or moved to another disk): what this ' +
  'host writes from now on has a new id, and what it lacks comes from the other members';

/** A member of a cluster whose state is damaged gets it back from the others, if there are any. */
function openState(config: Config, log: Logger): State {
  try {
    const state = State.open(config.dataDir);
    if (state.isCopy) log.warn({ dataDir: config.dataDir }, COPIED);
    return state;
  } catch (error) {
    if (!(error instanceof StoreError) || error.reason !== 'damaged') throw error;
    if (!hasOthers(config, log)) throw error;
    const moved = State.setAside(config.dataDir);
    log.error(
      { error, moved },
      'the state is damaged: set aside; the other members have all of it',
    );
    return State.open(config.dataDir);
  }
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
      .then(() => agent.look('identities'))
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
  const agent = new Agent(config, log, openState(config, log), cgroup, pins);
  step();
  await agent.start();
  step();
  await applyServicesDir(agent, config, log);
  const api = await startApi(agent, {
    socketPath: config.socketPath,
    version: version(),
    log,
  });
  const { listen } = config.metrics;
  const metrics = listen && startMetrics(() => agent.metrics(), { ...listen, log });
  const stopped = untilStopped(agent, config, log);
  // A look that fails ends nobody's connections: the next one may do better.
  const look = (at: Parameters<Agent['look']>[0]): void =>
    void agent
      .look(at)
      .catch((error: unknown) => log.error({ error, at }, 'a look at this host failed'));
  const timers = [
    setInterval(() => {
      look('identities');
      look('kernel');
    }, config.fullCheckIntervalMs),
    setInterval(() => look('addresses'), addressCheckMs),
    setInterval(() => look('owners'), config.ownerCheckIntervalMs),
    setInterval(() => look('disk'), diskCheckMs),
  ];
  const { services, revision } = agent.status();
  log.info(
    { pid: process.pid, socket: config.socketPath, cgroup: cgroup.path, services, revision },
    'ready',
  );
  await notifySystemd({ state: 'READY', status: 'serving' });
  agent.warm();
  releaseMemorySoon();
  const signal = await stopped;
  log.info({ signal }, 'stopping; the kernel goes on with what is pinned');
  await notifySystemd({ state: 'STOPPING' });
  for (const timer of timers) clearInterval(timer);
  // Before the API ends: what it answers last was told to the others.
  await agent.close(true);
  await Promise.all([api.close(), metrics?.close()]);
  lock.release();
  return 0;
}
