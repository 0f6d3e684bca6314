/**
 * What other hosts say is down, and whom of them this host believes: the node whose program a
 * backend is; of one that is nobody's, the nodes that have its address, if all that can be reached
 * say so. For its own addresses a host believes itself alone, as several may have one (a container
 * bridge, a floating address), and for loopback too.
 */
import { isLoopback, type CatalogContext } from '../catalog/context.ts';
import type { StateSnapshot } from '../state/records.ts';

export interface Situation extends Pick<CatalogContext, 'self' | 'nodes' | 'unreachable'> {
  readonly snapshot: StateSnapshot;
  /** Of this host. */
  readonly addresses: ReadonlySet<string>;
}

function add(map: Map<string, Set<string>>, key: string, value: string): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, new Set([value]));
  else values.add(value);
}

/** `ADDRESS PORT PROTOCOL` → `ADDRESS PORT`, and `ADDRESS`. */
const placeOf = (endpoint: string): string => endpoint.slice(0, endpoint.lastIndexOf(' '));
const addressOf = (endpoint: string): string => endpoint.slice(0, endpoint.indexOf(' '));

export class Hearsay {
  /** Endpoint → nodes that say that it is down. */
  readonly #said = new Map<string, Set<string>>();
  #owners: { readonly of: StateSnapshot; readonly nodes: Map<string, Set<string>> } | undefined;
  #claims:
    | { readonly of: Situation['nodes']; readonly nodes: Map<string, Set<string>> }
    | undefined;

  hear(origin: string, endpoint: string, isDown: boolean): void {
    if (isDown) return add(this.#said, endpoint, origin);
    const origins = this.#said.get(endpoint);
    origins?.delete(origin);
    if (origins?.size === 0) this.#said.delete(endpoint);
  }

  clear(): void {
    this.#said.clear();
  }

  /** Endpoints that are down by what was heard. */
  believed(now: Situation): Set<string> {
    const found = new Set<string>();
    for (const [endpoint, origins] of this.#said)
      if (this.#isBelieved(endpoint, origins, now)) found.add(endpoint);
    return found;
  }

  #isBelieved(endpoint: string, origins: ReadonlySet<string>, now: Situation): boolean {
    const address = addressOf(endpoint);
    if (isLoopback(address) || now.addresses.has(address)) return false;
    const claimants = this.#claimants(now.nodes).get(address) ?? new Set<string>();
    const reachable = [...claimants].filter((id) => !now.unreachable.has(id));
    if (reachable.length > 0 && reachable.every((id) => origins.has(id))) return true;
    const owners = this.#ownersOf(now.snapshot).get(placeOf(endpoint));
    return owners !== undefined && [...owners].some((id) => id !== now.self && origins.has(id));
  }

  /** By address. */
  #claimants(nodes: Situation['nodes']): Map<string, Set<string>> {
    if (this.#claims?.of === nodes) return this.#claims.nodes;
    const claims = new Map<string, Set<string>>();
    for (const [id, { addresses }] of nodes) for (const one of addresses) add(claims, one, id);
    this.#claims = { of: nodes, nodes: claims };
    return claims;
  }

  /** By `ADDRESS PORT`. Only asked for when addresses did not settle it. */
  #ownersOf(snapshot: StateSnapshot): Map<string, Set<string>> {
    if (this.#owners?.of === snapshot) return this.#owners.nodes;
    const owners = new Map<string, Set<string>>();
    for (const list of snapshot.backends.values())
      for (const { node, address, port } of list)
        if (node !== undefined) add(owners, `${address} ${port}`, node);
    this.#owners = { of: snapshot, nodes: owners };
    return owners;
  }
}
