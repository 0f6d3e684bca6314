/** Names and questions as bytes (RFC 1035 section 4). Every reader answers undefined for what is not right. */
import type { Random } from '../../hyparview-ts/random.ts';
import { NAME_BYTES_MAX } from '../names.ts';
import { TYPE } from '../numbers.ts';

export const HEADER_BYTES = 12;
/** What we take over UDP: fits IPv6's smallest MTU without fragments (DNS flag day 2020). */
const UPSTREAM_UDP_SIZE = 1232;

export function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

export function u32(bytes: Uint8Array, at: number): number {
  return ((u16(bytes, at) << 16) | u16(bytes, at + 2)) >>> 0;
}

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, value >>> 16);
  put16(bytes, at + 2, value & 0xffff);
}

/** Of its own: slice() of a Buffer is none. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

export interface NameAt {
  /** Labels with lengths, the empty one at the end, no pointers, case as it came. */
  readonly wire: Uint8Array;
  /** Where what follows the name begins. */
  readonly next: number;
}

/** Where a name is put together. */
const whole = new Uint8Array(NAME_BYTES_MAX);

/** Follows pointers, which must lead back, and further back each time: so it ends. */
export function readName(bytes: Uint8Array, start: number): NameAt | undefined {
  let length = 0;
  let at = start;
  let next = -1;
  let pointersBefore = start;
  for (;;) {
    const size = bytes[at];
    if (size === undefined) return undefined;
    if (size >= 0xc0) {
      if (at + 1 >= bytes.length) return undefined;
      if (next < 0) next = at + 2;
      at = u16(bytes, at) & 0x3fff;
      if (at >= pointersBefore || at < HEADER_BYTES) return undefined;
      pointersBefore = at;
      continue;
    }
    if (size > 63 || length + size + 1 > NAME_BYTES_MAX || at + size >= bytes.length)
      return undefined;
    const end = at + size + 1;
    while (at < end) whole[length++] = bytes[at++] ?? 0;
    if (size === 0) break;
  }
  return { wire: whole.slice(0, length), next: next < 0 ? at : next };
}

/** The same for names that differ in case only; a proper ancestor's key is the end of it, at a label. */
export function nameKey(wire: Uint8Array): string {
  const codes: number[] = [];
  for (const byte of wire) codes.push(byte >= 65 && byte <= 90 ? byte + 32 : byte);
  return String.fromCharCode(...codes); // all at once: a string for each letter is garbage
}

/** Whether `key` is `ancestor` or below it; both as of nameKey(). */
export function isWithin(key: string, ancestor: string): boolean {
  if (!key.endsWith(ancestor)) return false;
  const cut = key.length - ancestor.length;
  let at = 0;
  while (at < cut) at += key.charCodeAt(at) + 1;
  return at === cut;
}

/** Letters changed to random case (draft-vixie-dnsext-dns0x20), or all lower where `random` is undefined. */
export function recase(question: Uint8Array, random: Random | undefined): Uint8Array {
  const made = copyOf(question);
  const end = made.length - 4; // type and class
  let bits = 0;
  let left = 0;
  for (let i = 0; i < end; i++) {
    const lower = (made[i] ?? 0) | 0x20;
    // A length is at most 63, below every letter.
    if ((made[i] ?? 0) < 65 || lower < 97 || lower > 122) continue;
    if (left === 0 && random !== undefined) {
      bits = random.next();
      left = 32;
    }
    made[i] = (bits & 1) === 1 ? lower - 32 : lower;
    bits >>>= 1;
    left -= 1;
  }
  return made;
}

interface UpstreamQuestion {
  readonly id: number;
  readonly question: Uint8Array;
  readonly isCheckingDisabled: boolean;
  readonly isDnssecOk: boolean;
  readonly hasEdns: boolean;
}

export function writeQuestion(asked: UpstreamQuestion): Uint8Array {
  const end = HEADER_BYTES + asked.question.length;
  const bytes = new Uint8Array(end + (asked.hasEdns ? 11 : 0));
  put16(bytes, 0, asked.id);
  // RD, and AD: else it is said to those who set DO alone (RFC 6840 section 5.7).
  put16(bytes, 2, 0x0120 | (asked.isCheckingDisabled ? 0x0010 : 0));
  put16(bytes, 4, 1);
  bytes.set(asked.question, HEADER_BYTES);
  if (asked.hasEdns) {
    put16(bytes, 10, 1);
    writeOpt(bytes, end, UPSTREAM_UDP_SIZE, asked.isDnssecOk);
  }
  return bytes;
}

/** Eleven bytes: EDNS version 0 without options (RFC 6891). */
export function writeOpt(
  bytes: Uint8Array,
  at: number,
  udpSize: number,
  isDnssecOk: boolean,
): void {
  put16(bytes, at + 1, TYPE.OPT);
  put16(bytes, at + 3, udpSize);
  put32(bytes, at + 5, isDnssecOk ? 0x8000 : 0);
}

/** Questions are alike: 'case' where only letters differ in case. */
export function compareQuestions(
  bytes: Uint8Array,
  at: number,
  question: Uint8Array,
): 'same' | 'case' | 'other' {
  if (bytes.length < at + question.length) return 'other';
  let result: 'same' | 'case' = 'same';
  const end = question.length - 4;
  for (let i = 0; i < question.length; i++) {
    const is = bytes[at + i] ?? 0;
    const should = question[i] ?? 0;
    if (is === should) continue;
    const lower = is | 0x20;
    const isLetter = i < end && lower >= 97 && lower <= 122 && is >= 65;
    if (!isLetter || lower !== (should | 0x20) || should < 65) return 'other';
    result = 'case';
  }
  return result;
}
