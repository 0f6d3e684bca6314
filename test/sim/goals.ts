// What the protocol must show about correctness, each with the command that shows it again: npm run sim -- --goal NAME.
// Results are kept in report/goals.json and written out as GOALS.md. Runs from different seeds add up: a long goal can
// be met in slices.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { below, sfc32 } from '../../src/hyparview-ts/random.ts';
import { chaos } from './chaos.ts';
import { checkBroadcasts, checkOnce, settle } from './checks.ts';
import { MUTATIONS, SEEDS_MAX, tryMutation } from './mutations.ts';
import {
  badDay,
  besideSlow,
  cutOff,
  kills,
  OVERLOAD,
  partitions,
  quantile,
  ready,
  type Load,
} from './torture.ts';

const RESULTS = new URL('./report/goals.json', import.meta.url);
const TEXT = new URL('./GOALS.md', import.meta.url);

/** One slice of a goal: so many runs from this seed, by this commit. */
export interface Slice {
  readonly seed: number;
  readonly count: number;
  readonly commit: string;
  /** Seeds, or names, of what failed. */
  readonly failed: readonly (number | string)[];
  /** One number a run, or so many as the goal makes of it; summed up by `figure`. */
  readonly values: readonly number[];
  /** Where the values are only some of the runs: of each, its seed. */
  readonly seeds?: readonly number[];
}

interface Goal {
  readonly name: string;
  readonly what: string;
  readonly goal: string;
  /** How many runs make the goal. */
  readonly count: number;
  run(seed: number, count: number): Pick<Slice, 'failed' | 'values' | 'seeds'>;
  /** Of all slices together, in words. */
  figure(values: readonly number[], slices: readonly Slice[]): string;
  isMet(values: readonly number[]): boolean;
}

const ascending = (values: readonly number[]): number[] => values.toSorted((a, b) => a - b);
const ms = (value: number | undefined): string => `${Math.round(value ?? NaN)} ms`;

/** Runs each seed, and goes on after one that fails. */
function each(
  seed: number,
  count: number,
  run: (seed: number) => number,
): Pick<Slice, 'failed' | 'values'> {
  const failed: number[] = [];
  const values: number[] = [];
  for (let i = 0; i < count; i++) {
    try {
      values.push(run(seed + i));
    } catch (error) {
      failed.push(seed + i);
      const { cause } = error as Error;
      console.error(`seed ${seed + i}: ${String(cause ?? error).split('\n')[0]}`);
    }
  }
  return { failed, values };
}

/** Of very many runs only the longest settlings are kept. */
const LONGEST = 20;
const LONGEST_SHOWN = 5;

function longestSeeds(slices: readonly Slice[]): string {
  const runs = slices.flatMap(({ values, seeds = [] }) =>
    seeds.map((seed, i) => ({ seed, took: values[i] ?? NaN })),
  );
  const longest = runs.toSorted((a, b) => b.took - a.took || a.seed - b.seed);
  const shown = longest.slice(0, LONGEST_SHOWN).map(({ seed, took }) => `${seed} (${ms(took)})`);
  const unknown = slices.filter(({ seeds }) => seeds === undefined).map(({ seed }) => seed);
  const without = unknown.length > 0 ? `; not kept of the runs from ${unknown.join(', ')}` : '';
  return `the longest seeds: ${shown.join(', ')}${without}`;
}

const CHAOS: Goal = {
  name: 'chaos',
  what: 'random scenarios of faults in clusters of 2 to 16 nodes',
  goal: 'no violated check in 100,000',
  count: 100_000,
  run: (seed, count) => {
    const runs: { seed: number; took: number }[] = [];
    const { failed } = each(seed, count, (at) => {
      const { settleMs } = chaos(at);
      runs.push({ seed: at, took: settleMs });
      return settleMs;
    });
    const longest = runs.toSorted((a, b) => a.took - b.took || a.seed - b.seed).slice(-LONGEST);
    const values = longest.map(({ took }) => took);
    return { failed, values, seeds: longest.map((run) => run.seed) };
  },
  figure: (values, slices) =>
    `the longest took ${ms(ascending(values).at(-1))} to come to rest; ${longestSeeds(slices)}`,
  isMet: () => true,
};

const PARTITIONS: Goal = {
  name: 'partitions',
  what: '25 nodes, cut in two at random again and again for 5 minutes (Lashup’s torture)',
  goal: 'never a permanent split, 1,000 times',
  count: 1000,
  run: (seed, count) => each(seed, count, (at) => partitions(at).healMs),
  figure: (values) => {
    const sorted = ascending(values);
    return `one overlay, all beliefs right ${ms(quantile(sorted, 0.5))} (median), ${ms(sorted.at(-1))} (longest) after the last cut`;
  },
  isMet: (values) => values.every((value) => value <= 600_000),
};

const KILLED_NODES = 1000;

const KILLS: Goal = {
  name: 'kills',
  what: `${KILLED_NODES} nodes, 1 ms, random kills one after another`,
  goal: 'all the living agree within 1 s at the median and 2 s at p99; nobody living is called dead',
  count: 30,
  run: (seed, count) => {
    const cluster = ready(seed, KILLED_NODES);
    const { untilAllKnowMs, falseDeaths } = kills(cluster, seed, count);
    const failed: string[] = falseDeaths > 0 ? [`${falseDeaths} false deaths`] : [];
    const unknown = untilAllKnowMs.filter((value) => value === Infinity).length;
    if (unknown > 0) failed.push(`${unknown} deaths not known to all`);
    return { failed, values: untilAllKnowMs.filter((value) => value !== Infinity).map(Math.round) };
  },
  figure: (values) => {
    const sorted = ascending(values);
    return `all know after ${ms(quantile(sorted, 0.5))} (median), ${ms(quantile(sorted, 0.99))} (p99 of ${values.length} kills)`;
  },
  isMet: (values) => {
    const sorted = ascending(values);
    return quantile(sorted, 0.5) <= 1000 && quantile(sorted, 0.99) <= 2000;
  },
};

const BAD_DAY: Goal = {
  name: 'bad-day',
  what: '100 nodes, 5 % loss, every tenth overloaded (stands still 100 to 500 ms, works 50 to 200 ms); hours',
  goal: 'nobody living is called dead in 24 hours',
  count: 24,
  run: (seed, count) => {
    const { falseDeaths, suspicions, linksLost } = badDay(seed, 100, count * 3_600_000);
    const failed = falseDeaths > 0 ? [`${falseDeaths} false deaths`] : [];
    return { failed, values: [suspicions, linksLost] };
  },
  figure: (values) => {
    const sum = (odd: number): number =>
      values.filter((_, i) => i % 2 === odd).reduce((a, b) => a + b, 0);
    return `${sum(0)} suspicions, ${sum(1)} links lost for a while`;
  },
  isMet: () => true,
};

/** One way in twenty between two nodes is cut for ten minutes: neighbours hear one that does not hear them. */
function oneWay(seed: number): number {
  const cluster = ready(seed, 25, { everyMs: 20 });
  const { sim } = cluster;
  const random = sfc32(seed, 13);
  for (const from of sim.hosts) {
    for (const to of sim.hosts) {
      if (from !== to && below(random, 20) === 0) sim.pairCuts.add(from.index * 65_536 + to.index);
    }
  }
  let falseDeaths = 0;
  cluster.onEvent = (_, event) => {
    if (event.type === 'member-dead') falseDeaths += 1;
  };
  sim.runUntil(sim.now + 600_000);
  checkBroadcasts(cluster, [0, 7, 24], 10_000);
  checkOnce(cluster);
  sim.pairCuts.clear();
  if (falseDeaths > 0) throw new Error(`${falseDeaths} living called dead`);
  return settle(cluster, 600_000);
}

const ONE_WAY: Goal = {
  name: 'one-way',
  what: '25 nodes, one in twenty of all ways cut in one direction for 10 minutes',
  goal: 'nobody living is called dead, broadcasts reach all (ours)',
  count: 100,
  run: (seed, count) => each(seed, count, oneWay),
  figure: (values) => `at rest ${ms(ascending(values).at(-1))} (longest) after the cuts ended`,
  isMet: () => true,
};

interface Cut {
  readonly nodes: number;
  /** One of them, or about half. */
  readonly alone: boolean;
  /** In 99 of 100 cuts. Where there is nobody to ask, a suspicion lasts as long as it may. */
  readonly goalMs: number;
}

const CUTS: readonly Cut[] = [
  ...[2, 3].map((nodes) => ({ nodes, alone: true, goalMs: 2500 })),
  ...[10, 25, 100].flatMap((nodes) =>
    [false, true].map((alone) => ({ nodes, alone, goalMs: 2000 })),
  ),
];
/** Of each cut the median node, the last, and those of one's own called dead. */
const CUT_VALUES = 3;

const CUT_OFF: Goal = {
  name: 'cut-off',
  what: '2 to 100 nodes, 1 ms, cut in two at random, or one of them alone; every other run with 1 % loss',
  goal: 'the last node knows all behind the cut for dead within 2 s in 99 of 100 cuts; 2.5 s where they are two or three',
  count: 50,
  run: (seed, count) => {
    const values: number[] = [];
    const failed: number[] = [];
    for (let at = seed; at < seed + count; at++) {
      for (const { nodes, alone } of CUTS) {
        const { knownAfterMs, ownCalledDead } = cutOff(at, nodes, alone, at % 2 === 0 ? 0.01 : 0);
        const last = knownAfterMs.at(-1) ?? NaN;
        if (!(last < Infinity)) failed.push(at);
        const known = [quantile(knownAfterMs, 0.5), last];
        values.push(...known.map((value) => Math.round(Math.min(value, 20_000))), ownCalledDead);
      }
    }
    return { failed, values };
  },
  figure: (values) => {
    const parts = CUTS.map(({ nodes, alone }, kind) => {
      const [medians, lasts, own] = cutsOf(values, kind);
      const called = own.reduce((sum, value) => sum + value, 0);
      const dead = called === 0 ? '' : `, ${called} times one of the own side called dead`;
      const how = alone ? 'one alone' : 'in two';
      return `${nodes} ${how}: ${ms(quantile(medians, 0.5))} (median node of the median cut), the last ${ms(quantile(lasts, 0.5))} (median), ${ms(quantile(lasts, 0.99))} (p99)${dead}`;
    });
    return parts.join('; ');
  },
  isMet: (values) =>
    CUTS.every(({ goalMs }, kind) => quantile(cutsOf(values, kind)[1], 0.99) <= goalMs),
};

/** Of one kind of cut, each ascending. */
function cutsOf(values: readonly number[], kind: number): [number[], number[], number[]] {
  const of = (what: number): number[] =>
    ascending(values.filter((_, i) => i % (CUT_VALUES * CUTS.length) === CUT_VALUES * kind + what));
  return [of(0), of(1), of(2)];
}

const LOADS: readonly Load[] = [
  OVERLOAD,
  { stallMs: [300, 900], workMs: [25, 75] },
  { stallMs: [500, 1500], workMs: [10, 30] },
];
const DEATHS_EACH = 15;

const BESIDE_SLOW: Goal = {
  name: 'beside-slow',
  what: `50 nodes, every tenth overloaded (stands still and works for: ${LOADS.map(({ stallMs, workMs }) => `${stallMs.join('–')} and ${workMs.join('–')} ms`).join('; ')}), others die one after another`,
  goal: 'all who are not overloaded know within 3 s at the median and 10 s at p99, and call none of their own dead',
  count: 10,
  run: (seed, count) => {
    const values: number[] = [];
    const failed: number[] = [];
    for (let at = seed; at < seed + count; at++) {
      for (const load of LOADS) {
        const { untilKnownMs, falseDeaths } = besideSlow(at, load, DEATHS_EACH);
        if (falseDeaths > 0 || untilKnownMs.at(-1) === Infinity) failed.push(at);
        values.push(...untilKnownMs.map((value) => Math.round(Math.min(value, 30_000))));
      }
    }
    return { failed, values };
  },
  figure: (values) =>
    LOADS.map(({ stallMs }, kind) => {
      const known = besideSlowOf(values, kind);
      return `standing still for up to ${ms(stallMs[1])}: ${ms(quantile(known, 0.5))} (median), ${ms(quantile(known, 0.99))} (p99 of ${known.length} deaths), ${ms(known.at(-1))} (longest)`;
    }).join('; '),
  isMet: (values) =>
    LOADS.every((_, kind) => {
      const known = besideSlowOf(values, kind);
      return quantile(known, 0.5) <= 3000 && quantile(known, 0.99) <= 10_000;
    }),
};

/** Of one load, ascending. */
function besideSlowOf(values: readonly number[], kind: number): number[] {
  return ascending(values.filter((_, i) => Math.floor(i / DEATHS_EACH) % LOADS.length === kind));
}

const FOUND: Goal = {
  name: 'mutations',
  what: `${MUTATIONS.length} ways to break the protocol, each run through chaos`,
  goal: 'each of ten is found',
  count: MUTATIONS.length,
  run: () => {
    const seeds = MUTATIONS.map((mutation) => tryMutation(mutation, SEEDS_MAX).seed);
    const failed = MUTATIONS.filter((_, i) => seeds[i] === undefined).map(({ what }) => what);
    return { failed, values: seeds.filter((seed) => seed !== undefined) };
  },
  figure: (values) => `${values.length} found, the hardest with seed ${ascending(values).at(-1)}`,
  isMet: (values) => values.length >= 10,
};

export const GOALS: readonly Goal[] = [
  CHAOS,
  PARTITIONS,
  KILLS,
  CUT_OFF,
  BESIDE_SLOW,
  BAD_DAY,
  ONE_WAY,
  FOUND,
];

function load(): Record<string, Slice[]> {
  return existsSync(RESULTS)
    ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as Record<string, Slice[]>)
    : {};
}

/** The last that touched what runs here; with a + when files differ from it. */
function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', [...args, '--', 'src/hyparview-ts', 'test/sim/*.ts'], {
      encoding: 'utf8',
    }).trim();
  const isDirty = git('status', '--porcelain') !== '';
  return `${git('log', '-1', '--format=%h')}${isDirty ? '+' : ''}`;
}

/** The slices with which this one does not overlap, and it. */
function add(slices: readonly Slice[], slice: Slice): Slice[] {
  const apart = (a: Slice, b: Slice): boolean =>
    a.seed >= b.seed + b.count || b.seed >= a.seed + a.count;
  return [...slices.filter((other) => apart(other, slice)), slice];
}

export function runGoal(goal: Goal, seed: number, count: number | undefined): number {
  const { name } = goal;
  const runs = count ?? goal.count;
  const at = commit();
  const slice = { seed, count: runs, commit: at, ...goal.run(seed, runs) };
  const results = load();
  const before = results[name] ?? [];
  // one seed is one long run for these two: slices do not overlap by their counts
  const isOneRun = goal === KILLS || goal === BAD_DAY;
  const others = isOneRun ? before.filter((other) => other.seed !== seed) : undefined;
  results[name] = others === undefined ? add(before, slice) : [...others, slice];
  mkdirSync(new URL('./report/', import.meta.url), { recursive: true });
  writeFileSync(RESULTS, `${JSON.stringify(results, undefined, 1)}\n`);
  writeFileSync(TEXT, text(results));
  console.log(row(goal, results[name]).join('\n  '));
  return slice.failed.length === 0 ? 0 : 1;
}

function row(goal: Goal, slices: readonly Slice[]): string[] {
  const values = slices.flatMap((slice) => slice.values);
  const failed = slices.flatMap((slice) => slice.failed);
  const done = slices.reduce((sum, { count }) => sum + count, 0);
  const isMet = failed.length === 0 && done >= goal.count && goal.isMet(values);
  const isOpen = failed.length === 0 && done < goal.count;
  const verdict = isMet ? 'met' : isOpen ? 'not yet' : 'not met';
  const wrong = failed.length > 0 ? `; failed: ${failed.slice(0, 10).join(', ')}` : '';
  const enough = done >= goal.count ? '' : `; ${goal.count} are wanted`;
  const seeds = slices.map(({ seed, count, commit: of }) => `${seed} × ${count} (${of})`);
  return [
    goal.what,
    goal.goal,
    `\`npm run sim -- --goal ${goal.name}\``,
    `${done} runs${enough}${wrong}; ${values.length === 0 ? 'nothing measured' : goal.figure(values, slices)}`,
    verdict,
    seeds.join(', '),
  ];
}

function text(results: Readonly<Record<string, Slice[]>>): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const head = ['scenario', 'goal', 'again with', 'seen', '', 'first seed × runs (commit)'];
  const rows = GOALS.flatMap((goal) => {
    const slices = results[goal.name];
    return slices === undefined ? [] : [line(row(goal, slices))];
  });
  return `# What must hold, and does it?

Written by \`npm run sim -- --goal NAME\`, with \`--seed N\` and \`--count N\` for a slice of it; slices add up. Equal seeds give equal runs at equal commits.

${[line(head), line(head.map(() => '---')), ...rows].join('\n')}
`;
}
