/** What Prometheus is told, read back by a strict parser. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AclCounters, AgentStatus } from '../../../src/api/engine.ts';
import { openApi } from '../../../src/api/openapi.ts';
import { COUNTERS, newMetrics } from '../../../src/cluster/io/metrics.ts';
import { DURATION_BOUNDS_S, type DnsReading } from '../../../src/dns/counters.ts';
import { LATENCY_BOUNDS_MS } from '../../../src/dns/forward/standing.ts';
import { MetricsText } from '../../../src/telemetry/io/metrics.ts';
import { METRICS, VerdictTotals } from '../../../src/telemetry/metrics.ts';
import { member, nodeId, SELF } from '../api/fake-cluster.ts';
import { FakeEngine } from '../api/fake-engine.ts';
import { parseExposition, type Family } from './exposition.ts';

/** `name{label="value"}` → value, of what is zerohop's own. */
function own(families: ReadonlyMap<string, Family>): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { name, samples } of families.values()) {
    if (!name.startsWith('zerohop_')) continue;
    for (const { labels, value } of samples) {
      const text = Object.entries(labels).map(([key, label]) => `${key}=${label}`);
      found[`${name}{${text.join(',')}}`] = value;
    }
  }
  return found;
}

async function scrape(engine: FakeEngine): Promise<ReadonlyMap<string, Family>> {
  return parseExposition(await engine.metrics());
}

class StatusEngine extends FakeEngine {
  datapath: Partial<AgentStatus['datapath']> = {};

  override status(): AgentStatus {
    const status = super.status();
    return { ...status, datapath: { ...status.datapath, ...this.datapath } };
  }
}

const OUTSIDE = {
  'zerohop_build_info{version=0.0.0}': 1,
  'zerohop_state_revision{}': 2,
  'zerohop_services{}': 1,
  'zerohop_backends{}': 0,
  'zerohop_backends_down{why=unreachable}': 0,
  'zerohop_backends_down{why=unhealthy}': 0,
  'zerohop_store_documents{}': 2,
  'zerohop_store_updates{}': 3,
  'zerohop_store_bytes{}': 400,
  'zerohop_datapath_in_sync{}': 0,
  'zerohop_datapath_applied_revision{}': 2,
  'zerohop_datapath_last_full_check_timestamp_seconds{}': 1_767_225_600.5,
  'zerohop_datapath_repaired_entries_total{}': 9,
  'zerohop_datapath_degraded_features{}': 2,
  'zerohop_datapath_hook_effective{hook=cgroup/connect4}': 0,
  'zerohop_datapath_hook_effective{hook=cgroup/connect6}': 1,
  'zerohop_datapath_map_entries{map=zh_vips}': 1,
  'zerohop_datapath_map_entries{map=zh_slots}': 7,
  'zerohop_datapath_map_max_entries{map=zh_vips}': 10,
  'zerohop_datapath_map_max_entries{map=zh_slots}': 64,
  'zerohop_datapath_sockets_spilled_total{}': 1,
  'zerohop_datapath_sockets_untracked_total{}': 2,
  'zerohop_datapath_flows_evicted_total{}': 3,
  'zerohop_datapath_no_such_port_total{}': 4,
  'zerohop_acl_rules{}': 1,
  'zerohop_acl_state{state=active}': 1,
  'zerohop_acl_state{state=idle}': 0,
  'zerohop_acl_state{state=degraded}': 0,
  'zerohop_acl_state{state=unenforced}': 0,
  'zerohop_acl_enforcement_info{enforcement=cgroup}': 1,
  'zerohop_acl_verdicts_total{verdict=denied}': 3,
  'zerohop_acl_verdicts_total{verdict=allowed}': 2,
  'zerohop_acl_verdicts_total{verdict=audited}': 1,
  'zerohop_acl_events_dropped_total{}': 5,
  'zerohop_acl_unknown_cgroups_total{}': 5,
  'zerohop_acl_unclassified_cgroups_total{}': 5,
  'zerohop_cluster_member{}': 0,
};

const READING: DnsReading = {
  counts: {
    requests: [{ proto: 'udp', family: '1', count: 3 }],
    responses: [
      { rcode: 'NOERROR', from: 'kernel', count: 2 },
      { rcode: 'NXDOMAIN', from: 'zone', count: 1 },
    ],
    durations: {
      counts: [1, 0, 2, ...Array.from({ length: DURATION_BOUNDS_S.length - 3 }, () => 0), 1],
      sumS: 9.5,
    },
  },
  upstreams: [
    {
      upstream: '192.0.2.1:53',
      state: 'good',
      results: { good: 4 },
      sent: 4,
      pending: 0,
      smoothedMs: 0.4,
      latency: {
        counts: [0, 5, ...Array.from({ length: LATENCY_BOUNDS_MS.length - 1 }, () => 0)],
        sumMs: 2,
        count: 5,
      },
      isCaseKept: true,
      hasEdns: true,
    },
  ],
  cache: { entries: 1, bytes: 2, bytesMax: 3, hits: 4, misses: 5 },
  dropped: { silent: 6 },
  names: 7,
  connections: 8,
};

async function busyEngine(): Promise<StatusEngine> {
  const engine = new StatusEngine();
  engine.acls.lost = 5;
  await engine.submit({
    kind: 'add-service',
    service: { name: 'web', ports: [{ name: 'http', port: 80, protocol: 'tcp' }] },
  });
  await engine.submit({
    kind: 'put-acl',
    acl: { name: 'rule', to: { kind: 'service', service: 'web' }, from: [], action: 'allow' },
  });
  engine.datapath = {
    state: 'degraded',
    lastFullCheckAt: '2026-01-01T00:00:00.500Z',
    repairedEntries: 9,
    degradedFeatures: ['a', 'b'],
    counters: { spilled: 1, untracked: 2, flowsEvicted: 3, noSuchPort: 4 },
    attachments: [
      { hook: 'cgroup/connect4', programId: 1, effective: false },
      { hook: 'cgroup/connect4', programId: 2, effective: true },
      { hook: 'cgroup/connect6', programId: 3, effective: true },
    ],
    maps: [
      { name: 'zh_vips', used: 1, max: 10, limit: 'services' },
      { name: 'zh_slots', used: 7, max: 64, limit: 'slots' },
    ],
  };
  return engine;
}

test('a host outside a cluster tells of itself, and nothing of a cluster', async () => {
  const engine = await busyEngine();
  assert.deepEqual(own(await scrape(engine)), OUTSIDE);
  assert.deepEqual(own(await scrape(engine)), OUTSIDE, 'a second scrape counts nothing again');
});

test('a host with a resolver tells what it answered, and how long that took', async () => {
  const engine = await busyEngine();
  engine.dns.reading = READING;
  const families = await scrape(engine);
  const told = own(families);
  assert.deepEqual(
    Object.fromEntries(
      Object.entries(told).filter(
        ([name]) => name.startsWith('zerohop_dns') && !name.includes('duration'),
      ),
    ),
    {
      'zerohop_dns_requests_total{proto=udp,family=1}': 3,
      'zerohop_dns_responses_total{rcode=NOERROR,from=kernel}': 2,
      'zerohop_dns_responses_total{rcode=NXDOMAIN,from=zone}': 1,
      'zerohop_dns_upstream_requests_total{to=192.0.2.1:53,result=good}': 4,
      'zerohop_dns_cache_entries{}': 1,
      'zerohop_dns_cache_bytes{}': 2,
      'zerohop_dns_cache_max_bytes{}': 3,
      'zerohop_dns_cache_hits_total{}': 4,
      'zerohop_dns_cache_misses_total{}': 5,
      'zerohop_dns_dropped_total{reason=silent}': 6,
      'zerohop_dns_zone_names{}': 7,
      'zerohop_dns_connections{}': 8,
    },
  );
  const buckets = (name: string): (readonly [string, number])[] =>
    (families.get(name)?.samples ?? []).map(({ name: part, labels, value }) => [
      `${part.slice(name.length)} ${labels['le'] ?? ''}`,
      value,
    ]);
  const durations = buckets('zerohop_dns_request_duration_seconds');
  assert.deepEqual(durations.slice(0, 3), [
    ['_bucket 0.000016', 1],
    ['_bucket 0.000031', 1],
    ['_bucket 0.000062', 3],
  ]);
  assert.deepEqual(durations.slice(-3), [
    ['_bucket +Inf', 4],
    ['_sum ', 9.5],
    ['_count ', 4],
  ]);
  const upstream = buckets('zerohop_dns_upstream_duration_seconds');
  assert.deepEqual(
    [upstream[0], upstream[1], upstream.at(-2)],
    [
      ['_bucket 0.00025', 0],
      ['_bucket 0.0005', 5],
      ['_sum ', 0.002],
    ],
  );
});

test('a member tells of its cluster, and no longer when it has left', async () => {
  const engine = await busyEngine();
  const { cluster } = engine;
  cluster.list = [SELF, member('b', 'web2'), member('c', 'web3', { state: 'dead' })];
  cluster.told = {
    certificateUntil: '2026-01-31T00:00:00.000Z',
    neighbours: [
      { id: nodeId('b'), name: 'web2', rttMs: 1.5, behind: 2, queuedBytes: 6 },
      { id: nodeId('d'), name: 'a "name"\\n\nof somebody' },
    ],
    failOpen: ['web:http'],
    unsavedDocuments: 3,
    unreadable: 4,
    problems: ['a', 'b', 'c', 'd', 'e'],
    revocations: 7,
    documents: 8,
    conflicts: [{ vip: '240.0.0.1', kind: 'reassigned', services: ['a', 'b'] }],
  };
  const counters = newMetrics();
  COUNTERS.forEach((name, i) => (counters[name] = i + 1));
  cluster.seen = counters;
  const told = own(await scrape(engine));
  const expected: Record<string, number> = {
    ...OUTSIDE,
    'zerohop_cluster_member{}': 1,
    [`zerohop_cluster_info{cluster=${'b'.repeat(16)},node=${SELF.id},name=web1,zone=east}`]: 1,
    'zerohop_cluster_members{state=alive}': 2,
    'zerohop_cluster_members{state=suspect}': 0,
    'zerohop_cluster_members{state=dead}': 1,
    'zerohop_cluster_members{state=left}': 0,
    'zerohop_cluster_members{state=unknown}': 0,
    'zerohop_cluster_neighbours{}': 2,
    [`zerohop_cluster_neighbour_rtt_seconds{peer=${nodeId('b')},name=web2}`]: 0.0015,
    [`zerohop_replication_behind_documents{peer=${nodeId('b')},name=web2}`]: 2,
    'zerohop_cluster_certificate_expiry_timestamp_seconds{}': 1_769_817_600,
    [`zerohop_cluster_neighbour_queued_bytes{peer=${nodeId('b')},name=web2}`]: 6,
    'zerohop_cluster_problems{}': 5,
    'zerohop_cluster_revocations{}': 7,
    'zerohop_replication_documents{}': 8,
    'zerohop_fail_open_ports{}': 1,
    'zerohop_state_unsaved_documents{}': 3,
    'zerohop_state_unreadable_records{}': 4,
    'zerohop_vip_conflicts{}': 1,
  };
  COUNTERS.forEach((name, i) => {
    const [base = '', value] = name.split('.');
    const label = /join|renewals/.test(base) ? 'outcome' : 'reason';
    expected[`zerohop_${base}{${value === undefined ? '' : `${label}=${value}`}}`] = i + 1;
  });
  assert.deepEqual(told, expected);
  cluster.list = [];
  cluster.seen = undefined;
  assert.deepEqual(own(await scrape(engine)), OUTSIDE);
});

test('backends that are down are counted by why they are', async () => {
  const engine = new FakeEngine();
  await engine.submit({
    kind: 'add-service',
    service: { name: 'web', ports: [{ name: 'http', port: 80, protocol: 'tcp' }] },
  });
  for (const place of [1, 2, 3]) {
    const backend = { service: 'web', portName: 'http', address: `10.0.0.${place}`, port: 80 };
    engine.receive({ kind: 'put-backend', backend: { ...backend, weight: 1, state: 'active' } });
  }
  const { known } = engine;
  engine.known = { ...known, unhealthy: new Set(['10.0.0.1 80 tcp', '10.0.0.2 80 tcp']) };
  const told = own(await scrape(engine));
  assert.equal(told['zerohop_backends_down{why=unhealthy}'], 2);
  assert.equal(told['zerohop_backends_down{why=unreachable}'], 0);
});

test('names that others choose cannot break a line', async () => {
  const engine = new FakeEngine();
  const name = 'a "b" \\n \n} 1\nzerohop_services 99';
  engine.cluster.list = [SELF];
  engine.cluster.told = { neighbours: [{ id: nodeId('b'), name, behind: 0 }] };
  const families = await scrape(engine);
  assert.deepEqual(families.get('zerohop_replication_behind_documents')?.samples, [
    {
      name: 'zerohop_replication_behind_documents',
      labels: { peer: nodeId('b'), name },
      value: 0,
    },
  ]);
  assert.equal(families.get('zerohop_services')?.samples[0]?.value, 0);
});

test('names are as Prometheus wants them', () => {
  for (const { name, type, help, labels } of METRICS) {
    assert.match(name, /^zerohop_[a-z][a-z0-9_]*$/);
    assert.equal(name.endsWith('_total'), type === 'counter', name);
    assert.match(help, /^[^\n]+\.$/, name);
    // Units are basic ones: prometheus.io/docs/practices/naming.
    assert.doesNotMatch(name, /_(ms|milliseconds|minutes|kib|mib|count)(_|$)/, name);
    for (const label of labels) assert.match(label, /^[a-z]+$/, name);
  }
  assert.equal(new Set(METRICS.map(({ name }) => name)).size, METRICS.length);
});

test('the README has every metric, with its type, unit and labels, and none that is not there', async () => {
  const engine = await busyEngine();
  engine.cluster.list = [SELF];
  engine.dns.reading = READING;
  const families = await scrape(engine);
  const file = join(import.meta.dirname, '../../../src/telemetry/README.md');
  const rows = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => /^\| `(zerohop|process|nodejs)_/.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const labelsOf = new Map(METRICS.map(({ name, labels }) => [name, labels]));
  for (const { name, samples } of families.values()) {
    const seen = new Set(samples.flatMap(({ labels }) => Object.keys(labels)));
    seen.delete('le');
    if (!labelsOf.has(name) && samples.length > 0) labelsOf.set(name, [...seen]);
  }
  const listed = rows.map(([, name = '', type = '', , labels = '']) => {
    const bare = name.replaceAll('`', '');
    const given = labels.split(', ').map((label) => label.replaceAll('`', ''));
    // The library has no sample of some when nothing is under way.
    const known = labelsOf.get(bare)?.join(',') ?? given.join(',');
    assert.equal(given.join(','), known, name);
    return `${bare} ${type}`;
  });
  assert.deepEqual(
    listed.toSorted(),
    [...families.values()].map(({ name, type }) => `${name} ${type}`).toSorted(),
  );
  for (const [, name = '', , unit = '', , meaning = ''] of rows) {
    assert.notEqual(meaning, '', name);
    if (name.includes('_bytes')) assert.equal(unit, 'bytes', name);
    else if (/timestamp_seconds|start_time/.test(name)) assert.equal(unit, 'Unix seconds', name);
    else if (name.includes('_seconds')) assert.equal(unit, 'seconds', name);
    else assert.match(unit, /^(?!bytes|seconds).+/, name);
  }
});

test('verdicts of all rules never go backwards, whatever becomes of the rules', () => {
  const counters = fc.record({ denied: fc.nat(9), allowed: fc.nat(9), audited: fc.nat(9) });
  const step = fc.dictionary(fc.constantFrom('a', 'b', 'c'), counters);
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const totals = new VerdictTotals();
      let before: AclCounters = { denied: 0, allowed: 0, audited: 0 };
      for (const rules of steps) {
        const now = totals.add(Object.entries(rules));
        for (const kind of ['denied', 'allowed', 'audited'] as const) {
          const sum = Object.values(rules).reduce((all, rule) => all + rule[kind], 0);
          assert.ok(now[kind] >= before[kind] && now[kind] >= sum);
        }
        before = now;
      }
    }),
  );
  const totals = new VerdictTotals();
  const rule = (denied: number): AclCounters => ({ denied, allowed: 0, audited: 0 });
  const add = (...rules: [string, AclCounters][]): number => totals.add(rules).denied;
  assert.equal(add(['a', rule(5)], ['b', rule(2)]), 7);
  assert.equal(add(['a', rule(6)], ['b', rule(2)]), 8);
  assert.equal(add(['b', rule(3)]), 9, 'a is removed');
  assert.equal(add(['a', rule(1)], ['b', rule(3)]), 10, 'a is back, and counts anew');
  assert.equal(add(['a', rule(4)], ['b', rule(1)]), 14, 'b was made anew between two scrapes');
});

test('two scrapes at once are both whole', async () => {
  const engine = await busyEngine();
  const text = new MetricsText(engine);
  const both = await Promise.all([text.text(), text.text()]);
  for (const one of both) assert.deepEqual(own(parseExposition(one)), OUTSIDE);
});

test('the description says that metrics are text', () => {
  const { paths } = openApi('1') as {
    paths: Record<string, { get: { responses: Record<string, { content: object }> } }>;
  };
  assert.deepEqual(paths['/metrics']?.get.responses['200']?.content, {
    'text/plain; version=0.0.4; charset=utf-8': { schema: { type: 'string' } },
  });
});
