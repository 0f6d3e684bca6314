/**
 * Every address that leads to a program of this host, in the agent's network
 * namespace: its own, its networks' broadcasts, the groups that it joined, and
 * whole blocks that a route makes local (`ip route add local 198.51.100.0/24 …`).
 * Read from /proc: os.networkInterfaces() leaves out interfaces without a
 * carrier (an idle docker0), whose addresses lead here all the same.
 */
import { readFileSync } from 'node:fs';
import { formatCidr, parseCidr } from '../../net/cidr.ts';
import { canonicalIp } from '../../net/ip.ts';

/** Looking again costs this share of the time at most; routing tables may be long. */
const timeShareMax = 0.02;

/**
 * Addresses and blocks that the routing tables deliver here
 * (Documentation/networking/fib_trie.rst). Blocks of numbered tables are not
 * among them: those are asked for some packets only, and transparent proxies
 * have `local 0.0.0.0/0` there.
 */
export function parseFibTrie(text: string): string[] {
  const found = new Set<string>();
  let address = '';
  let isNumbered = false;
  for (const line of text.split('\n')) {
    if (/^\S/.test(line)) isNumbered = line.startsWith('Id ');
    const leaf = /^\s*\|-- (\S+)/.exec(line);
    if (leaf?.[1] !== undefined) {
      address = leaf[1];
      continue;
    }
    const [, length, kind] = /^\s*\/(\d+) \S+ (LOCAL|BROADCAST)/.exec(line) ?? [];
    if (length === '32') found.add(address);
    else if (kind === 'LOCAL' && !isNumbered) found.add(`${address}/${length}`);
  }
  return [...found];
}

/**
 * As parseFibTrie(), of /proc/net/ipv6_route: address, prefix length, source,
 * its length, next hop, metric, references, use, flags (RTF_LOCAL is the first
 * bit), device. It does not tell tables apart, so ::/0 is taken for a
 * transparent proxy's.
 */
export function parseIpv6Route(text: string): string[] {
  const local = /^([0-9a-f]{32}) ([0-9a-f]{2}) \S+ \S+ \S+ \S+ \S+ \S+ [89a-f][0-9a-f]{7} /gm;
  return [...text.matchAll(local)].flatMap(([, digits = '', hex = '']) => {
    const length = Number.parseInt(hex, 16);
    if (length === 0) return [];
    return length === 128 ? [colons(digits)] : [`${colons(digits)}/${length}`];
  });
}

/** `20010db8…` as an address. */
function colons(digits: string): string {
  return digits.replace(/(....)(?=.)/g, '$1:');
}

/** Of /proc/net/if_inet6: 32 hexadecimal digits, then index, prefix length, scope, flags, name. */
export function parseIfInet6(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const digits = /^([0-9a-f]{32}) /.exec(line)?.[1];
    return digits === undefined ? [] : [colons(digits)];
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
    colons(digits),
  );
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // IPv6 is off
  }
}

/** Without 127.0.0.0/8, which is every host's. */
function canonicalBlock(text: string): string[] {
  const result = parseCidr(text);
  return result.ok && text !== '127.0.0.0/8' ? [formatCidr(result.cidr)] : [];
}

/** One file, and what was found in it: looked at each second or so, it hardly ever says anything new. */
class Source {
  readonly #path: string;
  readonly #parse: (text: string) => readonly string[];
  #text = '';
  #key = '';
  found: readonly string[] = [];

  constructor(path: string, parse: (text: string) => readonly string[]) {
    this.#path = path;
    this.#parse = parse;
  }

  /** Whether something else is found than before. */
  read(): boolean {
    const text = readOrNothing(this.#path);
    if (text === this.#text) return false;
    this.#text = text;
    // Counters and timers change too.
    this.found = this.#parse(text);
    const key = this.found.join();
    const isNews = key !== this.#key;
    this.#key = key;
    return isNews;
  }
}

class Sources {
  readonly #all = [
    new Source('/proc/net/fib_trie', parseFibTrie),
    new Source('/proc/net/if_inet6', parseIfInet6),
    new Source('/proc/net/ipv6_route', parseIpv6Route),
    new Source('/proc/net/igmp', parseIgmp),
    new Source('/proc/net/anycast6', parseIgmp6),
    new Source('/proc/net/igmp6', parseIgmp6),
  ];
  #list: readonly string[] = ['255.255.255.255'];

  /** Addresses and blocks, canonical, sorted; the same list until there is another one. */
  read(): readonly string[] {
    const isNews = this.#all.map((source) => source.read()).includes(true);
    if (!isNews) return this.#list;
    const all = [...this.#all.flatMap(({ found }) => found), '255.255.255.255'];
    const canonical = all.flatMap((text) => canonicalIp(text) ?? canonicalBlock(text));
    this.#list = [...new Set(canonical)].toSorted();
    return this.#list;
  }
}

export class LocalAddresses {
  readonly #sources = new Sources();
  #list: readonly string[] = this.#sources.read();
  #nextLookMs = 0;

  get list(): readonly string[] {
    return this.#list;
  }

  /** Looks again; whether anything changed. */
  refresh(): boolean {
    const before = performance.now();
    const list = this.#sources.read();
    const now = performance.now();
    this.#nextLookMs = now + (now - before) / timeShareMax;
    const changed = list !== this.#list && list.join() !== this.#list.join();
    this.#list = list;
    return changed;
  }

  /** As refresh(), unless the last look took so long that it is too early. */
  refreshIfCheap(): boolean {
    return performance.now() >= this.#nextLookMs && this.refresh();
  }
}
