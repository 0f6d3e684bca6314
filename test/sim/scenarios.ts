// The scenarios whose measured quality is the baseline (baseline.json): each is one run from one seed, small enough to
// run them all in a minute or two. `better` says which way is up; what has no better must not change at all.
import { chaos } from './chaos.ts';
import { settle } from './checks.ts';
import { asymmetries, clustering, components, meanPath, overlay } from './graph.ts';
import { broadcasts, churn, cost, failAtOnce } from './measure.ts';
import { badDay, kills, partitions, quantile, ready } from './torture.ts';
import { sfc32 } from '../../src/hyparview-ts/index.ts';

export type Metrics = Record<string, number>;

export interface Scenario {
  readonly name: string;
  readonly what: string;
  readonly better: Readonly<Record<string, 'less' | 'more'>>;
  run(seed: number): Metrics;
}

function shape(seed: number): Metrics {
  const cluster = ready(seed, 300, { config: { optimiseMs: 0 } });
  const graph = overlay(cluster);
  return {
    components: components(graph).length,
    asymmetricLinks: asymmetries(graph).length,
    clustering: clustering(graph),
    meanPath: meanPath(graph, sfc32(seed, 31), 50),
  };
}

function tree(seed: number, sources: number, broadcast: 'tree' | 'source-tree' = 'tree'): Metrics {
  const cluster = ready(seed, 300, { config: { broadcast } });
  broadcasts(cluster, { count: 30, sources, seed });
  const { all } = broadcasts(cluster, { count: 60, sources, seed });
  const { reliability, rmr, lastHop, hopOf99Percent, p99Ms } = all;
  return { reliability, rmr, lastHop, hopOf99Percent, p99Ms };
}

function failure(seed: number, part: number): Metrics {
  const cluster = ready(seed, 300, { config: { optimiseMs: 0 } });
  broadcasts(cluster, { count: 20, seed });
  failAtOnce(cluster, part, seed);
  const { all, each } = broadcasts(cluster, { count: 100, everyMs: 20, seed, sources: 1 });
  const healMs = settle(cluster, 600_000);
  const { reliability, prompt } = all;
  return { reliability, prompt, first: each[0] ?? 0, last: each.at(-1) ?? 0, healMs };
}

function detection(seed: number): Metrics {
  const { knownAfterMs, falseDeaths } = kills(ready(seed, 200), seed, 15);
  const [medianMs, p99Ms] = [quantile(knownAfterMs, 0.5), quantile(knownAfterMs, 0.99)];
  return { medianMs, p99Ms, falseDeaths, known: knownAfterMs.length };
}

function zones(seed: number): Metrics {
  const cluster = ready(seed, 120, { zones: 4, restMs: 120_000 });
  const graph = overlay(cluster);
  let near = 0;
  let links = 0;
  for (const from of graph.nodes) {
    for (const to of graph.links[from] ?? []) {
      links += 1;
      if (cluster.host(from).peer.zone === cluster.host(to).peer.zone) near += 1;
    }
  }
  const { otherZoneShare } = cost(cluster, 20_000, {
    run: () => broadcasts(cluster, { count: 50, seed }),
  });
  const nearLinks = near / links;
  return { nearLinks, otherZoneShare, components: components(graph).length };
}

function torture(seed: number): Metrics {
  let worstHealMs = 0;
  for (let i = 0; i < 5; i++) worstHealMs = Math.max(worstHealMs, partitions(seed + i).healMs);
  return { worstHealMs };
}

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'shape',
    what: '300 nodes join, then the shape of the overlay',
    better: { clustering: 'less', meanPath: 'less' },
    run: shape,
  },
  {
    name: 'rest',
    what: '200 nodes at rest: what each sends',
    better: { messagesPerNodeSecond: 'less', bytesPerNodeSecond: 'less' },
    run: (seed) => ({ ...cost(ready(seed, 200), 60_000) }),
  },
  {
    name: 'churn',
    what: '200 nodes, 1 % of them crashing and coming back a minute: what each sends',
    better: { messagesPerNodeSecond: 'less', bytesPerNodeSecond: 'less' },
    run: (seed) => {
      const cluster = ready(seed, 200);
      return { ...cost(cluster, 120_000, { run: () => churn(cluster, 120_000, seed) }) };
    },
  },
  {
    name: 'tree',
    what: 'broadcasts from one node of 300, once settled',
    better: {
      reliability: 'more',
      rmr: 'less',
      lastHop: 'less',
      hopOf99Percent: 'less',
      p99Ms: 'less',
    },
    run: (seed) => tree(seed, 1),
  },
  {
    name: 'tree-many',
    what: 'broadcasts from 20 nodes of 300 in turn, once settled',
    better: {
      reliability: 'more',
      rmr: 'less',
      lastHop: 'less',
      hopOf99Percent: 'less',
      p99Ms: 'less',
    },
    run: (seed) => tree(seed, 20),
  },
  {
    name: 'source-trees',
    what: 'the same along the shortest-path tree of each origin',
    better: {
      reliability: 'more',
      rmr: 'less',
      lastHop: 'less',
      hopOf99Percent: 'less',
      p99Ms: 'less',
    },
    run: (seed) => tree(seed, 20, 'source-tree'),
  },
  {
    name: 'half-fails',
    what: 'half of 300 nodes fail at once; the next 100 broadcasts, and the time to come to rest',
    better: { reliability: 'more', prompt: 'more', first: 'more', last: 'more', healMs: 'less' },
    run: (seed) => failure(seed, 0.5),
  },
  {
    name: 'most-fail',
    what: '80 % of 300 nodes fail at once; the next 100 broadcasts, and the time to come to rest',
    better: { reliability: 'more', prompt: 'more', first: 'more', last: 'more', healMs: 'less' },
    run: (seed) => failure(seed, 0.8),
  },
  {
    name: 'detection',
    what: '15 of 200 nodes crash one after another: when does everybody know?',
    better: { medianMs: 'less', p99Ms: 'less', falseDeaths: 'less', known: 'more' },
    run: detection,
  },
  {
    name: 'bad-day',
    what: '100 nodes, 5 % loss, every tenth overloaded, 10 minutes',
    better: { falseDeaths: 'less', suspicions: 'less', linksLost: 'less' },
    run: (seed) => ({ ...badDay(seed, 100, 600_000) }),
  },
  {
    name: 'zones',
    what: '120 nodes in 4 zones after two minutes: how much stays in a zone',
    better: { nearLinks: 'more', otherZoneShare: 'less' },
    run: zones,
  },
  {
    name: 'partitions',
    what: '25 nodes cut at random for 5 minutes, five times: the longest time to be one again',
    better: { worstHealMs: 'less' },
    run: torture,
  },
  {
    name: 'chaos',
    what: 'one small random scenario of faults',
    better: { settleMs: 'less' },
    run: (seed) => {
      const { settleMs, events, hash } = chaos(seed);
      return { settleMs, events, hash };
    },
  },
];
