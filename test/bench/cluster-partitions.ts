/** Partitions at random, deaths and killed agents, while all hosts write and connect: what fails, what is lost. */
import assert from 'node:assert/strict';
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import type { TestCluster } from '../harness/cluster.ts';
import { Dialler, type Failure } from '../harness/dialling.ts';
import { eventually } from '../harness/eventually.ts';
import { kvEntries } from '../harness/kv.ts';
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
} from './cluster-stage.ts';
import { type Span, type Spell, Truth } from './cluster-truth.ts';
import { Writers } from './cluster-writers.ts';
import { ms, type Section } from './report.ts';

export interface PartitionsEffort {
  readonly hosts: number;
  readonly seconds: number;
  /** Each host writes so often, on average. */
  readonly writeEveryMs: number;
}

const DIAL_EVERY_MS = 50;
/** A failed connect is one without an answer for so long. */
const DIAL_WAIT_MS = 3000;
const LOOK_EVERY_MS = 20;
const GROUPS_MAX = 3;
/** Of the hosts, dead at a time. */
const DEAD_PART = 0.2;

class Storm {
  readonly #cluster: TestCluster;
  readonly #dice: Dice;
  readonly truth: Truth;
  readonly #watches: readonly VipWatch[];
  readonly #placeOf: ReadonlyMap<string, Place>;
  readonly #looking: NodeJS.Timeout;
  readonly #startNs = process.hrtime.bigint();
  readonly events: string[] = [];
  #groups: readonly (readonly Place[])[];
  readonly #diallers = new Map<Place, Dialler>();
  readonly #failures: (readonly [Place, Failure])[] = [];
  #longestCutMs = 0;
  attempts = 0;
  skipped = 0;

  constructor(cluster: TestCluster, dice: Dice) {
    this.#cluster = cluster;
    this.#dice = dice;
    this.#groups = [cluster.places];
    this.truth = new Truth(cluster.places.length);
    this.#watches = cluster.hosts.map((host) => new VipWatch(host, WEB.vip, WEB.port));
    this.#placeOf = new Map(cluster.places.map((at) => [backendOf(cluster, at), at]));
    this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#looking);
    for (const watch of this.#watches) watch[Symbol.dispose]();
  }

  #look(): void {
    for (const at of this.#cluster.living) {
      const backends = (this.#watches[at]?.read() ?? []).flatMap((one) => this.placeOf(one) ?? []);
      this.truth.maps(at, new Set(backends), process.hrtime.bigint());
    }
  }

  placeOf(backend: string): Place | undefined {
    return this.#placeOf.get(backend);
  }

  async dialFrom(at: Place): Promise<void> {
    const backends = [...this.#placeOf.keys()];
    const pace = { everyMs: DIAL_EVERY_MS, waitMs: DIAL_WAIT_MS, backends };
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
      const before = process.hrtime.bigint();
      await this.#cluster.partition(groups);
      this.#longestCutMs = Math.max(this.#longestCutMs, sinceMs(before, process.hrtime.bigint()));
      this.#groups = groups;
    });
  }

  async #kill(at: Place): Promise<void> {
    this.#note(`${this.#cluster.nameOf(at)} dies`);
    await this.#changing(async () => {
      const when = await this.#cluster.kill(at);
      this.truth.agent(at, true, when);
      this.truth.maps(at, new Set(), process.hrtime.bigint());
    });
    const dialler = this.#diallers.get(at);
    this.#diallers.delete(at);
    for (const failure of dialler?.failures() ?? []) this.#failures.push([at, failure]);
  }

  async revive(at: Place): Promise<void> {
    this.#note(`${this.#cluster.nameOf(at)} comes back`);
    await this.#changing(() => bringBack(this.#cluster, at));
    this.truth.agent(at, false, process.hrtime.bigint());
    await this.dialFrom(at);
  }

  async #killAgent(at: Place): Promise<void> {
    this.#note(`kill -9 of the agent of ${this.#cluster.nameOf(at)}`);
    this.truth.agent(at, true, process.hrtime.bigint());
    await this.#cluster.host(at).agent.kill('SIGKILL');
    await this.#cluster.start([at]);
    this.truth.agent(at, false, process.hrtime.bigint());
  }

  /** Does something to the network, and writes down who is apart from then on. */
  async #changing(act: () => Promise<unknown>): Promise<void> {
    const before = process.hrtime.bigint();
    await act();
    const span: Span = [before, process.hrtime.bigint()];
    const { living } = this.#cluster;
    const groupOf = new Map(this.#groups.flatMap((group, n) => group.map((at) => [at, n])));
    const apart = (a: Place, b: Place): boolean =>
      a !== b && (groupOf.get(a) !== groupOf.get(b) || !living.includes(a) || !living.includes(b));
    this.truth.network(apart, span);
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

  /** Until the network was cut: what is measured includes it. */
  get longestCutMs(): number {
    return this.#longestCutMs;
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

/** What failed connects were, in words, or how long the backend had been gone. */
function judged(
  cluster: TestCluster,
  storm: Storm,
  failures: readonly (readonly [Place, Failure])[],
): { readonly afterMs: readonly number[]; readonly strange: readonly string[] } {
  const afterMs: number[] = [];
  const strange: string[] = [];
  for (const [at, failure] of failures) {
    const verdict = storm.truth.judge(at, storm.placeOf(failure.backend), failure);
    if (verdict.kind === 'gone') afterMs.push(verdict.afterMs);
    if (verdict.kind !== 'strange') continue;
    const when = ms(storm.sinceStart(failure.fromNs));
    strange.push(`${cluster.nameOf(at)}: ${failure.error} ${failure.backend} at ${when}`);
  }
  return { afterMs, strange };
}

/** What part of the time of all CPUs of this machine somebody used since: where all of it, the hosts wait for each other. */
function busySince(): () => number {
  const read = (): { idle: number; all: number } => {
    const times = cpus().map((cpu) => cpu.times);
    const idle = times.reduce((sum, one) => sum + one.idle, 0);
    return { idle, all: times.flatMap((one) => Object.values(one)).reduce((a, b) => a + b, 0) };
  };
  const before = read();
  return () => {
    const now = read();
    return 1 - (now.idle - before.idle) / (now.all - before.all);
  };
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
  using storm = new Storm(cluster, dice);
  for (const at of cluster.places) await storm.dialFrom(at);
  const writers = new Writers(cluster, dice);
  const busyPart = busySince();
  await writers.start(effort.writeEveryMs);
  const end = performance.now() + effort.seconds * 1000;
  while (performance.now() < end) {
    await storm.step();
    await pause(1000 + dice.below(4000));
  }
  const busy = busyPart();
  await writers.stop();
  await storm.heal();
  for (const at of cluster.places) if (!cluster.living.includes(at)) await storm.revive(at);
  const convergedMs = await converge(cluster);
  const lost = (await cluster.everywhere((_, at) => writers.lostOn(at))).flat();
  const failures = await storm.failures();
  const { afterMs, strange } = judged(cluster, storm, failures);
  const spells = storm.truth.spells(process.hrtime.bigint());
  const of = (kind: Spell['kind']): number[] =>
    spells.filter((one) => one.kind === kind).map(({ forMs }) => forMs);
  const worst = Math.max(0, ...of('gone'));
  return {
    name: 'partitions',
    title: `${effort.hosts} hosts, ${storm.events.length} partitions, deaths and killed agents in ${effort.seconds} s`,
    headers: [...SPREAD_HEADERS],
    rows: [
      spread('a host sends connects to a backend that it cannot reach', of('gone')),
      spread('the same, its own agent away at times', of('away')),
      spread('a connect failed: the backend had been gone for', afterMs),
    ],
    notes: [
      `${storm.attempts} connects of the clients that lived to the end, ${failures.length} failed; ${storm.skipped} not tried.`,
      `Each host writes every ${effort.writeEveryMs} ms. All CPUs of this machine were ${Math.round(100 * busy)} % busy meanwhile.`,
      `Looked at every ${LOOK_EVERY_MS} ms, from before the network was cut, which took ${ms(storm.longestCutMs)} at most. Equal everywhere ${ms(convergedMs)} after the end.`,
      `${writers.acknowledged} writes acknowledged, ${lost.length} lost.${lost
        .slice(0, 5)
        .map((one) => ` ${one}.`)
        .join('')}`,
    ],
    data: {
      spells: spells.map(({ sinceNs, ...spell }) => ({
        ...spell,
        sinceMs: storm.sinceStart(sinceNs),
      })),
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
