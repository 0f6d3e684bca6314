/**
 * The snapshot as documents that `apply` accepts: applying them to the same
 * state changes nothing, and to an empty one brings it back, VIPs included.
 *
 * Backends that belong to a process (`zerohop run`) are left out: they come and
 * go with it.
 */
import { formatEndpoint } from '../net/ip.ts';
import type { BackendRecord, ServicePort, StateSnapshot } from './records.ts';

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

/** Leaves out what `apply` would assume anyway. */
function backendDocument(backend: BackendRecord, onlyPort: boolean): BackendDocument {
  return {
    address: formatEndpoint(backend.address, backend.port),
    ...(onlyPort ? {} : { portName: backend.portName }),
    ...(backend.weight === 1 ? {} : { weight: backend.weight }),
    ...(backend.state === 'active' ? {} : { state: backend.state }),
  };
}

/** In the order of names, so that two exports can be compared with diff(1). */
export function exportDocuments(snapshot: StateSnapshot): readonly ServiceDocument[] {
  const services = [...snapshot.services.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return services.map(({ name, vips, ports }) => ({
    kind: 'service',
    name,
    vips,
    ports,
    backends: (snapshot.backends.get(name) ?? [])
      .filter((backend) => backend.owner === undefined)
      .map((backend) => backendDocument(backend, ports.length === 1)),
  }));
}
