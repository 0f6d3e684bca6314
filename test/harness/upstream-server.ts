/** A DNS server for tests of the forwarder, on UDP and TCP of one port, that says what it is told to. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import type { Upstream } from '../../src/dns/forward/types.ts';

export interface Received {
  readonly bytes: Buffer;
  readonly transport: 'udp' | 'tcp';
  /** The port it came from. */
  readonly port: number;
  /** Any number of times, whenever; from another port than the one that was asked if told so. */
  readonly reply: (bytes: Uint8Array, options?: { readonly fromElsewhere?: boolean }) => void;
  /** Ends the connection that it came on. */
  readonly hangUp: () => void;
}

export class UpstreamServer implements AsyncDisposable {
  readonly upstream: Upstream;
  readonly label: string;
  readonly received: Received[] = [];
  connections = 0;
  behave: (received: Received) => void;
  readonly #udp: UdpSocket;
  readonly #elsewhere: UdpSocket;
  readonly #tcp: Server;
  readonly #open = new Set<Socket>();
  #isDead = false;

  private constructor(
    udp: UdpSocket,
    elsewhere: UdpSocket,
    tcp: Server,
    behave: (received: Received) => void,
  ) {
    this.#udp = udp;
    this.#elsewhere = elsewhere;
    this.#tcp = tcp;
    this.behave = behave;
    const { address: host, port } = udp.address();
    this.upstream = { host, port };
    this.label = isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
    udp.on('message', (bytes, from) => this.#datagram(bytes, from));
    tcp.on('connection', (socket) => this.#connection(socket));
  }

  static async start(
    behave: (received: Received) => void,
    host = '127.0.0.1',
  ): Promise<UpstreamServer> {
    for (;;) {
      const udp = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
      const elsewhere = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
      udp.bind(0, host);
      elsewhere.bind(0, host);
      await Promise.all([once(udp, 'listening'), once(elsewhere, 'listening')]);
      const tcp = createServer();
      tcp.listen(udp.address().port, host);
      const isFree = await once(tcp, 'listening').then(
        () => true,
        () => false,
      );
      if (isFree) return new UpstreamServer(udp, elsewhere, tcp, behave);
      udp.close();
      elsewhere.close();
    }
  }

  /** From now on nobody listens there. */
  die(): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#udp.close();
    this.#elsewhere.close();
    this.#tcp.close();
    for (const socket of this.#open) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDead) return;
    const closed = once(this.#tcp, 'close');
    this.die();
    await closed;
  }

  #receive(received: Received): void {
    this.received.push(received);
    this.behave(received);
  }

  #datagram(bytes: Buffer, { port, address }: RemoteInfo): void {
    this.#receive({
      bytes,
      transport: 'udp',
      port,
      reply: (reply, { fromElsewhere = false } = {}) => {
        if (!this.#isDead) (fromElsewhere ? this.#elsewhere : this.#udp).send(reply, port, address);
      },
      hangUp: () => undefined,
    });
  }

  #connection(socket: Socket): void {
    this.connections += 1;
    this.#open.add(socket);
    let input = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#open.delete(socket));
    socket.on('data', (chunk) => {
      input = Buffer.concat([input, chunk]);
      while (input.length >= 2 && input.length >= 2 + input.readUInt16BE(0)) {
        const end = 2 + input.readUInt16BE(0);
        const bytes = input.subarray(2, end);
        input = input.subarray(end);
        this.#receive({
          bytes,
          transport: 'tcp',
          port: socket.remotePort ?? 0,
          reply: (reply) => {
            const frame = Buffer.alloc(2 + reply.length);
            frame.writeUInt16BE(reply.length);
            frame.set(reply, 2);
            // In two pieces, as it may arrive.
            socket.write(frame.subarray(0, 3));
            socket.write(frame.subarray(3));
          },
          hangUp: () => socket.destroy(),
        });
      }
    });
  }
}
