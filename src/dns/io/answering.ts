/**
 * From a client's message to its answer: what is ours from the zone, what is not from the forwarder
 * where the client may ask for it, and CNAMEs between both followed. Counts, and never throws: a bug answers SERVFAIL and is logged.
 */
import type { Logger } from '../../telemetry/io/log.ts';
import type { Allowed } from '../allow.ts';
import type { Asker } from '../asker.ts';
import type { DnsCounters, Source } from '../counters.ts';
import {
  leadOf,
  readSections,
  targetQuery,
  withTarget,
  type Lead,
  type Sections,
} from '../follow.ts';
import type { Asked, Trace } from '../forward/types.ts';
import { RCODE } from '../numbers.ts';
import { refusal } from '../packet.ts';
import { readQuery, type Query } from '../query.ts';
import { isOurs, resolve } from '../resolver.ts';
import type { Zone } from '../zone.ts';
import type { Answerer } from './listener.ts';
import type { Forwarder } from './upstreams.ts';

export interface AnsweringOptions {
  readonly udpSizeMax: number;
  /** As it is now. */
  readonly zone: () => Zone;
  readonly forwarder: Pick<Forwarder, 'ask' | 'zoneOf'>;
  /** Within this time a client has its answer, however often a CNAME leads on. */
  readonly timeoutMs: number;
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

/** So often a question goes from one of zone and servers to another; a guess, as of CNAMEs within the zone. */
const TURNS_MAX = 8;

/** What is said of one name, or how far that leads. */
interface Part extends Sections {
  readonly target?: string;
  readonly asked?: Asked;
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

  #resolve(query: Query, asker: Asker): Done | Promise<Done> {
    const { udpSizeMax, zone, allowed, timeoutMs } = this.#options;
    const { transport, server, client } = asker;
    const isRecursionAllowed = allowed.has(client);
    const options = { udpSizeMax, server, isRecursionAllowed, random: Math.random };
    const resolved = resolve(zone(), query, { ...options, transport });
    // Whoever wants no recursion would hear of what others asked here, and of nothing else.
    const mayForward = isRecursionAllowed && query.isRecursionDesired;
    if (resolved.kind === 'answer') {
      const { bytes, rcode, target } = resolved;
      if (target !== undefined && mayForward) {
        // From the start again: `bytes` may have been cut.
        const lead = { answers: [], target: query.name };
        return this.#follow(query, asker, lead, performance.now() + timeoutMs);
      }
      return { bytes, rcode, from: rcode === RCODE.REFUSED ? 'refused' : 'zone' };
    }
    if (mayForward) return this.#forward(query, asker);
    const bytes = refusal(query, RCODE.REFUSED, isRecursionAllowed);
    return { bytes, rcode: RCODE.REFUSED, from: 'refused' };
  }

  async #forward(query: Query, asker: Asker): Promise<Done> {
    const { forwarder, udpSizeMax, timeoutMs } = this.#options;
    const untilMs = performance.now() + timeoutMs;
    try {
      const asked = await forwarder.ask(query, { transport: asker.transport, udpSizeMax });
      const lead = this.#leadOf(query, asked);
      return lead === undefined ? asked : await this.#follow(query, asker, lead, untilMs, asked);
    } catch (error) {
      return this.#failed(query, error);
    }
  }

  /** Where others lead to a name of ours, or of servers that were not asked: what they say of it is nothing. */
  #leadOf(query: Query, { bytes }: Asked): Lead | undefined {
    const { zone, forwarder } = this.#options;
    const asked = forwarder.zoneOf(query.name);
    return leadOf(query, bytes, (target) => {
      if (isOurs(zone(), target)) return true;
      const its = forwarder.zoneOf(target);
      return its !== '' && its !== asked;
    });
  }

  /** CNAMEs from our names to those of others and the other way, until one leads nowhere else. */
  async #follow(
    query: Query,
    { transport, server }: Asker,
    lead: Lead,
    untilMs: number,
    first?: Asked,
  ): Promise<Done> {
    const { udpSizeMax } = this.#options;
    const records = [...lead.answers];
    const attempts = [...(first?.attempts ?? [])];
    let asked = first;
    let { target } = lead;
    try {
      for (let turn = 0; turn < TURNS_MAX; turn++) {
        const part = await this.#part(query, target, server, untilMs);
        if (part === undefined) break;
        asked = part.asked ?? asked;
        attempts.push(...(part.asked?.attempts ?? []));
        if (part.target === undefined) {
          const bytes = withTarget(query, records, part, { transport, udpSizeMax });
          if (bytes === undefined) break;
          return { from: 'zone', ...asked, bytes, rcode: part.rcode, attempts };
        }
        records.push(...part.answers);
        target = part.target;
      }
      const bytes = refusal(query, RCODE.SERVFAIL, true);
      return { bytes, rcode: RCODE.SERVFAIL, from: 'failure', attempts };
    } catch (error) {
      return this.#failed(query, error);
    }
  }

  /** Undefined: not in time. */
  async #part(
    query: Query,
    target: string,
    server: string,
    untilMs: number,
  ): Promise<Part | undefined> {
    const { udpSizeMax, zone, forwarder } = this.#options;
    const further = targetQuery(query, target);
    if (further === undefined) throw new Error(`bug: ${target} is no name`);
    const whole = { transport: 'tcp', udpSizeMax } as const;
    const options = { ...whole, server, isRecursionAllowed: true, random: Math.random };
    const resolved = resolve(zone(), further, options);
    if (resolved.kind === 'answer') {
      const { bytes, target: next } = resolved;
      return { ...sectionsOf(bytes), ...(next !== undefined && { target: next }) };
    }
    const leftMs = untilMs - performance.now();
    const asked = await inTime(forwarder.ask(further, { ...whole, leftMs }), leftMs);
    if (asked === undefined) return undefined;
    const lead = this.#leadOf(further, asked);
    if (lead === undefined) return { ...sectionsOf(asked.bytes), asked };
    return { rcode: RCODE.NOERROR, authorities: [], ...lead, asked };
  }

  #failed(query: Query, error: unknown): Done {
    this.#options.log.error({ error, name: query.name }, 'a DNS query could not be answered');
    const bytes = refusal(query, RCODE.SERVFAIL, true);
    return { bytes, rcode: RCODE.SERVFAIL, from: 'failure' };
  }
}

function sectionsOf(bytes: Uint8Array): Sections {
  const sections = readSections(bytes);
  if (sections === undefined) throw new Error('bug: an answer of our own cannot be read');
  return sections;
}

/** Undefined where it comes later: what is asked is kept then, and nobody waits for it. */
function inTime<T>(promise: Promise<T>, leftMs: number): Promise<T | undefined> {
  return new Promise((resolveWith, reject) => {
    const timer = setTimeout(resolveWith, Math.max(0, leftMs), undefined);
    void promise.then(resolveWith, reject).finally(() => clearTimeout(timer));
  });
}
