/**
 * The durable state of one host: SQLite in one file, `state.db`.
 *
 * - WAL with synchronous=FULL: commit() returns after fsync.
 * - Held exclusively while open: a second agent on the directory is refused.
 * - Each row carries a CRC-32 of its text, since SQLite checks structure only.
 * - Created beside its place and renamed, so that an empty or headless file is
 *   always damage and never a first start.
 *
 * Never opens state.db by any other way in this process: closing any descriptor
 * of a file drops its POSIX locks (sqlite.org/howtocorrupt.html, 2.2).
 */
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { BucketMap } from '../bucket-map.ts';
import type {
  AclRecord,
  BackendOwner,
  BackendRecord,
  Change,
  ServicePort,
  ServiceRecord,
  StateSnapshot,
  StateStore,
} from '../records.ts';
import { classify, storeError } from './store-error.ts';
import { syncDirectory } from './sync-directory.ts';

/** Raised by any change of the tables; a file with a higher one is refused. 2: acls. */
const SCHEMA_VERSION = 2;
/** "zhop": tells our files from other people's (sqlite.org/fileformat.html, 1.3.16). */
const APPLICATION_ID = 0x7a686f70;
/** The log is cut back to this after a checkpoint; a burst may exceed it. */
const WAL_BYTES_KEPT = 4 * 1024 * 1024;
/** SQLite's page cache: all is held in memory as records anyway. */
const PAGE_CACHE_KIB = 1024;

const ACLS_TABLE = `
CREATE TABLE acls (
  name TEXT NOT NULL PRIMARY KEY,
  rule TEXT NOT NULL,
  crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`;

const SCHEMA = `
CREATE TABLE meta (revision INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES (0, ${crc32('0')});
CREATE TABLE services (
  name TEXT NOT NULL PRIMARY KEY,
  vips TEXT NOT NULL,
  ports TEXT NOT NULL,
  crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE backends (
  service TEXT NOT NULL,
  port_name TEXT NOT NULL,
  address TEXT NOT NULL,
  port INTEGER NOT NULL,
  weight INTEGER NOT NULL,
  state TEXT NOT NULL,
  owner TEXT,
  crc INTEGER NOT NULL,
  PRIMARY KEY (service, port_name, address, port)
) STRICT, WITHOUT ROWID;
${ACLS_TABLE}
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** What brings a file of that version to the next one. */
const MIGRATIONS: ReadonlyMap<number, string> = new Map([[1, ACLS_TABLE]]);

type ServiceRow = [name: string, vips: string, ports: string, crc: number];
type BackendRow = [
  service: string,
  portName: string,
  address: string,
  port: number,
  weight: number,
  state: string,
  owner: string | null,
  crc: number,
];

function serviceRow(service: ServiceRecord): ServiceRow {
  const vips = JSON.stringify(service.vips);
  const ports = JSON.stringify(service.ports);
  return [service.name, vips, ports, crc32(`${service.name}\n${vips}\n${ports}`)];
}

function backendCrc(row: BackendRow): number {
  return crc32(`${row[0]}\n${row[1]}\n${row[2]}\n${row[3]}\n${row[4]}\n${row[5]}\n${row[6] ?? ''}`);
}

function backendRow(backend: BackendRecord): BackendRow {
  const owner = backend.owner === undefined ? null : JSON.stringify(backend.owner);
  const { service, portName, address, port, weight, state } = backend;
  const row: BackendRow = [service, portName, address, port, weight, state, owner, 0];
  row[7] = backendCrc(row);
  return row;
}

/** Everything but its name, as JSON. */
type AclRow = [name: string, rule: string, crc: number];

function aclRow({ name, ...rule }: AclRecord): AclRow {
  const text = JSON.stringify(rule);
  return [name, text, crc32(`${name}\n${text}`)];
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

function createFile(file: string): void {
  const fresh = `${file}.new`;
  rmSync(fresh, { force: true });
  const db = new DatabaseSync(fresh);
  try {
    chmodSync(fresh, 0o600);
    db.exec(`PRAGMA synchronous = FULL; BEGIN; ${SCHEMA} COMMIT;`);
  } finally {
    db.close();
  }
  renameSync(fresh, file);
  syncDirectory(dirname(file));
}

/** Makes the directory (not its parents) and the file where there is none yet. */
function prepare(directory: string, file: string): void {
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
    createFile(file);
  } else if (stat.size === 0) {
    throw storeError('damaged', file, 'the file is empty');
  }
}

function firstValue(db: DatabaseSync, sql: string): unknown {
  return Object.values(db.prepare(sql).get() ?? {})[0];
}

function open(file: string): DatabaseSync {
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
    migrate(db, version);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** All steps or none: a file is never between two versions. */
function migrate(db: DatabaseSync, from: number): void {
  if (from === SCHEMA_VERSION) return;
  const steps = Array.from({ length: SCHEMA_VERSION - from }, (_, i) => MIGRATIONS.get(from + i));
  db.exec(`BEGIN IMMEDIATE; ${steps.join('')} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`);
}

function loadRevision(db: DatabaseSync, file: string): number {
  const row = db.prepare('SELECT revision, crc FROM meta').get();
  const revision = Number(row?.['revision']);
  if (row?.['crc'] !== crc32(String(revision))) throw storeError('damaged', file, 'its revision');
  return revision;
}

function loadServices(db: DatabaseSync, file: string): BucketMap<ServiceRecord> {
  const services = new BucketMap<ServiceRecord>().edit();
  const statement = db.prepare('SELECT name, vips, ports, crc FROM services ORDER BY name');
  statement.setReturnArrays(true);
  for (const row of statement.iterate() as Iterable<unknown> as Iterable<ServiceRow>) {
    const [name, vips, ports, crc] = row;
    if (crc !== crc32(`${name}\n${vips}\n${ports}`))
      throw storeError('damaged', file, `the record of service "${name}"`);
    services.set(name, {
      name,
      vips: JSON.parse(vips) as readonly string[],
      ports: JSON.parse(ports) as readonly ServicePort[],
    });
  }
  return services.build();
}

function loadBackends(
  db: DatabaseSync,
  file: string,
  services: ReadonlyMap<string, ServiceRecord>,
): BucketMap<readonly BackendRecord[]> {
  const backends = new BucketMap<readonly BackendRecord[]>().edit();
  const statement = db.prepare(
    // The order of the primary key is the order of StateSnapshot.backends.
    'SELECT service, port_name, address, port, weight, state, owner, crc FROM backends ORDER BY service, port_name, address, port',
  );
  statement.setReturnArrays(true);
  let list: BackendRecord[] = [];
  let service: ServiceRecord | undefined;
  for (const row of statement.iterate() as Iterable<unknown> as Iterable<BackendRow>) {
    const name = row[0];
    if (row[7] !== backendCrc(row) || (row[5] !== 'active' && row[5] !== 'draining')) {
      throw storeError(
        'damaged',
        file,
        `the record of backend ${row[2]} port ${row[3]} of "${name}"`,
      );
    }
    if (service?.name !== name) {
      service = services.get(name);
      if (service === undefined)
        throw storeError('damaged', file, `backends of a service "${name}" that is not there`);
      list = [];
      backends.set(service.name, list);
    }
    // One string for the name and the port's name of all backends of a service: 100,000 are held in memory.
    const portName = service.ports.find((port) => port.name === row[1])?.name ?? row[1];
    const record = {
      service: service.name,
      portName,
      address: row[2],
      port: row[3],
      weight: row[4],
      state: row[5],
    } as const;
    list.push(row[6] === null ? record : { ...record, owner: JSON.parse(row[6]) as BackendOwner });
  }
  return backends.build();
}

function loadAcls(db: DatabaseSync, file: string): BucketMap<AclRecord> {
  const acls = new BucketMap<AclRecord>().edit();
  const statement = db.prepare('SELECT name, rule, crc FROM acls ORDER BY name');
  statement.setReturnArrays(true);
  for (const row of statement.iterate() as Iterable<unknown> as Iterable<AclRow>) {
    const [name, rule, crc] = row;
    if (crc !== crc32(`${name}\n${rule}`))
      throw storeError('damaged', file, `the record of rule "${name}"`);
    acls.set(name, { name, ...(JSON.parse(rule) as Omit<AclRecord, 'name'>) });
  }
  return acls.build();
}

interface Statements {
  readonly putService: StatementSync;
  readonly removeService: StatementSync;
  readonly removeBackends: StatementSync;
  readonly putBackend: StatementSync;
  readonly removeBackend: StatementSync;
  readonly putAcl: StatementSync;
  readonly removeAcl: StatementSync;
  readonly revision: StatementSync;
}

function prepareStatements(db: DatabaseSync): Statements {
  return {
    putService: db.prepare('INSERT OR REPLACE INTO services VALUES (?, ?, ?, ?)'),
    removeService: db.prepare('DELETE FROM services WHERE name = ?'),
    removeBackends: db.prepare('DELETE FROM backends WHERE service = ?'),
    putBackend: db.prepare('INSERT OR REPLACE INTO backends VALUES (?, ?, ?, ?, ?, ?, ?, ?)'),
    removeBackend: db.prepare(
      'DELETE FROM backends WHERE service = ? AND port_name = ? AND address = ? AND port = ?',
    ),
    putAcl: db.prepare('INSERT OR REPLACE INTO acls VALUES (?, ?, ?)'),
    removeAcl: db.prepare('DELETE FROM acls WHERE name = ?'),
    revision: db.prepare('UPDATE meta SET revision = ?, crc = ?'),
  };
}

function write(statements: Statements, change: Change): void {
  switch (change.kind) {
    case 'put-service':
      statements.putService.run(...serviceRow(change.service));
      return;
    case 'remove-service':
      statements.removeBackends.run(change.name);
      statements.removeService.run(change.name);
      return;
    case 'put-backend':
      statements.putBackend.run(...backendRow(change.backend));
      return;
    case 'remove-backend':
      statements.removeBackend.run(change.service, change.portName, change.address, change.port);
      return;
    case 'put-acl':
      statements.putAcl.run(...aclRow(change.acl));
      return;
    case 'remove-acl':
      statements.removeAcl.run(change.name);
      return;
  }
}

class SqliteStore implements StateStore {
  readonly #file: string;
  readonly #db: DatabaseSync;
  readonly #statements: Statements;
  #snapshot: StateSnapshot;

  constructor(file: string, db: DatabaseSync) {
    this.#file = file;
    this.#db = db;
    const services = loadServices(db, file);
    const backends = loadBackends(db, file, services);
    const acls = loadAcls(db, file);
    this.#snapshot = { revision: loadRevision(db, file), services, backends, acls };
    this.#statements = prepareStatements(db);
  }

  snapshot(): StateSnapshot {
    return this.#snapshot;
  }

  commit(changes: readonly Change[], next: StateSnapshot): void {
    if (changes.length === 0) return;
    const { revision } = this.#snapshot;
    if (next.revision !== revision + 1) {
      throw new Error(`bug: revision ${next.revision} was not made from ${revision}`);
    }
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      for (const change of changes) write(this.#statements, change);
      this.#statements.revision.run(next.revision, crc32(String(next.revision)));
      this.#db.exec('COMMIT');
    } catch (error) {
      // SQLite rolls back by itself after some errors (full disk among them).
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw classify(error, this.#file);
    }
    this.#snapshot = next;
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

/** Opens the store in `directory`, or throws StoreError with what to do. */
export function openStore(directory: string): StateStore {
  const file = join(directory, 'state.db');
  let db: DatabaseSync | undefined;
  try {
    prepare(directory, file);
    db = open(file);
    return new SqliteStore(file, db);
  } catch (error) {
    db?.close();
    const problem = classify(error, file);
    if (problem.reason === 'in-use') throw storeError('in-use', file, lockHolder(file), error);
    throw problem.reason === 'missing' && problem.cause !== undefined
      ? storeError('missing', directory, 'nor can it be made', error)
      : problem;
  }
}
