// The experiments of the report. Each is a function of its options that gives back plain numbers; report.ts runs
// them, keeps what they measured, and report-text.ts sets it next to the published figures.
import { PAPER, sfc32 } from '../../src/hyparview-ts/index.ts';
import { below } from '../../src/hyparview-ts/random.ts';
import { Violation } from './checks.ts';
import { Cluster } from './cluster.ts';
import { asymmetries, clustering, components, inDegrees, meanPath, overlay } from './graph.ts';
import { broadcasts, churn, cost, failAtOnce } from './measure.ts';
import type { BroadcastQuality, Cost } from './measure.ts';
import { badDaySwim, killsSwim, readySwim } from './swim.ts';
import { walkTrees } from './walk.ts';
import type { WalkQuality } from './walk.ts';
import { lone } from './lone.ts';
import type { LoneResult } from './lone.ts';
import { CALM } from './simulator.ts';
import { badDay, kills, quantile, ready } from './torture.ts';
import type { Detection } from './torture.ts';

const JOIN_EVERY_MS = 5;

export interface Options {
  readonly nodes: number;
  readonly broadcasts: number;
  readonly hours: number;
  readonly runs: number;
  readonly seed: number;
}

/** One part of an experiment, kept by its name: what is there already is not run again. */
export interface Step<T> {
  readonly name: string;
  run(): T;
}

function step<T>(name: string, run: () => T): Step<T> {
  return { name, run };
}

/** HPV and PT leave noticing to TCP: links are pinged now and then only. */
const TCP_NOTICES = { pingMinMs: 5000, pingMaxMs: 5000 };

/** The paper's overlay: its parameters, no X-BOT, no link states; joined over 2 ms a node and left alone a while. */
function paperOverlay({ nodes, seed }: Options, broadcast: 'flood' | 'tree'): Cluster {
  const cluster = new Cluster(seed, { ...PAPER, ...TCP_NOTICES, linkState: false, broadcast });
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

export function shape(options: Options): Step<ShapeResult>[] {
  const look = (cluster: Cluster): ShapeResult => {
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
  };
  const config = { ...TCP_NOTICES, linkState: false, broadcast: 'flood' } as const;
  return [
    step('paper', () => look(paperOverlay(options, 'flood'))),
    step('default', () =>
      look(ready(options.seed, options.nodes, { config, everyMs: 2, restMs: 60_000 })),
    ),
  ];
}

export interface FailureResult {
  readonly nodes: number;
  readonly part: number;
  readonly broadcasts: number;
  /** Averaged over all broadcasts; late ones count. */
  readonly reliability: number;
  /** The same for what came before the next broadcast was sent. */
  readonly prompt: number;
  /** Of each of the first broadcasts, by then. */
  readonly firstPrompt: readonly number[];
  /** How many broadcasts before the first that reached all by then; undefined: none did. */
  readonly wholeAfter: number | undefined;
  readonly healMs: number | undefined;
  readonly largestComponent: number;
}

const FAILURE_EVERY_MS = 20;

export function failures(options: Options): Step<FailureResult>[] {
  const parts = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
  return parts.map((part) => step(`${100 * part} %`, () => failure(options, part)));
}

function failure(options: Options, part: number): FailureResult {
  const cluster = paperOverlay(options, 'flood');
  failAtOnce(cluster, part, options.seed);
  const { all, eachPrompt } = broadcasts(cluster, {
    count: options.broadcasts,
    everyMs: FAILURE_EVERY_MS,
    sources: options.broadcasts,
    waitMs: 1000,
  });
  const whole = eachPrompt.findIndex((reached) => reached === 1);
  const sizes = components(overlay(cluster));
  return {
    nodes: options.nodes,
    part,
    broadcasts: options.broadcasts,
    reliability: all.reliability,
    prompt: all.prompt,
    firstPrompt: eachPrompt.slice(0, 100),
    wholeAfter: whole < 0 ? undefined : whole,
    healMs: whole < 0 ? undefined : whole * FAILURE_EVERY_MS,
    largestComponent: (sizes[0] ?? 0) / Math.max(1, cluster.living().length),
  };
}

export interface TreeResult {
  readonly what: string;
  readonly nodes: number;
  readonly one?: BroadcastQuality;
  readonly origins: number;
  readonly many: BroadcastQuality | WalkQuality;
  readonly failed?: BroadcastQuality;
}

/** Origins of those that are not simulated: all nodes looking for their places in each tree takes its time. */
const WALKED = 5;
const ORIGINS = 20;

/** Plumtree as in its paper; and both kinds of tree as this package ships them. */
export function trees(options: Options): Step<TreeResult>[] {
  const { seed, nodes } = options;
  const small = Math.min(nodes, 1000);
  const plain = { ...TCP_NOTICES, linkState: false, broadcast: 'tree' } as const;
  return [
    step('paper', () =>
      tree(options, "Plumtree, the paper's overlay", paperOverlay(options, 'tree')),
    ),
    step('views', () =>
      tree(
        options,
        'Plumtree, default overlay without link states',
        ready(seed, nodes, { config: plain, everyMs: 2, restMs: 60_000 }),
      ),
    ),
    step('small', () =>
      tree(
        options,
        'Plumtree, default overlay',
        ready(seed, small, { config: { broadcast: 'tree' } }),
      ),
    ),
    step('origins', () =>
      tree(
        options,
        'a tree for each origin, default overlay',
        ready(seed, small, { config: { broadcast: 'source-tree' } }),
      ),
    ),
    step('origins at rest', () => {
      const cluster = ready(seed, nodes, { config: plain, everyMs: 2, restMs: 60_000 });
      const what = 'a tree for each origin, default overlay, all told of all links';
      const random = sfc32(seed, 42);
      const origins = Array.from({ length: WALKED }, () => below(random, nodes));
      return { what, nodes, origins: WALKED, many: walkTrees(cluster, origins) };
    }),
  ];
}

function tree({ seed, broadcasts: count }: Options, what: string, cluster: Cluster): TreeResult {
  const nodes = cluster.living().length;
  broadcasts(cluster, { count: 30, seed });
  const one = broadcasts(cluster, { count, seed }).all;
  broadcasts(cluster, { count: 40, seed, sources: ORIGINS });
  const many = broadcasts(cluster, { count, seed, sources: ORIGINS }).all;
  failAtOnce(cluster, 0.3, seed);
  const failed = broadcasts(cluster, { count, everyMs: 50, seed: seed + 1 }).all;
  return { what, nodes, one, origins: ORIGINS, many, failed };
}

export interface DetectionResult {
  readonly what: string;
  readonly nodes: number;
  readonly crashes: number;
  readonly percentiles: readonly number[];
  readonly falseDeaths: number;
}

/** Every percent of the distribution, to plot it and to read the median and p99 from. */
function percentiles(ascending: readonly number[]): number[] {
  return Array.from({ length: 101 }, (_, i) => quantile(ascending, i / 100));
}

export function detection({ nodes, runs, seed }: Options): Step<DetectionResult>[] {
  const result = (what: string, { knownAfterMs, falseDeaths }: Detection): DetectionResult => {
    return { what, nodes, crashes: runs, percentiles: percentiles(knownAfterMs), falseDeaths };
  };
  return [
    step('ours', () => result('hyparview-ts', kills(ready(seed, nodes), seed, runs))),
    step('theirs', () =>
      result(
        'memberlist, LAN defaults, same simulator',
        killsSwim(readySwim(seed, nodes), seed, runs),
      ),
    ),
  ];
}

export interface BadDayResult {
  readonly what: string;
  readonly nodes: number;
  readonly hours: number;
  readonly falseDeaths: number;
  readonly suspicions: number;
  readonly linksLost?: number;
}

export function badDays({ nodes, hours, seed }: Options): Step<BadDayResult>[] {
  const forMs = hours * 3_600_000;
  return [
    step('ours', () => ({ what: 'hyparview-ts', nodes, hours, ...badDay(seed, nodes, forMs) })),
    step('theirs', () => ({ what: 'memberlist', nodes, hours, ...badDaySwim(seed, nodes, forMs) })),
  ];
}

export interface CostResult {
  readonly nodes: number;
  readonly linkState: boolean;
  /** While all join, until they have been left alone for a while. */
  readonly storm: Cost;
  readonly rest: Cost;
  readonly lossy: Cost;
  readonly churn: Cost;
  /** The whole simulator's CPU in the minute of rest. */
  readonly cpuMicrosPerNodeSecond: number;
}

/** Link states are on as they ship, and off to see what they cost. */
function withAndWithoutLinkStates<T>(
  sizes: readonly number[],
  run: (nodes: number, linkState: boolean) => T,
): Step<T>[] {
  return [true, false].flatMap((linkState) =>
    [...new Set(sizes)].map((size) =>
      step(`${size}${linkState ? '' : ' views only'}`, () => run(size, linkState)),
    ),
  );
}

export function costs({ nodes, seed }: Options): Step<CostResult>[] {
  return withAndWithoutLinkStates([10, 100, 1000, 3000, nodes], (size, linkState) =>
    costOf(seed, size, linkState),
  );
}

function costOf(seed: number, nodes: number, linkState: boolean): CostResult {
  const cluster = new Cluster(seed, { linkState });
  cluster.addHosts(nodes);
  cluster.bootstrap(JOIN_EVERY_MS);
  const storm = cost(cluster, nodes * JOIN_EVERY_MS + 20_000, { nodes });
  const before = process.cpuUsage().user;
  const rest = cost(cluster, 30_000);
  const cpuMicrosPerNodeSecond = (process.cpuUsage().user - before) / (nodes * 30);
  cluster.sim.network = { ...CALM, loss: 0.01 };
  const lossy = cost(cluster, 30_000);
  cluster.sim.network = CALM;
  cluster.sim.runUntil(cluster.sim.now + 10_000);
  const changing = cost(cluster, 60_000, { run: () => churn(cluster, 60_000, seed) });
  return { nodes, linkState, storm, rest, lossy, churn: changing, cpuMicrosPerNodeSecond };
}

/** One node, told of clusters of these sizes. */
export function alone({ nodes, seed }: Options): Step<LoneResult>[] {
  const sizes = [...new Set([100, 1000, nodes])];
  return sizes.map((size) => step(String(size), () => lone(size, seed)));
}

export interface StormResult {
  readonly nodes: number;
  readonly linkState: boolean;
  readonly settleMs: number;
  readonly events: number;
  readonly cpuSeconds: number;
  readonly rssBytesMax: number;
}

/** All join, one every 2 ms; how long until one overlay, links with two ends, and everybody knows everybody. */
export function storm({ nodes, seed }: Options): Step<StormResult>[] {
  return withAndWithoutLinkStates([1000, 3000, nodes], (size, linkState) =>
    stormOf(seed, size, linkState),
  );
}

function stormOf(seed: number, nodes: number, linkState: boolean): StormResult {
  const before = process.cpuUsage().user;
  const cluster = new Cluster(seed, { linkState });
  cluster.addHosts(nodes);
  cluster.bootstrap(2);
  cluster.sim.runUntil(nodes * 2);
  const settleMs = whenJoined(cluster);
  const cpuSeconds = (process.cpuUsage().user - before) / 1e6;
  const rssBytesMax = process.resourceUsage().maxRSS * 1024;
  return { nodes, linkState, settleMs, events: cluster.sim.events, cpuSeconds, rssBytesMax };
}

/** Like checks.ts' settle, without looking at every path of every node: that alone would take minutes. */
function whenJoined(cluster: Cluster): number {
  const { sim, config } = cluster;
  const start = sim.now;
  for (;;) {
    const graph = overlay(cluster);
    const isOne = components(graph).length === 1 && asymmetries(graph).length === 0;
    const others = graph.nodes.length - 1;
    const know = (index: number): boolean => cluster.node(index).members.aliveCount === others;
    if (isOne && (!config.linkState || graph.nodes.every(know))) return sim.now - start;
    if (sim.now - start > 600_000) throw new Violation('not one cluster after ten minutes');
    sim.runUntil(sim.now + 500);
  }
}
