/**
 * Replies of somebody hostile, in any number. Two of them: one who guesses (he does not see what we
 * send: not the id, the port and the case at once), and an upstream that answers what it is asked
 * with anything at all. None of it may be kept for a name that it is not the answer of.
 */
import { ForwardMachine } from '../../../src/dns/forward/forwarder.ts';
import type { ForwardOutput } from '../../../src/dns/forward/types.ts';
import { below, sfc32, unit, type Random } from '../../../src/hyparview-ts/random.ts';
import { settingsOf, UDP, upstream } from '../../harness/forward-world.ts';
import { nameIn, queryOf, questionEnd, readMessage, replyOf } from './messages.ts';

export interface HostileResult {
  readonly replies: number;
  readonly asks: number;
  /** Answers by where they came from. */
  readonly from: Readonly<Record<string, number>>;
  readonly results: Readonly<Record<string, number>>;
  readonly mismatches: number;
  readonly cacheBytesSeen: number;
  readonly attemptsSeen: number;
}

export const CACHE_BYTES = 256 * 1024;
const CONCURRENT_MAX = 50;
const TIMEOUT_MS = 500;
const VICTIMS = 200;
const HONEST = [10, 0, 0, 1] as const;
const EVIL = [10, 6, 6, 6] as const;

const isVictim = (name: string): boolean => name.startsWith('victim');

function flipCase(reply: Buffer, random: Random): Buffer {
  const letters: number[] = [];
  for (let at = 12; at < questionEnd(reply) - 4; at++)
    if (/[a-z]/i.test(String.fromCharCode(reply[at] ?? 0))) letters.push(at);
  const at = letters[below(random, letters.length)] ?? 13;
  reply[at] = (reply[at] ?? 0) ^ 0x20;
  return reply;
}

/** A forged answer that is wrong in something that its sender cannot know. */
function guess(sent: Uint8Array, isUdp: boolean, random: Random): Buffer {
  const reply = replyOf(sent, { address: EVIL, ttl: 86_400 });
  switch (below(random, isUdp ? 4 : 3)) {
    case 0:
      reply.writeUInt16BE(reply.readUInt16BE(0) ^ (1 + below(random, 65_535)), 0);
      return reply;
    case 1:
      reply[13] = 0x78; // another name: they all begin with v or n
      return reply;
    case 2:
      reply[questionEnd(reply) - 3] = 28;
      return reply;
    default:
      return flipCase(reply, random);
  }
}

/** The question's own name, three times of ten; a place that is none. Else the victim. */
const OWNERS = [
  Buffer.from([0xc0, 12]),
  Buffer.from([0xc0, 12]),
  Buffer.from([0xc0, 12]),
  Buffer.from([0xc0, 200]),
];

/** As the type wants it, nine times of ten. */
function dataFor(type: number, victim: Uint8Array, random: Random): Uint8Array {
  const address = Buffer.from(EVIL);
  if (below(random, 10) === 0) return address.subarray(0, below(random, 4));
  if (type === 5 || type === 2 || type === 39) return victim;
  if (type === 28) return Buffer.concat([address, address, address, address]);
  if (type === 16) return Buffer.concat([Buffer.from([4]), address]);
  return type === 33 ? Buffer.concat([Buffer.alloc(6), victim]) : address;
}

/** Records about victims, CNAMEs to them, broken and endless names, behind what may be an answer. */
function poison(sent: Uint8Array, random: Random): Buffer {
  const parts = [replyOf(sent, { address: HONEST, ttl: below(random, 5) })];
  const counts = [1, 0, 0];
  const victim = queryOf(`victim${below(random, VICTIMS)}.example`).question.subarray(0, -4);
  for (let i = below(random, 6); i > 0; i--) {
    const section = below(random, 3);
    const owner = OWNERS[below(random, 10)] ?? victim;
    const type = [1, 1, 5, 2, 28, 39, 41, 16, 33][below(random, 9)] ?? 1;
    const data = dataFor(type, victim, random);
    const head = Buffer.from([0, type, 0, 1, 0, 1, 0, 0, 0, data.length]);
    parts.push(Buffer.concat([owner, head, data]));
    counts[section] = (counts[section] ?? 0) + 1;
  }
  const reply = Buffer.concat(parts);
  for (const [i, count] of counts.entries()) reply.writeUInt16BE(count, 6 + 2 * i);
  return reply;
}

function mutate(reply: Buffer, random: Random): Buffer {
  for (let i = below(random, 5); i > 0; i--)
    reply[below(random, reply.length)] = below(random, 256);
  const cut = unit(random);
  if (cut < 0.1) return reply.subarray(0, below(random, reply.length + 1));
  if (cut > 0.95) return Buffer.concat([reply, reply.subarray(below(random, reply.length))]);
  return reply;
}

function checkAnswer(asked: string, bytes: Uint8Array, from: string): void {
  const { name, answers, rcode } = readMessage(bytes);
  if (name !== `${asked}.`) throw new Error(`asked ${asked}, answered ${name}`);
  if (bytes.length > 512) throw new Error(`${bytes.length} bytes for a client who takes 512`);
  const chain = new Set([name]);
  for (const { owner, target } of answers)
    if (target !== undefined && chain.has(owner)) chain.add(target);
  for (const { target } of answers) if (target !== undefined) chain.add(target);
  for (const { owner, type, data } of answers) {
    if (type !== 39 && !chain.has(owner)) throw new Error(`${owner} in the answer to ${name}`);
    if (isVictim(asked) && (type !== 1 || !data.equals(Buffer.from(HONEST))))
      throw new Error(`${asked} has ${data.toString('hex')} of type ${type} from ${from}`);
  }
  if (isVictim(asked) && rcode === 3) throw new Error(`${asked} is said not to be there`);
}

/** Throws at the first wrong answer. `replies`: how many are made in all, at least. */
export function runHostile(seed: number, replies: number): HostileResult {
  const random = sfc32(seed);
  const settings = {
    cacheBytes: CACHE_BYTES,
    timeoutMs: TIMEOUT_MS,
    maxConcurrent: CONCURRENT_MAX,
    // Not the same upstreams for both: one that says it keeps no case takes that protection off its own names.
    zones: new Map([
      ['example', ['192.0.2.1:53', '192.0.2.2:53'].map(upstream)],
      ['evil', ['192.0.2.3:53', '192.0.2.4:53'].map(upstream)],
    ]),
  };
  const machine = new ForwardMachine(settingsOf([], settings), sfc32(seed, 1));
  const from: Record<string, number> = {};
  let nowMs = 1000;
  let wakeMs = Infinity;
  const made = { replies: 0 };
  let asks = 0;
  let cacheBytesSeen = 0;
  let attemptsSeen = 0;
  const names = new Map<number, { name: string; askedMs: number }>();

  const take = (outputs: readonly ForwardOutput[]): ForwardOutput[] => {
    const sends: ForwardOutput[] = [];
    for (const output of outputs) {
      if (output.kind === 'send') sends.push(output);
      if (output.kind === 'wake') wakeMs = output.atMs ?? Infinity;
      if (output.kind !== 'answer') continue;
      const waiting = names.get(output.ask);
      if (waiting === undefined) throw new Error(`ask ${output.ask} was answered twice`);
      names.delete(output.ask);
      if (nowMs - waiting.askedMs > TIMEOUT_MS) throw new Error(`${waiting.name} was late`);
      from[output.asked.from] = (from[output.asked.from] ?? 0) + 1;
      checkAnswer(waiting.name, output.asked.bytes, output.asked.from);
    }
    return sends;
  };
  const say = (attempt: number, bytes: Uint8Array): ForwardOutput[] => {
    made.replies += 1;
    return take(machine.handle({ kind: 'reply', attempt, bytes }, nowMs));
  };
  const react = (send: ForwardOutput): ForwardOutput[] => {
    if (send.kind !== 'send') return [];
    const { attempt, bytes: sent, transport } = send;
    const further: ForwardOutput[] = [];
    if (!isVictim(nameIn(sent))) {
      for (let i = below(random, 4); i > 0; i--)
        further.push(...say(attempt, mutate(poison(sent, random), random)));
      return further;
    }
    // TCP cannot be guessed into; there the upstream alone speaks.
    if (transport === 'udp')
      for (let i = below(random, 6); i > 0; i--)
        further.push(...say(attempt, guess(sent, true, random)));
    further.push(...say(attempt, replyOf(sent, { address: HONEST, ttl: below(random, 5) })));
    return further;
  };

  while (made.replies < replies) {
    const isHonest = unit(random) < 0.3;
    const name = isHonest
      ? `victim${below(random, VICTIMS)}.example`
      : `n${below(random, 5000)}.evil`;
    const ask = ++asks;
    names.set(ask, { name, askedMs: nowMs });
    let sends = take(
      machine.handle({ kind: 'ask', ask, query: queryOf(name), options: UDP }, nowMs),
    );
    const untilMs = nowMs + below(random, 20);
    for (;;) {
      while (sends.length > 0) sends = sends.flatMap(react);
      if (wakeMs > untilMs) break;
      nowMs = Math.max(nowMs, wakeMs);
      wakeMs = Infinity;
      sends = take(machine.handle({ kind: 'wake' }, nowMs));
    }
    nowMs = untilMs;
    if (asks % 256 > 0) continue;
    const { cache, attempts } = machine.stats(nowMs);
    cacheBytesSeen = Math.max(cacheBytesSeen, cache.bytes);
    attemptsSeen = Math.max(attemptsSeen, attempts);
  }
  const results: Record<string, number> = {};
  for (const upstream of machine.stats(nowMs).upstreams)
    for (const [result, count] of Object.entries(upstream.results))
      results[result] = (results[result] ?? 0) + count;
  const { mismatches } = machine.stats(nowMs);
  return { replies: made.replies, asks, from, results, mismatches, cacheBytesSeen, attemptsSeen };
}
