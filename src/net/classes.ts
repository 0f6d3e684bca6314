/**
 * What kind of address an address is, by the special-purpose registries
 * (RFC 6890; RFC 4291 2.4): which ones can be a VIP, which ones a backend.
 */
import { familyOf, type IpBytes } from './ip.ts';

export type AddressClass =
  | 'unspecified'
  | 'this-network'
  | 'loopback'
  | 'link-local'
  | 'multicast'
  | 'broadcast'
  | 'reserved'
  | 'unicast';

function classOfV4(a: number, b: number, c: number, d: number): AddressClass {
  if (a === 0) return b + c + d === 0 ? 'unspecified' : 'this-network';
  if (a === 127) return 'loopback';
  if (a === 169 && b === 254) return 'link-local';
  if (a >= 224 && a < 240) return 'multicast';
  if (a + b + c + d === 4 * 255) return 'broadcast';
  return a >= 240 ? 'reserved' : 'unicast';
}

export function addressClass(ip: IpBytes): AddressClass {
  const [a = 0, b = 0] = ip;
  if (familyOf(ip) === 4) return classOfV4(ip[12] ?? 0, ip[13] ?? 0, ip[14] ?? 0, ip[15] ?? 0);
  if (a === 0xff) return 'multicast';
  if (a === 0xfe && (b & 0xc0) === 0x80) return 'link-local';
  if (ip.slice(0, 15).every((byte) => byte === 0)) {
    if (ip[15] === 0) return 'unspecified';
    if (ip[15] === 1) return 'loopback';
  }
  return 'unicast';
}

type Reasons = Readonly<Record<AddressClass, string | undefined>>;

const NO_VIP: Reasons = {
  unspecified: 'it is the unspecified address, which connect() takes for this host',
  'this-network': 'it is in 0.0.0.0/8, which names no host',
  loopback: 'it is a loopback address: every local service would vanish behind it',
  multicast: 'it is a multicast address',
  broadcast: 'it is the broadcast address',
  'link-local': 'it is link-local, valid only with an interface',
  reserved: undefined,
  unicast: undefined,
};

const NO_BACKEND: Reasons = {
  unspecified: 'it is the unspecified address: name the one the server is reached at',
  'this-network': 'it is in 0.0.0.0/8, which names no host',
  loopback: undefined,
  multicast: 'it is a multicast address',
  broadcast: 'it is the broadcast address',
  'link-local': 'it is link-local, valid on one link only',
  reserved: 'it is in 240.0.0.0/4, where VIPs live and no packet can be sent to',
  unicast: undefined,
};

/** Why `ip` cannot be a VIP, or undefined if it can. */
export function whyNoVip(ip: IpBytes): string | undefined {
  const kind = addressClass(ip);
  // connect() to fe80:: needs a scope id, which no VIP has; 169.254.0.0/16 needs none.
  return kind === 'link-local' && familyOf(ip) === 4 ? undefined : NO_VIP[kind];
}

/** Why no server can listen on `ip`, or undefined if one can. */
export function whyNoBackend(ip: IpBytes): string | undefined {
  return NO_BACKEND[addressClass(ip)];
}
