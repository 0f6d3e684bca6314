/** state.db as versions before the log of updates made it: schema 1, and 2 with rules. */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import type { StateSnapshot } from '../../../src/state/records.ts';

const APPLICATION_ID = 0x7a686f70;

const TABLES = `
CREATE TABLE meta (revision INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
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
`;

const ACLS = `
CREATE TABLE acls (
  name TEXT NOT NULL PRIMARY KEY,
  rule TEXT NOT NULL,
  crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`;

export function makeOldStore(directory: string, schema: 1 | 2, snapshot: StateSnapshot): string {
  mkdirSync(directory, { mode: 0o700 });
  const file = join(directory, 'state.db');
  const db = new DatabaseSync(file);
  chmodSync(file, 0o600);
  db.exec(`PRAGMA journal_mode = WAL; BEGIN; ${TABLES} ${schema === 2 ? ACLS : ''}
    PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${schema};`);
  const { revision } = snapshot;
  db.prepare('INSERT INTO meta VALUES (?, ?)').run(revision, crc32(String(revision)));
  const putService = db.prepare('INSERT INTO services VALUES (?, ?, ?, ?)');
  for (const { name, vips, ports } of snapshot.services.values()) {
    const [vipText, portText] = [JSON.stringify(vips), JSON.stringify(ports)];
    putService.run(name, vipText, portText, crc32(`${name}\n${vipText}\n${portText}`));
  }
  const putBackend = db.prepare('INSERT INTO backends VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
  for (const backend of [...snapshot.backends.values()].flat()) {
    const { service, portName, address, port, weight, state } = backend;
    const owner = backend.owner === undefined ? null : JSON.stringify(backend.owner);
    const row = [service, portName, address, port, weight, state] as const;
    putBackend.run(...row, owner, crc32([...row, owner ?? ''].join('\n')));
  }
  if (schema === 2) {
    const putAcl = db.prepare('INSERT INTO acls VALUES (?, ?, ?)');
    for (const { name, ...rule } of snapshot.acls.values()) {
      const text = JSON.stringify(rule);
      putAcl.run(name, text, crc32(`${name}\n${text}`));
    }
  }
  db.exec('COMMIT');
  db.close();
  return file;
}
