/**
 * Documents as the StateSnapshot that the rest of the agent reads, and Changes as writes.
 *
 * Follows what the replica says has changed; the cost of a change depends on the backends of its
 * service, not on how many records there are. A backend is seen only while its service is there and
 * has its port: what is written concurrently with a removal waits unseen until it makes sense.
 */
import {
  applyChanges,
  compareBackends,
  EMPTY_SNAPSHOT,
  recordKey,
  type Applied,
} from '../changes.ts';
import { BucketMap } from '../bucket-map.ts';
import { removalOf, sameOwner } from '../draft.ts';
import type {
  AclRecord,
  BackendRecord,
  Change,
  DnsRecord,
  ServiceRecord,
  StateSnapshot,
} from '../records.ts';
import { valueOf } from './cell.ts';
import { compareStamps } from './hlc.ts';
import type { Entry } from './log-document.ts';
import { documentOf, SHARED, type Changed, type Replica, type Write } from './replica.ts';
import {
  aclKey,
  backendKeyOf,
  dnsKey,
  NODE_KEY,
  readAcl,
  readBackend,
  readDns,
  readNode,
  readService,
  serviceKey,
  subjectOf,
  writeAcl,
  writeBackend,
  writeDns,
  writeService,
  type NodeRecord,
} from './schema.ts';
import { differences, loadBackends, same, withNamesOf } from './view-load.ts';

export interface Viewed extends Applied {
  readonly changes: readonly Change[];
  /** Nodes whose record is another one than before, or gone. */
  readonly touchedNodes: ReadonlySet<string>;
}

/** A change that is for another node to make. */
export interface Elsewhere {
  readonly node: string;
  readonly change: Change;
}

interface Claim {
  readonly entry: Entry;
  readonly backend: BackendRecord;
  /** Of two the higher one counts, before the newer one. */
  readonly rank: number;
}

export class StateView {
  readonly #replica: Replica;
  #snapshot: StateSnapshot;
  #nodes: ReadonlyMap<string, NodeRecord> = new Map();
  /** Backends that do not count now, by service and key: without their service, or its port. */
  #unseen = new Map<string, Map<string, BackendRecord>>();
  /** Entries that this version cannot read: `DOCUMENT KEY`. */
  readonly #unreadable = new Set<string>();

  private constructor(replica: Replica, snapshot: StateSnapshot) {
    this.#replica = replica;
    this.#snapshot = snapshot;
  }

  /** What a replica holds, as the given revision: that of the host's last life. */
  static open(replica: Replica, revision = 0): StateView {
    const view = new StateView(replica, EMPTY_SNAPSHOT);
    view.#load(revision);
    return view;
  }

  /** The view of another replica that takes this one's place, and what is different in it. */
  replaced(replica: Replica): { readonly view: StateView; readonly viewed: Viewed } {
    const view = StateView.open(replica);
    const changes = differences(this.#snapshot, view.#snapshot);
    const applied = applyChanges(this.#snapshot, changes);
    view.#snapshot = applied.snapshot;
    const names = new Set([...this.#nodes.keys(), ...view.#nodes.keys()]);
    const isOther = (name: string): boolean =>
      JSON.stringify(this.#nodes.get(name)) !== JSON.stringify(view.#nodes.get(name));
    const touchedNodes = new Set([...names].filter(isOther));
    return { view, viewed: { ...applied, changes, touchedNodes } };
  }

  #load(revision: number): void {
    const services = new BucketMap<ServiceRecord>().edit();
    const acls = new BucketMap<AclRecord>().edit();
    const names = new BucketMap<DnsRecord>().edit();
    const claims = new Map<string, Map<string, Claim>>();
    const nodes: string[] = [];
    for (const id of this.#replica.documents()) {
      for (const entry of this.#replica.winners(id)) {
        const { key } = entry;
        const { kind, name } = subjectOf(key);
        if (kind === 'backend') {
          const best = claims.get(name) ?? new Map<string, Claim>();
          claims.set(name, best);
          const claim = this.#better(best.get(key), id, key, entry);
          if (claim !== undefined) best.set(key, claim);
        } else if (id === SHARED && kind === 'service') {
          const service = this.#read(key, readService);
          if (service !== undefined) services.set(service.name, service);
        } else if (id === SHARED && kind === 'acl') {
          const acl = this.#read(key, readAcl);
          if (acl !== undefined) acls.set(acl.name, acl);
        } else if (id === SHARED && kind === 'dns') {
          const record = this.#read(key, readDns);
          if (record !== undefined) names.set(recordKey(record), record);
        } else if (id !== SHARED && key === NODE_KEY) nodes.push(id);
      }
    }
    const there = services.build();
    const { backends, unseen } = loadBackends(there, claims);
    this.#unseen = unseen;
    this.#snapshot = {
      revision,
      services: there,
      backends,
      acls: acls.build(),
      records: names.build(),
    };
    this.#readNodes(nodes);
  }

  snapshot(): StateSnapshot {
    return this.#snapshot;
  }

  /** What each node says of itself; a new map when one is another. */
  nodes(): ReadonlyMap<string, NodeRecord> {
    return this.#nodes;
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

  /**
   * Takes in what Replica returned, in any order: what is read is what is there now. Until all is
   * taken in, the snapshot may be one that never was.
   */
  follow(changed: readonly Changed[]): Viewed {
    const keys = changed.filter(
      ({ document, key }) => document === SHARED || key.startsWith('backend/'),
    );
    // A document may be gone as a whole.
    for (const { document, key } of keys) this.#readable(document, key);
    const nodes = changed.filter(({ document, key }) => document !== SHARED && key === NODE_KEY);
    const documents = this.#replica.documents();
    return {
      ...this.#update(new Set(keys.map(({ key }) => key)), (key) => this.#claim(key, documents)),
      touchedNodes: this.#readNodes(nodes.map(({ document }) => document)),
    };
  }

  #readNodes(documents: readonly string[]): ReadonlySet<string> {
    if (documents.length === 0) return new Set();
    const nodes = new Map(this.#nodes);
    const touched = new Set<string>();
    for (const id of documents) {
      const json = this.#replica.get(id, NODE_KEY);
      const record = json === undefined ? undefined : readNode(json);
      if (json !== undefined && record === undefined) this.#unreadable.add(`${id} ${NODE_KEY}`);
      else this.#readable(id, NODE_KEY);
      const node = nodeOf(id);
      if (JSON.stringify(nodes.get(node)) === JSON.stringify(record)) continue;
      touched.add(node);
      if (record === undefined) nodes.delete(node);
      else nodes.set(node, record);
    }
    if (touched.size > 0) this.#nodes = nodes;
    return touched;
  }

  /** Two nodes, or a node and an operator, may have registered the same backend: one counts. */
  #claim(key: string, documents: readonly string[]): Claim | undefined {
    let best: Claim | undefined;
    for (const id of documents) {
      const entry = this.#replica.entry(id, key);
      this.#readable(id, key);
      if (entry !== undefined) best = this.#better(best, id, key, entry);
    }
    return best;
  }

  #better(best: Claim | undefined, id: string, key: string, entry: Entry): Claim | undefined {
    const json = valueOf({ key, text: entry.text });
    const backend = readBackend(key, json, id === SHARED ? undefined : nodeOf(id));
    if (backend === undefined) {
      this.#unreadable.add(`${id} ${key}`);
      return best;
    }
    const rank = this.#rankOf(id, backend.address);
    const isBetter =
      best === undefined || (rank - best.rank || compareStamps(entry, best.entry)) > 0;
    return isBetter ? { entry, backend, rank } : best;
  }

  /** The newest counts; but of a loopback address, which is another server on each host, one's own. */
  #rankOf(id: string, address: string): number {
    if (!address.startsWith('127.') && address !== '::1') return 0;
    if (id === this.#replica.own) return 2;
    return id === SHARED ? 1 : 0;
  }

  #update(
    keys: Iterable<string>,
    claimOf: (key: string) => Claim | undefined,
  ): Omit<Viewed, 'touchedNodes'> {
    const changes: Change[] = [];
    const services = new Map<string, ServiceRecord | undefined>();
    const backends = new Map<string, Map<string, BackendRecord | undefined>>();
    for (const key of keys) {
      const { kind, name } = subjectOf(key);
      if (kind === 'service') services.set(name, this.#read(key, readService));
      else if (kind === 'acl') changes.push(...this.#aclChanges(name, this.#read(key, readAcl)));
      else if (kind === 'dns') changes.push(...this.#dnsChanges(key, this.#read(key, readDns)));
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
      // Not as arguments of one call: there may be 100,000.
      for (const change of this.#backendChanges(name, is, backends.get(name) ?? new Map()))
        changes.push(change);
    }
    const applied = applyChanges(this.#snapshot, changes);
    this.#snapshot = applied.snapshot;
    return { ...applied, changes };
  }

  #read<T>(key: string, reader: (key: string, json: string) => T | undefined): T | undefined {
    const json = this.#replica.get(SHARED, key);
    const record = json === undefined ? undefined : reader(key, json);
    if (json !== undefined && record === undefined) this.#unreadable.add(`${SHARED} ${key}`);
    else this.#readable(SHARED, key);
    return record;
  }

  #readable(document: string, key: string): void {
    if (this.#unreadable.size > 0) this.#unreadable.delete(`${document} ${key}`);
  }

  #aclChanges(name: string, acl: ReturnType<typeof readAcl>): readonly Change[] {
    const before = this.#snapshot.acls.get(name);
    if (acl === undefined) return before === undefined ? [] : [{ kind: 'remove-acl', name }];
    return same(before, acl) ? [] : [{ kind: 'put-acl', acl }];
  }

  #dnsChanges(key: string, record: DnsRecord | undefined): readonly Change[] {
    const [, name = '', type = ''] = key.split('/');
    const before = this.#snapshot.records.get(`${name} ${type}`);
    if (record !== undefined) return same(before, record) ? [] : [{ kind: 'put-record', record }];
    // Of a key with more parts there never was one.
    if (before === undefined || dnsKey(before) !== key) return [];
    return [{ kind: 'remove-record', name, type: before.type }];
  }

  #backendChanges(
    name: string,
    service: ServiceRecord | undefined,
    touched: ReadonlyMap<string, BackendRecord | undefined>,
  ): readonly Change[] {
    const seen = new Map<string, BackendRecord>();
    for (const backend of this.#snapshot.backends.get(name) ?? [])
      seen.set(backendKeyOf(backend), backend);
    const waiting = this.#unseen.get(name);
    // Of a new service all are new: there may be 10,000 such at once.
    const isNew = seen.size === 0 && waiting === undefined;
    const all = isNew ? touched : new Map([...seen, ...(waiting ?? []), ...touched]);
    const ports = new Map(service?.ports.map((port) => [port.name, port.name]));
    const unseen = new Map<string, BackendRecord>();
    const changes: Change[] = [];
    for (const [key, backend] of all) {
      if (backend === undefined) continue;
      const portName = ports.get(backend.portName);
      if (service === undefined || portName === undefined) {
        unseen.set(key, backend);
      } else if (!same(seen.get(key), backend)) {
        changes.push({
          kind: 'put-backend',
          backend: withNamesOf(service, portName, backend),
        });
      }
    }
    changes.sort((a, b) => compareBackends(backendIn(a), backendIn(b)));
    for (const [key, backend] of seen)
      if (service !== undefined && (all.get(key) === undefined || unseen.has(key)))
        changes.push(removalOf(backend));
    if (unseen.size > 0) this.#unseen.set(name, unseen);
    else this.#unseen.delete(name);
    return changes;
  }

  /** What a decision of commands.ts writes; `elsewhere`: for the node that has the backend to do. */
  writes(changes: readonly Change[]): {
    readonly writes: readonly Write[];
    readonly elsewhere: readonly Elsewhere[];
  } {
    const writes: Write[] = [];
    const elsewhere: Elsewhere[] = [];
    /** Backends written so far that the snapshot does not have, for a removal of their service. */
    const fresh = new Map<string, Set<string>>();
    for (const change of changes) {
      const node = this.#nodeOf(change);
      if (node !== undefined && node !== this.#replica.node) elsewhere.push({ node, change });
      else for (const write of this.#writesOf(change, fresh)) writes.push(write);
    }
    return { writes, elsewhere };
  }

  #nodeOf(change: Change): string | undefined {
    if (change.kind !== 'put-backend' && change.kind !== 'remove-backend') return undefined;
    const id = change.kind === 'put-backend' ? change.backend : change;
    const list = this.#snapshot.backends.get(id.service) ?? [];
    const there = list.find((backend) => compareBackends(backend, id) === 0);
    if (change.kind === 'remove-backend' || change.backend.owner === undefined) return there?.node;
    const { node, owner } = change.backend;
    // A command about a backend says nothing of its process, and leaves it the one that it has.
    return there?.owner !== undefined && sameOwner(there.owner, owner) ? there.node : node;
  }

  #writesOf(change: Change, fresh: Map<string, Set<string>>): readonly Write[] {
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
      case 'put-record': {
        const key = dnsKey(change.record);
        const value = writeDns(change.record, replica.get(SHARED, key));
        return [{ document: 'shared', key, value }];
      }
      case 'put-backend': {
        const { service } = change.backend;
        const keys = fresh.get(service) ?? new Set();
        fresh.set(service, keys);
        return this.#putBackend(change.backend, keys);
      }
      case 'remove-backend':
        return removalsOf(backendKeyOf(change));
      case 'remove-acl':
        return [{ document: 'shared', key: aclKey(change.name), value: undefined }];
      case 'remove-record':
        return [{ document: 'shared', key: dnsKey(change), value: undefined }];
      case 'remove-service': {
        const backends = [
          ...(this.#snapshot.backends.get(change.name) ?? []),
          ...(this.#unseen.get(change.name)?.values() ?? []),
        ];
        const keys = [...backends.map(backendKeyOf), ...(fresh.get(change.name) ?? [])];
        const key = serviceKey(change.name);
        return [{ document: 'shared', key, value: undefined }, ...keys.flatMap(removalsOf)];
      }
    }
  }

  /** What lives with a process is of its node, everything else of all. */
  #putBackend(backend: BackendRecord, fresh: Set<string>): readonly Write[] {
    const key = backendKeyOf(backend);
    const [document, id, other, otherId] =
      backend.owner === undefined
        ? (['shared', SHARED, 'own', this.#replica.own] as const)
        : (['own', this.#replica.own, 'shared', SHARED] as const);
    const value = writeBackend(backend, this.#replica.get(id, key));
    const isInOther = fresh.has(key) || this.#replica.entry(otherId, key) !== undefined;
    fresh.add(key);
    const removal: Write = { document: other, key, value: undefined };
    return isInOther ? [{ document, key, value }, removal] : [{ document, key, value }];
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

/** Of a document of a node. */
function nodeOf(id: string): string {
  return id.slice(documentOf('').length);
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
