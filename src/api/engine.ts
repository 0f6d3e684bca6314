/**
 * What the API asks of the agent. agent.ts implements it; tests may fake it.
 */
import type { Catalog } from '../catalog/catalog.ts';
import type { StateSnapshot } from '../state/records.ts';
import type { Command } from '../state/commands.ts';
import type { Action } from '../state/draft.ts';
import type { Problem } from '../state/problem.ts';
import type { AclLogEntry } from '../acl/event.ts';
import type { Metrics } from '../cluster/io/metrics.ts';
import type { DnsReading } from '../dns/counters.ts';
import type { KvEntry } from '../state/kv-text.ts';
import type { NodeRecord } from '../state/replica/schema.ts';
import type { KvChange, KvOperation, KvType, Path } from '../state/replica/kv.ts';
import type { AclLogAnswer, AclStatusAnswer, AclTestAnswer, AclTestBody } from './acl-schemas.ts';
import type {
  ClusterAnswer,
  IssuedTokenAnswer,
  JoinBody,
  MemberAnswer,
  RouteAnswer,
  TokenAnswer,
  TokenBody,
} from './cluster-schemas.ts';

import type { DnsQueryAnswer, DnsQuestion, DnsStatusAnswer, DnsZoneAnswer } from './dns-schemas.ts';

export interface SubmitOptions {
  /** Decide and plan, but neither store nor apply. */
  readonly dryRun: boolean;
}

export interface Outcome {
  readonly revision: number;
  /** One line per thing created, changed or removed; empty when nothing had to change. */
  readonly changes: readonly Action[];
  /** Done all the same, but probably not what was meant (Decision.warnings). */
  readonly warnings: readonly Problem[];
  /** Writes sent to the kernel's maps. */
  readonly mapWrites: number;
}

export interface MapFill {
  readonly name: string;
  readonly used: number;
  readonly max: number;
  /** The configuration key that raises `max`. */
  readonly limit: string;
}

export interface AgentStatus {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly revision: number;
  readonly services: number;
  readonly backends: number;
  readonly node: string;
  readonly dataDir: string;
  readonly pinDir: string;
  readonly socketPath: string;
  readonly cgroupPath: string;
  readonly datapath: {
    readonly state: 'in-sync' | 'degraded';
    /** Why it is degraded, and what to do; absent when in sync. */
    readonly problem?: string;
    readonly appliedRevision: number;
    readonly adoptedPins: boolean;
    readonly lastFullCheckAt?: string;
    /** Map entries that the periodic comparison had to put right since start. */
    readonly repairedEntries: number;
    /** Counted by the programs since the maps were made (struct zh_counters of bpf/abi.h). */
    readonly counters: {
      readonly spilled: number;
      readonly untracked: number;
      readonly flowsEvicted: number;
      readonly noSuchPort: number;
    };
    readonly attachments: readonly {
      readonly hook: string;
      readonly programId: number;
      readonly effective: boolean;
    }[];
    readonly maps: readonly MapFill[];
    readonly degradedFeatures: readonly string[];
  };
  readonly acl: AclStatusAnswer;
  readonly cluster: ClusterAnswer;
  readonly dns: DnsStatusAnswer;
  /** What is on this host's disk: documents, updates of them, and their bytes. */
  readonly store: { readonly documents: number; readonly updates: number; readonly bytes: number };
  readonly memory: { readonly rssBytes: number; readonly heapUsedBytes: number };
}

export interface AclCounters {
  readonly denied: number;
  readonly allowed: number;
  readonly audited: number;
}

/** Whoever follows the log of verdicts. */
export interface AclFollower {
  entry(entry: AclLogEntry): void;
  /** That this many were lost in the kernel since the last call. */
  dropped(count: number): void;
}

/** What the API asks about rules, beside what the snapshot says. */
export interface AclEngine {
  status(): AclStatusAnswer;
  counters(rule: string): AclCounters;
  /** Denied because no rule names the destination. */
  deniedByDefault(): number;
  /** Parts of a rule that select nobody now. */
  warnings(rule: string): readonly string[];
  /** Rejects with ProblemError when the question makes no sense. */
  test(question: AclTestBody): Promise<AclTestAnswer>;
  /** The last `limit` verdicts, of one rule or all. */
  log(limit: number, rule: string | undefined): AclLogAnswer;
  /** From now on, until the answer is called. */
  follow(follower: AclFollower): () => void;
}

/** What the API asks about the cluster. Where it must be a member, or must not be, it throws ProblemError. */
export interface ClusterEngine {
  status(): ClusterAnswer;
  /** Founds a cluster with this host as its first member. */
  init(): Promise<ClusterAnswer>;
  /** Resolves when this host is a member and runs as one; the cluster's state may still be on its way. */
  join(how: JoinBody): Promise<ClusterAnswer>;
  /** Resolves when others have let go of this host and its certificate is gone. */
  leave(): Promise<ClusterAnswer>;
  tokens(): readonly TokenAnswer[];
  /** On disk when it returns. */
  issueToken(body: TokenBody): IssuedTokenAnswer;
  /** An open token of this host; false where there is none. */
  withdrawToken(id: string): boolean;
  /** `node` is an id here. In force on this host, and stored, when it resolves. */
  revoke(who: { readonly node: string; readonly reason: string }): Promise<void>;
  /** This host included; none outside a cluster. */
  members(): readonly MemberAnswer[];
  routes(): readonly RouteAnswer[];
  /** What the transport counted since the membership began; undefined outside a cluster. */
  counters(): Readonly<Metrics> | undefined;
}

/** The key-value store; KvStore of state/kv.ts is one. A path of no names is all of it. */
export interface KvEngine {
  /** What is at `path` and below it; with a type only that at `path`, `map`: all below. Throws ProblemError. */
  read(path: Path, type?: KvType): readonly KvEntry[];
  /** All operations or none, stored when it resolves; rejects with ProblemError. */
  write(operations: readonly KvOperation[]): Promise<readonly KvChange[]>;
  /** Changes at `path` and below it from now on, whoever makes them, until the answer is called. */
  follow(path: Path, sink: (change: KvChange) => void): () => void;
}

/** What the API asks of the resolver; Dns of dns/io/dns.ts is one, dns/off.ts where it is turned off. */
export interface DnsEngine {
  status(): DnsStatusAnswer;
  /** All that it answers by itself, in any order. */
  zone(): Omit<DnsZoneAnswer, 'entries'> & {
    readonly entries: Iterable<DnsZoneAnswer['entries'][number]>;
  };
  /** As a client on this host would be answered, without what goes with the wire. Never rejects for what upstreams do. */
  query(question: DnsQuestion): Promise<DnsQueryAnswer>;
  /** For the metrics; undefined: it is off. */
  read(): DnsReading | undefined;
  /** Forgets what others answered: of this name and all below it (the root is ''), or everything. How much it was. */
  flush(name?: string): number;
}

export interface Nodes {
  /** This host's id; `local` in no cluster. */
  readonly self: string;
  /** By id, what each says of itself. */
  readonly records: ReadonlyMap<string, NodeRecord>;
}

export interface Engine {
  readonly acls: AclEngine;
  readonly kv: KvEngine;
  readonly cluster: ClusterEngine;
  readonly dns: DnsEngine;
  snapshot(): StateSnapshot;
  /** What of the snapshot counts on this host; what others wrote just now may not be in it yet. */
  catalog(): Catalog;
  nodes(): Nodes;
  /**
   * Checks the command, plans the kernel's writes, stores durably, applies to
   * the kernel, in that order; resolves when connect() already obeys.
   * Rejects with ProblemError (state/problem.ts) when nothing was changed.
   */
  submit(command: Command, options?: SubmitOptions): Promise<Outcome>;
  status(): AgentStatus;
  /** What GET /metrics answers: telemetry/io/metrics.ts. */
  metrics(): Promise<string>;
}
