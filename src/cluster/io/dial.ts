/**
 * One attempt to reach one node: TCP, TLS 1.3 with our certificate, and the check
 * that who answers has the id that was dialled. Until then nothing is sent but
 * the handshake. One deadline is over all of it, up to the peer's welcome.
 */
import { connect, type SecureContext, type TLSSocket } from 'node:tls';
import { parseAddress } from '../address.ts';
import type { Peer } from '../../hyparview-ts/index.ts';
import type { Clock } from './clock.ts';
import { authenticate, TLS_ONLY_13, type Authenticated } from './identity.ts';
import { MEMBER_PROTOCOL } from './listener.ts';

export interface DialOptions {
  readonly peer: Peer;
  readonly clusterId: string;
  readonly context: SecureContext;
  readonly clock: Clock;
  readonly timeoutMs: number;
}

export interface DialHandlers {
  /** The peer is who was dialled. The deadline goes on until `settled()`. */
  secured(socket: TLSSocket, peer: Authenticated): void;
  failed(why: string): void;
}

export class Dial {
  readonly #handlers: DialHandlers;
  readonly #socket: TLSSocket | undefined;
  readonly #stopDeadline: () => void;
  #over = false;

  constructor(options: DialOptions, handlers: DialHandlers) {
    this.#handlers = handlers;
    const { peer, context, clock, timeoutMs } = options;
    this.#stopDeadline = clock.after(timeoutMs, () => this.fail(`no answer in ${timeoutMs} ms`));
    try {
      const { host, port } = parseAddress(peer.address);
      this.#socket = connect({
        host,
        port,
        secureContext: context,
        ...TLS_ONLY_13,
        ALPNProtocols: [MEMBER_PROTOCOL],
        rejectUnauthorized: true,
        // Names are not host names here: #secured compares ids.
        checkServerIdentity: () => undefined,
      });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      queueMicrotask(() => this.fail(why)); // not before whoever dials knows of this dial
      return;
    }
    this.#socket.on('error', (error) => this.fail(error.message));
    this.#socket.on('close', () => this.fail('the connection was closed'));
    this.#socket.once('secureConnect', () => this.#secured(options));
  }

  /** The peer is connected: from here on its socket is somebody else's. */
  settled(): void {
    this.#over = true;
    this.#stopDeadline();
  }

  /** Gives up without a word. */
  cancel(): void {
    this.settled();
    this.#socket?.destroy();
  }

  fail(why: string): void {
    if (this.#over) return;
    this.cancel();
    this.#handlers.failed(why);
  }

  #secured({ peer, clusterId }: DialOptions): void {
    const socket = this.#socket;
    if (this.#over || socket === undefined) return;
    const who = authenticate(socket, clusterId);
    if (socket.alpnProtocol !== MEMBER_PROTOCOL)
      return this.fail(`it speaks no ${MEMBER_PROTOCOL}`);
    if (who === undefined) return this.fail('its certificate names no node of this cluster');
    if (who.nodeId !== peer.id) return this.fail(`node ${who.nodeId} answers there`);
    this.#handlers.secured(socket, who);
  }
}
