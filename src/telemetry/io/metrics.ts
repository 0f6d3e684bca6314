/**
 * Everything that Prometheus is told, as its text format has it (prometheus.io, "Exposition
 * formats"), read from the engine when it is asked for. Made at the first scrape: a host that nobody
 * scrapes pays nothing for it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Engine } from '../../api/engine.ts';
import type { Sample } from '../metric.ts';
import { countDowns, METRICS, VerdictTotals, type Metric, type Reading } from '../metrics.ts';

/** How often the library looks at how late the event loop is; its own default. */
const LOOP_MS = 10;

interface Instrument {
  readonly metric: Metric;
  readonly target: Gauge | Counter | Counted;
}

/** A histogram that was counted elsewhere; the library's own ones count themselves. */
class Counted {
  readonly name: string;
  readonly help: string;
  samples: readonly Sample[] = [];

  constructor({ name, help }: Metric) {
    this.name = name;
    this.help = help;
  }

  get(): Promise<object> {
    const { name, help, samples } = this;
    const values = samples.map(({ labels = {}, value, part }) => ({
      labels,
      value,
      metricName: `${name}_${part}`,
    }));
    return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values });
  }
}

interface Prepared {
  readonly registry: Registry;
  readonly instruments: readonly Instrument[];
}

async function prepare(): Promise<Prepared> {
  const prom = await import('prom-client');
  const registry = new prom.Registry();
  const instruments = METRICS.map((metric): Instrument => {
    const { name, help, labels, type } = metric;
    if (type === 'histogram') {
      const target = new Counted(metric);
      registry.registerMetric(target as unknown as Histogram);
      return { metric, target };
    }
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    return {
      metric,
      target: type === 'gauge' ? new prom.Gauge(options) : new prom.Counter(options),
    };
  });
  prom.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LOOP_MS });
  // Before its second look the library says that the event loop is 292 years late.
  await sleep(3 * LOOP_MS);
  return { registry, instruments };
}

function seconds(iso: string | undefined): number | undefined {
  return iso === undefined ? undefined : Date.parse(iso) / 1000;
}

export class MetricsText {
  readonly #engine: Engine;
  readonly #totals = new VerdictTotals();
  #prepared: Promise<Prepared> | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async text(): Promise<string> {
    this.#prepared ??= prepare();
    const { registry, instruments } = await this.#prepared;
    const reading = this.#read();
    for (const { metric, target } of instruments) {
      if (target instanceof Counted) {
        target.samples = metric.read(reading);
        continue;
      }
      target.reset();
      // What has no labels is 0 after a reset, and would stay so where there is nothing to tell.
      if (metric.labels.length === 0) target.remove();
      for (const { labels = {}, value } of metric.read(reading)) {
        if ('set' in target) target.set(labels, value);
        else target.inc(labels, value);
      }
    }
    return await registry.metrics();
  }

  #read(): Reading {
    const { acls, cluster, dns } = this.#engine;
    const status = this.#engine.status();
    const rules = [...this.#engine.snapshot().acls.keys()].map(
      (name) => [name, acls.counters(name)] as const,
    );
    // No rule has a name with a blank.
    const byDefault = { denied: acls.deniedByDefault(), allowed: 0, audited: 0 };
    const membership = status.cluster;
    return {
      status,
      lastFullCheckS: seconds(status.datapath.lastFullCheckAt),
      backendsDown: countDowns(this.#engine.catalog()),
      verdicts: this.#totals.add([...rules, ['by default', byDefault] as const]),
      cluster: membership,
      certificateUntilS: seconds(membership.member ? membership.certificateUntil : undefined),
      clusterCounters: cluster.counters(),
      dns: dns.read(),
    };
  }
}
