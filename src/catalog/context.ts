/**
 * What the Catalog depends on beside the records: which nodes cannot be reached,
 * and which endpoints do not work. From it: whether a backend counts on this
 * node, and why it takes no connections. Knows no clock: who is unreachable,
 * and since when that counts, was decided before.
 */
import type { BackendRecord, Protocol, StateSnapshot } from '../state/records.ts';
import { DEFAULT_POOLS, type VipPools } from './vips.ts';

export interface CatalogContext {
  readonly pools: VipPools;
  /** This node's id. */
  readonly self: string;
  /** NodeRecords by id: whose an address is. */
  readonly nodes: ReadonlyMap<string, { readonly addresses: readonly string[] }>;
  /** Ids. */
  readonly unreachable: ReadonlySet<string>;
  /**
   * endpointText() of those that the node that has them found not to work. Of
   * loopback addresses: what this node found, for they are its own.
   */
  readonly unhealthy: ReadonlySet<string>;
}

/** A host in no cluster, with the default pools. */
export const ALONE: CatalogContext = {
  pools: DEFAULT_POOLS,
  self: 'local',
  nodes: new Map(),
  unreachable: new Set(),
  unhealthy: new Set(),
};

/** `node`: with whose process it lives; without one an operator's, for all. */
type Registered = BackendRecord & { readonly node?: string };

/** Why a backend takes no new connections, although its record says that it should. */
export type Down = 'unreachable' | 'unhealthy';

export function endpointText(address: string, port: number, protocol: Protocol): string {
  return `${address} ${port} ${protocol}`;
}

/** Addresses in records are canonical: 127.0.0.0/8 has one spelling, and so has ::1. */
function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}

function* addressesOf(context: CatalogContext, nodes: Iterable<string>): Iterable<string> {
  for (const id of nodes) yield* context.nodes.get(id)?.addresses ?? [];
}

/** Where a context says something about backends; made once for many of them. */
export class Reach {
  readonly #self: string;
  readonly #nodes: ReadonlySet<string>;
  /** Claimed by nodes, all of them unreachable. */
  readonly #addresses: ReadonlySet<string>;
  readonly #unhealthy: ReadonlySet<string>;

  constructor(context: CatalogContext) {
    this.#self = context.self;
    this.#unhealthy = context.unhealthy;
    const nodes = new Set(context.unreachable);
    nodes.delete(context.self);
    this.#nodes = nodes;
    const addresses = new Set(addressesOf(context, nodes));
    if (addresses.size > 0) {
      const others = [...context.nodes.keys()].filter((id) => !nodes.has(id));
      for (const address of addressesOf(context, others)) addresses.delete(address);
    }
    this.#addresses = addresses;
  }

  /** Whether it counts on this node at all: the loopback of another host is not this one's. */
  counts({ node, address }: Registered): boolean {
    return node === undefined || node === this.#self || !isLoopback(address);
  }

  /** A report about a backend whose node is unreachable is old: that it cannot be reached counts. */
  downOf({ node, address, port }: Registered, protocol: Protocol): Down | undefined {
    const unreachable = node === undefined ? this.#addresses.has(address) : this.#nodes.has(node);
    if (unreachable) return 'unreachable';
    if (this.#unhealthy.size === 0) return undefined;
    return this.#unhealthy.has(endpointText(address, port, protocol)) ? 'unhealthy' : undefined;
  }
}

function servicesWith(
  snapshot: StateSnapshot,
  matches: (backend: Registered) => boolean,
): Set<string> {
  const names = new Set<string>();
  for (const [name, backends] of snapshot.backends) if (backends.some(matches)) names.add(name);
  return names;
}

/**
 * The services whose Catalog entry may change when these nodes come, go or
 * change. When their addresses change: those of both contexts.
 */
export function servicesOfNodes(
  snapshot: StateSnapshot,
  context: CatalogContext,
  nodes: ReadonlySet<string>,
): Set<string> {
  if (nodes.size === 0) return new Set();
  const addresses = new Set(addressesOf(context, nodes));
  return servicesWith(snapshot, ({ node, address }) =>
    node === undefined ? addresses.has(address) : nodes.has(node),
  );
}

/** What is in one of them alone. */
function difference(a: ReadonlySet<string>, b: ReadonlySet<string>): Set<string> {
  if (a === b) return new Set();
  return new Set([...a].filter((one) => !b.has(one)).concat([...b].filter((one) => !a.has(one))));
}

function sameList(a: readonly string[] = [], b: readonly string[] = []): boolean {
  return a === b || (a.length === b.length && a.every((text, i) => text === b[i]));
}

/** Nodes that may make a difference between two contexts. */
function nodesBetween(before: CatalogContext, after: CatalogContext): Set<string> {
  // Who has an address matters only while somebody cannot be reached.
  if (before.unreachable.size === 0 && after.unreachable.size === 0) return new Set();
  const nodes = difference(before.unreachable, after.unreachable);
  if (before.nodes === after.nodes) return nodes;
  for (const id of new Set([...before.nodes.keys(), ...after.nodes.keys()])) {
    const [was, is] = [before.nodes.get(id), after.nodes.get(id)];
    if (was !== is && !sameList(was?.addresses, is?.addresses)) nodes.add(id);
  }
  return nodes;
}

/** The services whose Catalog entry may differ between two contexts, as `touched` of buildCatalog. */
export function servicesBetween(
  snapshot: StateSnapshot,
  before: CatalogContext,
  after: CatalogContext,
): Set<string> {
  if (before.self !== after.self) return new Set(snapshot.services.keys());
  const nodes = nodesBetween(before, after);
  const endpoints = difference(before.unhealthy, after.unhealthy);
  // Protocols aside, so that no text is put together for each backend.
  const places = new Set([...endpoints].map((text) => text.slice(0, text.lastIndexOf(' '))));
  const addresses = new Set([...places].map((text) => text.slice(0, text.indexOf(' '))));
  const names = servicesOfNodes(snapshot, before, nodes);
  for (const name of servicesOfNodes(snapshot, after, nodes)) names.add(name);
  if (addresses.size === 0) return names;
  const unhealthy = servicesWith(
    snapshot,
    ({ address, port }) => addresses.has(address) && places.has(`${address} ${port}`),
  );
  for (const name of unhealthy) names.add(name);
  return names;
}
