/** An Engine without a kernel or a disk: decides and remembers. */
import type {
  AgentStatus,
  Engine,
  Nodes,
  Outcome,
  SubmitOptions,
} from '../../../src/api/engine.ts';
import { buildCatalog, type Catalog } from '../../../src/catalog/catalog.ts';
import { ALONE, type CatalogContext } from '../../../src/catalog/context.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import { decide, type Command } from '../../../src/state/commands.ts';
import { ofNode } from '../../../src/state/owners.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import type { Change, StateSnapshot } from '../../../src/state/records.ts';
import { MetricsText } from '../../../src/telemetry/io/metrics.ts';
import { pools } from '../state/generators.ts';
import { FakeAcls } from './fake-acls.ts';
import { FakeDns } from './fake-dns.ts';
import { FakeKv } from './fake-kv.ts';
import { FakeCluster } from './fake-cluster.ts';

export class FakeEngine implements Engine {
  readonly acls = new FakeAcls();
  readonly kv = new FakeKv();
  readonly cluster = new FakeCluster();
  readonly dns = new FakeDns();
  readonly #metrics = new MetricsText(this);
  #snapshot = EMPTY_SNAPSHOT;
  /** Thrown by the next submit(). */
  failure: Error | undefined;
  cgroupPath = '/sys/fs/cgroup';

  /** What is known of others: who they are, and who cannot be reached. */
  known: Omit<CatalogContext, 'nodes'> & Nodes = { ...ALONE, records: new Map() };

  snapshot(): StateSnapshot {
    return this.#snapshot;
  }

  catalog(): Catalog {
    return buildCatalog(this.#snapshot, { ...this.known, nodes: this.known.records });
  }

  nodes(): Nodes {
    return this.known;
  }

  /** As another host wrote it. */
  receive(...changes: readonly Change[]): void {
    this.#snapshot = applyChanges(this.#snapshot, changes).snapshot;
  }

  async submit(command: Command, options: SubmitOptions = { dryRun: false }): Promise<Outcome> {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    const decision = decide(this.#snapshot, command, pools);
    if (decision.problems.length > 0) throw new ProblemError(decision.problems);
    const owned = decision.changes.map((change) => ofNode(change, 'local'));
    const { snapshot } = applyChanges(this.#snapshot, owned);
    if (!options.dryRun) this.#snapshot = snapshot;
    const { actions, warnings, changes } = decision;
    return await Promise.resolve({
      revision: snapshot.revision,
      changes: actions,
      warnings,
      mapWrites: changes.length,
    });
  }

  metrics(): Promise<string> {
    return this.#metrics.text();
  }

  status(): AgentStatus {
    return {
      version: '0.0.0',
      pid: process.pid,
      startedAt: '2026-01-01T00:00:00.000Z',
      revision: this.#snapshot.revision,
      services: this.#snapshot.services.size,
      backends: 0,
      node: 'test',
      dataDir: '/data',
      pinDir: '/pins',
      socketPath: '/socket',
      cgroupPath: this.cgroupPath,
      datapath: {
        state: 'in-sync',
        appliedRevision: this.#snapshot.revision,
        adoptedPins: false,
        repairedEntries: 0,
        counters: { spilled: 0, untracked: 0, flowsEvicted: 0, noSuchPort: 0 },
        attachments: [{ hook: 'cgroup/connect4', programId: 1, effective: true }],
        maps: [{ name: 'zh_vips', used: 1, max: 10, limit: 'maps.services' }],
        degradedFeatures: [],
      },
      acl: this.acls.status(),
      cluster: this.cluster.status(),
      dns: this.dns.status(),
      store: { documents: 2, updates: 3, bytes: 400 },
      memory: { rssBytes: 1, heapUsedBytes: 1 },
    };
  }
}
