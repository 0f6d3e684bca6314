// The README's table of kernel × feature × pass, from the results of matrix runs. Pure.
import type { FileResult, RowResult } from './matrix.ts';

/** Features in words, by test files that show them; files of no feature stand under their own names. */
const FEATURES: readonly (readonly [feature: string, files: RegExp])[] = [
  ['libbpf addon', /^test\/addon\//],
  ['access control', /^test\/\w+\/acl/],
  ['BPF structures and programs', /^test\/bpf\//],
  ['services over TCP and UDP, IPv4 and IPv6; getpeername', /^test\/system\/datapath\./],
  ['refusal with ECONNREFUSED', /^test\/system\/refuge\./],
  ['tables of sockets', /^test\/system\/sockets\./],
  ['adoption and start', /^test\/system\/start\./],
  ['repair of damaged maps', /^test\/system\/repair\./],
  ['crashes and restarts', /^test\/system\/crash\./],
  ['changes under load; weights', /^test\/system\/churn\./],
  ['nginx, redis, zerohop run', /^test\/system\/servers\./],
  ['bad input, full maps', /^test\/system\/input\./],
  ['the demo', /^test\/system\/demo\./],
  ['the npm package', /^test\/system\/pack\./],
  ['test hosts leave nothing', /^test\/system\/harness\./],
];
const MARKERS = { begin: '<!-- matrix -->', end: '<!-- /matrix -->' };

export function featureOf(file: string): string {
  return (
    FEATURES.find(([, files]) => files.test(file))?.[0] ??
    file.replace(/^test\//, '').replace(/\.test\.ts$/, '')
  );
}

function featuresOf(results: readonly RowResult[]): string[] {
  const there = new Set(results.flatMap((row) => Object.keys(row.files)).map(featureOf));
  const known = FEATURES.map(([feature]) => feature);
  return [
    ...known.filter((feature) => there.has(feature)),
    ...[...there].filter((feature) => !known.includes(feature)).toSorted(),
  ];
}

/** Numbers footnotes by their text, so that one reason is told once. */
class Footnotes {
  readonly #texts: string[] = [];

  mark(text: string): string {
    const known = this.#texts.indexOf(text);
    return `<sup>${known >= 0 ? known + 1 : this.#texts.push(text)}</sup>`;
  }

  toString(): string {
    return this.#texts.map((text, index) => `${index + 1}. ${text}`).join('\n');
  }
}

/** More than these are counted, not named. */
const NAMED_MAX = 3;

function skippedText(reason: string, tests: FileResult['skipped']): string {
  const names = tests.map(({ name }) => name);
  return `skipped: ${names.length <= NAMED_MAX ? names.join('; ') : `${names.length} tests`}: ${reason}`;
}

function cell(files: readonly FileResult[], notes: Footnotes): string {
  const sum = (key: 'pass' | 'fail' | 'skip'): number =>
    files.reduce((all, file) => all + file[key], 0);
  if (files.length === 0) return 'not run';
  const skipped = Map.groupBy(
    files.flatMap((file) => file.skipped),
    ({ reason }) => reason,
  );
  const marks = [...skipped].map(([reason, tests]) => notes.mark(skippedText(reason, tests)));
  const parts = [
    ...(sum('fail') > 0 ? [`**${sum('fail')} failed**`] : []),
    ...(sum('pass') > 0 ? [`${sum('pass')} passed`] : []),
    ...(sum('skip') > 0 ? [`${sum('skip')} skipped ${marks.join(' ')}`] : []),
  ];
  return parts.join(', ');
}

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

/** Rows of tests are the features, columns the kernels. A later result for a row replaces an earlier one. */
export function matrixTable(all: readonly RowResult[]): string {
  const results = [...new Map(all.map((row) => [row.row, row])).values()];
  const notes = new Footnotes();
  const head = results.map((row) => `${row.row}${row.verdict === 'not run' ? ' (not run)' : ''}`);
  const kernels = results.map((row) => row.kernel.split(' ')[1] ?? 'not to be had');
  const lsm = results.map((row) => (row.row.endsWith('-nobpf') ? 'no' : 'yes'));
  const body = featuresOf(results).map((feature) =>
    line([
      feature,
      ...results.map((row) =>
        cell(
          Object.entries(row.files).flatMap(([file, result]) =>
            featureOf(file) === feature ? [result] : [],
          ),
          notes,
        ),
      ),
    ]),
  );
  const verdicts = results.map((row) => {
    const why = row.why.filter((text) => !text.startsWith('test/'));
    return `${row.verdict}${why.map((text) => ` ${notes.mark(text)}`).join('')}`;
  });
  const table = [
    line(['', ...head]),
    line(['---', ...head.map(() => '---')]),
    line(['Debian kernel', ...kernels]),
    line(['`bpf` in `lsm=`', ...lsm]),
    ...body,
    line(['**as a whole**', ...verdicts]),
  ].join('\n');
  const notesText = String(notes);
  return notesText === '' ? table : `${table}\n\n${notesText}`;
}

/** The text with the table between its two markers. */
export function withTable(text: string, table: string): string {
  const begin = text.indexOf(MARKERS.begin);
  const end = text.indexOf(MARKERS.end);
  if (begin < 0 || end < begin)
    throw new Error(`no ${MARKERS.begin} … ${MARKERS.end} to put the table between`);
  return `${text.slice(0, begin + MARKERS.begin.length)}\n${table}\n${text.slice(end)}`;
}
