/**
 * VIP allocation: a function of the service's name and the addresses taken,
 * so that every node computes the same one.
 *
 * The n-th candidate for a name is a hash of (name, n): IPv4 takes it modulo the
 * block, IPv6 as the interface id of its /64. Never looks at a clock or a node.
 * Hash: FNV-1a, 64 bits (RFC 9923; Fowler, Noll, Vo), finished with
 * MurmurHash3's fmix64, because FNV alone hardly stirs the high bits of short keys.
 */
import { cidrContains, formatCidr, parseCidr, type Cidr } from '../net/cidr.ts';
import { formatIp, parseIp, type Family } from '../net/ip.ts';

export interface VipPools {
  readonly v4: Cidr;
  /** A /64. */
  readonly v6: Cidr;
}

function block(text: string): Cidr {
  const result = parseCidr(text);
  if (!result.ok) throw new Error(`bug: ${text} ${result.reason}`);
  return result.cidr;
}

/** The defaults of the configuration (src/config/schema.ts), where they are explained. */
export const DEFAULT_POOLS: VipPools = {
  v4: block('240.0.0.0/4'),
  v6: block('fd7a:6572:6f68:6f70::/64'),
};

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;
const MASK_64 = 0xffffffffffffffffn;

/** FNV-1a over the characters of an ASCII text. */
export function fnv1a64(text: string): bigint {
  let hash = FNV_OFFSET;
  for (let i = 0; i < text.length; i++) {
    hash = ((hash ^ BigInt(text.charCodeAt(i))) * FNV_PRIME) & MASK_64;
  }
  return hash;
}

/** fmix64 of MurmurHash3 (Appleby): every bit of the input moves half of the output. */
function fmix64(hash: bigint): bigint {
  let h = hash;
  h = ((h ^ (h >> 33n)) * 0xff51afd7ed558ccdn) & MASK_64;
  h = ((h ^ (h >> 33n)) * 0xc4ceb9fe1a85ec53n) & MASK_64;
  return h ^ (h >> 33n);
}

/** Attempt 0 is the name alone; later ones append `#n`, which no name contains. */
function candidateHash(name: string, attempt: number): bigint {
  return fmix64(fnv1a64(attempt === 0 ? name : `${name}#${attempt}`));
}

/** Hashed attempts before the whole block is walked; a guess, met only when a block is nearly full. */
const HASHED_ATTEMPTS = 64;

/** Numbers of addresses in an IPv4 block: up to 2^32, exact as a number. */
function sizeOf(cidr: Cidr): number {
  return 2 ** (32 - cidr.prefixLength);
}

/** Address number `offset` of an IPv4 block; undefined for the ones never given out. */
function v4At(cidr: Cidr, offset: number): string | undefined {
  const base = cidr.first.slice(12).reduce((sum, byte) => sum * 256 + byte, 0);
  const value = base + offset;
  const last = value % 256;
  // .0 and .255 look like network and broadcast addresses to people and to tools;
  // 255.255.255.255 is one of them.
  if (last === 0 || last === 255) return undefined;
  const octet = (shift: number): number => Math.floor(value / 2 ** shift) % 256;
  return `${octet(24)}.${octet(16)}.${octet(8)}.${last}`;
}

function allocateV4(name: string, cidr: Cidr, taken: (vip: string) => boolean): string | undefined {
  const size = sizeOf(cidr);
  const offsetOf = (attempt: number): number => Number(candidateHash(name, attempt) % BigInt(size));
  for (let attempt = 0; attempt < HASHED_ATTEMPTS; attempt++) {
    const vip = v4At(cidr, offsetOf(attempt));
    if (vip !== undefined && !taken(vip)) return vip;
  }
  const start = offsetOf(HASHED_ATTEMPTS);
  for (let step = 0; step < size; step++) {
    const vip = v4At(cidr, (start + step) % size);
    if (vip !== undefined && !taken(vip)) return vip;
  }
  return undefined;
}

function allocateV6(name: string, cidr: Cidr, taken: (vip: string) => boolean): string | undefined {
  for (let attempt = 0; attempt < HASHED_ATTEMPTS; attempt++) {
    let id = candidateHash(name, attempt);
    if (id === 0n) continue; // the subnet-router anycast address, RFC 4291 2.6.1
    const ip = Uint8Array.from(cidr.first);
    for (let index = 15; index >= 8; index--) {
      ip[index] = Number(id & 0xffn);
      id >>= 8n;
    }
    const vip = formatIp(ip);
    if (!taken(vip)) return vip;
  }
  return undefined;
}

export type Allocation =
  | { readonly ok: true; readonly vip: string }
  | { readonly ok: false; readonly reason: string };

/** The VIP of one family for `name`, given what others have. */
export function allocateVip(
  name: string,
  family: Family,
  pools: VipPools,
  taken: (vip: string) => boolean,
): Allocation {
  const cidr = family === 4 ? pools.v4 : pools.v6;
  const allocate = family === 4 ? allocateV4 : allocateV6;
  const vip = allocate(name, cidr, taken);
  if (vip !== undefined) return { ok: true, vip };
  return { ok: false, reason: `no IPv${family} VIP is left in ${formatCidr(cidr)}` };
}

export function inPools(pools: VipPools, address: string): boolean {
  const ip = parseIp(address);
  return ip !== undefined && (cidrContains(pools.v4, ip) || cidrContains(pools.v6, ip));
}
