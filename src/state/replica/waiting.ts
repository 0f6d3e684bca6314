/**
 * What came before that on which it builds: runs beyond the place up to which their log is known,
 * and removals of such places. Kept for each log in order, so that an update costs what of it has
 * to wait and what it lets in, and never all that waits. A pure list: applies nothing.
 *
 * yjs keeps such things too, as one update that it reads and writes again with each further one,
 * of removals also with each that fits (readUpdateV2 in src/utils/encoding.js there).
 */
import { addRange, type LogUpdate, type Range, type Run } from './wire.ts';

/** What a run or a range takes in memory beside its cells, and a log beside those. A guess. */
const PIECE_BYTES = 128;

interface Log {
  /** By place; some may overlap. */
  readonly runs: Run[];
  /** By place, and apart. */
  readonly removals: Range[];
}

export interface Admitted {
  /** What fits, with what waited for it: runs that follow each other from the known end of their log. */
  readonly update: LogUpdate;
  /** It was too much: nothing waits any more. */
  readonly dropped: boolean;
}

export class Waiting {
  readonly #bytesMax: number;
  readonly #logs = new Map<number, Log>();
  #bytes = 0;
  #isDropped = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Of memory, roughly. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Parts an update into what fits, and what waits from now on. `known`: the length of a log. */
  admit(update: LogUpdate, known: (client: number) => number): Admitted {
    if (this.#fits(update, known)) return { update, dropped: false };
    this.#isDropped = false;
    const runs: Run[] = [];
    const reached = new Map<number, number>();
    const endOf = (client: number): number => reached.get(client) ?? known(client);
    const take = (run: Run): boolean => {
      const end = endOf(run.client);
      if (run.clock > end) return false;
      if (run.clock + run.length > end) {
        runs.push(runFrom(run, end));
        reached.set(run.client, run.clock + run.length);
      }
      return true;
    };
    for (const run of update.runs) if (!take(run)) this.#keepRun(run);
    for (const client of reached.keys()) this.#releaseRuns(client, take);
    const removals = new Map<number, Range[]>();
    const remove = (client: number, range: Range): void => {
      const [now, later] = cut(range, endOf(client));
      if (now !== undefined) addRange(removals, client, now);
      if (later !== undefined) this.#keepRemoval(client, later);
    };
    for (const [client, end] of reached)
      for (const range of this.#releasedRemovals(client, end)) remove(client, range);
    for (const [client, ranges] of update.removals)
      for (const range of ranges) remove(client, range);
    return { update: { runs, removals }, dropped: this.#isDropped };
  }

  /** As it is, and nothing waits for it. */
  #fits(update: LogUpdate, known: (client: number) => number): boolean {
    const reached = new Map<number, number>();
    const endOf = (client: number): number => reached.get(client) ?? known(client);
    for (const { client, clock, length } of update.runs) {
      const end = endOf(client);
      if (clock > end || this.#logs.has(client)) return false;
      reached.set(client, Math.max(end, clock + length));
    }
    for (const [client, ranges] of update.removals) {
      const end = endOf(client);
      for (const { clock, length } of ranges) if (clock + length > end) return false;
    }
    return true;
  }

  #releaseRuns(client: number, take: (run: Run) => boolean): void {
    const runs = this.#logs.get(client)?.runs ?? [];
    let count = 0;
    for (const run of runs) {
      if (!take(run)) break;
      count += 1;
      this.#bytes -= bytesOf(run);
    }
    runs.splice(0, count);
    this.#tidy(client);
  }

  #releasedRemovals(client: number, end: number): readonly Range[] {
    const ranges = this.#logs.get(client)?.removals ?? [];
    const found = ranges.findIndex(({ clock }) => clock >= end);
    const released = ranges.splice(0, found < 0 ? ranges.length : found);
    this.#bytes -= released.length * PIECE_BYTES;
    this.#tidy(client);
    return released;
  }

  #keepRun(run: Run): void {
    if (this.#isDropped) return;
    const { runs } = this.#log(run.client);
    const at = firstAt(runs, ({ clock }) => clock > run.clock);
    const before = runs[at - 1];
    const isThere = before !== undefined && before.clock + before.length >= run.clock + run.length;
    if (isThere) return; // it was told twice
    runs.splice(at, 0, run);
    this.#grow(bytesOf(run));
  }

  #keepRemoval(client: number, range: Range): void {
    if (this.#isDropped) return;
    const { removals } = this.#log(client);
    let { clock } = range;
    let end = clock + range.length;
    const at = firstAt(removals, (one) => one.clock + one.length >= clock);
    let count = 0;
    for (
      let one = removals[at];
      one !== undefined && one.clock <= end;
      one = removals[at + count]
    ) {
      clock = Math.min(clock, one.clock);
      end = Math.max(end, one.clock + one.length);
      count += 1;
    }
    removals.splice(at, count, count === 0 ? range : { clock, length: end - clock });
    this.#grow((1 - count) * PIECE_BYTES);
  }

  #grow(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= this.#bytesMax) return;
    this.#logs.clear();
    this.#bytes = 0;
    this.#isDropped = true;
  }

  #log(client: number): Log {
    let log = this.#logs.get(client);
    if (log === undefined) {
      log = { runs: [], removals: [] };
      this.#logs.set(client, log);
      this.#bytes += PIECE_BYTES;
    }
    return log;
  }

  #tidy(client: number): void {
    const log = this.#logs.get(client);
    if (log === undefined || log.runs.length + log.removals.length > 0) return;
    this.#logs.delete(client);
    this.#bytes -= PIECE_BYTES;
  }
}

/** Of a list in order, the place of the first one that `is`. */
function firstAt<T>(list: readonly T[], is: (one: T) => boolean): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const one = list[middle];
    if (one !== undefined && is(one)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** What is below `end`, and what is not. */
function cut(range: Range, end: number): [Range | undefined, Range | undefined] {
  const { clock, length } = range;
  if (clock >= end) return [undefined, range];
  if (clock + length <= end) return [range, undefined];
  return [
    { clock, length: end - clock },
    { clock: end, length: clock + length - end },
  ];
}

function runFrom(run: Run, clock: number): Run {
  const skipped = clock - run.clock;
  if (skipped === 0) return run;
  return { ...run, clock, length: run.length - skipped, cells: run.cells?.slice(skipped) };
}

function bytesOf({ cells = [] }: Run): number {
  return cells.reduce((sum, cell) => sum + cell.length, PIECE_BYTES);
}
