/** What goes into the forwarder and what comes out of it. */
import type { Query } from '../query.ts';

export interface Upstream {
  /** An address, no name. */
  readonly host: string;
  readonly port: number;
}

export type Transport = 'udp' | 'tcp';

export interface ForwardSettings {
  /** By zone, lower case without a dot at the end; '' is for all other names. The longest suffix wins. */
  readonly zones: ReadonlyMap<string, readonly Upstream[]>;
  /** Those of `zones` whose upstreams are asked as listed, one after the other; of the others the best are raced. */
  readonly strict?: ReadonlySet<string>;
  /** Within this time each ask is answered. */
  readonly timeoutMs: number;
  /** Questions that upstreams are asked at one time. */
  readonly maxConcurrent: number;
  readonly cacheBytes: number;
  /** How long an answer may be given after its TTL while no upstream answers; 0: never. */
  readonly staleSeconds: number;
  /** Whether this is a listener of our own: asking it would be a loop. */
  readonly isOwn: (host: string, port: number) => boolean;
}

export interface AskOptions {
  /** How the client asked. */
  readonly transport: Transport;
  readonly udpSizeMax: number;
  /** Where who asks waits less than the bound: what is stale is given in this time. */
  readonly leftMs?: number;
}

/** How an attempt ended. Only 'good' is an answer; 'late' was good, after another one had been taken. */
export type AttemptResult =
  | 'good'
  | 'late'
  | 'servfail'
  | 'refused'
  | 'notimp'
  | 'formerr'
  | 'rcode'
  | 'lame'
  | 'unrelated'
  | 'unparsable'
  | 'truncated'
  | 'case'
  | 'spoofed'
  | 'timeout'
  | 'unreachable'
  | 'local'
  | 'cancelled'
  | 'loop';

export interface Trace {
  readonly upstream: string;
  readonly transport: Transport;
  /** From sending until the result; until the answer to the client where it was still pending then. */
  readonly ms: number;
  readonly result: AttemptResult | 'pending';
}

export type From = 'cache' | 'stale' | 'upstream' | 'failure';

export interface Asked {
  /** The whole answer: id and question as asked, cut to the client's size. */
  readonly bytes: Uint8Array;
  readonly rcode: number;
  readonly from: From;
  readonly upstream?: string;
  readonly attempts: readonly Trace[];
}

export type ForwardInput =
  | {
      readonly kind: 'ask';
      /** The caller's number for it; must not be in use. */
      readonly ask: number;
      readonly query: Query;
      readonly options: AskOptions;
    }
  | { readonly kind: 'reply'; readonly attempt: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'failed';
      readonly attempt: number;
      /** local: the fault is ours (no socket), and says nothing about the upstream. */
      readonly why: 'unreachable' | 'local';
    }
  | { readonly kind: 'wake' };

export type ForwardOutput =
  | {
      readonly kind: 'send';
      readonly attempt: number;
      readonly upstream: Upstream;
      readonly transport: Transport;
      /** UDP: from a socket of its own, with a port of its own. */
      readonly bytes: Uint8Array;
    }
  /** No reply to this attempt is wanted any more; its socket can go. */
  | { readonly kind: 'end'; readonly attempt: number }
  | { readonly kind: 'answer'; readonly ask: number; readonly asked: Asked }
  /** Give 'wake' at this time; replaces the one before, undefined: not at all. */
  | { readonly kind: 'wake'; readonly atMs: number | undefined };

export type UpstreamState = 'good' | 'unsteady' | 'failing' | 'loop' | 'unknown';

export interface UpstreamStats {
  readonly upstream: string;
  readonly state: UpstreamState;
  /** Attempts that ended, by how. */
  readonly results: Readonly<Partial<Record<AttemptResult, number>>>;
  readonly sent: number;
  readonly pending: number;
  readonly smoothedMs: number | undefined;
  /** Replies by how long they took: counts[i] took at most LATENCY_BOUNDS_MS[i], the last one longer. */
  readonly latency: {
    readonly counts: readonly number[];
    readonly sumMs: number;
    readonly count: number;
  };
  readonly isCaseKept: boolean;
  readonly hasEdns: boolean;
}

export type DropReason = 'queue full' | 'too late' | 'too many asks';

export interface ForwardStats {
  readonly cache: {
    readonly entries: number;
    readonly bytes: number;
    readonly bytesMax: number;
    readonly hits: number;
    readonly misses: number;
    readonly stale: number;
    readonly evicted: number;
    readonly prefetched: number;
  };
  readonly asks: number;
  readonly answers: Readonly<Record<From, number>>;
  readonly waiting: number;
  readonly merged: number;
  readonly flights: number;
  readonly flightsMax: number;
  readonly queued: number;
  readonly attempts: number;
  readonly dropped: Readonly<Record<DropReason, number>>;
  readonly mismatches: number;
  readonly loops: number;
  readonly upstreams: readonly UpstreamStats[];
}
