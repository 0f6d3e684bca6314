/**
 * What the kernel's table of names holds, and what to write when the zone changed. What has no
 * room there, or no shape for it, is left to user space; what had no room comes in as others go.
 */
import { encodeDnsAnswer, encodeDnsKey } from './kernel-abi.ts';
import type { KernelEntry } from './zone.ts';

/** Keys and values one behind the other, as the batch operations take them. Deleted first. */
export interface TableWrites {
  readonly deleted: Uint8Array;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

interface Slot {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (first === undefined) return new Uint8Array();
  const all = new Uint8Array(parts.length * first.length);
  for (const [i, part] of parts.entries()) all.set(part, i * first.length);
  return all;
}

function isSame(x: Uint8Array, y: Uint8Array): boolean {
  return x.length === y.length && x.every((byte, i) => byte === y[i]);
}

export class KernelTable {
  readonly #entriesMax: number;
  /** Name → type → what the kernel has. */
  readonly #held = new Map<string, Map<number, Slot>>();
  readonly #left = new Map<string, Map<number, Slot>>();
  readonly #seed: number;
  #used = 0;

  /** `seed`: zh_dns_seed of the programs. */
  constructor(entriesMax: number, seed: number) {
    this.#entriesMax = entriesMax;
    this.#seed = seed;
  }

  /** Names and types that the kernel has. */
  get used(): number {
    return this.#used;
  }

  /** Names that had no room. */
  get left(): number {
    return this.#left.size;
  }

  /** Of `names` (absent: of all) the kernel shall have exactly `entries`. */
  plan(names: Iterable<string> | undefined, entries: Iterable<KernelEntry>): TableWrites {
    const wanted = new Map<string, Map<number, Slot>>();
    for (const entry of entries) {
      const key = encodeDnsKey(entry.name, entry.type);
      const value = key === undefined ? undefined : encodeDnsAnswer(entry, key, this.#seed);
      if (key === undefined || value === undefined) continue;
      const slots = wanted.get(entry.name) ?? new Map<number, Slot>();
      wanted.set(entry.name, slots.set(entry.type, { key, value }));
    }
    const all = names ?? [...this.#held.keys(), ...this.#left.keys(), ...wanted.keys()];
    const touched = new Set(all);
    const deleted: Uint8Array[] = [];
    for (const name of touched) this.#drop(name, wanted.get(name), deleted);
    const written: Slot[] = [];
    for (const name of touched) this.#put(name, wanted.get(name) ?? new Map(), written);
    if (deleted.length > 0) {
      for (const [name, slots] of this.#left) {
        if (this.#used >= this.#entriesMax) break;
        this.#put(name, slots, written);
      }
    }
    return {
      deleted: joined(deleted),
      keys: joined(written.map(({ key }) => key)),
      values: joined(written.map(({ value }) => value)),
    };
  }

  #drop(name: string, wanted: Map<number, Slot> | undefined, deleted: Uint8Array[]): void {
    this.#left.delete(name);
    const held = this.#held.get(name);
    for (const [type, { key }] of held ?? []) {
      if (wanted?.has(type) === true) continue;
      held?.delete(type);
      this.#used--;
      deleted.push(key);
    }
    if (held?.size === 0) this.#held.delete(name);
  }

  #put(name: string, wanted: Map<number, Slot>, written: Slot[]): void {
    const left = new Map<number, Slot>();
    for (const [type, slot] of wanted) {
      const held = this.#held.get(name) ?? new Map<number, Slot>();
      const before = held.get(type);
      if (before === undefined && this.#used >= this.#entriesMax) {
        left.set(type, slot);
        continue;
      }
      if (before === undefined) this.#used++;
      if (before === undefined || !isSame(before.value, slot.value)) written.push(slot);
      this.#held.set(name, held.set(type, slot));
    }
    if (left.size > 0) this.#left.set(name, left);
    else this.#left.delete(name);
  }
}
