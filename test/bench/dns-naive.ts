/** What somebody writes in an afternoon: names from a file, by dns-packet, answered over UDP. */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { decode, encode, RECURSION_DESIRED, type Answer } from 'dns-packet';

const [path = '', address = '', port = ''] = process.argv.slice(2);
const lines = readFileSync(path, 'utf8').trim().split('\n');
const addresses = new Map(lines.map((line) => line.split(' ') as [string, string]));
const socket = createSocket('udp4');

socket.on('message', (message, from) => {
  const { id, flags = 0, questions = [], additionals = [] } = decode(message);
  const [question] = questions;
  const data = addresses.get(question?.name.toLowerCase() ?? '');
  const isFound = question?.type === 'A' && data !== undefined;
  const answers: Answer[] = isFound ? [{ type: 'A', name: question.name, ttl: 5, data }] : [];
  const answer = encode({
    type: 'response',
    ...(id === undefined ? {} : { id }),
    flags: 0x400 | (flags & RECURSION_DESIRED) | (data === undefined ? 3 : 0),
    questions,
    answers,
    additionals: additionals.filter(({ type }) => type === 'OPT'),
  });
  socket.send(answer, from.port, from.address);
});

socket.bind(Number(port), address);
