/**
 * What a reply of an upstream is worth. Only records that belong to the question are taken out of
 * it: the question's name, what CNAMEs lead to from there, and the SOA of a negative answer. All
 * else (glue, name servers, whatever somebody wrote in) is left behind before anything is cached.
 */
import { RCODE, TYPE } from '../numbers.ts';
import { pack, type Packed } from './pack.ts';
import { FOREIGN_TYPE, readRecord, saneTtl, type Record } from './records.ts';
import type { AttemptResult } from './types.ts';
import { compareQuestions, HEADER_BYTES, isWithin, nameKey, readName, u16, u32 } from './wire.ts';

export interface Sent {
  readonly id: number;
  /** As sent: case as chosen, type and class at the end. */
  readonly question: Uint8Array;
  readonly isDnssecOk: boolean;
}

export type Match =
  /** bare: an error without the question, as those send who did not understand it. */
  'same' | 'case' | 'bare' | 'other';

/** Whether this is an answer to that: the id, the question to the letter. */
export function matchReply(bytes: Uint8Array, sent: Sent): Match {
  if (bytes.length < HEADER_BYTES || u16(bytes, 0) !== sent.id) return 'other';
  const flags = u16(bytes, 2);
  if ((flags & 0x8000) === 0 || (flags & 0x7800) !== 0) return 'other'; // QR, opcode
  const questions = u16(bytes, 4);
  if (questions === 0 && bytes.length === HEADER_BYTES && (flags & 0xf) !== 0) return 'bare';
  if (questions !== 1) return 'other';
  return compareQuestions(bytes, HEADER_BYTES, sent.question);
}

export type Reading =
  | { readonly kind: 'good'; readonly packed: Packed; readonly hasOpt: boolean }
  | { readonly kind: 'truncated' }
  | { readonly kind: 'loss'; readonly result: AttemptResult; readonly rcode: number };

const LOSSES: ReadonlyMap<number, AttemptResult> = new Map<number, AttemptResult>([
  [RCODE.FORMERR, 'formerr'],
  [RCODE.SERVFAIL, 'servfail'],
  [RCODE.NOTIMP, 'notimp'],
  [RCODE.REFUSED, 'refused'],
]);
const YXDOMAIN = 6; // a DNAME made the name too long
const GOOD_RCODES: ReadonlySet<number> = new Set([RCODE.NOERROR, RCODE.NXDOMAIN, YXDOMAIN]);
/** More than any resolver follows (unbound 11, BIND 17). */
const CHAIN_MAX = 17;
/** Of a signature's data (RFC 4034 section 3.1). */
const SIGNER_AT = 18;
/** RFC 2308 section 5 wants one to three hours at most. */
const NEGATIVE_TTL_MAX = 3600;

/** Of a reply that matches: enough to know of one that nobody needs any more. */
export function hasAnswers(bytes: Uint8Array): boolean {
  const flags = u16(bytes, 2);
  return (flags & 0x020f) === 0 && u16(bytes, 6) > 0;
}

/** Of a reply that matches (matchReply). Never throws. */
export function readReply(bytes: Uint8Array, sent: Sent): Reading {
  const flags = u16(bytes, 2);
  const rcode = flags & 0xf;
  if ((flags & 0x0200) !== 0) return { kind: 'truncated' };
  const result = LOSSES.get(rcode) ?? (GOOD_RCODES.has(rcode) ? undefined : 'rcode');
  if (result !== undefined) return { kind: 'loss', result, rcode };
  const sections = readSections(bytes, HEADER_BYTES + sent.question.length);
  if (sections === undefined) return loss('unparsable', rcode);
  if (sections.extendedRcode !== 0) return loss('rcode', rcode);
  return judge(flags, sections, sent);
}

function loss(result: AttemptResult, rcode: number): Reading {
  return { kind: 'loss', result, rcode };
}

interface Sections {
  readonly answers: Record[];
  readonly authorities: Record[];
  readonly extendedRcode: number;
  readonly hasOpt: boolean;
}

function readSections(bytes: Uint8Array, start: number): Sections | undefined {
  const counts = [u16(bytes, 6), u16(bytes, 8), u16(bytes, 10)];
  const sections: Record[][] = [[], [], []];
  let at = start;
  let hasOpt = false;
  for (const [i, count] of counts.entries()) {
    for (let n = 0; n < count; n++) {
      const read = readRecord(bytes, at);
      if (read === undefined) return undefined;
      sections[i]?.push(read.record);
      if (i === 2 && read.record.type === TYPE.OPT) {
        hasOpt = true;
        // The upper eight bits of the rcode are where others have the first byte of the TTL.
        const ttlAt = at + 1 + 4;
        if (bytes[ttlAt] !== 0) return { answers: [], authorities: [], extendedRcode: 1, hasOpt };
      }
      at = read.next;
    }
  }
  const [answers = [], authorities = []] = sections;
  return { answers, authorities, extendedRcode: 0, hasOpt };
}

function judge(flags: number, { answers, authorities, hasOpt }: Sections, sent: Sent): Reading {
  const rcode = flags & 0xf;
  const type = u16(sent.question, sent.question.length - 4);
  const class_ = u16(sent.question, sent.question.length - 2);
  const ofClass = (record: Record): boolean => record.class === class_;
  const chain = followChain(nameKey(sent.question.subarray(0, -4)), answers.filter(ofClass), type);
  if (chain === undefined) return loss('lame', rcode);
  const wanted = answers.filter((record) => ofClass(record) && isWanted(record, chain, type, sent));
  if (wanted.length === 0 && answers.length > 0) return loss('unrelated', rcode);
  const isAnswered = wanted.some((record) => record.type === type || type === TYPE.ANY);
  const authority = authorities.filter(ofClass);
  const soa = isAnswered ? undefined : soaOf(authority, chain);
  const proof = proofOf(authority, wanted, soa, sent);
  if (wanted.length === 0 && soa === undefined && isLame(flags, authorities))
    return loss('lame', rcode);
  const isAuthentic = (flags & 0x0020) !== 0;
  const ttl = ttlOf(isAnswered, wanted, proof, soa);
  const proved = soa === undefined ? proof : proof.map((record) => capped(record, ttl));
  const packed = pack(sent.question, {
    rcode,
    isAuthentic,
    answers: wanted,
    authorities: proved,
    ttl,
  });
  return packed === undefined ? loss('unparsable', rcode) : { kind: 'good', packed, hasOpt };
}

/** A negative answer counts as long as it is kept (RFC 2308 section 3). */
function capped(record: Record, ttl: number): Record {
  return record.type === TYPE.SOA ? { ...record, ttl } : record;
}

/** The names from the question's on along CNAMEs; undefined where they lead round or too far. */
function followChain(
  start: string,
  answers: readonly Record[],
  type: number,
): ReadonlySet<string> | undefined {
  const chain = new Set([start]);
  if (type === TYPE.CNAME || type === TYPE.ANY) return chain;
  const targets = new Map<string, string>();
  for (const record of answers)
    if (record.type === TYPE.CNAME) targets.set(record.key, nameKey(record.data));
  let at = targets.get(start);
  while (at !== undefined) {
    if (chain.has(at) || chain.size > CHAIN_MAX) return undefined;
    chain.add(at);
    at = targets.get(at);
  }
  return chain;
}

function isWanted(record: Record, chain: ReadonlySet<string>, type: number, sent: Sent): boolean {
  const isSignature = record.type === FOREIGN_TYPE.RRSIG && sent.isDnssecOk;
  const kind = isSignature ? u16(record.data, 0) : record.type;
  if (kind === FOREIGN_TYPE.DNAME && type !== FOREIGN_TYPE.DNAME)
    return [...chain].some((name) => name !== record.key && isWithin(name, record.key));
  if (!chain.has(record.key)) return false;
  return [kind, record.type, TYPE.ANY].includes(type) || kind === TYPE.CNAME;
}

function soaOf(authorities: readonly Record[], chain: ReadonlySet<string>): Record | undefined {
  const isOfZone = (zone: string): boolean => [...chain].some((name) => isWithin(name, zone));
  return authorities.find(({ type, key }) => type === TYPE.SOA && isOfZone(key));
}

/**
 * The SOA, and for who checks it that names are not there: also beside an answer, where a wildcard was
 * expanded (RFC 4035 section 3.1.3.3), and of each zone that the answer leads through.
 */
function proofOf(
  authorities: readonly Record[],
  wanted: readonly Record[],
  soa: Record | undefined,
  { isDnssecOk }: Sent,
): Record[] {
  if (!isDnssecOk) return soa === undefined ? [] : [soa];
  const zones = new Set(wanted.flatMap((record) => signerOf(record) ?? []));
  if (soa !== undefined) zones.add(soa.key);
  const isProof = (record: Record): boolean => {
    const { type, data, key } = record;
    const kind = type === FOREIGN_TYPE.RRSIG ? u16(data, 0) : type;
    if (kind === TYPE.SOA) return record === soa || (type !== TYPE.SOA && key === soa?.key);
    const isDenial = kind === FOREIGN_TYPE.NSEC || kind === FOREIGN_TYPE.NSEC3;
    return isDenial && [...zones].some((zone) => isWithin(key, zone));
  };
  return authorities.filter(isProof);
}

/** The zone that a signature says it is of, if what it signs is in it. */
function signerOf({ type, key, data }: Record): string | undefined {
  if (type !== FOREIGN_TYPE.RRSIG) return undefined;
  const signer = readName(data, SIGNER_AT);
  if (signer === undefined) return undefined;
  const zone = nameKey(signer.wire);
  return isWithin(key, zone) ? zone : undefined;
}

/** Nothing answered: a referral, or somebody who does not resolve for us. */
function isLame(flags: number, authorities: readonly Record[]): boolean {
  const isAuthoritative = (flags & 0x0400) !== 0;
  const isRecursive = (flags & 0x0080) !== 0;
  const hasNs = authorities.some(({ type }) => type === TYPE.NS);
  return (
    !isAuthoritative && ((flags & 0xf) === RCODE.NOERROR ? hasNs || !isRecursive : !isRecursive)
  );
}

function ttlOf(
  isAnswered: boolean,
  wanted: readonly Record[],
  proof: readonly Record[],
  soa: Record | undefined,
): number {
  const denials = proof.filter(({ type }) => type !== TYPE.SOA);
  const ttls = [...wanted, ...denials].map(({ ttl }) => ttl);
  if (!isAnswered) {
    if (soa === undefined) return 0; // RFC 2308 section 5: without SOA it is not kept
    const minimum = saneTtl(u32(soa.data, soa.data.length - 4));
    ttls.push(Math.min(soa.ttl, minimum, NEGATIVE_TTL_MAX));
  }
  return Math.min(...ttls);
}

/** Whether the bytes hold one whole message: for tests and what comes over TCP. */
export function isWhole(bytes: Uint8Array): boolean {
  const name = readName(bytes, HEADER_BYTES);
  return name !== undefined && readSections(bytes, name.next + 4) !== undefined;
}
