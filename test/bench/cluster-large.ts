/** Many services on few hosts: memory of the agents, joining, and a change on its way to other kernels. */
import { setTimeout as pause } from 'node:timers/promises';
import { TestCluster } from '../harness/cluster.ts';
import { SERVER_PORT, serveOn } from '../harness/cluster-services.ts';
import { eventually } from '../harness/eventually.ts';
import { found, joinCluster } from '../harness/forming.ts';
import type { TestHost } from '../harness/host.ts';
import { putService, removeService } from '../harness/services.ts';
import { Arrival, cpuMs, sinceMs, SPREAD_HEADERS, spread, vipAt } from './cluster-stage.ts';
import { residentBytes } from './memory.ts';
import { mib, ms, type Row, type Section, seconds } from './report.ts';

export interface LargeEffort {
  readonly services: number;
  readonly backendsEach: number;
  readonly samples: number;
}

const HOSTS = 3;
const JOINER = HOSTS - 1;
const AT_ONCE = 500;
/** Longer than an agent waits before it gives memory of a burst back. */
const REST_MS = 30_000;
const WAIT_MS = 300_000;

interface Status {
  readonly services: number;
  readonly revision: number;
  readonly datapath: { readonly state: string; readonly appliedRevision: number };
}

async function call(host: TestHost, method: string, path: string, body?: object): Promise<unknown> {
  const answer = await host.api(method, path, body);
  if (answer.status >= 300) throw new Error(`${path}: ${answer.status} ${answer.text}`);
  return answer.json();
}

/** Until its kernel has as many services. */
async function serves(host: TestHost, services: number): Promise<void> {
  const check = async (): Promise<boolean> => {
    const status = (await call(host, 'GET', '/v1/status')) as Status;
    const { state, appliedRevision } = status.datapath;
    if (state !== 'in-sync') throw new Error(`${host.name} is ${state}`);
    return status.services >= services && appliedRevision === status.revision;
  };
  const bound = { timeoutMs: WAIT_MS, everyMs: 50 };
  await eventually(`${host.name} to serve ${services} services`, check, bound);
}

const addressOf = (service: number, backend: number): string =>
  `10.${100 + backend}.${service >> 8}.${service & 255}`;

async function fill(host: TestHost, { services, backendsEach }: LargeEffort): Promise<void> {
  for (let from = 0; from < services; from += AT_ONCE) {
    const documents = Array.from({ length: Math.min(AT_ONCE, services - from) }, (_, k) => ({
      kind: 'service',
      name: `s${from + k}`,
      ports: [{ port: 80 }],
      backends: Array.from({ length: backendsEach }, (_one, b) => ({
        address: addressOf(from + k, b),
        port: 8080,
      })),
    }));
    await call(host, 'POST', '/v1/apply', { documents });
  }
}

interface Timed {
  readonly wallMs: number;
  /** Of all agents, together. */
  readonly cpuMs: number;
}

async function timed(cluster: TestCluster, work: () => Promise<void>): Promise<Timed> {
  // One that was started meanwhile begins at nothing.
  const pids = (): number[] =>
    cluster.hosts.flatMap(({ agent }) => (agent.running ? [agent.pid] : []));
  const before = new Map(pids().map((pid) => [pid, cpuMs(pid)]));
  const start = performance.now();
  await work();
  const wallMs = performance.now() - start;
  const spent = pids().map((pid) => cpuMs(pid) - (before.get(pid) ?? 0));
  return { wallMs, cpuMs: spent.reduce((sum, one) => sum + one, 0) };
}

/** `service add` on one host, until connect() works on each other. */
async function changes(cluster: TestCluster, samples: number): Promise<number[]> {
  const others = cluster.places.slice(1);
  const arrivals = await cluster.everywhere((host) => Arrival.start(host), others);
  const took: number[] = [];
  for (let n = 0; n < samples; n++) {
    const vip = vipAt(n);
    const waiting = arrivals.map((arrival) => arrival.first(vip, 80));
    await pause(100);
    const before = process.hrtime.bigint();
    await putService(cluster.host(0), `arrives-${n}`, {
      vips: [vip],
      ports: [{ port: 80 }],
      backends: [{ address: cluster.addressOf(0), port: SERVER_PORT }],
    });
    for (const at of await Promise.all(waiting)) took.push(sinceMs(before, at));
    await removeService(cluster.host(0), `arrives-${n}`);
  }
  await Promise.all(arrivals.map((arrival) => arrival.end()));
  return took;
}

const work = (what: string, { wallMs, cpuMs: cpu }: Timed): Row => ({
  what,
  cells: ['', seconds(wallMs), `${seconds(cpu)} CPU`, '', ''],
});

export async function large(effort: LargeEffort): Promise<Section> {
  const { services, backendsEach, samples } = effort;
  const maps = {
    services: 4 * services, // an entry for each VIP of each
    backends: 2 * services * backendsEach,
    slots: 2 ** 19,
    sockets: 1024,
    socketsSpilled: 1024,
  };
  await using cluster = await TestCluster.create(HOSTS, {
    config: { maps, health: { listening: false } },
  });
  const [first, second, joiner] = [0, 1, JOINER].map((at) => cluster.host(at));
  if (first === undefined || second === undefined || joiner === undefined)
    throw new Error('bug: three hosts');
  await cluster.start([0, 1]);
  await found(first);
  await joinCluster(first, cluster.listenOf(0), second);
  const filled = await timed(cluster, async () => {
    await fill(first, effort);
    await serves(second, services);
  });
  await cluster.start([JOINER]);
  const joined = await timed(cluster, async () => {
    await joinCluster(first, cluster.listenOf(0), joiner);
    await serves(joiner, services);
  });
  await pause(REST_MS);
  const resident = cluster.hosts.map(({ agent }) => residentBytes(agent.pid));
  await serveOn(cluster, 0);
  const took = await changes(cluster, samples);
  const after = cluster.hosts.map(({ agent }) => residentBytes(agent.pid));
  const most = Math.max(...after.map((one) => one.most));
  const restarted = await timed(cluster, async () => {
    await second.agent.kill('SIGKILL');
    await cluster.start([1]);
    await serves(second, services);
  });
  const names = ['wrote all of it', 'heard of it', 'joined'];
  return {
    name: 'large',
    title: `${services} services of ${backendsEach} backends on ${HOSTS} hosts`,
    headers: [...SPREAD_HEADERS],
    rows: [
      work('applied on one host, in the kernel of another', filled),
      work('a host joins, until its kernel has it all', joined),
      work('killed, started, serves', restarted),
      spread('a change, until connect() works on each other host', took),
      ...resident.map((one, at) => ({
        what: `the agent that ${names[at]}: at rest, without files, most`,
        cells: [
          '',
          mib(one.now),
          mib(one.anonymous),
          mib(after[at]?.most ?? 0),
          `${mib(after[at]?.now ?? 0)} after the changes`,
        ],
      })),
    ],
    notes: [`Rest: ${REST_MS / 1000} s after the last had joined.`],
    data: { filled, joined, restarted, resident, after, took },
    wanted: [
      {
        what: 'an agent is resident with at most 250 MB, ever',
        figure: mib(most),
        met: most <= 250e6,
      },
      {
        what: 'connect works on each other host within 100 ms (all)',
        figure: ms(Math.max(...took)),
        met: Math.max(...took) < 100,
      },
    ],
  };
}
