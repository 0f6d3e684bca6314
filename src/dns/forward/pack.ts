/**
 * Records packed once as they will be sent: answer and authority sections as they follow a question
 * of this length, compressed, with the places of their TTLs. An answer is then a copy (answer.ts).
 */
import { layoutOf, type Record } from './records.ts';
import { HEADER_BYTES, nameKey, put16, put32, u16 } from './wire.ts';

export interface Packed {
  readonly rcode: number;
  /** The upstream called it authentic (AD). */
  readonly isAuthentic: boolean;
  readonly tail: Uint8Array;
  /** Offsets in `tail`; behind each TTL are the length of the data and the data: a record ends there. */
  readonly ttlAt: Uint16Array;
  /** How many records are answers; the others are authority. */
  readonly answers: number;
  /** How long it may be kept; 0: not at all. */
  readonly ttl: number;
}

export interface Sections {
  readonly rcode: number;
  readonly isAuthentic: boolean;
  readonly answers: readonly Record[];
  readonly authorities: readonly Record[];
  readonly ttl: number;
}

/** Room for header, question and OPT of the largest name. */
const TAIL_BYTES_MAX = 65_535 - 300;
const POINTER_MAX = 0x3fff;

/** Undefined where it would not fit into a message: names can have been pointers many times over. */
export function pack(question: Uint8Array, sections: Sections): Packed | undefined {
  const records = [...sections.answers, ...sections.authorities];
  const writer = new Writer(HEADER_BYTES + question.length, sizeBound(records));
  writer.know(question.subarray(0, question.length - 4), HEADER_BYTES);
  const ttlAt = new Uint16Array(records.length);
  let i = 0;
  for (const record of records) {
    const at = writer.record(record);
    if (writer.length > TAIL_BYTES_MAX) return undefined;
    ttlAt[i++] = at;
  }
  const { rcode, isAuthentic, answers, ttl } = sections;
  return { rcode, isAuthentic, tail: writer.bytes(), ttlAt, answers: answers.length, ttl };
}

function sizeBound(records: readonly Record[]): number {
  let size = 0;
  for (const record of records) size += record.owner.length + 10 + record.data.length;
  return Math.min(size, TAIL_BYTES_MAX + 65_536 + 512);
}

export function recordEnd(packed: Packed, index: number): number {
  const at = packed.ttlAt[index] ?? 0;
  return at + 6 + u16(packed.tail, at + 4);
}

class Writer {
  readonly #base: number;
  readonly #bytes: Uint8Array;
  readonly #known = new Map<string, number>();
  length = 0;

  constructor(base: number, size: number) {
    this.#base = base;
    this.#bytes = new Uint8Array(size);
  }

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }

  /** Every label of a name that is in the message at this offset can be pointed to. */
  know(name: Uint8Array, offset: number): void {
    const key = nameKey(name);
    for (let at = 0; (name[at] ?? 0) > 0; at += (name[at] ?? 0) + 1) {
      const suffix = key.slice(at);
      if (offset + at > POINTER_MAX || this.#known.has(suffix)) return;
      this.#known.set(suffix, offset + at);
    }
  }

  /** The offset of its TTL. */
  record(record: Record): number {
    this.#name(record.owner, true);
    put16(this.#bytes, this.length, record.type);
    put16(this.#bytes, this.length + 2, record.class);
    put32(this.#bytes, this.length + 4, record.ttl);
    const ttlAt = this.length + 4;
    this.length += 10;
    this.#data(record);
    put16(this.#bytes, ttlAt + 4, this.length - ttlAt - 6);
    return ttlAt;
  }

  #data({ type, data }: Record): void {
    const layout = layoutOf(type);
    if (layout === undefined || !layout.isCompressible) return this.#raw(data);
    this.#raw(data.subarray(0, layout.before));
    let at = layout.before;
    for (let i = 0; i < layout.names; i++) {
      const end = nameEnd(data, at);
      this.#name(data.subarray(at, end), true);
      at = end;
    }
    this.#raw(data.subarray(at));
  }

  #raw(data: Uint8Array): void {
    this.#bytes.set(data, this.length);
    this.length += data.length;
  }

  #name(name: Uint8Array, isCompressible: boolean): void {
    const start = this.length;
    const key = nameKey(name);
    let at = 0;
    while ((name[at] ?? 0) > 0) {
      const target = isCompressible ? this.#known.get(key.slice(at)) : undefined;
      if (target !== undefined) {
        this.#raw(name.subarray(0, at));
        put16(this.#bytes, this.length, 0xc000 | target);
        this.length += 2;
        this.know(name, this.#base + start);
        return;
      }
      at += (name[at] ?? 0) + 1;
    }
    this.#raw(name);
    this.know(name, this.#base + start);
  }
}

function nameEnd(data: Uint8Array, start: number): number {
  let at = start;
  while ((data[at] ?? 0) > 0) at += (data[at] ?? 0) + 1;
  return at + 1;
}
