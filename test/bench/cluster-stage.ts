/** What the measurements of a cluster share: servers everywhere, clients that wait for a service, figures of agents. */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Child } from '../harness/child.ts';
import { TestCluster } from '../harness/cluster.ts';
import { SERVER_PORT, serveOn } from '../harness/cluster-services.ts';
import type { TestHost } from '../harness/host.ts';
import { arrivalClient } from '../harness/programs.ts';
import { putService } from '../harness/services.ts';
import type { Place } from '../harness/wires.ts';
import { residentBytes } from './memory.ts';
import { ms, type Row } from './report.ts';
import { quantile } from './statistics.ts';

/** VIPs of the test; a name is hardly ever given one of these. */
export const vipAt = (n: number): string => `254.254.${(n >> 8) & 255}.${n & 255}`;
const WEB_VIP = vipAt(0xffff);
export const WEB = { name: 'web', vip: WEB_VIP, port: 80 } as const;

export const sinceMs = (from: bigint, to: bigint): number => Number(to - from) / 1e6;

/** Formed, with a server on each host. */
export async function stage(size: number): Promise<TestCluster> {
  const cluster = await TestCluster.formed(size, {
    config: { maps: { services: 4096, backends: 8192, slots: 32_768, sockets: 16_384 } },
  });
  for (const at of cluster.places) await serveOn(cluster, at);
  return cluster;
}

/** One service of which every host has a backend. */
export async function serveWeb(cluster: TestCluster): Promise<void> {
  await putService(cluster.host(0), WEB.name, {
    vips: [WEB.vip],
    ports: [{ port: WEB.port }],
    backends: cluster.places.map((at) => ({ address: cluster.addressOf(at), port: SERVER_PORT })),
  });
  await webOnAll(cluster);
}

export const backendOf = (cluster: TestCluster, at: Place): string =>
  `${cluster.addressOf(at)}:${SERVER_PORT}`;

export async function webOnAll(cluster: TestCluster): Promise<void> {
  const all = cluster.places.map((at) => backendOf(cluster, at)).toSorted();
  await cluster.backendsBecome(WEB.name, all);
}

/** A killed host as it was before: link, server, agent, member. */
export async function bringBack(cluster: TestCluster, at: Place): Promise<void> {
  await cluster.revive(at, () => serveOn(cluster, at));
  await cluster.start([at]);
}

/** How often arrival.c tries. 25 of them then take some 5 % of a CPU. */
const TRY_EVERY_US = 3000;

/** arrival.c on one host. */
export class Arrival {
  readonly #child: Child;
  #asked = 0;

  private constructor(child: Child) {
    this.#child = child;
  }

  static async start(host: TestHost): Promise<Arrival> {
    const child = host.spawn([await arrivalClient(), String(TRY_EVERY_US)]);
    await child.says(/^ready$/m);
    return new Arrival(child);
  }

  /** When a connect there worked first, from now on. */
  async first(vip: string, port: number): Promise<bigint> {
    const nth = ++this.#asked;
    this.#child.say(`${vip} ${port}\n`);
    const line = await this.#child.line(nth, 65_000);
    if (line === '0') throw new Error(`no connect to ${vip}:${port} worked in a minute`);
    return BigInt(line);
  }

  async end(): Promise<void> {
    this.#child.endInput();
    await this.#child.result();
  }
}

export interface Figures {
  readonly cpuMsPerS: number;
  readonly rss: number;
  /** Pages that agents share are divided among them. */
  readonly pss: number;
}

/** Of the agents together, at rest for so long. */
export async function figuresOf(cluster: TestCluster, seconds: number): Promise<Figures> {
  const pids = cluster.living.map((at) => cluster.host(at).agent.pid);
  const sum = (of: (pid: number) => number): number =>
    pids.reduce((total, pid) => total + of(pid), 0);
  const before = sum(cpuMs);
  await pause(seconds * 1000);
  return {
    cpuMsPerS: (sum(cpuMs) - before) / seconds,
    rss: sum((pid) => residentBytes(pid).now),
    pss: sum(proportionalBytes),
  };
}

/** User and system time of a process so far (proc(5), stat 14 and 15, in 10 ms ticks). */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function proportionalBytes(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? Number.NaN) * 1024;
}

/** A row of a distribution: how many, p50, p90, p99, most. */
export function spread(what: string, list: readonly number[]): Row {
  const at = (q: number): string => (list.length === 0 ? '-' : ms(quantile(list, q)));
  return { what, cells: [String(list.length), at(0.5), at(0.9), at(0.99), at(1)] };
}

export const SPREAD_HEADERS = ['', 'count', 'p50', 'p90', 'p99', 'most'] as const;
