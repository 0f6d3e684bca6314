/**
 * What is counted, under the names that go to Prometheus (prometheus.io, "Metric
 * and label naming"); a label's value stands after a dot here. Gauges are asked
 * for when they are read. Every limit of this folder has one of each.
 */
export const COUNTERS = [
  'cluster_connections_accepted_total',
  'cluster_connections_refused_total.rate',
  'cluster_connections_refused_total.address_rate',
  'cluster_connections_refused_total.full',
  'cluster_connections_evicted_total',
  'cluster_handshakes_total',
  'cluster_handshake_failures_total.tls',
  'cluster_handshake_failures_total.timeout',
  'cluster_handshake_failures_total.closed',
  'cluster_handshake_failures_total.protocol',
  'cluster_handshake_failures_total.certificate',
  'cluster_handshake_failures_total.revoked',
  'cluster_handshake_failures_total.greeting',
  'cluster_dials_total',
  'cluster_dial_failures_total',
  'cluster_connections_established_total',
  'cluster_connections_closed_total.ended',
  'cluster_connections_closed_total.lost',
  'cluster_connections_closed_total.silent',
  'cluster_connections_closed_total.slow',
  'cluster_connections_closed_total.protocol',
  'cluster_connections_closed_total.revoked',
  'cluster_connections_closed_total.expired',
  'cluster_connections_closed_total.stopped',
  'cluster_messages_sent_total',
  'cluster_messages_received_total',
  'cluster_messages_dropped_total.bulk',
  'cluster_messages_dropped_total.lost',
  'cluster_messages_dropped_total.unreachable',
  'cluster_sent_bytes_total',
  'cluster_received_bytes_total',
  'cluster_join_requests_total.granted',
  'cluster_join_requests_total.refused',
  'cluster_join_requests_total.limited',
  'cluster_renewals_total.granted',
  'cluster_renewals_total.refused',
] as const;

export type Counter = (typeof COUNTERS)[number];
export type Metrics = Record<Counter, number>;

export function newMetrics(): Metrics {
  return Object.fromEntries(COUNTERS.map((name) => [name, 0])) as Metrics;
}
