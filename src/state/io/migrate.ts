/**
 * What files of older versions hold, as documents: schema 1 and 2 had a table of rows for each kind
 * of record. Records become updates of the shared document, and backends that live with a process
 * one of the host's own.
 *
 * Reads the old tables and drops them, within the caller's transaction. Never guesses: a row whose
 * CRC is not that of its text is damage.
 */
import type { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import type { AclRecord, BackendOwner, ServicePort } from '../records.ts';
import { transactAll } from '../replica/rebase.ts';
import { Replica, type Update, type Write } from '../replica/replica.ts';
import {
  aclKey,
  backendKeyOf,
  serviceKey,
  writeAcl,
  writeBackend,
  writeService,
} from '../replica/schema.ts';
import type { Meta } from './store.ts';
import { storeError } from './store-error.ts';

/** What a new file begins with: drawn and read by whoever opens it. */
export interface Beginning {
  readonly node: string;
  readonly writer: number;
  readonly nowMs: number;
}

/** The version that rules came with. */
const WITH_ACLS = 2;

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
/** Everything but its name, as JSON. */
type AclRow = [name: string, rule: string, crc: number];

interface Old {
  readonly db: DatabaseSync;
  readonly file: string;
}

function rowsOf<Row>({ db }: Old, sql: string): Iterable<Row> {
  const statement = db.prepare(sql);
  statement.setReturnArrays(true);
  return statement.iterate() as Iterable<unknown> as Iterable<Row>;
}

function revisionOf({ db, file }: Old): number {
  const row = db.prepare('SELECT revision, crc FROM meta').get();
  const revision = Number(row?.['revision']);
  if (row?.['crc'] !== crc32(String(revision))) throw storeError('damaged', file, 'its revision');
  return revision;
}

function* serviceWrites(old: Old): Iterable<Write> {
  for (const row of rowsOf<ServiceRow>(old, 'SELECT name, vips, ports, crc FROM services')) {
    const [name, vips, ports, crc] = row;
    if (crc !== crc32(`${name}\n${vips}\n${ports}`))
      throw storeError('damaged', old.file, `the record of service "${name}"`);
    const service = {
      name,
      vips: JSON.parse(vips) as readonly string[],
      ports: JSON.parse(ports) as readonly ServicePort[],
    };
    const value = writeService(service, undefined);
    yield { document: 'shared', key: serviceKey(name), value };
  }
}

function* backendWrites(old: Old): Iterable<Write> {
  const rows = rowsOf<BackendRow>(
    old,
    'SELECT service, port_name, address, port, weight, state, owner, crc FROM backends',
  );
  for (const row of rows) {
    const [service, portName, address, port, weight, state, ownerText, crc] = row;
    const text = `${service}\n${portName}\n${address}\n${port}\n${weight}\n${state}\n${ownerText ?? ''}`;
    if (crc !== crc32(text) || (state !== 'active' && state !== 'draining')) {
      const what = `the record of backend ${address} port ${port} of "${service}"`;
      throw storeError('damaged', old.file, what);
    }
    const owner = ownerText === null ? {} : { owner: JSON.parse(ownerText) as BackendOwner };
    const backend = { service, portName, address, port, weight, state, ...owner } as const;
    const document = ownerText === null ? 'shared' : 'own';
    yield { document, key: backendKeyOf(backend), value: writeBackend(backend, undefined) };
  }
}

function* aclWrites(old: Old): Iterable<Write> {
  for (const [name, rule, crc] of rowsOf<AclRow>(old, 'SELECT name, rule, crc FROM acls')) {
    if (crc !== crc32(`${name}\n${rule}`))
      throw storeError('damaged', old.file, `the record of rule "${name}"`);
    const acl: AclRecord = { name, ...(JSON.parse(rule) as Omit<AclRecord, 'name'>) };
    yield { document: 'shared', key: aclKey(name), value: writeAcl(acl, undefined) };
  }
}

export function migrate(
  db: DatabaseSync,
  from: number,
  file: string,
  { node, writer, nowMs }: Beginning,
): { readonly meta: Meta; readonly updates: readonly Update[] } {
  const old = { db, file };
  const revision = revisionOf(old);
  const acls = from >= WITH_ACLS ? aclWrites(old) : [];
  const writes = [...serviceWrites(old), ...backendWrites(old), ...acls];
  const replica = Replica.open({ node, writer });
  transactAll(replica, writes, nowMs);
  db.exec(`DROP TABLE meta; DROP TABLE services; DROP TABLE backends;
    ${from >= WITH_ACLS ? 'DROP TABLE acls;' : ''}`);
  const meta = { revision, clock: replica.clockState(), node, writer };
  return { meta, updates: replica.save().updates };
}
