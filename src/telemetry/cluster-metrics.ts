/**
 * The counters of the transport between nodes (cluster/io/metrics.ts) as metrics: what stands after
 * the dot there is the value of a label here. The compiler sees to it that each has its entry.
 */
import type { Counter, Metrics } from '../cluster/io/metrics.ts';

export type ClusterCounters = Readonly<Metrics>;

type Base<Name> = Name extends `${infer Before}.${string}` ? Before : Name;
type Labelled<Name> = Name extends `${infer Before}.${string}` ? Before : never;

interface Described<Label> {
  readonly help: string;
  readonly label: Label;
}

const DESCRIBED: {
  readonly [Name in Base<Counter>]: Described<Name extends Labelled<Counter> ? string : undefined>;
} = {
  cluster_connections_accepted_total: {
    help: 'Connections that others opened and whose handshake began.',
    label: undefined,
  },
  cluster_connections_refused_total: {
    help: 'Connections closed before a handshake.',
    label: 'reason',
  },
  cluster_connections_evicted_total: {
    help: 'Connections closed before their handshake ended, to make room.',
    label: undefined,
  },
  cluster_handshakes_total: { help: 'TLS handshakes of these that ended well.', label: undefined },
  cluster_handshake_failures_total: {
    help: 'Connections that others opened and that came to nothing.',
    label: 'reason',
  },
  cluster_dials_total: { help: 'Connections that this host tried to open.', label: undefined },
  cluster_dial_failures_total: { help: 'Of these, those that failed.', label: undefined },
  cluster_connections_established_total: {
    help: 'Connections to members that came to be.',
    label: undefined,
  },
  cluster_connections_closed_total: {
    help: 'Connections to members that ended.',
    label: 'reason',
  },
  cluster_messages_sent_total: { help: 'Messages sent to members.', label: undefined },
  cluster_messages_received_total: { help: 'Messages received from members.', label: undefined },
  cluster_messages_dropped_total: { help: 'Messages that were not sent.', label: 'reason' },
  cluster_sent_bytes_total: {
    help: 'Bytes sent to members, framing included, TLS not.',
    label: undefined,
  },
  cluster_received_bytes_total: {
    help: 'Bytes received from members, framing included, TLS not.',
    label: undefined,
  },
  cluster_join_requests_total: { help: 'Requests to join, with a token.', label: 'outcome' },
  cluster_renewals_total: { help: 'Requests of members for a new certificate.', label: 'outcome' },
};

export interface ClusterMetric {
  readonly name: string;
  readonly help: string;
  readonly label: string | undefined;
  /** By the value of the label; of one without labels under ''. */
  readonly read: (counters: ClusterCounters) => Readonly<Record<string, number>>;
}

export const CLUSTER_METRICS: readonly ClusterMetric[] = Object.entries(DESCRIBED).map(
  ([base, { help, label }]) => ({
    name: `zerohop_${base}`,
    help,
    label,
    read: (counters) =>
      Object.fromEntries(
        Object.entries(counters)
          .filter(([name]) => name === base || name.startsWith(`${base}.`))
          .map(([name, value]) => [name.slice(base.length + 1), value]),
      ),
  }),
);
