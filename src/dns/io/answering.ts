/**
 * From a client's message to its answer: what is ours from the zone, what is not from the forwarder
 * where the client may ask for it. Counts, and never throws: a bug answers SERVFAIL and is logged.
 */
import type { Logger } from '../../telemetry/io/log.ts';
import type { Allowed } from '../allow.ts';
import type { Asker } from '../asker.ts';
import type { DnsCounters, Source } from '../counters.ts';
import { targetQuery, withTarget } from '../follow.ts';
import type { Trace } from '../forward/types.ts';
import { RCODE } from '../numbers.ts';
import { refusal } from '../packet.ts';
import { readQuery, type Query } from '../query.ts';
import { resolve } from '../resolver.ts';
import type { Zone } from '../zone.ts';
import type { Answerer } from './listener.ts';
import type { Forwarder } from './upstreams.ts';

export interface AnsweringOptions {
  readonly udpSizeMax: number;
  /** As it is now. */
  readonly zone: () => Zone;
  readonly forwarder: Pick<Forwarder, 'ask'>;
  readonly allowed: Allowed;
  readonly counters: DnsCounters;
  readonly log: Logger;
}

/** A question, answered. */
export interface Done {
  readonly bytes: Uint8Array;
  readonly rcode: number;
  readonly from: Source;
  readonly upstream?: string;
  readonly attempts?: readonly Trace[];
}

export class Answering {
  readonly #options: AnsweringOptions;
  /** Messages that are none, or answers. */
  silent = 0;

  constructor(options: AnsweringOptions) {
    this.#options = options;
  }

  readonly answer: Answerer = (message, asker) => {
    const { counters } = this.#options;
    const startMs = performance.now();
    const read = readQuery(message);
    if (!read.ok && read.answer === undefined) {
      this.silent += 1;
      return undefined;
    }
    counters.request(asker);
    if (!read.ok) {
      const rcode = (read.answer?.[3] ?? 0) & 15;
      counters.response('refused', rcode, performance.now() - startMs);
      return read.answer;
    }
    const done = this.resolve(read.query, asker);
    if (done instanceof Promise) return this.#counted(done, startMs);
    counters.response(done.from, done.rcode, performance.now() - startMs);
    return done.bytes;
  };

  async #counted(promise: Promise<Done>, startMs: number): Promise<Uint8Array> {
    const { bytes, from, rcode } = await promise;
    this.#options.counters.response(from, rcode, performance.now() - startMs);
    return bytes;
  }

  /** Never throws or rejects. */
  resolve(query: Query, asker: Asker): Done | Promise<Done> {
    try {
      return this.#resolve(query, asker);
    } catch (error) {
      return this.#failed(query, error);
    }
  }

  #resolve(query: Query, { transport, server, client }: Asker): Done | Promise<Done> {
    const { udpSizeMax, zone, forwarder, allowed } = this.#options;
    const isRecursionAllowed = allowed.has(client);
    const options = { udpSizeMax, server, isRecursionAllowed, random: Math.random };
    const resolved = resolve(zone(), query, { ...options, transport });
    // Whoever wants no recursion would hear of what others asked here, and of nothing else.
    const mayForward = isRecursionAllowed && query.isRecursionDesired;
    if (resolved.kind === 'answer') {
      const { bytes, rcode, target } = resolved;
      if (target !== undefined && mayForward) {
        const whole = resolve(zone(), query, { ...options, transport: 'tcp' });
        if (whole.kind === 'answer') return this.#follow(query, target, whole.bytes, transport);
      }
      return { bytes, rcode, from: rcode === RCODE.REFUSED ? 'refused' : 'zone' };
    }
    if (mayForward) return forwarder.ask(query, { transport, udpSizeMax });
    const bytes = refusal(query, RCODE.REFUSED, isRecursionAllowed);
    return { bytes, rcode: RCODE.REFUSED, from: 'refused' };
  }

  /** A CNAME of ours leads to a name of others. */
  async #follow(
    query: Query,
    target: string,
    ours: Uint8Array,
    transport: Asker['transport'],
  ): Promise<Done> {
    const { udpSizeMax, forwarder } = this.#options;
    try {
      const further = targetQuery(query, target);
      if (further === undefined) throw new Error(`bug: ${target} is no name`);
      const theirs = await forwarder.ask(further, { transport: 'tcp', udpSizeMax });
      const bytes = withTarget(query, ours, theirs.bytes, { transport, udpSizeMax });
      if (bytes === undefined) throw new Error(`the answers to ${target} fit into no message`);
      return { ...theirs, bytes };
    } catch (error) {
      return this.#failed(query, error);
    }
  }

  #failed(query: Query, error: unknown): Done {
    this.#options.log.error({ error, name: query.name }, 'a DNS query could not be answered');
    const bytes = refusal(query, RCODE.SERVFAIL, true);
    return { bytes, rcode: RCODE.SERVFAIL, from: 'failure' };
  }
}
