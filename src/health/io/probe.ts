/**
 * One connection that says nothing and is closed at once. Only a refusal says that nobody is there:
 * a firewall, a full queue or a limit of this process say nothing.
 */
import { connect } from 'node:net';
import type { Answer } from '../watch.ts';

/** A guess: this host answers itself at once or not at all. */
const TIMEOUT_MS = 500;

export function probe(host: string, port: number): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const done = (answer: Answer): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(TIMEOUT_MS, () => done('answered'));
    socket.once('connect', () => {
      // A port that nobody listens at may be drawn as the connection's own: it then meets itself.
      const { localPort, localAddress, remoteAddress } = socket;
      done(localPort === port && localAddress === remoteAddress ? 'refused' : 'answered');
    });
    socket.once('error', (error: NodeJS.ErrnoException) =>
      done(error.code === 'ECONNREFUSED' ? 'refused' : 'answered'),
    );
  });
}
