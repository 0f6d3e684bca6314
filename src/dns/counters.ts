/**
 * What the resolver counts, as operators of coredns know it: queries by how they came, answers by code
 * and by who had them, and how long they took. Plain numbers, as it is done for each query.
 */
import type { Asker } from './asker.ts';
import type { UpstreamStats } from './forward/types.ts';
import type { KernelCounts } from './kernel-abi.ts';
import { RCODE } from './numbers.ts';

/** Who had the answer; `kernel` is counted by its own program. */
const SOURCES = ['zone', 'cache', 'stale', 'upstream', 'refused', 'failure'] as const;
export type Source = (typeof SOURCES)[number];

/** Seconds. coredns' (0.25 ms, twice that, … 8 s), and below it what a name of our own takes. */
export const DURATION_BOUNDS_S: readonly number[] = [
  0.000_016, 0.000_031, 0.000_062, 0.000_125, 0.000_25, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016,
  0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
];

/** IANA, DNS RCODEs. */
const RCODE_NAMES: Readonly<Record<number, string>> = {
  0: 'NOERROR',
  1: 'FORMERR',
  2: 'SERVFAIL',
  3: 'NXDOMAIN',
  4: 'NOTIMP',
  5: 'REFUSED',
  6: 'YXDOMAIN',
  7: 'YXRRSET',
  8: 'NXRRSET',
  9: 'NOTAUTH',
  10: 'NOTZONE',
  16: 'BADVERS',
};

export function rcodeName(rcode: number): string {
  return RCODE_NAMES[rcode] ?? `RCODE${rcode}`;
}

export interface Histogram {
  /** counts[i] took at most DURATION_BOUNDS_S[i]; the last one longer. */
  readonly counts: readonly number[];
  readonly sumS: number;
}

export interface DnsCounts {
  readonly requests: readonly {
    readonly proto: 'udp' | 'tcp';
    readonly family: '1' | '2';
    readonly count: number;
  }[];
  readonly responses: readonly {
    readonly rcode: string;
    readonly from: Source | 'kernel';
    readonly count: number;
  }[];
  readonly durations: Histogram;
}

/** All that the metrics tell of the resolver, at one moment. */
export interface DnsReading {
  readonly counts: DnsCounts;
  readonly upstreams: readonly UpstreamStats[];
  readonly cache: Readonly<Record<'entries' | 'bytes' | 'bytesMax' | 'hits' | 'misses', number>>;
  /** By why. */
  readonly dropped: Readonly<Record<string, number>>;
  /** In the zone. */
  readonly names: number;
  /** TCP, open now. */
  readonly connections: number;
}

const PROTOCOLS = ['udp', 'tcp'] as const;
/** As coredns writes IPv4 and IPv6. */
const FAMILIES = ['1', '2'] as const;
const RCODES_MAX = 32;

export class DnsCounters {
  readonly #requests = [0, 0, 0, 0];
  readonly #responses = new Float64Array(SOURCES.length * RCODES_MAX);
  readonly #durations = new Float64Array(DURATION_BOUNDS_S.length + 1);
  #sumS = 0;

  request({ transport, server }: Asker): void {
    const at = (transport === 'tcp' ? 2 : 0) + (server.includes(':') ? 1 : 0);
    this.#requests[at] = (this.#requests[at] ?? 0) + 1;
  }

  response(from: Source, rcode: number, durationMs: number): void {
    const at = SOURCES.indexOf(from) * RCODES_MAX + (rcode < RCODES_MAX ? rcode : RCODES_MAX - 1);
    this.#responses[at] = (this.#responses[at] ?? 0) + 1;
    const durationS = durationMs / 1000;
    this.#sumS += durationS;
    let bucket = 0;
    while (durationS > (DURATION_BOUNDS_S[bucket] ?? Infinity)) bucket += 1;
    this.#durations[bucket] = (this.#durations[bucket] ?? 0) + 1;
  }

  read(): DnsCounts {
    return {
      requests: PROTOCOLS.flatMap((proto, p) =>
        FAMILIES.map((family, f) => ({ proto, family, count: this.#requests[p * 2 + f] ?? 0 })),
      ),
      responses: SOURCES.flatMap((from, s) =>
        Array.from({ length: RCODES_MAX }, (_, rcode) => ({
          rcode: rcodeName(rcode),
          from,
          count: this.#responses[s * RCODES_MAX + rcode] ?? 0,
        })).filter(({ count }) => count > 0),
      ),
      durations: { counts: [...this.#durations], sumS: this.#sumS },
    };
  }
}

/** Of answers of the addon's thread: queries over UDP, all of them NOERROR from the zone. */
export interface ThreadCounts {
  readonly answered4: number;
  readonly answered6: number;
  readonly sumNs: number;
  /** By DURATION_BOUNDS_S. */
  readonly took: readonly number[];
}

export function withThread(counts: DnsCounts, thread: ThreadCounts): DnsCounts {
  const { answered4, answered6, sumNs, took } = thread;
  const count = answered4 + answered6;
  if (count === 0) return counts;
  const { requests, responses, durations } = counts;
  const isSame = (one: DnsCounts['responses'][number]): boolean =>
    one.from === 'zone' && one.rcode === rcodeName(0);
  const before = responses.find(isSame)?.count ?? 0;
  return {
    requests: withUdp(requests, answered4, answered6),
    responses: [
      ...responses.filter((one) => !isSame(one)),
      { rcode: rcodeName(0), from: 'zone', count: before + count },
    ],
    durations: {
      counts: durations.counts.map((one, i) => one + (took[i] ?? 0)),
      sumS: durations.sumS + sumNs / 1e9,
    },
  };
}

function withUdp(
  requests: DnsCounts['requests'],
  answered4: number,
  answered6: number,
): DnsCounts['requests'] {
  return requests.map((one) => {
    if (one.proto !== 'udp') return one;
    return { ...one, count: one.count + (one.family === '1' ? answered4 : answered6) };
  });
}

/** With what the kernel said by itself, over UDP: names of ours, and REFUSED where nobody else was there. */
export function withKernel(
  counts: DnsCounts,
  { answered4, answered6, refused4, refused6 }: KernelCounts,
): DnsCounts {
  const own = [
    { rcode: rcodeName(RCODE.NOERROR), from: 'kernel', count: answered4 + answered6 },
    { rcode: rcodeName(RCODE.REFUSED), from: 'kernel', count: refused4 + refused6 },
  ] as const;
  return {
    ...counts,
    requests: withUdp(counts.requests, answered4 + refused4, answered6 + refused6),
    responses: [...counts.responses, ...own.filter(({ count }) => count > 0)],
  };
}
