/**
 * Resource records read out of a reply, with no pointers left in them, and checked as far as those
 * who read our answers would stumble (lengths of addresses, names that end where the data ends).
 */
import { TYPE } from '../numbers.ts';
import { nameKey, readName, u16, u32 } from './wire.ts';

/** Types that no zone of ours has (IANA, Domain Name System Parameters). */
export const FOREIGN_TYPE = {
  RP: 17,
  AFSDB: 18,
  RT: 21,
  PX: 26,
  KX: 36,
  DNAME: 39,
  RRSIG: 46,
  NSEC: 47,
  NSEC3: 50,
} as const;

export interface Record {
  readonly owner: Uint8Array;
  readonly key: string;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  /** Names in it are whole. */
  readonly data: Uint8Array;
}

export interface Layout {
  readonly before: number;
  readonly names: number;
  readonly after: number;
  /** RFC 3597 section 4: only types of RFC 1035 may be compressed by who writes. */
  readonly isCompressible: boolean;
}

const ONE_NAME = { before: 0, names: 1, after: 0, isCompressible: true };
const PREFERENCE_NAME = { before: 2, names: 1, after: 0, isCompressible: false };

/** Where names are in the data; others' data is taken as it is. */
const LAYOUTS: ReadonlyMap<number, Layout> = new Map<number, Layout>([
  [TYPE.NS, ONE_NAME],
  [TYPE.CNAME, ONE_NAME],
  [TYPE.PTR, ONE_NAME],
  [TYPE.SOA, { before: 0, names: 2, after: 20, isCompressible: true }],
  [TYPE.MX, { ...PREFERENCE_NAME, isCompressible: true }],
  [FOREIGN_TYPE.DNAME, { ...ONE_NAME, isCompressible: false }],
  [FOREIGN_TYPE.RP, { before: 0, names: 2, after: 0, isCompressible: false }],
  [FOREIGN_TYPE.AFSDB, PREFERENCE_NAME],
  [FOREIGN_TYPE.RT, PREFERENCE_NAME],
  [FOREIGN_TYPE.KX, PREFERENCE_NAME],
  [FOREIGN_TYPE.PX, { before: 2, names: 2, after: 0, isCompressible: false }],
  [TYPE.SRV, { before: 6, names: 1, after: 0, isCompressible: false }],
]);

export function layoutOf(type: number): Layout | undefined {
  return LAYOUTS.get(type);
}

const TTL_MAX = 86_400;

/** RFC 2181 section 8: the high bit set means 0. A day at most, as resolvers keep it. */
export function saneTtl(ttl: number): number {
  return ttl >= 0x8000_0000 ? 0 : Math.min(ttl, TTL_MAX);
}

export function readRecord(
  bytes: Uint8Array,
  start: number,
): { record: Record; next: number } | undefined {
  const owner = readName(bytes, start);
  if (owner === undefined) return undefined;
  const at = owner.next;
  if (at + 10 > bytes.length) return undefined;
  const type = u16(bytes, at);
  const next = at + 10 + u16(bytes, at + 8);
  if (next > bytes.length) return undefined;
  const data = readData(type, bytes, at + 10, next);
  if (data === undefined) return undefined;
  const record = {
    owner: owner.wire,
    key: nameKey(owner.wire),
    type,
    class: u16(bytes, at + 2),
    ttl: saneTtl(u32(bytes, at + 4)),
    data,
  };
  return { record, next };
}

function readData(
  type: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): Uint8Array | undefined {
  const layout = LAYOUTS.get(type);
  if (layout !== undefined) return readNames(layout, bytes, start, end);
  const data = bytes.subarray(start, end);
  if (type === TYPE.A && data.length !== 4) return undefined;
  if (type === TYPE.AAAA && data.length !== 16) return undefined;
  if (type === TYPE.TXT && !isStrings(data)) return undefined;
  return data;
}

function readNames(
  layout: Layout,
  bytes: Uint8Array,
  start: number,
  end: number,
): Uint8Array | undefined {
  const parts = [bytes.subarray(start, start + layout.before)];
  let at = start + layout.before;
  for (let i = 0; i < layout.names; i++) {
    const name = readName(bytes, at);
    if (name === undefined || name.next > end) return undefined;
    parts.push(name.wire);
    at = name.next;
  }
  if (at + layout.after !== end) return undefined;
  parts.push(bytes.subarray(at, end));
  return joined(parts);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** One or more strings, each with its length before it. */
function isStrings(data: Uint8Array): boolean {
  let at = 0;
  while (at < data.length) at += (data[at] ?? 0) + 1;
  return data.length > 0 && at === data.length;
}
