/**
 * The snapshot as documents that `apply` accepts: applying them to the same
 * state changes nothing, and to an empty one brings it back, VIPs included.
 *
 * Backends that belong to a process (`zerohop run`) are left out: they come and
 * go with it.
 */
import { formatEndpoint } from '../net/ip.ts';
import type {
  AclAction,
  AclPort,
  AclRecord,
  AclSelector,
  AclTarget,
  BackendRecord,
  DnsRecord,
  ServicePort,
  ServiceRecord,
  StateSnapshot,
} from './records.ts';

export interface BackendDocument {
  readonly address: string;
  readonly portName?: string;
  readonly weight?: number;
  readonly state?: 'draining';
}

export interface ServiceDocument {
  readonly kind: 'service';
  readonly name: string;
  readonly vips: readonly string[];
  readonly ports: readonly ServicePort[];
  readonly backends: readonly BackendDocument[];
}

export interface AclDocument {
  readonly kind: 'acl';
  readonly name: string;
  readonly to: Readonly<Record<string, string | readonly string[]>>;
  readonly from?: readonly Readonly<Record<string, string | number>>[];
  readonly action: AclAction;
}

export interface RecordDocument extends DnsRecord {
  readonly kind: 'record';
}

/** As people write it: `443/tcp`. */
export function formatAclPort({ port, protocol }: AclPort): string {
  return `${port}/${protocol}`;
}

function targetDocument(to: AclTarget): AclDocument['to'] {
  switch (to.kind) {
    case 'service':
      return { service: to.service, ...(to.portName === undefined ? {} : { port: to.portName }) };
    case 'cidr':
      return {
        cidr: to.cidr,
        ...(to.ports.length === 0 ? {} : { ports: to.ports.map(formatAclPort) }),
      };
    case 'ports':
      return { ports: to.ports.map(formatAclPort) };
  }
}

function selectorDocument({ kind, value }: AclSelector): Readonly<Record<string, string | number>> {
  const isId = (kind === 'user' || kind === 'group') && /^[0-9]+$/.test(value);
  return { [kind]: isId ? Number(value) : value };
}

export function aclDocument({ name, to, from, action }: AclRecord): AclDocument {
  return {
    kind: 'acl',
    name,
    to: targetDocument(to),
    ...(from.length === 0 ? {} : { from: from.map(selectorDocument) }),
    action,
  };
}

export function sameAcl(a: AclRecord, b: AclRecord): boolean {
  return JSON.stringify(aclDocument(a)) === JSON.stringify(aclDocument(b));
}

/** Leaves out what `apply` would assume anyway. */
function backendDocument(backend: BackendRecord, onlyPort: boolean): BackendDocument {
  return {
    address: formatEndpoint(backend.address, backend.port),
    ...(onlyPort ? {} : { portName: backend.portName }),
    ...(backend.weight === 1 ? {} : { weight: backend.weight }),
    ...(backend.state === 'active' ? {} : { state: backend.state }),
  };
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}

/** By name, then type. */
export function recordsInOrder(snapshot: StateSnapshot): readonly DnsRecord[] {
  return [...snapshot.records].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, record]) => record);
}

/** Services, then rules and DNS records, in the order of names: two exports can be compared with diff(1). */
export function exportDocuments(
  snapshot: StateSnapshot,
): readonly (ServiceDocument | AclDocument | RecordDocument)[] {
  const services = [...snapshot.services.values()].toSorted(byName);
  const acls = [...snapshot.acls.values()].toSorted(byName);
  return [
    ...services.map((service) => serviceDocument(snapshot, service)),
    ...acls.map(aclDocument),
    ...recordsInOrder(snapshot).map((record): RecordDocument => ({ kind: 'record', ...record })),
  ];
}

function serviceDocument(
  snapshot: StateSnapshot,
  { name, vips, ports }: ServiceRecord,
): ServiceDocument {
  return {
    kind: 'service',
    name,
    vips,
    ports,
    backends: (snapshot.backends.get(name) ?? [])
      .filter((backend) => backend.owner === undefined)
      .map((backend) => backendDocument(backend, ports.length === 1)),
  };
}
