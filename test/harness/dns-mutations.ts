/**
 * DNS messages as attackers, broken programs and bad memory make them: well-formed ones, with
 * bytes changed, cut off, put in, lengths and pointers that lie. From dice, so that a run can be
 * had again. Knows nothing of src/dns.
 */
import type { Dice } from './random.ts';

const HEADER_BYTES = 12;
/** Longer ones are cut: what is beyond is nobody's interest. */
const MESSAGE_BYTES_MAX = 2048;
/** A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, LOC, SRV, NAPTR, DS, RRSIG, DNSKEY, HTTPS, TSIG, IXFR, AXFR, ANY, unknown. */
const TYPES = [
  1, 1, 1, 28, 28, 2, 5, 6, 12, 13, 15, 16, 29, 33, 33, 35, 43, 46, 48, 65, 250, 251, 252, 255, 999,
];
const TELLING_BYTES = [0, 1, 12, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xff];

export function word(value: number): readonly [number, number] {
  return [(value >> 8) & 255, value & 255];
}

export function nameBytes(name: string): number[] {
  const labels = name === '' ? [] : name.split('.');
  return [...labels.flatMap((label) => [label.length, ...Buffer.from(label, 'latin1')]), 0];
}

/** One question; `flags` are bytes 2 and 3. */
export function queryBytes(name: string, type: number, flags = 0x0100, qclass = 1): number[] {
  const head = [0, 0, ...word(flags), 0, 1, 0, 0, 0, 0, 0, 0];
  return [...head, ...nameBytes(name), ...word(type), ...word(qclass)];
}

export class Mutator {
  readonly dice: Dice;
  readonly #names: readonly string[];
  #made = 0;

  constructor(dice: Dice, names: readonly string[]) {
    this.dice = dice;
    this.#names = names;
  }

  /** A message of somebody; a fifth of them are as they should be. */
  message(): Uint8Array {
    const { dice } = this;
    if (dice.below(20) === 0) return Uint8Array.from(this.#noise(dice.below(300)));
    const bytes = this.#query();
    for (let times = dice.below(5); times > 0; times--) this.#change(bytes);
    return Uint8Array.from(bytes.slice(0, MESSAGE_BYTES_MAX));
  }

  /** Some of these bytes changed; the first `kept` are not. */
  mutated(message: Uint8Array, kept = 0): Uint8Array {
    const bytes = [...message];
    for (let times = 1 + this.dice.below(4); times > 0; times--) this.#change(bytes, kept);
    return Uint8Array.from(bytes.slice(0, 65_535));
  }

  #query(): number[] {
    const { dice } = this;
    const flags = dice.pick([0, 0, 0x0100, 0x0100, 0x0100, 0x0120, 0x0110, 0x8000, 0x2000, 0x7970]);
    const qclass = dice.pick([1, 1, 1, 1, 1, 1, 3, 255]);
    const bytes = queryBytes(this.#name(), dice.pick(TYPES), flags, qclass);
    if (dice.below(3) > 0) this.#addEdns(bytes);
    return bytes;
  }

  #name(): string {
    const { dice } = this;
    const name = dice.pick(this.#names);
    switch (dice.below(6)) {
      case 0:
        return `x${this.#made++}.${name}`.slice(-250);
      case 1:
        return name.replaceAll(/[a-z]/g, (c) => (dice.below(2) === 0 ? c.toUpperCase() : c));
      default:
        return name;
    }
  }

  #addEdns(bytes: number[]): void {
    const { dice } = this;
    const options = Array.from({ length: dice.below(3) }, () => {
      const data = this.#noise(dice.below(24));
      return [...word(dice.pick([3, 8, 9, 10, 11, 12, 15, 100])), ...word(data.length), ...data];
    }).flat();
    const size = dice.pick([0, 1, 511, 512, 1232, 4096, 65_535]);
    const version = dice.below(8) === 0 ? 1 + dice.below(255) : 0;
    const flags = dice.pick([0, 0, 0x80, 0x40, 0xff]);
    bytes[11] = 1;
    bytes.push(0, 0, 41, ...word(size), 0, version, flags, 0, ...word(options.length), ...options);
  }

  #noise(length: number): number[] {
    return Array.from({ length }, () => this.dice.below(256));
  }

  #change(bytes: number[], kept = 0): void {
    const { dice } = this;
    if (bytes.length <= kept) return;
    const at = kept + dice.below(bytes.length - kept);
    switch (dice.below(10)) {
      case 0:
        bytes[at] = dice.below(256);
        break;
      case 1:
        bytes[at] = dice.pick(TELLING_BYTES);
        break;
      case 2:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.below(8));
        break;
      case 3:
        bytes.length = at;
        break;
      case 4:
        bytes.splice(at, 0, ...this.#noise(dice.below(20)));
        break;
      case 5:
        bytes.splice(at, dice.below(8));
        break;
      case 6: // a pointer, mostly within the message
        bytes.splice(at, 2, 0xc0 | dice.below(2), dice.below(Math.min(256, bytes.length + 4)));
        break;
      case 7: // a count that lies
        if (kept < HEADER_BYTES && bytes.length > HEADER_BYTES)
          bytes[5 + 2 * dice.below(4)] = dice.below(5);
        else bytes[at] = dice.below(256);
        break;
      case 8: // a part of it twice
        bytes.push(...bytes.slice(at, at + dice.below(60)));
        break;
      default: // all of it twice
        if (bytes.length < 600) bytes.push(...bytes.slice(HEADER_BYTES));
    }
  }
}
