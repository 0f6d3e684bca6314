/**
 * Who may ask for names that are not ours: this host, and who the configuration names. An open
 * resolver would be everybody's tool (RFC 5358).
 */
import { cidrContains, type Cidr } from '../net/cidr.ts';
import { canonicalIp, familyOf, parseIp } from '../net/ip.ts';

/** A guess: clients of a host, and of a small network that it resolves for. */
const REMEMBERED_MAX = 4096;

export class Allowed {
  readonly #blocks: readonly Cidr[];
  #own: ReadonlySet<string> = new Set();
  /** By the client's address as the socket has it. */
  readonly #verdicts = new Map<string, boolean>();

  constructor(blocks: readonly Cidr[]) {
    this.#blocks = blocks;
  }

  /** Addresses that this host has now. False: they are those of before. */
  setOwn(addresses: Iterable<string>): boolean {
    const own = new Set([...addresses].map((one) => canonicalIp(withoutScope(one)) ?? one));
    if (own.size === this.#own.size && [...own].every((one) => this.#own.has(one))) return false;
    this.#own = own;
    this.#verdicts.clear();
    return true;
  }

  /** All of them, 18 bytes each: family, bits of the prefix in 128, first address. */
  get bytes(): Uint8Array<ArrayBuffer> {
    const hosts = [...this.#own].flatMap((one) => {
      const first = parseIp(one);
      return first === undefined ? [] : [[familyOf(first), 128, ...first]];
    });
    const blocks = this.#blocks.map(({ family, first, prefixLength }) => [
      family,
      prefixLength + (family === 4 ? 96 : 0),
      ...first,
    ]);
    return Uint8Array.from([...hosts, ...blocks].flat());
  }

  has(client: string): boolean {
    const known = this.#verdicts.get(client);
    if (known !== undefined) return known;
    const verdict = this.#judge(client);
    if (this.#verdicts.size >= REMEMBERED_MAX) this.#verdicts.clear();
    this.#verdicts.set(client, verdict);
    return verdict;
  }

  #judge(client: string): boolean {
    const ip = parseIp(withoutScope(client));
    if (ip === undefined) return false;
    const text = canonicalIp(withoutScope(client)) ?? '';
    return this.#own.has(text) || this.#blocks.some((block) => cidrContains(block, ip));
  }
}

/** `fe80::1%eth0` is `fe80::1`. */
function withoutScope(address: string): string {
  return address.split('%', 1)[0] ?? '';
}
