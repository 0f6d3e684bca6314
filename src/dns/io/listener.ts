/** What a listener is asked to do and may do: the words that udp.ts, tcp.ts and server.ts share. */
import type { Asker } from '../asker.ts';

/** Never throws or rejects; undefined: nothing is said. */
export type Answerer = (
  message: Uint8Array,
  asker: Asker,
) => Uint8Array | undefined | Promise<Uint8Array | undefined>;

/** Why something that came in was not answered, or not taken in. */
export type Drop = 'backlog' | 'connections' | 'malformed' | 'send' | 'slow_reader' | 'too_long';

/** All guesses, but where it says so. */
export interface ServerLimits {
  /** Asked of the kernel, which gives at most net.core.rmem_max: some 4,000 queries where that is 4 MiB. */
  readonly receiveBufferBytes: number;
  /** Likewise, and net.core.wmem_max: what is beyond is dropped. */
  readonly sendBufferBytes: number;
  /** TCP, at one address. */
  readonly connectionsMax: number;
  /** Of one connection; the next ones wait. */
  readonly queriesAtOnceMax: number;
  /** Of one connection: what the client did not read. */
  readonly unreadBytesMax: number;
  /** RFC 7766, 6.2.3: a few seconds; that of unbound is 30, of BIND 30, of Knot 10. */
  readonly idleTimeoutMs: number;
  readonly retryMs: number;
}

export const SERVER_LIMITS: ServerLimits = {
  receiveBufferBytes: 4 * 2 ** 20,
  sendBufferBytes: 4 * 2 ** 20,
  connectionsMax: 256,
  queriesAtOnceMax: 64,
  unreadBytesMax: 2 ** 20,
  idleTimeoutMs: 10_000,
  retryMs: 5000,
};

export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

export interface ListenerHooks {
  readonly answer: Answerer;
  readonly dropped: (why: Drop) => void;
  /** It ended by itself. */
  readonly failed: (error: Error) => void;
}
