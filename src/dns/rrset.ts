/**
 * All records of one type at one name, as they stand in an answer: prebuilt once,
 * copied for each answer. The owner of each is a pointer to the question's name.
 */
import { nameFromWire } from './names.ts';
import { CLASS_IN, TYPE, type ZoneType } from './numbers.ts';
import { encodeData } from './rdata.ts';

/** Owner, type, class, TTL and length of what a record says. */
export const RECORD_HEADER_BYTES = 12;
/** Where the target's name is in an SRV record: after priority, weight and port. */
export const SRV_TARGET_AT = RECORD_HEADER_BYTES + 6;

/** Addresses of SRV targets that are known from the targets' names. */
export interface Glue {
  /** Of each record: which of `tails`; -1 for none. */
  readonly indexes: Int32Array;
  /** A record without its owner, one for each address. */
  readonly tails: readonly Uint8Array[];
}

export interface Rrset {
  readonly type: number;
  readonly ttl: number;
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Where each record starts, and where the last one ends. */
  readonly offsets: readonly number[];
  /** Given in a new order each time. */
  readonly isShuffled: boolean;
  readonly glue: Glue | undefined;
  /** Of a CNAME. */
  readonly target: string | undefined;
}

export interface RowData {
  readonly ttl: number;
  readonly data: string;
}

function writeHeader(
  bytes: Uint8Array,
  at: number,
  type: number,
  ttl: number,
  length: number,
): void {
  bytes[at] = 0xc0;
  bytes[at + 1] = 12;
  bytes[at + 2] = type >> 8;
  bytes[at + 3] = type;
  bytes[at + 5] = CLASS_IN;
  bytes[at + 6] = ttl >>> 24;
  bytes[at + 7] = ttl >>> 16;
  bytes[at + 8] = ttl >>> 8;
  bytes[at + 9] = ttl;
  bytes[at + 10] = length >> 8;
  bytes[at + 11] = length;
}

/** One record. */
export function recordBytes(type: number, ttl: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + data.length);
  writeHeader(bytes, 0, type, ttl, data.length);
  bytes.set(data, RECORD_HEADER_BYTES);
  return bytes;
}

function glueOf(
  datas: readonly Uint8Array[],
  ttl: number,
  addressOfTarget: (name: string) => string | undefined,
): Glue | undefined {
  const tails: Uint8Array[] = [];
  const known = new Map<string, number>();
  const indexes = Int32Array.from(datas, (data) => {
    const address = addressOfTarget(nameFromWire(data, SRV_TARGET_AT - RECORD_HEADER_BYTES));
    if (address === undefined) return -1;
    const before = known.get(address);
    if (before !== undefined) return before;
    const type = address.includes(':') ? 'AAAA' : 'A';
    const encoded = encodeData(type, address) ?? new Uint8Array();
    tails.push(recordBytes(TYPE[type], ttl, encoded).subarray(2));
    known.set(address, tails.length - 1);
    return tails.length - 1;
  });
  return tails.length > 0 ? { indexes, tails } : undefined;
}

/**
 * The records of these rows; undefined if there are none. What cannot be encoded is left out.
 * All have the smallest TTL, as records of one set have one (RFC 2181, 5.2).
 */
export function makeRrset(
  type: ZoneType,
  rows: readonly RowData[],
  addressOfTarget: (name: string) => string | undefined,
): Rrset | undefined {
  const datas = rows.map((row) => encodeData(type, row.data)).filter((data) => data !== undefined);
  if (datas.length === 0) return undefined;
  const ttl = Math.min(...rows.map((row) => row.ttl));
  const offsets = [0];
  for (const data of datas) offsets.push((offsets.at(-1) ?? 0) + RECORD_HEADER_BYTES + data.length);
  const bytes = new Uint8Array(offsets.at(-1) ?? 0);
  for (const [i, data] of datas.entries()) {
    const at = offsets[i] ?? 0;
    writeHeader(bytes, at, TYPE[type], ttl, data.length);
    bytes.set(data, at + RECORD_HEADER_BYTES);
  }
  const isShuffled = datas.length > 1 && (type === 'A' || type === 'AAAA' || type === 'SRV');
  const glue = type === 'SRV' ? glueOf(datas, ttl, addressOfTarget) : undefined;
  const target = type === 'CNAME' && datas[0] !== undefined ? nameFromWire(datas[0]) : undefined;
  return { type: TYPE[type], ttl, count: datas.length, bytes, offsets, isShuffled, glue, target };
}
