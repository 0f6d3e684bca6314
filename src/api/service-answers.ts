/**
 * Services and backends as the API shows them: what is recorded, and what of it
 * counts on this host now: VIPs that it gives, who is down, whose a backend is.
 * Pure; decides nothing.
 */
import { takersOf, type Catalog, type CatalogService } from '../catalog/catalog.ts';
import { isOfOtherHost, type Down } from '../catalog/context.ts';
import { unknownService } from '../state/commands.ts';
import { ProblemError } from '../state/problem.ts';
import type { BackendRecord, ServiceRecord, StateSnapshot } from '../state/records.ts';
import type { Nodes } from './engine.ts';
import type * as s from './schemas.ts';

/** What a host knows; a service that is recorded just now may not be in the catalog yet. */
export interface Seen {
  readonly snapshot: StateSnapshot;
  readonly catalog: Catalog;
  readonly nodes: Nodes;
}

/** What a catalog says of the backends of a service that are down; most have none. */
function downsOf(service: CatalogService | undefined): ReadonlyMap<string, Down> {
  const downs = new Map<string, Down>();
  for (const port of service?.ports ?? []) {
    for (const { address, port: number, down } of port.backends)
      if (down !== undefined) downs.set(`${port.name} ${address} ${number}`, down);
  }
  return downs;
}

function backendsOf({ snapshot, catalog, nodes }: Seen, name: string): s.BackendAnswer[] {
  const downs = downsOf(catalog.services.get(name));
  return (snapshot.backends.get(name) ?? []).map((backend: BackendRecord) => {
    const { portName, address, port, node } = backend;
    const down = downs.get(`${portName} ${address} ${port}`);
    const nodeName = node === undefined ? undefined : nodes.records.get(node)?.name;
    return {
      ...backend,
      ...(down === undefined ? {} : { down }),
      ...(isOfOtherHost(nodes.self, backend) ? { elsewhere: true } : {}),
      ...(nodeName === undefined ? {} : { nodeName }),
    };
  });
}

function vipsOf({ catalog }: Seen, { name, vips }: ServiceRecord): string[] {
  return [...(catalog.services.get(name)?.vips ?? vips)];
}

export function listServices(seen: Seen): s.ServiceListAnswer {
  const { snapshot, catalog } = seen;
  const services = [...snapshot.services.values()].map((record) => {
    const { name, ports } = record;
    const backends = snapshot.backends.get(name) ?? [];
    const service = catalog.services.get(name);
    const takers = service?.ports.map((port) => takersOf(service, port).length) ?? [];
    return {
      name,
      vips: vipsOf(seen, record),
      ports: [...ports],
      backends: {
        total: backends.length,
        usable: takers.reduce((sum, count) => sum + count, 0),
        draining: backends.filter((backend) => backend.state === 'draining').length,
      },
    };
  });
  services.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { revision: snapshot.revision, services };
}

export function showService(seen: Seen, name: string): s.ServiceAnswer {
  const { snapshot, catalog } = seen;
  const record = snapshot.services.get(name);
  if (record === undefined)
    throw new ProblemError([unknownService(snapshot.services.keys(), name)]);
  const known = catalog.services.get(name)?.ports ?? [];
  const open = new Set(known.flatMap((port) => (port.failOpen === true ? [port.name] : [])));
  const ports = record.ports.map((port) => ({
    ...port,
    ...(open.has(port.name) ? { failOpen: true } : {}),
  }));
  const vips = vipsOf(seen, record);
  const backends = backendsOf(seen, name);
  return { revision: snapshot.revision, service: { name, vips, ports, backends } };
}

export function listBackends(seen: Seen, service: string | undefined): s.BackendListAnswer {
  const { revision, services } = seen.snapshot;
  if (service !== undefined && !services.has(service))
    throw new ProblemError([unknownService(services.keys(), service)]);
  const names = service === undefined ? [...services.keys()].toSorted() : [service];
  return { revision, backends: names.flatMap((name) => backendsOf(seen, name)) };
}
