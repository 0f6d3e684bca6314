/**
 * One document: the logs of all who wrote to it, in a Y.Doc, and an index of what is in them.
 *
 * A put adds a cell to the writer's log and removes the cells of its key that the writer has seen;
 * a removal only removes those. What is left of a key are cells written without knowledge of each
 * other; the one with the newest stamp is its value. So the state depends on which writes are known
 * and on nothing else, and yjs merges that: lists that only grow, and sets of what is removed.
 *
 * Why lists and not Y.Map: removed neighbours of a list become one item, so a document holds at
 * most two items for each cell that is left, whatever happened before; those of a map never do.
 */
import * as Y from 'yjs';
import { keyOf, parseCell, SEED, stampOf, WRITER_MAX, type Cell } from './cell.ts';
import { compareStamps } from './hlc.ts';
import type { ReplicaLimits } from './limits.ts';
import { Waiting } from './waiting.ts';
import { buildUpdate, integrateParsed, parseUpdate, UpdateError, type LogUpdate } from './wire.ts';

/** Which rewriting of a document; the higher number wins, then the higher proposer. */
export interface Epoch {
  readonly number: number;
  readonly proposer: number;
}

export const FIRST_EPOCH: Epoch = { number: 0, proposer: 0 };

/** Room for a hundred epochs a second, for centuries. */
const EPOCH_NUMBER_MAX = 2 ** 40;

export function isEpoch({ number, proposer }: Epoch): boolean {
  const isWithin = (value: number, max: number): boolean =>
    Number.isInteger(value) && value >= 0 && value <= max;
  return isWithin(number, EPOCH_NUMBER_MAX) && isWithin(proposer, WRITER_MAX);
}

export function compareEpochs(a: Epoch, b: Epoch): number {
  return a.number - b.number || a.proposer - b.proposer;
}

/** A cell that is not removed, and where it is. What is in its text is not held beside it: there are 100,000. */
export class Entry implements Cell {
  readonly text: string;
  readonly writer: number;
  readonly clock: number;
  /** Its place in the seed of the epoch, of which it is a copy; -1 in its writer's log. */
  readonly #seedAt: number;

  constructor({ text, writer, clock }: Cell, at: number, seeded: boolean) {
    this.text = text;
    this.writer = writer;
    this.clock = clock;
    this.#seedAt = seeded ? at : -1;
  }

  get key(): string {
    return keyOf(this.text);
  }

  get ms(): number {
    return stampOf(this.text).ms;
  }

  get counter(): number {
    return stampOf(this.text).counter;
  }

  /** It is a copy in the seed of the epoch, and not in its writer's log. */
  get seeded(): boolean {
    return this.#seedAt >= 0;
  }

  /** Its place in the log it is in. */
  get at(): number {
    return this.#seedAt >= 0 ? this.#seedAt : this.clock;
  }
}

/** What one update did: the winner of each touched key before it, and the newest stamp in it. */
export interface Delta {
  readonly before: ReadonlyMap<string, Entry | undefined>;
  readonly newest: Cell | undefined;
  /** Updates that waited for others were thrown away: too many. */
  readonly dropped: boolean;
}

const nothing: readonly Entry[] = [];

function isOlder(a: Entry, b: Entry): boolean {
  return (compareStamps(a, b) || a.clock - b.clock) < 0;
}

function winnerOf(entries: Entry | readonly Entry[] | undefined): Entry | undefined {
  if (entries === undefined || !isList(entries)) return entries;
  return entries.reduce((best, entry) => (isOlder(best, entry) ? entry : best));
}

function isList(entries: Entry | readonly Entry[]): entries is readonly Entry[] {
  return Array.isArray(entries);
}

/** 32 bits that look random, of four numbers (the finaliser of MurmurHash3, twice). */
function mix(seed: number, client: number, clock: number, ms: number, counter: number): number {
  let hash = seed ^ client;
  for (const word of [clock, Math.floor(clock / 2 ** 32), ms, Math.floor(ms / 2 ** 32), counter]) {
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35) ^ word;
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 15);
}

export class LogDocument {
  readonly id: string;
  readonly epoch: Epoch;
  readonly #limits: ReplicaLimits;
  readonly #doc: Y.Doc;
  readonly #waiting: Waiting;
  /** A list only where there is more than one: there hardly ever is. */
  readonly #byKey = new Map<string, Entry | Entry[]>();
  #entries = 0;
  #hash1 = 0;
  #hash2 = 0;
  /** Until the next update. */
  #digest: string | undefined;
  #before = new Map<string, Entry | undefined>();
  #newest: Cell | undefined;
  #tellsChanges = true;

  constructor(id: string, epoch: Epoch, limits: ReplicaLimits) {
    this.id = id;
    this.epoch = epoch;
    this.#limits = limits;
    this.#waiting = new Waiting(limits.pendingBytesMax);
    this.#doc = new Y.Doc({ guid: id });
    // Never written through: yjs draws a new id when it meets its own in an update.
    this.#doc.clientID = 0;
    this.#doc.on('afterTransaction', (transaction: Y.Transaction) => this.#index(transaction));
  }

  /** A document from a whole copy of it; throws UpdateError, also where something is missing. */
  static from(id: string, epoch: Epoch, bytes: Uint8Array, limits: ReplicaLimits): LogDocument {
    const document = new LogDocument(id, epoch, limits);
    const { dropped } = document.restore(bytes);
    if (dropped || document.pendingBytes > 0)
      throw new UpdateError('a copy with something missing');
    return document;
  }

  winner(key: string): Entry | undefined {
    return winnerOf(this.#byKey.get(key));
  }

  /** All cells of a key, in no order. */
  entriesOf(key: string): readonly Entry[] {
    const entries = this.#byKey.get(key);
    return entries === undefined ? nothing : isList(entries) ? entries : [entries];
  }

  keys(): IterableIterator<string> {
    return this.#byKey.keys();
  }

  *entries(): Iterable<Entry> {
    for (const entries of this.#byKey.values()) {
      if (isList(entries)) yield* entries;
      else yield entries;
    }
  }

  get entryCount(): number {
    return this.#entries;
  }

  /** Items that yjs holds: grows with churn, up to two for each entry. */
  get itemCount(): number {
    let count = 0;
    for (const structs of this.#doc.store.clients.values()) count += structs.length;
    return count;
  }

  get writerCount(): number {
    return this.#doc.store.clients.size;
  }

  /** What waits for others, in memory, roughly. */
  get pendingBytes(): number {
    return this.#waiting.bytes;
  }

  /** How much of the log of `client` is known. */
  known(client: number): number {
    return Y.getState(this.#doc.store, client);
  }

  vector(): Map<number, number> {
    return Y.decodeStateVector(this.encodedVector());
  }

  encodedVector(): Uint8Array {
    return Y.encodeStateVector(this.#doc);
  }

  /** What is not known to whom the vector is from; without one a whole copy. */
  diff(vector?: Uint8Array): Uint8Array {
    return Y.encodeStateAsUpdate(this.#doc, vector);
  }

  /** Equal if and, but for one in 2^64, only if the documents are. Not against forgery. */
  digest(): string {
    this.#digest ??= this.#digestNow();
    return this.#digest;
  }

  #digestNow(): string {
    let [hash1, hash2] = [this.#hash1, this.#hash2];
    for (const [client, clock] of this.vector()) {
      hash1 ^= mix(3, client, clock, 0, 0);
      hash2 ^= mix(4, client, clock, 0, 0);
    }
    const { number, proposer } = this.epoch;
    const hex = (hash: number): string => (hash >>> 0).toString(16).padStart(8, '0');
    return `${number}.${proposer}.${hex(hash1)}${hex(hash2)}`;
  }

  /**
   * Integrates what parseUpdate() made of `bytes`, as far as what it builds on is there; throws
   * UpdateError, with nothing changed, on a limit.
   */
  apply(update: LogUpdate, bytes: Uint8Array): Delta {
    return this.#take(update, () => integrateParsed(this.#doc, update, bytes));
  }

  #take(update: LogUpdate, integrate: () => void): Delta {
    this.check(update);
    this.#newest = undefined;
    this.#digest = undefined;
    const admitted = this.#waiting.admit(update, (client) => this.known(client));
    const fits = admitted.update;
    if (fits === update) integrate();
    else if (fits.runs.length + fits.removals.size > 0) Y.applyUpdate(this.#doc, buildUpdate(fits));
    const before = this.#before;
    this.#before = new Map();
    return { before, newest: this.#newest, dropped: this.#dropPending() || admitted.dropped };
  }

  /** Of an update that names a log twice yjs takes in the second part only, and keeps what builds on the first. */
  #dropPending(): boolean {
    const { store } = this.#doc;
    if (store.pendingStructs === null && store.pendingDs === null) return false;
    store.pendingStructs = null;
    store.pendingDs = null;
    return true;
  }

  /** The same for bytes that were stored, or are a whole copy: without what changed by it. */
  restore(bytes: Uint8Array): Delta {
    this.#tellsChanges = false;
    try {
      return this.apply(parseUpdate(bytes, this.#limits, this.#limits.snapshotBytesMax), bytes);
    } finally {
      this.#tellsChanges = true;
    }
  }

  /** The same for an update made here. */
  applyOwn(update: LogUpdate): { readonly delta: Delta; readonly bytes: Uint8Array } {
    const bytes = buildUpdate(update);
    return { delta: this.#take(update, () => Y.applyUpdate(this.#doc, bytes)), bytes };
  }

  /** Throws UpdateError if the document would go over a limit with this. */
  check(update: LogUpdate): void {
    const { entriesPerDocumentMax, writersPerDocumentMax } = this.#limits;
    let entries = this.#entries;
    const clients = new Set<number>();
    for (const { client, clock, cells } of update.runs) {
      const known = this.known(client);
      if (known === 0) clients.add(client);
      if (cells !== undefined)
        entries += Math.max(0, Math.min(cells.length, clock + cells.length - known));
    }
    if (entries > Math.max(entriesPerDocumentMax, this.#entries))
      throw new UpdateError(`more than ${entriesPerDocumentMax} entries`);
    if (clients.size > 0 && this.writerCount + clients.size > writersPerDocumentMax)
      throw new UpdateError(`more than ${writersPerDocumentMax} writers`);
  }

  #index({ beforeState, afterState, deleteSet, doc: { store } }: Y.Transaction): void {
    for (const [client, after] of afterState) {
      const from = beforeState.get(client) ?? 0;
      if (after > from) this.#indexNew(store.clients.get(client) ?? [], client, from);
    }
    for (const [client, ranges] of deleteSet.clients) {
      const structs = store.clients.get(client) ?? [];
      for (const { clock, len } of ranges) {
        // yjs has cut the items at the ends of the range.
        let index = Y.findIndexSS(structs, clock);
        for (; index < structs.length; index++) {
          const struct = structs[index];
          if (struct === undefined || struct.id.clock >= clock + len) break;
          this.#eachCell(struct, client, 0, (cell, at) => this.#drop(cell, at));
        }
      }
    }
  }

  #indexNew(structs: (Y.Item | Y.GC)[], client: number, from: number): void {
    for (let i = Y.findIndexSS(structs, from); i < structs.length; i++) {
      const struct = structs[i];
      if (struct?.deleted === false)
        this.#eachCell(struct, client, from, (cell, at) => this.#add(cell, at, client === SEED));
    }
  }

  #eachCell(
    struct: Y.Item | Y.GC,
    client: number,
    from: number,
    visit: (cell: Cell, at: number) => void,
  ): void {
    if (!(struct instanceof Y.Item) || !(struct.content instanceof Y.ContentAny)) return;
    const cells = struct.content.arr as string[];
    for (let i = Math.max(0, from - struct.id.clock); i < cells.length; i++) {
      const at = struct.id.clock + i;
      const cell = parseCell(cells[i] ?? '', client, at);
      if (cell !== undefined) visit(cell, at);
    }
  }

  #touch(key: string, there: Entry | Entry[] | undefined): void {
    if (this.#tellsChanges && !this.#before.has(key)) this.#before.set(key, winnerOf(there));
  }

  #add(cell: Cell, at: number, seeded: boolean): void {
    const { key } = cell;
    const entry = new Entry(cell, at, seeded);
    const there = this.#byKey.get(key);
    this.#touch(key, there);
    if (there === undefined) this.#byKey.set(key, entry);
    else if (isList(there)) there.push(entry);
    else this.#byKey.set(key, [there, entry]);
    this.#count(cell, 1);
    if (this.#newest === undefined || compareStamps(this.#newest, cell) < 0) this.#newest = cell;
  }

  #drop(cell: Cell, at: number): void {
    const there = this.#byKey.get(cell.key);
    if (there === undefined) return;
    const is = (entry: Entry): boolean =>
      entry.at === at && entry.writer === cell.writer && entry.clock === cell.clock;
    const gone = isList(there) ? there.find(is) : is(there) ? there : undefined;
    if (gone === undefined) return; // it came removed, in this same update
    this.#touch(cell.key, there);
    const left = isList(there) ? there.filter((entry) => entry !== gone) : [];
    const [first] = left;
    if (first === undefined) this.#byKey.delete(cell.key);
    else this.#byKey.set(cell.key, left.length === 1 ? first : left);
    this.#count(cell, -1);
  }

  #count({ writer, clock, ms, counter }: Cell, by: 1 | -1): void {
    this.#entries += by;
    this.#hash1 ^= mix(1, writer, clock, ms, counter);
    this.#hash2 ^= mix(2, writer, clock, ms, counter);
  }
}

/** Where an entry is: the log and the place in it. */
export function logOf(entry: Entry): number {
  return entry.seeded ? SEED : entry.writer;
}
