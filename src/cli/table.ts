/**
 * Aligned columns without borders, for people; programs take --json.
 */
import Table from 'cli-table3';

const NO_BORDERS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** Lines of aligned cells under their headers; nothing at the end of a line. */
export function columns(
  rows: readonly (readonly string[])[],
  headers: readonly string[] = [],
): string {
  const isPlain = [headers, ...rows].every((row) => row.every((cell) => /^[ -~]*$/.test(cell)));
  return isPlain
    ? plainColumns(headers.length === 0 ? rows : [headers, ...rows])
    : wide(rows, headers);
}

/** Of ASCII, where each character is one wide: cli-table3 takes 19 s for 4,000 rows, and four times that for twice as many. */
function plainColumns(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 1, cell.length);
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}

function wide(rows: readonly (readonly string[])[], headers: readonly string[]): string {
  const table = new Table({
    head: [...headers],
    chars: NO_BORDERS,
    // No colours: the output is piped more often than looked at.
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
