/**
 * An image of the kernel's service tables in user space: what was applied, or
 * what a dump found. Pure bytes; nothing here knows the addon.
 */
import {
  decodeBackend,
  decodeName,
  decodeService,
  decodeSlot,
  decodeU32,
  bytesToKey,
  putKey,
  putU32,
  layouts,
  u32At,
} from './abi.ts';
import type { BackendEntry, NameEntry, ServiceEntry, SlotEntry } from './abi.ts';

/** Maps that the reconciler writes, without the `zh_` of their kernel names. */
export type TableName =
  | 'vips'
  | 'services'
  | 'slots'
  | 'backends'
  | 'names'
  | 'svc_stats'
  | 'bk_stats'
  | 'meta';

export const keyBytes: Readonly<Record<TableName, number>> = {
  vips: layouts.vipKey.bytes,
  services: 4,
  slots: 4,
  backends: 4,
  names: 4,
  svc_stats: 4,
  bk_stats: 4,
  meta: 4,
};

export const valueBytes: Readonly<Record<TableName, number>> = {
  vips: 4,
  services: layouts.service.bytes,
  slots: layouts.slot.bytes,
  backends: layouts.backend.bytes,
  names: layouts.name.bytes,
  svc_stats: layouts.serviceStats.bytes,
  bk_stats: layouts.backendStats.bytes,
  meta: layouts.meta.bytes,
};

/** Growable bytes of an ARRAY map; what was never written reads as zero. */
export class ByteTable {
  readonly valueBytes: number;
  #bytes: Uint8Array;
  #high = 0;

  constructor(size: number, bytes = new Uint8Array(0)) {
    this.valueBytes = size;
    this.#bytes = bytes;
    this.#high = bytes.length / size;
  }

  /** One more than the highest index ever written. */
  get high(): number {
    return this.#high;
  }

  get(index: number): Uint8Array {
    const at = index * this.valueBytes;
    if (index >= this.#high) return new Uint8Array(this.valueBytes);
    return this.#bytes.subarray(at, at + this.valueBytes);
  }

  /** What is at `at` in a value. */
  u32(index: number, at: number): number {
    return index < this.#high ? u32At(this.#bytes, index * this.valueBytes + at) : 0;
  }

  /** The value is at `from` in `bytes`. */
  set(index: number, bytes: Uint8Array, from = 0): void {
    const end = (index + 1) * this.valueBytes;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2, 64 * this.valueBytes));
      grown.set(this.#bytes.subarray(0, this.#high * this.valueBytes));
      this.#bytes = grown;
    }
    // Some 20 bytes, 100,000 times: a view of them costs more than they do.
    const start = index * this.valueBytes;
    for (let i = 0; i < this.valueBytes; i++) this.#bytes[start + i] = bytes[from + i] ?? 0;
    this.#high = Math.max(this.#high, index + 1);
  }

  /** Takes over `bytes` (whole entries, from index 0 on). */
  load(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#high = bytes.length / this.valueBytes;
  }

  /** Whether both read the same at every index. */
  equals(other: ByteTable): boolean {
    const [short, long] = this.end < other.end ? [this, other] : [other, this];
    const [these, those] = [short.#bytes, long.#bytes];
    for (let i = 0; i < short.end; i++) if (these[i] !== those[i]) return false;
    for (let i = short.end; i < long.end; i++) if (those[i] !== 0) return false;
    return true;
  }

  /** Whether `values`, from `index` on, read the same here; of those beyond what was written nothing is said. */
  holds(index: number, values: Uint8Array): boolean {
    const start = index * this.valueBytes;
    const end = Math.min(values.length, this.end - start);
    for (let i = 0; i < end; i++) if (this.#bytes[start + i] !== values[i]) return false;
    return true;
  }

  private get end(): number {
    return this.#high * this.valueBytes;
  }

  clone(): ByteTable {
    return new ByteTable(this.valueBytes, this.#bytes.slice(0, this.#high * this.valueBytes));
  }
}

/** Writes of one kind to one map, in order; `values` is empty for deletes. */
export interface WriteGroup {
  readonly table: TableName;
  readonly kind: 'set' | 'delete';
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

export interface Member {
  readonly id: number;
  readonly slot: SlotEntry;
  readonly backend: BackendEntry;
}

/** The revision of tables whose zh_meta says nothing that we wrote: new, or damaged. */
export const noRevision = -1;

export class Tables {
  /** struct zh_vip_key as a string → service index, or noSuchPort. */
  readonly vips: Map<string, number>;
  readonly services: ByteTable;
  readonly slots: ByteTable;
  readonly backends: ByteTable;
  readonly names: Map<number, NameEntry>;
  revision = 0;

  constructor(from?: Tables) {
    this.vips = new Map(from?.vips);
    this.names = new Map(from?.names);
    this.services = from?.services.clone() ?? new ByteTable(valueBytes.services);
    this.slots = from?.slots.clone() ?? new ByteTable(valueBytes.slots);
    this.backends = from?.backends.clone() ?? new ByteTable(valueBytes.backends);
    this.revision = from?.revision ?? 0;
  }

  /** Whether both hold the same entries. */
  equals(other: Tables): boolean {
    if (this.vips.size !== other.vips.size || this.names.size !== other.names.size) return false;
    for (const [key, index] of this.vips) if (other.vips.get(key) !== index) return false;
    for (const [index, name] of this.names) {
      const theirs = other.names.get(index);
      if (theirs?.service !== name.service || theirs.port !== name.port) return false;
    }
    return (
      this.services.equals(other.services) &&
      this.slots.equals(other.slots) &&
      this.backends.equals(other.backends)
    );
  }

  service(index: number): ServiceEntry {
    return decodeService(this.services.get(index));
  }

  slot(index: number): SlotEntry {
    return decodeSlot(this.slots.get(index));
  }

  backend(id: number): BackendEntry {
    return decodeBackend(this.backends.get(id));
  }

  /** Of a backend, without all the rest: each new one asks. */
  incarnation(id: number): number {
    return this.backends.u32(id, layouts.backend.fields.incarnation[0]);
  }

  /** The members that a service's entry points at, whether or not they make sense. */
  members(entry: ServiceEntry): Member[] {
    const out: Member[] = [];
    const end = Math.min(entry.base + entry.members, this.slots.high);
    for (let at = entry.base; at < end; at++) {
      const slot = this.slot(at);
      out.push({ id: slot.backend, slot, backend: this.backend(slot.backend) });
    }
    return out;
  }

  /** Applies item `at` of a group, as the kernel would. */
  write(group: WriteGroup, at: number): void {
    const { table } = group;
    if (table === 'services' || table === 'slots' || table === 'backends') {
      this[table].set(u32At(group.keys, at * 4), group.values, at * valueBytes[table]);
      return;
    }
    const key = group.keys.subarray(at * keyBytes[table], (at + 1) * keyBytes[table]);
    const value = group.values.subarray(at * valueBytes[table], (at + 1) * valueBytes[table]);
    if (table === 'vips') {
      if (group.kind === 'delete') this.vips.delete(bytesToKey(key));
      else this.vips.set(bytesToKey(key), decodeU32(value));
    } else if (table === 'names') {
      if (group.kind === 'delete') this.names.delete(decodeU32(key));
      else this.names.set(decodeU32(key), decodeName(value));
    }
  }

  apply(groups: readonly WriteGroup[]): void {
    for (const group of groups) for (let at = 0; at < group.count; at++) this.write(group, at);
  }
}

/** Collects the writes of one group. */
export class GroupBuilder {
  readonly table: TableName;
  readonly kind: 'set' | 'delete';
  readonly #valueSize: number;
  #keys: Uint8Array;
  #values: Uint8Array;
  #count = 0;

  constructor(table: TableName, kind: 'set' | 'delete') {
    this.table = table;
    this.kind = kind;
    this.#keys = new Uint8Array(keyBytes[table] * 16);
    this.#valueSize = kind === 'set' ? valueBytes[table] : 0;
    this.#values = new Uint8Array(this.#valueSize * 16);
  }

  /** Adds an item; its value is to be written into what this returns, which is zero, before the next one. */
  add(key: number | string): Uint8Array {
    const keySize = keyBytes[this.table];
    const valueSize = this.#valueSize;
    if ((this.#count + 1) * keySize > this.#keys.length) {
      this.#keys = grow(this.#keys);
      this.#values = grow(this.#values);
    }
    const at = this.#count++;
    if (typeof key === 'number') putU32(this.#keys, at * keySize, key);
    else putKey(this.#keys, key, at * keySize);
    return this.#values.subarray(at * valueSize, (at + 1) * valueSize);
  }

  build(): WriteGroup {
    return {
      table: this.table,
      kind: this.kind,
      count: this.#count,
      keys: this.#keys.subarray(0, this.#count * keyBytes[this.table]),
      values: this.#values.subarray(0, this.#count * this.#valueSize),
    };
  }
}

function grow(bytes: Uint8Array): Uint8Array {
  const grown = new Uint8Array(bytes.length * 2);
  grown.set(bytes);
  return grown;
}
