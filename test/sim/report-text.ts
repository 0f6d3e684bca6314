// The report's words and plots: what was measured, next to what was published. Only says what is in the results.
import type {
  BadDayResult,
  CostResult,
  DetectionResult,
  FailureResult,
  ShapeResult,
  TortureResult,
  TreeResult,
} from './experiments.ts';
import type { BroadcastQuality } from './measure.ts';
import { svg } from './plot.ts';

export interface Results {
  readonly shape?: ShapeResult;
  readonly failures?: readonly FailureResult[];
  readonly trees?: readonly TreeResult[];
  readonly storm?: { readonly nodes: number; readonly settleMs: number; readonly events: number };
  readonly detection?: DetectionResult;
  readonly badDay?: BadDayResult;
  readonly costs?: readonly CostResult[];
  readonly costsViewsOnly?: readonly CostResult[];
  readonly torture?: TortureResult;
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

Written by \`npm run sim:report\`; the numbers are in \`report/\`, each from one seed, and come out the same on every machine. One way latency is 1 ms with up to 20 % more at random, unless said otherwise. "HPV" is the HyParView paper (DSN 2007), "PT" Plumtree's (SRDS 2007).

The published figures are those of HPV's table 1 and figures 2 to 4 and PT's figures, quoted from memory: the copies at hand hold the first pages only. They are to be checked against the papers before anybody relies on them.
`;

function shapeText(shape: ShapeResult): string {
  const full = shape.inDegrees.at(-1) ?? 0;
  const rows = [
    ['clustering coefficient', '0.00092', n(shape.clustering)],
    ['mean shortest path', '6.39', n(shape.meanPath)],
    ['last delivery hop', '9.0', n(shape.lastHop)],
    ['components', '1', n(shape.components)],
    ['nodes with the full in-degree', 'nearly all', `${n((100 * full) / shape.nodes)} %`],
  ];
  return [
    `## The overlay (${shape.nodes} nodes, active 5, passive 30, ARWL 6, PRWL 3)`,
    table(['', 'HPV, table 1', 'here'], rows),
    '![in-degrees](report/in-degrees.svg)',
  ].join('\n\n');
}

function failuresText(failures: readonly FailureResult[]): string {
  const published = new Map([
    [0.8, 'about 1'],
    [0.9, 'about 1'],
    [0.95, 'about 0.9'],
  ]);
  const rows = failures.map((f) => [
    `${100 * f.part} %`,
    published.get(f.part) ?? 'about 1',
    n(f.reliability, 5),
    n(f.first, 4),
    f.wholeAfter === undefined ? 'never' : `${f.wholeAfter}`,
    n(f.healMs),
    n(f.largestComponent, 5),
  ]);
  return [
    `## Mass failures (${failures[0]?.nodes} nodes): the next broadcasts, one every 20 ms, flooded along active views`,
    'Late deliveries count: a message that a failure stopped is announced again on the links that replace the lost ones, which the paper does not do. The peers of a failed node notice by a reset connection, as the paper has it.',
    table(
      [
        'failed',
        'HPV, figure 2',
        'mean reliability',
        'of the first',
        'first that reached all',
        'after ms',
        'largest component',
      ],
      rows,
    ),
    '![reliability](report/reliability.svg)',
  ].join('\n\n');
}

function treesText(trees: readonly TreeResult[]): string {
  const cells = (q: BroadcastQuality): string[] => [
    n(q.reliability, 5),
    n(q.rmr),
    n(q.lastHop),
    n(q.hopOf99Percent),
    n(q.p99Ms),
  ];
  const rows = trees.flatMap(({ what, one, many, failed }) => [
    [what, 'one origin', ...cells(one)],
    ['', '20 origins in turn', ...cells(many)],
    ['', 'after 30 % failed at once', ...cells(failed)],
  ]);
  return [
    '## Broadcast trees',
    'RMR is payloads received by each node beyond the one it needs. PT (10,000 nodes): RMR about 0 when stable; the tree of the first sender serves all.',
    table(['', '', 'reliability', 'RMR', 'last hop', 'hop of 99 %', 'p99 ms'], rows),
  ].join('\n\n');
}

function detectionText({ nodes, ours, theirs, oursFalse, theirsFalse }: DetectionResult): string {
  const row = (name: string, p: readonly number[], wrong: number): string[] => [
    name,
    n(p[50], 4),
    n(p[99], 4),
    n(p[100], 4),
    String(wrong),
  ];
  return [
    `## Who knows of a crash, and when (${nodes} nodes, 1 ms)`,
    'Over all survivors of all crashes, in ms. The goal: 1 s at the median, 2 s at p99.',
    table(
      ['', 'median', 'p99', 'last', 'living called dead'],
      [
        row('hyparview-ts', ours, oursFalse),
        row('memberlist, LAN defaults, same simulator', theirs, theirsFalse),
      ],
    ),
    '![detection](report/detection.svg)',
  ].join('\n\n');
}

function badDayText({ nodes, hours, ours, theirs }: BadDayResult): string {
  return [
    `## A bad day (${nodes} nodes, ${hours} hours, 5 % loss)`,
    'Every tenth node is overloaded: it stands still for 100 to 500 ms, works for 50 to 200 ms, again and again. All messages of hyparview-ts may be lost; memberlist has its TCP fallback.',
    table(
      ['', 'living called dead', 'suspicions', 'links lost'],
      [
        ['hyparview-ts', String(ours.falseDeaths), String(ours.suspicions), String(ours.linksLost)],
        ['memberlist', String(theirs.falseDeaths), String(theirs.suspicions), '–'],
      ],
    ),
  ].join('\n\n');
}

function costText(title: string, costs: readonly CostResult[]): string {
  const rows = costs.map(({ nodes, rest, churn }) => [
    String(nodes),
    n(rest.messagesPerNodeSecond),
    n(rest.bytesPerNodeSecond),
    n(churn.messagesPerNodeSecond),
    n(churn.bytesPerNodeSecond),
  ]);
  return [
    `## ${title}`,
    'What a node sends per second, on average; churn is 1 % of the nodes a minute, crashing and coming back after 5 s.',
    table(
      ['nodes', 'messages at rest', 'bytes at rest', 'messages under churn', 'bytes under churn'],
      rows,
    ),
  ].join('\n\n');
}

export function text(results: Results): string {
  const parts = [INTRO];
  const { shape, failures, trees, storm, detection, badDay, costs, costsViewsOnly, torture } =
    results;
  if (shape !== undefined) parts.push(shapeText(shape));
  if (failures !== undefined) parts.push(failuresText(failures));
  if (storm !== undefined) {
    parts.push(
      `## Join storm\n\n${storm.nodes} nodes join through three seeds, one every 2 ms: one overlay with links that have two ends ${storm.settleMs} ms after the last join; ${storm.events} events.`,
    );
  }
  if (trees !== undefined) parts.push(treesText(trees));
  if (detection !== undefined) parts.push(detectionText(detection));
  if (badDay !== undefined) parts.push(badDayText(badDay));
  if (costs !== undefined) parts.push(costText('Cost, all parts', costs));
  if (costsViewsOnly !== undefined) {
    parts.push(costText('Cost, without link states', costsViewsOnly));
  }
  if (torture !== undefined) {
    parts.push(
      `## Partitions\n\n25 nodes, cut in two at random again and again for 5 minutes, ${torture.runs} times: never a permanent split. One overlay, all beliefs right, ${torture.medianHealMs} ms (median) to ${torture.worstHealMs} ms (longest) after the last cut.`,
    );
  }
  return `${parts.join('\n\n').replaceAll('\n\n\n', '\n\n')}\n`;
}

export function plots({ shape, failures, detection }: Results): Map<string, string> {
  const made = new Map<string, string>();
  if (shape !== undefined) {
    const points = shape.inDegrees.map((count, degree) => [degree, count] as const);
    const title = `In-degrees of ${shape.nodes} nodes`;
    made.set(
      'in-degrees',
      svg({ title, x: 'in-degree', y: 'nodes', series: [{ name: 'nodes', points }] }),
    );
  }
  if (failures !== undefined) {
    const mean = failures.map((f) => [100 * f.part, 100 * f.reliability] as const);
    const first = failures.map((f) => [100 * f.part, 100 * f.first] as const);
    const series = [
      { name: 'mean of all', points: mean },
      { name: 'the first', points: first },
    ];
    const title = 'Reliability of broadcasts after a mass failure';
    made.set('reliability', svg({ title, x: '% of nodes failed', y: '% reached', series }));
  }
  if (detection !== undefined) {
    const curve = (p: readonly number[]): (readonly [number, number])[] =>
      p.map((ms, i) => [ms, i]);
    const series = [
      { name: 'hyparview-ts', points: curve(detection.ours) },
      { name: 'memberlist', points: curve(detection.theirs) },
    ];
    const title = `A crash among ${detection.nodes}: who knows`;
    made.set('detection', svg({ title, x: 'ms after the crash', y: '% of survivors', series }));
  }
  return made;
}
