// Messages as chunks on a stream, and back. A chunk is one byte of channel (its highest bit: more of this message
// follows), three bytes of length, and the bytes; it fits one TLS record. Decoding holds at most one message for each
// channel, never more memory than a small multiple of what came, and throws FrameError on anything else.
import { CHANNELS } from './channels.ts';

export const HEADER_BYTES = 4;
/** TLSPlaintext.length is at most 2^14 (RFC 8446, 5.1). */
export const CHUNK_BYTES_MAX = 16_384 - HEADER_BYTES;
const MORE = 0x80;
const NOTHING = new Uint8Array();

export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** The next chunk of `message` from `offset` on. */
export function chunk(channel: number, message: Uint8Array, offset: number): Uint8Array {
  const length = Math.min(CHUNK_BYTES_MAX, message.length - offset);
  const bytes = new Uint8Array(HEADER_BYTES + length);
  bytes[0] = offset + length < message.length ? channel | MORE : channel;
  bytes[1] = length >>> 16;
  bytes[2] = (length >>> 8) & 0xff;
  bytes[3] = length & 0xff;
  bytes.set(message.subarray(offset, offset + length), HEADER_BYTES);
  return bytes;
}

/** A message under way: bytes that grow, since chunks may be tiny. */
interface Partial {
  bytes: Uint8Array;
  length: number;
}

export class FrameDecoder {
  readonly #partials = new Map<number, Partial>();
  #rest: Uint8Array = NOTHING;
  /** Only channels below this number are taken. */
  channelsOpen: number = CHANNELS.length;

  /** `visit` may close the connection; what it throws goes through. */
  push(bytes: Uint8Array, visit: (channel: number, message: Uint8Array) => void): void {
    let input = bytes;
    if (this.#rest.length > 0) {
      input = new Uint8Array(this.#rest.length + bytes.length);
      input.set(this.#rest);
      input.set(bytes, this.#rest.length);
    }
    let at = 0;
    while (input.length - at >= HEADER_BYTES) {
      const head = input[at] ?? 0;
      const length =
        byteAt(input, at + 1) * 65_536 + byteAt(input, at + 2) * 256 + byteAt(input, at + 3);
      this.#check(head & ~MORE, length);
      if (input.length - at - HEADER_BYTES < length) break;
      const body = input.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
      at += HEADER_BYTES + length;
      this.#chunk(head & ~MORE, (head & MORE) !== 0, body, visit);
    }
    this.#rest = at === input.length ? NOTHING : input.slice(at); // a copy: a few bytes must not hold a large buffer
  }

  /** Before the body is there: what is not allowed is not even waited for. */
  #check(channel: number, length: number): void {
    const known = CHANNELS[channel];
    if (known === undefined) throw new FrameError(`no channel ${channel}`);
    if (channel >= this.channelsOpen) throw new FrameError(`${known.name} before the greeting`);
    if (length === 0) throw new FrameError('an empty chunk');
    if (length > CHUNK_BYTES_MAX) {
      throw new FrameError(`a chunk of ${length} bytes, at most ${CHUNK_BYTES_MAX} are allowed`);
    }
    const total = (this.#partials.get(channel)?.length ?? 0) + length;
    if (total > known.messageBytesMax) {
      throw new FrameError(`a message above ${known.messageBytesMax} bytes on ${known.name}`);
    }
  }

  #chunk(
    channel: number,
    more: boolean,
    body: Uint8Array,
    visit: (channel: number, message: Uint8Array) => void,
  ): void {
    const partial = this.#partials.get(channel);
    if (partial === undefined && !more) return visit(channel, body.slice());
    const whole = append(partial ?? { bytes: new Uint8Array(2 * body.length), length: 0 }, body);
    if (more) {
      this.#partials.set(channel, whole);
      return;
    }
    this.#partials.delete(channel);
    visit(channel, whole.bytes.subarray(0, whole.length));
  }
}

function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

function append(partial: Partial, body: Uint8Array): Partial {
  const length = partial.length + body.length;
  if (length > partial.bytes.length) {
    const grown = new Uint8Array(Math.max(2 * partial.bytes.length, length));
    grown.set(partial.bytes.subarray(0, partial.length));
    partial.bytes = grown;
  }
  partial.bytes.set(body, partial.length);
  partial.length = length;
  return partial;
}
