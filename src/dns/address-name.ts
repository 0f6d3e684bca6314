/**
 * Addresses as names: `10-0-0-1.addr.DOMAIN`, `fd00--1.addr.DOMAIN` (targets of SRV), and
 * the reverse names of RFC 1035 3.5 and RFC 3596 2.5, whole or of a block of addresses.
 */
import { cidrContains, type Cidr } from '../net/cidr.ts';
import { familyOf, formatIp, parseIp, type Family, type IpBytes } from '../net/ip.ts';
import type { VipPools } from '../catalog/vips.ts';

/** The label of a canonical address. No hyphen at its ends, which some take for no host name: `::1` is `0--1`. */
export function addressLabel(address: string): string {
  if (!address.includes(':')) return address.replaceAll('.', '-');
  const label = address.replaceAll(':', '-');
  return `${label.startsWith('-') ? '0' : ''}${label}${label.endsWith('-') ? '0' : ''}`;
}

/** The canonical address of a label, or undefined if it is none. */
export function addressOfLabel(label: string): string | undefined {
  if (label.includes('.')) return undefined; // several labels
  const isV4 = /^\d+-\d+-\d+-\d+$/.test(label);
  const ip = parseIp(label.replaceAll('-', isV4 ? '.' : ':'));
  if (ip === undefined || (familyOf(ip) === 4) !== isV4) return undefined;
  return formatIp(ip);
}

/** What a reverse name is about. */
export interface Reverse {
  readonly family: Family;
  /** With zeros for what it leaves open. */
  readonly ip: IpBytes;
  /** Of the family: less than 32 or 128 is a block. */
  readonly bits: number;
  /** There are labels before the address: nobody's name. */
  readonly isBelow: boolean;
}

const V4_END = '.in-addr.arpa';
const V6_END = '.ip6.arpa';
const V4_LABELS = 4;
const V6_LABELS = 32;

function labelsBefore(name: string, end: string): string[] {
  return name.slice(0, -end.length).split('.').toReversed();
}

function reverseV4(name: string): Reverse | undefined {
  const labels = labelsBefore(name, V4_END);
  const ip = new Uint8Array(16);
  ip.fill(0xff, 10, 12);
  for (const [i, label] of labels.slice(0, V4_LABELS).entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(label) || Number(label) > 255) return undefined;
    ip[12 + i] = Number(label);
  }
  const bits = 8 * Math.min(labels.length, V4_LABELS);
  return { family: 4, ip, bits, isBelow: labels.length > V4_LABELS };
}

function reverseV6(name: string): Reverse | undefined {
  const labels = labelsBefore(name, V6_END);
  const ip = new Uint8Array(16);
  for (const [i, label] of labels.slice(0, V6_LABELS).entries()) {
    if (!/^[0-9a-f]$/.test(label)) return undefined;
    const at = i >> 1;
    ip[at] = (ip[at] ?? 0) | (Number.parseInt(label, 16) << (i % 2 === 0 ? 4 : 0));
  }
  const bits = 4 * Math.min(labels.length, V6_LABELS);
  return { family: 6, ip, bits, isBelow: labels.length > V6_LABELS };
}

export function readReverse(name: string): Reverse | undefined {
  if (name.endsWith(V4_END)) return reverseV4(name);
  return name.endsWith(V6_END) ? reverseV6(name) : undefined;
}

/** The canonical address, if it is of one. The mapped form is no name of an IPv4 address. */
export function addressOf({ family, ip, bits, isBelow }: Reverse): string | undefined {
  const isWhole = !isBelow && bits === (family === 4 ? 32 : 128);
  return isWhole && familyOf(ip) === family ? formatIp(ip) : undefined;
}

export function reverseName(address: string): string {
  const ip = parseIp(address) ?? new Uint8Array(16);
  if (familyOf(ip) === 4) return `${[...ip.subarray(12)].toReversed().join('.')}${V4_END}`;
  const nibbles = [...ip].flatMap((byte) => [byte >> 4, byte & 15]);
  return `${nibbles
    .toReversed()
    .map((nibble) => nibble.toString(16))
    .join('.')}${V6_END}`;
}

/** The pool that all that a reverse name is about is in. */
function poolOf({ family, ip, bits }: Reverse, pools: VipPools): Cidr | undefined {
  const pool = family === 4 ? pools.v4 : pools.v6;
  const isIn = bits >= pool.prefixLength && familyOf(ip) === family && cidrContains(pool, ip);
  return isIn ? pool : undefined;
}

/**
 * How many labels the reverse zone has that a name within the VIP pools belongs to:
 * the shortest name that is wholly of the pool, but never a whole address.
 * Undefined: nothing of ours.
 */
export function reverseZoneLabels(reverse: Reverse, pools: VipPools): number | undefined {
  const pool = poolOf(reverse, pools);
  if (pool === undefined) return undefined;
  const [labelBits, labelsMax] = reverse.family === 4 ? [8, V4_LABELS] : [4, V6_LABELS];
  return 2 + Math.min(labelsMax - 1, Math.max(1, Math.ceil(pool.prefixLength / labelBits)));
}
