/** The answer for one client out of what is kept: its id, its case, its size, TTLs as they are by now. */
import { OPT_BYTES } from '../packet.ts';
import type { Query } from '../query.ts';
import { recordEnd, type Packed } from './pack.ts';
import type { AskOptions } from './types.ts';
import { HEADER_BYTES, put16, put32, u32, writeOpt } from './wire.ts';

/** Without EDNS (RFC 1035 4.2.1). */
const UDP_PLAIN_SIZE = 512;
const TCP_SIZE_MAX = 65_535;
/** RFC 8767 section 4. */
const STALE_TTL = 30;

interface Age {
  /** Seconds since it came. */
  readonly seconds: number;
  readonly isStale: boolean;
}

function sizeMax({ edns }: Query, { transport, udpSizeMax }: AskOptions): number {
  if (transport === 'tcp') return TCP_SIZE_MAX;
  if (edns === undefined) return UDP_PLAIN_SIZE;
  return Math.min(Math.max(UDP_PLAIN_SIZE, edns.udpSize), Math.max(UDP_PLAIN_SIZE, udpSizeMax));
}

export function writeAnswer(
  packed: Packed,
  query: Query,
  options: AskOptions,
  age: Age,
): Uint8Array {
  const { question, edns } = query;
  const start = HEADER_BYTES + question.length;
  const optBytes = edns === undefined ? 0 : OPT_BYTES;
  const room = sizeMax(query, options) - start - optBytes;
  const count = fitting(packed, room);
  const isCut = count < packed.ttlAt.length;
  const tailBytes = count === 0 ? 0 : recordEnd(packed, count - 1);
  const bytes = new Uint8Array(start + tailBytes + optBytes);
  writeHeader(bytes, query, packed, isCut);
  const answers = Math.min(count, packed.answers);
  put16(bytes, 6, answers);
  put16(bytes, 8, count - answers);
  bytes.set(question, HEADER_BYTES);
  bytes.set(packed.tail.subarray(0, tailBytes), start);
  for (let i = 0; i < count; i++) {
    const at = start + (packed.ttlAt[i] ?? 0);
    const ttl = u32(bytes, at);
    put32(bytes, at, age.isStale ? STALE_TTL : Math.max(0, ttl - age.seconds));
  }
  if (edns !== undefined) {
    put16(bytes, 10, 1);
    writeOpt(bytes, start + tailBytes, options.udpSizeMax, edns.isDnssecOk);
  }
  return bytes;
}

/** How many records there is room for, from the first on. */
function fitting(packed: Packed, room: number): number {
  if (packed.tail.length <= room) return packed.ttlAt.length;
  let count = 0;
  while (count < packed.ttlAt.length && recordEnd(packed, count) <= room) count += 1;
  return count;
}

function writeHeader(bytes: Uint8Array, query: Query, packed: Packed, isCut: boolean): void {
  const wantsAuthentic = query.isAuthenticDataWanted || query.edns?.isDnssecOk === true;
  put16(bytes, 0, query.id);
  bytes[2] = 0x80 | (isCut ? 2 : 0) | Number(query.isRecursionDesired);
  bytes[3] =
    0x80 |
    (packed.isAuthentic && wantsAuthentic ? 0x20 : 0) |
    (query.isCheckingDisabled ? 0x10 : 0) |
    packed.rcode;
  put16(bytes, 4, 1);
}
