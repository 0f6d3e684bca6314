/**
 * A name server of others, at the addresses that are given: any name has the address 192.0.2.N, where
 * N is the server's number from 1 on; TXT of `big.…` is 4 KB. `NAME.at.example` is a CNAME to NAME, of
 * which it says that there is none. Tells each question on its output.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { decode, encode, type Answer, type Packet } from 'dns-packet';
import { frame, FrameReader } from '../../../src/dns/frames.ts';

const UDP_BYTES_MAX = 1232;

function answer(message: Uint8Array, number: number, isUdp: boolean): Buffer {
  const query: Packet = decode(Buffer.from(message));
  const [question] = query.questions ?? [];
  const { name = '', type = 'A' } = question ?? {};
  console.log(`${number} ${isUdp ? 'udp' : 'tcp'} ${type} ${name.toLowerCase()}`);
  const answers: Answer[] = [];
  const target = name.replace(/\.at\.example$/i, '');
  if (target !== name) answers.push({ type: 'CNAME', name, ttl: 60, data: target.toLowerCase() });
  else if (type === 'A') answers.push({ type, name, ttl: 60, data: `192.0.2.${number}` });
  if (type === 'TXT' && name.toLowerCase().startsWith('big.'))
    answers.push({ type, name, ttl: 60, data: Array.from({ length: 20 }, () => 'x'.repeat(200)) });
  const flags = 0x0180 | (target === name ? 0 : 3); // RD, RA; NXDOMAIN
  const base = { type: 'response' as const, id: query.id ?? 0, questions: query.questions ?? [] };
  const whole = encode({ ...base, flags, answers });
  if (!isUdp || whole.length <= UDP_BYTES_MAX) return whole;
  return encode({ ...base, flags: flags | 0x0200, answers: [] });
}

const addresses = process.argv.slice(2);
for (const [i, host] of addresses.entries()) {
  const udp = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  udp.on('message', (message, { port, address }) =>
    udp.send(answer(message, i + 1, true), port, address),
  );
  await new Promise<void>((resolve) => udp.bind(53, host, resolve));
  const tcp = createServer((socket) => {
    const reader = new FrameReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      reader.push(chunk);
      for (let one = reader.next(); one !== undefined; one = reader.next())
        socket.write(frame(answer(one, i + 1, false)));
    });
  });
  await new Promise<void>((resolve) => tcp.listen(53, host, resolve));
}
console.log('listening');
