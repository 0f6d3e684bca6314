/**
 * A CNAME that leads out of the zone: our records, and behind them what others say of its target,
 * as one answer (RFC 1034, 4.3.2). Asked for as a query of its own, so that it is cached, merged and
 * bounded as all others are.
 */
import { pack } from './forward/pack.ts';
import { readRecord, type Record } from './forward/records.ts';
import { writeAnswer } from './forward/answer.ts';
import { u16 } from './forward/wire.ts';
import { nameToWire } from './names.ts';
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

interface Sections {
  readonly rcode: number;
  readonly answers: readonly Record[];
  readonly authorities: readonly Record[];
}

/**
 * `ours` and `theirs` are whole messages, not cut. Undefined where they do not fit into one: what
 * is ours is answered then.
 */
export function withTarget(
  query: Query,
  ours: Uint8Array,
  theirs: Uint8Array,
  options: { readonly transport: 'udp' | 'tcp'; readonly udpSizeMax: number },
): Uint8Array | undefined {
  const [first, second] = [readSections(ours), readSections(theirs)];
  if (first === undefined || second === undefined) return undefined;
  const packed = pack(query.question, {
    rcode: second.rcode,
    isAuthentic: false,
    answers: [...first.answers, ...second.answers],
    authorities: second.authorities,
    ttl: 0,
  });
  return packed && writeAnswer(packed, query, options, { seconds: 0, isStale: false });
}

function readSections(bytes: Uint8Array): Sections | undefined {
  const counts = [u16(bytes, 6), u16(bytes, 8)] as const;
  // One question, without pointers: we wrote it.
  let at = HEADER_BYTES;
  while ((bytes[at] ?? 0) > 0) at += (bytes[at] ?? 0) + 1;
  at += 5;
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
