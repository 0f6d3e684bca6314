/**
 * An immutable map that is cheap to change: split by a hash of the key into
 * buckets, of which an edit copies those it writes to. At 10,000 keys one change
 * copies some 40 entries instead of all.
 *
 * Iterates in no order worth showing to people.
 */

/** 40 entries a bucket at 10,000 keys, while the list of buckets is copied too; a guess. */
const bucketCount = 256;

type Bucket<V> = ReadonlyMap<string, V>;

/** FNV-1a, 32 bits (RFC 9923), folded: its low byte alone depends on few bits of the text. */
function bucketIndex(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) {
    hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  }
  return (hash ^ (hash >>> 16)) & (bucketCount - 1);
}

const noBuckets: readonly Bucket<never>[] = Array.from(
  { length: bucketCount },
  () => new Map<string, never>(),
);

export class BucketMap<V> implements ReadonlyMap<string, V> {
  /** Not private, so that deepEqual() compares what is in them. */
  readonly buckets: readonly Bucket<V>[];
  readonly size: number;

  /** Empty; with arguments for BucketMapEdit alone. */
  constructor(buckets: readonly Bucket<V>[] = noBuckets, size = 0) {
    this.buckets = buckets;
    this.size = size;
  }

  /** The map itself when it is one already. */
  static from<V>(map: ReadonlyMap<string, V>): BucketMap<V> {
    if (map instanceof BucketMap) return map as BucketMap<V>;
    const edit = new BucketMap<V>().edit();
    for (const [key, value] of map) edit.set(key, value);
    return edit.build();
  }

  edit(): BucketMapEdit<V> {
    return new BucketMapEdit(this);
  }

  get(key: string): V | undefined {
    return this.buckets[bucketIndex(key)]?.get(key);
  }

  has(key: string): boolean {
    return this.buckets[bucketIndex(key)]?.has(key) ?? false;
  }

  forEach(visit: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this) visit(value, key, this);
  }

  *entries(): MapIterator<[string, V]> {
    for (const bucket of this.buckets) yield* bucket;
  }

  *keys(): MapIterator<string> {
    for (const bucket of this.buckets) yield* bucket.keys();
  }

  *values(): MapIterator<V> {
    for (const bucket of this.buckets) yield* bucket.values();
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }
}

/** The next version of a BucketMap; may go on after build(), which it does not change. */
export class BucketMapEdit<V> {
  #built: BucketMap<V>;
  #buckets: readonly Bucket<V>[];
  /** The buckets copied since the last build(), and so free to be written to. */
  readonly #copies = new Map<number, Map<string, V>>();
  #size: number;

  constructor(base: BucketMap<V>) {
    this.#built = base;
    this.#buckets = base.buckets;
    this.#size = base.size;
  }

  get(key: string): V | undefined {
    return this.#bucket(bucketIndex(key))?.get(key);
  }

  set(key: string, value: V): void {
    const bucket = this.#writable(bucketIndex(key));
    const before = bucket.size;
    bucket.set(key, value);
    this.#size += bucket.size - before;
  }

  delete(key: string): void {
    const index = bucketIndex(key);
    if (this.#bucket(index)?.has(key) !== true) return;
    this.#writable(index).delete(key);
    this.#size -= 1;
  }

  /** The base itself when nothing was written. */
  build(): BucketMap<V> {
    if (this.#copies.size === 0) return this.#built;
    const buckets = [...this.#buckets];
    for (const [index, copy] of this.#copies) buckets[index] = copy;
    this.#buckets = buckets;
    this.#built = new BucketMap(buckets, this.#size);
    this.#copies.clear();
    return this.#built;
  }

  /** As it is now. Most edits write nothing, and copy nothing then. */
  #bucket(index: number): Bucket<V> | undefined {
    return this.#copies.get(index) ?? this.#buckets[index];
  }

  #writable(index: number): Map<string, V> {
    let copy = this.#copies.get(index);
    if (copy === undefined) {
      copy = new Map(this.#buckets[index]);
      this.#copies.set(index, copy);
    }
    return copy;
  }
}
