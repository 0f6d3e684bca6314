/**
 * A host dies, or is cut off: until its backend is out of every other host's
 * maps, and theirs out of its own. An agent is stopped: nobody notices.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { TestCluster } from '../harness/cluster.ts';
import { Dialler } from '../harness/dialling.ts';
import { eventually } from '../harness/eventually.ts';
import type { Dice } from '../harness/random.ts';
import { VipWatch } from '../harness/vip-watch.ts';
import type { Place } from '../harness/wires.ts';
import {
  backendOf,
  bringBack,
  serveWeb,
  sinceMs,
  SPREAD_HEADERS,
  spread,
  stage,
  WEB,
  webOnAll,
} from './cluster-stage.ts';
import { ms, type Section } from './report.ts';
import { quantile } from './statistics.ts';

export interface DeathsEffort {
  readonly hosts: number;
  readonly deaths: number;
  readonly stops: number;
  readonly cuts: number;
}

const LOOK_EVERY_MS = 2;
const LOOK_MS_MAX = 60_000;
/** Between rounds: what a death left to do is done. */
const REST_MS = 1000;
const DIAL_EVERY_MS = 50;

/** For each of these hosts, ms from `since` until its maps are without the backend. */
async function outOfMaps(
  watches: ReadonlyMap<Place, VipWatch>,
  backend: string,
  since: bigint,
): Promise<number[]> {
  const waiting = new Map(watches);
  const took: number[] = [];
  const end = performance.now() + LOOK_MS_MAX;
  while (waiting.size > 0) {
    for (const [at, watch] of waiting) {
      if (watch.read()?.includes(backend) === true) continue;
      took.push(sinceMs(since, process.hrtime.bigint()));
      waiting.delete(at);
    }
    if (performance.now() > end) throw new Error(`${backend} stays in ${waiting.size} hosts' maps`);
    await pause(LOOK_EVERY_MS);
  }
  return took;
}

interface Seen {
  readonly victim: string;
  /** Of each other host. */
  readonly mapsMs: readonly number[];
  /** Of each failed connect: when it began. */
  readonly failuresMs: readonly number[];
  /** Failed connects that were not to the victim. */
  readonly strange: readonly string[];
}

async function round(
  cluster: TestCluster,
  watches: ReadonlyMap<Place, VipWatch>,
  victim: Place,
  end: () => Promise<bigint>,
): Promise<Seen> {
  const others = cluster.living.filter((at) => at !== victim);
  const start = (at: Place): Promise<Dialler> =>
    Dialler.start(cluster.host(at), WEB.vip, WEB.port, {
      everyMs: DIAL_EVERY_MS,
      waitMs: 3000,
      backends: cluster.places.map((one) => backendOf(cluster, one)),
    });
  const diallers = await Promise.all(others.map(start));
  await pause(200); // the clients are under way
  const looking = new Map([...watches].filter(([at]) => at !== victim));
  const backend = backendOf(cluster, victim);
  const since = await end();
  const mapsMs = await outOfMaps(looking, backend, since);
  const dialled = await Promise.all(diallers.map((dialler) => dialler.end()));
  const failures = dialled.flatMap(({ failures: list }) => list);
  return {
    victim: cluster.nameOf(victim),
    mapsMs,
    failuresMs: failures.map(({ fromNs }) => sinceMs(since, fromNs)),
    strange: failures
      .filter((failure) => failure.backend !== backend)
      .map(({ error, backend: to, fromNs }) => `${error} ${to} ${ms(sinceMs(since, fromNs))}`),
  };
}

export async function deaths(effort: DeathsEffort, dice: Dice): Promise<Section> {
  await using cluster = await stage(effort.hosts);
  await serveWeb(cluster);
  using stack = new DisposableStack();
  const watch = (at: Place): [Place, VipWatch] => [
    at,
    stack.use(new VipWatch(cluster.host(at), WEB.vip, WEB.port)),
  ];
  const watches = new Map(cluster.places.map(watch));
  const died: Seen[] = [];
  const stopped: Seen[] = [];
  for (let n = 0; n < effort.deaths; n++) {
    const victim = dice.pick(cluster.places);
    died.push(await round(cluster, watches, victim, () => cluster.kill(victim)));
    await bringBack(cluster, victim);
    await settle(cluster);
  }
  for (let n = 0; n < effort.stops; n++) {
    const victim = dice.pick(cluster.places);
    const stop = async (): Promise<bigint> => {
      const since = process.hrtime.bigint();
      await cluster.stop(victim);
      return since;
    };
    stopped.push(await round(cluster, watches, victim, stop));
    await cluster.start([victim]);
    await settle(cluster);
  }
  const cutMs: number[] = [];
  for (let n = 0; n < effort.cuts; n++) {
    const victim = dice.pick(cluster.places);
    const watched = watches.get(victim);
    if (watched !== undefined) cutMs.push(await alone(cluster, watched, victim));
    await cluster.heal();
    await settle(cluster);
  }
  return sectionOf(effort, died, stopped, cutMs);
}

/** ms until the maps of a host that is cut off have nobody but itself. */
async function alone(cluster: TestCluster, watch: VipWatch, at: Place): Promise<number> {
  const since = process.hrtime.bigint();
  await cluster.cut(at);
  const own = backendOf(cluster, at);
  await eventually('it to be alone', () => watch.read()?.join() === own, {
    timeoutMs: LOOK_MS_MAX,
    everyMs: LOOK_EVERY_MS,
  });
  return sinceMs(since, process.hrtime.bigint());
}

async function settle(cluster: TestCluster): Promise<void> {
  await cluster.allAlive();
  await webOnAll(cluster);
  await pause(REST_MS);
}

function sectionOf(
  effort: DeathsEffort,
  died: readonly Seen[],
  stopped: readonly Seen[],
  cutMs: readonly number[],
): Section {
  const maps = died.flatMap(({ mapsMs }) => mapsMs);
  const p99 = quantile(maps, 0.99);
  const failedStops = stopped.flatMap(({ failuresMs }) => failuresMs).length;
  return {
    name: 'deaths',
    title: `A host of ${effort.hosts} dies (link and power), ${effort.deaths} times; is stopped, ${effort.stops}; is cut off, ${effort.cuts}`,
    headers: [...SPREAD_HEADERS],
    rows: [
      spread('died: out of the maps of each other host', maps),
      spread(
        'died: out of the maps of the last',
        died.map(({ mapsMs }) => Math.max(...mapsMs)),
      ),
      spread(
        'died: failed connects began',
        died.flatMap(({ failuresMs }) => failuresMs),
      ),
      spread(
        'stopped: out of the maps of each other host',
        stopped.flatMap(({ mapsMs }) => mapsMs),
      ),
      spread('cut off: all others out of its own maps', cutMs),
    ],
    notes: [
      `Failed connects to others than the one that died: ${died.flatMap(({ strange }) => strange).length}.`,
      `Each host connects every ${DIAL_EVERY_MS} ms. From just before the link is cut, or the signal is sent.`,
    ],
    data: { died, stopped, cutMs },
    wanted: [
      {
        what: `a dead host's backends out of every host's maps in under 1.5 s (p99, ${effort.hosts} hosts)`,
        figure: ms(p99),
        met: p99 < 1500,
      },
      {
        what: 'a host that is cut off sends nobody to who is gone, after 1.5 s (p99)',
        figure: ms(quantile(cutMs, 0.99)),
        met: quantile(cutMs, 0.99) < 1500,
      },
      {
        what: 'a clean stop: no failed connect',
        figure: `${failedStops} of ${stopped.length} stops`,
        met: failedStops === 0,
      },
    ],
  };
}
