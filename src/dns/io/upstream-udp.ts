/**
 * Questions to upstreams over UDP: each from a connected socket of its own, so with a port that the
 * kernel draws anew and with nobody else's datagrams (RFC 5452 section 9.2). A socket is for one
 * question and is closed when that ends.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Upstream } from '../forward/types.ts';
import { failureOf, type AttemptEvents } from './upstream-events.ts';

export class UdpAttempts {
  readonly #events: AttemptEvents;
  readonly #sockets = new Map<number, Socket>();

  constructor(events: AttemptEvents) {
    this.#events = events;
  }

  get size(): number {
    return this.#sockets.size;
  }

  send(attempt: number, upstream: Upstream, bytes: Uint8Array): void {
    const socket = createSocket({
      type: isIPv6(upstream.host) ? 'udp6' : 'udp4',
      // It is an address: nothing is looked up, and so the socket is ready at once.
      lookup: (host, _options, found) => found(null, host, isIPv6(host) ? 6 : 4),
    });
    this.#sockets.set(attempt, socket);
    const fail = (error: Error): void => {
      if (this.#sockets.get(attempt) === socket) this.#events.failed(attempt, failureOf(error));
    };
    socket.on('error', fail);
    socket.on('message', (message, from) => {
      // What came between bind and connect may be from anybody.
      const isTheirs = from.port === upstream.port && isSameHost(from, upstream);
      if (isTheirs && this.#sockets.get(attempt) === socket) this.#events.reply(attempt, message);
    });
    try {
      socket.connect(upstream.port, upstream.host);
      socket.send(bytes, (error) => {
        if (error !== null) fail(error);
      });
    } catch (error) {
      fail(error as Error);
    }
  }

  close(): void {
    for (const attempt of this.#sockets.keys()) this.end(attempt);
  }

  end(attempt: number): void {
    const socket = this.#sockets.get(attempt);
    if (socket === undefined) return;
    this.#sockets.delete(attempt);
    try {
      socket.close();
    } catch {
      // it never was open
    }
  }
}

/** IPv6 addresses have many texts: the kernel has compared them when it connected. */
function isSameHost(from: RemoteInfo, upstream: Upstream): boolean {
  return from.family === 'IPv6' || from.address === upstream.host;
}
