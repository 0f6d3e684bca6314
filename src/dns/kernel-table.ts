/**
 * What the kernel's table of names holds, and what to write when the zone changed. What has no
 * room there, or no shape for it, is left to user space; what had no room comes in as others go.
 */
import { encodeDnsAnswer, encodeDnsKey, isForKernel } from './kernel-abi.ts';
import type { PlainAnswer } from './zone.ts';

/** Keys and values one behind the other, as the batch operations take them. Deleted first. */
export interface TableWrites {
  readonly deleted: Uint8Array;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (first === undefined) return new Uint8Array();
  const all = new Uint8Array(parts.length * first.length);
  for (const [i, part] of parts.entries()) all.set(part, i * first.length);
  return all;
}

function isSame(x: PlainAnswer, y: PlainAnswer): boolean {
  if (x.count !== y.count || x.rotate !== y.rotate || x.tail.length !== y.tail.length) return false;
  return x.tail === y.tail || x.tail.every((byte, i) => byte === y.tail[i]);
}

function keyOf({ name, type }: PlainAnswer): Uint8Array {
  const key = encodeDnsKey(name, type);
  if (key === undefined) throw new Error(`bug: ${name} is too long for the kernel`);
  return key;
}

export class KernelTable {
  readonly #entriesMax: number;
  /** Name → type → what the kernel has; not as it has it: keys and values are some 700 bytes. */
  readonly #held = new Map<string, Map<number, PlainAnswer>>();
  readonly #left = new Map<string, Map<number, PlainAnswer>>();
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
  plan(names: Iterable<string> | undefined, entries: Iterable<PlainAnswer>): TableWrites {
    const wanted = new Map<string, Map<number, PlainAnswer>>();
    for (const entry of entries) {
      if (!isForKernel(entry)) continue;
      const types = wanted.get(entry.name) ?? new Map<number, PlainAnswer>();
      wanted.set(entry.name, types.set(entry.type, entry));
    }
    const all = names ?? [...this.#held.keys(), ...this.#left.keys(), ...wanted.keys()];
    const touched = new Set(all);
    const deleted: Uint8Array[] = [];
    for (const name of touched) this.#drop(name, wanted.get(name), deleted);
    const written: PlainAnswer[] = [];
    for (const name of touched) this.#put(name, wanted.get(name) ?? new Map(), written);
    if (deleted.length > 0) {
      for (const [name, waiting] of this.#left) {
        if (this.#used >= this.#entriesMax) break;
        this.#put(name, waiting, written);
      }
    }
    const pairs = written.map((entry) => {
      const key = keyOf(entry);
      return { key, value: encodeDnsAnswer(entry, key, this.#seed) };
    });
    return {
      deleted: joined(deleted),
      keys: joined(pairs.map(({ key }) => key)),
      values: joined(pairs.map(({ value }) => value)),
    };
  }

  #drop(name: string, wanted: Map<number, PlainAnswer> | undefined, deleted: Uint8Array[]): void {
    this.#left.delete(name);
    const held = this.#held.get(name);
    for (const [type, entry] of held ?? []) {
      if (wanted?.has(type) === true) continue;
      held?.delete(type);
      this.#used--;
      deleted.push(keyOf(entry));
    }
    if (held?.size === 0) this.#held.delete(name);
  }

  #put(name: string, wanted: Map<number, PlainAnswer>, written: PlainAnswer[]): void {
    const left = new Map<number, PlainAnswer>();
    for (const [type, entry] of wanted) {
      const held = this.#held.get(name) ?? new Map<number, PlainAnswer>();
      const before = held.get(type);
      if (before === undefined && this.#used >= this.#entriesMax) {
        left.set(type, entry);
        continue;
      }
      if (before === undefined) this.#used++;
      if (before === undefined || !isSame(before, entry)) written.push(entry);
      this.#held.set(name, held.set(type, entry));
    }
    if (left.size > 0) this.#left.set(name, left);
    else this.#left.delete(name);
  }
}
