/**
 * CIDR blocks (RFC 4632, RFC 4291 2.3) over the 16-byte form of net/ip.ts.
 */
import { familyOf, formatIp, parseIp, type Family, type IpBytes } from './ip.ts';

export interface Cidr {
  readonly family: Family;
  /** First address of the block. */
  readonly first: IpBytes;
  /** In bits of the family: 0–32 or 0–128. */
  readonly prefixLength: number;
}

/** Where the block's prefix ends within the 16 bytes. */
function prefixBits(cidr: Pick<Cidr, 'family' | 'prefixLength'>): number {
  return cidr.family === 4 ? 96 + cidr.prefixLength : cidr.prefixLength;
}

/** `ip` with every bit after the first `bits` cleared. */
function masked(ip: IpBytes, bits: number): IpBytes {
  return ip.map((byte, index) => {
    const keep = Math.min(8, Math.max(0, bits - index * 8));
    return byte & (0xff << (8 - keep)) & 0xff;
  });
}

export type CidrResult =
  | { readonly ok: true; readonly cidr: Cidr }
  | { readonly ok: false; readonly reason: string };

/** Reads `240.0.0.0/4` or `fd00::/64`; bits after the prefix must be zero. */
export function parseCidr(text: string): CidrResult {
  const slash = text.lastIndexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  const length = slash < 0 ? '' : text.slice(slash + 1);
  if (ip === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(length)) {
    return { ok: false, reason: 'is not a block like 240.0.0.0/4 or fd00::/64' };
  }
  const family = familyOf(ip);
  const prefixLength = Number(length);
  const lengthMax = family === 4 ? 32 : 128;
  if (prefixLength > lengthMax) {
    return { ok: false, reason: `has a prefix longer than ${lengthMax} bits` };
  }
  const first = masked(ip, prefixBits({ family, prefixLength }));
  if (first.some((byte, index) => byte !== ip[index])) {
    return { ok: false, reason: `has bits after its prefix: write ${formatIp(first)}/${length}` };
  }
  return { ok: true, cidr: { family, first, prefixLength } };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.first)}/${cidr.prefixLength}`;
}

export function cidrContains(cidr: Cidr, ip: IpBytes): boolean {
  if (familyOf(ip) !== cidr.family) return false;
  let bits = prefixBits(cidr);
  for (let index = 0; bits > 0; index++, bits -= 8) {
    const differ = (ip[index] ?? 0) ^ (cidr.first[index] ?? 0);
    if (differ >> Math.max(0, 8 - bits) !== 0) return false;
  }
  return true;
}
