/**
 * Names of others: how long a client waits while name servers upstream are well,
 * slow, silent, failing or gone. Every name is asked once, so that no cache helps;
 * queries come at a fixed rate, however late the answers are.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TestHost } from '../harness/host.ts';
import { Asker, answering, Tally } from './dns-asker.ts';
import { titles } from './dns-contest.ts';
import { pin, type Server, type ServerKind, startServer } from './dns-servers.ts';
import { type Manner, Upstreams, UPSTREAMS } from './dns-upstreams.ts';
import { measuredCpu } from './place.ts';
import { dnsGlibcProgram } from './programs.ts';
import { ms, type Row, type Section, type Wanted } from './report.ts';
import { median, quantile } from './statistics.ts';

export interface ForwardEffort {
  readonly rounds: number;
  /** Queries of a turn, and before it: 4 s of them, as the agent tidies up some 2 s after its start. */
  readonly count: number;
  readonly warmUp: number;
  /** Queries a second. */
  readonly rate: number;
  /** Lookups of getaddrinfo() for each scenario. */
  readonly lookups: number;
}

export const FORWARD_KINDS = ['zerohop', 'dnsmasq', 'unbound', 'dnsdist'] as const;
/** As glibc waits, and most other clients. */
const TIMEOUT_MS = 5000;
const SUFFIX = 'u.example.com';
const NAMES = `unique:${SUFFIX}`;
const FAST = 1000;
const SLOW = 50_000;

interface Scenario {
  readonly name: string;
  readonly manners: readonly Manner[];
  /** What becomes of the first one in the middle of the turn. */
  readonly midway?: Manner;
  /** One of three is dead: is to be as fast as all healthy. */
  readonly isOneDead?: true;
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'all well', manners: [FAST, FAST, SLOW] },
  { name: 'first silent', manners: ['drop', FAST, SLOW], isOneDead: true },
  { name: 'first SERVFAIL', manners: ['servfail', FAST, SLOW] },
  { name: 'first at 50 ms', manners: [SLOW, FAST, FAST] },
  { name: 'first dies', manners: [FAST, FAST, SLOW], midway: 'gone', isOneDead: true },
  { name: 'first falls silent', manners: [FAST, FAST, SLOW], midway: 'drop', isOneDead: true },
  { name: 'only the slow one', manners: ['drop', 'servfail', SLOW] },
];
const [WELL] = SCENARIOS as readonly [Scenario];

interface Bed {
  readonly kind: ServerKind;
  readonly host: TestHost;
  readonly upstreams: Upstreams;
}

class Result {
  readonly tally = new Tally();
  /** p99 of each round, in ns. */
  readonly p99: number[] = [];
  /** What it is compared with: of the same resolver while all is well, right before or after. */
  readonly p99Well: number[] = [];
  queries = 0;
  asked = 0;
}

type Results = ReadonlyMap<Scenario, ReadonlyMap<ServerKind, Result>>;

async function openBed(kind: ServerKind, hosts: AsyncDisposableStack): Promise<Bed> {
  const host = hosts.use(await TestHost.create());
  return { kind, host, upstreams: await Upstreams.open(host, measuredCpu) };
}

/** One server through one scenario, from its start on. */
async function play(
  bed: Bed,
  scenario: Scenario,
  effort: ForwardEffort,
  to: Result,
): Promise<void> {
  const { kind, host, upstreams } = bed;
  // Well until it listens: dnsdist takes none into use that it has not seen well.
  await upstreams.behaveAll(WELL.manners);
  const server: Server = await startServer(kind, host, { kind: 'forward', upstreams: UPSTREAMS });
  try {
    await answering(server, NAMES);
    await pin(server, 0);
    await upstreams.behaveAll(scenario.manners);
    const asker = await Asker.open(host, NAMES, TIMEOUT_MS, measuredCpu);
    await asker.turn(`pace ${effort.warmUp} ${effort.rate}`);
    const before = await upstreams.queries();
    const turn = asker.turn(`pace ${effort.count} ${effort.rate}`);
    if (scenario.midway !== undefined) {
      await pause((effort.count / effort.rate / 2) * 1000);
      await upstreams.behave(UPSTREAMS[0], scenario.midway);
    }
    const done = await turn;
    await asker.close();
    to.tally.add(done);
    to.p99.push(quantile(done.each, 0.99));
    to.queries += (await upstreams.queries()) - before;
    to.asked += effort.count;
  } finally {
    await server.stop();
  }
}

/** With all well right beside it: what else the machine does changes by the minute. */
async function compare(
  bed: Bed,
  scenario: Scenario,
  effort: ForwardEffort,
  to: Result,
  isWellFirst: boolean,
): Promise<void> {
  const well = new Result();
  if (isWellFirst) await play(bed, WELL, effort, well);
  await play(bed, scenario, effort, to);
  if (!isWellFirst) await play(bed, WELL, effort, well);
  to.p99Well.push(...well.p99);
}

/** Lookups of programs with /etc/resolv.conf alone; nanoseconds, failures as Infinity. */
async function glibc(
  { host, upstreams }: Bed,
  scenario: Scenario,
  count: number,
): Promise<number[]> {
  const file = join(host.dir, 'resolv.conf');
  writeFileSync(file, UPSTREAMS.map((at) => `nameserver ${at}\n`).join(''));
  await upstreams.behaveAll(scenario.manners);
  if (scenario.midway !== undefined) await upstreams.behave(UPSTREAMS[0], scenario.midway);
  const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
  const program = [await dnsGlibcProgram(), String(count), SUFFIX];
  const text = await host.output(['unshare', '-m', 'sh', '-c', script, file, ...program]);
  return text
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    .map(([ns, how]) => (how === 'right' ? Number(ns) : Infinity));
}

const shown = (ns: number): string => (ns === Infinity ? 'never' : ms(ns / 1e6));

function rowOf(scenario: Scenario, kind: ServerKind, result: Result): Row {
  const { tally, queries, asked } = result;
  const at = (q: number): string => shown(quantile(tally.each, q));
  const ratio = ratioOf(result);
  return {
    what: `${scenario.name}: ${kind === 'dnsmasq' ? 'dnsmasq --all-servers' : titles[kind].replace(', user space alone', '')}`,
    cells: [
      at(0.5),
      at(0.99),
      at(0.999),
      ratio.toFixed(2),
      (queries / asked).toFixed(2),
      tally.bad,
    ],
  };
}

/** Of p99 to that of the same server when all is well, in the same round. */
function ratioOf({ p99, p99Well }: Result): number {
  return median(p99.map((ns, round) => ns / (p99Well[round] ?? Number.NaN)));
}

function glibcRow(scenario: Scenario, times: readonly number[]): Row {
  const at = (q: number): string => shown(quantile(times, q));
  const failed = times.filter((ns) => ns === Infinity).length;
  return {
    what: `${scenario.name}: resolv.conf alone`,
    cells: [at(0.5), at(0.99), at(0.999), '', '', `${failed} failed of ${times.length}`],
  };
}

function wantedOf(results: Results): Wanted[] {
  const wanted: Wanted[] = [];
  for (const [scenario, of] of results) {
    const mine = of.get('zerohop');
    if (mine === undefined) continue;
    const { wrong, failed, lost } = mine.tally;
    if (scenario.isOneDead === true) {
      const ratio = ratioOf(mine);
      wanted.push({
        what: `${scenario.name}: p99 of zerohop within 1.2 × of all well`,
        figure: `${ratio.toFixed(2)} ×`,
        met: ratio <= 1.2,
      });
    }
    wanted.push({
      what: `${scenario.name}: zerohop answers all`,
      figure: mine.tally.bad,
      met: wrong + failed + lost === 0,
    });
  }
  return wanted;
}

export async function forwarding(
  effort: ForwardEffort,
  kinds: readonly ServerKind[],
): Promise<Section> {
  await using hosts = new AsyncDisposableStack();
  const beds: Bed[] = [];
  for (const kind of kinds) beds.push(await openBed(kind, hosts));
  const plain = await openBed('naive', hosts);
  const results = new Map(
    SCENARIOS.map((scenario) => [
      scenario,
      new Map<ServerKind, Result>(kinds.map((kind) => [kind, new Result()])),
    ]),
  );
  const lookups = new Map(SCENARIOS.map((scenario) => [scenario, [] as number[]]));
  for (let round = 0; round < effort.rounds; round++)
    for (const [scenario, of] of results) {
      for (let i = 0; i < beds.length; i++) {
        const bed = beds[(i + round) % beds.length];
        const result = bed === undefined ? undefined : of.get(bed.kind);
        if (bed === undefined || result === undefined) continue;
        if (scenario.isOneDead === true) {
          await compare(bed, scenario, effort, result, round % 2 === 0);
        } else {
          await play(bed, scenario, effort, result);
          result.p99Well.push(results.get(WELL)?.get(bed.kind)?.p99[round] ?? Number.NaN);
        }
      }
      if (round === 0)
        lookups.get(scenario)?.push(...(await glibc(plain, scenario, effort.lookups)));
    }
  const rows: Row[] = [];
  for (const [scenario, of] of results) {
    for (const [kind, result] of of) rows.push(rowOf(scenario, kind, result));
    rows.push(glibcRow(scenario, lookups.get(scenario) ?? []));
  }
  return {
    name: 'forward',
    title: `Names of others, ${effort.rate} queries a second; upstreams at 1, 1 and 50 ms when all is well`,
    headers: ['', 'p50', 'p99', 'p99.9', 'ratio', 'sent', 'not right'],
    rows,
    notes: [
      'ratio: p99 to that of the same resolver when all is well, round by round; where one is dead, right before or after. sent: queries to upstreams for each of ours.',
      'What failed or was lost took 5 s. resolv.conf alone is getaddrinfo() of glibc; its mid-run is what comes after.',
    ],
    data: {
      scenarios: SCENARIOS.map((scenario) => ({
        ...scenario,
        resolvers: [...(results.get(scenario) ?? [])].map(([kind, { tally, ...rest }]) => {
          const { each, right, wrong, failed, lost } = tally;
          const at = (q: number): number => quantile(each, q);
          const times = { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
          return {
            kind,
            ...times,
            p99s: rest.p99,
            p99sWell: rest.p99Well,
            sent: rest.queries / rest.asked,
            right,
            wrong,
            failed,
            lost,
          };
        }),
        glibcNs: lookups.get(scenario),
      })),
    },
    wanted: wantedOf(results),
  };
}
