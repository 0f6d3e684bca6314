/** Sends questions over UDP, and compares what comes with what user space would say. */
import { createSocket, type Socket } from 'node:dgram';
import { readQuery } from '../../../src/dns/query.ts';
import { patience } from '../../harness/eventually.ts';
import { Questions, randomOf } from './dns-questions.ts';

export interface Alike {
  /** With an answer, and without one to wait for. */
  readonly answered: number;
  readonly silent: number;
  /** That are the kernel's to answer. */
  readonly plain: number;
  /** The first few: the question, what came, what was expected. */
  readonly different: readonly { asked: string; got: string; expected: string }[];
}

const SOCKETS = 32;
const DIFFERENT_MAX = 5;
const WAIT_MS = 5000 * patience;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function nameEnd(bytes: Uint8Array, at: number): number {
  for (let next = at; next < bytes.length;) {
    const length = bytes[next] ?? 0;
    if (length >= 0xc0) return next + 2;
    if (length === 0) return next + 1;
    next += length + 1;
  }
  return bytes.length;
}

/** Records of the answer section in one order: theirs is by chance. */
function inOrder(bytes: Uint8Array): string {
  if (bytes.length < 13 || bytes[5] !== 1) return hex(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = nameEnd(bytes, 12) + 4;
  const records: string[] = [];
  let at = start;
  for (let i = 0; i < view.getUint16(6); i++) {
    const fixed = nameEnd(bytes, at);
    const end = fixed + 10 + view.getUint16(fixed + 8);
    records.push(hex(bytes.subarray(at, end)));
    at = end;
  }
  return [hex(bytes.subarray(0, start)), ...records.toSorted(), hex(bytes.subarray(at))].join(' ');
}

/**
 * Whether the kernel answers it, if it knows name and type: one question of class IN, nothing set
 * but RD, AD and CD, and nothing behind it but EDNS with one option at most.
 */
export function plainKey(message: Uint8Array): string | undefined {
  const read = readQuery(message);
  if (!read.ok) return undefined;
  const { name, type, class: questionClass, edns, question } = read.query;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const isHead =
    (view.getUint16(2) & ~0x0130) === 0 &&
    view.getUint16(6) === 0 &&
    view.getUint16(8) === 0 &&
    view.getUint16(10) === Number(edns !== undefined);
  let end = 12 + question.length;
  if (edns !== undefined) {
    const options = view.getUint16(end + 9);
    end += 11 + options;
    if (options > 0 && view.getUint16(end - options + 2) + 4 !== options) return undefined;
  }
  const isPlain = isHead && questionClass === 1 && (edns?.version ?? 0) === 0;
  return isPlain && end === message.length ? `${name} ${type}` : undefined;
}

/** A socket that asks one thing at a time. */
class Asker {
  readonly #socket: Socket;
  #heard: ((bytes: Uint8Array) => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (bytes) => this.#heard?.(bytes));
  }

  static async at(address: string, port: number): Promise<Asker> {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    await new Promise<void>((resolve) => socket.connect(port, address, () => resolve()));
    return new Asker(socket);
  }

  /** What has the same id; undefined if nothing comes. */
  async ask(question: Uint8Array): Promise<Uint8Array | undefined> {
    return await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(undefined), WAIT_MS);
      this.#heard = (bytes) => {
        if (bytes[0] !== question[0] || bytes[1] !== question[1]) return;
        clearTimeout(timer);
        resolve(bytes);
      };
      this.#socket.send(question);
    });
  }

  send(question: Uint8Array): void {
    this.#socket.send(question);
  }

  /** Whatever comes from now on that nobody asked for. */
  unexpected(heard: (bytes: Uint8Array) => void): void {
    this.#heard = heard;
  }

  close(): void {
    this.#socket.close();
  }
}

export async function alike(
  {
    count,
    seed,
    port = 53,
  }: { readonly count: number; readonly seed: number; readonly port?: number },
  addresses: readonly string[],
  /** `NAME TYPE` of the kernel's table. */
  known: ReadonlySet<string>,
  answer: (message: Uint8Array, server: string) => Uint8Array | undefined,
): Promise<Alike> {
  const questions = new Questions(randomOf(seed));
  const different: { asked: string; got: string; expected: string }[] = [];
  let [left, answered, silent, plain, id] = [count, 0, 0, 0, 0];
  const work = async (address: string): Promise<void> => {
    const asker = await Asker.at(address, port);
    while (left-- > 0 && different.length < DIFFERENT_MAX) {
      const question = questions.next();
      id = (id + 1) & 0xffff;
      question.set([id >> 8, id & 0xff].slice(0, question.length));
      if (known.has(plainKey(question) ?? '')) plain++;
      const wanted = answer(question, address);
      const tell = (got: string, expected: string): void => {
        different.push({ asked: hex(question), got, expected });
      };
      if (wanted === undefined) {
        silent++;
        asker.send(question);
        continue;
      }
      answered++;
      const expected = inOrder(wanted);
      const heard = await asker.ask(question);
      const got = heard === undefined ? 'nothing' : inOrder(heard);
      if (got !== expected) tell(got, expected);
      asker.unexpected((bytes) => tell(`unasked: ${hex(bytes)}`, 'nothing'));
    }
    asker.close();
  };
  const at = (i: number): string => addresses[i % addresses.length] ?? '';
  await Promise.all(Array.from({ length: SOCKETS }, (_, i) => work(at(i))));
  return { answered, silent, plain, different };
}
