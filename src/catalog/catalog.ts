/**
 * The Catalog: one immutable picture of all services that the reconciler, the
 * resolver and the CLI read. Built from state and from what is known of the
 * other nodes; knows nothing of the kernel. See README.md.
 */
import { familyOfText, type Family } from '../net/ip.ts';
import { BucketMap } from '../state/bucket-map.ts';
import type { BackendRecord, BackendState, Protocol, StateSnapshot } from '../state/records.ts';
import type { ServicePort, ServiceRecord } from '../state/records.ts';
import { indexVips, isServed, type Conflict, type VipIndex } from './conflicts.ts';
import { ALONE, Reach, type CatalogContext, type Down } from './context.ts';

export interface CatalogBackend {
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  readonly state: BackendState;
  /** Takes no new connections, whatever its weight and state. */
  readonly down?: Down;
}

export interface CatalogPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly backends: readonly CatalogBackend[];
  /** Of one VIP at least no backend was left: they are kept as if none were down. */
  readonly failOpen?: true;
}

export interface CatalogService {
  readonly name: string;
  /** Those that it has, which may not be those that are recorded. */
  readonly vips: readonly string[];
  readonly ports: readonly CatalogPort[];
  /** endpointText() of VIPs and ports that another service has; see isServed(). */
  readonly lost?: ReadonlySet<string>;
}

export interface Catalog {
  readonly revision: number;
  readonly services: ReadonlyMap<string, CatalogService>;
  /** By VIP. */
  readonly conflicts: readonly Conflict[];
  /** Every service whose entry may differ from the previous Catalog's; all of them if there was none. */
  readonly touched: ReadonlySet<string>;
  /** For the next Catalog. */
  readonly vipIndex: VipIndex;
}

/**
 * Of each family that has a VIP, as each is a frontend of its own: when all that
 * would take connections are down, none of those is.
 */
function failedOpen(
  backends: readonly BackendRecord[],
  downs: readonly (Down | undefined)[],
  families: ReadonlySet<Family>,
): ReadonlySet<number> {
  const open = new Set<number>();
  for (const family of families) {
    const takers = [...backends.keys()].filter((i) => {
      const { address, state, weight } = backends[i] as BackendRecord;
      return state === 'active' && weight > 0 && familyOfText(address) === family;
    });
    if (takers.every((i) => downs[i] !== undefined)) for (const i of takers) open.add(i);
  }
  return open;
}

/** Those of a port that connects to the service's VIPs are given to now. */
export function takersOf(service: CatalogService, port: CatalogPort): CatalogBackend[] {
  const vips = service.vips.filter((vip) => isServed(service, vip, port));
  const families = new Set(vips.map(familyOfText));
  return port.backends.filter(
    ({ address, state, weight, down }) =>
      state === 'active' && weight > 0 && down === undefined && families.has(familyOfText(address)),
  );
}

function portOf(
  port: ServicePort,
  all: readonly BackendRecord[],
  reach: Reach,
  families: ReadonlySet<Family>,
): CatalogPort {
  const isIts = (one: BackendRecord): boolean => one.portName === port.name && reach.counts(one);
  // Mostly there is one port, and the list of the records can be its list.
  const backends = all.every(isIts) ? all : all.filter(isIts);
  if (reach.isCalm) return { ...port, backends };
  const downs = backends.map((one) => reach.downOf(one, port.protocol));
  if (downs.every((down) => down === undefined)) return { ...port, backends };
  const open = failedOpen(backends, downs, families);
  return {
    ...port,
    backends: backends.map((backend, i) => {
      const down = open.has(i) ? undefined : downs[i];
      return down === undefined ? backend : { ...backend, down };
    }),
    ...(open.size > 0 ? { failOpen: true } : {}),
  };
}

function serviceOf(
  { name, vips: recorded, ports }: ServiceRecord,
  backends: readonly BackendRecord[],
  reach: Reach,
  vipIndex: VipIndex,
): CatalogService {
  const { vips, lost } = vipIndex.outcomes.get(name) ?? { vips: recorded };
  const families = new Set(vips.map(familyOfText));
  return {
    name,
    vips,
    ports: ports.map((port) => portOf(port, backends, reach, families)),
    ...(lost === undefined || lost.size === 0 ? {} : { lost }),
  };
}

/**
 * The Catalog of a snapshot. With the previous Catalog and the names of the
 * services that changed since, in the records or by what the context says of
 * their backends (servicesBetween), unchanged ones are taken over as they are.
 */
export function buildCatalog(
  snapshot: StateSnapshot,
  context: CatalogContext = ALONE,
  previous?: { readonly catalog: Catalog; readonly touched: Iterable<string> },
): Catalog {
  const names = new Set(previous?.touched ?? snapshot.services.keys());
  const before = previous && { index: previous.catalog.vipIndex, touched: names };
  const { index: vipIndex, changed } = indexVips(snapshot.services, context.pools, before);
  const touched = new Set([...names, ...changed]);
  const reach = new Reach(context);
  const services = BucketMap.from(previous?.catalog.services ?? new Map()).edit();
  for (const name of touched) {
    const record = vipIndex.records.get(name);
    if (record === undefined) services.delete(name);
    else services.set(name, serviceOf(record, snapshot.backends.get(name) ?? [], reach, vipIndex));
  }
  return {
    revision: snapshot.revision,
    services: services.build(),
    conflicts: vipIndex.conflicts,
    touched,
    vipIndex,
  };
}
