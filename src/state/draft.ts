/**
 * A snapshot being edited: what a command would make of it, before anything is
 * stored. The difference to the snapshot is the list of changes, so that saying
 * again what is already so changes nothing.
 */
import { backendKey, compareBackends, recordKey } from './changes.ts';
import { sameAcl } from './export.ts';
import type {
  AclRecord,
  BackendOwner,
  BackendRecord,
  Change,
  DnsRecord,
  ServiceRecord,
  StateSnapshot,
} from './records.ts';

export interface Action {
  readonly action: 'create' | 'update' | 'remove';
  readonly kind: 'service' | 'backend' | 'acl' | 'record';
  /** `web`, `web:http 10.0.0.1:80` for a backend, the name of a rule, `mail.example MX`. */
  readonly name: string;
}

export class Draft {
  readonly #base: StateSnapshot;
  /** Services written so far, in order; undefined: removed. */
  readonly #services = new Map<string, ServiceRecord | undefined>();
  readonly #backends = new Map<string, Map<string, BackendRecord>>();
  /** Rules written so far, in order; undefined: removed. */
  readonly #acls = new Map<string, AclRecord | undefined>();

  /** DNS records written so far by key, in order; undefined: removed. */
  readonly #records = new Map<string, DnsRecord | undefined>();

  constructor(base: StateSnapshot) {
    this.#base = base;
  }

  service(name: string): ServiceRecord | undefined {
    return this.#services.has(name) ? this.#services.get(name) : this.#base.services.get(name);
  }

  putService(record: ServiceRecord): void {
    this.#services.set(record.name, record);
  }

  removeService(name: string): void {
    this.#services.set(name, undefined);
    this.#backends.set(name, new Map());
  }

  /** Names of the services written or whose backends were. */
  touched(): ReadonlySet<string> {
    return new Set([...this.#services.keys(), ...this.#backends.keys()]);
  }

  /** Every service as it would be. */
  *services(): Iterable<ServiceRecord> {
    for (const [name, record] of this.#base.services) if (!this.#services.has(name)) yield record;
    for (const record of this.#services.values()) if (record !== undefined) yield record;
  }

  backends(service: string): ReadonlyMap<string, BackendRecord> {
    return this.#backends.get(service) ?? this.#copy(service);
  }

  #copy(service: string): Map<string, BackendRecord> {
    const list = this.#base.backends.get(service) ?? [];
    return new Map(list.map((backend) => [backendKey(backend), backend]));
  }

  #writable(service: string): Map<string, BackendRecord> {
    let list = this.#backends.get(service);
    if (list === undefined) {
      list = this.#copy(service);
      this.#backends.set(service, list);
    }
    return list;
  }

  putBackend(record: BackendRecord): void {
    this.#writable(record.service).set(backendKey(record), record);
  }

  removeBackend(record: BackendRecord): void {
    this.#writable(record.service).delete(backendKey(record));
  }

  acl(name: string): AclRecord | undefined {
    return this.#acls.has(name) ? this.#acls.get(name) : this.#base.acls.get(name);
  }

  putAcl(record: AclRecord): void {
    this.#acls.set(record.name, record);
  }

  removeAcl(name: string): void {
    this.#acls.set(name, undefined);
  }

  /** Every rule as it would be. */
  *acls(): Iterable<AclRecord> {
    for (const [name, record] of this.#base.acls) if (!this.#acls.has(name)) yield record;
    for (const record of this.#acls.values()) if (record !== undefined) yield record;
  }

  record(id: Pick<DnsRecord, 'name' | 'type'>): DnsRecord | undefined {
    const key = recordKey(id);
    return this.#records.has(key) ? this.#records.get(key) : this.#base.records.get(key);
  }

  putRecord(record: DnsRecord): void {
    this.#records.set(recordKey(record), record);
  }

  removeRecord(id: Pick<DnsRecord, 'name' | 'type'>): void {
    this.#records.set(recordKey(id), undefined);
  }

  /** One that was written here. */
  writtenRecord(key: string): DnsRecord | undefined {
    return this.#records.get(key);
  }

  /** Every DNS record as it would be. */
  *records(): Iterable<DnsRecord> {
    for (const [key, record] of this.#base.records) if (!this.#records.has(key)) yield record;
    for (const record of this.#records.values()) if (record !== undefined) yield record;
  }

  /** Names of the services whose record was written or removed. */
  writtenServices(): Iterable<string> {
    return this.#services.keys();
  }

  /**
   * Additions before removals, so that every prefix is a state worth having.
   * A removed service takes its backends along: one change, but an action each.
   */
  diff(): { readonly changes: readonly Change[]; readonly actions: readonly Action[] } {
    const puts: Change[] = [];
    const removals: Change[] = [];
    const actions: Action[] = [];
    for (const [name, after] of this.#services) {
      const before = this.#base.services.get(name);
      if (after === undefined) {
        if (before === undefined) continue;
        removals.push({ kind: 'remove-service', name });
        actions.push({ action: 'remove', kind: 'service', name });
      } else if (before === undefined || !sameService(before, after)) {
        puts.push({ kind: 'put-service', service: after });
        actions.push({ action: before === undefined ? 'create' : 'update', kind: 'service', name });
      }
    }
    for (const [service, after] of this.#backends) {
      const gone = this.service(service) === undefined;
      const before = this.#base.backends.get(service) ?? [];
      diffBackends(before, after, (action, backend) => {
        actions.push({ action, kind: 'backend', name: backendName(backend) });
        if (action !== 'remove') puts.push({ kind: 'put-backend', backend });
        else if (!gone) removals.push(removalOf(backend));
      });
    }
    this.#diffAcls(puts, removals, actions);
    this.#diffRecords(puts, removals, actions);
    return { changes: [...puts, ...removals], actions };
  }

  #diffAcls(puts: Change[], removals: Change[], actions: Action[]): void {
    for (const [name, after] of this.#acls) {
      const before = this.#base.acls.get(name);
      if (after === undefined) {
        if (before === undefined) continue;
        removals.push({ kind: 'remove-acl', name });
        actions.push({ action: 'remove', kind: 'acl', name });
      } else if (before === undefined || !sameAcl(before, after)) {
        puts.push({ kind: 'put-acl', acl: after });
        actions.push({ action: before === undefined ? 'create' : 'update', kind: 'acl', name });
      }
    }
  }

  #diffRecords(puts: Change[], removals: Change[], actions: Action[]): void {
    for (const [key, after] of this.#records) {
      const before = this.#base.records.get(key);
      if (after !== undefined && JSON.stringify(before) !== JSON.stringify(after)) {
        puts.push({ kind: 'put-record', record: after });
        actions.push({
          action: before === undefined ? 'create' : 'update',
          kind: 'record',
          name: key,
        });
      } else if (after === undefined && before !== undefined) {
        removals.push({ kind: 'remove-record', name: before.name, type: before.type });
        actions.push({ action: 'remove', kind: 'record', name: key });
      }
    }
  }
}

function diffBackends(
  before: readonly BackendRecord[],
  after: ReadonlyMap<string, BackendRecord>,
  emit: (action: Action['action'], backend: BackendRecord) => void,
): void {
  const old = new Map(before.map((backend) => [backendKey(backend), backend]));
  for (const [key, backend] of after) {
    const was = old.get(key);
    if (was === undefined) emit('create', backend);
    else if (!sameBackend(was, backend)) emit('update', backend);
  }
  for (const [key, backend] of old) if (!after.has(key)) emit('remove', backend);
}

export function removalOf(backend: BackendRecord): Change & { kind: 'remove-backend' } {
  const { service, portName, address, port } = backend;
  return { kind: 'remove-backend', service, portName, address, port };
}

/** As the command line writes it: `web:http 10.0.0.1:80`. */
export function backendName(
  backend: Pick<BackendRecord, 'service' | 'portName' | 'address' | 'port'>,
): string {
  const { service, portName, address, port } = backend;
  return `${service}:${portName} ${address.includes(':') ? `[${address}]` : address}:${port}`;
}

export function sameOwner(a: BackendOwner | undefined, b: BackendOwner | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.pid === b.pid && a.startTicks === b.startTicks && a.bootId === b.bootId;
}

function sameBackend(a: BackendRecord, b: BackendRecord): boolean {
  return (
    compareBackends(a, b) === 0 &&
    a.weight === b.weight &&
    a.state === b.state &&
    sameOwner(a.owner, b.owner)
  );
}

function sameService(a: ServiceRecord, b: ServiceRecord): boolean {
  return (
    a.vips.length === b.vips.length &&
    a.vips.every((vip, index) => vip === b.vips[index]) &&
    a.ports.length === b.ports.length &&
    a.ports.every((port, index) => {
      const other = b.ports[index];
      return (
        port.name === other?.name && port.port === other.port && port.protocol === other.protocol
      );
    })
  );
}
