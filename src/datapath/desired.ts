/**
 * Catalog → desired frontends: what the kernel should know, without any index.
 *
 * A frontend is one VIP, port and protocol; its targets are the backends of the
 * VIP's own address family.
 */
import type { CatalogBackend, CatalogPort, CatalogService } from '../catalog/catalog.ts';
import { isServed } from '../catalog/conflicts.ts';
import { familyOf, familyOfText, parseIp } from '../net/ip.ts';
import type { IpBytes } from '../net/ip.ts';
import { bytesToKey, encodeVipKey, protocolNumber } from './abi.ts';
import type { BackendState } from '../state/records.ts';

/** Down ones are kept, without a share: connected sockets are not touched. */
export type TargetState = BackendState | 'down';

export interface Target {
  /** 16 bytes as a string (abi.ts, bytesToKey). */
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  readonly state: TargetState;
}

export interface Frontend {
  /** struct zh_vip_key as a string. */
  readonly key: string;
  readonly service: string;
  readonly port: string;
  readonly targets: readonly Target[];
}

/** Of one address at a time. */
const scratch = new Uint8Array(16);

function ipOf(address: string, into?: IpBytes): IpBytes {
  const ip = parseIp(address, into);
  if (ip === undefined) throw new Error(`bug: record with address ${address}`);
  return ip;
}

function targetsOf(backends: readonly CatalogBackend[], family: 4 | 6): Target[] {
  const targets: Target[] = [];
  for (const backend of backends) {
    const { address, port, weight } = backend;
    if (familyOfText(address) !== family) continue;
    const state = backend.down === undefined ? backend.state : 'down';
    targets.push({ address: bytesToKey(ipOf(address, scratch)), port, weight, state });
  }
  return targets;
}

export function frontendKey(vip: IpBytes, port: number, protocol: number): string {
  return bytesToKey(encodeVipKey({ addr: vip, port, protocol }));
}

function frontendOf(service: CatalogService, port: CatalogPort, vip: IpBytes): Frontend {
  return {
    key: frontendKey(vip, port.port, protocolNumber[port.protocol]),
    service: service.name,
    port: port.name,
    targets: targetsOf(port.backends, familyOf(vip)),
  };
}

/** The frontends of one service; none when it is gone. */
export function frontendsOf(service: CatalogService | undefined): Frontend[] {
  if (service === undefined) return [];
  return service.vips.flatMap((vip) => {
    const ip = ipOf(vip);
    const ports = service.ports.filter((port) => isServed(service, vip, port));
    return ports.map((port) => frontendOf(service, port, ip));
  });
}

/** The zh_vips key under which a VIP's other ports are refused. */
export function anyPortKey(frontend: string): string {
  return `${frontend.slice(0, 16)}\0\0\0\0`;
}

export function isAnyPort(key: string): boolean {
  return key === anyPortKey(key);
}

/** Every frontend's key; no two services have the same. */
export function claimedKeys(wanted: ReadonlyMap<string, readonly Frontend[]>): Set<string> {
  const claimed = new Set<string>();
  for (const frontends of wanted.values()) {
    for (const { key, service, port } of frontends) {
      if (claimed.has(key))
        throw new Error(`bug: two services claim the VIP of ${service}:${port}`);
      claimed.add(key);
    }
  }
  return claimed;
}
