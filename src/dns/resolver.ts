/**
 * A question and a zone → an answer, or that it is not ours. Pure, and what
 * each query costs: it copies what entries hold ready, and decides nothing else than
 * the order of records. Rules: README.md.
 */
import type { Entry } from './entry.ts';
import { isWithin } from './names.ts';
import { CLASS_IN, RCODE, TYPE } from './numbers.ts';
import { answerBytesMax, HEADER_BYTES, refusal, writer } from './packet.ts';
import type { Query } from './query.ts';
import { encodeData } from './rdata.ts';
import { makeRrset, RECORD_HEADER_BYTES, recordBytes, type Rrset } from './rrset.ts';
import type { Zone } from './zone.ts';

export interface ResolveOptions {
  readonly transport: 'udp' | 'tcp';
  readonly udpSizeMax: number;
  /** From 0, below 1. */
  readonly random: () => number;
  /** The address that was asked. */
  readonly server: string;
  readonly isRecursionAllowed: boolean;
}

export type Resolved =
  | {
      readonly kind: 'answer';
      readonly bytes: Uint8Array;
      /** With the upper bits of EDNS: BADVERS is 16. */
      readonly rcode: number;
      /** A name of others that a CNAME of the answer leads to. */
      readonly target?: string;
    }
  /** Not ours. Where recursion is not allowed: refusal(query, RCODE.REFUSED). */
  | { readonly kind: 'forward' };

const FORWARD: Resolved = { kind: 'forward' };

/** A guess: chains of two are rare. */
const CNAMES_MAX = 8;

/** RFC 8482, 4.2: `RFC8482` and nothing. */
function anyAnswer(ttl: number): Rrset {
  const data = Uint8Array.of(...(encodeData('TXT', 'RFC8482') ?? []), 0);
  const bytes = recordBytes(TYPE.HINFO, ttl, data);
  const offsets = [0, bytes.length];
  const common = { isShuffled: false, glue: undefined, target: undefined };
  return { type: TYPE.HINFO, ttl, count: 1, bytes, offsets, ...common };
}

/** Why a question is answered without looking anything up (RFC 6895, 3.1; RFC 6891, 6.1.3). */
function refusalOf({ edns, class: questionClass, type }: Query): number {
  if (edns !== undefined && edns.version !== 0) return RCODE.BADVERS;
  if (questionClass !== CLASS_IN) return RCODE.REFUSED;
  if (type === TYPE.AXFR || type === TYPE.IXFR) return RCODE.REFUSED;
  if (type === TYPE.OPT || type === TYPE.TKEY || type === TYPE.TSIG || type === 0)
    return RCODE.FORMERR;
  return type > 127 && type < 255 ? RCODE.NOTIMP : RCODE.NOERROR;
}

const ANY_TTL_MAX = 3600;

/** Never throws. */
export function resolve(zone: Zone, query: Query, options: ResolveOptions): Resolved {
  const refused = refusalOf(query);
  if (refused !== RCODE.NOERROR) return failed(query, refused, options);
  const entry = zone.lookup(query.name);
  if (entry === undefined) {
    const standing = zone.standing(query.name);
    if (standing.kind === 'foreign') return FORWARD;
    begin(query, options);
    return nothing(zone, query, standing.isThere ? RCODE.NOERROR : RCODE.NXDOMAIN, options);
  }
  if (entry.own === 'ready' && !zone.isReady) return failed(query, RCODE.SERVFAIL, options);
  if (zone.isElsewhere(query.name) && !entry.isInhabited) return FORWARD;
  begin(query, options);
  if (query.type === TYPE.ANY) return any(zone, query, entry, options);
  const set = recordsOf(entry, query.type, options);
  if (set !== undefined) {
    writer.answer(set, HEADER_BYTES, options.random);
    if (set.type === TYPE.NS) addServer(zone, query, options);
    return end(query, RCODE.NOERROR, options);
  }
  if (entry.cname !== undefined) return chase(zone, query, entry.cname, options);
  return nothing(zone, query, RCODE.NOERROR, options);
}

/** Whether it is for the zone to say what is at a name: resolve() would not forward it. */
export function isOurs(zone: Zone, name: string): boolean {
  const entry = zone.lookup(name);
  if (entry === undefined) return zone.standing(name).kind === 'ours';
  return entry.isInhabited || !zone.isElsewhere(name);
}

function begin(query: Query, { transport, udpSizeMax }: ResolveOptions): void {
  writer.begin(query, answerBytesMax(query, transport, udpSizeMax));
}

function end(query: Query, rcode: number, options: ResolveOptions, target?: string): Resolved {
  const bytes = writer.end(query, rcode, true, options.isRecursionAllowed);
  if (target === undefined) return { kind: 'answer', bytes, rcode };
  return { kind: 'answer', bytes, rcode, target };
}

function failed(query: Query, rcode: number, { isRecursionAllowed }: ResolveOptions): Resolved {
  return { kind: 'answer', bytes: refusal(query, rcode, isRecursionAllowed), rcode };
}

function recordsOf(entry: Entry, type: number, options: ResolveOptions): Rrset | undefined {
  if (entry.own === 'ns' && (type === TYPE.A || type === TYPE.AAAA))
    return serverRecords(type, entry, options.server) ?? entry.rrset(type);
  return entry.rrset(type);
}

/** The name server is whoever was asked. */
function serverRecords(type: number, { base }: Entry, server: string): Rrset | undefined {
  if (server.includes(':') !== (type === TYPE.AAAA)) return undefined;
  const rows = [{ ttl: base.ttl, data: server }];
  return makeRrset(type === TYPE.A ? 'A' : 'AAAA', rows, () => undefined);
}

/** The address of the name server, whose name was written last. */
function addServer(zone: Zone, query: Query, options: ResolveOptions): void {
  const entry = zone.lookup(`ns.${zone.domain}`);
  const type = options.server.includes(':') ? TYPE.AAAA : TYPE.A;
  const set = entry === undefined ? undefined : recordsOf(entry, type, options);
  const owner = HEADER_BYTES + query.question.length + RECORD_HEADER_BYTES;
  if (set !== undefined) writer.additional(set, owner);
}

function any(zone: Zone, query: Query, entry: Entry, options: ResolveOptions): Resolved {
  if (!entry.isInhabited) return nothing(zone, query, RCODE.NOERROR, options);
  // HINFO beside a CNAME would be a lie.
  const set = entry.cname ?? anyAnswer(Math.min(zone.ttl, ANY_TTL_MAX));
  writer.answer(set, HEADER_BYTES, options.random);
  return end(query, RCODE.NOERROR, options);
}

/** Where the zone's own name begins in the question. */
function zoneStart(zone: Zone, { name, question }: Query): number {
  if (isWithin(name, zone.domain))
    return HEADER_BYTES + question.length - 4 - zone.domainWire.length;
  const standing = zone.standing(name);
  // A name among foreign ones is a zone of its own.
  if (standing.kind === 'foreign' || standing.zoneLabels === undefined) return HEADER_BYTES;
  const starts: number[] = [];
  for (let at = 0; question[at] !== 0; at += (question[at] as number) + 1) starts.push(at);
  return HEADER_BYTES + (starts.at(-standing.zoneLabels) ?? 0);
}

/** NXDOMAIN or NODATA (RFC 2308, 2), or the SOA record that was asked for. */
function nothing(zone: Zone, query: Query, rcode: number, options: ResolveOptions): Resolved {
  const start = zoneStart(zone, query);
  const isAsked = query.type === TYPE.SOA && start === HEADER_BYTES && rcode === RCODE.NOERROR;
  const isInside = isWithin(query.name, zone.domain);
  writer.soa(zone.soa, start, isInside, isAsked ? 'answer' : 'authority');
  return end(query, rcode, options);
}

/** Follows a CNAME; the code is that of the last name (RFC 6604, 2.1). */
function chase(zone: Zone, query: Query, first: Rrset, options: ResolveOptions): Resolved {
  let owner = HEADER_BYTES;
  let cname = first;
  for (let hop = 0; hop < CNAMES_MAX; hop++) {
    const target = cname.target ?? '';
    const targetAt = writer.at + RECORD_HEADER_BYTES;
    writer.answer(cname, owner, options.random);
    if (writer.isTruncated) return end(query, RCODE.NOERROR, options);
    owner = targetAt;
    const entry = zone.lookup(target);
    const standing = entry === undefined ? zone.standing(target) : undefined;
    if (standing?.kind === 'foreign') return end(query, RCODE.NOERROR, options, target);
    if (entry?.own === 'ready' && !zone.isReady) return failed(query, RCODE.SERVFAIL, options);
    if (entry?.isInhabited === false && zone.isElsewhere(target))
      return end(query, RCODE.NOERROR, options, target);
    const set = entry && recordsOf(entry, query.type, options);
    if (set !== undefined) {
      writer.answer(set, owner, options.random);
      return end(query, RCODE.NOERROR, options);
    }
    if (entry?.cname === undefined) {
      const isInside = isWithin(target, zone.domain);
      const beforeZone = isInside
        ? cname.bytes.length - RECORD_HEADER_BYTES - zone.domainWire.length
        : 0;
      const isAsked = query.type === TYPE.SOA && target === zone.domain;
      writer.soa(zone.soa, owner + beforeZone, isInside, isAsked ? 'answer' : 'authority');
      const isThere = standing?.isThere ?? true;
      return end(query, isThere ? RCODE.NOERROR : RCODE.NXDOMAIN, options);
    }
    cname = entry.cname;
  }
  return failed(query, RCODE.SERVFAIL, options);
}
