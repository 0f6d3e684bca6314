// One random scenario, all of it from its seed: a small cluster, a bad network, a handful of faults; then the faults
// end and everything must come right. Small on purpose: a thousand of these find more than one big run.
import { decode, encode } from '../../src/hyparview-ts/codec.ts';
import { below, sfc32, unit } from '../../src/hyparview-ts/random.ts';
import type { Random } from '../../src/hyparview-ts/random.ts';
import {
  checkBroadcasts,
  checkEnd,
  checkForgotten,
  checkOnce,
  checkQuiet,
  settle,
  watchLimits,
} from './checks.ts';
import { Cluster } from './cluster.ts';
import { CALM } from './simulator.ts';

const SEEDS = 3;
/** In some scenarios the dead are forgotten while one looks on. */
const FORGET_MS = 20_000;
/** Half of rejoinPeriodMs would do; the promise is 10 minutes. */
const SETTLE_MS = 600_000;

export interface ChaosResult {
  readonly seed: number;
  readonly hash: number;
  readonly events: number;
  readonly nodes: number;
  readonly settleMs: number;
  readonly faults: readonly string[];
}

export function chaos(seed: number): ChaosResult {
  const random = sfc32(seed, 7);
  const cluster = new Cluster(seed, {
    activeMax: 2 + below(random, 6),
    passiveMax: 6 + below(random, 37),
    broadcast: below(random, 2) === 0 ? 'tree' : 'source-tree',
    ...(below(random, 8) === 0 ? { forgetMs: FORGET_MS } : {}),
  });
  if (below(random, 4) === 0) asOutside(cluster);
  const nodes = 2 + below(random, 15);
  cluster.addHosts(nodes, 1 + below(random, 3));
  watchLimits(cluster);
  cluster.sim.network = badNetwork(random);
  for (const host of cluster.sim.hosts) {
    host.offsetMs = below(random, 3) === 0 ? 1e6 * unit(random) : 0;
    host.rate = 1 + (below(random, 3) === 0 ? 0.05 * (unit(random) - 0.5) : 0);
    host.earlyMs = below(random, 6) === 0 ? 2 : 0;
  }
  cluster.bootstrap(below(random, 500), SEEDS);
  cluster.sim.runUntil(nodes * 500);
  const faults: string[] = [];
  const pending: Pending = { until: 0 };
  const steps = 1 + below(random, 10);
  for (let i = 0; i < steps; i++) {
    faults.push(inject(cluster, random, pending));
    cluster.sim.runUntil(cluster.sim.now + below(random, below(random, 4) === 0 ? 20_000 : 3000));
  }
  try {
    const settleMs = recover(cluster, pending);
    return { seed, hash: cluster.sim.hash, events: cluster.sim.events, nodes, settleMs, faults };
  } catch (error) {
    throw new Error(report(seed, cluster, faults), { cause: error });
  }
}

/** With what the simulator spares its nodes elsewhere: numbers of their own for ids, and messages as bytes. */
function asOutside(cluster: Cluster): void {
  cluster.names = undefined;
  cluster.sim.wire = (message) => decode(encode(message));
}

/** When the last fault that was begun ends by itself. */
interface Pending {
  until: number;
}

function report(seed: number, cluster: Cluster, faults: readonly string[]): string {
  const trace = cluster.sim.trace().map((line) => `  ${line}`);
  return [
    `chaos failed with seed ${seed}; again: npm run sim -- --scenario chaos --seed ${seed}`,
    `  faults: ${faults.join(', ')}`,
    ...trace.slice(-24),
  ].join('\n');
}

function badNetwork(random: Random): typeof CALM {
  return {
    latencyMs: 0.2 + 20 * unit(random) * unit(random),
    otherZoneLatencyMs: 1 + 80 * unit(random) * unit(random),
    jitter: below(random, 2) === 0 ? 0.1 : 3 * unit(random),
    loss: below(random, 2) === 0 ? 0 : 0.15 * unit(random),
    duplicate: below(random, 2) === 0 ? 0 : 0.1 * unit(random),
  };
}

function inject(cluster: Cluster, random: Random, pending: Pending): string {
  const { sim } = cluster;
  const victim = below(random, sim.hosts.length);
  const host = cluster.host(victim);
  const runs = cluster.runs(victim);
  switch (below(random, 10)) {
    case 0:
    case 1:
      if (runs) cluster.crash(victim, below(random, 2) === 0);
      return `crash ${victim}`;
    case 2:
      if (runs) return 'nothing';
      return restart(cluster, random, victim);
    case 3:
      if (runs && host.stalled === undefined) cluster.leave(victim);
      return `leave ${victim}`;
    case 4:
      return partition(cluster, random, pending);
    case 5:
      sim.cuts.clear();
      sim.pairCuts.clear();
      return 'heal';
    case 6: {
      const ms = below(random, 8000);
      sim.stall(host);
      sim.after(ms, () => sim.resume(host));
      pending.until = Math.max(pending.until, sim.now + ms);
      return `stall ${victim} for ${ms} ms`;
    }
    case 7: {
      const all = cluster.living().filter((index) => cluster.host(index).stalled === undefined);
      for (const index of all.slice(0, 3)) cluster.broadcast(index, 4 + below(random, 2000));
      return 'broadcast';
    }
    case 8: {
      const other = below(random, sim.hosts.length);
      sim.pairCuts.add(victim * 65_536 + other);
      return `nothing gets from ${victim} to ${other}`;
    }
    default:
      sim.network = badNetwork(random);
      return 'another network';
  }
}

function restart(cluster: Cluster, random: Random, victim: number): string {
  const host = cluster.host(victim);
  const disk = below(random, 2) === 0;
  // a clock set back, and no disk: the new life begins with a lower incarnation than the old one had
  const back = !disk && below(random, 2) === 0;
  if (back) host.offsetMs = 1 - host.rate * cluster.sim.now;
  const seeds = [0, 1, 2].slice(0, cluster.sim.hosts.length);
  cluster.start(victim, seeds, disk);
  return `restart ${victim}${disk ? '' : ' without disk'}${back ? ', clock set back' : ''}`;
}

/** Cuts the hosts in two or three, both ways or one way, and lets the cut flap now and then. */
function partition(cluster: Cluster, random: Random, pending: Pending): string {
  const { sim } = cluster;
  const sides = 2 + below(random, 2);
  for (const host of sim.hosts) host.side = below(random, sides);
  const oneWay = below(random, 3) === 0;
  const cut = (): void => {
    for (let a = 0; a < sides; a++) {
      for (let b = 0; b < sides; b++) if (a !== b && (!oneWay || a < b)) sim.cuts.add(`${a} ${b}`);
    }
  };
  cut();
  if (below(random, 3) > 0) return oneWay ? 'one-way partition' : 'partition';
  pending.until = Math.max(pending.until, sim.now + 4000);
  for (let i = 1; i < 10; i++) sim.after(i * 400, i % 2 === 0 ? cut : () => sim.cuts.clear());
  return 'flapping partition';
}

function recover(cluster: Cluster, pending: Pending): number {
  const { sim } = cluster;
  sim.runUntil(Math.max(sim.now, pending.until + 1)); // the last stall and flap are over
  sim.cuts.clear();
  sim.pairCuts.clear();
  sim.network = { ...CALM, latencyMs: sim.network.latencyMs };
  for (const host of sim.hosts) sim.resume(host);
  const seeds = [0, 1, 2].slice(0, sim.hosts.length);
  for (const seed of seeds) if (!cluster.runs(seed)) cluster.start(seed, seeds);
  const settleMs = settle(cluster, SETTLE_MS);
  checkBroadcasts(cluster, cluster.living().slice(0, 3), 3000);
  if (cluster.config.forgetMs === FORGET_MS) checkForgotten(cluster);
  checkQuiet(cluster);
  checkOnce(cluster);
  checkEnd(cluster);
  return settleMs;
}
