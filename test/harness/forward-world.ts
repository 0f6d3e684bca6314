/**
 * The forwarder's machine in virtual time, with upstreams that are functions. What they say is made
 * with dns-packet, so that reader and writer of the forwarder are judged by somebody else.
 */
import dnsPacket from 'dns-packet';
import type { Answer, Packet, RecordType } from 'dns-packet';
import { Deadlines, type Due } from '../../src/dns/forward/deadlines.ts';
import { ForwardMachine } from '../../src/dns/forward/forwarder.ts';
import { labelOf } from '../../src/dns/forward/standing.ts';
import type {
  Asked,
  AskOptions,
  ForwardInput,
  ForwardSettings,
  Transport,
  Upstream,
} from '../../src/dns/forward/types.ts';
import { readQuery, type Query } from '../../src/dns/query.ts';
import { sfc32, type Random } from '../../src/hyparview-ts/random.ts';

export interface Sent {
  readonly atMs: number;
  readonly attempt: number;
  readonly upstream: string;
  readonly transport: Transport;
  readonly bytes: Uint8Array;
}

export type Reaction =
  | { readonly afterMs: number; readonly bytes: Uint8Array }
  | { readonly afterMs: number; readonly why: 'unreachable' | 'local' };

export type Behaviour = (sent: Sent) => readonly Reaction[];

interface Event extends Due {
  readonly input: ForwardInput | (() => void);
}

export interface Answered {
  readonly atMs: number;
  readonly askedMs: number;
  readonly asked: Asked;
}

export const UDP: AskOptions = { transport: 'udp', udpSizeMax: 1232 };
export const TCP: AskOptions = { transport: 'tcp', udpSizeMax: 1232 };

export function upstream(label: string): Upstream {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(label) ?? [];
  return { host, port: Number(port) };
}

export function settingsOf(
  labels: readonly string[],
  more: Partial<ForwardSettings> = {},
): ForwardSettings {
  return {
    zones: new Map([['', labels.map(upstream)]]),
    timeoutMs: 2000,
    maxConcurrent: 1000,
    cacheBytes: 1024 * 1024,
    staleSeconds: 86_400,
    isOwn: () => false,
    ...more,
  };
}

export class ForwardWorld {
  readonly machine: ForwardMachine;
  readonly random: Random;
  nowMs = 1000;
  /** By label; who is missing drops everything. */
  readonly upstreams = new Map<string, Behaviour>();
  readonly sends: Sent[] = [];
  readonly answers = new Map<number, Answered>();
  /** Attempts that the machine has not ended yet. */
  readonly open = new Map<number, Sent>();
  /** Instead of keeping answers and sends, for long runs. */
  onAnswer: ((ask: number, answered: Answered) => void) | undefined;
  readonly #askedMs = new Map<number, number>();
  readonly #events = new Deadlines<Event>();
  #wake: Event | undefined;
  #lastAsk = 0;

  constructor(settings: ForwardSettings, seed = 1) {
    this.random = sfc32(seed);
    this.machine = new ForwardMachine(settings, sfc32(seed, 1));
  }

  get waiting(): number {
    return this.#askedMs.size;
  }

  get events(): number {
    return this.#events.size;
  }

  ask(query: Query, options: AskOptions = UDP): number {
    const ask = ++this.#lastAsk;
    this.#askedMs.set(ask, this.nowMs);
    this.#handle({ kind: 'ask', ask, query, options });
    return ask;
  }

  /** Does what is due until then; it is that time afterwards. */
  run(untilMs: number): void {
    for (let event = this.#events.pop(untilMs); event; event = this.#events.pop(untilMs)) {
      this.nowMs = Math.max(this.nowMs, event.dueMs);
      if (event === this.#wake) this.#wake = undefined;
      if (typeof event.input === 'function') event.input();
      else this.#handle(event.input);
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  pass(ms: number): void {
    this.run(this.nowMs + ms);
  }

  /** Until nothing more is to come. */
  settle(): void {
    for (let i = 0; i < 1_000_000; i++) {
      const nextMs = this.#events.nextMs;
      if (nextMs === undefined) return;
      this.run(nextMs);
    }
    throw new Error('forward-world: it does not come to rest');
  }

  at(atMs: number, run: () => void): void {
    this.#events.set({ input: run, dueMs: 0, heapIndex: -1 }, atMs);
  }

  /** Asks and waits for the answer. */
  resolve(query: Query, options: AskOptions = UDP): Answered {
    const ask = this.ask(query, options);
    for (let i = 0; i < 100_000 && !this.answers.has(ask); i++) {
      const nextMs = this.#events.nextMs;
      if (nextMs === undefined) break;
      this.run(nextMs);
    }
    const answered = this.answers.get(ask);
    if (answered === undefined) throw new Error('forward-world: no answer');
    return answered;
  }

  #handle(input: ForwardInput): void {
    for (const output of this.machine.handle(input, this.nowMs)) {
      if (output.kind === 'send') this.#send(output);
      else if (output.kind === 'end') this.open.delete(output.attempt);
      else if (output.kind === 'wake') this.#wakeAt(output.atMs);
      else this.#answer(output.ask, output.asked);
    }
  }

  #answer(ask: number, asked: Asked): void {
    const askedMs = this.#askedMs.get(ask);
    if (askedMs === undefined) throw new Error(`forward-world: ask ${ask} is answered twice`);
    this.#askedMs.delete(ask);
    const answered = { atMs: this.nowMs, askedMs, asked };
    if (this.onAnswer === undefined) this.answers.set(ask, answered);
    else this.onAnswer(ask, answered);
  }

  #send(output: {
    attempt: number;
    upstream: Upstream;
    transport: Transport;
    bytes: Uint8Array;
  }): void {
    const { attempt, transport, bytes } = output;
    const sent = {
      atMs: this.nowMs,
      attempt,
      upstream: labelOf(output.upstream),
      transport,
      bytes,
    };
    this.open.set(attempt, sent);
    if (this.onAnswer === undefined) this.sends.push(sent);
    for (const reaction of this.upstreams.get(sent.upstream)?.(sent) ?? []) {
      const input: ForwardInput =
        'bytes' in reaction
          ? { kind: 'reply', attempt, bytes: reaction.bytes }
          : { kind: 'failed', attempt, why: reaction.why };
      this.#events.set({ input, dueMs: 0, heapIndex: -1 }, this.nowMs + reaction.afterMs);
    }
  }

  #wakeAt(atMs: number | undefined): void {
    if (this.#wake !== undefined) this.#events.remove(this.#wake);
    this.#wake = undefined;
    if (atMs === undefined) return;
    this.#wake = { input: { kind: 'wake' }, dueMs: 0, heapIndex: -1 };
    this.#events.set(this.#wake, Math.max(atMs, this.nowMs));
  }
}

export interface QueryOptions {
  readonly id?: number;
  readonly edns?: { readonly udpSize?: number; readonly isDnssecOk?: boolean };
  /** Header flags; RD alone by default. */
  readonly flags?: number;
  readonly class?: string;
}

export function queryFor(name: string, type: RecordType = 'A', options: QueryOptions = {}): Query {
  const { id = 4711, edns, flags = 0x0100 } = options;
  const packet: Packet = {
    type: 'query',
    id,
    flags,
    questions: [{ name, type, class: (options.class ?? 'IN') as 'IN' }],
  };
  if (edns !== undefined)
    packet.additionals = [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: edns.udpSize ?? 1232,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: edns.isDnssecOk === true ? 0x8000 : 0,
        flag_do: edns.isDnssecOk === true,
        options: [],
      },
    ];
  const read = readQuery(dnsPacket.encode(packet));
  if (!read.ok) throw new Error(`no query: ${name} ${type}`);
  return read.query;
}

export interface ReplyOptions {
  readonly rcode?: number;
  readonly answers?: readonly Answer[];
  readonly authorities?: readonly Answer[];
  readonly additionals?: readonly Answer[];
  /** More header flags: TC 0x200, AA 0x400, AD 0x20; RA is set. */
  readonly flags?: number;
  readonly id?: number;
  /** Instead of the one that was asked. */
  readonly name?: string;
  readonly type?: RecordType;
}

/** What an upstream says to what it was sent. */
export function replyTo(sent: Uint8Array, options: ReplyOptions = {}): Uint8Array {
  const asked = dnsPacket.decode(Buffer.from(sent));
  const [question] = asked.questions ?? [];
  if (question === undefined) throw new Error('no question');
  const type = options.type ?? question.type;
  return dnsPacket.encode({
    type: 'response',
    id: options.id ?? asked.id ?? 0,
    flags: 0x0180 | (options.flags ?? 0) | (options.rcode ?? 0),
    questions: [{ ...question, name: options.name ?? question.name, type }],
    answers: [...(options.answers ?? [])],
    authorities: [...(options.authorities ?? [])],
    additionals: [...(options.additionals ?? [])],
  });
}

export function nameOf(sent: Uint8Array): string {
  return dnsPacket.decode(Buffer.from(sent)).questions?.[0]?.name ?? '';
}

export function a(name: string, data: string, ttl = 300): Answer {
  return { type: 'A', name, ttl, data };
}

export function soa(name: string, minimum: number, ttl = 3600): Answer {
  const data = { mname: 'ns.example', rname: 'root.example', serial: 1, refresh: 2, retry: 3 };
  return { type: 'SOA', name, ttl, data: { ...data, expire: 4, minimum } };
}

/** Answers every question with this address after so long. */
export function answering(data: string, afterMs = 1, ttl = 300): Behaviour {
  return ({ bytes }) => [
    { afterMs, bytes: replyTo(bytes, { answers: [a(nameOf(bytes), data, ttl)] }) },
  ];
}

export function failing(rcode: number, afterMs = 1): Behaviour {
  return ({ bytes }) => [{ afterMs, bytes: replyTo(bytes, { rcode }) }];
}

export const silent: Behaviour = () => [];

/** The whole answer as dns-packet reads it. */
export function decoded(asked: Asked): Packet & { rcode: number } {
  const packet = dnsPacket.decode(Buffer.from(asked.bytes));
  return { ...packet, rcode: (packet.flags ?? 0) & 0xf };
}

export function dataOf(asked: Asked): unknown[] {
  return (decoded(asked).answers ?? []).map((answer) => ('data' in answer ? answer.data : answer));
}
