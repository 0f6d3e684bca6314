/** CPU time of agents in a cluster: each of them at rest, and for one change that somebody makes. */
import { setTimeout as pause } from 'node:timers/promises';
import type { TestCluster } from '../harness/cluster.ts';
import { SERVER_PORT } from '../harness/cluster-services.ts';
import type { Dice } from '../harness/random.ts';
import { putService, removeService } from '../harness/services.ts';
import { cpuMs, stage, vipAt } from './cluster-stage.ts';
import type { Row, Section } from './report.ts';

export interface CostEffort {
  readonly hosts: number;
  readonly restSeconds: number;
  readonly changes: number;
}

/** After the forming: pings and shuffles have slowed down. */
const SETTLE_MS = 20_000;
/** From one change to the next: each is a broadcast of its own. */
const PACE_MS = 100;

/** Of each agent over `work`, which took `seconds`. */
interface Spent {
  readonly seconds: number;
  readonly ms: readonly number[];
}

async function spent(cluster: TestCluster, work: () => Promise<void>): Promise<Spent> {
  const pids = cluster.places.map((at) => cluster.host(at).agent.pid);
  const before = pids.map(cpuMs);
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  return { seconds, ms: pids.map((pid, at) => cpuMs(pid) - (before[at] ?? 0)) };
}

/** A service with a backend is added, and removed: two changes. */
async function change(cluster: TestCluster, dice: Dice, changes: number): Promise<void> {
  for (let n = 0; n < changes; n++) {
    const host = cluster.host(dice.pick(cluster.places));
    const name = `costs-${n >> 1}`;
    const backend = { address: cluster.addressOf(dice.pick(cluster.places)), port: SERVER_PORT };
    if (n % 2 === 1) await removeService(host, name);
    else
      await putService(host, name, {
        vips: [vipAt(n)],
        ports: [{ port: 80 }],
        backends: [backend],
      });
    await cluster.everywhere(async (_, at) => {
      while (cluster.mapsOf(at).some(({ service }) => service === name) !== (n % 2 === 0))
        await pause(5);
    });
    await pause(PACE_MS);
  }
}

const figure = (value: number): string => value.toFixed(2);

function row(what: string, list: readonly number[]): Row {
  const sorted = list.toSorted((a, b) => a - b);
  const mean = sorted.reduce((sum, one) => sum + one, 0) / sorted.length;
  return { what, cells: [mean, sorted[0] ?? 0, sorted.at(-1) ?? 0].map(figure) };
}

export async function cost(effort: CostEffort, dice: Dice): Promise<Section> {
  await using cluster = await stage(effort.hosts);
  await pause(SETTLE_MS);
  const rest = await spent(cluster, () => pause(effort.restSeconds * 1000));
  const restMsPerS = rest.ms.map((one) => one / rest.seconds);
  const busy = await spent(cluster, () => change(cluster, dice, effort.changes));
  const changeMs = busy.ms.map(
    (one, at) => (one - (restMsPerS[at] ?? 0) * busy.seconds) / effort.changes,
  );
  return {
    name: 'cost',
    title: `CPU of one agent of ${effort.hosts} (user and system, ms)`,
    headers: ['', 'mean', 'least', 'most'],
    rows: [row('at rest, each second', restMsPerS), row('for one change beside that', changeMs)],
    notes: [
      `Rest: ${effort.restSeconds} s. Changes: ${effort.changes}, each by a random host, in ${busy.seconds.toFixed(0)} s.`,
    ],
    data: { restMsPerS, changeMs },
    wanted: [],
  };
}
