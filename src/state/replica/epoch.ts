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
import { formatSeedCell, SEED, valueOf, type Cell } from './cell.ts';
import { logOf, type LogDocument } from './log-document.ts';
import { forgottenWriters, GONE_PREFIX } from './schema.ts';
import { addRange, type LogUpdate, type Range, type Run } from './wire.ts';

/** Who takes an epoch over with a clock that is behind does not bring back whom it has left out. */
export const CLOCKS_APART_MS = 86_400_000;

/** Who has ever written in a document. */
export function writersIn(document: LogDocument): number[] {
  return [...document.vector().keys()].filter((writer) => writer !== SEED);
}

/**
 * Writers of hosts that are gone for good, by what is said in `shared` (gone/NODE): an epoch leaves
 * them out, which saves 17 bytes each. Not `self`, and none under whose id anybody else writes: what
 * one member says of another may be wrong.
 */
export function forgottenIn(
  shared: readonly LogDocument[],
  documents: readonly LogDocument[],
  nowMs: number,
  self: number,
): ReadonlySet<number> {
  const writers = new Set<number>();
  for (const document of shared)
    for (const key of document.keys()) {
      const entry = key.startsWith(GONE_PREFIX) ? document.winner(key) : undefined;
      if (entry === undefined) continue;
      for (const writer of forgottenWriters(valueOf(entry), nowMs)) writers.add(writer);
    }
  if (writers.size === 0) return writers;
  for (const document of documents)
    if (document.id !== shared[0]?.id)
      for (const writer of writersIn(document)) writers.delete(writer);
  writers.delete(self); // the places of the own log are never given out again
  return writers;
}

/** An item takes some 300 bytes, as an entry does. Very small documents are not worth an epoch; a guess. */
const ITEMS_TOLERATED = 20;
/**
 * No epoch sooner for the sake of writers alone: who does not forget them, with a clock days behind,
 * brings them back each time. A guess.
 */
const FORGETTING_MS = 3_600_000;

/**
 * Whether a document holds so many remains that it takes half as much memory again as a fresh copy.
 * `sinceMs`: how long ago an epoch was begun here that left writers out.
 */
export function isEpochDue(
  document: LogDocument,
  forgotten: () => ReadonlySet<number>,
  sinceMs: number,
): boolean {
  const { itemCount, writerCount, entryCount } = document;
  const tolerated = entryCount / 2 + ITEMS_TOLERATED;
  if (itemCount - writerCount > tolerated) return true;
  if (itemCount <= tolerated || sinceMs < FORGETTING_MS) return false;
  return itemCount - writersKept(document, forgotten()).length > tolerated;
}

/** Writers without those that are to be forgotten, and of which no cell is left. */
export function writersKept(document: LogDocument, forgotten: ReadonlySet<number>): number[] {
  const writers = writersIn(document);
  if (forgotten.size === 0) return writers;
  const needed = new Set([...document.entries()].map((entry) => entry.writer));
  return writers.filter((writer) => needed.has(writer) || !forgotten.has(writer));
}

/**
 * What a new epoch of `document` begins with: for each writer, how much of its log is known; and
 * all cells in one log. What a replica that was cut off before a writer is forgotten says of
 * removals of its cells is lost.
 */
export function seedOf(document: LogDocument, forgotten: ReadonlySet<number>): LogUpdate {
  const entries = [...document.entries()].toSorted(
    (a, b) =>
      (a.key < b.key ? -1 : Number(a.key > b.key)) || a.writer - b.writer || a.clock - b.clock,
  );
  const runs = writersKept(document, forgotten).map((client): Run => {
    return { client, clock: 0, length: document.known(client), cells: undefined };
  });
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
  forgotten: ReadonlySet<number>,
): LogUpdate {
  const cells = cellsByWriter(from);
  const runs: Run[] = [];
  for (const [writer, known] of from.vector()) {
    if (writer === SEED) continue;
    const start = into.known(writer);
    const log = cells.get(writer);
    // A writer that the epoch has left out stays out, unless something of it is left here.
    if (known > start && (start > 0 || log !== undefined || !forgotten.has(writer)))
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
