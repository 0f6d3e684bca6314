/**
 * An answer for people, as zone files have it (RFC 1035, 5.1; RFC 3597, 5): names without the dot at
 * the end. Of types without a form here the bytes are shown.
 */
import { formatIp } from '../net/ip.ts';
import { readRecord, type Record } from './forward/records.ts';
import { u16, u32 } from './forward/wire.ts';
import { nameFromWire, nameToWire } from './names.ts';
import { CLASS_IN, TYPE } from './numbers.ts';
import { HEADER_BYTES } from './packet.ts';
import type { Query } from './query.ts';

export interface AnswerEntry {
  readonly name: string;
  readonly type: string;
  readonly ttl: number;
  readonly data: string;
}

export interface AnswerText {
  readonly rcode: number;
  readonly isAuthoritative: boolean;
  readonly answers: AnswerEntry[];
  readonly authority: AnswerEntry[];
  readonly additional: AnswerEntry[];
}

/** IANA, DNS RR TYPEs: those that people ask for by name. */
const NUMBERS: Readonly<{ [name: string]: number }> = {
  ...TYPE,
  NAPTR: 35,
  DS: 43,
  SSHFP: 44,
  RRSIG: 46,
  DNSKEY: 48,
  TLSA: 52,
  SVCB: 64,
  HTTPS: 65,
  CAA: 257,
};
const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(NUMBERS).map(([name, number]) => [number, name]),
);

/** Of a name as in `TYPE65`, too; undefined: it is none. */
export function typeNumber(name: string): number | undefined {
  const number = NUMBERS[name] ?? Number(/^TYPE([0-9]{1,5})$/.exec(name)?.[1] ?? -1);
  return number >= 0 && number <= 65_535 ? number : undefined;
}

function typeName(number: number): string {
  return NAMES.get(number) ?? `TYPE${number}`;
}

/** A text as it stands in a zone file. */
export function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/** Undefined where it is no whole message with one question. */
export function answerText(bytes: Uint8Array): AnswerText | undefined {
  let at = HEADER_BYTES;
  while ((bytes[at] ?? 0) > 0) at += (bytes[at] ?? 0) + 1;
  at += 5;
  const sections: AnswerEntry[][] = [];
  let extended = 0;
  for (const count of [u16(bytes, 6), u16(bytes, 8), u16(bytes, 10)]) {
    const entries: AnswerEntry[] = [];
    for (let i = 0; i < count; i++) {
      const read = readRecord(bytes, at);
      if (read === undefined) return undefined;
      const { record } = read;
      if (record.type === TYPE.OPT) extended = (u32(bytes, at + 5) >>> 24) << 4;
      else entries.push(entryOf(record));
      at = read.next;
    }
    sections.push(entries);
  }
  const [answers = [], authority = [], additional = []] = sections;
  const flags = u16(bytes, 2);
  const rcode = extended | (flags & 15);
  return { rcode, isAuthoritative: (flags & 0x400) !== 0, answers, authority, additional };
}

function entryOf(record: Record): AnswerEntry {
  const { owner, type, ttl } = record;
  return { name: nameFromWire(owner), type: typeName(type), ttl, data: dataText(record) };
}

function dataText({ type, data }: Record): string {
  const numbers = (count: number): string =>
    Array.from({ length: count }, (_, i) => u16(data, 2 * i)).join(' ');
  const name = (at: number): string => nameFromWire(data, at) || '.';
  switch (type) {
    case TYPE.A:
      return data.join('.');
    case TYPE.AAAA:
      return formatIp(data);
    case TYPE.CNAME:
    case TYPE.NS:
    case TYPE.PTR:
      return name(0);
    case TYPE.MX:
      return `${numbers(1)} ${name(2)}`;
    case TYPE.SRV:
      return `${numbers(3)} ${name(6)}`;
    case TYPE.TXT:
    case TYPE.HINFO:
      return strings(data)
        .map((bytes) => `"${escaped(bytes)}"`)
        .join(' ');
    case TYPE.SOA:
      return soaText(data);
    case NUMBERS['CAA']: {
      const tag = data.subarray(2, 2 + (data[1] ?? 0));
      return `${data[0]} ${escaped(tag)} "${escaped(data.subarray(2 + tag.length))}"`;
    }
    default:
      return `\\# ${data.length} ${[...data].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
  }
}

function soaText(data: Uint8Array): string {
  const second = endOfName(data, 0);
  const at = endOfName(data, second);
  const numbers = [0, 4, 8, 12, 16].map((offset) => u32(data, at + offset));
  return [nameFromWire(data) || '.', nameFromWire(data, second) || '.', ...numbers].join(' ');
}

function endOfName(data: Uint8Array, start: number): number {
  let at = start;
  while ((data[at] ?? 0) > 0) at += (data[at] ?? 0) + 1;
  return at + 1;
}

function strings(data: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += (data[at] ?? 0) + 1)
    found.push(data.subarray(at + 1, at + 1 + (data[at] ?? 0)));
  return found;
}

/** Quotes and backslashes as `\X`, what is not visible ASCII as `\DDD`. */
function escaped(bytes: Uint8Array): string {
  return [...bytes]
    .map((byte) => {
      if (byte < 0x20 || byte >= 0x7f) return `\\${String(byte).padStart(3, '0')}`;
      const character = String.fromCharCode(byte);
      return character === '"' || character === '\\' ? `\\${character}` : character;
    })
    .join('');
}

/** A question of our own, as a client would ask it. */
export function questionOf(name: string, type: number): Query {
  const wire = nameToWire(name.toLowerCase()) ?? new Uint8Array(1);
  const question = new Uint8Array(wire.length + 4);
  question.set(wire);
  question.set([type >> 8, type & 0xff, CLASS_IN >> 8, CLASS_IN & 0xff], wire.length);
  return {
    id: 0,
    opcode: 0,
    isRecursionDesired: true,
    isCheckingDisabled: false,
    isAuthenticDataWanted: false,
    name: name.toLowerCase(),
    question,
    type,
    class: CLASS_IN,
    edns: undefined,
  };
}
