// What waits to be sent to one peer, by channel. Gives out chunks: the lowest rank first, channels of the same rank in
// turn, and within a channel one message after the other. Bounded in bytes; says when the bound is met and never blocks.
import { BULK_RANK, CHANNELS } from './channels.ts';
import { chunk, CHUNK_BYTES_MAX, HEADER_BYTES } from './frame.ts';

export interface OutboxLimits {
  /** All that may wait. Beyond it the peer is too slow. */
  readonly queueBytesMax: number;
  /** What may wait on bulk channels. Beyond it a bulk message is not taken. */
  readonly bulkBytesMax: number;
}

export type Pushed = 'queued' | 'refused' | 'overflow';

/** A message's cost beside its bytes, so that many small ones count too; a guess. */
const MESSAGE_OVERHEAD_BYTES = 64;

interface Lane {
  readonly channel: number;
  readonly rank: number;
  readonly messages: Uint8Array[];
  /** Index of the first message not yet gone. */
  head: number;
  /** How much of that message is gone. */
  offset: number;
}

export class Outbox {
  readonly #limits: OutboxLimits;
  /** By rank; within a rank the one that was served last comes last. */
  #lanes: Lane[] = CHANNELS.map(({ rank }, channel) => ({
    channel,
    rank,
    messages: [],
    head: 0,
    offset: 0,
  })).sort((a, b) => a.rank - b.rank);
  readonly #byChannel = this.#lanes.toSorted((a, b) => a.channel - b.channel);
  #bytes = 0;
  #bulkBytes = 0;

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  get messages(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.messages.length - lane.head, 0);
  }

  push(channel: number, message: Uint8Array): Pushed {
    const lane = this.#byChannel[channel];
    const max = CHANNELS[channel]?.messageBytesMax ?? 0;
    if (lane === undefined || message.length === 0 || message.length > max) {
      throw new RangeError(`a message of ${message.length} bytes on channel ${channel}`);
    }
    const cost = message.length + MESSAGE_OVERHEAD_BYTES;
    const isBulk = lane.rank >= BULK_RANK;
    // One message always fits, however small the limits are.
    if (isBulk && this.#bulkBytes > 0 && this.#bulkBytes + cost > this.#limits.bulkBytesMax) {
      return 'refused';
    }
    if (this.#bytes > 0 && this.#bytes + cost > this.#limits.queueBytesMax) return 'overflow';
    lane.messages.push(message);
    this.#bytes += cost;
    if (isBulk) this.#bulkBytes += cost;
    return 'queued';
  }

  /** Whole chunks of about `bytesMax`, ready for one write; undefined when nothing waits. */
  take(bytesMax: number): Uint8Array | undefined {
    const parts: Uint8Array[] = [];
    let length = 0;
    while (length === 0 || length + HEADER_BYTES + CHUNK_BYTES_MAX <= bytesMax) {
      const part = this.#next();
      if (part === undefined) break;
      parts.push(part);
      length += part.length;
    }
    if (parts.length <= 1) return parts[0];
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  #next(): Uint8Array | undefined {
    if (this.isEmpty) return undefined;
    const index = this.#lanes.findIndex((one) => one.head < one.messages.length);
    const lane = this.#lanes[index];
    const message = lane?.messages[lane.head];
    if (lane === undefined || message === undefined) return undefined;
    const part = chunk(lane.channel, message, lane.offset);
    lane.offset += part.length - HEADER_BYTES;
    if (lane.offset >= message.length) this.#finish(lane, message);
    this.#toTheEndOfItsRank(index, lane);
    return part;
  }

  #finish(lane: Lane, message: Uint8Array): void {
    const cost = message.length + MESSAGE_OVERHEAD_BYTES;
    this.#bytes -= cost;
    if (lane.rank >= BULK_RANK) this.#bulkBytes -= cost;
    lane.offset = 0;
    lane.messages[lane.head] = new Uint8Array(); // let it go before the list is cut
    lane.head += 1;
    if (lane.head === lane.messages.length || lane.head >= 256) {
      lane.messages.splice(0, lane.head);
      lane.head = 0;
    }
  }

  #toTheEndOfItsRank(index: number, lane: Lane): void {
    let last = index;
    while (this.#lanes[last + 1]?.rank === lane.rank) last += 1;
    if (last === index) return;
    this.#lanes.splice(index, 1);
    this.#lanes.splice(last, 0, lane);
  }
}
