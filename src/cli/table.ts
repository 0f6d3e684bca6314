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
