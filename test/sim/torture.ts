// Lashup's own torture: a cluster cut at random again and again for five minutes, nodes killed at random, a bad
// network with overloaded nodes. Each function is one run from one seed and gives back what it measured.
import { below, sfc32, unit } from '../../src/hyparview-ts/random.ts';
import type { Config } from '../../src/hyparview-ts/index.ts';
import { checkOnce, settle, watchLimits } from './checks.ts';
import { Cluster } from './cluster.ts';
import { CALM } from './simulator.ts';

/** A cluster that has joined and come to rest. */
export function ready(
  seed: number,
  nodes: number,
  { zones = 1, config = {}, everyMs = 5, restMs = 20_000 }: ReadyOptions = {},
): Cluster {
  const cluster = new Cluster(seed, config);
  cluster.addHosts(nodes, zones);
  cluster.bootstrap(everyMs);
  cluster.sim.runUntil(nodes * everyMs + restMs);
  return cluster;
}

export interface ReadyOptions {
  readonly zones?: number;
  readonly config?: Partial<Config>;
  readonly everyMs?: number;
  readonly restMs?: number;
}

/** 25 nodes, cut in two at random for random times, for five minutes; then they must be one within ten more. */
export function partitions(seed: number, nodes = 25, forMs = 300_000): { healMs: number } {
  const cluster = ready(seed, nodes, { everyMs: 20 });
  const random = sfc32(seed, 11);
  const { sim } = cluster;
  watchLimits(cluster);
  const end = sim.now + forMs;
  while (sim.now < end) {
    for (const host of sim.hosts) host.side = below(random, 2);
    sim.cuts.add('0 1').add('1 0');
    sim.runUntil(sim.now + 20_000 * unit(random));
    sim.cuts.clear();
    sim.runUntil(sim.now + 10_000 * unit(random));
  }
  const healMs = settle(cluster, 600_000);
  checkOnce(cluster);
  return { healMs };
}

export interface Detection {
  /** Between the crash and each living node's knowing it, ascending. */
  readonly knownAfterMs: readonly number[];
  /** Living nodes that somebody called dead. */
  readonly falseDeaths: number;
}

export interface Agreement extends Detection {
  /** Of each kill, when the last of the living knew; Infinity when one did not before the next kill. */
  readonly untilAllKnowMs: readonly number[];
}

/** Kills nodes one after another without any reset; how long until each living node knows? */
export function kills(cluster: Cluster, seed: number, count: number): Agreement {
  const random = sfc32(seed, 12);
  const { sim } = cluster;
  const diedAt = new Map<string, number>();
  const knownAfterMs: number[] = [];
  const untilAllKnowMs: number[] = [];
  let victimId = '';
  let known = 0;
  let falseDeaths = 0;
  cluster.onEvent = (_, event) => {
    if (event.type !== 'member-dead') return;
    const at = diedAt.get(event.id);
    if (at === undefined) falseDeaths += 1;
    else knownAfterMs.push(sim.now - at);
    if (event.id === victimId) known += 1;
  };
  for (let i = 0; i < count; i++) {
    const living = cluster.living();
    const victim = living[below(random, living.length)];
    if (victim === undefined) break;
    known = 0;
    victimId = cluster.host(victim).peer.id;
    diedAt.set(victimId, sim.now);
    cluster.crash(victim);
    sim.runUntil(sim.now + 4000 + 2000 * unit(random));
    untilAllKnowMs.push(known === living.length - 1 ? (knownAfterMs.at(-1) ?? 0) : Infinity);
  }
  return { knownAfterMs: knownAfterMs.sort((a, b) => a - b), untilAllKnowMs, falseDeaths };
}

/** How an overloaded node behaves: it stands still for so long, works for so long, again and again. */
export interface Load {
  readonly stallMs: readonly [number, number];
  readonly workMs: readonly [number, number];
}

export const OVERLOAD: Load = { stallMs: [100, 500], workMs: [50, 200] };

export function overload(
  sim: { random: { next(): number }; after(ms: number, call: () => void): void },
  stall: () => void,
  resume: () => void,
  { stallMs, workMs }: Load = OVERLOAD,
): void {
  const between = ([from, to]: readonly [number, number]): number =>
    from + (to - from) * unit(sim.random);
  const cycle = (): void => {
    stall();
    sim.after(between(stallMs), () => {
      resume();
      sim.after(between(workMs), cycle);
    });
  };
  sim.after(between(workMs), cycle);
}

/** 5 % loss and one overloaded node in ten: does anybody living get called dead? */
export function badDay(
  seed: number,
  nodes: number,
  forMs: number,
): { falseDeaths: number; suspicions: number; linksLost: number } {
  const cluster = ready(seed, nodes, { everyMs: 20 });
  const { sim } = cluster;
  let falseDeaths = 0;
  let suspicions = 0;
  let linksLost = 0;
  cluster.onEvent = (_, event) => {
    if (event.type === 'member-dead') falseDeaths += 1;
    if (event.type === 'suspected') suspicions += 1;
    if (event.type === 'link-down' && event.reason === 'failed') linksLost += 1;
  };
  sim.network = { ...CALM, loss: 0.05 };
  for (const host of sim.hosts) {
    if (host.index % 10 === 5)
      overload(
        sim,
        () => sim.stall(host),
        () => sim.resume(host),
      );
  }
  sim.runUntil(sim.now + forMs);
  return { falseDeaths, suspicions, linksLost };
}

export interface BesideSlow {
  /** Of each death, how long until all who are not overloaded knew, ascending. */
  readonly untilKnownMs: readonly number[];
  /** How often such a one called another such one dead. */
  readonly falseDeaths: number;
}

/** Every tenth of 50 is overloaded; others die one after another. */
export function besideSlow(seed: number, load: Load, count: number): BesideSlow {
  const cluster = ready(seed, 50, { everyMs: 20 });
  const { sim } = cluster;
  const random = sfc32(seed, 15);
  const isSlow = (index: number): boolean => index % 10 === 5;
  for (const host of sim.hosts) {
    if (!isSlow(host.index)) continue;
    overload(
      sim,
      () => sim.stall(host),
      () => sim.resume(host),
      load,
    );
  }
  sim.runUntil(sim.now + 5000);
  const untilKnownMs: number[] = [];
  let falseDeaths = 0;
  for (let i = 0; i < count; i++) {
    const healthy = cluster.living().filter((index) => !isSlow(index));
    const victim = healthy[below(random, healthy.length)] ?? 0;
    const victimId = cluster.host(victim).peer.id;
    const diedAt = sim.now;
    let unaware = healthy.length - 1;
    let knownMs = Infinity;
    cluster.onEvent = ({ index }, event) => {
      if (event.type !== 'member-dead' || isSlow(index)) return;
      const who = sim.byId.get(event.id)?.index ?? victim;
      if (event.id !== victimId) falseDeaths += Number(cluster.runs(who) && !isSlow(who));
      else if (--unaware === 0) knownMs = sim.now - diedAt;
    };
    cluster.crash(victim);
    sim.runUntil(sim.now + 30_000);
    untilKnownMs.push(knownMs);
  }
  return { untilKnownMs: untilKnownMs.sort((a, b) => a - b), falseDeaths };
}

export interface CutOff {
  /** Of each node, how long after the cut it held all behind it for dead, ascending. */
  readonly knownAfterMs: readonly number[];
  /** How often one of the own side was called dead: who had neighbours on the other side only has to find others. */
  readonly ownCalledDead: number;
}

/** One cut, in two at random or of one node alone, with this part of all messages lost before and after it. */
export function cutOff(seed: number, nodes: number, alone: boolean, loss: number): CutOff {
  const cluster = ready(seed, nodes, { everyMs: 20 });
  const { sim } = cluster;
  const random = sfc32(seed, 14);
  sim.network = { ...CALM, loss };
  sim.runUntil(sim.now + 10_000 + 2000 * unit(random));
  const one = below(random, nodes);
  for (const host of sim.hosts) host.side = alone ? Number(host.index === one) : below(random, 2);
  const behind = sim.hosts.map(({ side }) => sim.hosts.filter((host) => host.side !== side).length);
  const knownAfterMs = behind.map((left) => (left === 0 ? 0 : Infinity));
  const cutAt = sim.now;
  let ownCalledDead = 0;
  cluster.onEvent = ({ index, side }, event) => {
    if (event.type !== 'member-dead' && event.type !== 'member-up') return;
    const isDead = event.type === 'member-dead';
    if (sim.byId.get(event.id)?.side === side) {
      ownCalledDead += Number(isDead);
      return;
    }
    const left = (behind[index] ?? 0) + (isDead ? -1 : 1);
    behind[index] = left;
    knownAfterMs[index] = left === 0 ? sim.now - cutAt : Infinity;
  };
  sim.cuts.add('0 1').add('1 0');
  sim.runUntil(cutAt + 20_000);
  return { knownAfterMs: knownAfterMs.sort((a, b) => a - b), ownCalledDead };
}

export function quantile(ascending: readonly number[], q: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(q * ascending.length))] ?? NaN;
}
