/**
 * One authenticated connection: messages on channels over a TLS socket, keepalive,
 * and limits on a peer that does not read, says nothing, or sends what is not
 * allowed. Knows nothing of who should be connected to whom (transport.ts).
 *
 * One write is under way at a time, of at most WRITE_BYTES, so what is urgent
 * never waits behind more than that in this process.
 */
import type { TLSSocket } from 'node:tls';
import { WireError } from '../../hyparview-ts/codec.ts';
import { CHANNELS, CONTROL, type Channel, channelNumber } from '../channels.ts';
import { FrameDecoder, FrameError } from '../frame.ts';
import { decodeControl, encodeControl, type Control } from '../greeting.ts';
import { Outbox, type OutboxLimits, type Pushed } from '../outbox.ts';
import type { Clock } from './clock.ts';
import type { Authenticated } from './identity.ts';
import type { Metrics } from './metrics.ts';

export interface ConnectionLimits extends OutboxLimits {
  /** A write of at most 64 KiB that takes longer: the peer does not read. */
  readonly stallMs: number;
  /** After so much silence the peer is asked. */
  readonly keepaliveMs: number;
  /** After so much silence it is gone. */
  readonly silentMs: number;
  /** To send what is left when the connection ends. */
  readonly drainMs: number;
}

/** All guesses, as far as hyparview-ts' frames of up to 4 MiB leave a choice. */
export const CONNECTION_LIMITS: ConnectionLimits = {
  queueBytesMax: 33_554_432,
  bulkBytesMax: 16_777_216,
  stallMs: 10_000,
  keepaliveMs: 15_000,
  silentMs: 40_000,
  drainMs: 5000,
};

export type CloseReason =
  | 'ended'
  | 'lost'
  | 'silent'
  | 'slow'
  | 'protocol'
  | 'revoked'
  | 'expired'
  | 'stopped';

export interface ConnectionHandlers {
  /** Everything on the control channel but keepalive and the end. */
  control(control: Control): void;
  message(channel: Channel, message: Uint8Array): void;
  /** The peer sends nothing more, and this end will not either. */
  ending(): void;
  /** Once; nothing comes after it. */
  closed(reason: CloseReason, detail: string): void;
}

const WRITE_BYTES = 65_536;

export class Connection {
  readonly peer: Authenticated;
  readonly #socket: TLSSocket;
  readonly #clock: Clock;
  readonly #limits: ConnectionLimits;
  readonly #metrics: Metrics;
  readonly #handlers: ConnectionHandlers;
  readonly #outbox: Outbox;
  readonly #decoder = new FrameDecoder();
  #writing = false;
  #writingSinceMs = 0;
  #heardAt: number;
  #stopStall: (() => void) | undefined;
  #stopKeepalive: (() => void) | undefined;
  #stopDrain: (() => void) | undefined;
  #byeQueued = false;
  #byeSent = false;
  #byeHeard = false;
  #closed = false;
  /** When a message last came or went; keepalive does not count. */
  usedAt: number;

  constructor(
    socket: TLSSocket,
    peer: Authenticated,
    options: { clock: Clock; limits: ConnectionLimits; metrics: Metrics },
    handlers: ConnectionHandlers,
  ) {
    this.#socket = socket;
    this.peer = peer;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#metrics = options.metrics;
    this.#handlers = handlers;
    this.#outbox = new Outbox(options.limits);
    this.#heardAt = this.#clock.now();
    this.usedAt = this.#heardAt;
    this.#decoder.channelsOpen = CONTROL + 1;
    socket.setNoDelay(true);
    socket.on('data', (bytes: Buffer) => this.#heard(bytes));
    socket.on('error', (error) => this.close('lost', error.message));
    socket.on('end', () => this.#over('the peer ended it'));
    socket.on('close', () => this.#over('closed'));
    this.#watchSilence();
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Ending, or over: nothing more is taken. */
  get isEnding(): boolean {
    return this.#closed || this.#byeQueued;
  }

  /** What waits in this process. */
  get queuedBytes(): number {
    return this.#outbox.bytes + this.#socket.writableLength;
  }

  get remoteAddress(): string {
    return this.#socket.remoteAddress ?? '';
  }

  /** After the greeting: from now on messages may come. */
  open(): void {
    this.#decoder.channelsOpen = CHANNELS.length;
  }

  /** 'overflow' closes the connection: the peer is too slow. */
  send(channel: Channel, message: Uint8Array): Pushed {
    if (this.isEnding) return 'refused';
    const pushed = this.#outbox.push(channelNumber(channel), message);
    if (pushed === 'queued') {
      this.usedAt = this.#clock.now();
      this.#metrics.cluster_messages_sent_total += 1;
      this.#pump();
    } else if (pushed === 'overflow') {
      this.close('slow', `${this.#outbox.bytes} bytes wait for it`);
    }
    return pushed;
  }

  sendControl(control: Control): void {
    if (this.isEnding) return;
    this.#outbox.push(CONTROL, encodeControl(control));
    this.#pump();
  }

  /** Sends what is queued and lets the peer do the same, then closes; within `drainMs`. */
  end(): void {
    if (this.isEnding) return;
    this.#byeQueued = true;
    this.#stopDrain = this.#clock.after(this.#limits.drainMs, () =>
      this.close('ended', 'what was left took too long'),
    );
    this.#pump();
  }

  close(reason: CloseReason, detail: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopStall?.();
    this.#stopKeepalive?.();
    this.#stopDrain?.();
    this.#metrics[`cluster_connections_closed_total.${reason}`] += 1;
    this.#metrics['cluster_messages_dropped_total.lost'] += this.#outbox.messages;
    this.#hangUp(reason);
    this.#handlers.closed(reason, detail);
  }

  /** A plain end lets the last bytes out, for a while; what is wrong is cut. */
  #hangUp(reason: CloseReason): void {
    if (reason !== 'ended' || this.#writing) return void this.#socket.destroy();
    this.#socket.setTimeout(this.#limits.drainMs, () => this.#socket.destroy());
    this.#socket.destroySoon();
    return undefined;
  }

  #over(detail: string): void {
    this.close(this.#byeHeard || this.#byeQueued ? 'ended' : 'lost', detail);
  }

  #heard(bytes: Buffer): void {
    if (this.#closed) return;
    this.#heardAt = this.#clock.now();
    this.#metrics.cluster_received_bytes_total += bytes.length;
    try {
      this.#decoder.push(bytes, (channel, message) => this.#received(channel, message));
    } catch (error) {
      if (!(error instanceof FrameError || error instanceof WireError)) throw error;
      this.close('protocol', error.message);
    }
  }

  #received(number: number, message: Uint8Array): void {
    const channel = CHANNELS[number];
    if (this.#closed || channel === undefined) return;
    if (number === CONTROL) return this.#control(message);
    this.usedAt = this.#heardAt;
    this.#metrics.cluster_messages_received_total += 1;
    this.#handlers.message(channel.name, message);
  }

  #control(message: Uint8Array): void {
    const control = decodeControl(message);
    switch (control?.type) {
      case undefined: // of a newer version
      case 'pong':
        return;
      case 'ping':
        // A peer that asks without end and does not read must not make us hold the answers.
        if (this.#outbox.isEmpty) this.sendControl({ type: 'pong' });
        return;
      case 'bye':
        this.#byeHeard = true;
        this.#handlers.ending();
        this.end();
        return this.#closeIfDone();
      case 'hello':
      case 'welcome':
      case 'refuse':
        this.#handlers.control(control);
    }
  }

  #pump(): void {
    if (this.#writing || this.#closed) return;
    let bytes = this.#outbox.take(WRITE_BYTES);
    if (bytes === undefined && this.#byeQueued && !this.#byeSent) {
      this.#byeSent = true;
      this.#outbox.push(CONTROL, encodeControl({ type: 'bye' }));
      bytes = this.#outbox.take(WRITE_BYTES);
    }
    if (bytes === undefined) return this.#closeIfDone();
    this.#writing = true;
    this.#metrics.cluster_sent_bytes_total += bytes.length;
    this.#writingSinceMs = this.#clock.now();
    this.#watchStall();
    this.#socket.write(bytes, (error) => {
      this.#writing = false;
      if (error === undefined || error === null) this.#pump();
    });
  }

  /** One timer for many writes: nearly all of them are done at once. */
  #watchStall(): void {
    if (this.#stopStall !== undefined) return;
    const { stallMs } = this.#limits;
    const leftMs = this.#writingSinceMs + stallMs - this.#clock.now();
    this.#stopStall = this.#clock.after(leftMs, () => {
      this.#stopStall = undefined;
      if (!this.#writing) return;
      if (this.#clock.now() < this.#writingSinceMs + stallMs) return this.#watchStall();
      this.close('slow', `it took no byte for ${stallMs} ms`);
    });
  }

  #closeIfDone(): void {
    if (this.#byeSent && this.#byeHeard && !this.#writing && this.#outbox.isEmpty) {
      this.close('ended', 'both ends are done');
    }
  }

  #watchSilence(): void {
    const { keepaliveMs, silentMs } = this.#limits;
    const quietMs = this.#clock.now() - this.#heardAt;
    if (quietMs >= silentMs) return this.close('silent', `nothing came for ${silentMs} ms`);
    if (quietMs >= keepaliveMs) this.sendControl({ type: 'ping' });
    const nextMs = Math.max(quietMs >= keepaliveMs ? keepaliveMs / 2 : keepaliveMs - quietMs, 1);
    this.#stopKeepalive = this.#clock.after(Math.min(nextMs, silentMs - quietMs), () =>
      this.#watchSilence(),
    );
  }
}
