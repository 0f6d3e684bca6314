/**
 * DNS messages on a TCP stream: two bytes of length before each (RFC 1035, 4.2.2). Whole messages
 * come out one at a time, as whoever takes them may have to wait; what is kept is bounded by that.
 */

/** A chunk of one byte takes some 300: who sends byte by byte is to take no more memory than others. A guess. */
const CHUNKS_MAX = 64;

export class FrameReader {
  /** What came and was not taken, in order. */
  readonly #chunks: Uint8Array[] = [];
  /** Where the first of them begins. */
  #offset = 0;
  #kept = 0;

  /** Bytes that were not taken yet. */
  get kept(): number {
    return this.#kept;
  }

  /** In how many pieces. */
  get chunks(): number {
    return this.#chunks.length;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#kept += chunk.length;
    if (this.#chunks.length <= CHUNKS_MAX) return;
    const whole = this.#take(this.#kept);
    this.#chunks.push(whole);
    this.#kept = whole.length;
  }

  /** The next message without its length; undefined until all of it is there. */
  next(): Uint8Array | undefined {
    if (this.#kept < 2) return undefined;
    const length = (this.#peek(0) << 8) | this.#peek(1);
    if (this.#kept < 2 + length) return undefined;
    this.#take(2);
    return this.#take(length);
  }

  #peek(at: number): number {
    let left = at + this.#offset;
    for (const chunk of this.#chunks) {
      if (left < chunk.length) return chunk[left] ?? 0;
      left -= chunk.length;
    }
    return 0;
  }

  /** As many bytes as are there: a view of one chunk where they are in one. */
  #take(length: number): Uint8Array {
    const first = this.#chunks[0] ?? new Uint8Array();
    const end = this.#offset + length;
    this.#kept -= length;
    if (end <= first.length) {
      const view = first.subarray(this.#offset, end);
      if (end === first.length) this.#shift();
      else this.#offset = end;
      return view;
    }
    const whole = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      const chunk = this.#chunks[0] ?? new Uint8Array();
      const part = chunk.subarray(this.#offset, this.#offset + length - at);
      whole.set(part, at);
      at += part.length;
      if (this.#offset + part.length === chunk.length) this.#shift();
      else this.#offset += part.length;
    }
    return whole;
  }

  #shift(): void {
    this.#chunks.shift();
    this.#offset = 0;
  }
}

/** The message as it goes onto the stream: in one piece, so that it goes out in one packet. */
export function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(2 + message.length);
  framed[0] = message.length >> 8;
  framed[1] = message.length & 0xff;
  framed.set(message, 2);
  return framed;
}
