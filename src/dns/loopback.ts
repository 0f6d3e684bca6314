/**
 * Names of this host to itself, the same everywhere: `localhost` with all below it, and the names that
 * loopback addresses have. No server on the way has anything to say of them, or is to hear of them
 * (RFC 6761 6.3, RFC 6303 4.2 and 4.3). Beside them the names that DNS has nowhere: `invalid` (RFC 6761
 * 6.4), and `onion`, which would tell others what somebody wants to hide (RFC 7686 2); who has a server
 * for them says so (dns.forward).
 */
import { isWithin } from './names.ts';
import type { UserRecord } from './rows.ts';

export interface LoopbackName {
  /** None: there is no such name, or (isThere) it is on the way to another. */
  readonly records: readonly UserRecord[];
  readonly isThere: boolean;
  /** Of the zone that it is in. */
  readonly zoneLabels: number;
}

const LOCALHOST = 'localhost';
const NOWHERE = ['invalid', 'onion'];
const V4_ZONE = '127.in-addr.arpa';
const V4_NAME = `1.0.0.${V4_ZONE}`;
const V6_NAME = `1.${'0.'.repeat(31)}ip6.arpa`;

/** A name that DNS does not have, unless somebody here says that it does. */
export function isNowhere(name: string): boolean {
  return NOWHERE.some((top) => isWithin(name, top));
}

/** Undefined of all other names. */
export function loopbackName(name: string): LoopbackName | undefined {
  if (isWithin(name, LOCALHOST)) {
    const records = [
      { name, type: 'A', data: ['127.0.0.1'] },
      { name, type: 'AAAA', data: ['::1'] },
    ];
    return { records, isThere: true, zoneLabels: 1 };
  }
  if (isNowhere(name)) return { records: [], isThere: false, zoneLabels: 1 };
  const isV4 = isWithin(name, V4_ZONE);
  if (!isV4 && !isWithin(name, V6_NAME)) return undefined;
  const isAddress = name === V4_NAME || name === V6_NAME;
  const records = isAddress ? [{ name, type: 'PTR', data: [LOCALHOST] }] : [];
  return { records, isThere: isWithin(V4_NAME, name) || isAddress, zoneLabels: isV4 ? 3 : 34 };
}
