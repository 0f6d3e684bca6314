/**
 * IP addresses as text and as the 16 network-order bytes that the maps use.
 *
 * IPv4 is a v4-mapped IPv6 address there (RFC 4291, 2.5.5.2), and canonical
 * text is dotted for IPv4 and RFC 5952 for IPv6. Never resolves names.
 */

/** 16 bytes, network order; `::ffff:a.b.c.d` for IPv4. */
export type IpBytes = Uint8Array;

export type Family = 4 | 6;

/** Into `bytes`, from 12 on. By hand: a host with 100,000 backends reads each several times. */
function readV4(text: string, bytes: IpBytes): boolean {
  let at = 12;
  let value = -1;
  for (let i = 0; i <= text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit >= 0 && digit <= 9) {
      // "010" is octal to some parsers and decimal to others: refuse it.
      if (value === 0) return false;
      value = Math.max(value, 0) * 10 + digit;
      if (value > 255) return false;
    } else if (value >= 0 && at < 16 && (i === text.length || text[i] === '.')) {
      bytes[at++] = value;
      value = -1;
    } else {
      return false;
    }
  }
  return at === 16;
}

function parseV4(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(16);
  return readV4(text, bytes) ? bytes.subarray(12) : undefined;
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  let [from, value] = [0, 0];
  for (let i = 0; i <= text.length; i++) {
    const code = i < text.length ? text.charCodeAt(i) : COLON;
    if (code === COLON) {
      if (i === from || i - from > 4) return undefined;
      groups.push(value);
      [from, value] = [i + 1, 0];
    } else if (code === DOT) {
      const v4 = parseV4(text.slice(from)); // nothing comes after it
      if (v4 === undefined) return undefined;
      const [a = 0, b = 0, c = 0, d = 0] = v4;
      groups.push(a * 256 + b, c * 256 + d);
      return groups;
    } else {
      const digit = hexDigit(code);
      if (digit < 0) return undefined;
      value = value * 16 + digit;
    }
  }
  return groups;
}

const COLON = 0x3a;
const DOT = 0x2e;

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20; // lower case
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

function parseV6(text: string): number[] | undefined {
  const gap = text.indexOf('::');
  if (gap < 0) {
    const groups = parseGroups(text);
    return groups?.length === 8 ? groups : undefined;
  }
  const head = parseGroups(text.slice(0, gap));
  const tail = parseGroups(text.slice(gap + 2));
  if (head === undefined || tail === undefined || head.length + tail.length > 7) return undefined;
  if (text.slice(0, gap).includes('.')) return undefined;
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
}

/** The 16 bytes of an IPv4 or IPv6 address, or undefined if `text` is none (zone ids included); `bytes`, if given. */
export function parseIp(text: string, bytes: IpBytes = new Uint8Array(16)): IpBytes | undefined {
  if (!text.includes(':')) {
    bytes.fill(0, 0, 10);
    bytes[10] = 0xff;
    bytes[11] = 0xff;
    return readV4(text, bytes) ? bytes : undefined;
  }
  const groups = parseV6(text);
  if (groups === undefined) return undefined;
  for (const [index, group] of groups.entries()) {
    bytes[index * 2] = group >> 8;
    bytes[index * 2 + 1] = group & 0xff;
  }
  return bytes;
}

/** 4 for v4-mapped addresses, else 6. */
export function familyOf(ip: IpBytes): Family {
  for (let i = 0; i < 10; i++) if (ip[i] !== 0) return 6;
  return ip[10] === 0xff && ip[11] === 0xff ? 4 : 6;
}

/** The same of canonical text. */
export const familyOfText = (address: string): Family => (address.includes(':') ? 6 : 4);

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: -1, length: 1 };
  let start = -1;
  for (const [index, group] of [...groups, 1].entries()) {
    if (group === 0) {
      if (start < 0) start = index;
    } else {
      if (start >= 0 && index - start > best.length) best = { start, length: index - start };
      start = -1;
    }
  }
  return best;
}

/** Canonical text: dotted for IPv4, RFC 5952 for IPv6. */
export function formatIp(ip: IpBytes): string {
  if (familyOf(ip) === 4) return `${ip[12]}.${ip[13]}.${ip[14]}.${ip[15]}`;
  const groups = Array.from({ length: 8 }, (_, i) => (ip[i * 2] ?? 0) * 256 + (ip[i * 2 + 1] ?? 0));
  const run = longestZeroRun(groups);
  const hex = (part: readonly number[]): string => part.map((g) => g.toString(16)).join(':');
  if (run.start < 0) return hex(groups);
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`;
}

/** Canonical text of what `text` says, or undefined if it is no address. */
export function canonicalIp(text: string): string | undefined {
  const ip = parseIp(text);
  return ip === undefined ? undefined : formatIp(ip);
}

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export function formatEndpoint(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Splits `10.0.0.1:80` or `[fd00::1]:80`; undefined if either half is malformed. */
export function parseEndpoint(text: string): { address: string; port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text);
  if (match === null) return undefined;
  const bracketed = match[1];
  const address = canonicalIp(bracketed ?? match[2] ?? '');
  const port = Number(match[3]);
  if (address === undefined || port < 1 || port > 65_535) return undefined;
  if (bracketed !== undefined && !bracketed.includes(':')) return undefined;
  return { address, port };
}
