/**
 * The durable state of one host: a log of updates of its documents, SQLite in one file, `state.db`.
 *
 * - WAL with synchronous=FULL: write() returns after fsync, but for what other hosts have too.
 * - Held exclusively while open: a second agent on the directory is refused.
 * - SQLite checks structure only: each row carries a CRC-32, and one row those of all together, so
 *   that a changed row and a lost one are noticed.
 * - Created beside its place and renamed, so that an empty or headless file is always damage and
 *   never a first start.
 *
 * Never opens state.db by any other way in this process: closing any descriptor
 * of a file drops its POSIX locks (sqlite.org/howtocorrupt.html, 2.2).
 */
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import type { Update } from '../replica/replica.ts';
import { migrate, type Beginning } from './migrate.ts';
import { classify, storeError, type StoreError } from './store-error.ts';
import { syncDirectory } from './sync-directory.ts';

/** Raised by any change of the tables; a file with a higher one is refused. 2: acls, 3: the log. */
const SCHEMA_VERSION = 3;
/** "zhop": tells our files from other people's (sqlite.org/fileformat.html, 1.3.16). */
const APPLICATION_ID = 0x7a686f70;
/** SQLite's log is cut back to this after a checkpoint; a burst may exceed it. */
const WAL_BYTES_KEPT = 4 * 1024 * 1024;
/** SQLite's page cache: all is held in memory anyway. */
const PAGE_CACHE_KIB = 1024;

/** What a document may have after its whole copy: updates, and their bytes beside those of the copy. Guesses. */
const UPDATES_MAX = 1000;
const BYTES_FACTOR = 4;
const BYTES_TOLERATED = 64 * 1024;
/** Of all documents together: what opening takes has a limit. A guess, 0.3 s. */
const ALL_UPDATES_MAX = 10_000;

const TABLES = `
CREATE TABLE meta (
  revision INTEGER NOT NULL,
  clock TEXT NOT NULL,
  node TEXT NOT NULL,
  writer INTEGER NOT NULL,
  row_count INTEGER NOT NULL,
  row_crcs INTEGER NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE updates (
  seq INTEGER PRIMARY KEY,
  document TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  proposer INTEGER NOT NULL,
  whole INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** Of which file this is the content. Beside the tables of the schema: older versions leave it alone. */
const PLACE = `
CREATE TABLE IF NOT EXISTS place (birth TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
DELETE FROM place;
`;

/** What there is one of. */
export interface Meta {
  readonly revision: number;
  readonly clock: string;
  readonly node: string;
  readonly writer: number;
}

export interface Step {
  readonly meta: Meta;
  /** Documents of which all that was stored goes first. */
  readonly clear?: readonly string[] | 'all';
  readonly append: readonly Update[];
  /**
   * What others have too: no fsync, the next step that has one brings it to the disk. A power cut
   * takes the last of these, never one before another (WAL: sqlite.org/pragma.html#pragma_synchronous).
   */
  readonly lazy?: boolean;
}

type MetaRow = [...meta: [number, string, string, number], rows: number, sum: number, crc: number];
type UpdateRow = [
  seq: number,
  document: string,
  epoch: number,
  proposer: number,
  whole: number,
  bytes: Uint8Array,
  crc: number,
];

/** What the store holds. */
export interface StoreSize {
  readonly documents: number;
  readonly updates: number;
  readonly bytes: number;
}

/** All rows of one document, or of all. */
interface Extent {
  readonly rows: number;
  /** Their CRCs, with exclusive or. */
  readonly sum: number;
  readonly wholeBytes: number;
  readonly logBytes: number;
}

const NO_ROWS: Extent = { rows: 0, sum: 0, wholeBytes: 0, logBytes: 0 };

function metaRow({ revision, clock, node, writer }: Meta, { rows, sum }: Extent): MetaRow {
  const crc = crc32(`${revision}\n${clock}\n${node}\n${writer}\n${rows}\n${sum}`);
  return [revision, clock, node, writer, rows, sum, crc];
}

function updateRow(seq: number, { document, epoch, whole, bytes }: Update): UpdateRow {
  const row: UpdateRow = [seq, document, epoch.number, epoch.proposer, whole ? 1 : 0, bytes, 0];
  row[6] = crcOf(row);
  return row;
}

function crcOf([seq, document, epoch, proposer, whole, bytes]: UpdateRow): number {
  return crc32(bytes, crc32(`${seq}\n${document}\n${epoch}\n${proposer}\n${whole}\n`));
}

/** With one row more. */
function grown(extent: Extent, [, , , , whole, bytes, crc]: UpdateRow): Extent {
  const { rows, sum, wholeBytes, logBytes } = extent;
  return {
    rows: rows + 1,
    sum: (sum ^ crc) >>> 0,
    wholeBytes: whole === 1 ? wholeBytes + bytes.length : wholeBytes,
    logBytes: whole === 1 ? logBytes : logBytes + bytes.length,
  };
}

/** The process that holds a POSIX lock on `file`, from /proc/locks (proc(5)). */
function lockHolder(file: string): string | undefined {
  try {
    const { dev, ino } = statSync(file, { bigint: true });
    const hex = (value: bigint): string => value.toString(16).padStart(2, '0');
    // The kernel prints MAJOR:MINOR:INODE; dev_t as gnu_dev_major() and gnu_dev_minor() cut it.
    const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
    const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
    const id = ` ${hex(major)}:${hex(minor)}:${ino} `;
    const line = readFileSync('/proc/locks', 'latin1')
      .split('\n')
      .find((entry) => entry.includes('POSIX') && entry.includes(id));
    const pid = line?.trim().split(/ +/)[4];
    return pid === undefined ? undefined : `process ${pid}`;
  } catch {
    return undefined;
  }
}

/**
 * When the file was made, to the nanosecond: a copy has another time, and nothing else changes it.
 * Not its inode or device: some file systems number them anew at each mount. undefined: not known.
 */
function birthOf(file: string): string | undefined {
  const { birthtimeNs, ctimeNs } = statSync(file, { bigint: true });
  // Where statx(2) is not to be had, libuv gives the time of the last change instead.
  return birthtimeNs > 0n && birthtimeNs !== ctimeNs ? String(birthtimeNs) : undefined;
}

/** As it was when the file was last written; undefined: not known, or damaged, which does no harm. */
function birthIn(db: DatabaseSync): string | undefined {
  if (firstValue(db, "SELECT count(*) FROM sqlite_master WHERE name = 'place'") !== 1)
    return undefined;
  const { birth, crc } = db.prepare('SELECT birth, crc FROM place').get() ?? {};
  return typeof birth === 'string' && crc === crc32(birth) ? birth : undefined;
}

function createFile(file: string, { node, writer }: Beginning): void {
  const fresh = `${file}.new`;
  rmSync(fresh, { force: true });
  const db = new DatabaseSync(fresh);
  try {
    chmodSync(fresh, 0o600);
    db.exec(`PRAGMA synchronous = FULL; BEGIN; ${TABLES}
      PRAGMA application_id = ${APPLICATION_ID};`);
    const meta = metaRow({ revision: 0, clock: '', node, writer }, NO_ROWS);
    db.prepare('INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, ?)').run(...meta);
    db.exec('COMMIT');
  } finally {
    db.close();
  }
  renameSync(fresh, file);
  syncDirectory(dirname(file));
}

/** Makes the directory (not its parents) and the file where there is none yet. */
function prepare(directory: string, file: string, beginning: Beginning): void {
  const made = statSync(directory, { throwIfNoEntry: false });
  if (made === undefined) mkdirSync(directory, { mode: 0o700 });
  else if (!made.isDirectory())
    throw storeError('missing', directory, 'it is a file, not a directory');
  // SQLite calls a read-only file system an I/O error.
  accessSync(directory, constants.W_OK);
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) {
    if (existsSync(`${file}-wal`))
      throw storeError('damaged', file, 'the file is gone, its log state.db-wal is there');
    createFile(file, beginning);
  } else if (stat.size === 0) {
    throw storeError('damaged', file, 'the file is empty');
  }
}

/**
 * A process that was killed while it waited for the disk leaves a step that is there and not durable:
 * before anybody is told of what is in it, it has to be.
 */
function syncLog(file: string): void {
  const log = `${file}-wal`;
  if (!existsSync(log)) return;
  const fd = openSync(log, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function firstValue(db: DatabaseSync, sql: string): unknown {
  return Object.values(db.prepare(sql).get() ?? {})[0];
}

function open(file: string, beginning: Beginning): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: 0 });
  try {
    // Exclusive before the first access: SQLite then keeps the WAL index on the heap, not in a file.
    db.exec('PRAGMA locking_mode = EXCLUSIVE');
    // Before the first write: another program's database stays as it is.
    if (firstValue(db, 'PRAGMA application_id') !== APPLICATION_ID) {
      throw storeError('damaged', file, 'it is a database of another program');
    }
    const version = Number(firstValue(db, 'PRAGMA user_version'));
    if (version > SCHEMA_VERSION) {
      throw storeError('newer', file, `its schema is ${version}, this one knows ${SCHEMA_VERSION}`);
    }
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
      PRAGMA cache_size = -${PAGE_CACHE_KIB}; PRAGMA journal_size_limit = ${WAL_BYTES_KEPT};
      BEGIN IMMEDIATE; COMMIT;`);
    const verdict = firstValue(db, 'PRAGMA quick_check(1)');
    if (verdict !== 'ok') throw storeError('damaged', file, String(verdict).replaceAll('\n', '; '));
    if (version < SCHEMA_VERSION) bringUpToDate(db, version, file, beginning);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** All of it or nothing: a file is never between two versions. */
function bringUpToDate(db: DatabaseSync, from: number, file: string, beginning: Beginning): void {
  db.exec('BEGIN IMMEDIATE');
  const { meta, updates } = migrate(db, from, file, beginning);
  db.exec(TABLES);
  const insert = db.prepare('INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?)');
  let all = NO_ROWS;
  for (const [index, update] of updates.entries()) {
    const row = updateRow(index + 1, update);
    insert.run(...row);
    all = grown(all, row);
  }
  db.prepare('INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, ?)').run(...metaRow(meta, all));
  db.exec('COMMIT');
}

export class Store {
  readonly file: string;
  /** The content was last written to another file: a restored backup, or moved to another disk. */
  readonly isCopy: boolean;
  readonly #db: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #setMeta: StatementSync;
  readonly #clear: StatementSync;
  #meta: Meta;
  #all: Extent = NO_ROWS;
  #extents: ReadonlyMap<string, Extent> = new Map();
  #seq = 0;
  /** As open() sets it. */
  #syncs = true;
  /** To be written with the next step. */
  #birth: string | undefined;

  private constructor(file: string, db: DatabaseSync) {
    this.file = file;
    this.#db = db;
    const [birth, before] = [birthOf(file), birthIn(db)];
    this.isCopy = birth !== undefined && before !== undefined && birth !== before;
    this.#birth = birth === before ? undefined : birth;
    this.#insert = db.prepare('INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?)');
    this.#setMeta = db.prepare(
      'UPDATE meta SET revision = ?, clock = ?, node = ?, writer = ?, row_count = ?, row_crcs = ?, crc = ?',
    );
    this.#clear = db.prepare('DELETE FROM updates WHERE document = ?');
    this.#meta = { revision: 0, clock: '', node: '', writer: 0 };
  }

  /** Opens the store in `directory`, with all that is in it, or throws StoreError with what to do. */
  static open(
    directory: string,
    beginning: Beginning,
  ): { readonly store: Store; readonly updates: readonly Update[] } {
    const file = join(directory, 'state.db');
    let db: DatabaseSync | undefined;
    try {
      prepare(directory, file, beginning);
      syncLog(file);
      db = open(file, beginning);
      const store = new Store(file, db);
      return { store, updates: store.#load() };
    } catch (error) {
      db?.close();
      const problem = isSqlError(error) ? notOurs(file, error) : classify(error, file);
      if (problem.reason === 'in-use') throw storeError('in-use', file, lockHolder(file), error);
      throw problem.reason === 'missing' && problem.cause !== undefined
        ? storeError('missing', directory, 'nor can it be made', error)
        : problem;
    }
  }

  get meta(): Meta {
    return this.#meta;
  }

  #load(): readonly Update[] {
    const updates: Update[] = [];
    const extents = new Map<string, Extent>();
    const rows = this.#db.prepare(
      'SELECT seq, document, epoch, proposer, whole, bytes, crc FROM updates ORDER BY seq',
    );
    rows.setReturnArrays(true);
    for (const row of rows.iterate() as Iterable<unknown> as Iterable<UpdateRow>) {
      const [seq, document, number, proposer, whole, bytes, crc] = row;
      if (crc !== crcOf(row)) throw storeError('damaged', this.file, `update ${seq} of its log`);
      updates.push({ document, epoch: { number, proposer }, whole: whole === 1, bytes });
      extents.set(document, grown(extents.get(document) ?? NO_ROWS, row));
      this.#all = grown(this.#all, row);
      this.#seq = seq;
    }
    this.#extents = extents;
    this.#meta = this.#loadMeta();
    return updates;
  }

  #loadMeta(): Meta {
    const statement = this.#db.prepare(
      'SELECT revision, clock, node, writer, row_count, row_crcs, crc FROM meta',
    );
    statement.setReturnArrays(true);
    const [row, ...others] = statement.all() as unknown as MetaRow[];
    if (row === undefined || others.length > 0)
      throw storeError('damaged', this.file, 'its revision');
    const [revision, clock, node, writer, rows, sum, crc] = row;
    const meta = { revision, clock, node, writer };
    if (crc !== metaRow(meta, { ...NO_ROWS, rows, sum })[6])
      throw storeError('damaged', this.file, 'its revision');
    if (rows !== this.#all.rows || sum !== this.#all.sum)
      throw storeError('damaged', this.file, 'updates of its log are missing');
    return meta;
  }

  /** Everything of the step is durable when this returns; nothing of it when it throws StoreError. */
  write({ meta, clear = [], append, lazy = false }: Step): void {
    const extents = new Map(clear === 'all' ? [] : this.#extents);
    const cleared = clear === 'all' ? [] : clear.filter((document) => extents.delete(document));
    let all = clear === 'all' ? NO_ROWS : without(this.#all, this.#extents, cleared);
    let seq = this.#seq;
    try {
      this.#syncEach(!lazy);
      this.#db.exec('BEGIN IMMEDIATE');
      if (clear === 'all') this.#db.exec('DELETE FROM updates');
      for (const document of cleared) this.#clear.run(document);
      for (const update of append) {
        const row = updateRow(++seq, update);
        this.#insert.run(...row);
        all = grown(all, row);
        extents.set(update.document, grown(extents.get(update.document) ?? NO_ROWS, row));
      }
      this.#setMeta.run(...metaRow(meta, all));
      this.#setPlace();
      this.#db.exec('COMMIT');
    } catch (error) {
      // SQLite rolls back by itself after some errors (full disk among them).
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw classify(error, this.file);
    }
    this.#meta = meta;
    this.#extents = extents;
    this.#all = all;
    this.#seq = seq;
    this.#birth = undefined;
  }

  #setPlace(): void {
    if (this.#birth === undefined) return;
    this.#db.exec(PLACE);
    this.#db.prepare('INSERT INTO place VALUES (?, ?)').run(this.#birth, crc32(this.#birth));
  }

  #syncEach(sync: boolean): void {
    if (sync === this.#syncs) return;
    this.#db.exec(`PRAGMA synchronous = ${sync ? 'FULL' : 'NORMAL'}`);
    this.#syncs = sync;
  }

  /** Documents to be stored whole with the next step, one of `documents` among its own updates. */
  tooLong(documents: Iterable<string>): readonly string[] {
    const long = [...new Set(documents)].filter((document) => {
      const { rows, wholeBytes, logBytes } = this.#extents.get(document) ?? NO_ROWS;
      return rows > UPDATES_MAX || logBytes > BYTES_FACTOR * wholeBytes + BYTES_TOLERATED;
    });
    if (this.#all.rows <= ALL_UPDATES_MAX) return long;
    let most: readonly [string, Extent] | undefined;
    for (const entry of this.#extents)
      if (most === undefined || entry[1].rows > most[1].rows) most = entry;
    return most === undefined || long.includes(most[0]) ? long : [...long, most[0]];
  }

  /** Of the log, without what SQLite adds. */
  get size(): StoreSize {
    let bytes = 0;
    for (const { wholeBytes, logBytes } of this.#extents.values()) bytes += wholeBytes + logBytes;
    return { documents: this.#extents.size, updates: this.#all.rows, bytes };
  }

  has(document: string): boolean {
    return this.#extents.has(document);
  }

  get isOpen(): boolean {
    return this.#db.isOpen;
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

/** A table or column is not there (sqlite.org/rescode.html, SQLITE_ERROR). */
function isSqlError(error: unknown): error is Error {
  return error instanceof Error && (error as { errcode?: unknown }).errcode === 1;
}

function notOurs(file: string, error: Error): StoreError {
  return storeError('damaged', file, error.message, error);
}

function without(
  all: Extent,
  extents: ReadonlyMap<string, Extent>,
  documents: readonly string[],
): Extent {
  let { rows, sum } = all;
  for (const document of documents) {
    const gone = extents.get(document) ?? NO_ROWS;
    rows -= gone.rows;
    sum = (sum ^ gone.sum) >>> 0;
  }
  return { ...NO_ROWS, rows, sum };
}
