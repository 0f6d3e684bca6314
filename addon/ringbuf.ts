/**
 * A ring buffer read on the event loop. Records of one turn cross as one buffer and are handed on
 * one by one; at most `recordsPerTurnMax` per turn, so that a flood cannot starve timers and
 * sockets. What the consumer is too slow for, the kernel side drops when the ring is full
 * (bpf_ringbuf_reserve fails there).
 *
 * An open ring buffer is alive by itself, like a socket: it keeps the process running (unless
 * `unref`) and is never collected.
 */
import { argumentError, BpfError } from './errors.ts';
import { logged } from './log.ts';
import type { BpfMap } from './map.ts';
import { native } from './native.ts';
import { handleOf, Resource } from './resource.ts';

export interface RingBufferOptions {
  /** Do not keep the process alive. */
  readonly unref?: boolean;
  /** Default 1024: a guess, some 100 µs of an ordinary callback. */
  readonly recordsPerTurnMax?: number;
  /**
   * What the callback throws, and failures of the ring. Without it they are uncaught exceptions.
   */
  readonly onError?: (error: unknown) => void;
}

export type OnRecord = (record: Uint8Array) => void;

class Delivery {
  readonly #onRecord: OnRecord;
  readonly #onError: ((error: unknown) => void) | undefined;
  ended = false;

  constructor(onRecord: OnRecord, onError: ((error: unknown) => void) | undefined) {
    this.#onRecord = onRecord;
    this.#onError = onError;
  }

  /** Never throws. Records left when a callback closes the ring are dropped with it. */
  deliver(bytes: Uint8Array, sizes: Uint32Array): void {
    let at = 0;
    for (const size of sizes) {
      if (this.ended) return;
      const record = bytes.subarray(at, at + size);
      at += size;
      try {
        this.#onRecord(record);
      } catch (error) {
        this.fail(error);
      }
    }
  }

  fail(error: unknown): void {
    let uncaught = error;
    if (this.#onError !== undefined) {
      try {
        this.#onError(error);
        return;
      } catch (second) {
        uncaught = second;
      }
    }
    queueMicrotask(() => {
      throw uncaught;
    });
  }
}

export class RingBuffer extends Resource {
  readonly #delivery: Delivery;

  /** `record` is a view of a buffer shared by one turn's records: copy what is kept for long. */
  constructor(map: BpfMap, onRecord: OnRecord, options: RingBufferOptions = {}) {
    const { unref = false, recordsPerTurnMax = 1024, onError } = options ?? {};
    const operation = 'ring buffer open';
    if (typeof onRecord !== 'function')
      throw argumentError(operation, 'onRecord must be a function');
    if (onError !== undefined && typeof onError !== 'function') {
      throw argumentError(operation, 'onError must be a function');
    }
    const source = handleOf(map, operation);
    const delivery = new Delivery(onRecord, onError);
    const self: { ring?: RingBuffer } = {};
    const receive = (bytes: Uint8Array, sizes: Uint32Array, errno: number): void => {
      delivery.deliver(bytes, sizes);
      if (errno === 0) return;
      self.ring?.close();
      delivery.fail(new BpfError('EIO', 'ring buffer read', 'the ring failed', { errno }));
    };
    super(
      logged(() => native.ringOpen(source, receive, recordsPerTurnMax)),
      'RingBuffer',
    );
    self.ring = this; // keeps it from being collected while the native half holds `receive`
    this.#delivery = delivery;
    if (unref) this.unref();
  }

  /**
   * Delivers at once what is there, one turn's worth at most: for producers that wake nobody
   * (BPF_RB_NO_WAKEUP).
   */
  drain(): void {
    const [bytes, sizes] = native.ringDrain(handleOf(this, 'ring buffer drain'));
    this.#delivery.deliver(bytes, sizes);
  }

  ref(): this {
    native.ringRef(handleOf(this, 'ring buffer'), true);
    return this;
  }

  unref(): this {
    native.ringRef(handleOf(this, 'ring buffer'), false);
    return this;
  }

  /** No record is delivered any more, not even those already read in this turn. */
  override close(): void {
    this.#delivery.ended = true;
    super.close();
  }
}
