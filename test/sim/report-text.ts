// The report's words and plots: what was measured, next to what was published. Only says what is in the results.
import type {
  BadDayResult,
  CostResult,
  DetectionResult,
  FailureResult,
  Options,
  ShapeResult,
  StormResult,
  TreeResult,
} from './experiments.ts';
import type { LoneResult } from './lone.ts';
import type { Cost } from './measure.ts';
import { svg } from './plot.ts';
import { cite, FIGURES, sources } from './published.ts';

/** What is kept of one experiment: by step, with the CPU each took on the machine it ran on. */
export interface Measured<T> {
  readonly options: Options;
  readonly steps: Readonly<Record<string, T>>;
  readonly cpuSeconds: Readonly<Record<string, number>>;
}

export interface Results {
  readonly shape?: Measured<ShapeResult>;
  readonly failures?: Measured<FailureResult>;
  readonly trees?: Measured<TreeResult>;
  readonly storm?: Measured<StormResult>;
  readonly detection?: Measured<DetectionResult>;
  readonly costs?: Measured<CostResult>;
  readonly alone?: Measured<LoneResult>;
  readonly badDay?: Measured<BadDayResult>;
}

function n(value: number | undefined, digits = 3): string {
  if (value === undefined || Number.isNaN(value)) return '–';
  return value === 0 ? '0' : String(Number(value.toPrecision(digits)));
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

const INTRO = `# What the simulator measured

What must hold, and how often it did, is in [GOALS.md](GOALS.md). Written by \`npm run sim:report\`; the numbers are in \`report/\`, each from one seed. All but CPU and memory come out the same on every machine. One way latency is 1 ms with up to 20 % more at random, unless said otherwise. "HPV" is the HyParView paper (DSN 2007), "PT" Plumtree's (SRDS 2007).

Published figures carry what is known of them: of the papers only the first pages were at hand. "As remembered, not checked" is to be checked before anybody relies on it. Where they are said to stand is listed at the end.
`;

function all<T>(measured: Measured<T>): T[] {
  return Object.values(measured.steps);
}

/** What is missing, and what was smaller than it should be. */
function limits(
  measured: Measured<unknown>,
  asked: Partial<Options>,
  steps: readonly string[],
): string {
  const said: string[] = [];
  for (const key of ['nodes', 'broadcasts', 'hours', 'runs'] as const) {
    const [wanted, given] = [asked[key], measured.options[key]];
    if (wanted !== undefined && given < wanted) said.push(`${given} ${key} instead of ${wanted}`);
  }
  const missing = steps.filter((step) => !(step in measured.steps));
  if (missing.length > 0) said.push(`not run: ${missing.join(', ')}`);
  return said.length === 0 ? '' : `Less than asked for: ${said.join('; ')}.`;
}

function section(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('\n\n');
}

function shapeText(measured: Measured<ShapeResult>): string {
  const { paper, default: own } = measured.steps;
  const row = (
    what: string,
    figure: Parameters<typeof cite>[0],
    of: (s: ShapeResult) => string,
  ): string[] => [
    what,
    cite(figure),
    paper === undefined ? '–' : of(paper),
    own === undefined ? '–' : of(own),
  ];
  const full = ({ inDegrees, nodes }: ShapeResult): string =>
    `${n((100 * (inDegrees.at(-1) ?? 0)) / nodes)} %`;
  const rows = [
    row('clustering coefficient', FIGURES.clustering, (s) => n(s.clustering)),
    row('mean shortest path', FIGURES.meanPath, (s) => n(s.meanPath)),
    row('last delivery hop', FIGURES.lastHop, (s) => n(s.lastHop)),
    row('nodes with the full in-degree', FIGURES.fullDegree, full),
    ['components', '1', n(paper?.components), n(own?.components)],
  ];
  return section(
    `## The overlay (${measured.options.nodes} nodes)`,
    `HPV: ${cite(FIGURES.views)}. The default has active 7 and passive 42; here without link states and with all nodes in one zone.`,
    limits(measured, { nodes: 10_000 }, ['paper', 'default']),
    table(['', 'HPV', "here, the paper's settings", 'here, default'], rows),
    '![in-degrees](report/in-degrees.svg)',
  );
}

const FAILURE_STEPS = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95].map((part) => `${part} %`);

function failuresText(measured: Measured<FailureResult>): string {
  const published = (part: number): string => {
    if (part > 0.9) return cite(FIGURES.reliability95);
    return cite(part > 0.8 ? FIGURES.reliability90 : FIGURES.reliability80);
  };
  const rows = all(measured).map((f) => [
    `${100 * f.part} %`,
    published(f.part),
    n(f.prompt, 5),
    n(f.firstPrompt[0], 4),
    f.wholeAfter === undefined ? 'none' : `${f.wholeAfter + 1}`,
    n(f.healMs),
    n(f.reliability, 5),
    n(f.largestComponent, 5),
  ]);
  const { nodes, broadcasts } = measured.options;
  return section(
    `## Mass failures (${nodes} nodes): the next ${broadcasts} broadcasts, one every 20 ms, flooded along active views`,
    'In time is: before the next broadcast is sent. Late deliveries are counted apart: a message that a failure stopped is announced again on the links that replace the lost ones, which the paper does not do. It is the processes that fail, not the hosts: their connections are closed, so that their peers notice after 1 ms, where the paper’s notice by TCP when they next send. Links are pinged every 5 s only.',
    `HPV heals in ${cite(FIGURES.rounds)}. Here repair does not wait for a round, which is a shuffle's 60 s: the time in the table is that of the first broadcast that reached all in time.`,
    'Who is not in the largest component after 90 % or more has nobody living left in either view (looked at with 1,000 nodes). Without link states, as here, it knows of nobody else; with them, as by default, it would go on to knock at all it has heard of.',
    limits(measured, { nodes: 10_000, broadcasts: 1000 }, FAILURE_STEPS),
    table(
      [
        'failed',
        'HPV, mean of 1,000',
        'mean, in time',
        'the first, in time',
        'the first that reached all in time was number',
        'ms after the failure',
        'mean with late ones',
        'largest component',
      ],
      rows,
    ),
    '![reliability](report/reliability.svg)',
    '![after a failure](report/after-failure.svg)',
  );
}

function treesText(measured: Measured<TreeResult>): string {
  const row = (what: string, from: string, q: TreeResult['many'] | undefined): string[][] => {
    if (q === undefined) return [];
    const p99Ms = 'p99Ms' in q ? q.p99Ms : undefined;
    const numbers = [n(q.reliability, 5), n(q.rmr), n(q.lastHop), n(q.hopOf99Percent), n(p99Ms)];
    return [[what, from, ...numbers]];
  };
  const rows = all(measured).flatMap(({ what, nodes, one, origins, many, failed }) => [
    ...row(`${what}, ${nodes} nodes`, 'one origin', one),
    ...row(one === undefined ? `${what}, ${nodes} nodes` : '', `${origins} origins in turn`, many),
    ...row('', 'after 30 % failed at once', failed),
  ]);
  const steps = ['paper', 'views', 'small', 'origins', 'origins at rest'];
  return section(
    '## Broadcast trees',
    `RMR is payloads received by each node beyond the one it needs. PT, with 10,000 nodes: RMR ${cite(FIGURES.rmr)}; ${cite(FIGURES.optimisation)}. The goals: RMR under 0.05 when settled, 99 % of 10,000 nodes within 10 hops. Each row is the mean of ${measured.options.broadcasts} broadcasts after 30 to settle; the last, of 5 that were followed along the trees every node works out from the links of all, without simulating how it learns them. Where the reliability is missing, it was measured in a way that could not fail.`,
    'From leaf to leaf one tree for all origins takes twice its depth: with 7 links a node and 10,000 nodes 10 hops if it were perfectly even, and it is not. So by default each origin has its own.',
    limits(measured, { nodes: 10_000 }, steps),
    table(['', '', 'reliability', 'RMR', 'last hop', 'hop of 99 %', 'p99 ms'], rows),
  );
}

function stormText(measured: Measured<StormResult>): string {
  const rows = all(measured).map((s) => [
    s.linkState ? 'default' : 'without link states',
    String(s.nodes),
    String(s.settleMs),
    String(s.events),
    n(s.cpuSeconds),
    n(s.rssBytesMax / 2 ** 30),
  ]);
  return section(
    '## Join storm',
    'All join through three seeds, one every 2 ms. Done when there is one overlay, every link has two ends and, with link states, every node holds every other for alive. The goal: minutes on one core and 8 GB with 10,000 nodes.',
    limits(measured, {}, [
      '1000',
      '3000',
      '10000',
      '1000 views only',
      '3000 views only',
      '10000 views only',
    ]),
    table(
      ['', 'nodes', 'done, ms after the last join', 'events', 'CPU s', 'memory, GiB at most'],
      rows,
    ),
  );
}

function detectionText(measured: Measured<DetectionResult>): string {
  const rows = all(measured).map(({ what, percentiles: p, falseDeaths }) => [
    what,
    n(p[50], 4),
    n(p[99], 4),
    n(p[100], 4),
    String(falseDeaths),
  ]);
  const { nodes, runs } = measured.options;
  return section(
    `## Who knows of a crash, and when (${nodes} nodes, ${runs} crashes, 1 ms)`,
    `Over all survivors of all crashes, in ms. The goal: 1 s at the median, 2 s at p99 with 1,000 nodes. memberlist: ${cite(FIGURES.probe)}.`,
    limits(measured, { nodes: 1000 }, ['ours', 'theirs']),
    table(['', 'median', 'p99', 'last', 'living called dead'], rows),
    '![detection](report/detection.svg)',
  );
}

function badDayText(measured: Measured<BadDayResult>): string {
  const { nodes, hours } = measured.options;
  return section(
    `## A bad day (${nodes} nodes, ${hours} hours, 5 % loss)`,
    'Every tenth node is overloaded: it stands still for 100 to 500 ms, works for 50 to 200 ms, again and again. All messages of hyparview-ts may be lost; memberlist has its TCP fallback. The goal: no living node called dead in 24 hours.',
    limits(measured, { nodes: 100, hours: 24 }, ['ours', 'theirs']),
    table(
      ['', 'living called dead', 'suspicions', 'links lost'],
      all(measured).map(({ what, falseDeaths, suspicions, linksLost }) => [
        what,
        String(falseDeaths),
        String(suspicions),
        n(linksLost, 8),
      ]),
    ),
  );
}

function costText(measured: Measured<CostResult>): string {
  const cells = (cost: Cost): string[] => [
    n(cost.messagesPerNodeSecond),
    n(cost.bytesPerNodeSecond),
  ];
  const rows = all(measured).map((c) => [
    `${c.nodes}${c.linkState ? '' : ', no link states'}`,
    ...[c.storm, c.rest, c.lossy, c.churn].flatMap(cells),
    n(c.cpuMicrosPerNodeSecond),
  ]);
  const sizes = [10, 100, 1000, 3000, 10_000];
  const steps = [...sizes.map(String), ...sizes.map((size) => `${size} views only`)];
  return section(
    '## Cost',
    'What a node sends per second, on average, frames without what TCP or TLS adds: while all join, one every 5 ms, and 20 s more; at rest; with 1 % loss; and while 1 % of the nodes a minute crash and come back after 5 s. CPU is that of node and simulator together at rest, of one core.',
    limits(measured, {}, steps),
    table(
      [
        'nodes',
        'messages, joining',
        'bytes',
        'messages at rest',
        'bytes',
        'messages, 1 % loss',
        'bytes',
        'messages, churn',
        'bytes',
        'CPU, µs a second',
      ],
      rows,
    ),
  );
}

function aloneText(measured: Measured<LoneResult>): string {
  const rows = all(measured).map((r) => [
    String(r.nodes),
    n((r.nodes * r.bytesPerRecord) / 2 ** 20),
    n(r.fillMs),
    n(r.microsPerChange),
    n(r.microsPerTree),
  ]);
  return section(
    '## What one node holds and computes',
    'One node alone, told of a whole cluster over the wire: the memory of its link states, the CPU to take them all in from nothing, to take in one changed link (three records, one after the other, with the paths that follow), and to find its place in the broadcast tree of one more origin.',
    limits(measured, { nodes: 10_000 }, []),
    table(['nodes', 'MiB', 'CPU ms, all', 'CPU µs, a changed link', 'CPU µs, a tree'], rows),
  );
}

function tookText(results: Results): string {
  const rows = Object.entries(results).flatMap(([name, measured]) => {
    const seconds = Object.values((measured as Measured<unknown>).cpuSeconds);
    const sum = seconds.reduce((total, s) => total + s, 0);
    return seconds.length === 0 ? [] : [[name, String(sum)]];
  });
  return section(
    '## What it took',
    'CPU seconds of each experiment, on the machine it last ran on.',
    table(['experiment', 'CPU s'], rows),
  );
}

export function text(results: Results): string {
  const parts = [INTRO];
  const { shape, failures, trees, storm, detection, badDay, costs, alone } = results;
  if (shape !== undefined) parts.push(shapeText(shape));
  if (failures !== undefined) parts.push(failuresText(failures));
  if (storm !== undefined) parts.push(stormText(storm));
  if (trees !== undefined) parts.push(treesText(trees));
  if (detection !== undefined) parts.push(detectionText(detection));
  if (badDay !== undefined) parts.push(badDayText(badDay));
  if (costs !== undefined) parts.push(costText(costs));
  if (alone !== undefined) parts.push(aloneText(alone));
  const known = Object.keys(results).filter((name) => results[name as keyof Results] !== undefined);
  const ran = Object.fromEntries(known.map((name) => [name, results[name as keyof Results]]));
  parts.push(tookText(ran));
  parts.push(
    `## Sources\n\n${sources()
      .map((line) => `- ${line}`)
      .join('\n')}`,
  );
  return `${parts.join('\n\n').replaceAll('\n\n\n', '\n\n')}\n`;
}

export function plots({ shape, failures, detection }: Results): Map<string, string> {
  const made = new Map<string, string>();
  if (shape !== undefined) {
    const series = Object.entries(shape.steps).map(([name, { inDegrees }]) => {
      return { name, points: inDegrees.map((count, degree) => [degree, count] as const) };
    });
    const title = `In-degrees of ${shape.options.nodes} nodes`;
    made.set('in-degrees', svg({ title, x: 'in-degree', y: 'nodes', series }));
  }
  if (failures !== undefined) {
    const curve = (of: (f: FailureResult) => number): (readonly [number, number])[] =>
      all(failures).map((f) => [100 * f.part, 100 * of(f)]);
    const mean = [
      { name: 'mean, in time', points: curve((f) => f.prompt) },
      { name: 'the first, in time', points: curve((f) => f.firstPrompt[0] ?? 0) },
    ];
    const title = 'Reliability of broadcasts after a mass failure';
    made.set('reliability', svg({ title, x: '% of nodes failed', y: '% reached', series: mean }));
    const worst = all(failures).filter(({ part }) => part >= 0.7);
    const after = worst.map(({ part, firstPrompt }) => {
      return { name: `${100 * part} %`, points: firstPrompt.map((r, i) => [i, 100 * r] as const) };
    });
    const x = 'broadcasts after the failure';
    if (after.length > 0) {
      const what = 'Reached in time, one broadcast after the other';
      made.set('after-failure', svg({ title: what, x, y: '% reached', series: after }));
    }
  }
  if (detection !== undefined) {
    const series = Object.values(detection.steps).map(({ what, percentiles }) => {
      const name = what.split(',', 1)[0] ?? what;
      return { name, points: percentiles.map((ms, i) => [ms, i] as const) };
    });
    const title = `A crash among ${detection.options.nodes}: who knows`;
    made.set('detection', svg({ title, x: 'ms after the crash', y: '% of survivors', series }));
  }
  return made;
}
