/**
 * All replicated documents of one host: one shared by everybody, and one for each node, which that
 * node alone writes. Inputs are method calls with the time; everything that follows is returned.
 *
 * Never sends, stores or asks the time: src/state/replica/README.md says what its host owes it.
 * Updates of others are checked before any of them is integrated; receive() never throws.
 */
import * as Y from 'yjs';
import { isKey, valueOf, WRITER_MAX, formatCell } from './cell.ts';
import { carryOver, CLOCKS_APART_MS, forgottenIn, isEpochDue, seedOf, writersIn } from './epoch.ts';
import { clockText, HybridClock, type Stamp } from './hlc.ts';
import { LIMITS, type ReplicaLimits } from './limits.ts';
import {
  compareEpochs,
  FIRST_EPOCH,
  isEpoch,
  LogDocument,
  logOf,
  type Delta,
  type Entry,
  type Epoch,
} from './log-document.ts';
import {
  addRange,
  buildUpdate,
  parseUpdate,
  placeFinder,
  UpdateError,
  type LogUpdate,
  type Range,
} from './wire.ts';

export const SHARED = 'shared';

/** The id of the document that `node` writes. */
export function documentOf(node: string): string {
  return `node:${node}`;
}

/** Bytes about a document, of one epoch. `whole`: with everything that is known of it. */
export interface Update {
  readonly document: string;
  readonly epoch: Epoch;
  readonly whole: boolean;
  readonly bytes: Uint8Array;
}

export interface Vector {
  readonly document: string;
  readonly epoch: Epoch;
  readonly bytes: Uint8Array;
}

export interface Write {
  readonly document: 'shared' | 'own';
  readonly key: string;
  /** JSON; undefined removes the key. */
  readonly value: string | undefined;
  /** Also if it is so already: against writes that are being made elsewhere it then counts. */
  readonly always?: boolean;
  /** With the stamp of what it takes the place of: whatever is written elsewhere meanwhile wins over it. */
  readonly settles?: boolean;
}

/** A key has another value than before; undefined: none. Each at most once for each call. */
export interface Changed {
  readonly document: string;
  readonly key: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
}

export type Notice =
  /** Nothing of the update was taken. */
  | { readonly type: 'refused'; readonly document: string; readonly reason: string }
  /** The writer's clock is too far ahead: its writes are kept, its time is not followed. */
  | { readonly type: 'clock-ahead'; readonly writer: number; readonly aheadMs: number }
  /** Somebody knows writes of this data directory that it does not know itself: it was set back. */
  | { readonly type: 'own-history'; readonly document: string; readonly writes: number }
  /** Too much waited for updates that did not come: thrown away, ask for what is missing. */
  | { readonly type: 'gap'; readonly document: string }
  | { readonly type: 'epoch'; readonly document: string; readonly epoch: Epoch };

export interface Received {
  readonly changed: readonly Changed[];
  readonly notices: readonly Notice[];
  /** To be stored, and broadcast: what this replica alone knew of an older epoch. */
  readonly updates: readonly Update[];
  /** `ask`: for a whole copy; `tell`: send them a whole copy, theirs is of an older epoch. */
  readonly wants?: 'ask' | 'tell';
}

export interface Transacted {
  readonly updates: readonly Update[];
  readonly changed: readonly Changed[];
}

/** A transaction or a compaction that may be made, or dropped. */
export interface Plan {
  readonly updates: readonly Update[];
  /** clockState() once it is made. */
  readonly clock: string;
  /** For commit() alone. */
  readonly version: number;
  readonly apply: () => readonly Changed[];
}

/** The writes of a transaction cannot be made; nothing was changed. */
export class WriteError extends Error {
  override name = 'WriteError';
}

export interface ReplicaOptions {
  readonly node: string;
  /** Id of the data directory, 1 to WRITER_MAX: drawn once, and again for a restored backup. */
  readonly writer: number;
  readonly limits?: Partial<ReplicaLimits>;
  readonly driftMsMax?: number;
}

export interface Saved {
  readonly clock: string;
  /** Whole copies, and updates after them, in any order. */
  readonly updates: readonly Update[];
}

export type Listener = (changed: readonly Changed[]) => void;

export class Replica {
  readonly node: string;
  readonly own: string;
  #writer: number;
  readonly #limits: ReplicaLimits;
  #clock: HybridClock;
  readonly #drift: { readonly driftMsMax?: number };
  readonly #documents = new Map<string, LogDocument>();
  readonly #listeners = new Map<Listener, string>();
  /** Counts what may have changed something: a plan is of one moment. */
  #version = 0;
  /** When an epoch was begun here that leaves writers out. */
  #forgotMs = -Infinity;
  /** The writer id was put under something since open(). */
  #hasWritten = false;

  private constructor(options: ReplicaOptions, saved: Saved | undefined) {
    const { node, writer, limits, driftMsMax } = options;
    if (!Number.isSafeInteger(writer) || writer < 1 || writer > WRITER_MAX)
      throw new Error(`bug: writer ${writer} is not in 1…${WRITER_MAX}`);
    this.node = node;
    this.#writer = writer;
    this.own = documentOf(node);
    this.#limits = { ...LIMITS, ...limits };
    this.#drift = driftMsMax === undefined ? {} : { driftMsMax };
    this.#clock = new HybridClock({ writer, state: saved?.clock, ...this.#drift });
    for (const id of [SHARED, this.own]) this.#put(new LogDocument(id, FIRST_EPOCH, this.#limits));
  }

  /** With what was stored; throws UpdateError if that is damaged. */
  static open(options: ReplicaOptions, saved?: Saved): Replica {
    const replica = new Replica(options, saved);
    // Higher epochs first: what is of an older one then says nothing new.
    const order = (saved?.updates ?? []).toSorted(
      (a, b) => compareEpochs(b.epoch, a.epoch) || Number(b.whole) - Number(a.whole),
    );
    for (const update of order) replica.#restore(update);
    return replica;
  }

  /** Id of the data directory. */
  get writer(): number {
    return this.#writer;
  }

  /**
   * Goes on under another writer id: the data directory was set back (notice `own-history`). False,
   * and nothing is changed, where something was written under this one since open(): others may have
   * something else in the same places, and another id would let them remove what is here.
   */
  renew(writer: number): boolean {
    if (this.#hasWritten) return false;
    this.#version += 1;
    this.#writer = writer;
    this.#clock = new HybridClock({ writer, state: this.#clock.state(), ...this.#drift });
    return true;
  }

  /** plan() and commit() at once. */
  transact(writes: readonly Write[], nowMs: number): Transacted {
    return this.commit(this.plan(writes, nowMs));
  }

  /**
   * The updates of a transaction, with nothing changed yet: they can be stored first, and a plan
   * that cannot be stored is dropped. Everything or nothing, with one stamp; of two writes of a key
   * the last. Saying again what is so makes no update.
   */
  plan(writes: readonly Write[], nowMs: number): Plan {
    const { writesPerTransactionMax } = this.#limits;
    if (writes.length > writesPerTransactionMax)
      throw new WriteError(`${writes.length} writes at once, at most ${writesPerTransactionMax}`);
    const parts: { document: LogDocument; update: LogUpdate; bytes: Uint8Array }[] = [];
    let stamp: Stamp | undefined;
    for (const which of ['shared', 'own'] as const) {
      const document = this.#document(which === 'shared' ? SHARED : this.own);
      const last = new Map(
        writes.flatMap((write) => (write.document === which ? [[write.key, write]] : [])),
      );
      const needed = [...last.values()].filter((write) => isNews(document, write));
      if (needed.length === 0) continue;
      stamp ??= this.#clock.next(nowMs);
      const update = this.#updateOf(document, needed, stamp);
      parts.push({ document, update, bytes: buildUpdate(update) });
    }
    const updates = parts.map(({ document: { id, epoch }, bytes }): Update => {
      return { document: id, epoch, whole: false, bytes };
    });
    const clock = stamp === undefined ? this.#clock.state() : clockText(stamp);
    const apply = (): readonly Changed[] => {
      if (stamp !== undefined) this.#clock.advance(stamp);
      this.#hasWritten ||= parts.some(({ update }) => update.runs.length > 0);
      return parts.flatMap(({ document, update, bytes }) =>
        changesOf(document, document.apply(update, bytes)),
      );
    };
    return { updates, clock, version: this.#version, apply };
  }

  /** Does what was planned. Nothing else may have been done in between. */
  commit({ updates, version, apply }: Plan): Transacted {
    if (version !== this.#version) throw new Error('bug: a plan of what was before');
    this.#version += 1;
    const changed = apply();
    this.#tell(changed);
    return { updates, changed };
  }

  #updateOf(document: LogDocument, writes: readonly Write[], stamp: Stamp): LogUpdate {
    const { keyCharsMax, cellCharsMax } = this.#limits;
    const cells: string[] = [];
    const removals = new Map<number, Range[]>();
    for (const { key, value, settles = false } of writes) {
      if (!isKey(key, keyCharsMax)) throw new WriteError(`"${key.slice(0, 100)}" cannot be a key`);
      for (const entry of document.entriesOf(key))
        addRange(removals, logOf(entry), { clock: entry.at, length: 1 });
      if (value === undefined) continue;
      const cell = formatCell(key, (settles ? document.winner(key) : undefined) ?? stamp, value);
      if (cell.length > cellCharsMax)
        throw new WriteError(
          `"${key}" would have ${cell.length} characters, at most ${cellCharsMax}`,
        );
      cells.push(cell);
    }
    const clock = document.known(this.writer);
    const run = { client: this.writer, clock, length: cells.length, cells };
    const update = { runs: cells.length > 0 ? [run] : [], removals };
    try {
      document.check(update);
    } catch (error) {
      if (!(error instanceof UpdateError)) throw error;
      throw new WriteError(`"${document.id}" would have ${error.message}`);
    }
    return update;
  }

  /**
   * An update from a peer. `origin` is who made it, where the transport knows (a broadcast): only
   * the owner of a node's document may say something new about it.
   */
  receive(update: Update, nowMs: number, origin?: string): Received {
    this.#version += 1;
    try {
      return this.#receive(update, nowMs, origin);
    } catch (error) {
      if (!(error instanceof UpdateError)) throw error;
      return refusal(update.document, error.message);
    }
  }

  #receive(update: Update, nowMs: number, origin: string | undefined): Received {
    const { document: id, bytes, whole } = update;
    if (origin !== undefined && id !== SHARED && id !== documentOf(origin))
      return refusal(id, `it is not for ${origin} to write`);
    if (!isEpoch(update.epoch)) return refusal(id, 'no such epoch');
    const document = this.#documents.get(id);
    const order = compareEpochs(update.epoch, document?.epoch ?? FIRST_EPOCH);
    if (order < 0) return { changed: [], notices: [], updates: [], wants: 'tell' };
    if (order > 0) {
      if (!whole) return { changed: [], notices: [], updates: [], wants: 'ask' };
      return this.#adopt(update, nowMs);
    }
    const limits = this.#limits;
    const parsed = parseUpdate(bytes, limits, whole ? limits.snapshotBytesMax : undefined);
    const notices = this.#noticesOfOwn(id, parsed, document);
    if (id === this.own && document !== undefined && this.#removesOwn(document, parsed)) {
      const refused = refusal(id, 'it removes what only this host may remove');
      return { ...refused, notices: [...notices, ...refused.notices] };
    }
    const into = document ?? this.#create(id);
    const delta = into.apply(parsed, bytes);
    if (document === undefined) this.#put(into);
    notices.push(...this.#follow(delta, nowMs));
    if (delta.dropped) notices.push({ type: 'gap', document: id });
    const changed = changesOf(into, delta);
    this.#tell(changed);
    return { changed, notices, updates: [] };
  }

  /** Takes a newer epoch of a document, and takes along what it does not know. */
  #adopt(update: Update, nowMs: number): Received {
    const { document: id, epoch, bytes } = update;
    const before = this.#documents.get(id) ?? this.#create(id);
    const after = LogDocument.from(id, epoch, bytes, this.#limits);
    const newest = [...after.entries()].reduce<Entry | undefined>(
      (best, entry) => (best === undefined || entry.ms > best.ms ? entry : best),
      undefined,
    );
    const ahead = after.known(this.writer) - before.known(this.writer);
    // What others say of their own documents is all there is to say.
    const isMine = id === SHARED || id === this.own;
    const shared = id === SHARED ? [before, after] : [this.#document(SHARED)];
    const forgotten = this.#forgotten(shared, nowMs + CLOCKS_APART_MS);
    const carried = isMine ? carryOver(before, after, forgotten) : NOTHING;
    const updates: Update[] = [];
    if (carried.runs.length > 0 || carried.removals.size > 0) {
      const own = after.applyOwn(carried);
      updates.push({ document: id, epoch, whole: false, bytes: own.bytes });
    }
    this.#put(after);
    const notices: Notice[] = [{ type: 'epoch', document: id, epoch }];
    if (ahead > 0) notices.push({ type: 'own-history', document: id, writes: ahead });
    notices.push(...this.#follow({ before: new Map(), newest, dropped: false }, nowMs));
    const keys = new Map(
      [...before.keys(), ...after.keys()].map((key) => [key, before.winner(key)]),
    );
    const changed = changesOf(after, { before: keys, newest, dropped: false });
    this.#tell(changed);
    return { changed, notices, updates };
  }

  #noticesOfOwn(id: string, update: LogUpdate, document: LogDocument | undefined): Notice[] {
    const known = document?.known(this.writer) ?? 0;
    let writes = 0;
    for (const { client, clock, length } of update.runs)
      if (client === this.writer) writes = Math.max(writes, clock + length - known);
    for (const { clock, length } of update.removals.get(this.writer) ?? [])
      writes = Math.max(writes, clock + length - known);
    return writes > 0 ? [{ type: 'own-history', document: id, writes }] : [];
  }

  #removesOwn(document: LogDocument, { removals }: LogUpdate): boolean {
    if (removals.size === 0) return false;
    const isRemoved = placeFinder(removals);
    for (const entry of document.entries())
      if (entry.writer === this.writer && isRemoved(logOf(entry), entry.at)) return true;
    return false;
  }

  #follow({ newest }: Delta, nowMs: number): readonly Notice[] {
    if (newest === undefined) return [];
    const aheadMs = this.#clock.observe(newest, nowMs);
    return aheadMs > 0 ? [{ type: 'clock-ahead', writer: newest.writer, aheadMs }] : [];
  }

  /**
   * Writes the shared or the own document afresh. To be stored and sent to all as it is; replicas
   * that adopt it bring what it lacks.
   */
  compact(id: string, nowMs = 0): Update {
    const plan = this.planCompaction(id, nowMs);
    this.commit(plan);
    return plan.update;
  }

  planCompaction(id: string, nowMs: number): Plan & { readonly update: Update } {
    const before = this.#document(id);
    if (id !== SHARED && id !== this.own)
      throw new Error(`bug: ${id} is not for ${this.node} to write afresh`);
    const epoch = { number: before.epoch.number + 1, proposer: this.writer };
    const after = new LogDocument(id, epoch, this.#limits);
    const forgotten = this.#forgotten([this.#document(SHARED)], nowMs);
    after.applyOwn(seedOf(before, forgotten));
    const update = { document: id, epoch, whole: true, bytes: after.diff() };
    const apply = (): readonly Changed[] => {
      this.#hasWritten = true;
      if (forgotten.size > 0) this.#forgotMs = nowMs;
      this.#put(after);
      return [];
    };
    const clock = this.#clock.state();
    return { update, updates: [update], clock, version: this.#version, apply };
  }

  /** Whether a document holds so many remains that it takes half as much memory again as a fresh copy. */
  compactionDue(id: string, nowMs: number): boolean {
    const forgotten = (): ReadonlySet<number> => this.#forgotten([this.#document(SHARED)], nowMs);
    return isEpochDue(this.#document(id), forgotten, Math.abs(nowMs - this.#forgotMs));
  }

  #forgotten(shared: readonly LogDocument[], nowMs: number): ReadonlySet<number> {
    return forgottenIn(shared, [...this.#documents.values()], nowMs, this.#writer);
  }

  /** Who has ever written in a document. */
  writersOf(id: string): readonly number[] {
    const document = this.#documents.get(id);
    return document === undefined ? [] : writersIn(document);
  }

  get(id: string, key: string): string | undefined {
    return textOf(this.#documents.get(id)?.winner(key));
  }

  /** The newest cell of a key, with its stamp. */
  entry(id: string, key: string): Entry | undefined {
    return this.#documents.get(id)?.winner(key);
  }

  /** Every key with its newest cell, in no order. */
  *winners(id: string): Iterable<Entry> {
    const document = this.#documents.get(id);
    for (const key of document?.keys() ?? []) {
      const entry = document?.winner(key);
      if (entry !== undefined) yield entry;
    }
  }

  documents(): readonly string[] {
    return [...this.#documents.keys()];
  }

  vector(id: string): Vector {
    const document = this.#documents.get(id);
    if (document === undefined)
      return { document: id, epoch: FIRST_EPOCH, bytes: Uint8Array.of(0) };
    return { document: id, epoch: document.epoch, bytes: document.encodedVector() };
  }

  /** What whoever sent `vector` does not know; undefined if this replica is behind an epoch. */
  diff(vector: Vector): Update | undefined {
    const document = this.#documents.get(vector.document);
    if (document === undefined) return undefined;
    const { id, epoch } = document;
    const order = compareEpochs(vector.epoch, epoch);
    if (order > 0) return undefined;
    try {
      const bytes = document.diff(order === 0 ? vector.bytes : undefined);
      return { document: id, epoch, whole: order < 0, bytes };
    } catch {
      return undefined; // the vector is no vector
    }
  }

  /**
   * How many writes of this data directory whoever sent `vector` knows, and this replica does not:
   * more than none says that the directory was set back, and needs a new writer id before it writes.
   */
  writesUnknownHere({ document: id, bytes }: Vector): number {
    try {
      const theirs = Y.decodeStateVector(bytes).get(this.writer) ?? 0;
      return Math.max(0, theirs - (this.#documents.get(id)?.known(this.writer) ?? 0));
    } catch {
      return 0; // the vector is no vector
    }
  }

  /** For each document something that is equal where the document is. */
  digests(): ReadonlyMap<string, string> {
    return new Map([...this.#documents].map(([id, document]) => [id, document.digest()]));
  }

  /** Of one document; undefined where nothing is known of it. */
  digest(id: string): string | undefined {
    return this.#documents.get(id)?.digest();
  }

  whole(id: string): Update {
    const document = this.#document(id);
    return { document: id, epoch: document.epoch, whole: true, bytes: document.diff() };
  }

  /** All there is, for open(). */
  save(): Saved {
    return {
      clock: this.#clock.state(),
      updates: this.documents().map((id) => this.whole(id)),
    };
  }

  /** To be stored with each update. */
  clockState(): string {
    return this.#clock.state();
  }

  /** A node that is gone for good takes its document along. */
  forgetDocument(id: string): readonly Changed[] {
    const document = this.#documents.get(id);
    if (document === undefined || id === SHARED || id === this.own) return [];
    const changed = [...this.winners(id)].map((entry): Changed => ({
      document: id,
      key: entry.key,
      before: textOf(entry),
      after: undefined,
    }));
    this.#version += 1;
    this.#documents.delete(id);
    this.#tell(changed);
    return changed;
  }

  /** Tells of changes to keys that begin with `prefix`, once for each call that made any. */
  subscribe(prefix: string, listener: Listener): () => void {
    this.#listeners.set(listener, prefix);
    return () => this.#listeners.delete(listener);
  }

  stats(id: string): { entries: number; items: number; writers: number; pendingBytes: number } {
    const { entryCount, itemCount, writerCount, pendingBytes } = this.#document(id);
    return { entries: entryCount, items: itemCount, writers: writerCount, pendingBytes };
  }

  /** Whether something of a document came before that on which it builds. */
  waits(id: string): boolean {
    return (this.#documents.get(id)?.pendingBytes ?? 0) > 0;
  }

  #tell(changed: readonly Changed[]): void {
    for (const [listener, prefix] of this.#listeners) {
      const mine = changed.filter(({ key }) => key.startsWith(prefix));
      if (mine.length > 0) listener(mine);
    }
  }

  #restore(update: Update): void {
    const { document: id, epoch, bytes, whole } = update;
    const there = this.#documents.get(id);
    const order = compareEpochs(epoch, there?.epoch ?? FIRST_EPOCH);
    if (order < 0) return;
    if (order > 0) {
      if (!whole) throw new UpdateError(`"${id}" has updates of an epoch that was not stored`);
      this.#put(LogDocument.from(id, epoch, bytes, this.#limits));
      return;
    }
    const into = there ?? this.#create(id);
    into.restore(bytes);
    this.#put(into);
  }

  #create(id: string): LogDocument {
    if (this.#documents.size >= this.#limits.documentsMax)
      throw new UpdateError(`more than ${this.#limits.documentsMax} documents`);
    if (id !== SHARED && !/^node:[^\n]{1,256}$/.test(id)) throw new UpdateError('no such document');
    return new LogDocument(id, FIRST_EPOCH, this.#limits);
  }

  #put(document: LogDocument): void {
    this.#documents.set(document.id, document);
  }

  #document(id: string): LogDocument {
    const document = this.#documents.get(id);
    if (document === undefined) throw new Error(`bug: there is no document ${id}`);
    return document;
  }
}

const NOTHING: LogUpdate = { runs: [], removals: new Map() };

function textOf(entry: Entry | undefined): string | undefined {
  return entry === undefined ? undefined : valueOf(entry);
}

function isNews(document: LogDocument, { key, value, always = false }: Write): boolean {
  const entries = document.entriesOf(key);
  if (always && value !== undefined) return true;
  const [only] = entries;
  // Cells written at once become one by any write, also of what the newest says.
  return entries.length > 1 || textOf(only) !== value;
}

function changesOf(document: LogDocument, delta: Delta): readonly Changed[] {
  const changed: Changed[] = [];
  for (const [key, was] of delta.before) {
    const before = textOf(was);
    const after = textOf(document.winner(key));
    if (before !== after) changed.push({ document: document.id, key, before, after });
  }
  return changed;
}

function refusal(document: string, reason: string): Received {
  return { changed: [], notices: [{ type: 'refused', document, reason }], updates: [] };
}
