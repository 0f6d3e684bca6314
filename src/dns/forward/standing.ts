/**
 * What is known of an upstream, and who is asked first: fewest recent failures, then latency. Failures
 * and successes fade, so what was bad once is forgiven. Failures count in three grades, not one by one:
 * a single lost packet must not put a resolver of 1 ms behind one of 50 ms.
 */
import type { AttemptResult, Upstream, UpstreamState, UpstreamStats } from './types.ts';

/** Failures lose half their weight in this time (a guess: outages last longer, lost packets do not). */
const HALF_LIFE_MS = 10_000;
/** More than these weigh no more: who is asked often is not judged by what was thousands of questions ago. */
const WEIGHT_MAX = 64;
/** So many late in a row, and nothing heard since: it is gone, whatever it was before (a guess). */
const SILENT_MAX = 8;
/** Waited for in vain so often, one after the other, and so long ago at most: who is listed behind it is asked at once (guesses). */
const STALLING_MIN = 2;
const STALLING_MS = 60_000;
/** What counts while it is gone: failing, until two in three of what it is asked then are good. */
const GONE_FAILURES = 2;
/** Questions whose end is waited for whoever answers first; of more the others are a sample (a guess). */
const WATCHED_MAX = 32;
/** RFC 6298 section 2, for the smoothed latency and its variation. */
const ALPHA = 1 / 8;
const BETA = 1 / 4;
/** What a busy process adds by itself: a steady upstream has hardly any variation (a guess). */
const RETRY_MIN_MS = 10;
/** From here on an upstream is unsteady, and from there failing: shares of what was asked lately. */
const UNSTEADY_SHARE = 0.2;
const FAILING_SHARE = 0.6;
/** Those who are not among the first are asked along this often, to know when they are better. */
const PROBE_MS = 5000;
/** And so often while they come back: the last answer was good. */
const PROBE_SOON_MS = 500;
export const LOOP_MS = 60_000;
/** How long it is believed that an upstream does not keep case, or has no EDNS. */
export const QUIRK_MS = 3_600_000;

/** After coredns (1-2-4 up to 8 s), without what cannot be: we answer within seconds. */
export const LATENCY_BOUNDS_MS: readonly number[] = [
  0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
];

export class Standing {
  readonly upstream: Upstream;
  readonly label: string;
  #failures = 0;
  #successes = 0;
  #fadedMs = 0;
  #isLastGood = false;
  #repliedMs = -Infinity;
  /** Late in a row, since its last reply. */
  #unanswered = 0;
  /** Questions in a row for which it was waited for in vain. */
  #stalls = 0;
  #stalledMs = -Infinity;
  smoothedMs: number | undefined;
  #variationMs = 0;
  askedMs = -Infinity;
  loopUntilMs = -Infinity;
  /** When it was last looked into beside a race. */
  lookMs = -Infinity;
  caseLostUntilMs = -Infinity;
  #ednsLostUntilMs = -Infinity;
  /** When it last answered with EDNS. */
  #ednsMs = -Infinity;
  #readMs = -Infinity;
  sent = 0;
  pending = 0;
  /** Of the pending ones, those whose end is waited for. */
  watched = 0;
  readonly results: Partial<Record<AttemptResult, number>> = {};
  readonly #latencyCounts: number[] = Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, () => 0);
  #latencySumMs = 0;
  #latencyCount = 0;

  constructor(upstream: Upstream) {
    this.upstream = upstream;
    this.label = labelOf(upstream);
  }

  /** `tookMs` is undefined where it says nothing of how fast it usually is: over TCP. */
  succeeded(nowMs: number, tookMs: number | undefined): void {
    this.#fade(nowMs);
    this.#successes += 1;
    this.#bound();
    this.#isLastGood = true;
    if (tookMs === undefined) return;
    if (this.smoothedMs === undefined) {
      this.smoothedMs = tookMs;
      this.#variationMs = tookMs / 2;
      return;
    }
    this.#variationMs += BETA * (Math.abs(this.smoothedMs - tookMs) - this.#variationMs);
    this.smoothedMs += ALPHA * (tookMs - this.smoothedMs);
  }

  failed(nowMs: number): void {
    this.#fade(nowMs);
    this.#failures += 1;
    this.#bound();
    this.#isLastGood = false;
  }

  /** A question has no reply yet for longer than it usually takes. */
  late(nowMs: number, sentMs: number): void {
    if (this.#repliedMs > sentMs) return;
    this.#unanswered += 1;
    if (this.#unanswered >= SILENT_MAX) this.#gone(nowMs);
  }

  /** One that is listed behind it had to be asked. */
  stalled(nowMs: number): void {
    this.#stalls += 1;
    this.#stalledMs = nowMs;
  }

  /** It says nothing, or nothing good and that late. One that refuses at once costs nobody time, and is none. */
  isStalling(nowMs: number): boolean {
    return this.#stalls >= STALLING_MIN && nowMs - this.#stalledMs < STALLING_MS;
  }

  /** The network says that nobody is there. */
  unreachable(nowMs: number, sentMs: number): void {
    this.failed(nowMs);
    if (this.#repliedMs <= sentMs) this.#gone(nowMs);
  }

  /** All that was good is forgotten: one of the others is asked in its place from now on. */
  #gone(nowMs: number): void {
    this.#fade(nowMs);
    this.#successes = 0;
    this.#failures = Math.max(this.#failures, GONE_FAILURES);
    this.#isLastGood = false;
  }

  hasEdns(nowMs: number): boolean {
    return nowMs >= this.#ednsLostUntilMs;
  }

  /** A good answer to a question with EDNS was read whole. */
  read(nowMs: number, hasOpt: boolean): void {
    this.#readMs = nowMs;
    if (hasOpt) this.#ednsMs = nowMs;
  }

  /** Whether it has EDNS is to be seen now and then also of one that is never the first. */
  isReadDue(nowMs: number): boolean {
    return nowMs - this.#readMs >= QUIRK_MS / 2;
  }

  /** It answers without EDNS what it refuses with it. If it has EDNS, that is the question's fault. */
  ednsRefused(nowMs: number): void {
    if (nowMs - this.#ednsMs >= QUIRK_MS) this.#ednsLostUntilMs = nowMs + QUIRK_MS;
  }

  /** Whether one question more is one of those whose end is waited for. */
  get isWatchable(): boolean {
    return this.watched < WATCHED_MAX;
  }

  /** A reply of any kind came. */
  replied(nowMs: number, tookMs: number, timeoutMs: number): void {
    this.#repliedMs = nowMs;
    this.#unanswered = 0;
    if (tookMs < this.waitMs(timeoutMs)) this.#stalls = 0;
    let i = 0;
    while (i < LATENCY_BOUNDS_MS.length && tookMs > (LATENCY_BOUNDS_MS[i] ?? 0)) i += 1;
    this.#latencyCounts[i] = (this.#latencyCounts[i] ?? 0) + 1;
    this.#latencySumMs += tookMs;
    this.#latencyCount += 1;
  }

  began(nowMs: number, isWatched: boolean): void {
    this.sent += 1;
    this.pending += 1;
    if (isWatched) this.watched += 1;
    this.askedMs = nowMs;
  }

  ended(result: AttemptResult, isWatched: boolean): void {
    this.pending -= 1;
    if (isWatched) this.watched -= 1;
    this.results[result] = (this.results[result] ?? 0) + 1;
  }

  /** 0 good, 1 unsteady, 2 failing. */
  grade(nowMs: number): number {
    this.#fade(nowMs);
    const share = this.#failures / (this.#failures + this.#successes + 1);
    if (share >= FAILING_SHARE) return 2;
    return share >= UNSTEADY_SHARE ? 1 : 0;
  }

  /** When an answer is late by its own measure, and another one may be asked. */
  retryMs(timeoutMs: number): number {
    if (this.smoothedMs === undefined) return timeoutMs / 8;
    return Math.min(timeoutMs / 4, this.smoothedMs + Math.max(RETRY_MIN_MS, 4 * this.#variationMs));
  }

  /** So long the next one waits where they are asked as listed: the first one may have to ask others. */
  waitMs(timeoutMs: number): number {
    return Math.max(timeoutMs / 8, this.retryMs(timeoutMs));
  }

  /** From then on it is late, be it a resolver that has to ask others: an eighth of the bound at least. */
  lateMs(timeoutMs: number): number {
    return Math.min(timeoutMs / 2, Math.max(timeoutMs / 8, 4 * this.retryMs(timeoutMs)));
  }

  isProbeDue(nowMs: number): boolean {
    if (this.askedMs === -Infinity) return false; // its chance comes otherwise: rank()
    const isReturning = this.#isLastGood && this.grade(nowMs) > 0;
    return nowMs - this.askedMs >= (isReturning ? PROBE_SOON_MS : PROBE_MS);
  }

  state(nowMs: number): UpstreamState {
    if (nowMs < this.loopUntilMs) return 'loop';
    const grade = this.grade(nowMs);
    if (grade === 0 && this.smoothedMs === undefined) return 'unknown';
    return grade === 2 ? 'failing' : grade === 1 ? 'unsteady' : 'good';
  }

  stats(nowMs: number): UpstreamStats {
    return {
      upstream: this.label,
      state: this.state(nowMs),
      results: { ...this.results },
      sent: this.sent,
      pending: this.pending,
      smoothedMs: this.smoothedMs,
      latency: {
        counts: [...this.#latencyCounts],
        sumMs: this.#latencySumMs,
        count: this.#latencyCount,
      },
      isCaseKept: nowMs >= this.caseLostUntilMs,
      hasEdns: this.hasEdns(nowMs),
    };
  }

  #bound(): void {
    const weight = this.#failures + this.#successes;
    if (weight <= WEIGHT_MAX) return;
    this.#failures *= WEIGHT_MAX / weight;
    this.#successes *= WEIGHT_MAX / weight;
  }

  #fade(nowMs: number): void {
    const passedMs = nowMs - this.#fadedMs;
    if (passedMs <= 0) return;
    const part = 2 ** (-passedMs / HALF_LIFE_MS);
    this.#failures *= part;
    this.#successes *= part;
    this.#fadedMs = nowMs;
  }
}

export function labelOf({ host, port }: Upstream): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * In the order in which they are asked. One that nobody knows yet has its chance as the second, beside
 * the best known one. Those that loop are left out.
 */
export function rank(standings: readonly Standing[], nowMs: number): Standing[] {
  const graded = standings
    .filter((standing) => nowMs >= standing.loopUntilMs)
    .map((standing, index) => ({ standing, index, grade: standing.grade(nowMs) }));
  graded.sort(
    (a, b) =>
      a.grade - b.grade ||
      (a.standing.smoothedMs ?? Infinity) - (b.standing.smoothedMs ?? Infinity) ||
      a.index - b.index,
  );
  const unknown = graded.findIndex((g) => g.grade === 0 && g.standing.smoothedMs === undefined);
  if (unknown > 1) graded.splice(1, 0, ...graded.splice(unknown, 1));
  return graded.map(({ standing }) => standing);
}

/** Who is asked along although not among the first two. */
export function probeOf(ranked: readonly Standing[], nowMs: number): Standing | undefined {
  let longest: Standing | undefined;
  for (const standing of ranked.slice(2))
    if (standing.isProbeDue(nowMs) && (longest === undefined || standing.askedMs < longest.askedMs))
      longest = standing;
  return longest;
}
