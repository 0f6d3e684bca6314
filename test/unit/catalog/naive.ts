/**
 * The Catalog by the rules of src/catalog/README.md, read off one by one: looks at
 * everything each time, and remembers nothing.
 */
import type { Catalog, CatalogBackend, CatalogService } from '../../../src/catalog/catalog.ts';
import type { Conflict } from '../../../src/catalog/conflicts.ts';
import type { CatalogContext } from '../../../src/catalog/context.ts';
import { allocateVip, inPools } from '../../../src/catalog/vips.ts';
import type { BackendRecord, Protocol, StateSnapshot } from '../../../src/state/records.ts';

type Down = 'unreachable' | 'unhealthy' | undefined;

const familyOf = (address: string): 4 | 6 => (address.includes(':') ? 6 : 4);
const isLoopback = (address: string): boolean => /^(127\.|::1$)/.test(address);

function downOf(backend: BackendRecord, protocol: Protocol, context: CatalogContext): Down {
  const { node, address, port } = backend;
  const owners =
    node === undefined
      ? [...context.nodes].filter(([, one]) => one.addresses.includes(address)).map(([id]) => id)
      : [node];
  const reachable = owners.filter((id) => id === context.self || !context.unreachable.has(id));
  if (owners.length > 0 && reachable.length === 0) return 'unreachable';
  return context.unhealthy.has(`${address} ${port} ${protocol}`) ? 'unhealthy' : undefined;
}

function portsOf(
  snapshot: StateSnapshot,
  context: CatalogContext,
  name: string,
  vips: readonly string[],
): CatalogService['ports'] {
  return (snapshot.services.get(name)?.ports ?? []).map((port) => {
    const backends: readonly BackendRecord[] = (snapshot.backends.get(name) ?? []).filter(
      (one) =>
        one.portName === port.name &&
        !(isLoopback(one.address) && one.node !== undefined && one.node !== context.self),
    );
    let failOpen = false;
    const seen = backends.map((backend): CatalogBackend => {
      const family = familyOf(backend.address);
      const peers = backends.filter(
        (one) => one.state === 'active' && one.weight > 0 && familyOf(one.address) === family,
      );
      const down = downOf(backend, port.protocol, context);
      const isOpen =
        vips.some((vip) => familyOf(vip) === family) &&
        peers.includes(backend) &&
        peers.every((one) => downOf(one, port.protocol, context) !== undefined);
      if (isOpen) failOpen = true;
      return down === undefined || isOpen ? backend : { ...backend, down };
    });
    return { ...port, backends: seen, ...(failOpen ? { failOpen } : {}) };
  });
}

export function naiveCatalog(
  snapshot: StateSnapshot,
  context: CatalogContext,
): { readonly services: Map<string, CatalogService>; readonly conflicts: readonly Conflict[] } {
  const conflicts: Conflict[] = [];
  const services = new Map<string, CatalogService>();
  const records = [...snapshot.services.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const recorded = new Set(records.flatMap(({ vips }) => vips));
  const given = new Set<string>();
  for (const { name, ports, vips: wanted } of records) {
    const smaller = records.filter((one) => one.name < name);
    const vips: string[] = [];
    const lost = new Set<string>();
    for (const vip of wanted) {
      const rivals = smaller.filter((one) => one.vips.includes(vip));
      const winner = rivals[0]?.name;
      if (inPools(context.pools, vip)) {
        if (winner === undefined) {
          vips.push(vip);
          continue;
        }
        const now = allocateVip(
          name,
          familyOf(vip),
          context.pools,
          (one) => recorded.has(one) || given.has(one),
        );
        if (now.ok) {
          vips.push(now.vip);
          given.add(now.vip);
        }
        const conflict = { vip, kind: 'reassigned', services: [winner, name] } as const;
        conflicts.push(now.ok ? { ...conflict, now: now.vip } : conflict);
        continue;
      }
      vips.push(vip);
      for (const { port, protocol } of ports) {
        const first = rivals.find((one) =>
          one.ports.some((other) => other.port === port && other.protocol === protocol),
        );
        if (first === undefined) continue;
        lost.add(`${vip} ${port} ${protocol}`);
        conflicts.push({ vip, kind: 'port', services: [first.name, name], port, protocol });
      }
    }
    const listed = portsOf(snapshot, context, name, vips);
    services.set(name, { name, vips, ports: listed, ...(lost.size > 0 ? { lost } : {}) });
  }
  const order = ({ vip, services: [, loser], port = 0, protocol }: Conflict): string =>
    `${vip} ${loser} ${String(port).padStart(5, '0')} ${protocol ?? ''}`;
  conflicts.sort((a, b) => (order(a) < order(b) ? -1 : 1));
  return { services, conflicts };
}

/** What naiveCatalog() answers, of a Catalog. */
export function plain({ services, conflicts }: Pick<Catalog, 'services' | 'conflicts'>): unknown {
  return { services: new Map(services), conflicts };
}
