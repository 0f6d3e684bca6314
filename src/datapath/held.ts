/**
 * The tables read backwards: as the services of a Catalog that would plan exactly
 * them. For an agent that starts over what another one applied and cannot apply
 * all that it knows now. Entries that make no sense are left out.
 */
import type { CatalogBackend, CatalogPort, CatalogService } from '../catalog/catalog.ts';
import { endpointText } from '../catalog/context.ts';
import { formatIp } from '../net/ip.ts';
import type { Protocol } from '../state/records.ts';
import { backendState, bytesToKey, decodeVipKey, keyToBytes, protocolNumber } from './abi.ts';
import type { Member, Tables } from './tables.ts';

interface HeldPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** Of all VIPs, by address and port. */
  readonly backends: Map<string, CatalogBackend>;
  readonly vips: Set<string>;
}

function protocolOf(number: number): Protocol | undefined {
  const names = Object.keys(protocolNumber) as Protocol[];
  return names.find((name) => protocolNumber[name] === number);
}

function backendOf({ slot, backend }: Member): CatalogBackend {
  const { addr, port, state } = backend;
  const told = { address: formatIp(addr), port, weight: slot.weight };
  if (state === backendState.draining) return { ...told, state: 'draining' };
  if (state === backendState.active) return { ...told, state: 'active' };
  return { ...told, state: 'active', down: 'unreachable' };
}

function portOf(name: string, port: number, protocol: Protocol): HeldPort {
  return { name, port, protocol, backends: new Map(), vips: new Set() };
}

function serviceOf(name: string, held: readonly HeldPort[]): CatalogService {
  const vips = [...new Set(held.flatMap((port) => [...port.vips]))];
  const lost = held.flatMap((port) =>
    vips
      .filter((vip) => !port.vips.has(vip))
      .map((vip) => endpointText(vip, port.port, port.protocol)),
  );
  const ports = held.map((one): CatalogPort => {
    const { port, protocol, backends } = one;
    return { name: one.name, port, protocol, backends: [...backends.values()] };
  });
  return { name, vips, ports, ...(lost.length === 0 ? {} : { lost: new Set(lost) }) };
}

export function heldServices(tables: Tables): Map<string, CatalogService> {
  const services = new Map<string, Map<string, HeldPort>>();
  for (const [key, index] of tables.vips) {
    const name = tables.names.get(index);
    const isOwn = bytesToKey(tables.services.get(index).subarray(0, 20)) === key;
    if (name === undefined || !isOwn) continue;
    const vip = decodeVipKey(keyToBytes(key));
    const protocol = protocolOf(vip.protocol);
    if (protocol === undefined) continue;
    const ports = services.get(name.service) ?? new Map<string, HeldPort>();
    services.set(name.service, ports);
    const port = ports.get(name.port) ?? portOf(name.port, vip.port, protocol);
    if (port.port !== vip.port || port.protocol !== protocol) continue;
    ports.set(name.port, port);
    port.vips.add(formatIp(vip.addr));
    for (const member of tables.members(tables.service(index))) {
      if (member.backend.service !== index || member.backend.state === backendState.free) continue;
      const backend = backendOf(member);
      port.backends.set(`${backend.address} ${backend.port}`, backend);
    }
  }
  return new Map(
    [...services].map(([name, ports]) => [name, serviceOf(name, [...ports.values()])]),
  );
}
