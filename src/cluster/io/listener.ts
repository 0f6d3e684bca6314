/**
 * The one port that a node listens on: admits, shakes hands, and hands over what
 * is authenticated. Until the handshake is complete no byte of a peer meets any
 * code of ours, only OpenSSL's; and nothing of ours is sent.
 *
 *   accept ─► admission ─► TLS 1.3 ─► ALPN ─► certificate ─► revoked? ─► taker
 *                    deadline for all of it, and for the greeting
 *
 * `zerohop/1` is for members only. On `zerohop-sign/1` a peer may come without a
 * certificate, to get one: its taker is told so (io/signer.ts).
 */
import {
  createServer as createTcpServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net';
import {
  createServer as createTlsServer,
  type Server as TlsServer,
  type TLSSocket,
} from 'node:tls';
import { Admission, type AdmissionLimits } from '../admission.ts';
import type { HostPort } from '../address.ts';
import { ProblemError } from '../../state/problem.ts';
import type { Clock } from './clock.ts';
import { authenticate, contextOptionsOf, type Authenticated, type Identity } from './identity.ts';
import type { Counter, Metrics } from './metrics.ts';

export const MEMBER_PROTOCOL = 'zerohop/1';
export const SIGN_PROTOCOL = 'zerohop-sign/1';

/** All guesses. */
export const LISTENER_LIMITS: ListenerLimits = {
  pendingMax: 256,
  pendingPerAddressMax: 32,
  arrivals: { perSecond: 200, burst: 500 }, // a handshake costs 1 to 2 ms of CPU
  arrivalsPerAddress: { perSecond: 20, burst: 100 },
  addressesMax: 4096,
  handshakeTimeoutMs: 5000,
};

export interface ListenerLimits extends AdmissionLimits {
  /** From the first SYN to an authenticated greeting. */
  readonly handshakeTimeoutMs: number;
}

/** A connection whose handshake is complete; not yet one that has greeted. */
export interface Arrived {
  readonly socket: TLSSocket;
  readonly address: string;
  /** undefined only on `zerohop-sign/1`. */
  readonly peer: Authenticated | undefined;
  /** Ends the deadline, and the place among those that are not authenticated. */
  readonly settled: () => void;
}

export type Taker = (arrived: Arrived) => void;

export interface ListenerOptions {
  readonly identity: Identity;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly limits: ListenerLimits;
  readonly isRevoked: (peer: Authenticated) => boolean;
  readonly takers: ReadonlyMap<string, Taker>;
  readonly log: (what: string, address: string) => void;
}

interface Pending {
  readonly address: string;
  /**
   * Ends it, and counts why. Once there is a TLS socket it must be that which is destroyed: to take the TCP socket
   * away from below it, in a callback of its own, crashes Node 24.
   */
  /** Without `what` it is counted, and not logged. */
  readonly fail: (why: Counter, what?: string, socket?: Socket) => void;
  readonly settled: () => void;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #admission: Admission;
  readonly #tcp: Server;
  readonly #tls: TlsServer;
  #identity: Identity;
  /** By the two ports and addresses: that is how a TLS socket is found to be of its TCP socket. */
  readonly #pending = new Map<string, Pending>();
  readonly #sockets = new Set<Socket>();

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#identity = options.identity;
    this.#admission = new Admission(options.limits);
    this.#tcp = createTcpServer({ noDelay: true, keepAlive: true }, (raw) => this.#accept(raw));
    this.#tls = createTlsServer({
      ...contextOptionsOf(options.identity),
      requestCert: true,
      // Judged in #secured: who comes to get a certificate has none.
      rejectUnauthorized: false,
      ALPNProtocols: [...options.takers.keys()],
    });
    this.#tls.on('secureConnection', (socket) => this.#secured(socket));
    this.#tls.on('tlsClientError', (error, socket) => {
      const fail = this.#pending.get(keyOf(socket))?.fail;
      fail?.('cluster_handshake_failures_total.tls', `TLS: ${error.message}`, socket);
      socket.destroy();
    });
  }

  get pending(): number {
    return this.#admission.pending;
  }

  /** Everything that came in and is not closed yet. */
  get sockets(): number {
    return this.#sockets.size;
  }

  /** Rejects with ProblemError. Port 0 lets the kernel choose. */
  async listen({ host, port }: HostPort): Promise<HostPort> {
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once('error', (error: NodeJS.ErrnoException) =>
        reject(cannotListen(host, port, error)),
      );
      this.#tcp.listen({ host, port, backlog: 512 }, resolve);
    });
    this.#tcp.removeAllListeners('error');
    this.#tcp.on('error', (error) => this.#options.log(`accept: ${error.message}`, host));
    return { host, port: (this.#tcp.address() as AddressInfo).port };
  }

  /** For handshakes from now on; open connections stay as they are. */
  setIdentity(identity: Identity): void {
    this.#identity = identity;
    this.#tls.setSecureContext(contextOptionsOf(identity));
  }

  async close(): Promise<void> {
    const closed = this.#tcp.listening
      ? new Promise<void>((resolve) => this.#tcp.close(() => resolve()))
      : undefined;
    // Not in this turn: whoever stops may be in a callback of one of these (see `fail`).
    await new Promise<void>((resolve) => setImmediate(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(raw: Socket): void {
    const { metrics, clock, limits } = this.#options;
    const address = raw.remoteAddress;
    raw.on('error', () => undefined); // 'close' follows, and says enough
    if (address === undefined) return void raw.destroy();
    const arrival = this.#admission.arrive(address, clock.now());
    if (!arrival.admitted) {
      const why = arrival.why === 'rate' ? 'rate' : 'address_rate';
      metrics[`cluster_connections_refused_total.${why}`] += 1;
      return void raw.resetAndDestroy();
    }
    metrics.cluster_connections_accepted_total += 1;
    this.#evict(arrival.evicted);
    const key = keyOf(raw);
    const stop = clock.after(limits.handshakeTimeoutMs, () =>
      pending.fail('cluster_handshake_failures_total.timeout', 'the handshake took too long'),
    );
    const settled = (): void => {
      stop();
      this.#admission.done(arrival.id);
      if (this.#pending.get(key) === pending) this.#pending.delete(key);
      this.#byAdmission.delete(arrival.id);
    };
    const fail: Pending['fail'] = (why, what, socket = raw) => {
      if (this.#pending.get(key) !== pending) return;
      settled();
      metrics[why] += 1;
      if (what !== undefined) this.#options.log(what, address);
      socket.destroy();
    };
    const pending: Pending = { address, settled, fail };
    this.#pending.set(key, pending);
    this.#byAdmission.set(arrival.id, pending);
    this.#sockets.add(raw);
    raw.once('close', () => {
      this.#sockets.delete(raw);
      // Checks of load balancers, a joiner's first look, the loser of two dials: nothing to tell of.
      fail('cluster_handshake_failures_total.closed');
    });
    this.#tls.emit('connection', raw);
    return undefined;
  }

  readonly #byAdmission = new Map<number, Pending>();

  #evict(id: number | undefined): void {
    const pending = id === undefined ? undefined : this.#byAdmission.get(id);
    pending?.fail('cluster_connections_evicted_total', 'too many handshakes are under way');
  }

  #secured(socket: TLSSocket): void {
    socket.on('error', () => undefined); // 'close' follows
    const pending = this.#pending.get(keyOf(socket));
    if (pending === undefined) return void socket.destroy();
    const { takers, metrics, isRevoked } = this.#options;
    metrics.cluster_handshakes_total += 1;
    const protocol = socket.alpnProtocol;
    const taker = typeof protocol === 'string' ? takers.get(protocol) : undefined;
    if (taker === undefined) {
      return pending.fail(
        'cluster_handshake_failures_total.protocol',
        'it speaks no protocol of ours',
        socket,
      );
    }
    const peer = authenticate(socket, this.#identity.clusterId);
    const brought = socket.getPeerX509Certificate() !== undefined;
    if (peer === undefined && (brought || protocol !== SIGN_PROTOCOL)) {
      const reason = brought ? String(socket.authorizationError ?? 'of another kind') : 'none';
      return pending.fail(
        'cluster_handshake_failures_total.certificate',
        `its certificate: ${reason}`,
        socket,
      );
    }
    if (peer !== undefined && isRevoked(peer)) {
      return pending.fail(
        'cluster_handshake_failures_total.revoked',
        `${peer.nodeId} is revoked`,
        socket,
      );
    }
    taker({ socket, address: pending.address, peer, settled: pending.settled });
    return undefined;
  }
}

function keyOf(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}|${socket.localAddress}`;
}

function cannotListen(host: string, port: number, error: NodeJS.ErrnoException): ProblemError {
  const hints: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another program has that port: stop it, or listen on another port',
    EADDRNOTAVAIL: 'this host has no such address: see `ip address`',
    EACCES: 'ports below 1024 need root',
  };
  const message = `cannot listen on ${host} port ${port}: ${error.message}`;
  const hint = hints[error.code ?? ''] ?? 'choose another address';
  return new ProblemError([{ code: 'unavailable', message, hint }], { cause: error });
}
