/**
 * Names that a resolver has itself: how many answers a second, and how long one
 * takes. Server and client each on a CPU of its own, and both on one.
 */
import type { Dice } from '../harness/random.ts';
import { Asker, Tally, type Turn } from './dns-asker.ts';
import { baseOf, type Contest, openContest, perSecond, titles } from './dns-contest.ts';
import { loadRows, type LoadEffort } from './dns-load.ts';
import { pin, type ServerKind } from './dns-servers.ts';
import { measuredCpu } from './place.ts';
import { type Section, us, type Wanted } from './report.ts';
import { median, quantile } from './statistics.ts';

export interface LocalEffort {
  readonly names: number;
  readonly rounds: number;
  readonly turns: number;
  /** Queries of a turn, and how many of a window are under way. */
  readonly wait: number;
  readonly window: number;
  readonly windowSize: number;
  readonly load: LoadEffort;
}

const TIMEOUT_MS = 1000;

/** One server in one race. */
interface Result {
  readonly kind: ServerKind;
  /** Answers a second, or nanoseconds: the median of the rounds' medians. */
  readonly value: number;
  /** To unbound, turn by turn: the median of a round, of all rounds, and its extremes. */
  readonly ratio: number;
  readonly ratioMin: number;
  readonly ratioMax: number;
  readonly tally: Tally;
}

async function race(
  contest: Contest,
  words: string,
  { rounds, turns }: LocalEffort,
  valueOf: (turn: Turn) => number,
): Promise<Result[]> {
  const { servers, work } = contest;
  const kept = servers.map(() => ({ values: [] as number[], ratios: [] as number[] }));
  const tallies = servers.map(() => new Tally());
  for (let round = 0; round < rounds; round++) {
    const askers: Asker[] = [];
    for (const { server } of servers)
      askers.push(await Asker.open(server.host, work.file, TIMEOUT_MS, measuredCpu));
    const values = servers.map((): number[] => []);
    for (const asker of askers) await asker.turn(words); // warms up
    for (let turn = 0; turn < turns; turn++) {
      for (let i = 0; i < askers.length; i++) {
        const at = (i + turn + round) % askers.length;
        const done = await askers[at]?.turn(words);
        if (done === undefined) continue;
        tallies[at]?.add(done);
        values[at]?.push(valueOf(done));
      }
    }
    for (const asker of askers) await asker.close();
    const base = values[baseOf(contest)] ?? [];
    for (const [at, list] of values.entries()) {
      kept[at]?.values.push(median(list));
      kept[at]?.ratios.push(median(list.map((value, nth) => value / (base[nth] ?? Number.NaN))));
    }
  }
  return servers.map(({ kind }, at) => {
    const { values, ratios } = kept[at] ?? { values: [], ratios: [] };
    return {
      kind,
      value: median(values),
      ratio: median(ratios),
      ratioMin: Math.min(...ratios),
      ratioMax: Math.max(...ratios),
      tally: tallies[at] ?? new Tally(),
    };
  });
}

const rateOf = ({ right, ns }: Turn): number => (right / ns) * 1e9;
const p50Of = ({ each }: Turn): number => median(each);

const rounds = ({ ratioMin, ratioMax }: Result): string =>
  `${ratioMin.toFixed(2)}–${ratioMax.toFixed(2)}`;

function rateSection(name: string, title: string, results: readonly Result[]): Section {
  return {
    name,
    title,
    headers: ['', 'answers/s', 'ratio', 'rounds', 'not right'],
    rows: results.map((result) => ({
      what: titles[result.kind],
      cells: [perSecond(result.value), result.ratio.toFixed(2), rounds(result), result.tally.bad],
    })),
    notes: ['ratio: answers a second to those of unbound, turn by turn.'],
    data: plain(results),
    wanted: [],
  };
}

function latencySection(name: string, title: string, results: readonly Result[]): Section {
  return {
    name,
    title,
    headers: ['', 'p50', 'p99', 'p99.9', 'ratio', 'rounds', 'not right'],
    rows: results.map((result) => {
      const at = (q: number): string => us(quantile(result.tally.each, q));
      const ratio = result.ratio.toFixed(2);
      const { bad } = result.tally;
      return {
        what: titles[result.kind],
        cells: [at(0.5), at(0.99), at(0.999), ratio, rounds(result), bad],
      };
    }),
    notes: [
      'ratio: p50 to that of unbound, turn by turn. A query that was not answered right takes 1 s.',
    ],
    data: plain(results),
    wanted: [],
  };
}

/** For JSON: without millions of single times. */
function plain(results: readonly Result[]): unknown {
  return results.map(({ tally, ...rest }) => {
    const { each, right, wrong, failed, lost } = tally;
    const at = (q: number): number => quantile(each, q);
    const quantiles = each.length === 0 ? {} : { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
    return { ...rest, ...quantiles, right, wrong, failed, lost };
  });
}

const atLeast = (what: string, ratio: number, bound: number): Wanted => ({
  what,
  figure: `${ratio.toFixed(2)} ×`,
  met: ratio >= bound,
});

function wantedOf(
  { missing }: Contest,
  rates: readonly Result[],
  latencies: readonly Result[],
): Wanted[] {
  const of = (results: readonly Result[], kind: ServerKind): Result | undefined =>
    results.find((result) => result.kind === kind);
  const wanted: Wanted[] = [];
  const kernel = { rate: of(rates, 'zerohop-kernel'), p50: of(latencies, 'zerohop-kernel') };
  const user = { rate: of(rates, 'zerohop'), p50: of(latencies, 'zerohop') };
  const why = missing.get('zerohop-kernel');
  if (why !== undefined)
    wanted.push({ what: 'names answered in the kernel', figure: why, met: false });
  if (kernel.rate !== undefined)
    wanted.push(atLeast('in the kernel 1.8 × the answers of unbound', kernel.rate.ratio, 1.8));
  if (kernel.p50 !== undefined)
    wanted.push({
      what: 'in the kernel a third of the p50 of unbound on the same CPU',
      figure: `${kernel.p50.ratio.toFixed(2)} ×`,
      met: kernel.p50.ratio <= 1 / 3,
    });
  if (user.rate !== undefined) {
    wanted.push(atLeast('in user space alone the answers of unbound', user.rate.ratio, 1));
    const dnsmasq = of(rates, 'dnsmasq');
    if (dnsmasq !== undefined)
      wanted.push(atLeast('… and of dnsmasq', user.rate.value / dnsmasq.value, 1));
  }
  if (user.p50 !== undefined)
    wanted.push({
      what: 'in user space alone the p50 of unbound on the same CPU',
      figure: `${user.p50.ratio.toFixed(2)} ×`,
      met: user.p50.ratio <= 1,
    });
  for (const kind of ['zerohop', 'zerohop-kernel'] as const) {
    const all = [rates, latencies].flatMap((results) => of(results, kind) ?? []);
    if (all.length === 0) continue;
    const bad = all.reduce((sum, { tally }) => sum + tally.wrong + tally.failed + tally.lost, 0);
    wanted.push({
      what: `${titles[kind]}: every answer right`,
      figure: `${bad} not`,
      met: bad === 0,
    });
  }
  return wanted;
}

/** Sections in the order in which they are done. */
export async function* localNames(
  effort: LocalEffort,
  kinds: readonly ServerKind[],
  dice: Dice,
): AsyncGenerator<Section> {
  await using hosts = new AsyncDisposableStack();
  const contest = await openContest(effort.names, kinds, hosts);
  const notes = [...contest.missing].map(([kind, why]) => `not there: ${titles[kind]}: ${why}`);
  const all = async (cpu: number): Promise<void> => {
    for (const { server } of contest.servers) await pin(server, cpu);
  };
  const count = effort.names.toLocaleString('en');
  const window = `window ${effort.window} ${effort.windowSize}`;
  await all(0);
  const rates = await race(contest, window, effort, rateOf);
  const apart = `${count} names, client in batches, ${effort.windowSize} under way, each on its own CPU`;
  yield rateSection('local-rate', apart, rates);
  yield {
    ...(await loadRows(contest, effort.load, dice)),
    notes: [
      ...notes,
      'dnsperf and resperf look at the rcode only. ratio: to unbound, round by round.',
    ],
  };
  const near = await race(contest, `wait ${effort.wait}`, effort, p50Of);
  yield latencySection(
    'local-wait',
    `${count} names, one after the other, each on its own CPU`,
    near,
  );
  await all(measuredCpu);
  const same = await race(contest, window, effort, rateOf);
  yield rateSection('local-rate-one', `${count} names, in batches, both on the same CPU`, same);
  const waits = await race(contest, `wait ${effort.wait}`, effort, p50Of);
  const title = `${count} names, one after the other, both on the same CPU`;
  yield {
    ...latencySection('local-wait-one', title, waits),
    wanted: wantedOf(contest, rates, waits),
  };
}
