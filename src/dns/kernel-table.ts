/**
 * What the kernel's table of names holds, and what to write when the zone changed. What has no
 * room there, or no shape for it, is left to user space; what had no room comes in as others go.
 */
import { dnsLayouts, encodeDnsAnswer, encodeDnsKey, isForKernel } from './kernel-abi.ts';
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

/** What the kernel has, in few bytes: there are three for each service. */
interface Held {
  readonly type: number;
  readonly count: number;
  readonly rotate: number;
  /** A character for each byte: an array of some 30 bytes takes 250. */
  readonly tail: string;
}

function heldOf({ type, count, rotate, tail }: PlainAnswer): Held {
  return { type, count, rotate, tail: String.fromCharCode(...tail) };
}

function isSame(held: Held, { count, rotate, tail }: PlainAnswer): boolean {
  if (held.count !== count || held.rotate !== rotate || held.tail.length !== tail.length)
    return false;
  return tail.every((byte, i) => byte === held.tail.charCodeAt(i));
}

function keyOf(name: string, type: number, into?: Uint8Array): Uint8Array {
  const key = encodeDnsKey(name, type, into);
  if (key === undefined) throw new Error(`bug: ${name} is too long for the kernel`);
  return key;
}

const NOTHING: readonly PlainAnswer[] = [];

export class KernelTable {
  readonly #entriesMax: number;
  /** By name what the kernel has; not as it has it: keys and values are some 700 bytes. */
  readonly #held = new Map<string, readonly Held[]>();
  readonly #left = new Map<string, readonly PlainAnswer[]>();
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
    const wanted = new Map<string, PlainAnswer[]>();
    for (const entry of entries) {
      if (!isForKernel(entry)) continue;
      const there = wanted.get(entry.name);
      if (there === undefined) wanted.set(entry.name, [entry]);
      else there.push(entry);
    }
    const all = names ?? [...this.#held.keys(), ...this.#left.keys(), ...wanted.keys()];
    const touched = new Set(all);
    const deleted: Uint8Array[] = [];
    for (const name of touched) this.#drop(name, wanted.get(name) ?? NOTHING, deleted);
    const written: PlainAnswer[] = [];
    for (const name of touched) this.#put(name, wanted.get(name) ?? NOTHING, written);
    if (deleted.length > 0) {
      for (const [name, waiting] of this.#left) {
        if (this.#used >= this.#entriesMax) break;
        this.#put(name, waiting, written);
      }
    }
    return { deleted: joined(deleted), ...this.#encoded(written) };
  }

  #encoded(written: readonly PlainAnswer[]): Pick<TableWrites, 'keys' | 'values'> {
    const [keyBytes, valueBytes] = [dnsLayouts.key.bytes, dnsLayouts.answer.bytes];
    const keys = new Uint8Array(written.length * keyBytes);
    const values = new Uint8Array(written.length * valueBytes);
    for (const [i, entry] of written.entries()) {
      const room = keys.subarray(i * keyBytes, (i + 1) * keyBytes);
      const key = keyOf(entry.name, entry.type, room);
      encodeDnsAnswer(
        entry,
        key,
        this.#seed,
        values.subarray(i * valueBytes, (i + 1) * valueBytes),
      );
    }
    return { keys, values };
  }

  #drop(name: string, wanted: readonly PlainAnswer[], deleted: Uint8Array[]): void {
    this.#left.delete(name);
    const held = this.#held.get(name);
    if (held === undefined) return;
    const kept = held.filter(({ type }) => wanted.some((entry) => entry.type === type));
    if (kept.length === held.length) return;
    for (const one of held) if (!kept.includes(one)) deleted.push(keyOf(name, one.type));
    this.#used -= held.length - kept.length;
    if (kept.length > 0) this.#held.set(name, kept);
    else this.#held.delete(name);
  }

  #put(name: string, wanted: readonly PlainAnswer[], written: PlainAnswer[]): void {
    const left: PlainAnswer[] = [];
    const before = this.#held.get(name) ?? [];
    const held = before.filter(({ type }) => !wanted.some((entry) => entry.type === type));
    for (const entry of wanted) {
      const there = before.find(({ type }) => type === entry.type);
      if (there === undefined && this.#used >= this.#entriesMax) {
        left.push(entry);
        continue;
      }
      if (there === undefined) this.#used++;
      if (there !== undefined && isSame(there, entry)) {
        held.push(there);
        continue;
      }
      written.push(entry);
      held.push(heldOf(entry));
    }
    if (held.length > 0) this.#held.set(name, held);
    if (left.length > 0) this.#left.set(name, left);
    else this.#left.delete(name);
  }
}
