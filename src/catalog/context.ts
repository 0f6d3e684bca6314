/**
 * What the Catalog depends on beside the records: which nodes cannot be reached,
 * and which endpoints do not work. From it: whether a backend counts on this
 * node, and why it takes no connections. Knows no clock: who is unreachable,
 * and since when that counts, was decided before.
 */
import type { BackendRecord, Protocol, StateSnapshot } from '../state/records.ts';
import type { NodeRecord } from '../state/replica/schema.ts';
import { DEFAULT_POOLS, type VipPools } from './vips.ts';

export interface CatalogContext {
  readonly pools: VipPools;
  /** This node's id. */
  readonly self: string;
  /** By id: whose an address is. */
  readonly nodes: ReadonlyMap<string, Pick<NodeRecord, 'addresses'>>;
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

/** Why a backend takes no new connections, although its record says that it should. */
export type Down = 'unreachable' | 'unhealthy';

export function endpointText(address: string, port: number, protocol: Protocol): string {
  return `${address} ${port} ${protocol}`;
}

/** Addresses in records are canonical: 127.0.0.0/8 has one spelling, and so has ::1. */
export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}

/** The loopback of another host, which is not this one's: no backend here. */
export function isOfOtherHost(
  self: string,
  { node, address }: Pick<BackendRecord, 'node' | 'address'>,
): boolean {
  return node !== undefined && node !== self && isLoopback(address);
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

  /** Whether nothing is wrong with anybody. */
  get isCalm(): boolean {
    return this.#nodes.size === 0 && this.#unhealthy.size === 0;
  }

  /** Whether it counts on this node at all. */
  counts(backend: BackendRecord): boolean {
    return !isOfOtherHost(this.#self, backend);
  }

  /** A report about a backend whose node is unreachable is old: that it cannot be reached counts. */
  downOf({ node, address, port }: BackendRecord, protocol: Protocol): Down | undefined {
    const unreachable = node === undefined ? this.#addresses.has(address) : this.#nodes.has(node);
    if (unreachable) return 'unreachable';
    if (this.#unhealthy.size === 0) return undefined;
    return this.#unhealthy.has(endpointText(address, port, protocol)) ? 'unhealthy' : undefined;
  }
}

/** Services with a backend of these nodes, or at one of these addresses without a node. */
function servicesAt(
  snapshot: StateSnapshot,
  nodes: ReadonlySet<string>,
  addresses: ReadonlySet<string>,
): Set<string> {
  const names = new Set<string>();
  if (nodes.size === 0) return names;
  for (const [name, backends] of snapshot.backends) {
    for (const { node, address } of backends) {
      if (node === undefined ? !addresses.has(address) : !nodes.has(node)) continue;
      names.add(name);
      break;
    }
  }
  return names;
}

/** Services with a backend at one of these endpoints: `ADDRESS PORT`. */
function servicesWith(snapshot: StateSnapshot, places: ReadonlySet<string>): Set<string> {
  const names = new Set<string>();
  // No text is put together for each backend.
  const addresses = new Set([...places].map((text) => text.slice(0, text.indexOf(' '))));
  if (addresses.size === 0) return names;
  for (const [name, backends] of snapshot.backends) {
    for (const { address, port } of backends) {
      if (!addresses.has(address) || !places.has(`${address} ${port}`)) continue;
      names.add(name);
      break;
    }
  }
  return names;
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
  const claimed = [...addressesOf(before, nodes), ...addressesOf(after, nodes)];
  const names = servicesAt(snapshot, nodes, new Set(claimed));
  const broken = [...difference(before.unhealthy, after.unhealthy)];
  const places = new Set(broken.map((text) => text.slice(0, text.lastIndexOf(' '))));
  for (const name of servicesWith(snapshot, places)) names.add(name);
  return names;
}
