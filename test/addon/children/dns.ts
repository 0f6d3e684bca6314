// A DNS thread that is asked without end, half of it answered by itself. As a process: how to end;
// as a worker: it goes on until it is terminated.
import { createSocket } from 'node:dgram';
import { setTimeout as wait } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { DnsThread } from '../../../addon/index.ts';

const report = parentPort?.postMessage.bind(parentPort);
const HOST = '127.0.55.71';
const how = typeof workerData === 'string' ? workerData : process.argv[2];
const tail = Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1);
const ask = (letter: number): Uint8Array =>
  Uint8Array.of(7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, letter, 0, 0, 1, 0, 1);

const thread = new DnsThread({
  udpSizeMax: 1232,
  boundsUs: [],
  onQuestions: (all) => thread.send(all.map(({ peer, message }) => ({ peer, bytes: message }))),
  onFailed: (_socket, error) => {
    throw error;
  },
});
const { port } = thread.listen({
  address: HOST,
  port: 0,
  isDirect: true,
  receiveBytes: 65_536,
  sendBytes: 65_536,
});
thread.set({ name: Uint8Array.of(1, 0x61, 0), type: 1, count: 1, tail, shuffledBytes: 0 });
const client = createSocket('udp4');
let answers = 0;
client.on('message', () => {
  if (++answers === 1) report?.('answered');
});
let again: NodeJS.Timeout | undefined;
client.connect(port, HOST, () => {
  again = setInterval(() => {
    for (let i = 0; i < 40; i++) client.send(ask(0x61 + (i & 1)));
  }, 1);
});
await wait(how === 'endless' ? 3_600_000 : 100);
if (how === 'exit') process.exit(answers > 0 ? 0 : 2);
if (how === 'throw') throw new Error('on purpose');
clearInterval(again);
client.close();
thread.close();
