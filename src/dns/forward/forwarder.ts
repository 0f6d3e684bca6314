/**
 * The forwarder as one machine: asks, replies and time go in; questions for upstreams and answers
 * come out. Exactly one answer for each ask, within the bound, whatever upstreams do.
 *
 * ask ─ kept? ─ answer          ask ─ under way? ─ waits with the others
 *     └ not kept ─ flight ─ race of upstreams (races.ts) ─ kept, answered to all who wait
 *
 * No socket, clock or randomness of its own. handle() never throws on what others sent.
 */
import { unit, type Random } from '../../hyparview-ts/random.ts';
import { nameToWire, parentOf } from '../names.ts';
import { CLASS_IN, RCODE, TYPE } from '../numbers.ts';
import type { Query } from '../query.ts';
import { writeAnswer } from './answer.ts';
import { Cache, isFresh, isPrefetchDue, isStale, type Entry } from './cache.ts';
import { Deadlines } from './deadlines.ts';
import {
  newFlight,
  traceOf,
  type Attempt,
  type Flight,
  type Outcome,
  type Question,
} from './flight.ts';
import type { Packed } from './pack.ts';
import { Newest } from './newest.ts';
import { Races } from './races.ts';
import { labelOf } from './standing.ts';
import type {
  Asked,
  AskOptions,
  DropReason,
  ForwardInput,
  ForwardOutput,
  ForwardSettings,
  ForwardStats,
  From,
  Trace,
} from './types.ts';
import { copyOf, put16 } from './wire.ts';

interface Waiting {
  readonly ask: number;
  readonly query: Query;
  readonly options: AskOptions;
  readonly flight: Flight;
}

type AskInput = Extract<ForwardInput, { kind: 'ask' }>;

/** Asks that wait, for each flight that is allowed. */
const WAITING_PART = 8;
/** RFC 8767 section 5: 1.8 s; earlier where the bound is. */
const STALE_AFTER_MS = 1800;
const STALE_AFTER_PART = 0.9;
/** Of the bound, for the way of the answer: a fiftieth, 5 ms at least (a guess: timers of a busy process are late). */
const MARGIN_PART = 0.02;
const MARGIN_MIN_MS = 5;
/** Seconds that what another than the first said is kept, where the order is of meaning (a guess; as of stale answers). */
const STAND_IN_TTL = 30;
/** Prefetching is for when there is room. */
const PREFETCH_PART = 0.5;
const NO_ATTEMPTS: readonly Trace[] = [];

function emptyAnswer(rcode: number): Packed {
  return {
    rcode,
    isAuthentic: false,
    tail: new Uint8Array(0),
    ttlAt: new Uint16Array(0),
    answers: 0,
    ttl: 0,
  };
}

export class ForwardMachine {
  readonly #random: Random;
  #settings: ForwardSettings;
  readonly #cache: Cache;
  readonly #deadlines = new Deadlines<Flight | Attempt>();
  readonly #races: Races;
  /** By question: those that race and those that are queued; not those begun with other upstreams. */
  readonly #flights = new Map<string, Flight>();
  readonly #queue = new Newest<Flight>();
  /** Oldest first. */
  readonly #waiting = new Map<number, Waiting>();
  #out: ForwardOutput[] = [];
  #wakeMs: number | undefined;
  #nowMs = 0;
  /** By zone: the upstreams that it has, or had last. */
  #servers: ReadonlyMap<string, string>;
  /** When zones were given other upstreams. */
  #changedMs = -Infinity;
  #racing = 0;
  #asks = 0;
  #hits = 0;
  #misses = 0;
  #merged = 0;
  #prefetched = 0;
  readonly #answers: Record<From, number> = { cache: 0, stale: 0, upstream: 0, failure: 0 };
  readonly #dropped: Record<DropReason, number> = {
    'queue full': 0,
    'too late': 0,
    'too many asks': 0,
  };

  constructor(settings: ForwardSettings, random: Random) {
    this.#random = random;
    this.#settings = settings;
    this.#servers = serversOf(settings, new Map());
    this.#cache = new Cache(settings.cacheBytes, settings.staleSeconds);
    this.#races = new Races(
      {
        random,
        deadlines: this.#deadlines,
        emit: (output) => this.#out.push(output),
        onEnd: (flight, outcome) => this.#ended(flight, outcome),
        onLate: ({ question: { key, name, askedMs }, standing }, { packed }, how) => {
          if (askedMs <= this.#changedMs) return;
          const entry = this.#cache.find(key, this.#nowMs);
          const isKept = entry !== undefined && isFresh(entry, this.#nowMs);
          if (isKept && !how.behind.some(({ label }) => label === entry.upstream)) return;
          const kept = how.isStandIn ? keptShortly(packed) : packed;
          this.#cache.store(key, name, kept, standing.label, this.#nowMs);
        },
        loopQuestion: (zone) => this.#loopQuestion(zone),
      },
      settings,
    );
  }

  /** `nowMs` never goes back. */
  handle(input: ForwardInput, nowMs: number): ForwardOutput[] {
    this.#nowMs = nowMs;
    switch (input.kind) {
      case 'ask':
        this.#ask(input);
        break;
      case 'reply':
        this.#races.reply(input.attempt, input.bytes, nowMs);
        break;
      case 'failed':
        this.#races.failed(input.attempt, input.why, nowMs);
        break;
      case 'wake':
        this.#wakeMs = undefined;
        this.#due();
        break;
    }
    this.#startQueued();
    return this.#take();
  }

  /**
   * Zones that changed may have other answers: nothing is kept then, and what is under way is for who
   * asked it. A zone that has no upstreams for a while (the link is down) has not changed.
   */
  update(settings: ForwardSettings): void {
    const before = this.#servers;
    const now = serversOf(settings, before);
    const isSame =
      now.size === before.size && [...now].every(([zone, text]) => before.get(zone) === text);
    this.#servers = now;
    this.#settings = settings;
    this.#races.update(settings);
    this.#cache.limit(settings.cacheBytes, settings.staleSeconds);
    if (isSame) return;
    this.#cache.flush();
    this.#flights.clear();
    this.#changedMs = this.#nowMs;
  }

  flush(name?: string): number {
    return this.#cache.flush(name);
  }

  /** How often an upstream was seen to ask us. */
  get loops(): number {
    return this.#races.loops;
  }

  stats(nowMs: number): ForwardStats {
    const cache = this.#cache;
    return {
      cache: {
        entries: cache.size,
        bytes: cache.bytes,
        bytesMax: cache.bytesMax,
        hits: this.#hits,
        misses: this.#misses,
        stale: this.#answers.stale,
        evicted: cache.evicted,
        prefetched: this.#prefetched,
      },
      asks: this.#asks,
      answers: { ...this.#answers },
      waiting: this.#waiting.size,
      merged: this.#merged,
      flights: this.#racing,
      flightsMax: this.#settings.maxConcurrent,
      queued: this.#queue.size,
      attempts: this.#races.attempts,
      dropped: { ...this.#dropped },
      mismatches: this.#races.mismatches,
      loops: this.#races.loops,
      upstreams: [...this.#races.standings].map((standing) => standing.stats(nowMs)),
    };
  }

  #take(): ForwardOutput[] {
    const nextMs = this.#deadlines.nextMs;
    if (nextMs !== this.#wakeMs) {
      this.#wakeMs = nextMs;
      this.#out.push({ kind: 'wake', atMs: nextMs });
    }
    const out = this.#out;
    this.#out = [];
    return out;
  }

  #ask(input: AskInput): void {
    const { query } = input;
    this.#asks += 1;
    if (this.#races.takeLoop(query.name, this.#nowMs)) return this.#refuse(input, RCODE.SERVFAIL);
    if (query.class !== CLASS_IN || isNotForwarded(query.type))
      return this.#refuse(input, RCODE.REFUSED);
    const question = questionOf(query, this.#nowMs);
    const entry = this.#cache.find(question.key, this.#nowMs);
    if (entry !== undefined && this.#answerKept(input, entry, question)) return;
    if (!query.isRecursionDesired) return this.#refuse(input, RCODE.REFUSED);
    this.#misses += 1;
    const zone = this.zoneOf(query.name);
    const stale = entry !== undefined && isStale(entry, this.#nowMs) ? entry : undefined;
    const isTooLate = this.#staleMs(input.options) <= this.#nowMs;
    if (stale !== undefined && (isTooLate || this.#races.isHopeless(zone, this.#nowMs))) {
      this.#answer(input, stale, 'stale', NO_ATTEMPTS);
      this.#background(question, zone);
      return;
    }
    this.#wait(input, question, zone, stale !== undefined);
  }

  /** From what is kept: fresh, or asking failed a moment ago. */
  #answerKept(input: AskInput, entry: Entry, question: Question): boolean {
    const nowMs = this.#nowMs;
    if (isFresh(entry, nowMs)) {
      entry.hits += 1;
      this.#hits += 1;
      this.#answer(input, entry, 'cache', NO_ATTEMPTS);
      if (isPrefetchDue(entry, nowMs) && this.#background(question, this.zoneOf(entry.name)))
        this.#prefetched += 1;
      return true;
    }
    if (nowMs >= entry.failedUntilMs) return false;
    if (isStale(entry, nowMs)) this.#answer(input, entry, 'stale', NO_ATTEMPTS);
    else this.#refuse(input, entry.failedRcode);
    return true;
  }

  /** Nobody waits for it; it is not worth a place in the queue. */
  #background(question: Question, zone: string): boolean {
    if (this.#flights.has(question.key)) return false;
    if (this.#racing >= this.#settings.maxConcurrent * PREFETCH_PART) return false;
    this.#start(this.#addFlight(question, zone));
    return true;
  }

  #wait(input: AskInput, question: Question, zone: string, hasStale: boolean): void {
    const { ask, query, options } = input;
    const before = this.#flights.get(question.key);
    const flight = before ?? this.#addFlight(question, zone);
    const kept = { ...query, question: copyOf(query.question) }; // it is part of a message
    this.#waiting.set(ask, { ask, query: kept, options, flight });
    flight.asks.add(ask);
    if (hasStale) flight.staleMs = Math.min(flight.staleMs, this.#staleMs(options));
    if (before !== undefined) {
      this.#merged += 1;
      flight.joinedMs = this.#nowMs;
      const isSooner = hasStale && flight.staleMs < flight.dueMs;
      if (isSooner) this.#deadlines.set(flight, flight.staleMs);
    } else if (this.#racing < this.#settings.maxConcurrent) {
      this.#start(flight);
    } else {
      this.#enqueue(flight);
    }
    if (this.#waiting.size > WAITING_PART * this.#settings.maxConcurrent) this.#dropOldestAsk();
  }

  #staleMs({ leftMs = Infinity }: AskOptions): number {
    const afterMs = Math.min(STALE_AFTER_MS, this.#settings.timeoutMs * STALE_AFTER_PART);
    return this.#nowMs + Math.min(afterMs, leftMs - this.#marginMs);
  }

  get #marginMs(): number {
    return Math.max(MARGIN_MIN_MS, this.#settings.timeoutMs * MARGIN_PART);
  }

  #addFlight(question: Question, zone: string): Flight {
    const boundMs = this.#settings.timeoutMs - this.#marginMs;
    const flight = newFlight(question, zone, this.#nowMs, this.#nowMs + boundMs);
    this.#flights.set(question.key, flight);
    // First of all: it ends by then, whatever goes wrong with it.
    this.#deadlines.set(flight, flight.deadlineMs);
    return flight;
  }

  #start(flight: Flight): void {
    flight.isQueued = false;
    this.#racing += 1;
    this.#races.start(flight, this.#nowMs);
  }

  /** Who came last is served first: who has waited long has given up, or asks again. */
  #enqueue(flight: Flight): void {
    flight.isQueued = true;
    this.#queue.push(flight);
    this.#deadlines.set(flight, Math.min(flight.deadlineMs, flight.staleMs));
    if (this.#queue.size <= this.#settings.maxConcurrent) return;
    const oldest = this.#queue.takeOldest();
    if (oldest !== undefined) this.#drop(oldest, 'queue full');
  }

  #startQueued(): void {
    while (this.#racing < this.#settings.maxConcurrent) {
      const newest = this.#queue.takeNewest();
      if (newest === undefined) return;
      this.#start(newest);
    }
  }

  #drop(flight: Flight, why: DropReason): void {
    this.#dropped[why] += flight.asks.size;
    this.#queue.remove(flight);
    this.#deadlines.remove(flight);
    this.#forget(flight);
    this.#answerFailed(flight, RCODE.SERVFAIL, undefined);
  }

  #forget(flight: Flight): void {
    const { key } = flight.question;
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }

  #dropOldestAsk(): void {
    const [oldest] = this.#waiting.values();
    if (oldest === undefined) return;
    this.#dropped['too many asks'] += 1;
    oldest.flight.asks.delete(oldest.ask);
    this.#waiting.delete(oldest.ask);
    this.#refuse({ kind: 'ask', ...oldest }, RCODE.SERVFAIL);
  }

  #due(): void {
    const nowMs = this.#nowMs;
    for (let item = this.#deadlines.pop(nowMs); item; item = this.#deadlines.pop(nowMs)) {
      if (item.kind === 'attempt') this.#races.attemptDue(item, nowMs);
      else this.#flightDue(item);
    }
  }

  #flightDue(flight: Flight): void {
    const nowMs = this.#nowMs;
    if (nowMs >= flight.staleMs) {
      flight.staleMs = Infinity;
      const entry = this.#cache.find(flight.question.key, nowMs);
      if (entry !== undefined && isStale(entry, nowMs))
        this.#answerAll(flight, entry, 'stale', entry.upstream);
    }
    if (!flight.isQueued) return this.#races.flightDue(flight, nowMs);
    if (nowMs >= flight.deadlineMs || flight.asks.size === 0) this.#drop(flight, 'too late');
    else this.#deadlines.set(flight, flight.deadlineMs);
  }

  #ended(flight: Flight, outcome: Outcome): void {
    const { key, name } = flight.question;
    this.#racing -= 1;
    this.#forget(flight);
    const isOfNow = flight.question.askedMs > this.#changedMs;
    if (outcome.kind === 'won') {
      const { label } = outcome.attempt.standing;
      const { packed } = outcome.reading;
      const kept = outcome.isStandIn ? keptShortly(packed) : packed;
      if (isOfNow && outcome.isKept) this.#cache.store(key, name, kept, label, this.#nowMs);
      this.#answerAll(flight, { packed, storedMs: this.#nowMs }, 'upstream', label);
      return;
    }
    // Where nobody could be asked, asking again costs nothing, and may go well a moment later.
    if (isOfNow && flight.ranked.length > 0)
      this.#cache.fail(key, name, outcome.rcode, this.#nowMs);
    this.#answerFailed(flight, outcome.rcode, outcome.upstream);
  }

  /** What is stale is better than nothing. */
  #answerFailed(flight: Flight, rcode: number, upstream: string | undefined): void {
    if (flight.asks.size === 0) return;
    const entry = this.#cache.find(flight.question.key, this.#nowMs);
    if (entry !== undefined && isStale(entry, this.#nowMs))
      this.#answerAll(flight, entry, 'stale', entry.upstream);
    else {
      const failed = { packed: emptyAnswer(rcode), storedMs: this.#nowMs };
      this.#answerAll(flight, failed, 'failure', upstream);
    }
  }

  #answerAll(
    flight: Flight,
    entry: Pick<Entry, 'packed' | 'storedMs'>,
    from: From,
    upstream: string | undefined,
  ): void {
    if (flight.asks.size === 0) return;
    const attempts = traceOf(flight, this.#nowMs);
    for (const ask of flight.asks) {
      const waiting = this.#waiting.get(ask);
      this.#waiting.delete(ask);
      if (waiting !== undefined) this.#answer(waiting, { ...entry, upstream }, from, attempts);
    }
    flight.asks.clear();
  }

  #refuse(input: AskInput, rcode: number): void {
    const refused = { packed: emptyAnswer(rcode), storedMs: this.#nowMs, upstream: undefined };
    this.#answer(input, refused, 'failure', NO_ATTEMPTS);
  }

  #answer(
    { ask, query, options }: Pick<AskInput, 'ask' | 'query' | 'options'>,
    { packed, storedMs, upstream }: Pick<Entry, 'packed' | 'storedMs' | 'upstream'>,
    from: From,
    attempts: readonly Trace[],
  ): void {
    if (packed === undefined) return;
    const seconds = Math.floor((this.#nowMs - storedMs) / 1000);
    const bytes = writeAnswer(packed, query, options, { seconds, isStale: from === 'stale' });
    const { rcode } = packed;
    const asked: Asked = {
      bytes,
      rcode,
      from,
      attempts,
      ...(upstream !== undefined && { upstream }),
    };
    this.#answers[from] += 1;
    this.#out.push({ kind: 'answer', ask, asked });
  }

  /** Whose upstreams are asked for a name: the longest zone it is in. */
  zoneOf(name: string): string {
    let at: string | undefined = name;
    while (at !== undefined) {
      if (this.#settings.zones.has(at)) return at;
      at = parentOf(at);
    }
    return '';
  }

  /** A name that is nowhere, made of 128 random bits; as coredns' loop plugin looks for loops. */
  #loopQuestion(zone: string): Question {
    const label = (): string => {
      const words = [unit(this.#random), unit(this.#random)];
      return words.map((word) => Math.floor(word * 2 ** 32).toString(36)).join('');
    };
    const random = `${label()}.${label()}`;
    const whole = zone === '' ? random : `${random}.${zone}`;
    const name = nameToWire(whole) === undefined ? random : whole;
    const labels = nameToWire(name) ?? new Uint8Array(1);
    const wire = new Uint8Array(labels.length + 4);
    wire.set(labels);
    put16(wire, labels.length, TYPE.TXT);
    put16(wire, labels.length + 2, CLASS_IN);
    return {
      key: `loop ${name}`,
      name,
      type: TYPE.TXT,
      wire,
      isDnssecOk: false,
      isCheckingDisabled: false,
      askedMs: this.#nowMs,
    };
  }
}

function keptShortly(packed: Packed): Packed {
  return { ...packed, ttl: Math.min(packed.ttl, STAND_IN_TTL) };
}

/** Of transfers and of what only two neighbours tell each other (RFC 6895 section 3.1). */
function isNotForwarded(type: number): boolean {
  return type === TYPE.OPT || (type >= 128 && type < TYPE.ANY && type !== 253 && type !== 254);
}

function questionOf(query: Query, askedMs: number): Question {
  const isDnssecOk = query.edns?.isDnssecOk === true;
  const { isCheckingDisabled, type, name, question } = query;
  const flags = (isDnssecOk ? 2 : 0) + (isCheckingDisabled ? 1 : 0);
  return {
    key: `${type} ${flags} ${name}`,
    name,
    type,
    wire: copyOf(question),
    isDnssecOk,
    isCheckingDisabled,
    askedMs,
  };
}

/** The order is of no meaning for what they answer, but where they are asked in it. */
function serversOf(
  { zones, strict, isOwn }: ForwardSettings,
  before: ReadonlyMap<string, string>,
): Map<string, string> {
  const servers = new Map<string, string>();
  for (const [zone, upstreams] of zones) {
    const used = upstreams.filter(({ host, port }) => !isOwn(host, port));
    const labels = [...new Set(used.map(labelOf))];
    const text = (strict?.has(zone) === true ? labels : labels.toSorted()).join(' ');
    servers.set(zone, text === '' ? (before.get(zone) ?? '') : text);
  }
  return servers;
}
