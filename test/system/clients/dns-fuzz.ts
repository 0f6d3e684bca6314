/**
 * Sends mutated messages to a resolver, over UDP or TCP, and is the name server that it forwards
 * to: one that lies in every way it can. Looks at each answer; prints what it saw as one line of
 * JSON, and before that one each second.
 *
 *   dns-fuzz.ts {"address":…,"transport":"udp"|"tcp","count":…,"seed":…,"upstream":…,"names":[…],"dump":FILE}
 *
 * dump: each message and its answer, both after their length in four bytes (network order).
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { faultOfAnswer } from '../../harness/dns-judge.ts';
import { isPoisoned, liarNames, lies, victimAt, VICTIMS } from '../../harness/dns-liar.ts';
import { Mutator, queryBytes, word } from '../../harness/dns-mutations.ts';
import { Dice } from '../../harness/random.ts';

export interface FuzzOptions {
  readonly address: string;
  readonly transport: 'udp' | 'tcp';
  readonly count: number;
  readonly seed: number;
  /** Where the liar listens. */
  readonly upstream: string;
  readonly names: readonly string[];
  readonly dump?: string;
}

export interface FuzzResult {
  sent: number;
  answered: number;
  /** Of the liar. */
  lies: number;
  /** Names that only the truth is told of, and how often it was not what was answered. */
  victims: number;
  poisoned: number;
  readonly rcodes: Record<string, number>;
  /** The first of them, with the message in hexadecimal. */
  readonly faults: string[];
  faultCount: number;
}

const WINDOW = 64;
const FAULTS_MAX = 20;
const UDP_BYTES_MAX = 1232;
const TCP_BYTES_MAX = 65_535;
/** Nobody answers it by heart: what was sent before has been read when it is answered. */
const SENTINEL = queryBytes('version.bind', 16, 0x0100, 3);
const VICTIM_EVERY = 20;

const options = JSON.parse(process.argv[2] ?? '{}') as FuzzOptions;
const dice = new Dice(options.seed);
const mutator = new Mutator(dice, [...options.names, ...liarNames(50)]);
const dump = options.dump === undefined ? undefined : openSync(options.dump, 'w');
const result: FuzzResult = {
  sent: 0,
  answered: 0,
  lies: 0,
  victims: 0,
  poisoned: 0,
  rcodes: {},
  faults: [],
  faultCount: 0,
};

function fault(what: string, message: Uint8Array): void {
  result.faultCount++;
  if (result.faults.length < FAULTS_MAX)
    result.faults.push(`${what}: ${Buffer.from(message).toString('hex')}`);
}

function judge(message: Uint8Array, answer: Uint8Array, bytesMax: number): void {
  result.answered++;
  const rcode = String((answer[3] ?? 0) & 15);
  result.rcodes[rcode] = (result.rcodes[rcode] ?? 0) + 1;
  const found = faultOfAnswer(message, answer, bytesMax);
  if (found !== undefined) fault(`${found} (${Buffer.from(answer).toString('hex')})`, message);
  if (dump !== undefined)
    for (const bytes of [message, answer]) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      writeSync(dump, length);
      writeSync(dump, bytes);
    }
}

async function startLiar(): Promise<void> {
  const socket = createSocket('udp4');
  socket.on('message', (query, { port, address }) => {
    for (const said of lies(query, mutator)) {
      result.lies++;
      socket.send(said, port, address);
    }
  });
  socket.on('error', () => undefined); // who asked is gone
  socket.bind(53, options.upstream);
  await once(socket, 'listening');
  socket.unref();
}

/** A message with this id, if it is long enough to have one. */
function message(id: number): Uint8Array {
  const bytes = mutator.message();
  if (bytes.length >= 2) bytes.set(word(id));
  result.sent++;
  return bytes;
}

/** An answer that nobody waits for is one to a message, or a fault. */
class UdpFuzz {
  readonly #socket: Socket = createSocket('udp4');
  /** By id: what was sent last with it; undefined once it is answered. */
  readonly #open: (Uint8Array | undefined)[] = [];
  /** Of questions that are sent until they are answered. */
  readonly #asked = new Set<number>();
  #id = 0;
  #heard: ((answer: Buffer) => void) | undefined;
  #awaited = -1;

  async start(): Promise<void> {
    this.#socket.on('message', (answer) => this.#hear(answer));
    this.#socket.on('error', (error) => fault(error.message, new Uint8Array()));
    this.#socket.connect(53, options.address);
    await once(this.#socket, 'connect');
    this.#socket.setRecvBufferSize(4 * 2 ** 20);
  }

  async run(): Promise<void> {
    for (let windows = 0; result.sent < options.count; windows++) {
      for (let i = 0; i < WINDOW; i++) {
        const id = this.#nextId();
        const bytes = message(id);
        this.#open[id] = bytes;
        this.#socket.send(bytes);
      }
      const refused = await this.#ask(SENTINEL);
      if (refused === undefined)
        return fault('no answer to a whole query for 10 s', new Uint8Array());
      if (windows % VICTIM_EVERY === 0) await this.#victim();
    }
    await pause(2500); // what is forwarded is answered within two seconds
    this.#socket.close();
  }

  async #victim(): Promise<void> {
    const answer = await this.#ask(queryBytes(victimAt(dice.below(VICTIMS)), 1));
    if (answer === undefined) return fault('no answer of a victim', new Uint8Array());
    result.victims++;
    if (isPoisoned(answer)) result.poisoned++;
  }

  #nextId(): number {
    this.#id = (this.#id + 1) & 0xffff;
    this.#asked.delete(this.#id);
    return this.#id;
  }

  /** Sends it until it is answered. */
  async #ask(bytes: readonly number[]): Promise<Buffer | undefined> {
    const id = this.#nextId();
    const query = Uint8Array.from([...word(id), ...bytes.slice(2)]);
    this.#awaited = id;
    this.#asked.add(id);
    for (let times = 0; times < 20; times++) {
      const answered = new Promise<Buffer>((resolve) => (this.#heard = resolve));
      this.#socket.send(query);
      const answer = await Promise.race([answered, pause(500, undefined, { ref: false })]);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  #hear(answer: Buffer): void {
    const id = answer.length < 2 ? -1 : answer.readUInt16BE(0);
    if (id === this.#awaited) return this.#heard?.(answer);
    if (this.#asked.has(id)) return; // it was sent twice
    const bytes = this.#open[id];
    if (bytes === undefined) return fault('an answer to nobody, or a second one', answer);
    this.#open[id] = undefined;
    judge(bytes, answer, UDP_BYTES_MAX);
  }
}

/** One connection: whole frames and then a sentinel, or frames that lie about their length. */
async function connection(): Promise<void> {
  const open = new Map<number, Uint8Array>();
  const isHonest = dice.below(4) > 0;
  const frames: number[] = [];
  for (let id = 0; id < WINDOW; id++) {
    let bytes = message(id);
    // What is too short for a message ends a connection, and all after it is lost.
    if (isHonest) while (bytes.length < 12) bytes = message(id);
    open.set(id, bytes);
    const length = isHonest || dice.below(8) > 0 ? bytes.length : dice.below(65_536);
    frames.push(...word(length), ...bytes);
  }
  const isVictim = dice.below(8) === 0;
  const last = isVictim ? queryBytes(victimAt(dice.below(VICTIMS)), 1) : SENTINEL;
  frames.push(...word(last.length), 0xff, 0xff, ...last.slice(2));
  const socket = connect(53, options.address);
  let rest = Buffer.alloc(0);
  let isDone = false;
  const hear = (data: Buffer): void => {
    rest = Buffer.concat([rest, data]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const answer = rest.subarray(2, 2 + rest.readUInt16BE(0));
      rest = rest.subarray(2 + answer.length);
      const id = answer.length < 2 ? -1 : answer.readUInt16BE(0);
      const bytes = open.get(id);
      if (id === 0xffff && isHonest) {
        isDone = true;
        if (isVictim) result.victims++;
        if (isVictim && isPoisoned(answer)) result.poisoned++;
      } else if (bytes !== undefined && isHonest) judge(bytes, answer, TCP_BYTES_MAX);
      else if (isHonest) fault('an answer to nobody, or a second one', answer);
      else result.answered++;
      open.delete(id);
    }
  };
  socket.on('data', hear);
  socket.on('error', () => undefined);
  socket.setTimeout(5000, () => socket.destroy());
  const closed = once(socket, 'close');
  socket.end(Buffer.from(frames));
  await closed;
  if (!isHonest) return;
  if (!isDone) fault('a connection ended before all was answered', new Uint8Array());
  for (const bytes of open.values()) if ((bytes[2] ?? 0) < 0x80) fault('no answer', bytes);
}

async function tcp(): Promise<void> {
  const lane = async (): Promise<void> => {
    while (result.sent < options.count) await connection();
  };
  await Promise.all(Array.from({ length: 16 }, lane));
}

const progress = setInterval(
  () => process.stdout.write(`${JSON.stringify({ sent: result.sent, at: Date.now() })}\n`),
  1000,
);
await startLiar();
if (options.transport === 'udp') {
  const fuzz = new UdpFuzz();
  await fuzz.start();
  await fuzz.run();
} else {
  await tcp();
}
clearInterval(progress);
if (dump !== undefined) closeSync(dump);
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
