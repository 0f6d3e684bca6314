/**
 * The race of upstreams for one question: the two best at once, a third after a delay that follows
 * from how fast they usually are, the next at each loss, until one is good or the time is over. Where
 * a zone is strict: the first that is listed, the next when it is late, and so on. What
 * has not answered when a race ends is waited for a little longer, to know what the upstream is worth.
 *
 * Ids, case and ports of each attempt are its own; a reply that does not fit is no reply (RFC 5452).
 */
import { below, type Random } from '../../hyparview-ts/random.ts';
import { RCODE } from '../numbers.ts';
import type { Deadlines } from './deadlines.ts';
import type { Attempt, Cause, Flight, Listed, Loss, Outcome, Question } from './flight.ts';
import { hasAnswers, matchReply, readReply, type Reading } from './reply.ts';
import { labelOf, LOOP_MS, probeOf, QUIRK_MS, rank, Standing } from './standing.ts';
import type { AttemptResult, ForwardOutput, ForwardSettings } from './types.ts';
import { recase, writeQuestion } from './wire.ts';

/** Attempts of one race, those by timer: three upstreams can be asked twice and more (a guess). */
const TRIES_MAX = 8;
/** So many replies that do not fit, and TCP has to tell (a guess; unbound counts overall, 10 million). */
const MISMATCHES_MAX = 3;
/** Open attempts for each flight that is allowed, those of ended flights included. */
const ATTEMPTS_PART = 4;
/** At most so often is an upstream looked into when nobody waits for it. */
const LOOK_MS = 10_000;
/** And so often while all goes well. */
const LOOK_WELL_MS = 600_000;

export interface RacesOptions {
  readonly random: Random;
  readonly deadlines: Deadlines<Flight | Attempt>;
  readonly emit: (output: ForwardOutput) => void;
  readonly onEnd: (flight: Flight, outcome: Outcome) => void;
  /** A good answer to a question whose flight had failed, or had that of one of those who are listed behind. */
  readonly onLate: (
    attempt: Attempt,
    reading: Extract<Reading, { kind: 'good' }>,
    how: { readonly isStandIn: boolean; readonly behind: readonly Standing[] },
  ) => void;
  /** A question by which a loop can be known. */
  readonly loopQuestion: (zone: string) => Question;
}

export class Races {
  readonly #options: RacesOptions;
  readonly #random: Random;
  #settings: ForwardSettings;
  readonly #standings = new Map<string, Standing>();
  #zones = new Map<string, Standing[]>();
  readonly #attempts = new Map<number, Attempt>();
  /** Of ended flights, oldest first. */
  readonly #lingering = new Set<Attempt>();
  /** Names by which loops are looked for. */
  readonly #looks = new Map<string, Attempt>();
  #lastAttempt = 0;
  #nowMs = 0;
  mismatches = 0;
  loops = 0;

  constructor(options: RacesOptions, settings: ForwardSettings) {
    this.#options = options;
    this.#random = options.random;
    this.#settings = settings;
    this.update(settings);
  }

  get attempts(): number {
    return this.#attempts.size;
  }

  get standings(): Iterable<Standing> {
    return this.#standings.values();
  }

  /** What is known of upstreams that stay is kept. */
  update(settings: ForwardSettings): void {
    this.#settings = settings;
    const zones = new Map<string, Standing[]>();
    const used = new Map<string, Standing>();
    for (const [zone, upstreams] of settings.zones) {
      const foreign = upstreams.filter(({ host, port }) => !settings.isOwn(host, port));
      const standings = foreign.map((upstream) => {
        const label = labelOf(upstream);
        const standing = used.get(label) ?? this.#standings.get(label) ?? new Standing(upstream);
        used.set(label, standing);
        return standing;
      });
      zones.set(zone, [...new Set(standings)]);
    }
    this.#zones = zones;
    this.#standings.clear();
    for (const [label, standing] of used) this.#standings.set(label, standing);
  }

  /** Every upstream that could be asked failed lately, or none is there. */
  isHopeless(zone: string, nowMs: number): boolean {
    return (this.#zones.get(zone) ?? []).every(
      (standing) => nowMs < standing.loopUntilMs || standing.grade(nowMs) === 2,
    );
  }

  /** The upstream that this name was sent to, to see whether it comes back; it has. */
  takeLoop(name: string, nowMs: number): boolean {
    const look = this.#looks.get(name);
    if (look === undefined) return false;
    this.#nowMs = nowMs;
    this.#looks.delete(name);
    this.loops += 1;
    look.standing.loopUntilMs = nowMs + LOOP_MS;
    this.#end(look, 'loop');
    return true;
  }

  start(flight: Flight, nowMs: number): void {
    this.#nowMs = nowMs;
    const standings = this.#zones.get(flight.zone) ?? [];
    for (const standing of standings) this.#lookAgain(standing, flight.zone);
    if (this.#settings.strict?.has(flight.zone) === true) {
      flight.isStrict = true;
      flight.ranked = standings.filter((standing) => nowMs >= standing.loopUntilMs);
      this.#tryInOrder(flight);
      return this.#settle(flight);
    }
    const ranked = rank(standings, nowMs);
    const able = ableOf(ranked, flight.question, nowMs);
    const first = able.slice(0, 2);
    const probe = probeOf(able, nowMs);
    const now = probe === undefined ? first : [...first, probe];
    flight.ranked = [...new Set([...now, ...able, ...ranked])];
    flight.next = now.length;
    for (const standing of flight.ranked.slice(0, flight.next)) this.#race(flight, standing);
    const { timeoutMs } = this.#settings;
    // Who is failing is not waited for: how fast it was says nothing of when the other one is late.
    const [best] = first;
    const counts = first.filter((one) => one.grade(nowMs) === best?.grade(nowMs));
    flight.gapMs = Math.min(...counts.map((standing) => standing.retryMs(timeoutMs)));
    flight.nextTryMs = nowMs + flight.gapMs;
    this.#settle(flight);
  }

  flightDue(flight: Flight, nowMs: number): void {
    this.#nowMs = nowMs;
    if (nowMs >= flight.deadlineMs || nowMs >= flight.giveUpMs) return this.#lose(flight);
    if (nowMs >= flight.nextTryMs) {
      flight.gapMs *= 2;
      flight.nextTryMs = this.#tryNext(flight, true) ? nowMs + flight.gapMs : Infinity;
    }
    this.#settle(flight);
  }

  /** First it is late, then it has failed; who is not waited for any more ends. */
  attemptDue(attempt: Attempt, nowMs: number): void {
    this.#nowMs = nowMs;
    const { standing, sentMs, isWatched } = attempt;
    const failedMs = sentMs + this.#settings.timeoutMs / 2;
    if (!attempt.isLate) {
      attempt.isLate = true;
      if (isWatched) standing.late(nowMs, sentMs);
      const isLost = attempt.transport === 'tcp' && attempt.flight !== undefined;
      if (isLost && !attempt.isAgain) return this.#sendAgain(attempt);
      if (nowMs < failedMs) return this.#options.deadlines.set(attempt, failedMs);
    }
    this.#judge(attempt);
    if (attempt.flight === undefined) this.#end(attempt, 'timeout');
  }

  failed(id: number, why: 'unreachable' | 'local', nowMs: number): void {
    this.#nowMs = nowMs;
    const attempt = this.#attempts.get(id);
    if (attempt === undefined) return;
    if (why === 'unreachable' && attempt.transport === 'udp') {
      attempt.isJudged = true;
      attempt.standing.unreachable(nowMs, attempt.sentMs);
    }
    this.#loss(attempt, why, undefined);
  }

  reply(id: number, bytes: Uint8Array, nowMs: number): void {
    this.#nowMs = nowMs;
    const attempt = this.#attempts.get(id);
    if (attempt === undefined) return;
    const match = matchReply(bytes, attempt.sent);
    if (match === 'other') return this.#mismatch(attempt);
    attempt.standing.replied(nowMs, nowMs - attempt.sentMs, this.#settings.timeoutMs);
    if (match === 'bare') return this.#refused(attempt, readReply(bytes, attempt.sent));
    if (match === 'case' && attempt.isCaseRandom && attempt.transport === 'udp') {
      this.#end(attempt, 'case');
      return this.#follow(attempt, 'case');
    }
    if (match === 'case' && attempt.cause === 'case')
      attempt.standing.caseLostUntilMs = nowMs + QUIRK_MS;
    const isReadDue = attempt.hasEdns && attempt.standing.isReadDue(nowMs);
    const isRead = isWanted(attempt) || isReadDue;
    if (!isRead && attempt.cause === 'race' && hasAnswers(bytes)) {
      this.#succeeded(attempt);
      return this.#end(attempt, 'late');
    }
    const reading = readReply(bytes, attempt.sent);
    if (reading.kind === 'good') this.#good(attempt, reading);
    else if (reading.kind === 'truncated') this.#truncated(attempt);
    else this.#refused(attempt, reading);
  }

  #good(attempt: Attempt, reading: Extract<Reading, { kind: 'good' }>): void {
    const { standing, flight } = attempt;
    this.#succeeded(attempt);
    if (attempt.hasEdns) standing.read(this.#nowMs, reading.hasOpt);
    if (attempt.cause === 'no edns') standing.ednsRefused(this.#nowMs);
    const isUnsigned = attempt.question.isDnssecOk && !attempt.hasEdns;
    if (flight === undefined) {
      this.#end(attempt, 'late');
      if (isUnsigned || attempt.cause === 'loop' || !isWanted(attempt)) return;
      const { listed } = attempt;
      if (listed !== undefined) listed.place = listed.ranked.indexOf(standing);
      const behind = listed?.ranked.slice(listed.place + 1) ?? [];
      const how = { isStandIn: isStandIn(standing, listed), behind };
      return this.#options.onLate(attempt, reading, how);
    }
    this.#end(attempt, 'good');
    for (const [loser, { isBlamed }] of flight.losses)
      if (isBlamed && loser !== standing) loser.failed(this.#nowMs);
    const others = flight.ranked.filter((one) => one !== standing);
    const isKept = !isUnsigned || !others.some((one) => isAble(one, this.#nowMs));
    const listed = listedOf(flight, standing);
    const outcome = { kind: 'won', attempt, reading, isKept } as const;
    this.#finish(flight, { ...outcome, isStandIn: isStandIn(standing, listed) });
  }

  #truncated(attempt: Attempt): void {
    this.#succeeded(attempt);
    if (attempt.transport === 'tcp') return this.#loss(attempt, 'unparsable', undefined);
    this.#end(attempt, 'truncated');
    if (attempt.flight !== undefined) this.#follow(attempt, 'truncated');
  }

  #refused(attempt: Attempt, reading: Reading): void {
    if (reading.kind !== 'loss') return this.#loss(attempt, 'unparsable', undefined);
    const { result, rcode } = reading;
    const isOfEdns = result === 'formerr' || result === 'notimp';
    if (isOfEdns && attempt.hasEdns && attempt.cause !== 'loop') {
      this.#end(attempt, result);
      return this.#follow(attempt, 'no edns');
    }
    this.#loss(attempt, result, rcode);
  }

  /** Somebody guesses, or the upstream mixes things up: it is waited for what fits, three times. */
  #mismatch(attempt: Attempt): void {
    this.mismatches += 1;
    attempt.mismatches += 1;
    if (attempt.transport === 'tcp') return this.#loss(attempt, 'unparsable', undefined);
    if (attempt.mismatches < MISMATCHES_MAX) return;
    this.#end(attempt, 'spoofed');
    if (attempt.cause !== 'loop') this.#follow(attempt, 'spoofed');
  }

  #succeeded(attempt: Attempt): void {
    if (!attempt.isWatched) return;
    const tookMs = this.#nowMs - attempt.sentMs;
    attempt.standing.succeeded(this.#nowMs, attempt.transport === 'udp' ? tookMs : undefined);
  }

  #judge(attempt: Attempt): void {
    if (attempt.isJudged) return;
    attempt.isJudged = true;
    if (attempt.isWatched) attempt.standing.failed(this.#nowMs);
  }

  /**
   * Whether it is the upstream's fault shows when another one has a good answer: a name that all
   * refuse is the name's fault.
   */
  #loss(attempt: Attempt, result: AttemptResult, rcode: Loss['rcode']): void {
    const { flight, standing } = attempt;
    this.#end(attempt, result);
    if (flight === undefined) {
      if (rcode === RCODE.REFUSED) attempt.listed?.refused.add(standing);
      if (attempt.isAnswered && attempt.isWatched && !attempt.isJudged && result !== 'local')
        standing.failed(this.#nowMs);
      return;
    }
    const isBlamed = attempt.isWatched && !attempt.isJudged && result !== 'local';
    flight.losses.set(standing, { rcode, isBlamed });
    const isWaitedFor = !flight.isStrict || isLast(standing, flight);
    if (flight.next < flight.ranked.length && isWaitedFor) this.#tryNext(flight, false);
    this.#settle(flight);
  }

  /** One more attempt to the same upstream; who is not waited for is looked into now and then only. */
  #follow(attempt: Attempt, cause: Cause, isAgain = false): void {
    const { flight, standing } = attempt;
    if (flight === undefined) {
      const isTooSoon = this.#nowMs - standing.lookMs < LOOK_MS;
      if (isTooSoon) return standing.failed(this.#nowMs);
      standing.lookMs = this.#nowMs;
    }
    const { question, hasEdns } = attempt;
    const next = this.#send(flight, question, standing, cause, hasEdns, isAgain);
    if (next === undefined) {
      if (flight !== undefined) this.#settle(flight);
      return;
    }
    next.isAnswered = attempt.isAnswered;
    next.listed = attempt.listed;
    if (flight === undefined) return;
    // It has spoken: the one behind it waits once more as long.
    if (flight.isStrict && !isAgain && isLast(standing, flight))
      flight.nextTryMs = this.#nowMs + flight.gapMs;
    this.#settle(flight);
  }

  /** The connection may have died without a word; it gets no questions once this one has ended, so a new one does. */
  #sendAgain(attempt: Attempt): void {
    this.#end(attempt, 'timeout');
    this.#follow(attempt, attempt.cause, true);
  }

  #tryNext(flight: Flight, isByTimer: boolean): boolean {
    if (isByTimer && flight.tries >= TRIES_MAX) return false;
    if (flight.isStrict && flight.next < flight.ranked.length) {
      if (isByTimer) flight.ranked[flight.next - 1]?.stalled(this.#nowMs);
      this.#tryInOrder(flight);
      return true;
    }
    let standing = flight.ranked[flight.next];
    if (standing === undefined) {
      // Over UDP it would say the same as before it was asked over TCP.
      const byTcp = [...flight.pending].filter(({ transport }) => transport === 'tcp');
      const isSilent = (one: Standing): boolean =>
        !flight.losses.has(one) && !byTcp.some((attempt) => attempt.standing === one);
      const silent = flight.ranked.filter(isSilent);
      standing = silent[(flight.next - flight.ranked.length) % Math.max(1, silent.length)];
    }
    flight.next += 1;
    if (standing === undefined) return false;
    this.#race(flight, standing);
    return true;
  }

  /** The next one that is worth waiting for; those on the way to it are asked too. */
  #tryInOrder(flight: Flight): void {
    for (const standing of flight.ranked.slice(flight.next)) {
      flight.next += 1;
      this.#race(flight, standing);
      flight.gapMs = standing.waitMs(this.#settings.timeoutMs);
      if (!standing.isStalling(this.#nowMs)) break;
    }
    flight.nextTryMs = this.#nowMs + flight.gapMs;
  }

  #race(flight: Flight, standing: Standing): void {
    flight.tries += 1;
    this.#send(flight, flight.question, standing, 'race', standing.hasEdns(this.#nowMs));
  }

  #send(
    flight: Flight | undefined,
    question: Question,
    standing: Standing,
    cause: Cause,
    hasEdns: boolean,
    isAgain = false,
  ): Attempt | undefined {
    if (!this.#makeRoom()) return undefined;
    const nowMs = this.#nowMs;
    const isByTcp = cause === 'truncated' || cause === 'case' || cause === 'spoofed';
    const isCaseRandom = nowMs >= standing.caseLostUntilMs;
    const { isDnssecOk, isCheckingDisabled } = question;
    const attempt: Attempt = {
      kind: 'attempt',
      id: ++this.#lastAttempt,
      question,
      standing,
      transport: isByTcp ? 'tcp' : 'udp',
      cause,
      sent: {
        id: below(this.#random, 65_536),
        question: recase(question.wire, isCaseRandom ? this.#random : undefined),
        isDnssecOk,
      },
      isCaseRandom,
      hasEdns: hasEdns && cause !== 'no edns',
      sentMs: nowMs,
      isWatched: cause !== 'race' || standing.isWatchable,
      flight,
      isAnswered: false,
      listed: undefined,
      isAgain,
      isLate: false,
      isJudged: false,
      mismatches: 0,
      dueMs: 0,
      heapIndex: -1,
    };
    this.#attempts.set(attempt.id, attempt);
    if (flight === undefined) this.#lingering.add(attempt);
    else flight.pending.add(attempt);
    standing.began(nowMs, attempt.isWatched);
    this.#options.deadlines.set(attempt, nowMs + standing.lateMs(this.#settings.timeoutMs));
    this.#options.emit({
      kind: 'send',
      attempt: attempt.id,
      upstream: standing.upstream,
      transport: attempt.transport,
      bytes: writeQuestion({ ...attempt.sent, isCheckingDisabled, hasEdns: attempt.hasEdns }),
    });
    return attempt;
  }

  /** Where too many are open, the one goes that has lingered longest. */
  #makeRoom(): boolean {
    if (this.#attempts.size < ATTEMPTS_PART * this.#settings.maxConcurrent) return true;
    const [oldest] = this.#lingering;
    if (oldest === undefined) return false;
    const lateMs = 4 * oldest.standing.retryMs(this.#settings.timeoutMs);
    if (this.#nowMs - oldest.sentMs >= lateMs) this.#judge(oldest);
    this.#end(oldest, 'cancelled');
    return true;
  }

  #end(attempt: Attempt, result: AttemptResult): void {
    if (!this.#attempts.delete(attempt.id)) return;
    this.#lingering.delete(attempt);
    this.#options.deadlines.remove(attempt);
    attempt.standing.ended(result, attempt.isWatched);
    const { flight, question } = attempt;
    if (flight !== undefined) {
      flight.pending.delete(attempt);
      flight.ended.push({ attempt, ms: this.#nowMs - attempt.sentMs, result });
    }
    if (attempt.cause === 'loop' && this.#looks.delete(question.name))
      attempt.standing.loopUntilMs = -Infinity;
    this.#options.emit({ kind: 'end', attempt: attempt.id });
  }

  /** When the flight is to be looked at next; or it has ended. */
  #settle(flight: Flight): void {
    flight.giveUpMs = this.#giveUpMs(flight);
    if (flight.giveUpMs <= this.#nowMs) return this.#lose(flight);
    const { deadlineMs, nextTryMs, giveUpMs, staleMs } = flight;
    this.#options.deadlines.set(flight, Math.min(deadlineMs, nextTryMs, giveUpMs, staleMs));
  }

  /** All have been asked and some said no: those who are silent are waited for as long as they usually take. */
  #giveUpMs(flight: Flight): number {
    if (flight.next < flight.ranked.length) return Infinity;
    if (flight.ranked.length === 0) return this.#nowMs;
    if (flight.losses.size === 0) return Infinity;
    const { timeoutMs } = this.#settings;
    let lastMs = -Infinity;
    for (const { standing, sentMs } of flight.pending) {
      const retryMs = standing.retryMs(timeoutMs);
      const isFailing = standing.grade(this.#nowMs) === 2;
      const waitMs = isFailing ? retryMs : Math.max(timeoutMs / 4, 4 * retryMs);
      lastMs = Math.max(lastMs, sentMs + waitMs);
    }
    return lastMs;
  }

  #lose(flight: Flight): void {
    const losses = [...flight.losses];
    const said = losses.find(([, { rcode }]) => rcode === RCODE.SERVFAIL) ?? losses[0];
    const isAlike =
      flight.losses.size === flight.ranked.length &&
      losses.every(([, { rcode }]) => rcode === said?.[1].rcode);
    const relayed = said?.[1].rcode === RCODE.REFUSED || said?.[1].rcode === RCODE.NOTIMP;
    const rcode = isAlike && relayed ? (said[1].rcode ?? RCODE.SERVFAIL) : RCODE.SERVFAIL;
    const upstream = said?.[1].rcode === rcode ? said[0].label : undefined;
    this.#finish(flight, { kind: 'lost', rcode, upstream });
  }

  #finish(flight: Flight, outcome: Outcome): void {
    this.#options.deadlines.remove(flight);
    this.#options.onEnd(flight, outcome);
    const winner = outcome.kind === 'won' ? outcome.attempt.standing : undefined;
    const listed = listedOf(flight, winner);
    for (const attempt of flight.pending) {
      const isSuspect = flight.joinedMs >= attempt.sentMs;
      attempt.flight = undefined;
      attempt.isAnswered = outcome.kind === 'won';
      attempt.listed = listed;
      const everyMs = outcome.kind === 'won' ? LOOK_WELL_MS : LOOK_MS;
      if (isSuspect) this.#look(attempt.standing, flight.zone, everyMs);
      if (attempt.isJudged) this.#end(attempt, 'timeout');
      else if (attempt.isAnswered && !attempt.isWatched) this.#end(attempt, 'cancelled');
      else this.#lingering.add(attempt);
    }
    flight.pending.clear();
  }

  /**
   * The upstream said nothing while somebody asked us the same: it may be us who it asks. A name that
   * nobody else knows is sent there; if it comes back, it is a loop.
   */
  #look(standing: Standing, zone: string, everyMs: number): void {
    if (this.#nowMs - standing.lookMs < everyMs) return;
    standing.lookMs = this.#nowMs;
    const question = this.#options.loopQuestion(zone);
    const look = this.#send(undefined, question, standing, 'loop', true);
    if (look !== undefined) this.#looks.set(question.name, look);
  }

  /** What looped is not asked again before it was seen not to loop any more. */
  #lookAgain(standing: Standing, zone: string): void {
    if (standing.loopUntilMs === -Infinity || this.#nowMs < standing.loopUntilMs) return;
    standing.loopUntilMs = this.#nowMs + this.#settings.timeoutMs;
    this.#look(standing, zone, LOOK_MS);
  }
}

/** Undefined where the order is of no meaning. */
function listedOf(
  { isStrict, ranked, losses }: Flight,
  winner: Standing | undefined,
): Listed | undefined {
  if (!isStrict) return undefined;
  const refused = new Set<Standing>();
  for (const [one, { rcode }] of losses) if (rcode === RCODE.REFUSED) refused.add(one);
  return { ranked, refused, place: winner === undefined ? Infinity : ranked.indexOf(winner) };
}

/** Nobody has answered yet, or only who is listed behind it. */
function isWanted({ isAnswered, listed, standing }: Attempt): boolean {
  if (listed === undefined) return !isAnswered;
  return listed.ranked.indexOf(standing) < listed.place;
}

/** One that is listed before it did not say that the name is not for it. */
function isStandIn(standing: Standing, listed: Listed | undefined): boolean {
  if (listed === undefined) return false;
  const before = listed.ranked.slice(0, listed.ranked.indexOf(standing));
  return before.some((one) => !listed.refused.has(one));
}

/** Whether the next one waits for it. */
function isLast(standing: Standing, { ranked, next }: Flight): boolean {
  return ranked[next - 1] === standing;
}

/** Without EDNS there are no signatures. */
function isAble(standing: Standing, nowMs: number): boolean {
  return standing.hasEdns(nowMs) && standing.grade(nowMs) < 2;
}

/** Those who are asked before others: with DO those who may have signatures, if there are any. */
function ableOf(
  ranked: readonly Standing[],
  question: Question,
  nowMs: number,
): readonly Standing[] {
  if (!question.isDnssecOk) return ranked;
  const able = ranked.filter((standing) => isAble(standing, nowMs));
  return able.length > 0 ? able : ranked;
}
