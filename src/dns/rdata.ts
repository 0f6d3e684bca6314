/**
 * What a record says, as text and on the wire (RFC 1035 3.3, 3596, 2782). The text is
 * that of the state's records: canonical addresses, names without the dot at the
 * end, `10 mail.example` for MX, `0 5 443 web.example` for SRV, the plain string for TXT.
 *
 * Names in it are never compressed: SRV must not be (RFC 2782), others need not.
 */
import { utf8 } from '../acl/automaton.ts';
import { familyOf, parseIp } from '../net/ip.ts';
import { nameToWire } from './names.ts';
import type { ZoneType } from './numbers.ts';

/** Of a character-string (RFC 1035, 3.3). */
const STRING_BYTES_MAX = 255;

function joined(...parts: readonly (readonly number[] | Uint8Array)[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function encodeAddress(data: string, isV6: boolean): Uint8Array | undefined {
  const ip = parseIp(data);
  if (ip === undefined || (familyOf(ip) === 6) !== isV6) return undefined;
  return isV6 ? ip : ip.subarray(12);
}

/** Whole numbers of 16 bits, then a name. */
function encodeNumbered(data: string, count: number): Uint8Array | undefined {
  const words = data.split(' ');
  const name = nameToWire(words.pop() ?? '');
  if (words.length !== count || !words.every((word) => /^\d{1,5}$/.test(word))) return undefined;
  const numbers = words.map(Number);
  if (name === undefined || numbers.some((number) => number > 65_535)) return undefined;
  return joined(
    numbers.flatMap((number) => [number >> 8, number & 0xff]),
    name,
  );
}

/** As many strings as it takes. */
function encodeText(data: string): Uint8Array {
  const bytes = utf8(data);
  const parts: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += STRING_BYTES_MAX) {
    const part = bytes.subarray(at, at + STRING_BYTES_MAX);
    parts.push(Uint8Array.of(part.length), part);
  }
  return joined(...parts);
}

/** Two names, then whole numbers of 32 bits. */
function encodeSoa(data: string): Uint8Array | undefined {
  const [mname = '', rname = '', ...words] = data.split(' ');
  const names = [nameToWire(mname), nameToWire(rname)];
  const numbers = words.map(Number);
  if (names[0] === undefined || names[1] === undefined || numbers.length !== 5) return undefined;
  const bytes = numbers.flatMap((n) => [n >>> 24, (n >>> 16) & 0xff, (n >>> 8) & 0xff, n & 0xff]);
  return joined(names[0], names[1], bytes);
}

/** Undefined if `data` is none of that type, or too long for a record. */
export function encodeData(type: ZoneType, data: string): Uint8Array | undefined {
  const bytes = encode(type, data);
  return bytes !== undefined && bytes.length <= 65_535 ? bytes : undefined;
}

function encode(type: ZoneType, data: string): Uint8Array | undefined {
  switch (type) {
    case 'A':
      return encodeAddress(data, false);
    case 'AAAA':
      return encodeAddress(data, true);
    case 'CNAME':
    case 'NS':
    case 'PTR':
      return nameToWire(data);
    case 'MX':
      return encodeNumbered(data, 1);
    case 'SRV':
      return encodeNumbered(data, 3);
    case 'SOA':
      return encodeSoa(data);
    case 'TXT':
      return encodeText(data);
  }
}
