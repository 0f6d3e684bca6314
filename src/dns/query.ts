/**
 * A message from a client, read: bytes → Query, or what is said to bytes that are none.
 *
 * Never throws, reads only what it needs, and makes no text but the name's. What came
 * is trusted in nothing: a question has no pointers, an answer is never answered.
 * RFC 1035 4.1, RFC 6891 6.1, RFC 9619 (one question).
 */
import { LABEL_TEXT, NAME_BYTES_MAX, nameFromWire } from './names.ts';
import { RCODE, TYPE } from './numbers.ts';

export interface Edns {
  readonly version: number;
  /** As the client says; may be less than 512. */
  readonly udpSize: number;
  readonly isDnssecOk: boolean;
}

export interface Query {
  readonly id: number;
  /** 0: all others are answered NOTIMP here. */
  readonly opcode: number;
  readonly isRecursionDesired: boolean;
  readonly isCheckingDisabled: boolean;
  readonly isAuthenticDataWanted: boolean;
  /** Lower case, no dot at the end, escapes as names.ts has them; '' is the root. */
  readonly name: string;
  /** As it came: labels with lengths, 0x20 kept, then type and class. Part of the message. */
  readonly question: Uint8Array;
  readonly type: number;
  readonly class: number;
  readonly edns: Edns | undefined;
}

/** Without an answer: say nothing. */
export type Read =
  | { readonly ok: true; readonly query: Query }
  | { readonly ok: false; readonly answer: Uint8Array | undefined };

const HEADER_BYTES = 12;
const SILENCE: Read = { ok: false, answer: undefined };

const wordAt = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] as number) << 8) | (bytes[at + 1] as number);

/** Only a header: what came may not be fit to be repeated. */
function failure(bytes: Uint8Array, rcode: number): Read {
  const answer = new Uint8Array(HEADER_BYTES);
  answer[0] = bytes[0] as number;
  answer[1] = bytes[1] as number;
  // QR, the opcode as it came, and RD, which means something in queries only.
  const flags = bytes[2] as number;
  answer[2] = 0x80 | (flags & ((flags & 0x78) === 0 ? 0x01 : 0x78));
  answer[3] = rcode;
  return { ok: false, answer };
}

/** Where the name at `at` ends; -1 if it is none. In records, pointers are stepped over. */
function skipName(bytes: Uint8Array, at: number): number {
  for (let next = at; next < bytes.length;) {
    const length = bytes[next] as number;
    if (length === 0) return next + 1;
    if (length >= 0xc0) return next + 2 <= bytes.length ? next + 2 : -1;
    if (length > 63) return -1;
    next += length + 1;
    if (next - at >= NAME_BYTES_MAX) return -1;
  }
  return -1;
}

/** Whether options are whole (RFC 6891, 6.1.2); what they say is not looked at. */
function isOptions(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at + 4 <= end) at += 4 + wordAt(bytes, at + 2);
  return at === end;
}

/** The OPT record among those after the question; null if something is wrong. */
function readEdns(bytes: Uint8Array, start: number): Edns | undefined | null {
  const firstAdditional = wordAt(bytes, 6) + wordAt(bytes, 8);
  const count = firstAdditional + wordAt(bytes, 10);
  let edns: Edns | undefined;
  let at = start;
  for (let i = 0; i < count; i++) {
    const fixed = skipName(bytes, at);
    if (fixed < 0 || fixed + 10 > bytes.length) return null;
    const end = fixed + 10 + wordAt(bytes, fixed + 8);
    if (end > bytes.length) return null;
    if (wordAt(bytes, fixed) === TYPE.OPT) {
      const isAlone = edns === undefined && i >= firstAdditional && bytes[at] === 0;
      if (!isAlone || !isOptions(bytes, fixed + 10, end)) return null;
      edns = {
        udpSize: wordAt(bytes, fixed + 2),
        version: bytes[fixed + 5] as number,
        isDnssecOk: (bytes[fixed + 6] as number) >= 0x80,
      };
    }
    at = end;
  }
  return edns;
}

/** For names as most are: text is made of it at once. Never kept. */
const codes: number[] = [];

/** The text of the name at 12, which ends before `end`. */
function readName(bytes: Uint8Array, end: number): string {
  let isPlain = true;
  let next = HEADER_BYTES;
  codes.length = 0;
  for (let at = HEADER_BYTES; at < end - 1; at++) {
    const byte = bytes[at] as number;
    if (at === next) {
      next += byte + 1;
      if (at > HEADER_BYTES) codes.push(0x2e);
    } else if (byte >= 0x61 ? byte <= 0x7a : byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) {
      codes.push(byte);
    } else if (byte >= 0x41 && byte <= 0x5a) {
      codes.push(byte | 0x20);
    } else {
      codes.push(byte);
      if ((LABEL_TEXT[byte] as string).length > 1) isPlain = false;
    }
  }
  if (isPlain) return String.fromCharCode.apply(null, codes);
  return nameFromWire(bytes, HEADER_BYTES);
}

/** Where the question's name ends; -1 if it is none. */
function skipQuestionName(bytes: Uint8Array): number {
  let at = HEADER_BYTES;
  while (at < bytes.length) {
    const length = bytes[at] as number;
    if (length === 0) return at + 1 - HEADER_BYTES > NAME_BYTES_MAX ? -1 : at + 1;
    if (length > 63) return -1;
    at += length + 1;
  }
  return -1;
}

export function readQuery(bytes: Uint8Array): Read {
  if (bytes.length < HEADER_BYTES) return SILENCE;
  const flags = bytes[2] as number;
  if (flags >= 0x80) return SILENCE;
  if ((flags & 0x78) !== 0) return failure(bytes, RCODE.NOTIMP);
  if (wordAt(bytes, 4) !== 1) return failure(bytes, RCODE.FORMERR);
  const nameEnd = skipQuestionName(bytes);
  const end = nameEnd + 4;
  if (nameEnd < 0 || end > bytes.length) return failure(bytes, RCODE.FORMERR);
  const edns = readEdns(bytes, end);
  if (edns === null) return failure(bytes, RCODE.FORMERR);
  const query: Query = {
    id: wordAt(bytes, 0),
    opcode: 0,
    isRecursionDesired: (flags & 1) !== 0,
    isCheckingDisabled: ((bytes[3] as number) & 0x10) !== 0,
    isAuthenticDataWanted: ((bytes[3] as number) & 0x20) !== 0,
    name: readName(bytes, nameEnd),
    question: bytes.subarray(HEADER_BYTES, end),
    type: wordAt(bytes, nameEnd),
    class: wordAt(bytes, nameEnd + 2),
    edns,
  };
  return { ok: true, query };
}
