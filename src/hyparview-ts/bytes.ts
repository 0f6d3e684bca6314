// Reads and writes the primitives of the wire: bytes, variable-length integers (LEB128, at most 53 bits), short ASCII
// strings, lists with a limit. A Reader throws WireError, and nothing else, on anything that is not right.

export class WireError extends Error {
  override readonly name = 'WireError';
}

export class Writer {
  #bytes: Uint8Array = new Uint8Array(64);
  #length = 0;

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  bool(value: boolean): void {
    this.byte(value ? 1 : 0);
  }

  /** A whole number from 0 to 2^53 - 1. */
  integer(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new WireError(`no integer: ${value}`);
    let rest = value;
    while (rest >= 0x80) {
      this.byte((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.byte(rest);
  }

  word(value: number): void {
    this.#reserve(4);
    for (let shift = 0; shift < 32; shift += 8) this.byte((value >>> shift) & 0xff);
  }

  text(value: string, lengthMax: number): void {
    if (value.length > lengthMax) throw new WireError(`longer than ${lengthMax}: ${value}`);
    this.integer(value.length);
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code < 0x20 || code > 0x7e) throw new WireError(`not printable ASCII: ${value}`);
      this.byte(code);
    }
  }

  blob(value: Uint8Array): void {
    this.integer(value.length);
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  list<T>(items: readonly T[], max: number, write: (item: T) => void): void {
    if (items.length > max) throw new WireError(`a list of ${items.length}, at most ${max}`);
    this.integer(items.length);
    for (const item of items) write(item);
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

export class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  byte(): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw new WireError('truncated');
    this.#at += 1;
    return value;
  }

  bool(): boolean {
    const value = this.byte();
    if (value > 1) throw new WireError(`no boolean: ${value}`);
    return value === 1;
  }

  integer(max = Number.MAX_SAFE_INTEGER): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (i > 0 && byte === 0) throw new WireError('an integer longer than needed');
        if (value > max) throw new WireError(`${value} is above ${max}`);
        return value;
      }
      scale *= 0x80;
    }
    throw new WireError('an integer of more than 53 bits');
  }

  word(): number {
    let value = 0;
    for (let shift = 0; shift < 32; shift += 8) value |= this.byte() << shift;
    return value >>> 0;
  }

  text(lengthMax: number, lengthMin = 0): string {
    const length = this.integer(lengthMax);
    if (length < lengthMin) throw new WireError(`a string of ${length}, at least ${lengthMin}`);
    if (length > this.left) throw new WireError('truncated');
    let text = '';
    for (let i = 0; i < length; i++) {
      const code = this.byte();
      if (code < 0x20 || code > 0x7e) throw new WireError(`not printable ASCII: ${code}`);
      text += String.fromCharCode(code);
    }
    return text;
  }

  blob(lengthMax: number): Uint8Array {
    const length = this.integer(lengthMax);
    if (length > this.left) throw new WireError('truncated');
    this.#at += length;
    return this.#bytes.slice(this.#at - length, this.#at);
  }

  /** Every item takes a byte at least, so that a short frame cannot ask for a long list. */
  list<T>(max: number, read: () => T): T[] {
    const length = this.integer(max);
    if (length > this.left) throw new WireError('truncated');
    const items: T[] = [];
    for (let i = 0; i < length; i++) items.push(read());
    return items;
  }

  end(): void {
    if (this.left > 0) throw new WireError(`${this.left} bytes too many`);
  }
}
