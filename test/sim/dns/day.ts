/**
 * A day of a host's resolver in virtual time: names as often as Zipf has it, more by day than by
 * night, four upstreams that lose packets, slow down, refuse and are away by a plan drawn from the
 * seed; for a while all of them. What is watched: no answer late, none wrong, nothing grows.
 */
import { below, sfc32, unit, type Random } from '../../../src/hyparview-ts/random.ts';
import type { ForwardStats, From } from '../../../src/dns/forward/types.ts';
import { ForwardWorld, settingsOf, type Reaction, type Sent } from '../../harness/forward-world.ts';
import { nameIn, queryOf, readMessage, replyOf } from './messages.ts';

export interface DayOptions {
  readonly seed: number;
  readonly hours: number;
  /** At noon. */
  readonly perSecond: number;
  readonly names: number;
  readonly cacheBytes: number;
  /** After each hour. */
  readonly onHour?: (hour: Hour) => void;
}

export interface Hour {
  readonly hour: number;
  readonly asks: number;
  readonly from: Readonly<Record<From, number>>;
  /** Of those that were not answered from the cache: how long they took. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
  readonly stats: ForwardStats;
  readonly heapBytes: number | undefined;
}

export interface DayResult {
  readonly hours: readonly Hour[];
  readonly asks: number;
  readonly late: number;
  readonly wrong: number;
  /** Answered SERVFAIL while at least one upstream was well. */
  readonly failedInVain: number;
  /** While all were away: asks for names that had been answered before, and how many of these were answered. */
  readonly knownInOutage: number;
  readonly knownAnswered: number;
  readonly left: { readonly events: number; readonly open: number; readonly waiting: number };
}

const TIMEOUT_MS = 2000;
const HOUR_MS = 3_600_000;
const NAMES_MISSING_PART = 0.05;

type Kind = 'away' | 'refuses' | 'slow' | 'lossy';

interface Trouble {
  readonly fromMs: number;
  readonly untilMs: number;
  readonly kind: Kind;
}

/** Log-normal, as latencies of resolvers are: `medianMs`, and a few much later. */
function latency(random: Random, medianMs: number): number {
  const [u, v] = [unit(random) || 1e-9, unit(random)];
  const normal = Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
  return medianMs * Math.exp(0.5 * normal);
}

class Resolver {
  readonly #random: Random;
  readonly #medianMs: number;
  readonly troubles: Trouble[] = [];

  constructor(random: Random, medianMs: number, hours: number) {
    this.#random = random;
    this.#medianMs = medianMs;
    for (let atMs = 0; atMs < hours * HOUR_MS;) {
      atMs += unit(random) * 4 * HOUR_MS;
      const untilMs = atMs + unit(random) ** 2 * HOUR_MS;
      const kind = (['away', 'refuses', 'slow', 'lossy'] as const)[below(random, 4)] ?? 'away';
      this.troubles.push({ fromMs: atMs, untilMs, kind });
      atMs = untilMs;
    }
  }

  trouble(nowMs: number): Kind | undefined {
    return this.troubles.find(({ fromMs, untilMs }) => nowMs >= fromMs && nowMs < untilMs)?.kind;
  }

  react({ bytes, transport }: Sent, nowMs: number): Reaction[] {
    const random = this.#random;
    const kind = this.trouble(nowMs);
    const lost = kind === 'lossy' ? 0.3 : 0.002;
    if (kind === 'away' || (transport === 'udp' && unit(random) < lost)) return [];
    const afterMs = latency(random, this.#medianMs * (kind === 'slow' ? 20 : 1));
    if (kind === 'refuses')
      return [{ afterMs, bytes: replyOf(bytes, { rcode: unit(random) < 0.5 ? 2 : 5 }) }];
    // A resolver does not know every name either.
    const missMs = unit(random) < 0.2 ? latency(random, 60) : 0;
    return [{ afterMs: afterMs + missMs, bytes: honest(bytes, transport) }];
  }
}

function indexOf(name: string): number {
  return Number(/\d+/.exec(name)?.[0] ?? 0);
}

const isMissing = (index: number): boolean => (index * 7919) % 1000 < NAMES_MISSING_PART * 1000;
const addressOf = (index: number): [number, number, number, number] => [
  10,
  (index >> 16) & 255,
  (index >> 8) & 255,
  index & 255,
];
const TTLS = [5, 20, 60, 300, 300, 900, 3600] as const;

function honest(bytes: Uint8Array, transport: string): Uint8Array {
  const index = indexOf(nameIn(bytes));
  if (isMissing(index)) return replyOf(bytes, { rcode: 3 });
  if (index % 50 === 7 && transport === 'udp') return replyOf(bytes, { isTruncated: true });
  return replyOf(bytes, { address: addressOf(index), ttl: TTLS[index % TTLS.length] ?? 60 });
}

/** Names by Zipf's law with exponent 1: cumulated, to be searched. */
function zipf(names: number): (part: number) => number {
  const sums = new Float64Array(names);
  let sum = 0;
  for (let i = 0; i < names; i++) sums[i] = sum += 1 / (i + 1);
  return (part) => {
    const wanted = part * sum;
    let [low, high] = [0, names - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

class Watch {
  asks = 0;
  late = 0;
  wrong = 0;
  failedInVain = 0;
  knownInOutage = 0;
  knownAnswered = 0;
  readonly #waitedMs: number[] = [];
  #from: Record<From, number> = { cache: 0, stale: 0, upstream: 0, failure: 0 };
  #hourAsks = 0;

  answered(index: number, from: From, waitedMs: number, bytes: Uint8Array): void {
    this.asks += 1;
    this.#hourAsks += 1;
    this.#from[from] += 1;
    if (waitedMs > TIMEOUT_MS) this.late += 1;
    if (from !== 'cache') this.#waitedMs.push(waitedMs);
    const { rcode, answers } = readMessage(bytes);
    if (from === 'failure') {
      if (rcode !== 2) this.wrong += 1;
      return;
    }
    const isRight = isMissing(index)
      ? rcode === 3 && answers.length === 0
      : rcode === 0 && answers[0]?.data.equals(Buffer.from(addressOf(index))) === true;
    if (!isRight) this.wrong += 1;
  }

  hour(hour: number, stats: ForwardStats, heapBytes: number | undefined): Hour {
    const sorted = Float64Array.from(this.#waitedMs).sort();
    const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
    const made = { hour, asks: this.#hourAsks, from: this.#from, stats, heapBytes };
    this.#waitedMs.length = 0;
    this.#hourAsks = 0;
    this.#from = { cache: 0, stale: 0, upstream: 0, failure: 0 };
    return { ...made, p50Ms: at(0.5), p99Ms: at(0.99), p999Ms: at(0.999), maxMs: at(1) };
  }
}

/** globalThis.gc is there with --expose-gc; without it a heap says nothing. */
function heapBytes(): number | undefined {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) return undefined;
  gc();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
}

export function runDay(options: DayOptions): DayResult {
  const { seed, hours, perSecond, names, cacheBytes } = options;
  const random = sfc32(seed);
  const labels = ['192.0.2.1:53', '192.0.2.2:53', '192.0.2.3:53', '[2001:db8::4]:53'];
  const world = new ForwardWorld(settingsOf(labels, { cacheBytes, timeoutMs: TIMEOUT_MS }), seed);
  const resolvers = labels.map(
    (_, i) => new Resolver(sfc32(seed, 10 + i), [1, 8, 20, 35][i] ?? 20, hours),
  );
  // In the last third all are away at once, for a tenth of an hour.
  const outageMs = hours * HOUR_MS * 0.7;
  const isOutage = (): boolean => world.nowMs >= outageMs && world.nowMs < outageMs + HOUR_MS / 10;
  for (const [i, label] of labels.entries())
    world.upstreams.set(label, (sent) =>
      isOutage() ? [] : (resolvers[i]?.react(sent, world.nowMs) ?? []),
    );
  const watch = new Watch();
  const asked = new Map<number, { index: number; isWell: boolean; isKnown: boolean }>();
  const seen = new Uint8Array(names);
  world.onAnswer = (ask, { atMs, askedMs, asked: answer }) => {
    const was = asked.get(ask);
    asked.delete(ask);
    if (was === undefined) throw new Error(`ask ${ask} was not asked`);
    watch.answered(was.index, answer.from, atMs - askedMs, answer.bytes);
    if (answer.from === 'upstream' && !isMissing(was.index)) seen[was.index] = 1;
    if (was.isWell && answer.from === 'failure') watch.failedInVain += 1;
    if (was.isKnown && isOutage()) {
      watch.knownInOutage += 1;
      if (answer.from !== 'failure') watch.knownAnswered += 1;
    }
  };
  const pick = zipf(names);
  const made: Hour[] = [];
  let nextAsk = 0;
  // Made before: what is watched is the heap of the forwarder.
  const queries = Array.from({ length: Math.min(names, 5000) }, (_, i) => queryOf(`n${i}.example`));
  for (let hour = 1; hour <= hours; hour++) {
    while (world.nowMs < hour * HOUR_MS) {
      const day = 0.55 - 0.45 * Math.cos((2 * Math.PI * world.nowMs) / (24 * HOUR_MS));
      world.pass((-Math.log(unit(random) || 1e-9) * 1000) / (perSecond * day));
      const index = pick(unit(random));
      const query = queries[index] ?? queryOf(`n${index}.example`);
      const isWell =
        !isOutage() && resolvers.some((resolver) => resolver.trouble(world.nowMs) === undefined);
      asked.set(++nextAsk, { index, isWell, isKnown: isOutage() && seen[index] === 1 });
      world.ask(query);
    }
    const done = watch.hour(hour, world.machine.stats(world.nowMs), heapBytes());
    made.push(done);
    options.onHour?.(done);
  }
  world.settle();
  const { asks, late, wrong, failedInVain, knownInOutage, knownAnswered } = watch;
  const left = { events: world.events, open: world.open.size, waiting: world.waiting };
  return { hours: made, asks, late, wrong, failedInVain, knownInOutage, knownAnswered, left };
}
