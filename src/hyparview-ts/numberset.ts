// A set of small whole numbers, a byte each: thousands of members cost thousands of bytes, which a Set does not.

export class NumberSet {
  #has = new Uint8Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(number: number): boolean {
    return this.#has[number] === 1;
  }

  add(number: number): void {
    if (number >= this.#has.length) {
      const grown = new Uint8Array(Math.max(number + 1, Math.ceil(this.#has.length * 1.25)));
      grown.set(this.#has);
      this.#has = grown;
    }
    if (this.#has[number] === 1) return;
    this.#has[number] = 1;
    this.#size += 1;
  }

  delete(number: number): boolean {
    if (this.#has[number] !== 1) return false;
    this.#has[number] = 0;
    this.#size -= 1;
    return true;
  }

  /** Ascending. */
  *[Symbol.iterator](): Generator<number> {
    for (let number = 0; number < this.#has.length; number++) {
      if (this.#has[number] === 1) yield number;
    }
  }
}
