/**
 * BPF maps: bytes in, bytes out. Keys and values are exactly as long as the map says; a value of a
 * per-CPU map is the values of all possible CPUs one after the other, each rounded up to 8 bytes.
 *
 * Reading a whole map while others change it: an entry that is there all the time is seen; one
 * that comes or goes meanwhile may be missed or seen twice. It always ends.
 */
import { mapTypeName, mapTypeNumber } from './constants.ts';
import type { MapType, MapTypeLike, Unknown } from './constants.ts';
import { argumentError } from './errors.ts';
import { logged } from './log.ts';
import { native } from './native.ts';
import type { NativeHandle } from './native.ts';
import { Pinnable } from './pinnable.ts';
import { handleOf, Resource } from './resource.ts';

export interface MapSpec {
  readonly name: string;
  readonly type: MapType | Unknown;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

export interface MapInfo extends MapSpec {
  readonly id: number;
  /** Length of what get() returns: valueSize, or more for per-CPU maps. */
  readonly valueBytes: number;
}

export interface MapCreateOptions {
  readonly name: string;
  readonly type: MapTypeLike;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags?: number;
  /** The shape of inner maps, for array_of_maps and hash_of_maps. */
  readonly innerMap?: BpfMap;
}

/** n keys and n values, each one after the other without gaps. */
export interface Entries {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly count: number;
}

const setModes = { any: 0, noexist: 1, exist: 2 } as const;
export type SetMode = keyof typeof setModes;

/**
 * Entries of one crossing: enough to make the crossing cheap, few enough to stay in cache. A
 * guess.
 */
const CHUNK_BYTES = 256 * 1024;
const CHUNK_ENTRIES_MAX = 16_384;

export class BpfMap extends Pinnable {
  readonly info: MapInfo;

  constructor(handle: NativeHandle) {
    const raw = native.mapInfo(handle);
    super(handle, `BpfMap ${raw.name}`);
    this.info = Object.freeze({ ...raw, type: mapTypeName(raw.type) });
  }

  static openPinned(path: string): BpfMap {
    return new BpfMap(native.mapOpenPinned(path));
  }

  static openById(id: number): BpfMap {
    return new BpfMap(native.mapOpenById(id));
  }

  static create(options: MapCreateOptions): BpfMap {
    const { name, type, keySize, valueSize, maxEntries, flags = 0, innerMap } = options ?? {};
    const number = mapTypeNumber(type, 'map create');
    const inner = innerMap === undefined ? undefined : handleOf(innerMap, 'map create');
    return new BpfMap(
      logged(() => native.mapCreate(name, number, keySize, valueSize, maxEntries, flags, inner)),
    );
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return native.mapGet(handleOf(this, 'map get'), key);
  }

  /** Maps of maps take a BpfMap as value, program arrays a BpfProgram. */
  set(key: Uint8Array, value: Uint8Array | Resource, mode: SetMode = 'any'): void {
    if (typeof mode !== 'string' || !Object.hasOwn(setModes, mode)) {
      throw argumentError('map update', "mode must be 'any', 'noexist' or 'exist'");
    }
    const given = value instanceof Resource ? handleOf(value, 'map update') : value;
    native.mapSet(handleOf(this, 'map update'), key, given, setModes[mode]);
  }

  /** False when there was no such key. */
  delete(key: Uint8Array): boolean {
    return native.mapDelete(handleOf(this, 'map delete'), key);
  }

  /**
   * n keys and n values in one crossing. Stops at the first error, whose `applied` tells how far
   * it got.
   */
  setBatch(keys: Uint8Array, values: Uint8Array): void {
    native.mapUpdateBatch(handleOf(this, 'map update batch'), keys, values);
  }

  /** How many of the keys were there. */
  deleteBatch(keys: Uint8Array): number {
    return native.mapDeleteBatch(handleOf(this, 'map delete batch'), keys);
  }

  /** The whole map, one crossing per chunk, of at most `most` entries: for who needs the first ones alone. */
  *chunks(most = CHUNK_ENTRIES_MAX): Generator<Entries, void, undefined> {
    const handle = handleOf(this, 'map read batch');
    const { keySize, valueBytes, maxEntries } = this.info;
    const fit = Math.floor(CHUNK_BYTES / Math.max(1, keySize + valueBytes));
    const wanted = Math.min(fit, CHUNK_ENTRIES_MAX, maxEntries, most);
    const entries = Math.max(1, wanted);
    // Maps whose cursor is a key may start over when it is deleted; four rounds are enough for
    // anyone.
    const entriesMax = 4 * maxEntries + CHUNK_ENTRIES_MAX;
    let cursor: Uint8Array | undefined;
    for (let seen = 0; seen < entriesMax;) {
      const chunk = native.mapReadChunk(handle, cursor, entries);
      if (chunk === undefined) return yield* this.#chunksByKey(handle, entries);
      const { keys, values, count } = chunk;
      if (count > 0) yield { keys, values, count };
      cursor = chunk.cursor;
      if (cursor === undefined) return;
      seen += count;
    }
  }

  /** Key by key within the native half, for maps and kernels without batches. */
  *#chunksByKey(handle: NativeHandle, entries: number): Generator<Entries, void, undefined> {
    const all = native.mapKeys(handle);
    const step = entries * this.info.keySize;
    for (let at = 0; at < all.length; at += step) {
      const { keys, values, count } = native.mapGetMany(handle, all.subarray(at, at + step));
      if (count > 0) yield { keys, values, count };
    }
  }

  *entries(): Generator<[key: Uint8Array, value: Uint8Array], void, undefined> {
    const { keySize, valueBytes } = this.info;
    for (const { keys, values, count } of this.chunks()) {
      for (let i = 0; i < count; i++) {
        yield [
          keys.subarray(i * keySize, (i + 1) * keySize),
          values.subarray(i * valueBytes, (i + 1) * valueBytes),
        ];
      }
    }
  }

  [Symbol.iterator](): Generator<[key: Uint8Array, value: Uint8Array], void, undefined> {
    return this.entries();
  }

  /** Everything at once; of an array in the order of its indices. */
  dump(): Entries {
    const chunks = [...this.chunks()];
    const [only] = chunks;
    if (only !== undefined && chunks.length === 1) return only;
    const join = (pick: 'keys' | 'values'): Uint8Array => {
      const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk[pick].length, 0));
      let at = 0;
      for (const chunk of chunks) {
        all.set(chunk[pick], at);
        at += chunk[pick].length;
      }
      return all;
    };
    const count = chunks.reduce((sum, chunk) => sum + chunk.count, 0);
    return { keys: join('keys'), values: join('values'), count };
  }

  /** No writes from user space any more, by anyone, for good. */
  freeze(): void {
    native.mapFreeze(handleOf(this, 'map freeze'));
  }
}
