/**
 * All that replicas hold as one snapshot, and the changes between two snapshots: for a start, where
 * 100,000 backends are not worth a Change each, and for a replica that takes another's place.
 *
 * Makes what StateView.follow() would make step by step.
 */
import { BucketMap } from '../bucket-map.ts';
import { compareBackends } from '../changes.ts';
import { removalOf } from '../draft.ts';
import type { BackendRecord, Change, ServiceRecord, StateSnapshot } from '../records.ts';
import { backendKeyOf } from './schema.ts';

export interface Loaded {
  readonly backends: StateSnapshot['backends'];
  /** Without their service, or its port. */
  readonly unseen: Map<string, Map<string, BackendRecord>>;
}

export function loadBackends(
  services: ReadonlyMap<string, ServiceRecord>,
  claims: ReadonlyMap<string, ReadonlyMap<string, { readonly backend: BackendRecord }>>,
): Loaded {
  const backends = new BucketMap<readonly BackendRecord[]>().edit();
  const unseen = new Map<string, Map<string, BackendRecord>>();
  for (const [name, all] of claims) {
    const service = services.get(name);
    const ports = new Map(service?.ports.map((port) => [port.name, port.name]));
    const list: BackendRecord[] = [];
    const others = new Map<string, BackendRecord>();
    for (const [key, { backend }] of all) {
      const portName = ports.get(backend.portName);
      if (service === undefined || portName === undefined) others.set(key, backend);
      else list.push(withNamesOf(service, portName, backend));
    }
    // A copy has no room for more.
    if (service !== undefined && list.length > 0)
      backends.set(service.name, list.toSorted(compareBackends));
    if (others.size > 0) unseen.set(name, others);
  }
  return { backends: backends.build(), unseen };
}

/** With the strings of the service, shared by all its backends. */
export function withNamesOf(
  service: ServiceRecord,
  portName: string,
  backend: BackendRecord,
): BackendRecord {
  const { address, port, weight, state, owner, node } = backend;
  const name = service.name;
  // Of most, and without the room that a spread one would have for more: there are 100,000.
  if (owner === undefined && node === undefined)
    return { service: name, portName, address, port, weight, state };
  return { ...backend, service: name, portName };
}

/** What makes `after` of `before`. */
export function differences(before: StateSnapshot, after: StateSnapshot): readonly Change[] {
  const changes: Change[] = [];
  for (const name of before.services.keys())
    if (!after.services.has(name)) changes.push({ kind: 'remove-service', name });
  for (const [name, service] of after.services) {
    if (!same(before.services.get(name), service)) changes.push({ kind: 'put-service', service });
    const list = after.backends.get(name) ?? [];
    const old = new Map(before.backends.get(name)?.map((one) => [backendKeyOf(one), one]));
    for (const backend of list) {
      const key = backendKeyOf(backend);
      if (!same(old.get(key), backend)) changes.push({ kind: 'put-backend', backend });
      old.delete(key);
    }
    for (const backend of old.values()) changes.push(removalOf(backend));
  }
  for (const name of before.acls.keys())
    if (!after.acls.has(name)) changes.push({ kind: 'remove-acl', name });
  for (const acl of after.acls.values())
    if (!same(before.acls.get(acl.name), acl)) changes.push({ kind: 'put-acl', acl });
  for (const [key, { name, type }] of before.records)
    if (!after.records.has(key)) changes.push({ kind: 'remove-record', name, type });
  for (const [key, record] of after.records)
    if (!same(before.records.get(key), record)) changes.push({ kind: 'put-record', record });
  return changes;
}

/** Records are plain, and made here with their fields in one order. */
export function same(a: unknown, b: unknown): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}
