/** An agent without its API and kernel: state on a real disk, pipeline, cluster; and tables with a limit. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../../../src/agent/io/cluster.ts';
import type { HostKernel, NextState, PreparedState } from '../../../src/agent/io/host-kernel.ts';
import { Pipeline } from '../../../src/agent/io/pipeline.ts';
import type { CatalogService } from '../../../src/catalog/catalog.ts';
import { configSchema } from '../../../src/config/schema.ts';
import type { Document } from '../../../src/state/documents.ts';
import { State } from '../../../src/state/io/state.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { Replica, type Changed, type Update } from '../../../src/state/replica/replica.ts';
import { writeNode } from '../../../src/state/replica/schema.ts';
import { StateView } from '../../../src/state/replica/view.ts';
import type { Change } from '../../../src/state/records.ts';
import type { Logger } from '../../../src/telemetry/io/log.ts';

/** Tables for so many services, as HostKernel keeps them. */
export class FakeKernel {
  services = new Map<string, CatalogService>();
  /** Names of the services of each plan. */
  readonly plans: (readonly string[])[] = [];
  /** What is in force after each. */
  readonly applied: {
    readonly revision: number;
    readonly services: number;
    readonly rules: number;
  }[] = [];
  servicesMax = Infinity;
  backendsMax = Infinity;
  rulesMax = Infinity;
  /** Names of those in force. */
  rules: readonly string[] = [];
  isFilled = false;
  isHeld = false;
  /** Runs while the tables are filled for the first time. */
  whileStarting: () => void = () => undefined;
  /** Runs once, while something is planned. */
  whilePlanning: () => void = () => undefined;
  isRefusing = false;
  readonly #pipeline: () => Pipeline;

  constructor(pipeline: () => Pipeline) {
    this.#pipeline = pipeline;
  }

  /** Of what is there before the first fill: another agent's. */
  held(): ReadonlyMap<string, CatalogService> {
    return this.services;
  }

  async start(rest: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    const { services } = this.#pipeline().catalog;
    this.#refuse(services, this.#pipeline().state.snapshot().acls.size);
    this.services = new Map(services);
    this.rules = [...this.#pipeline().state.snapshot().acls.keys()];
    await sleep(0);
    this.whileStarting();
    await sleep(0);
    await rest();
    this.isFilled = true;
  }

  hold(why: string): string {
    this.isHeld = true;
    return `the rules do not fit, and all stays: ${why}`;
  }

  async prepare({ snapshot, catalog, touched, acls }: NextState): Promise<PreparedState> {
    await sleep(0);
    const names = [...touched];
    this.plans.push(names);
    const next = new Map(this.services);
    for (const name of names) {
      const service = catalog.services.get(name);
      if (service === undefined) next.delete(name);
      else next.set(name, service);
    }
    this.#refuse(next, acls === undefined ? 0 : snapshot.acls.size);
    const { whilePlanning } = this;
    this.whilePlanning = () => undefined;
    whilePlanning();
    return {
      writes: names.length,
      warnings: [],
      abandon: () => undefined,
      apply: () => {
        if (this.isRefusing) throw new Error('EPERM');
        this.services = next;
        if (acls !== undefined) this.rules = [...snapshot.acls.keys()];
        const [services, rules] = [next.size, this.rules.length];
        this.applied.push({ revision: catalog.revision, services, rules });
      },
    };
  }

  #refuse(services: ReadonlyMap<string, CatalogService>, rules: number): void {
    const backends = [...services.values()].flatMap(({ ports }) =>
      ports.flatMap((port) => port.backends),
    );
    for (const [what, used, max] of [
      ['services', services.size, this.servicesMax],
      ['backends', backends.length, this.backendsMax],
      ['rules', rules, this.rulesMax],
    ] as const)
      if (used > max)
        throw new ProblemError([{ code: 'limit', message: `${what} is full`, hint: 'raise it' }]);
  }

  check(): void {
    this.services = new Map(this.#pipeline().catalog.services);
  }

  /** Addresses that connects to a service go to. */
  takers(name: string): string[] {
    const ports = this.services.get(name)?.ports ?? [];
    return ports.flatMap(({ backends }) =>
      backends.flatMap(({ address, down }) => (down === undefined ? [address] : [])),
    );
  }
}

export class AgentHost {
  readonly directory: string;
  readonly log: string[] = [];
  readonly logger: Logger;
  readonly state: State;
  readonly pipeline: Pipeline;
  readonly kernel: FakeKernel;
  readonly cluster: Cluster;

  constructor(directory: string, port = 0) {
    this.directory = directory;
    const parsed = configSchema.parse({ dataDir: directory });
    const listen = { host: '127.0.0.1', port };
    const config = { ...parsed, cluster: { ...parsed.cluster, listen } };
    const note =
      (level: string) =>
      (fields: object, message: string): void => {
        this.log.push(`${level} ${message} ${JSON.stringify(fields)}`);
      };
    const levels = { debug: note('debug'), info: note('info'), warn: note('warn') };
    const log = { ...levels, error: note('error') } as unknown as Logger;
    this.logger = log;
    this.state = State.open(directory);
    this.pipeline = new Pipeline(config, log, this.state);
    this.kernel = new FakeKernel(() => this.pipeline);
    this.cluster = new Cluster(config, log, this.pipeline);
  }

  async start(): Promise<void> {
    await this.cluster.start();
    await this.cluster.caughtUp();
    await this.pipeline.start(this.kernel as unknown as HostKernel);
  }

  async apply(...documents: readonly Document[]): Promise<void> {
    await this.pipeline.submit({ kind: 'apply', documents }, { dryRun: false });
  }

  /** As Agent.close. */
  async close(): Promise<void> {
    await this.cluster.stop(false);
    await this.pipeline.close();
    this.state.close();
  }
}

/** Another host that writes, and is heard by whoever is told of it. */
export class Stranger {
  readonly replica = Replica.open({ node: 'b'.repeat(26), writer: 77 });
  readonly #view = StateView.open(this.replica);

  commit(changes: readonly Change[], nowMs = Date.now()): readonly Update[] {
    const { updates, changed } = this.replica.transact(this.#view.writes(changes).writes, nowMs);
    this.#view.follow(changed);
    return updates;
  }

  /** Which addresses are its own. */
  tellOfSelf(address: string): readonly Update[] {
    const about = { name: 'b', zone: '', version: '1', signer: false };
    const info = { ...about, address: `${address}:7946`, addresses: [address] };
    const write = { document: 'own', key: 'node/info', value: writeNode(info, undefined) } as const;
    return this.replica.transact([write], Date.now()).updates;
  }
}

/** As a member tells its agent of what others wrote. */
export function tell({ state, pipeline }: AgentHost, updates: readonly Update[]): void {
  const changed: Changed[] = [];
  for (const update of updates) changed.push(...state.replica.receive(update, Date.now()).changed);
  state.keep(updates, false);
  pipeline.changed(changed);
}
