/**
 * The resolver's metrics, with the names and labels that coredns has for the same things where it has
 * them. Follows from what it counts (src/dns/counters.ts).
 */
import { DURATION_BOUNDS_S, type DnsReading } from '../dns/counters.ts';
import { LATENCY_BOUNDS_MS } from '../dns/forward/standing.ts';
import type { MetricOf, Sample } from './metric.ts';

type DnsMetric = MetricOf<DnsReading>;

/** `counts[i]` took at most bounds[i] seconds; the last one longer. */
function histogram(
  counts: readonly number[],
  boundsS: readonly number[],
  sumS: number,
  labels: Readonly<Record<string, string>> = {},
): Sample[] {
  let value = 0;
  const buckets = counts.map((count, i): Sample => {
    value += count;
    const le = boundsS[i] === undefined ? '+Inf' : String(boundsS[i]);
    return { part: 'bucket', labels: { ...labels, le }, value };
  });
  return [...buckets, { part: 'sum', labels, value: sumS }, { part: 'count', labels, value }];
}

function one(
  type: 'gauge' | 'counter',
  name: string,
  help: string,
  read: (reading: DnsReading) => number,
): DnsMetric {
  return { type, name, help, labels: [], read: (reading) => [{ value: read(reading) }] };
}

const LATENCY_BOUNDS_S = LATENCY_BOUNDS_MS.map((ms) => ms / 1000);

export const DNS_METRICS: readonly DnsMetric[] = [
  {
    type: 'counter',
    name: 'zerohop_dns_requests_total',
    help: 'Queries that came.',
    labels: ['proto', 'family'],
    read: ({ counts }) =>
      counts.requests.map(({ proto, family, count }) => ({
        labels: { proto, family },
        value: count,
      })),
  },
  {
    type: 'counter',
    name: 'zerohop_dns_responses_total',
    help: 'Answers, by code and by who had them.',
    labels: ['rcode', 'from'],
    read: ({ counts }) =>
      counts.responses.map(({ rcode, from, count }) => ({ labels: { rcode, from }, value: count })),
  },
  {
    type: 'histogram',
    name: 'zerohop_dns_request_duration_seconds',
    help: 'From a query to its answer, of those that the kernel did not answer.',
    labels: [],
    read: ({ counts: { durations } }) =>
      histogram(durations.counts, DURATION_BOUNDS_S, durations.sumS),
  },
  {
    type: 'histogram',
    name: 'zerohop_dns_upstream_duration_seconds',
    help: 'From a query to an upstream to its reply.',
    labels: ['to'],
    read: ({ upstreams }) =>
      upstreams.flatMap(({ upstream, latency }) =>
        histogram(latency.counts, LATENCY_BOUNDS_S, latency.sumMs / 1000, { to: upstream }),
      ),
  },
  {
    type: 'counter',
    name: 'zerohop_dns_upstream_requests_total',
    help: 'Queries to upstreams that ended.',
    labels: ['to', 'result'],
    read: ({ upstreams }) =>
      upstreams.flatMap(({ upstream: to, results }) =>
        Object.entries(results).map(([result, value]) => ({ labels: { to, result }, value })),
      ),
  },
  one(
    'gauge',
    'zerohop_dns_cache_entries',
    'Answers of others that are kept.',
    (r) => r.cache.entries,
  ),
  one('gauge', 'zerohop_dns_cache_bytes', 'Bytes that they take.', (r) => r.cache.bytes),
  one('gauge', 'zerohop_dns_cache_max_bytes', 'Bytes that they may take.', (r) => r.cache.bytesMax),
  one(
    'counter',
    'zerohop_dns_cache_hits_total',
    'Queries answered from them.',
    (r) => r.cache.hits,
  ),
  one(
    'counter',
    'zerohop_dns_cache_misses_total',
    'Queries that upstreams were asked for.',
    (r) => r.cache.misses,
  ),
  {
    type: 'counter',
    name: 'zerohop_dns_dropped_total',
    help: 'What came and was not answered, or not in time.',
    labels: ['reason'],
    read: ({ dropped }) =>
      Object.entries(dropped).map(([reason, value]) => ({ labels: { reason }, value })),
  },
  one('gauge', 'zerohop_dns_zone_names', 'Names that this host answers for.', (r) => r.names),
  one(
    'gauge',
    'zerohop_dns_connections',
    'TCP connections of clients, open now.',
    (r) => r.connections,
  ),
];
