/**
 * What Prometheus is told: a table of every metric, and how it follows from what the agent says of
 * itself. Nothing is counted here but what would otherwise go backwards. Names as
 * prometheus.io/docs/practices/naming has them; README.md lists them, and a test compares.
 */
import type { AclCounters, AgentStatus } from '../api/engine.ts';
import type { ClusterAnswer, MembershipAnswer } from '../api/cluster-schemas.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Down } from '../catalog/context.ts';
import type { DnsReading } from '../dns/counters.ts';
import { CLUSTER_METRICS, type ClusterCounters } from './cluster-metrics.ts';
import { DNS_METRICS } from './dns-metrics.ts';
import type { MetricOf, Sample } from './metric.ts';

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** All that one scrape reads, at one moment. Times are Unix seconds. */
export interface Reading {
  readonly status: AgentStatus;
  readonly lastFullCheckS: number | undefined;
  readonly backendsDown: Readonly<Record<Down, number>>;
  /** Of all rules together, and what is denied as no rule names it. */
  readonly verdicts: AclCounters;
  readonly cluster: ClusterAnswer;
  readonly certificateUntilS: number | undefined;
  readonly clusterCounters: ClusterCounters | undefined;
  /** undefined: the resolver is off. */
  readonly dns: DnsReading | undefined;
}

export type Metric = MetricOf<Reading>;

type Value = number | boolean | undefined;

function sampleOf(value: Value, labels?: Readonly<Record<string, string>>): readonly Sample[] {
  if (value === undefined) return [];
  return [{ value: Number(value), ...(labels === undefined ? {} : { labels }) }];
}

function one(
  type: Metric['type'],
  name: string,
  help: string,
  read: (reading: Reading) => Value,
): Metric {
  return { name, type, help, labels: [], read: (reading) => sampleOf(read(reading)) };
}

function gauge(name: string, help: string, read: (reading: Reading) => Value): Metric {
  return one('gauge', name, help, read);
}

function counter(name: string, help: string, read: (reading: Reading) => Value): Metric {
  return one('counter', name, help, read);
}

/** One series for each value of `label`. */
function by(
  type: Metric['type'],
  name: string,
  help: string,
  label: string,
  read: (reading: Reading) => Iterable<readonly [value: string, value: Value]>,
): Metric {
  return {
    name,
    type,
    help,
    labels: [label],
    read: (reading) =>
      [...read(reading)].flatMap(([key, value]) => sampleOf(value, { [label]: key })),
  };
}

function info(
  name: string,
  help: string,
  labels: readonly string[],
  read: (reading: Reading) => Readonly<Record<string, string>> | undefined,
): Metric {
  const values = (reading: Reading): readonly Sample[] => {
    const found = read(reading);
    return found === undefined ? [] : [{ labels: found, value: 1 }];
  };
  return { name, type: 'gauge', help, labels, read: values };
}

/** 1 for the one that it is in, 0 for the others. */
function oneOf(states: readonly string[], now: string): readonly (readonly [string, boolean])[] {
  return states.map((state) => [state, state === now] as const);
}

function membership({ cluster }: Reading): MembershipAnswer | undefined {
  return cluster.member ? cluster : undefined;
}

/** A hook may have several programs: effective if all are. */
function hooksOf({ status }: Reading): ReadonlyMap<string, boolean> {
  const hooks = new Map<string, boolean>();
  for (const { hook, effective } of status.datapath.attachments)
    hooks.set(hook, effective && hooks.get(hook) !== false);
  return hooks;
}

function neighbours(
  name: string,
  help: string,
  read: (neighbour: MembershipAnswer['neighbours'][number]) => number | undefined,
): Metric {
  return {
    name,
    type: 'gauge',
    help,
    labels: ['peer', 'name'],
    read: (reading) =>
      (membership(reading)?.neighbours ?? []).flatMap((neighbour) =>
        sampleOf(read(neighbour), { peer: neighbour.id, name: neighbour.name }),
      ),
  };
}

const AGENT: readonly Metric[] = [
  info('zerohop_build_info', 'Version of the agent.', ['version'], ({ status }) => ({
    version: status.version,
  })),
  gauge(
    'zerohop_state_revision',
    'Revision of the state on this host.',
    ({ status }) => status.revision,
  ),
  gauge('zerohop_services', 'Services known.', ({ status }) => status.services),
  gauge('zerohop_backends', 'Backends known, usable or not.', ({ status }) => status.backends),
  by(
    'gauge',
    'zerohop_backends_down',
    'Backends that get no connections, whatever their weight and state.',
    'why',
    ({ backendsDown }) => Object.entries(backendsDown),
  ),
  gauge(
    'zerohop_vip_conflicts',
    'VIPs that two services claim.',
    ({ cluster }) => cluster.conflicts?.length,
  ),
  gauge(
    'zerohop_fail_open_ports',
    'Ports of services of which no backend is reachable, so that all are kept.',
    ({ cluster }) => cluster.failOpen?.length,
  ),
  gauge(
    'zerohop_state_unsaved_documents',
    'Documents of other hosts that the disk refused.',
    ({ cluster }) => cluster.unsavedDocuments,
  ),
  gauge(
    'zerohop_state_unreadable_records',
    'Records that this version cannot read.',
    ({ cluster }) => cluster.unreadable,
  ),
  gauge(
    'zerohop_store_documents',
    'Documents on the disk: the shared one, and one for each node.',
    ({ status }) => status.store.documents,
  ),
  gauge(
    'zerohop_store_updates',
    'Entries of the log on the disk, whole documents among them.',
    ({ status }) => status.store.updates,
  ),
  gauge('zerohop_store_bytes', 'Bytes of these entries.', ({ status }) => status.store.bytes),
];

const DATAPATH: readonly Metric[] = [
  gauge(
    'zerohop_datapath_in_sync',
    '1 if the kernel does what the state says, 0 if degraded.',
    ({ status }) => status.datapath.state === 'in-sync',
  ),
  gauge(
    'zerohop_datapath_applied_revision',
    'Revision of the state that the kernel has.',
    ({ status }) => status.datapath.appliedRevision,
  ),
  gauge(
    'zerohop_datapath_last_full_check_timestamp_seconds',
    "When the kernel's maps were last compared with the state.",
    ({ lastFullCheckS }) => lastFullCheckS,
  ),
  counter(
    'zerohop_datapath_repaired_entries_total',
    'Map entries that a comparison put right, since the agent started.',
    ({ status }) => status.datapath.repairedEntries,
  ),
  gauge(
    'zerohop_datapath_degraded_features',
    'Features that this kernel lacks.',
    ({ status }) => status.datapath.degradedFeatures.length,
  ),
  by(
    'gauge',
    'zerohop_datapath_hook_effective',
    '1 if the programs at this hook are attached and run.',
    'hook',
    hooksOf,
  ),
  by('gauge', 'zerohop_datapath_map_entries', 'Entries in use.', 'map', ({ status }) =>
    status.datapath.maps.map(({ name, used }) => [name, used]),
  ),
  by(
    'gauge',
    'zerohop_datapath_map_max_entries',
    'Entries there is room for.',
    'map',
    ({ status }) => status.datapath.maps.map(({ name, max }) => [name, max]),
  ),
  counter(
    'zerohop_datapath_sockets_spilled_total',
    'Sockets that found their place taken (maps.sockets), since the maps were made.',
    ({ status }) => status.datapath.counters.spilled,
  ),
  counter(
    'zerohop_datapath_sockets_untracked_total',
    'Sockets that could not be remembered and show their backend, since the maps were made.',
    ({ status }) => status.datapath.counters.untracked,
  ),
  counter(
    'zerohop_datapath_flows_evicted_total',
    'UDP flows forgotten as their socket had too many VIPs, since the maps were made.',
    ({ status }) => status.datapath.counters.flowsEvicted,
  ),
  counter(
    'zerohop_datapath_no_such_port_total',
    'Connects and sends to a VIP at a port that no service has, since the maps were made.',
    ({ status }) => status.datapath.counters.noSuchPort,
  ),
];

const ACL: readonly Metric[] = [
  gauge('zerohop_acl_rules', 'Access rules in force.', ({ status }) => status.acl.rules),
  by(
    'gauge',
    'zerohop_acl_state',
    '1 for the state that access control is in.',
    'state',
    ({ status }) => oneOf(['active', 'idle', 'degraded', 'unenforced'], status.acl.state),
  ),
  info(
    'zerohop_acl_enforcement_info',
    "Which of the kernel's doors judge.",
    ['enforcement'],
    ({ status }) => ({ enforcement: status.acl.enforcement }),
  ),
  by(
    'counter',
    'zerohop_acl_verdicts_total',
    'Verdicts of all rules, and denials by default; of a removed rule as far as it was scraped.',
    'verdict',
    ({ verdicts }) => Object.entries(verdicts),
  ),
  counter(
    'zerohop_acl_events_dropped_total',
    'Verdicts lost before the log, since the maps were made.',
    ({ status }) => status.acl.counters.eventsDropped,
  ),
  counter(
    'zerohop_acl_unknown_cgroups_total',
    "Judged without knowing the caller's cgroup, since the maps were made.",
    ({ status }) => status.acl.counters.unknownCgroups,
  ),
  counter(
    'zerohop_acl_unclassified_cgroups_total',
    'New cgroups that found the map full, since the maps were made.',
    ({ status }) => status.acl.counters.unclassifiedCgroups,
  ),
];

const CLUSTER: readonly Metric[] = [
  gauge(
    'zerohop_cluster_member',
    '1 if this host is a member of a cluster.',
    (reading) => membership(reading) !== undefined,
  ),
  info(
    'zerohop_cluster_info',
    'Who this host is in its cluster.',
    ['cluster', 'node', 'name', 'zone'],
    (reading) => {
      const inside = membership(reading);
      if (inside === undefined) return undefined;
      const { clusterId: cluster, nodeId: node, name, zone } = inside;
      return { cluster, node, name, zone };
    },
  ),
  by('gauge', 'zerohop_cluster_members', 'Members, this host included.', 'state', (reading) =>
    Object.entries(membership(reading)?.members ?? {}),
  ),
  gauge(
    'zerohop_cluster_neighbours',
    'Members that this host has an overlay link to.',
    (reading) => membership(reading)?.neighbours.length,
  ),
  neighbours('zerohop_cluster_neighbour_rtt_seconds', 'Round trip to a neighbour.', ({ rttMs }) =>
    rttMs === undefined ? undefined : rttMs / 1000,
  ),
  neighbours(
    'zerohop_cluster_neighbour_queued_bytes',
    'Not sent to a neighbour yet.',
    ({ queuedBytes }) => queuedBytes,
  ),
  gauge(
    'zerohop_cluster_problems',
    'What somebody should do something about: zerohop cluster status tells.',
    (reading) => membership(reading)?.problems.length,
  ),
  gauge(
    'zerohop_cluster_revocations',
    'Nodes put out for good, as far as they are known here.',
    (reading) => membership(reading)?.revocations,
  ),
  gauge(
    'zerohop_cluster_certificate_expiry_timestamp_seconds',
    "When this host's certificate ends.",
    ({ certificateUntilS }) => certificateUntilS,
  ),
  gauge(
    'zerohop_replication_documents',
    'Documents of the replicated state: the shared one, and one for each node.',
    (reading) => membership(reading)?.documents,
  ),
  neighbours(
    'zerohop_replication_behind_documents',
    "Documents that differ from this neighbour's.",
    ({ behind }) => behind,
  ),
];

/** In the order in which they are told. */
export const METRICS: readonly Metric[] = [
  ...AGENT,
  ...DATAPATH,
  ...ACL,
  ...CLUSTER,
  ...CLUSTER_METRICS.map(({ name, help, label, read }) =>
    label === undefined
      ? counter(name, help, ({ clusterCounters }) => clusterCounters && read(clusterCounters)[''])
      : by('counter', name, help, label, ({ clusterCounters }) =>
          Object.entries(clusterCounters === undefined ? {} : read(clusterCounters)),
        ),
  ),
  ...DNS_METRICS.map(({ read, ...metric }): Metric => ({
    ...metric,
    read: ({ dns }) => (dns ? read(dns) : []),
  })),
];

export function countDowns({ services }: Catalog): Record<Down, number> {
  const counts = { unreachable: 0, unhealthy: 0 };
  for (const { ports } of services.values())
    for (const { backends } of ports)
      for (const { down } of backends) if (down !== undefined) counts[down] += 1;
  return counts;
}

const KINDS = ['denied', 'allowed', 'audited'] as const;

/**
 * Sums of what rules did that never go backwards: a removed rule takes its counters with it, and
 * its name may come back with new ones.
 */
export class VerdictTotals {
  readonly #totals = { denied: 0, allowed: 0, audited: 0 };
  #last = new Map<string, AclCounters>();

  /** The counters of all rules there are now, each under a name of its own. */
  add(rules: Iterable<readonly [name: string, counters: AclCounters]>): AclCounters {
    const now = new Map(rules);
    for (const [name, counters] of now) {
      const last = this.#last.get(name);
      for (const kind of KINDS) {
        const before = last?.[kind] ?? 0;
        const after = counters[kind];
        this.#totals[kind] += after >= before ? after - before : after;
      }
    }
    this.#last = now;
    return { ...this.#totals };
  }
}
