/**
 * node test/bench/year-report.ts FILE: the lines of year.ts as test/bench/year/REPORT.md and plots
 * beside it. Says of each figure whether it is within twice that of a fresh copy, on every day.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Series, svg } from '../sim/plot.ts';

interface Size {
  readonly docMiB: number;
  readonly heapMiB: number;
  readonly openMs: number;
  readonly items: number;
}

interface Day {
  readonly day: number;
  readonly changes: number;
  readonly flips: number;
  readonly epochs: number;
  readonly writersGone: number;
  readonly writersKnown: number;
  /** Not in the lines of older runs. */
  readonly sharedCopies?: number;
  readonly documents?: number;
  readonly factsMost: number;
  readonly factsLeft: number;
  readonly runningMiB: number;
  readonly old: Size;
  readonly fresh: Size;
  readonly cpuS: number;
}

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('usage: node test/bench/year-report.ts FILE');
const days = readFileSync(file, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Day);
const last = days.at(-1);
if (last === undefined) throw new Error(`${file} has no line`);

const folder = join(import.meta.dirname, 'year');
mkdirSync(folder, { recursive: true });

const FIGURES = [
  ['docMiB', 'documents', 'MiB'],
  ['heapMiB', 'memory', 'MiB'],
  ['openMs', 'start', 'ms of CPU'],
] as const;

const median = (list: readonly number[]): number =>
  list.toSorted((a, b) => a - b)[list.length >> 1] ?? 0;

const rows = FIGURES.map(([key, name, unit]) => {
  const ratios = days.map((day) => day.old[key] / day.fresh[key]);
  const worst = Math.max(...ratios);
  const middle = median(ratios);
  const series: Series[] = (['old', 'fresh'] as const).map((which) => ({
    name: which === 'old' ? 'after so many days' : 'fresh copy',
    points: days.map((day) => [day.day, day[which][key]] as const),
  }));
  writeFileSync(join(folder, `${name}.svg`), svg({ title: name, x: 'day', y: unit, series }));
  const cells = [
    `${name}, ${unit}`,
    days[0]?.old[key],
    last.old[key],
    last.fresh[key],
    middle.toFixed(2),
    worst.toFixed(2),
    worst <= 2 ? 'yes' : middle <= 2 ? 'but for some days' : 'no',
  ];
  return `| ${cells.join(' | ')} |`;
});

const copies =
  last.sharedCopies === undefined ? '' : ` (${last.sharedCopies} of 100 at the end of this run)`;
const millions = (n: number): string => `${(n / 1e6).toFixed(1)} million`;
writeFileSync(
  join(folder, 'REPORT.md'),
  `# ${last.day} days

Made by \`test/bench/year-report.ts\` from what \`test/bench/year.ts\` printed; what it does is told there. ${millions(last.changes)} changes of the state, ${millions(last.flips)} health flips, ${last.epochs} documents written afresh, ${last.writersGone} hosts gone for ever; ${(last.cpuS / 60).toFixed(0)} minutes of CPU on a machine with other work.

What one host holds of the whole cluster (100 hosts, 1,000 services, 10,000 backends, half of them away at a time), beside the same records written afresh by hosts that wrote nothing else:

| | after ${days[0]?.day} day | after ${last.day} | fresh copy | ratio, median of ${days.length} days | at most | within twice |
|---|---|---|---|---|---|---|
${rows.join('\n')}

![documents](documents.svg)
![memory](memory.svg)
![start](start.svg)

Writers known in the shared document at the end: ${last.writersKnown}, of ${last.writersGone + 101} that ever were; documents ${last.documents ?? '?'}, those of hosts that died and are not expired yet among them. Health: at most ${last.factsMost} facts were held at a time; after four minutes without any, ${Math.max(...days.map((day) => day.factsLeft))} on every day that was looked at. All hosts as they run, and the observer: ${last.runningMiB.toFixed(1)} MiB of heap at the end, ${days[0]?.runningMiB.toFixed(1)} after the first day. That is this benchmark's doing and no growth of a host: two hosts a day are drawn to write shared records, and hold the shared document from then on until they leave, 0.4 MiB each. That comes to rest when about every other host has been one${copies}: in a run with fewer changes (\`--days 60 --changes 1728 --flips 1728\`) 2 of them and 1.8 MiB after the first day, 48 and 22.9 MiB after the last. What one host holds of everything is the table above.
`,
);
console.log(`${days.length} days: ${join(folder, 'REPORT.md')}`);
