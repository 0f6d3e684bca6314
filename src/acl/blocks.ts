/**
 * Blocks of addresses that lie within each other, for LPM tries: what holds for
 * a block holds for those within it, and an address has its most specific one.
 *
 * IPv4 lives in ::ffff:0:0/96. A trie does not know that ::/0 is IPv6 only, so
 * where a block of IPv6 swallows it, 0.0.0.0/0 is put in between, with nothing
 * of its own: addresses of one family never meet blocks of the other.
 */
import { bytesToKey } from '../datapath/abi.ts';
import type { Cidr } from '../net/cidr.ts';
import { familyOf, type Family, type IpBytes } from '../net/ip.ts';

export interface Block {
  readonly cidr: Cidr;
  /** Of the prefix among 128. */
  readonly bits: number;
  /** ≥ 1, in order of bits and then address. */
  readonly number: number;
  /** The most specific block around it. */
  readonly parent: Block | undefined;
}

export const EVERY_V4: Cidr = {
  family: 4,
  first: Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]),
  prefixLength: 0,
};
export const EVERY_V6: Cidr = { family: 6, first: new Uint8Array(16), prefixLength: 0 };

export function bitsOf(cidr: Cidr): number {
  return cidr.family === 4 ? 96 + cidr.prefixLength : cidr.prefixLength;
}

/** The first `bits` of an address; equal for all addresses of a block. */
function prefixKey(ip: IpBytes, bits: number): string {
  const whole = bits >> 3;
  const rest = bits & 7;
  const key = bytesToKey(ip.subarray(0, whole));
  return rest === 0 ? key : key + String.fromCharCode((ip[whole] ?? 0) & (0xff00 >> rest));
}

function keyOf(cidr: Cidr): string {
  const bits = bitsOf(cidr);
  return `${bits} ${prefixKey(cidr.first, bits)}`;
}

function swallowsV4(cidr: Cidr): boolean {
  const bits = bitsOf(cidr);
  return cidr.family === 6 && prefixKey(cidr.first, bits) === prefixKey(EVERY_V4.first, bits);
}

export class Blocks {
  /** By number. */
  readonly all: readonly Block[];
  /** Lengths that occur, longest first. */
  readonly #lengths: Readonly<Record<Family, readonly number[]>>;
  readonly #byKey = new Map<string, Block>();

  constructor(cidrs: Iterable<Cidr>) {
    const wanted = new Map<string, Cidr>();
    for (const cidr of cidrs) wanted.set(keyOf(cidr), cidr);
    if ([...wanted.values()].some(swallowsV4)) wanted.set(keyOf(EVERY_V4), EVERY_V4);
    const sorted = [...wanted].toSorted(
      ([a, one], [b, other]) => bitsOf(one) - bitsOf(other) || (a < b ? -1 : 1),
    );
    const lengths: Record<Family, Set<number>> = { 4: new Set(), 6: new Set() };
    const all: Block[] = [];
    for (const [key, cidr] of sorted) {
      const bits = bitsOf(cidr);
      const shorter = [...lengths[cidr.family]].toReversed();
      const block = {
        cidr,
        bits,
        number: all.length + 1,
        parent: this.#find(cidr.first, shorter, bits),
      };
      lengths[cidr.family].add(bits);
      this.#byKey.set(key, block);
      all.push(block);
    }
    this.all = all;
    this.#lengths = { 4: [...lengths[4]].toReversed(), 6: [...lengths[6]].toReversed() };
  }

  #find(ip: IpBytes, lengths: readonly number[], below: number): Block | undefined {
    for (const bits of lengths) {
      if (bits >= below) continue;
      const block = this.#byKey.get(`${bits} ${prefixKey(ip, bits)}`);
      if (block !== undefined) return block;
    }
    return undefined;
  }

  /** The most specific block that contains the address. */
  find(ip: IpBytes): Block | undefined {
    return this.#find(ip, this.#lengths[familyOf(ip)], 129);
  }

  get(cidr: Cidr): Block | undefined {
    return this.#byKey.get(keyOf(cidr));
  }
}
