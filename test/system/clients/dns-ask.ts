/**
 * Asks questions over UDP. Arguments: address, connected | unconnected, address to bind to or -,
 * times, questions in hexadecimal. Prints for each what came: bytes and from whom, or the error.
 */
import { createSocket } from 'node:dgram';
import { patience } from '../../harness/eventually.ts';

export interface Heard {
  /** In hexadecimal. */
  readonly answer?: string;
  readonly from?: string;
  /** What getpeername() says. */
  readonly peer?: string;
  readonly error?: string;
}

const [address = '', how = '', bindTo = '-', times = '1', ...questions] = process.argv.slice(2);
const WAIT_MS = 3000 * patience;

async function ask(question: Uint8Array): Promise<Heard> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const { promise, resolve } = Promise.withResolvers<Heard>();
  const timer = setTimeout(() => resolve({ error: 'nothing came' }), WAIT_MS);
  let peer: string | undefined;
  socket.on('error', (error) => resolve({ error: (error as NodeJS.ErrnoException).code ?? '' }));
  socket.on('message', (answer, { address: from, port }) =>
    resolve({
      answer: answer.toString('hex'),
      from: `${from} ${port}`,
      ...(peer === undefined ? {} : { peer }),
    }),
  );
  if (bindTo !== '-')
    await new Promise<void>((bound) => socket.bind({ address: bindTo }, () => bound()));
  if (how === 'connected') {
    await new Promise<void>((connected) => socket.connect(53, address, () => connected()));
    const { address: host, port } = socket.remoteAddress();
    peer = `${host} ${port}`;
    socket.send(question);
  } else {
    socket.send(question, 53, address);
  }
  const heard = await promise;
  clearTimeout(timer);
  socket.close();
  return heard;
}

const all: Heard[] = [];
for (let i = 0; i < Number(times); i++) {
  for (const question of questions) all.push(await ask(Buffer.from(question, 'hex')));
}
console.log(JSON.stringify(all));
