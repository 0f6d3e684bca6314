/**
 * Which address of this host other members dial, and which ones are the host's own: from what the
 * operator set, what is listened on, and the interfaces. Never looks at the host itself.
 */
import { addressClass } from '../net/classes.ts';
import { canonicalIp, familyOf, formatIp, parseIp } from '../net/ip.ts';
import { ProblemError } from '../state/problem.ts';
import { formatAddress, parseAddress, type HostPort } from './address.ts';

/** As os.networkInterfaces() tells them. */
export interface Interface {
  readonly name: string;
  readonly address: string;
  readonly internal: boolean;
}

/** Of containers and virtual machines of this host: others rarely get there. */
const VIRTUAL = /^(docker\d|br-[0-9a-f]{12}|virbr|veth|cni|flannel|cali|lxc|lxdbr|podman|vnet)/;

/** Of a host; a guess. */
const ADDRESSES_MAX = 256;

/** Those that name this host from elsewhere: no loopback, no link-local; once each, in a fixed order. */
export function hostAddresses(interfaces: readonly Interface[]): string[] {
  const all = usable(interfaces).map(({ address }) => address);
  return [...new Set(all)].sort().slice(0, ADDRESSES_MAX);
}

/**
 * IP:PORT for others to dial; undefined when every address of this host is its own affair.
 * `advertise` is IP or IP:PORT as configured. Throws ProblemError.
 */
export function advertisedAddress(
  advertise: string | undefined,
  bound: HostPort,
  interfaces: readonly Interface[],
): string | undefined {
  if (advertise !== undefined) return configured(advertise, bound.port);
  const ip = parseIp(bound.host);
  if (ip === undefined || addressClass(ip) !== 'unspecified') return formatAddress(bound);
  const isV4 = familyOf(ip) === 4; // `::` takes both
  const found = usable(interfaces).filter(({ family }) => !isV4 || family === 4);
  const [best] = found.toSorted(
    (a, b) => Number(a.isVirtual) - Number(b.isVirtual) || a.family - b.family,
  );
  return best === undefined ? undefined : formatAddress({ host: best.address, port: bound.port });
}

/**
 * Where programs of this host are reached by others: at the address that members dial, and at one of
 * the other family on the same interface. Behind NAT nothing is known of the other family.
 */
export function reachedAt(address: string, interfaces: readonly Interface[]): string[] {
  const { host } = parseAddress(address);
  const all = usable(interfaces);
  const own = all.find((one) => one.address === host);
  const other = own && all.find(({ name, family }) => name === own.name && family !== own.family);
  return other === undefined ? [host] : [host, other.address];
}

function configured(text: string, port: number): string {
  const alone = canonicalIp(text);
  if (alone !== undefined) return formatAddress({ host: alone, port });
  const { host, port: given } = parseAddress(text);
  const ip = canonicalIp(host);
  if (ip === undefined) {
    const message = `"${text}" is not an address that other members can dial`;
    const hint = 'write an IP address of this host, with a port or without: 10.0.0.7:7946';
    throw new ProblemError([{ code: 'invalid', message, path: 'cluster.advertise', hint }]);
  }
  return formatAddress({ host: ip, port: /\]?:\d+$/.test(text) ? given : port });
}

function usable(interfaces: readonly Interface[]) {
  return interfaces.flatMap(({ name, address, internal }) => {
    const ip = parseIp(address.split('%', 1)[0] ?? '');
    if (internal || ip === undefined || addressClass(ip) !== 'unicast') return [];
    return [{ name, address: formatIp(ip), family: familyOf(ip), isVirtual: VIRTUAL.test(name) }];
  });
}
