/**
 * DNS over TCP at one address (RFC 7766): several queries on one connection, answered as they are
 * ready, each connection with its limits. A client gets no more than its place: who sends slowly,
 * reads slowly or asks more than is answered waits or is let go, and nobody else notices.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { HostPort } from '../../cluster/address.ts';
import type { Asker } from '../asker.ts';
import { frame, FrameReader } from '../frames.ts';
import type { Listener, ListenerHooks, ServerLimits } from './listener.ts';

/** Header of a message; nothing shorter can be answered. */
const HEADER_BYTES = 12;

/** Of one connection, before others have their turn. */
const QUERIES_A_TURN = 32;

export interface TcpListener extends Listener {
  readonly connections: number;
}

/** Rejects with what bind(2) says. */
export async function listenTcp(
  { host, port }: HostPort,
  limits: ServerLimits,
  hooks: ListenerHooks,
): Promise<TcpListener> {
  const connections = new Set<Connection>();
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    const isFull = connections.size >= limits.connectionsMax;
    if (isFull && !makeRoom(connections, socket.remoteAddress ?? '')) {
      hooks.dropped('connections');
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, host, limits, hooks);
    connections.add(connection);
    socket.once('close', () => connections.delete(connection));
  });
  await bound(server, host, port);
  server.on('error', (error) => {
    server.close();
    hooks.failed(error);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    get connections() {
      return connections.size;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const connection of connections) connection.destroy();
      }),
  };
}

function bound(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true, ipv6Only: host.includes(':') }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/**
 * Of the client that has most connections the one goes that is idle longest (RFC 7766, 6.1): who opens
 * many pushes out its own. False: nobody goes, as all that could are at work.
 */
function makeRoom(connections: Set<Connection>, newcomer: string): boolean {
  const held = new Map([[newcomer, 1]]);
  for (const { client } of connections) held.set(client, (held.get(client) ?? 0) + 1);
  const most = Math.max(...held.values());
  const ofMost = [...connections].filter(({ client }) => held.get(client) === most);
  let leaving = longestIdle(ofMost);
  if (leaving === undefined && held.get(newcomer) !== most) {
    leaving = longestIdle(connections);
    // Who keeps more than half of the places at work would keep all others out.
    if (leaving === undefined && most > connections.size / 2) leaving = leastRecent(ofMost);
  }
  if (leaving === undefined) return false;
  leaving.destroy();
  connections.delete(leaving);
  return true;
}

function longestIdle(connections: Iterable<Connection>): Connection | undefined {
  return leastRecent([...connections].filter(({ isIdle }) => isIdle));
}

function leastRecent(connections: readonly Connection[]): Connection | undefined {
  let least: Connection | undefined;
  for (const one of connections)
    if (least === undefined || one.idleSinceMs < least.idleSinceMs) least = one;
  return least;
}

class Connection {
  readonly #socket: Socket;
  readonly #asker: Asker;
  readonly #limits: ServerLimits;
  readonly #hooks: ListenerHooks;
  readonly #reader = new FrameReader();
  readonly #idle: NodeJS.Timeout;
  /** Queries that were not answered yet. */
  #open = 0;
  #isScheduled = false;
  #isEnded = false;
  idleSinceMs = performance.now();

  constructor(socket: Socket, server: string, limits: ServerLimits, hooks: ListenerHooks) {
    this.#socket = socket;
    this.#limits = limits;
    this.#hooks = hooks;
    this.#asker = { transport: 'tcp', server, client: socket.remoteAddress ?? '' };
    this.#idle = setTimeout(() => this.#timeOut(), limits.idleTimeoutMs).unref();
    socket.on('data', (chunk) => {
      this.#reader.push(chunk);
      this.#pump();
    });
    socket.on('drain', () => this.#pump());
    socket.on('end', () => {
      this.#isEnded = true;
      this.#endIfDone();
    });
    socket.on('error', () => undefined); // reset by the client: 'close' follows
    socket.once('close', () => clearTimeout(this.#idle));
  }

  get client(): string {
    return this.#asker.client;
  }

  get isIdle(): boolean {
    return this.#open === 0 && this.#socket.writableLength === 0;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Bytes that make no query do not keep a connection, nor do answers that nobody reads. */
  #timeOut(): void {
    if (this.#socket.writableLength > 0) this.#hooks.dropped('slow_reader');
    else if (this.#open > 0) return void this.#idle.refresh();
    this.destroy();
  }

  #touch(): void {
    this.idleSinceMs = performance.now();
    this.#idle.refresh();
  }

  get #mustWait(): boolean {
    return this.#open >= this.#limits.queriesAtOnceMax || this.#socket.writableNeedDrain;
  }

  /** Answers what is there; what comes meanwhile stays in the kernel while the client has to wait. */
  #pump(): void {
    if (this.#isScheduled || this.#socket.destroyed) return;
    this.#socket.cork();
    for (let taken = 0; !this.#mustWait; taken++) {
      if (taken === QUERIES_A_TURN) {
        this.#isScheduled = true;
        setImmediate(() => {
          this.#isScheduled = false;
          this.#pump();
        });
        break;
      }
      const message = this.#reader.next();
      if (message === undefined) break;
      if (message.length < HEADER_BYTES) {
        this.#hooks.dropped('malformed'); // no client of DNS: where its next message begins is a guess
        this.destroy();
        return;
      }
      this.#ask(message);
    }
    this.#socket.uncork();
    if (this.#isScheduled || this.#mustWait) this.#socket.pause();
    else this.#socket.resume();
    this.#endIfDone();
  }

  #ask(message: Uint8Array): void {
    this.#touch();
    const answer = this.#hooks.answer(message, this.#asker);
    if (!(answer instanceof Promise)) return this.#write(answer);
    this.#open += 1;
    void this.#later(answer);
  }

  async #later(answer: Promise<Uint8Array | undefined>): Promise<void> {
    const late = await answer;
    this.#open -= 1;
    this.#write(late);
    this.#pump();
  }

  #write(answer: Uint8Array | undefined): void {
    if (answer === undefined || this.#socket.destroyed) return;
    const { writableLength } = this.#socket;
    if (writableLength + answer.length > this.#limits.unreadBytesMax) {
      this.#hooks.dropped('slow_reader');
      return this.destroy();
    }
    this.#socket.write(frame(answer));
    // A client that does not read is not kept by what it asked.
    if (writableLength === 0) this.#touch();
  }

  /** A client that said all it has to say still gets its answers. */
  #endIfDone(): void {
    if (this.#isEnded && this.#open === 0 && !this.#isScheduled && !this.#mustWait)
      this.#socket.end();
  }
}
