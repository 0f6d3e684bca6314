/**
 * Every address that leads to a program of this host, in the agent's network
 * namespace: its own, its networks' broadcasts, and the groups that it joined.
 * Read from /proc: os.networkInterfaces() leaves out interfaces without a
 * carrier (an idle docker0), whose addresses lead here all the same.
 */
import { readFileSync } from 'node:fs';
import { canonicalIp } from '../../net/ip.ts';

/** Looking again costs this share of the time at most; routing tables may be long. */
const timeShareMax = 0.02;

/** Addresses that the routing tables deliver here (Documentation/networking/fib_trie.rst). */
export function parseFibTrie(text: string): string[] {
  const found = new Set<string>();
  let address = '';
  for (const line of text.split('\n')) {
    const leaf = /^\s*\|-- (\S+)/.exec(line);
    if (leaf?.[1] !== undefined) address = leaf[1];
    else if (/^\s*\/32 (host LOCAL|link BROADCAST)/.test(line)) found.add(address);
  }
  return [...found];
}

/** Of /proc/net/if_inet6: 32 hexadecimal digits, then index, prefix length, scope, flags, name. */
export function parseIfInet6(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const digits = /^([0-9a-f]{32}) /.exec(line)?.[1];
    return digits === undefined ? [] : [digits.replace(/(....)(?=.)/g, '$1:')];
  });
}

/** Groups in /proc/net/igmp: the address as a number in host order, hexadecimal. */
export function parseIgmp(text: string): string[] {
  return [...text.matchAll(/^\s+([0-9A-F]{8}) /gm)].map(([, digits = '']) =>
    [6, 4, 2, 0].map((at) => Number.parseInt(digits.slice(at, at + 2), 16)).join('.'),
  );
}

/** Groups in /proc/net/igmp6, and /proc/net/anycast6: index, interface, address. */
export function parseIgmp6(text: string): string[] {
  return [...text.matchAll(/^\d+\s+\S+\s+([0-9a-f]{32}) /gm)].map(([, digits = '']) =>
    digits.replace(/(....)(?=.)/g, '$1:'),
  );
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // IPv6 is off
  }
}

/** Canonical, sorted. */
export function readLocalAddresses(): readonly string[] {
  const all = [
    ...parseFibTrie(readOrNothing('/proc/net/fib_trie')),
    ...parseIfInet6(readOrNothing('/proc/net/if_inet6')),
    ...parseIgmp(readOrNothing('/proc/net/igmp')),
    ...parseIgmp6(readOrNothing('/proc/net/anycast6')),
    ...parseIgmp6(readOrNothing('/proc/net/igmp6')),
    '255.255.255.255',
  ];
  const canonical = all.flatMap((text) => canonicalIp(text) ?? []);
  return [...new Set(canonical)].toSorted();
}

export class LocalAddresses {
  #list: readonly string[] = readLocalAddresses();
  #nextLookMs = 0;

  get list(): readonly string[] {
    return this.#list;
  }

  /** Looks again; whether anything changed. */
  refresh(): boolean {
    const before = performance.now();
    const list = readLocalAddresses();
    const now = performance.now();
    this.#nextLookMs = now + (now - before) / timeShareMax;
    const changed = list.join() !== this.#list.join();
    this.#list = list;
    return changed;
  }

  /** As refresh(), unless the last look took so long that it is too early. */
  refreshIfCheap(): boolean {
    return performance.now() >= this.#nextLookMs && this.refresh();
  }
}
