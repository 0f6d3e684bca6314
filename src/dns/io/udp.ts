/**
 * DNS over UDP at one address. A socket for each address, so that every answer leaves from the one
 * that was asked. libuv reads at most 32 datagrams before everything else in the process has its
 * turn; what comes faster waits in the kernel's buffer, and is dropped and counted there.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import type { HostPort } from '../../cluster/address.ts';
import type { Listener, ListenerHooks, ServerLimits } from './listener.ts';

/** Addresses are numbers here: Node would ask the resolver for each datagram, and wait for the next tick. */
const asItIs = (
  host: string,
  family: unknown,
  callback: (error: null, address: string, family: number) => void,
): void => callback(null, host, family as number);

/** Rejects with what bind(2) says. */
export async function listenUdp(
  { host, port }: HostPort,
  limits: ServerLimits,
  hooks: ListenerHooks,
): Promise<Listener> {
  const isV6 = host.includes(':');
  const socket = createSocket({
    type: isV6 ? 'udp6' : 'udp4',
    lookup: asItIs,
    ...(isV6 ? { ipv6Only: true } : {}),
  });
  await bound(socket, host, port);
  // The kernel gives at most net.core.rmem_max, and says nothing.
  socket.setRecvBufferSize(limits.receiveBufferBytes);
  socket.on('error', (error) => {
    socket.close();
    hooks.failed(error);
  });
  const sent = (error: Error | null): void => {
    if (error !== null) hooks.dropped('send');
  };
  const send = (answer: Uint8Array | undefined, to: RemoteInfo): void => {
    if (answer === undefined) return;
    try {
      if (socket.getSendQueueCount() >= limits.sendQueueMax) return hooks.dropped('send');
      socket.send(answer, to.port, to.address, sent);
    } catch {
      hooks.dropped('send'); // closed meanwhile, or from port 0
    }
  };
  socket.on('message', (message, from) => {
    const answer = hooks.answer(message, {
      transport: 'udp',
      server: host,
      client: from.address,
    });
    if (answer instanceof Promise) void answer.then((late) => send(late, from));
    else send(answer, from);
  });
  return {
    port: socket.address().port,
    close: () =>
      new Promise((resolve) => {
        socket.removeAllListeners('error').on('error', () => undefined);
        try {
          socket.close(() => resolve());
        } catch {
          resolve(); // it failed, and is closed
        }
      }),
  };
}

function bound(socket: Socket, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      socket.close();
      reject(error);
    };
    socket.once('error', failed);
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off('error', failed);
      resolve();
    });
  });
}
