/**
 * CNAMEs between our names and those of others: what stands before the target, and behind it what is
 * said of the target by whose it is, as one answer (RFC 1034, 4.3.2). The target is asked for as a
 * query of its own, so that it is cached, merged and bounded as all others are; the whole is kept nowhere.
 */
import { pack } from './forward/pack.ts';
import { FOREIGN_TYPE, readRecord, type Record } from './forward/records.ts';
import { writeAnswer } from './forward/answer.ts';
import { isWithin, nameKey, u16 } from './forward/wire.ts';
import { nameFromWire, nameToWire } from './names.ts';
import { TYPE } from './numbers.ts';
import { HEADER_BYTES } from './packet.ts';
import type { Query } from './query.ts';

/** What is asked for the target; undefined if that is no name. */
export function targetQuery(query: Query, target: string): Query | undefined {
  const wire = nameToWire(target);
  if (wire === undefined) return undefined;
  const question = new Uint8Array(wire.length + 4);
  question.set(wire);
  question.set(query.question.subarray(-4), wire.length);
  return { ...query, name: target, question };
}

export interface Sections {
  readonly rcode: number;
  readonly answers: readonly Record[];
  readonly authorities: readonly Record[];
}

/** Of an answer that leads on: its records up to there. */
export interface Lead {
  readonly answers: readonly Record[];
  readonly target: string;
}

/** `last` is the answer of the last target. Undefined where all of it fits into no message. */
export function withTarget(
  query: Query,
  before: readonly Record[],
  last: Sections,
  options: { readonly transport: 'udp' | 'tcp'; readonly udpSizeMax: number },
): Uint8Array | undefined {
  const packed = pack(query.question, {
    rcode: last.rcode,
    isAuthentic: false,
    answers: [...before, ...last.answers],
    authorities: last.authorities,
    ttl: 0,
  });
  return packed && writeAnswer(packed, query, options, { seconds: 0, isStale: false });
}

/**
 * Whether the answer of others has a CNAME to a name that is not for them to answer: what they say
 * beyond, and that there is no such name, is left out then. One that was cut is asked for by TCP again.
 */
export function leadOf(
  { question, type }: Query,
  theirs: Uint8Array,
  isNotTheirs: (target: string) => boolean,
): Lead | undefined {
  if (type === TYPE.CNAME || type === TYPE.ANY) return undefined;
  const isCut = ((theirs[2] ?? 0) & 2) !== 0;
  if (isCut || !hasCname(theirs)) return undefined;
  const { answers = [] } = readSections(theirs) ?? {};
  const cnames = new Map<string, Record>();
  for (const record of answers) if (record.type === TYPE.CNAME) cnames.set(record.key, record);
  const passed = new Set<string>();
  let key = nameKey(question.subarray(0, -4));
  for (;;) {
    const cname = cnames.get(key);
    if (cname === undefined || passed.has(key)) return undefined;
    passed.add(key);
    const target = nameFromWire(cname.data);
    if (isNotTheirs(target))
      return { answers: answers.filter((record) => leadsOn(record, passed)), target };
    key = nameKey(cname.data);
  }
}

/** A CNAME of these names, a DNAME above one of them, or the signature of such. */
function leadsOn({ type, key, data }: Record, names: ReadonlySet<string>): boolean {
  const kind = type === FOREIGN_TYPE.RRSIG ? u16(data, 0) : type;
  if (kind === TYPE.CNAME) return names.has(key);
  const isAbove = (name: string): boolean => name !== key && isWithin(name, key);
  return kind === FOREIGN_TYPE.DNAME && [...names].some(isAbove);
}

/** Before anything is read whole: most answers have none. */
function hasCname(bytes: Uint8Array): boolean {
  let at = questionEnd(bytes);
  for (let left = u16(bytes, 6); left > 0; left--) {
    while ((bytes[at] ?? 0) > 0 && (bytes[at] ?? 0) < 0xc0) at += (bytes[at] ?? 0) + 1;
    at += (bytes[at] ?? 0) === 0 ? 1 : 2;
    if (u16(bytes, at) === TYPE.CNAME) return true;
    at += 10 + u16(bytes, at + 8);
  }
  return false;
}

/** One question, without pointers: we wrote it. */
function questionEnd(bytes: Uint8Array): number {
  let at = HEADER_BYTES;
  while ((bytes[at] ?? 0) > 0) at += (bytes[at] ?? 0) + 1;
  return at + 5;
}

/** Of a whole message of ours or of the forwarder's. */
export function readSections(bytes: Uint8Array): Sections | undefined {
  const counts = [u16(bytes, 6), u16(bytes, 8)] as const;
  let at = questionEnd(bytes);
  const sections: Record[][] = [];
  for (const count of counts) {
    const records: Record[] = [];
    for (let i = 0; i < count; i++) {
      const read = readRecord(bytes, at);
      if (read === undefined) return undefined;
      records.push(read.record);
      at = read.next;
    }
    sections.push(records);
  }
  const [answers = [], authorities = []] = sections;
  return { rcode: (bytes[3] ?? 0) & 15, answers, authorities };
}
