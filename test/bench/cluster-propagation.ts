/** `service add` on one host until connect() works on every other; and agents at rest. */
import { setTimeout as pause } from 'node:timers/promises';
import type { TestCluster } from '../harness/cluster.ts';
import { SERVER_PORT } from '../harness/cluster-services.ts';
import type { Dice } from '../harness/random.ts';
import { putService, removeService } from '../harness/services.ts';
import {
  Arrival,
  figuresOf,
  sinceMs,
  SPREAD_HEADERS,
  spread,
  stage,
  vipAt,
} from './cluster-stage.ts';
import type { Place } from '../harness/wires.ts';
import { mib, ms, type Section } from './report.ts';
import { quantile } from './statistics.ts';

export interface PropagationEffort {
  readonly sizes: readonly number[];
  readonly samples: number;
  readonly restSeconds: number;
}

interface Sample {
  /** From before the call to the API. */
  readonly acknowledgedMs: number;
  /** Of each other host. */
  readonly arrivedMs: readonly number[];
}

/** How long nothing is changed before a change, at least: long enough for the clients to have begun. */
const PAUSES_MS = { alone: 400, 'right after another': 30 } as const;
type Pace = keyof typeof PAUSES_MS;
const PACES: readonly Pace[] = ['alone', 'right after another'];

async function sample(
  cluster: TestCluster,
  arrivals: readonly Arrival[],
  dice: Dice,
  { n, origin, pauseMs }: { n: number; origin: Place; pauseMs: number },
): Promise<Sample> {
  const backend = dice.pick(cluster.places);
  const others = cluster.places.filter((at) => at !== origin);
  const [name, vip] = [`arrives-${n}`, vipAt(n)];
  const waiting = others.map((at) => arrivals[at]?.first(vip, 80) ?? Promise.reject(new Error()));
  await pause(pauseMs + dice.below(20)); // at any moment of the agents' own timers
  const before = process.hrtime.bigint();
  await putService(cluster.host(origin), name, {
    vips: [vip],
    ports: [{ port: 80 }],
    backends: [{ address: cluster.addressOf(backend), port: SERVER_PORT }],
  });
  const acknowledgedMs = sinceMs(before, process.hrtime.bigint());
  const arrivedMs = (await Promise.all(waiting)).map((at) => sinceMs(before, at));
  await removeService(cluster.host(origin), name);
  return { acknowledgedMs, arrivedMs };
}

interface Measured {
  readonly size: number;
  readonly formMs: number;
  readonly figures: Awaited<ReturnType<typeof figuresOf>>;
  readonly samples: Readonly<Record<Pace, readonly Sample[]>>;
}

async function measure(size: number, effort: PropagationEffort, dice: Dice): Promise<Measured> {
  const start = performance.now();
  await using cluster = await stage(size);
  const formMs = performance.now() - start;
  const figures = await figuresOf(cluster, effort.restSeconds);
  const arrivals = await cluster.everywhere((host) => Arrival.start(host));
  let n = 0;
  const one = (pauseMs: number, origin = dice.pick(cluster.places)): Promise<Sample> =>
    sample(cluster, arrivals, dice, { n: n++, origin, pauseMs });
  // What an agent does for the first time costs it some 8 ms more, once.
  for (const at of cluster.places) await one(PAUSES_MS.alone, at);
  const samples: Record<Pace, Sample[]> = { alone: [], 'right after another': [] };
  for (const pace of PACES)
    for (let i = 0; i < effort.samples; i++) samples[pace].push(await one(PAUSES_MS[pace]));
  await Promise.all(arrivals.map((arrival) => arrival.end()));
  return { size, formMs, figures, samples };
}

export async function propagation(effort: PropagationEffort, dice: Dice): Promise<Section> {
  const measured: Measured[] = [];
  for (const size of effort.sizes) measured.push(await measure(size, effort, dice));
  const p99 = (list: readonly number[]): number => quantile(list, 0.99);
  const all = (samples: readonly Sample[]): number[] =>
    samples.flatMap(({ arrivedMs }) => arrivedMs);
  return {
    name: 'propagation',
    title: '`service add` on one host (API) until connect() works on another',
    headers: [...SPREAD_HEADERS],
    rows: measured.flatMap(({ size, samples }) =>
      PACES.flatMap((pace) => [
        spread(`${size} hosts, ${pace}: each other host`, all(samples[pace])),
        spread(
          `${size} hosts, ${pace}: the last of them`,
          samples[pace].map(({ arrivedMs }) => Math.max(...arrivedMs)),
        ),
        spread(
          `${size} hosts, ${pace}: the answer of the API`,
          samples[pace].map(({ acknowledgedMs }) => acknowledgedMs),
        ),
      ]),
    ),
    notes: measured.map(({ size, formMs, figures: { rss, pss, cpuMsPerS } }) =>
      [
        `${size} agents at rest: ${mib(rss / size)} resident each, ${mib(pss / size)} with shared pages divided,`,
        `${cpuMsPerS.toFixed(0)} ms of CPU a second together; made, started and formed in ${(formMs / 1000).toFixed(1)} s`,
      ].join(' '),
    ),
    data: measured,
    wanted: measured
      .filter(({ size }) => size === 25)
      .map(({ samples }) => ({
        what: 'connect works on every other within 100 ms at 25 hosts (p99)',
        figure: ms(p99(all(samples.alone))),
        met: p99(all(samples.alone)) < 100,
      })),
  };
}
