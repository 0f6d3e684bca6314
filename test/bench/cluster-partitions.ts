/** Partitions at random, deaths and killed agents, while all hosts write and connect: what fails, what is lost. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { TestCluster } from '../harness/cluster.ts';
import { Dialler, type Failure } from '../harness/dialling.ts';
import { eventually } from '../harness/eventually.ts';
import { kvEntries } from '../harness/kv.ts';
import type { Dice } from '../harness/random.ts';
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
} from './cluster-stage.ts';
import { type Span, Truth } from './cluster-truth.ts';
import { Writers } from './cluster-writers.ts';
import { ms, type Section } from './report.ts';

export interface PartitionsEffort {
  readonly hosts: number;
  readonly seconds: number;
}

const DIAL_EVERY_MS = 50;
/** A failed connect is one without an answer for so long. */
const DIAL_WAIT_MS = 3000;
const WRITE_EVERY_MS = 1500;
const GROUPS_MAX = 3;
/** Of the hosts, dead at a time. */
const DEAD_PART = 0.2;

class Storm {
  readonly #cluster: TestCluster;
  readonly #dice: Dice;
  readonly truth = new Truth();
  readonly #startNs = process.hrtime.bigint();
  readonly events: string[] = [];
  #groups: readonly (readonly Place[])[];
  readonly #diallers = new Map<Place, Dialler>();
  readonly #failures: (readonly [Place, Failure])[] = [];
  attempts = 0;
  skipped = 0;

  constructor(cluster: TestCluster, dice: Dice) {
    this.#cluster = cluster;
    this.#dice = dice;
    this.#groups = [cluster.places];
  }

  async dialFrom(at: Place): Promise<void> {
    const pace = { everyMs: DIAL_EVERY_MS, waitMs: DIAL_WAIT_MS };
    this.#diallers.set(at, await Dialler.start(this.#cluster.host(at), WEB.vip, WEB.port, pace));
  }

  async step(): Promise<void> {
    const { living, places } = this.#cluster;
    const dead = places.filter((at) => !living.includes(at));
    const what = this.#dice.below(10);
    if (what < 4) await this.#partition();
    else if (what < 6) await this.heal();
    else if (what < 7) await this.#killAgent(this.#dice.pick(living));
    else if (dead.length > 0 && (what < 8 || dead.length >= places.length * DEAD_PART))
      await this.revive(this.#dice.pick(dead));
    else await this.#kill(this.#dice.pick(living));
  }

  async #partition(): Promise<void> {
    const groups = Array.from(
      { length: 2 + this.#dice.below(GROUPS_MAX - 1) },
      () => [] as Place[],
    );
    for (const at of this.#cluster.places) this.#dice.pick(groups).push(at);
    await this.#rewire(groups);
  }

  async heal(): Promise<void> {
    await this.#rewire([this.#cluster.places]);
  }

  async #rewire(groups: readonly (readonly Place[])[]): Promise<void> {
    this.#note(`groups ${groups.map((group) => group.map((at) => at + 1).join(' ')).join(' | ')}`);
    await this.#changing(async () => {
      await this.#cluster.partition(groups);
      this.#groups = groups;
    });
  }

  async #kill(at: Place): Promise<void> {
    this.#note(`${this.#cluster.nameOf(at)} dies`);
    await this.#changing(async () => {
      const when = await this.#cluster.kill(at);
      this.truth.agent(at, true, [when, when]);
    });
    const dialler = this.#diallers.get(at);
    this.#diallers.delete(at);
    for (const failure of dialler?.failures() ?? []) this.#failures.push([at, failure]);
  }

  async revive(at: Place): Promise<void> {
    this.#note(`${this.#cluster.nameOf(at)} comes back`);
    await this.#changing(() => bringBack(this.#cluster, at));
    const back = process.hrtime.bigint();
    this.truth.agent(at, false, [back, back]);
    await this.dialFrom(at);
  }

  async #killAgent(at: Place): Promise<void> {
    this.#note(`kill -9 of the agent of ${this.#cluster.nameOf(at)}`);
    const before = process.hrtime.bigint();
    await this.#cluster.host(at).agent.kill('SIGKILL');
    this.truth.agent(at, true, [before, before]);
    await this.#cluster.start([at]);
    const after = process.hrtime.bigint();
    this.truth.agent(at, false, [after, after]);
  }

  /** Does something to the network, and writes down who is apart from then on. */
  async #changing(act: () => Promise<unknown>): Promise<void> {
    const before = process.hrtime.bigint();
    await act();
    const span: Span = [before, process.hrtime.bigint()];
    const { living, places } = this.#cluster;
    const groupOf = new Map(this.#groups.flatMap((group, n) => group.map((at) => [at, n])));
    const apart = (a: Place, b: Place): boolean =>
      a !== b && (groupOf.get(a) !== groupOf.get(b) || !living.includes(a) || !living.includes(b));
    this.truth.network(places.length, apart, span);
  }

  /** Ends the clients; everything that failed, by the host that it failed on. */
  async failures(): Promise<readonly (readonly [Place, Failure])[]> {
    for (const [at, dialler] of this.#diallers) {
      const { failures, attempts, skipped } = await dialler.end();
      this.attempts += attempts;
      this.skipped += skipped;
      for (const failure of failures) this.#failures.push([at, failure]);
    }
    return this.#failures;
  }

  sinceStart(ns: bigint): number {
    return sinceMs(this.#startNs, ns);
  }

  #note(what: string): void {
    const line = `${this.sinceStart(process.hrtime.bigint()).toFixed(0)} ms: ${what}`;
    this.events.push(line);
    process.stderr.write(`${line}\n`);
  }
}

/** Of a backend that one host could not reach: until the last connect that was sent there began. */
interface Outage {
  readonly kind: 'gone' | 'agent-away';
  readonly host: string;
  readonly backend: string;
  /** Since the storm began. */
  readonly atMs: number;
  readonly forMs: number;
}

interface Outcome {
  readonly outages: readonly Outage[];
  readonly strange: readonly string[];
}

function judged(
  cluster: TestCluster,
  storm: Storm,
  failures: readonly (readonly [Place, Failure])[],
): Outcome {
  const placeOf = new Map(cluster.places.map((at) => [backendOf(cluster, at), at]));
  const longest = new Map<string, Outage>();
  const strange: string[] = [];
  for (const [at, failure] of failures) {
    const verdict = storm.truth.judge(at, placeOf.get(failure.backend), failure);
    const { backend } = failure;
    const host = cluster.nameOf(at);
    if (verdict.kind === 'strange') {
      strange.push(
        `${host}: ${failure.error} ${backend} at ${ms(storm.sinceStart(failure.fromNs))}`,
      );
      continue;
    }
    const { kind, afterMs: forMs, sinceNs } = verdict;
    const key = `${host} ${backend} ${sinceNs}`;
    if ((longest.get(key)?.forMs ?? -1) < forMs)
      longest.set(key, { kind, host, backend, atMs: storm.sinceStart(sinceNs), forMs });
  }
  return { outages: [...longest.values()].toSorted((a, b) => b.forMs - a.forMs), strange };
}

/** Until catalog, keys and maps are equal on all; throws when they stay different. */
async function converge(cluster: TestCluster): Promise<number> {
  const start = performance.now();
  await cluster.allAlive();
  await eventually(
    'the same state on all hosts',
    async () => {
      const all = await cluster.everywhere(async (host) => [
        await cluster.catalogOf(host),
        (await host.api('GET', '/v1/backends')).text.replace(/"revision":\d+/, ''),
        await kvEntries(host),
      ]);
      for (const other of all) assert.deepEqual(other, all[0]);
      return true;
    },
    { timeoutMs: 60_000, everyMs: 100 },
  );
  await cluster.sameMaps();
  return performance.now() - start;
}

export async function partitions(effort: PartitionsEffort, dice: Dice): Promise<Section> {
  await using cluster = await stage(effort.hosts);
  await serveWeb(cluster);
  const storm = new Storm(cluster, dice);
  for (const at of cluster.places) await storm.dialFrom(at);
  const writers = new Writers(cluster, dice);
  await writers.start(WRITE_EVERY_MS);
  const end = performance.now() + effort.seconds * 1000;
  while (performance.now() < end) {
    await storm.step();
    await pause(1000 + dice.below(4000));
  }
  await writers.stop();
  await storm.heal();
  for (const at of cluster.places) if (!cluster.living.includes(at)) await storm.revive(at);
  const convergedMs = await converge(cluster);
  const lost = (await cluster.everywhere((_, at) => writers.lostOn(at))).flat();
  const failures = await storm.failures();
  const { outages, strange } = judged(cluster, storm, failures);
  const of = (kind: Outage['kind']): number[] =>
    outages.filter((one) => one.kind === kind).map(({ forMs }) => forMs);
  const [gone, agentAway] = [of('gone'), of('agent-away')];
  const worst = Math.max(0, ...gone);
  return {
    name: 'partitions',
    title: `${effort.hosts} hosts, ${storm.events.length} partitions, deaths and killed agents in ${effort.seconds} s`,
    headers: [...SPREAD_HEADERS],
    rows: [
      spread('a backend gone: connects of one host failed for', gone),
      spread('the same, where that host’s own agent was away', agentAway),
    ],
    notes: [
      `${storm.attempts} connects of the clients that lived to the end, ${failures.length} failed; ${storm.skipped} not tried.`,
      `${storm.truth.separations} times one host could not reach another. Equal everywhere ${ms(convergedMs)} after the end.`,
      `${writers.acknowledged} writes acknowledged, ${lost.length} lost.${lost
        .slice(0, 5)
        .map((one) => ` ${one}.`)
        .join('')}`,
    ],
    data: {
      outages,
      strange,
      lost,
      convergedMs,
      events: storm.events,
      acknowledged: writers.acknowledged,
    },
    wanted: [
      {
        what: 'no acknowledged write lost, all hosts equal',
        figure: `${lost.length} lost`,
        met: lost.length === 0,
      },
      {
        what: 'errors only for backends that were really gone',
        figure: `${strange.length} others`,
        met: strange.length === 0,
      },
      { what: 'those for less than 1.5 s', figure: ms(worst), met: worst < 1500 },
    ],
  };
}
