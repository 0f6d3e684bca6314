// The experiments of the report. Each is a function of its options that gives back plain numbers; report.ts runs
// them, keeps what they measured, and report-text.ts sets it next to the published figures.
import { PAPER, sfc32 } from '../../src/hyparview-ts/index.ts';
import { settle } from './checks.ts';
import { Cluster } from './cluster.ts';
import { clustering, components, inDegrees, meanPath, overlay } from './graph.ts';
import { broadcasts, churn, cost, failAtOnce } from './measure.ts';
import type { BroadcastQuality, Cost } from './measure.ts';
import { badDaySwim, killsSwim, readySwim } from './swim.ts';
import { badDay, kills, partitions, quantile, ready } from './torture.ts';

export interface Options {
  readonly nodes: number;
  readonly broadcasts: number;
  readonly hours: number;
  readonly runs: number;
  readonly seed: number;
}

/** The paper's overlay: its parameters, no X-BOT, no link states; joined over 2 ms a node and left alone a while. */
function paperOverlay({ nodes, seed }: Options, broadcast: 'flood' | 'tree'): Cluster {
  const cluster = new Cluster(seed, { ...PAPER, linkState: false, broadcast });
  cluster.addHosts(nodes);
  cluster.bootstrap(2);
  cluster.sim.runUntil(nodes * 2 + 60_000);
  return cluster;
}

export interface ShapeResult {
  readonly nodes: number;
  readonly components: number;
  readonly clustering: number;
  readonly meanPath: number;
  readonly lastHop: number;
  readonly inDegrees: readonly number[];
}

export function shape(options: Options): ShapeResult {
  const cluster = paperOverlay(options, 'flood');
  const graph = overlay(cluster);
  const { all } = broadcasts(cluster, { count: 20, sources: 20, everyMs: 100 });
  return {
    nodes: options.nodes,
    components: components(graph).length,
    clustering: clustering(graph),
    meanPath: meanPath(graph, sfc32(options.seed, 41), 50),
    lastHop: all.lastHop,
    inDegrees: inDegrees(graph),
  };
}

export interface FailureResult {
  readonly nodes: number;
  readonly part: number;
  readonly reliability: number;
  readonly first: number;
  /** Broadcasts until the first that reached all; undefined: none did. */
  readonly wholeAfter: number | undefined;
  readonly largestComponent: number;
  readonly healMs: number | undefined;
}

export function failures(options: Options, parts: readonly number[]): FailureResult[] {
  return parts.map((part) => {
    const cluster = paperOverlay(options, 'flood');
    failAtOnce(cluster, part, options.seed);
    const start = cluster.sim.now;
    const { all, each } = broadcasts(cluster, {
      count: options.broadcasts,
      everyMs: 20,
      sources: options.broadcasts,
      waitMs: 1000,
    });
    const whole = each.findIndex((reached) => reached === 1);
    const sizes = components(overlay(cluster));
    return {
      nodes: options.nodes,
      part,
      reliability: all.reliability,
      first: each[0] ?? 0,
      wholeAfter: whole < 0 ? undefined : whole,
      largestComponent: (sizes[0] ?? 0) / Math.max(1, cluster.living().length),
      healMs: whole < 0 ? undefined : Math.min(whole * 20, cluster.sim.now - start),
    };
  });
}

export interface TreeResult {
  readonly what: string;
  readonly one: BroadcastQuality;
  readonly many: BroadcastQuality;
  readonly failed: BroadcastQuality;
}

/** Plumtree as in its paper; and both kinds of tree as this package ships them. */
export function trees(options: Options): TreeResult[] {
  const { seed } = options;
  const count = options.broadcasts;
  const small = Math.min(options.nodes, 1000);
  const variants: { what: string; make: () => Cluster }[] = [
    {
      what: `Plumtree, the paper's overlay, ${options.nodes} nodes`,
      make: () => paperOverlay(options, 'tree'),
    },
    {
      what: `Plumtree, default overlay, ${small} nodes`,
      make: () => ready(seed, small, { config: { broadcast: 'tree' } }),
    },
    {
      what: `a tree for each origin, default overlay, ${small} nodes`,
      make: () => ready(seed, small, { config: { broadcast: 'source-tree' } }),
    },
  ];
  return variants.map(({ what, make }) => {
    const cluster = make();
    broadcasts(cluster, { count: 30, seed });
    const one = broadcasts(cluster, { count, seed }).all;
    broadcasts(cluster, { count: 40, seed, sources: 20 });
    const many = broadcasts(cluster, { count, seed, sources: 20 }).all;
    failAtOnce(cluster, 0.3, seed);
    const failed = broadcasts(cluster, { count, everyMs: 50, seed: seed + 1 }).all;
    return { what, one, many, failed };
  });
}

export interface DetectionResult {
  readonly nodes: number;
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  readonly oursFalse: number;
  readonly theirsFalse: number;
}

/** Every percent of the distribution, to plot it and to read the median and p99 from. */
function percentiles(ascending: readonly number[]): number[] {
  return Array.from({ length: 101 }, (_, i) => quantile(ascending, i / 100));
}

export function detection({ nodes, runs, seed }: Options): DetectionResult {
  const ours = kills(ready(seed, nodes), seed, runs);
  const theirs = killsSwim(readySwim(seed, nodes), seed, runs);
  return {
    nodes,
    ours: percentiles(ours.knownAfterMs),
    theirs: percentiles(theirs.knownAfterMs),
    oursFalse: ours.falseDeaths,
    theirsFalse: theirs.falseDeaths,
  };
}

export interface BadDayResult {
  readonly nodes: number;
  readonly hours: number;
  readonly ours: { falseDeaths: number; suspicions: number; linksLost: number };
  readonly theirs: { falseDeaths: number; suspicions: number };
}

export function badDays({ nodes, hours, seed }: Options): BadDayResult {
  const forMs = hours * 3_600_000;
  const ours = badDay(seed, nodes, forMs);
  const theirs = badDaySwim(seed, nodes, forMs);
  return { nodes, hours, ours, theirs };
}

export interface CostResult {
  readonly nodes: number;
  readonly linkState: boolean;
  readonly rest: Cost;
  readonly churn: Cost;
}

export function costs(
  { seed }: Options,
  sizes: readonly number[],
  linkState: boolean,
): CostResult[] {
  return sizes.map((nodes) => {
    const cluster = ready(seed, nodes, { config: { linkState } });
    const rest = cost(cluster, 30_000);
    const changing = cost(cluster, 60_000, () => churn(cluster, 60_000, seed));
    return { nodes, linkState, rest, churn: changing };
  });
}

export interface TortureResult {
  readonly runs: number;
  readonly worstHealMs: number;
  readonly medianHealMs: number;
}

export function torture({ runs, seed }: Options): TortureResult {
  const healed: number[] = [];
  for (let i = 0; i < runs; i++) healed.push(partitions(seed + i).healMs);
  healed.sort((a, b) => a - b);
  return { runs, worstHealMs: healed.at(-1) ?? 0, medianHealMs: quantile(healed, 0.5) };
}

/** A storm: so many join within `everyMs` each; how long until one overlay with full views, and what it takes. */
export function storm({ nodes, seed }: Options): {
  nodes: number;
  settleMs: number;
  events: number;
} {
  const cluster = new Cluster(seed, { linkState: false });
  cluster.addHosts(nodes);
  cluster.bootstrap(2);
  cluster.sim.runUntil(nodes * 2);
  const settleMs = settle(cluster, 600_000);
  return { nodes, settleMs, events: cluster.sim.events };
}
