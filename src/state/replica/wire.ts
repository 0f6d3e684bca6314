/**
 * Updates of yjs, in the one shape that logs have, read and written.
 *
 * A log is one list in a Y.Doc, named after its writer; each cell follows the one written before
 * it. Whatever has another shape is refused here, before yjs integrates any of it: yjs throws half
 * way on some of what a stranger can send. parseUpdate() throws UpdateError and nothing else.
 *
 * The format is update format 1 of yjs 13 (src/utils/encoding.js, src/structs/Item.js there).
 */
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import * as Y from 'yjs';
import { CLOCK_MAX, isCell, SEED } from './cell.ts';
import type { ReplicaLimits } from './limits.ts';

export class UpdateError extends Error {
  override name = 'UpdateError';
}

/** A part of a log: cells, or so many that are gone. */
export interface Run {
  readonly client: number;
  readonly clock: number;
  /** Undefined: removed, and forgotten what they were. */
  readonly cells: readonly string[] | undefined;
  readonly length: number;
}

export interface Range {
  readonly clock: number;
  readonly length: number;
}

export interface LogUpdate {
  /** Those of one client follow each other without a gap. */
  readonly runs: readonly Run[];
  readonly removals: ReadonlyMap<number, readonly Range[]>;
}

export function addRange(removals: Map<number, Range[]>, client: number, range: Range): void {
  const ranges = removals.get(client);
  if (ranges === undefined) removals.set(client, [range]);
  else ranges.push(range);
}

/** Tells whether a place of a log is removed, by what parseUpdate() read: ranges are in order. */
export function placeFinder(
  removals: ReadonlyMap<number, readonly Range[]>,
): (client: number, clock: number) => boolean {
  return (client, clock) => {
    const ranges = removals.get(client) ?? [];
    let [low, high] = [0, ranges.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ranges[middle]?.clock ?? 0) <= clock) low = middle + 1;
      else high = middle;
    }
    const range = ranges[low - 1];
    return range !== undefined && clock < range.clock + range.length;
  };
}

/** In order, and neighbours made one. */
function inOrder(ranges: readonly Range[]): readonly Range[] {
  const merged: Range[] = [];
  for (const { clock, length } of ranges.toSorted((a, b) => a.clock - b.clock)) {
    const last = merged.at(-1);
    if (last === undefined || clock > last.clock + last.length) merged.push({ clock, length });
    else {
      const end = Math.max(last.clock + last.length, clock + length);
      merged[merged.length - 1] = { clock: last.clock, length: end - last.clock };
    }
  }
  return merged;
}

/** The list that is the log of `client`. */
export function logName(client: number): string {
  return client.toString(36);
}

export function parseUpdate(
  bytes: Uint8Array,
  limits: ReplicaLimits,
  bytesMax = limits.updateBytesMax,
): LogUpdate {
  if (bytes.length > bytesMax) throw new UpdateError(`${bytes.length} bytes, at most ${bytesMax}`);
  const { structs, ds } = decode(bytes);
  const runs = structs.map((struct) => runOf(struct, limits));
  const removals = new Map<number, readonly Range[]>();
  for (const [client, items] of ds.clients) {
    if (!isClient(client)) throw new UpdateError(`removals in the log of ${client}`);
    const ranges = items.map((item) => ({ clock: item.clock, length: item.len }));
    // As yjs writes them; placeFinder() counts on it.
    let end = 0;
    for (const { clock, length } of ranges) {
      checkRange(clock, length);
      if (clock < end) throw new UpdateError(`removals of ${client} out of order`);
      end = clock + length;
    }
    removals.set(client, ranges);
  }
  return { runs, removals };
}

function decode(bytes: Uint8Array): ReturnType<typeof Y.decodeUpdate> {
  try {
    return Y.decodeUpdate(bytes);
  } catch (error) {
    throw new UpdateError('not an update of yjs', { cause: error });
  }
}

function isClient(client: number): boolean {
  return client > 0 && client <= SEED;
}

function checkRange(clock: number, length: number): void {
  if (!(clock >= 0 && length > 0 && clock + length <= CLOCK_MAX))
    throw new UpdateError(`cells ${clock} to ${clock + length} of a log`);
}

function runOf(struct: Y.Item | Y.GC | Y.Skip, limits: ReplicaLimits): Run {
  if (!(struct instanceof Y.Item)) throw new UpdateError('something that is no cell');
  const { client, clock } = struct.id;
  const { content, length, origin } = struct;
  if (!isClient(client)) throw new UpdateError(`the log of ${client}`);
  checkRange(clock, length);
  const follows =
    clock === 0
      ? origin === null && (struct.parent as unknown) === logName(client)
      : origin?.client === client && origin.clock === clock - 1;
  if (!follows || struct.rightOrigin !== null || struct.parentSub !== null)
    throw new UpdateError(`cell ${clock} of ${client} does not follow the one before it`);
  if (content instanceof Y.ContentDeleted) return { client, clock, length, cells: undefined };
  if (!(content instanceof Y.ContentAny)) throw new UpdateError('contents that are no cells');
  const cells = content.arr as unknown[];
  for (const [index, cell] of cells.entries()) checkCell(cell, client, clock + index, limits);
  return { client, clock, length, cells: cells as string[] };
}

function checkCell(raw: unknown, client: number, clock: number, limits: ReplicaLimits): void {
  const { cellCharsMax, keyCharsMax } = limits;
  if (typeof raw !== 'string' || raw.length > cellCharsMax || !isCell(raw, client, keyCharsMax))
    throw new UpdateError(`cell ${clock} of ${client} is not KEY, STAMP, VALUE`);
}

/** Gives the cells that were read once already: texts are what costs most of an update. */
class ParsedCells extends Y.UpdateDecoderV1 {
  readonly #runs: readonly Run[];
  #run = 0;
  #cell = 0;

  constructor(decoder: decoding.Decoder, runs: readonly Run[]) {
    super(decoder);
    this.#runs = runs;
  }

  override readAny(): unknown {
    const { restDecoder: rest } = this;
    decoding.readUint8(rest); // a text, as each cell is
    const length = decoding.readVarUint(rest);
    rest.pos += length;
    let run = this.#runs[this.#run];
    while (this.#cell >= (run?.cells?.length ?? 0)) {
      if (run === undefined) throw new Error('bug: more cells than were read before');
      run = this.#runs[++this.#run];
      this.#cell = 0;
    }
    return run?.cells?.[this.#cell++];
  }
}

/** As Y.applyUpdate() of `bytes`, of which parseUpdate() made `update`: its runs are in the order of the bytes. */
export function integrateParsed(doc: Y.Doc, update: LogUpdate, bytes: Uint8Array): void {
  const decoder = decoding.createDecoder(bytes);
  Y.readUpdateV2(decoder, doc, undefined, new ParsedCells(decoder, update.runs));
}

// Contents of an item: the low five bits of its first byte (readItemContent in src/structs/Item.js).
const REF_DELETED = 1;
const REF_ANY = 8;
/** Set where the item to the left is named; without it the name of the list follows. */
const HAS_ORIGIN = 0x80;

export function buildUpdate(update: LogUpdate): Uint8Array {
  const encoder = encoding.createEncoder();
  const byClient = new Map<number, Run[]>();
  for (const run of update.runs) {
    if (run.length === 0) continue;
    const runs = byClient.get(run.client);
    if (runs === undefined) byClient.set(run.client, [run]);
    else runs.push(run);
  }
  encoding.writeVarUint(encoder, byClient.size);
  for (const [client, runs] of byClient) {
    encoding.writeVarUint(encoder, runs.length);
    encoding.writeVarUint(encoder, client);
    encoding.writeVarUint(encoder, runs[0]?.clock ?? 0);
    for (const run of runs) writeRun(encoder, run);
  }
  encoding.writeVarUint(encoder, update.removals.size);
  for (const [client, unordered] of update.removals) {
    const ranges = inOrder(unordered);
    encoding.writeVarUint(encoder, client);
    encoding.writeVarUint(encoder, ranges.length);
    for (const { clock, length } of ranges) {
      encoding.writeVarUint(encoder, clock);
      encoding.writeVarUint(encoder, length);
    }
  }
  return encoding.toUint8Array(encoder);
}

function writeRun(encoder: encoding.Encoder, { client, clock, cells, length }: Run): void {
  const ref = cells === undefined ? REF_DELETED : REF_ANY;
  if (clock === 0) {
    encoding.writeUint8(encoder, ref);
    encoding.writeVarUint(encoder, 1);
    encoding.writeVarString(encoder, logName(client));
  } else {
    encoding.writeUint8(encoder, ref | HAS_ORIGIN);
    encoding.writeVarUint(encoder, client);
    encoding.writeVarUint(encoder, clock - 1);
  }
  encoding.writeVarUint(encoder, length);
  for (const cell of cells ?? []) encoding.writeAny(encoder, cell);
}
