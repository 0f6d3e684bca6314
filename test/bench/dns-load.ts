/** dnsperf and resperf, which are not ours, against each server in turn; each on its own CPU. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestHost } from '../harness/host.ts';
import type { Dice } from '../harness/random.ts';
import { baseOf, type Contest, perSecond, titles } from './dns-contest.ts';
import { RESOLVER } from './dns-servers.ts';
import { measuredCpu } from './place.ts';
import type { Row, Section } from './report.ts';
import { median } from './statistics.ts';

export interface LoadEffort {
  readonly rounds: number;
  /** Of dnsperf. */
  readonly seconds: number;
  /** Of resperf, until it is at its most; 0: it does not run. */
  readonly rampSeconds: number;
}

interface Load {
  readonly rate: number;
  readonly lost: number;
  /** With another rcode than NOERROR. */
  readonly failed: number;
}

/** More than any of the servers answers on one CPU. */
const RESPERF_MOST = 400_000;

function figure(text: string, pattern: RegExp): number {
  const found = pattern.exec(text)?.[1];
  if (found === undefined) throw new Error(`nothing like ${String(pattern)} in:\n${text}`);
  return Number(found);
}

async function pinned(host: TestHost, command: readonly string[]): Promise<string> {
  return await host.output(['taskset', '-c', String(measuredCpu), ...command], {
    env: { LC_ALL: 'C' },
  });
}

async function dnsperf(host: TestHost, file: string, seconds: number): Promise<Load> {
  const words = ['-s', RESOLVER, '-d', file, '-e', '-q', '100', '-t', '1', '-l', String(seconds)];
  const text = await pinned(host, ['nice', '-n', '-20', 'dnsperf', ...words]);
  const done = figure(text, /Queries completed:\s+(\d+)/);
  const good = Number(/Response codes:.*\bNOERROR (\d+)/.exec(text)?.[1] ?? 0);
  return {
    rate: figure(text, /Queries per second:\s+([\d.]+)/),
    lost: figure(text, /Queries lost:\s+(\d+)/),
    failed: done - good,
  };
}

async function resperf(host: TestHost, file: string, seconds: number): Promise<Load> {
  const plot = join(host.dir, 'resperf.gnuplot');
  const words = ['-s', RESOLVER, '-d', file, '-e', '-m', String(RESPERF_MOST), '-t', '2'];
  const ramp = ['-r', String(seconds), '-R', '-P', plot];
  const text = await pinned(host, ['nice', '-n', '-20', 'resperf', ...words, ...ramp]);
  const done = figure(text, /Queries completed:\s+(\d+)/);
  const good = Number(/Response codes:.*\bNOERROR (\d+)/.exec(text)?.[1] ?? 0);
  return {
    rate: figure(text, /Maximum throughput:\s+([\d.]+)/),
    lost: figure(text, /Queries lost:\s+(\d+)/),
    failed: done - good,
  };
}

function rowsOf(contest: Contest, tool: string, rounds: readonly (readonly Load[])[]): Row[] {
  const base = baseOf(contest);
  return contest.servers.map(({ kind }, at) => {
    const mine = rounds.flatMap((round) => round[at] ?? []);
    const ratios = rounds.map((round) => (round[at]?.rate ?? 0) / (round[base]?.rate ?? 0));
    const sum = (of: (load: Load) => number): number =>
      mine.reduce((total, load) => total + of(load), 0);
    return {
      what: `${tool}: ${titles[kind]}`,
      cells: [
        perSecond(median(mine.map(({ rate }) => rate))),
        median(ratios).toFixed(2),
        `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`,
        `${sum(({ failed }) => failed)} failed, ${sum(({ lost }) => lost)} lost`,
      ],
    };
  });
}

export async function loadRows(contest: Contest, effort: LoadEffort, dice: Dice): Promise<Section> {
  const { servers, work } = contest;
  const file = `${work.file}.load`;
  const lines = Array.from(
    { length: 4 * work.names.length },
    () => `${dice.pick(work.names).name} A\n`,
  );
  writeFileSync(file, lines.join(''));
  const perf: Load[][] = [];
  const ramps: Load[][] = [];
  for (let round = 0; round < effort.rounds; round++) {
    const fast: Load[] = [];
    const most: Load[] = [];
    for (const { server } of servers) fast.push(await dnsperf(server.host, file, effort.seconds));
    for (const { server } of effort.rampSeconds > 0 ? servers : [])
      most.push(await resperf(server.host, file, effort.rampSeconds));
    perf.push(fast);
    if (most.length > 0) ramps.push(most);
  }
  return {
    name: 'local-load',
    title:
      'The same by dnsperf (100 under way) and resperf (more and more, until answers are lost)',
    headers: ['', 'answers/s', 'ratio', 'rounds', 'not right'],
    rows: [
      ...rowsOf(contest, 'dnsperf', perf),
      ...(ramps.length > 0 ? rowsOf(contest, 'resperf', ramps) : []),
    ],
    notes: [],
    data: { dnsperf: perf, resperf: ramps, servers: servers.map(({ kind }) => kind) },
    wanted: [],
  };
}
