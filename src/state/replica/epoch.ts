/**
 * Epochs: a document written afresh, with nothing in it but what is left, and what two replicas of
 * different epochs know, brought together.
 *
 * Every cell keeps its identity (its writer, its place in the writer's log) for ever. A replica's
 * knowledge is the cells it has and, for each writer, how far it knows the log: a cell below that
 * which it does not have is removed. So two replicas can be joined without any history: a cell of
 * one side stays if the other has it too, or does not know of it yet (Bieniusa et al., "An optimized
 * conflict-free replicated set", 2012, with logs for version vectors). That needs no common
 * ancestor: it does not matter who proposed an epoch, from what, or how many were missed.
 */
import { formatSeedCell, SEED, type Cell } from './cell.ts';
import { logOf, type LogDocument } from './log-document.ts';
import { addRange, type LogUpdate, type Range, type Run } from './wire.ts';

/**
 * What a new epoch of `document` begins with: for each writer, how much of its log is known; and
 * all cells in one log. Writers that are gone are left out where none of their cells is left.
 */
export function seedOf(document: LogDocument, isGone: (writer: number) => boolean): LogUpdate {
  const entries = [...document.entries()].toSorted(
    (a, b) =>
      (a.key < b.key ? -1 : Number(a.key > b.key)) || a.writer - b.writer || a.clock - b.clock,
  );
  const needed = new Set(entries.map((entry) => entry.writer));
  const runs: Run[] = [];
  for (const [client, length] of document.vector()) {
    if (client === SEED || (!needed.has(client) && isGone(client))) continue;
    runs.push({ client, clock: 0, length, cells: undefined });
  }
  const cells = entries.map(formatSeedCell);
  if (cells.length > 0) runs.push({ client: SEED, clock: 0, length: cells.length, cells });
  return { runs, removals: new Map() };
}

/**
 * What `from` knows and `into` does not, as an update of `into`. Whoever carries the same cell puts
 * it in the same place, so that it does not matter how many do.
 */
export function carryOver(
  from: LogDocument,
  into: LogDocument,
  isGone: (writer: number) => boolean,
): LogUpdate {
  const cells = cellsByWriter(from);
  const runs: Run[] = [];
  for (const [writer, known] of from.vector()) {
    if (writer === SEED) continue;
    const start = into.known(writer);
    const log = cells.get(writer);
    // A writer that the epoch has left out stays out, unless something of it is left here.
    if (known > start && (start > 0 || log !== undefined || !isGone(writer)))
      // Not as arguments of one call: there may be 100,000.
      for (const run of logRuns(writer, start, known, log ?? new Map<number, Cell>()))
        runs.push(run);
  }
  const removals = new Map<number, Range[]>();
  // Another replica may have carried cells to these places, not knowing that they are removed.
  for (const { client, clock, length, cells: left } of runs)
    if (left === undefined) addRange(removals, client, { clock, length });
  for (const entry of into.entries()) {
    const { writer, clock, at } = entry;
    const isRemoved = clock < from.known(writer) && cells.get(writer)?.has(clock) !== true;
    if (isRemoved) addRange(removals, logOf(entry), { clock: at, length: 1 });
  }
  return { runs, removals };
}

function cellsByWriter(document: LogDocument): Map<number, Map<number, Cell>> {
  const byWriter = new Map<number, Map<number, Cell>>();
  for (const entry of document.entries()) {
    let log = byWriter.get(entry.writer);
    if (log === undefined) {
      log = new Map();
      byWriter.set(entry.writer, log);
    }
    log.set(entry.clock, entry);
  }
  return byWriter;
}

/** The part from `start` to `end` of a log: its cells at their places, and gaps. */
function logRuns(
  client: number,
  start: number,
  end: number,
  cells: ReadonlyMap<number, Cell>,
): readonly Run[] {
  const places = [...cells.values()]
    .filter(({ clock }) => clock >= start)
    .toSorted((a, b) => a.clock - b.clock);
  const runs: Run[] = [];
  let clock = start;
  // Neighbours as one run: yjs would join single cells by copying what it has joined so far.
  for (let i = 0; i < places.length;) {
    const first = places[i]?.clock ?? 0;
    const cells: string[] = [];
    for (; places[i]?.clock === first + cells.length; i++) cells.push(places[i]?.text ?? '');
    if (first > clock) runs.push({ client, clock, length: first - clock, cells: undefined });
    runs.push({ client, clock: first, length: cells.length, cells });
    clock = first + cells.length;
  }
  if (end > clock) runs.push({ client, clock, length: end - clock, cells: undefined });
  return runs;
}
