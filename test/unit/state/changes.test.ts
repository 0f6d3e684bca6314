import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type {
  AclRecord,
  BackendRecord,
  Change,
  DnsRecord,
  ServiceRecord,
  StateSnapshot,
} from '../../../src/state/records.ts';
import { change } from './generators.ts';

/** The obvious way: everything in one list, rebuilt each time. */
function naive(lists: readonly (readonly Change[])[]): StateSnapshot {
  const services = new Map<string, ServiceRecord>();
  const acls = new Map<string, AclRecord>();
  const records = new Map<string, DnsRecord>();
  let all: BackendRecord[] = [];
  const same = (
    a: { service: string; portName: string; address: string; port: number },
    b: BackendRecord,
  ): boolean =>
    a.service === b.service &&
    a.portName === b.portName &&
    a.address === b.address &&
    a.port === b.port;
  let revision = 0;
  for (const list of lists) {
    if (list.length > 0) revision += 1;
    for (const one of list) {
      if (one.kind === 'put-service') services.set(one.service.name, one.service);
      else if (one.kind === 'remove-service') {
        services.delete(one.name);
        all = all.filter((backend) => backend.service !== one.name);
      } else if (one.kind === 'put-backend') {
        all = [...all.filter((backend) => !same(one.backend, backend)), one.backend];
      } else if (one.kind === 'put-acl') acls.set(one.acl.name, one.acl);
      else if (one.kind === 'remove-acl') acls.delete(one.name);
      else if (one.kind === 'put-record')
        records.set(`${one.record.name} ${one.record.type}`, one.record);
      else if (one.kind === 'remove-record') records.delete(`${one.name} ${one.type}`);
      else all = all.filter((backend) => !same(one, backend));
    }
  }
  const key = (b: BackendRecord): string =>
    `${b.portName}\0${b.address}\0${String(b.port).padStart(5, '0')}`;
  all.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  const backends = new Map<string, BackendRecord[]>();
  for (const backend of all)
    backends.set(backend.service, [...(backends.get(backend.service) ?? []), backend]);
  return { revision, services, backends, acls, records };
}

/** With plain Maps, which deepEqual() and structuredClone() know. */
function plain({ revision, services, backends, acls, records }: StateSnapshot): StateSnapshot {
  return {
    revision,
    services: new Map(services),
    backends: new Map(backends),
    acls: new Map(acls),
    records: new Map(records),
  };
}

test('applyChanges() makes what a naive rebuild makes', () => {
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 8 }), (lists) => {
      let snapshot = EMPTY_SNAPSHOT;
      for (const list of lists) snapshot = applyChanges(snapshot, list).snapshot;
      assert.deepEqual(plain(snapshot), naive(lists));
    }),
  );
});

test('applyChanges() leaves the old snapshot alone and touches what differs, sharing the rest', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 12 }),
      fc.array(change, { maxLength: 6 }),
      (before, after) => {
        const old = applyChanges(EMPTY_SNAPSHOT, before).snapshot;
        const copy = structuredClone(plain(old));
        const { snapshot, touched } = applyChanges(old, after);
        assert.deepEqual(plain(old), copy);
        for (const name of new Set([
          ...old.services.keys(),
          ...snapshot.services.keys(),
          ...snapshot.backends.keys(),
        ])) {
          if (touched.has(name)) continue;
          assert.equal(snapshot.services.get(name), old.services.get(name));
          assert.equal(snapshot.backends.get(name), old.backends.get(name));
        }
      },
    ),
  );
});
