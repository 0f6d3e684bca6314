/**
 * Which index of an ARRAY map is free. Pure: time comes in.
 *
 * A freed index rests before it is given out again, so that a program that
 * read a reference to it just before finds the old bytes there. The programs
 * check what they read anyway (bpf/abi.h); the rest makes a mismatch rare.
 */

/** 200 ms: a connect program runs for microseconds; preemption is covered by the check. A guess. */
export const restMs = 200;

/** First in, first out; each item with the time it was put in. */
class RestQueue<T> {
  #items: { readonly item: T; readonly at: number }[] = [];
  #head = 0;

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: T, at: number): void {
    this.#items.push({ item, at });
  }

  /** The oldest item if it has rested long enough. */
  rested(now: number): T | undefined {
    const first = this.#items[this.#head];
    if (first === undefined || first.at + restMs > now) return undefined;
    this.#head++;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return first.item;
  }
}

/** Which indices are in use: a byte each, where a Set would take 40 or more. */
class IndexSet {
  #marks = new Uint8Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(index: number): boolean {
    return this.#marks[index] === 1;
  }

  /** False when it was there. */
  add(index: number): boolean {
    if (this.has(index)) return false;
    if (index >= this.#marks.length) {
      const grown = new Uint8Array(Math.max(index + 1, this.#marks.length * 2));
      grown.set(this.#marks);
      this.#marks = grown;
    }
    this.#marks[index] = 1;
    this.#size++;
    return true;
  }

  /** False when it was not there. */
  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.#marks[index] = 0;
    this.#size--;
    return true;
  }
}

/** Hands out single indices, lowest fresh one last so that maps stay dense. */
export class IndexPool {
  readonly limit: number;
  #next = 0;
  readonly #free: number[] = [];
  readonly #resting = new RestQueue<number>();
  readonly #taken = new IndexSet();

  constructor(limit: number, used: Iterable<number> = []) {
    this.limit = limit;
    for (const index of used) {
      if (index >= limit) continue;
      this.#taken.add(index);
      this.#next = Math.max(this.#next, index + 1);
    }
    for (let i = this.#next - 1; i >= 0; i--) if (!this.#taken.has(i)) this.#free.push(i);
  }

  get used(): number {
    return this.#taken.size;
  }

  has(index: number): boolean {
    return this.#taken.has(index);
  }

  /** An index, or undefined when all are in use or resting. */
  take(now: number): number | undefined {
    for (let index; (index = this.#resting.rested(now)) !== undefined;) this.#free.push(index);
    const index = this.#free.pop() ?? (this.#next < this.limit ? this.#next++ : undefined);
    if (index !== undefined) this.#taken.add(index);
    return index;
  }

  /** What a damaged table claims without having taken it is ignored. */
  give(index: number, now: number): void {
    if (this.#taken.delete(index)) this.#resting.push(index, now);
  }

  /** Gives back what was taken but never written. */
  untake(index: number): void {
    if (this.#taken.delete(index)) this.#free.push(index);
  }

  get resting(): number {
    return this.#resting.size;
  }
}

/** Smallest k with 2^k ≥ count. */
export function orderOf(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}

/**
 * Hands out blocks of 2^k aligned slots: a buddy allocator (Knuth, TAOCP 1,
 * 2.5, Algorithm R and S). `limit` need not be a power of two.
 */
export class BlockPool {
  readonly limit: number;
  readonly #free: Set<number>[];
  readonly #resting = new RestQueue<{ readonly base: number; readonly order: number }>();
  /** Order of each block in use, by its base. */
  readonly #taken = new Map<number, number>();
  #used = 0;

  constructor(limit: number, used: Iterable<{ base: number; count: number }> = []) {
    this.limit = limit;
    this.#free = Array.from({ length: 33 }, () => new Set<number>());
    const blocks = [...used].map(({ base, count }) => ({ base, order: orderOf(count) }));
    blocks.sort((a, b) => a.base - b.base);
    let at = 0;
    for (const { base, order } of blocks) {
      this.#release(at, base);
      at = base + 2 ** order;
      this.#taken.set(base, order);
      this.#used += 2 ** order;
    }
    this.#release(at, limit);
  }

  /** Slots in use, rounding included. */
  get used(): number {
    return this.#used;
  }

  /** Frees [from, to) as the largest aligned blocks that fit. */
  #release(from: number, to: number): void {
    let at = from;
    while (at < to) {
      let order = at === 0 ? 31 : 31 - Math.clz32(at & -at);
      while (2 ** order > to - at) order--;
      this.#merge(at, order);
      at += 2 ** order;
    }
  }

  #merge(base: number, order: number): void {
    let at = base;
    let k = order;
    for (;;) {
      const buddy = at % 2 ** (k + 1) === 0 ? at + 2 ** k : at - 2 ** k;
      if (!this.#free[k]?.delete(buddy)) break;
      at = Math.min(at, buddy);
      k++;
    }
    this.#free[k]?.add(at);
  }

  /** The base of a block of at least `count` slots, or undefined. */
  take(count: number, now: number): number | undefined {
    for (let block; (block = this.#resting.rested(now)) !== undefined;) {
      this.#merge(block.base, block.order);
    }
    const order = orderOf(count);
    let k = order;
    while (k < 32 && this.#free[k]?.size === 0) k++;
    const base = this.#free[k]?.values().next().value;
    if (base === undefined) return undefined;
    this.#free[k]?.delete(base);
    for (; k > order; k--) this.#free[k - 1]?.add(base + 2 ** (k - 1));
    this.#taken.set(base, order);
    this.#used += 2 ** order;
    return base;
  }

  /** What a damaged table claims without having taken it is ignored. */
  give(base: number, now: number): void {
    const order = this.#drop(base);
    if (order !== undefined) this.#resting.push({ base, order }, now);
  }

  /** Gives back what was taken but never written. */
  untake(base: number): void {
    const order = this.#drop(base);
    if (order !== undefined) this.#merge(base, order);
  }

  #drop(base: number): number | undefined {
    const order = this.#taken.get(base);
    if (order === undefined) return undefined;
    this.#taken.delete(base);
    this.#used -= 2 ** order;
    return order;
  }

  get resting(): number {
    return this.#resting.size;
  }
}

/** Blocks that a damaged table shows twice are kept out of the allocator. */
export function withoutOverlaps(blocks: { base: number; count: number }[]): typeof blocks {
  blocks.sort((a, b) => a.base - b.base);
  let end = 0;
  return blocks.filter(({ base, count }) => {
    const size = 2 ** orderOf(count);
    if (base < end || base % size !== 0) return false;
    end = base + size;
    return true;
  });
}
