/** A queue that is served from its newest end and dropped from at its oldest one. */

export class Newest<T> {
  /** Taken ones are left as undefined until they are at an end. */
  #items: (T | undefined)[] = [];
  readonly #places = new Map<T, number>();
  #head = 0;

  get size(): number {
    return this.#places.size;
  }

  push(item: T): void {
    this.#places.set(item, this.#items.length);
    this.#items.push(item);
  }

  takeNewest(): T | undefined {
    while (this.#items.length > this.#head) {
      const item = this.#items.pop();
      if (item !== undefined && this.#places.delete(item)) return item;
    }
    this.#clear();
    return undefined;
  }

  takeOldest(): T | undefined {
    while (this.#head < this.#items.length) {
      const item = this.#items[this.#head];
      this.#items[this.#head] = undefined;
      this.#head += 1;
      if (item === undefined || !this.#places.delete(item)) continue;
      if (this.#head > 1024 && this.#head * 2 > this.#items.length) this.#compact();
      return item;
    }
    this.#clear();
    return undefined;
  }

  remove(item: T): void {
    const place = this.#places.get(item);
    if (place === undefined) return;
    this.#places.delete(item);
    this.#items[place] = undefined;
    if (this.#places.size === 0) this.#clear();
    else if (this.#items.length > 2 * this.#places.size + 1024) this.#compact();
  }

  #clear(): void {
    this.#items.length = 0;
    this.#head = 0;
  }

  #compact(): void {
    this.#items = this.#items.slice(this.#head).filter((item) => item !== undefined);
    this.#head = 0;
    this.#places.clear();
    for (const [place, item] of this.#items.entries())
      if (item !== undefined) this.#places.set(item, place);
  }
}
