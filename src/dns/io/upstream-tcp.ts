/**
 * Questions to upstreams over TCP (RFC 7766): connections are kept for a while, several questions are
 * under way on one, and answers come in any order. A connection that was kept and is found closed is
 * no fault of the upstream: what was asked on it is asked once more on a new one. One that died without
 * a word (a firewall on the way forgot it) is known by a question that ended with nothing heard since.
 */
import { connect, type Socket } from 'node:net';
import type { Clock } from '../../cluster/io/clock.ts';
import { labelOf } from '../forward/standing.ts';
import type { Upstream } from '../forward/types.ts';
import { failureOf, type AttemptEvents } from './upstream-events.ts';

/** RFC 7766 section 6.2.3 wants seconds. */
const IDLE_MS = 5000;
const CONNECTIONS_MAX = 4;
/** Questions on one connection before another one is opened (a guess). */
const PENDING_MAX = 100;

/** Messages that nobody waits for: more than these, and it says what it likes. */
const STRAYS_MAX = 1000;

type IdleClock = Pick<Clock, 'now' | 'after'>;

interface Pending {
  readonly attempt: number;
  readonly bytes: Uint8Array;
  readonly isSecond: boolean;
}

export class TcpAttempts {
  readonly #events: AttemptEvents;
  readonly #clock: IdleClock;
  readonly #connections = new Map<string, Connection[]>();
  readonly #byAttempt = new Map<number, Connection>();

  constructor(events: AttemptEvents, clock: IdleClock) {
    this.#events = events;
    this.#clock = clock;
  }

  /** Questions under way. */
  get size(): number {
    return this.#byAttempt.size;
  }

  get connections(): number {
    let count = 0;
    for (const list of this.#connections.values()) count += list.length;
    return count;
  }

  send(attempt: number, upstream: Upstream, bytes: Uint8Array): void {
    this.#send({ attempt, bytes, isSecond: false }, upstream);
  }

  end(attempt: number): void {
    this.#byAttempt.get(attempt)?.forget(attempt);
    this.#byAttempt.delete(attempt);
  }

  close(): void {
    for (const list of this.#connections.values()) for (const one of list) one.close();
    this.#connections.clear();
    this.#byAttempt.clear();
  }

  #send(pending: Pending, upstream: Upstream): void {
    const label = labelOf(upstream);
    const list = this.#connections.get(label) ?? [];
    this.#connections.set(label, list);
    const id = idOf(pending.bytes);
    let connection = list.find((one) => one.hasRoom(id) && !(pending.isSecond && one.isProved));
    const used = list.filter((one) => !one.isSilent).length;
    if (connection === undefined && (used < CONNECTIONS_MAX || pending.isSecond)) {
      connection = new Connection(upstream, this.#clock, {
        reply: (attempt, bytes) => {
          this.#byAttempt.delete(attempt);
          this.#events.reply(attempt, bytes);
        },
        closed: (closed, left, error) => this.#closed(closed, left, error, upstream),
      });
      list.push(connection);
    }
    if (connection === undefined) return this.#events.failed(pending.attempt, 'local');
    this.#byAttempt.set(pending.attempt, connection);
    connection.send(pending);
  }

  #closed(
    closed: Connection,
    left: readonly Pending[],
    error: Error | undefined,
    upstream: Upstream,
  ): void {
    const label = labelOf(upstream);
    const list = (this.#connections.get(label) ?? []).filter((one) => one !== closed);
    if (list.length === 0) this.#connections.delete(label);
    else this.#connections.set(label, list);
    for (const pending of left) {
      this.#byAttempt.delete(pending.attempt);
      if (closed.isProved && !pending.isSecond)
        this.#send({ ...pending, isSecond: true }, upstream);
      else
        this.#events.failed(
          pending.attempt,
          error === undefined ? 'unreachable' : failureOf(error),
        );
    }
  }
}

interface ConnectionEvents {
  reply(attempt: number, bytes: Uint8Array): void;
  closed(connection: Connection, left: readonly Pending[], error: Error | undefined): void;
}

class Connection {
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #pending = new Map<number, Pending>();
  /** Attempts made since something was heard. */
  readonly #unheard = new Set<number>();
  readonly #clock: IdleClock;
  #heardMs: number;
  #cancelIdle: () => void;
  #input: Buffer = Buffer.alloc(0);
  #error: Error | undefined;
  #isClosed = false;
  #strays = 0;
  /** It answered something. */
  isProved = false;
  /** A question ended unanswered with nothing heard since: it gets no new ones. */
  isSilent = false;

  constructor(upstream: Upstream, clock: IdleClock, events: ConnectionEvents) {
    this.#events = events;
    this.#clock = clock;
    this.#heardMs = clock.now();
    this.#cancelIdle = clock.after(IDLE_MS, () => this.#idle());
    this.#socket = connect({ host: upstream.host, port: upstream.port, noDelay: true });
    this.#socket.on('error', (error) => (this.#error = error));
    this.#socket.on('end', () => this.#socket.destroy());
    this.#socket.on('close', () => this.#closed());
    this.#socket.on('data', (chunk) => this.#data(chunk));
  }

  hasRoom(id: number): boolean {
    const isUsed = !this.#isClosed && !this.isSilent;
    return isUsed && !this.#pending.has(id) && this.#pending.size < PENDING_MAX;
  }

  send(pending: Pending): void {
    this.#pending.set(idOf(pending.bytes), pending);
    this.#unheard.add(pending.attempt);
    const frame = Buffer.allocUnsafe(2 + pending.bytes.length);
    frame.writeUInt16BE(pending.bytes.length);
    frame.set(pending.bytes, 2);
    this.#socket.write(frame);
  }

  forget(attempt: number): void {
    for (const [id, pending] of this.#pending)
      if (pending.attempt === attempt) this.#pending.delete(id);
    if (this.#unheard.delete(attempt)) this.isSilent = true;
    this.#endIfSilent();
  }

  close(): void {
    this.#isClosed = true;
    this.#pending.clear();
    this.#cancelIdle();
    this.#socket.destroy();
  }

  #endIfSilent(): void {
    if (this.isSilent && this.#pending.size === 0) this.#socket.destroy();
  }

  /** Only what is heard keeps it: what is written says nothing of whether anybody is there. */
  #idle(): void {
    const restMs = this.#heardMs + IDLE_MS - this.#clock.now();
    if (restMs <= 0) this.#socket.destroy();
    else this.#cancelIdle = this.#clock.after(restMs, () => this.#idle());
  }

  #data(chunk: Buffer): void {
    this.#heardMs = this.#clock.now();
    this.#unheard.clear();
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    while (this.#input.length >= 2) {
      const end = 2 + this.#input.readUInt16BE(0);
      if (this.#input.length < end) return;
      // A copy: the rest of the chunk does not stay in memory for it.
      const message = Uint8Array.from(this.#input.subarray(2, end));
      this.#input = this.#input.subarray(end);
      this.#message(message);
    }
  }

  #message(message: Uint8Array): void {
    const id = idOf(message);
    const pending = this.#pending.get(id);
    if (pending === undefined) {
      this.#strays += 1;
      if (this.#strays > STRAYS_MAX) this.#socket.destroy();
      return;
    }
    this.#pending.delete(id);
    this.isProved = true;
    this.#events.reply(pending.attempt, message);
    this.#endIfSilent();
  }

  #closed(): void {
    const isKnown = this.#isClosed;
    this.#isClosed = true;
    this.#cancelIdle();
    const left = [...this.#pending.values()];
    this.#pending.clear();
    if (!isKnown) this.#events.closed(this, left, this.#error);
  }
}

function idOf(bytes: Uint8Array): number {
  return ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
}
