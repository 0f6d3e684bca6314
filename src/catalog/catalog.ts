/**
 * The Catalog: one immutable picture of all services that the reconciler, the
 * resolver and the CLI read. Built from state; knows nothing of the kernel.
 */
import { BucketMap } from '../state/bucket-map.ts';
import type { BackendState, Protocol, ServicePort, StateSnapshot } from '../state/records.ts';

export interface CatalogBackend {
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  readonly state: BackendState;
}

export interface CatalogPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly backends: readonly CatalogBackend[];
}

export interface CatalogService {
  readonly name: string;
  readonly vips: readonly string[];
  readonly ports: readonly CatalogPort[];
}

export interface Catalog {
  readonly revision: number;
  readonly services: ReadonlyMap<string, CatalogService>;
}

function portOf(port: ServicePort, snapshot: StateSnapshot, service: string): CatalogPort {
  const backends = snapshot.backends.get(service) ?? [];
  return { ...port, backends: backends.filter((backend) => backend.portName === port.name) };
}

export function catalogService(snapshot: StateSnapshot, name: string): CatalogService | undefined {
  const record = snapshot.services.get(name);
  if (record === undefined) return undefined;
  return {
    name,
    vips: record.vips,
    ports: record.ports.map((port) => portOf(port, snapshot, name)),
  };
}

/**
 * The Catalog of a snapshot. With the previous Catalog and the names that
 * changed since, unchanged services are taken over as they are.
 */
export function buildCatalog(
  snapshot: StateSnapshot,
  previous?: { readonly catalog: Catalog; readonly touched: Iterable<string> },
): Catalog {
  const services = BucketMap.from(previous?.catalog.services ?? new Map()).edit();
  for (const name of previous?.touched ?? snapshot.services.keys()) {
    const service = catalogService(snapshot, name);
    if (service === undefined) services.delete(name);
    else services.set(name, service);
  }
  return { revision: snapshot.revision, services: services.build() };
}
