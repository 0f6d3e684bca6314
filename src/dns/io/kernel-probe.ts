/**
 * Whether queries get over the resolver's link to the server and back, asked as a client asks. Of
 * what it hears of that, kernel.ts decides who is led there.
 */
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { kernelPort } from '../kernel-abi.ts';
import { RCODE } from '../numbers.ts';
import type { LinkEnds } from './link.ts';

export function closeSocket(socket: Socket): void {
  socket.removeAllListeners('error').on('error', () => undefined);
  socket.close();
}

/** Class CH: never in the kernel's table, and answered (REFUSED) by every state of the server. */
const PROBE = Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 3);

/** The answer to what probe() asks, which nobody else does; undefined for all else. */
export function probeAnswer(message: Uint8Array): Uint8Array | undefined {
  const isProbe =
    message.length === PROBE.length && message.every((byte, i) => i < 2 || byte === PROBE[i]);
  if (!isProbe) return undefined;
  const answer = Uint8Array.from(message);
  answer.set([0x80, RCODE.REFUSED], 2);
  return answer;
}

/** Whether a query over the link reaches the server, and its answer comes back. */
export async function probe(
  { here, there }: LinkEnds,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const socket = createSocket(here.includes(':') ? 'udp6' : 'udp4');
  const query = PROBE.slice();
  query.set(randomBytes(2));
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const end = (): void => resolve(false);
  const timer = setTimeout(end, timeoutMs);
  signal.addEventListener('abort', end);
  try {
    socket.on('error', end);
    socket.on('message', (answer) => {
      if (answer[0] === query[0] && answer[1] === query[1]) resolve(true);
    });
    socket.bind({ address: here, port: 0, exclusive: true }, () =>
      socket.send(query, kernelPort, there),
    );
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    closeSocket(socket);
  }
}
