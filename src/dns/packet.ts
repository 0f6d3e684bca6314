/**
 * Answers as bytes: one writer, used for one answer after the other. Each answer is written
 * into the same scratch space and copied out, as it may be sent much later.
 *
 * What does not fit: records of the answer are left out with TC, additional ones without
 * (RFC 2181, 9). EDNS is answered with EDNS, and its eleven bytes are always kept free.
 */
import { TYPE } from './numbers.ts';
import type { Query } from './query.ts';
import { SRV_TARGET_AT, type Rrset } from './rrset.ts';
import type { Soa } from './soa.ts';

export const HEADER_BYTES = 12;
/** Of an OPT record without options. */
export const OPT_BYTES = 11;
/** Without EDNS (RFC 1035, 4.2.1). */
export const UDP_BYTES_PLAIN = 512;
/** What this host takes over UDP: as DNS Flag Day 2020 has it. */
export const UDP_BYTES_TAKEN = 1232;
/** A length of 16 bits (RFC 1035, 4.2.2). */
const TCP_BYTES_MAX = 65_535;
/** Of a pointer, 14 bits (RFC 1035, 4.1.4). */
const POINTER_MAX = 0x3fff;

/** Answers are cut from it, as Node does with small buffers; a new one costs as much as writing an answer. */
const SLAB_BYTES = 64 * 1024;
let slab = new Uint8Array(SLAB_BYTES);
let slabUsed = 0;

function take(length: number): Uint8Array {
  if (length > SLAB_BYTES / 16) return new Uint8Array(length);
  if (slabUsed + length > SLAB_BYTES) {
    slab = new Uint8Array(SLAB_BYTES);
    slabUsed = 0;
  }
  const bytes = slab.subarray(slabUsed, slabUsed + length);
  slabUsed += length;
  return bytes;
}

/** From here on a copy by the engine is faster, with all that it takes to call it; measured, coarsely. */
const SHORT_BYTES = 160;

function copyBytes(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void {
  if (end - start > SHORT_BYTES) to.set(from.subarray(start, end), at);
  else for (let i = start; i < end; i++) to[at + i - start] = from[i] as number;
}

/** How long an answer may be. */
export function answerBytesMax(query: Query, transport: 'udp' | 'tcp', udpSizeMax: number): number {
  if (transport === 'tcp') return TCP_BYTES_MAX;
  if (query.edns === undefined) return UDP_BYTES_PLAIN;
  return Math.max(UDP_BYTES_PLAIN, Math.min(query.edns.udpSize, udpSizeMax));
}

type Random = () => number;

export class AnswerWriter {
  readonly #bytes = new Uint8Array(TCP_BYTES_MAX);
  /** Which record is written as which. */
  #order = new Uint32Array(64);
  /** Where the n-th one was written. */
  #places = new Uint32Array(64);
  /** Of each address: the answer that it was last added to. */
  #glued = new Uint32Array(64);
  #answerNumber = 0;
  #at = 0;
  #limit = 0;
  #answers = 0;
  #authorities = 0;
  #additionals = 0;
  #isTruncated = false;

  /** Begins with the question; `bytesMax` as answerBytesMax() says. */
  begin(query: Query, bytesMax: number): void {
    const { question } = query;
    copyBytes(question, 0, question.length, this.#bytes, HEADER_BYTES);
    this.#at = HEADER_BYTES + question.length;
    this.#limit = bytesMax - (query.edns === undefined ? 0 : OPT_BYTES);
    this.#answers = 0;
    this.#authorities = 0;
    this.#additionals = 0;
    this.#isTruncated = false;
  }

  /** Where the next record is written. */
  get at(): number {
    return this.#at;
  }

  get isTruncated(): boolean {
    return this.#isTruncated;
  }

  /** Records of the answer section, with what they need in the additional one. */
  answer(set: Rrset, owner: number, random: Random): void {
    if (set.count > this.#order.length) this.#grow(set.count);
    const written = set.isShuffled ? this.#shuffled(set, random) : this.#inOrder(set);
    this.#answers += written;
    if (written < set.count) this.#isTruncated = true;
    if (owner !== HEADER_BYTES)
      for (let i = 0; i < written; i++) this.#point(this.#places[i] as number, owner);
    if (set.glue !== undefined && !this.#isTruncated) this.#addGlue(set, written);
  }

  #grow(count: number): void {
    this.#order = new Uint32Array(2 * count);
    this.#places = new Uint32Array(2 * count);
    this.#glued = new Uint32Array(2 * count);
  }

  #inOrder(set: Rrset): number {
    for (let i = 0; i < set.count; i++) if (!this.#copy(set, i, i)) return i;
    return set.count;
  }

  /** Fisher and Yates, as far as there is room. */
  #shuffled(set: Rrset, random: Random): number {
    const order = this.#order;
    const { count } = set;
    for (let i = 0; i < count; i++) order[i] = i;
    for (let i = 0; i < count; i++) {
      const j = i + Math.floor(random() * (count - i));
      const record = order[j] as number;
      order[j] = order[i] as number;
      order[i] = record;
      if (!this.#copy(set, record, i)) return i;
    }
    return count;
  }

  #copy(set: Rrset, record: number, place: number): boolean {
    const start = set.offsets[record] as number;
    const end = set.offsets[record + 1] as number;
    const at = this.#at;
    if (at + end - start > this.#limit) return false;
    const to = this.#bytes;
    const from = set.bytes;
    copyBytes(from, start, end, to, at);
    this.#order[place] = record;
    this.#places[place] = at;
    this.#at = at + end - start;
    return true;
  }

  #addGlue({ glue, bytes, offsets }: Rrset, count: number): void {
    if (glue === undefined) return;
    const answer = (this.#answerNumber = (this.#answerNumber % 0xffff_ffff) + 1);
    for (let i = 0; i < count; i++) {
      const record = this.#order[i] as number;
      const index = glue.indexes[record] as number;
      if (index < 0 || this.#glued[index] === answer) continue;
      this.#glued[index] = answer;
      const owner = (this.#places[i] as number) + SRV_TARGET_AT;
      const name =
        owner > POINTER_MAX
          ? bytes.subarray((offsets[record] as number) + SRV_TARGET_AT, offsets[record + 1])
          : undefined;
      if (!this.#addTail(glue.tails[index] as Uint8Array, owner, name)) return;
    }
  }

  /** A record without its owner, whose name is at `owner` or, if that is too far for a pointer, given. */
  #addTail(tail: Uint8Array, owner: number, name: Uint8Array | undefined): boolean {
    const length = tail.length + (name?.length ?? 2);
    if (this.#at + length > this.#limit) return false;
    if (name === undefined) this.#point(this.#at, owner);
    else this.#bytes.set(name, this.#at);
    copyBytes(tail, 0, tail.length, this.#bytes, this.#at + length - tail.length);
    this.#at += length;
    this.#additionals += 1;
    return true;
  }

  #point(at: number, to: number): void {
    this.#bytes[at] = 0xc0 | (to >> 8);
    this.#bytes[at + 1] = to;
  }

  /** Additional records of one name: left out if they do not fit. */
  additional(set: Rrset, owner: number): void {
    for (let record = 0; record < set.count; record++) {
      if (!this.#copy(set, record, 0)) return;
      this.#point(this.#places[0] as number, owner);
      this.#additionals += 1;
    }
  }

  /**
   * The SOA record of the zone that begins at `owner`; in the authority section it tells
   * how long there is nothing (RFC 2308, 3).
   */
  soa(soa: Soa, owner: number, isInside: boolean, section: 'answer' | 'authority'): void {
    const record = isInside ? soa.inside : soa.outside;
    const at = this.#at;
    if (at + record.length > this.#limit) {
      this.#isTruncated = true;
      return;
    }
    this.#bytes.set(record, at);
    this.#point(at, owner);
    if (isInside) for (const pointer of soa.pointersAt) this.#point(at + pointer, owner);
    if (section === 'answer') this.#answers += 1;
    else {
      this.#authorities += 1;
      this.#number32(at + 6, soa.negativeTtl);
    }
    this.#at = at + record.length;
  }

  #number32(at: number, value: number): void {
    this.#bytes[at] = value >>> 24;
    this.#bytes[at + 1] = value >>> 16;
    this.#bytes[at + 2] = value >>> 8;
    this.#bytes[at + 3] = value;
  }

  /** The answer, which is the caller's from now on. */
  end(
    query: Query,
    rcode: number,
    isAuthoritative: boolean,
    isRecursionAllowed: boolean,
  ): Uint8Array {
    const bytes = this.#bytes;
    bytes[0] = query.id >> 8;
    bytes[1] = query.id;
    bytes[2] =
      0x80 |
      (isAuthoritative ? 0x04 : 0) |
      (this.#isTruncated ? 0x02 : 0) |
      (query.isRecursionDesired ? 0x01 : 0);
    bytes[3] =
      (isRecursionAllowed ? 0x80 : 0) | (query.isCheckingDisabled ? 0x10 : 0) | (rcode & 15);
    bytes[4] = 0;
    bytes[5] = 1;
    bytes[6] = this.#answers >> 8;
    bytes[7] = this.#answers;
    bytes[8] = 0;
    bytes[9] = this.#authorities;
    if (query.edns !== undefined) this.#opt(rcode, query.edns.isDnssecOk);
    bytes[10] = this.#additionals >> 8;
    bytes[11] = this.#additionals;
    const length = this.#at;
    const answer = take(length);
    copyBytes(bytes, 0, length, answer, 0);
    return answer;
  }

  #opt(rcode: number, isDnssecOk: boolean): void {
    const at = this.#at;
    const bytes = this.#bytes;
    bytes.fill(0, at, at + OPT_BYTES);
    bytes[at + 2] = TYPE.OPT;
    bytes[at + 3] = UDP_BYTES_TAKEN >> 8;
    bytes[at + 4] = UDP_BYTES_TAKEN & 0xff;
    bytes[at + 5] = rcode >> 4;
    bytes[at + 7] = isDnssecOk ? 0x80 : 0;
    this.#at = at + OPT_BYTES;
    this.#additionals += 1;
  }
}

/** One at a time: nothing waits while an answer is written. */
export const writer = new AnswerWriter();

/** An answer with no records, with EDNS if the query had it. */
export function refusal(query: Query, rcode: number, isRecursionAllowed = false): Uint8Array {
  writer.begin(query, UDP_BYTES_PLAIN);
  return writer.end(query, rcode, false, isRecursionAllowed);
}
