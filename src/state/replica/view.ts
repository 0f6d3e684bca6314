/**
 * Documents as the StateSnapshot that the rest of the agent reads, and Changes as writes.
 *
 * Follows what the replica says has changed; the cost of a change depends on the backends of its
 * service, not on how many records there are. A backend is seen only while its service is there and
 * has its port: what is written concurrently with a removal waits unseen until it makes sense.
 */
import { applyChanges, compareBackends, EMPTY_SNAPSHOT, type Applied } from '../changes.ts';
import { removalOf } from '../draft.ts';
import type { BackendRecord, Change, ServiceRecord, StateSnapshot } from '../records.ts';
import { valueOf } from './cell.ts';
import { compareStamps } from './hlc.ts';
import type { Entry } from './log-document.ts';
import { documentOf, SHARED, type Changed, type Replica, type Write } from './replica.ts';
import {
  aclKey,
  backendKeyOf,
  readAcl,
  readBackend,
  readService,
  serviceKey,
  subjectOf,
  writeAcl,
  writeBackend,
  writeService,
  type ReplicatedBackend,
} from './schema.ts';

export interface Viewed extends Applied {
  readonly changes: readonly Change[];
}

interface Claim {
  readonly entry: Entry;
  readonly backend: ReplicatedBackend;
}

export class StateView {
  readonly #replica: Replica;
  #snapshot: StateSnapshot = EMPTY_SNAPSHOT;
  /** Backends that do not count now, by service and key: without their service, or its port. */
  readonly #unseen = new Map<string, Map<string, ReplicatedBackend>>();
  /** Entries that this version cannot read: `DOCUMENT KEY`. */
  readonly #unreadable = new Set<string>();

  constructor(replica: Replica) {
    this.#replica = replica;
    const keys: string[] = [];
    const best = new Map<string, Claim>();
    for (const id of replica.documents()) {
      for (const entry of replica.winners(id)) {
        const { kind } = subjectOf(entry.key);
        if (kind === 'backend') this.#contend(best, id, entry);
        else if (id === SHARED) keys.push(entry.key);
      }
    }
    keys.push(...best.keys());
    this.#update(keys, (key) => best.get(key));
  }

  snapshot(): StateSnapshot {
    return this.#snapshot;
  }

  unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** How many backends wait for their service or port. */
  get unseenCount(): number {
    let count = 0;
    for (const backends of this.#unseen.values()) count += backends.size;
    return count;
  }

  /** Takes in what Replica returned; nothing else may have changed since the last call. */
  follow(changed: readonly Changed[]): Viewed {
    const keys = changed.filter(
      ({ document, key }) => document === SHARED || key.startsWith('backend/'),
    );
    // A document may be gone as a whole.
    for (const { document, key } of keys) this.#unreadable.delete(`${document} ${key}`);
    return this.#update(new Set(keys.map(({ key }) => key)), (key) => this.#claim(key));
  }

  /** Two nodes, or a node and an operator, may have registered the same backend: the newest counts. */
  #claim(key: string): Claim | undefined {
    const best = new Map<string, Claim>();
    for (const id of this.#replica.documents()) {
      const entry = this.#replica.entry(id, key);
      this.#unreadable.delete(`${id} ${key}`);
      if (entry !== undefined) this.#contend(best, id, entry);
    }
    return best.get(key);
  }

  #contend(best: Map<string, Claim>, id: string, entry: Entry): void {
    const node = id === SHARED ? undefined : id.slice(documentOf('').length);
    const backend = readBackend(entry.key, valueOf(entry), node);
    if (backend === undefined) {
      this.#unreadable.add(`${id} ${entry.key}`);
      return;
    }
    const other = best.get(entry.key);
    if (other === undefined || compareStamps(other.entry, entry) < 0)
      best.set(entry.key, { entry, backend });
  }

  #update(keys: Iterable<string>, claimOf: (key: string) => Claim | undefined): Viewed {
    const changes: Change[] = [];
    const services = new Map<string, ServiceRecord | undefined>();
    const backends = new Map<string, Map<string, ReplicatedBackend | undefined>>();
    for (const key of keys) {
      const { kind, name } = subjectOf(key);
      if (kind === 'service') services.set(name, this.#read(key, readService));
      else if (kind === 'acl') changes.push(...this.#aclChanges(name, this.#read(key, readAcl)));
      else if (kind === 'backend') {
        const backend = claimOf(key)?.backend;
        const list = backends.get(name);
        if (list === undefined) backends.set(name, new Map([[key, backend]]));
        else list.set(key, backend);
      }
    }
    for (const name of new Set([...services.keys(), ...backends.keys()])) {
      const was = this.#snapshot.services.get(name);
      const is = services.has(name) ? services.get(name) : was;
      changes.push(...serviceChanges(name, was, is));
      changes.push(...this.#backendChanges(name, is, backends.get(name) ?? new Map()));
    }
    const applied = applyChanges(this.#snapshot, changes);
    this.#snapshot = applied.snapshot;
    return { ...applied, changes };
  }

  #read<T>(key: string, reader: (key: string, json: string) => T | undefined): T | undefined {
    const json = this.#replica.get(SHARED, key);
    const record = json === undefined ? undefined : reader(key, json);
    if (json !== undefined && record === undefined) this.#unreadable.add(`${SHARED} ${key}`);
    else this.#unreadable.delete(`${SHARED} ${key}`);
    return record;
  }

  #aclChanges(name: string, acl: ReturnType<typeof readAcl>): readonly Change[] {
    const before = this.#snapshot.acls.get(name);
    if (acl === undefined) return before === undefined ? [] : [{ kind: 'remove-acl', name }];
    return same(before, acl) ? [] : [{ kind: 'put-acl', acl }];
  }

  #backendChanges(
    name: string,
    service: ServiceRecord | undefined,
    touched: ReadonlyMap<string, ReplicatedBackend | undefined>,
  ): readonly Change[] {
    const seen = new Map<string, ReplicatedBackend>();
    for (const backend of this.#snapshot.backends.get(name) ?? [])
      seen.set(backendKeyOf(backend), backend);
    const all = new Map([...seen, ...(this.#unseen.get(name) ?? [])]);
    for (const [key, backend] of touched) {
      if (backend === undefined) all.delete(key);
      else all.set(key, backend);
    }
    const ports = new Map(service?.ports.map((port) => [port.name, port.name]));
    const unseen = new Map<string, ReplicatedBackend>();
    const changes: Change[] = [];
    for (const [key, backend] of all) {
      const portName = ports.get(backend.portName);
      if (service === undefined || portName === undefined) {
        unseen.set(key, backend);
      } else if (!same(seen.get(key), backend)) {
        // Strings of the service, shared by all its backends.
        changes.push({
          kind: 'put-backend',
          backend: { ...backend, service: service.name, portName },
        });
      }
    }
    changes.sort((a, b) => compareBackends(backendIn(a), backendIn(b)));
    for (const [key, backend] of seen)
      if (service !== undefined && (!all.has(key) || unseen.has(key)))
        changes.push(removalOf(backend));
    if (unseen.size > 0) this.#unseen.set(name, unseen);
    else this.#unseen.delete(name);
    return changes;
  }

  /** What a decision of commands.ts writes; `elsewhere`: for the node that has the backend to do. */
  writes(changes: readonly Change[]): {
    readonly writes: readonly Write[];
    readonly elsewhere: readonly { readonly node: string; readonly change: Change }[];
  } {
    const writes: Write[] = [];
    const elsewhere: { node: string; change: Change }[] = [];
    for (const change of changes) {
      const node = this.#nodeOf(change);
      if (node !== undefined && node !== this.#replica.node) elsewhere.push({ node, change });
      else writes.push(...this.#writesOf(change));
    }
    return { writes, elsewhere };
  }

  #nodeOf(change: Change): string | undefined {
    if (change.kind !== 'put-backend' && change.kind !== 'remove-backend') return undefined;
    const id = change.kind === 'put-backend' ? change.backend : change;
    if (change.kind === 'put-backend' && change.backend.owner !== undefined)
      return (change.backend as ReplicatedBackend).node;
    const list: readonly ReplicatedBackend[] = this.#snapshot.backends.get(id.service) ?? [];
    return list.find((backend) => compareBackends(backend, id) === 0)?.node;
  }

  #writesOf(change: Change): readonly Write[] {
    const replica = this.#replica;
    switch (change.kind) {
      case 'put-service': {
        const key = serviceKey(change.service.name);
        const value = writeService(change.service, replica.get(SHARED, key));
        return [{ document: 'shared', key, value }];
      }
      case 'put-acl': {
        const key = aclKey(change.acl.name);
        const value = writeAcl(change.acl, replica.get(SHARED, key));
        return [{ document: 'shared', key, value }];
      }
      case 'put-backend':
        return this.#putBackend(change.backend);
      case 'remove-backend':
        return removalsOf(backendKeyOf(change));
      case 'remove-acl':
        return [{ document: 'shared', key: aclKey(change.name), value: undefined }];
      case 'remove-service': {
        const backends = [
          ...(this.#snapshot.backends.get(change.name) ?? []),
          ...(this.#unseen.get(change.name)?.values() ?? []),
        ];
        const key = serviceKey(change.name);
        return [
          { document: 'shared', key, value: undefined },
          ...backends.flatMap((backend) => removalsOf(backendKeyOf(backend))),
        ];
      }
    }
  }

  /** What lives with a process is of its node, everything else of all. */
  #putBackend(backend: BackendRecord): readonly Write[] {
    const key = backendKeyOf(backend);
    const document = backend.owner === undefined ? 'shared' : 'own';
    const other = document === 'own' ? 'shared' : 'own';
    const id = document === 'own' ? this.#replica.own : SHARED;
    const value = writeBackend(backend, this.#replica.get(id, key));
    return [
      { document, key, value },
      { document: other, key, value: undefined },
    ];
  }

  /** Keys of this node's backends whose service is gone: for their owner to remove. */
  orphans(): readonly Write[] {
    const writes: Write[] = [];
    for (const [name, backends] of this.#unseen) {
      if (this.#snapshot.services.has(name)) continue;
      for (const [key, { node }] of backends)
        if (node === this.#replica.node) writes.push({ document: 'own', key, value: undefined });
    }
    return writes;
  }
}

function removalsOf(key: string): readonly Write[] {
  return [
    { document: 'shared', key, value: undefined },
    { document: 'own', key, value: undefined },
  ];
}

function backendIn(change: Change): BackendRecord {
  if (change.kind !== 'put-backend') throw new Error('bug: not a backend');
  return change.backend;
}

function serviceChanges(
  name: string,
  was: ServiceRecord | undefined,
  is: ServiceRecord | undefined,
): readonly Change[] {
  if (is === undefined) return was === undefined ? [] : [{ kind: 'remove-service', name }];
  return same(was, is) ? [] : [{ kind: 'put-service', service: is }];
}

/** Records are plain, and made here with their fields in one order. */
function same(a: unknown, b: unknown): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}
