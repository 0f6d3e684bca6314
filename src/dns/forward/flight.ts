/** One question under way, and the attempts that are made for it. */
import type { Due } from './deadlines.ts';
import type { Reading, Sent } from './reply.ts';
import type { Standing } from './standing.ts';
import type { AttemptResult, Trace, Transport } from './types.ts';

/** What is asked, as upstreams are asked it: those who ask it alike are answered alike. */
export interface Question {
  /** Of name, type and flags: what is merged and kept under it. */
  readonly key: string;
  readonly name: string;
  readonly type: number;
  /** With type and class; its case is of no meaning. */
  readonly wire: Uint8Array;
  readonly isDnssecOk: boolean;
  readonly isCheckingDisabled: boolean;
  readonly askedMs: number;
}

export interface Flight extends Due {
  readonly kind: 'flight';
  readonly question: Question;
  /** What upstreams it has: the most specific zone. */
  readonly zone: string;
  readonly startedMs: number;
  /** It has ended by then. */
  readonly deadlineMs: number;
  /** Numbers of those who wait; none for a prefetch. */
  readonly asks: Set<number>;
  /** When somebody asked it while it was under way, the last time. */
  joinedMs: number;
  /** When what is stale is given to those who wait. */
  staleMs: number;
  isQueued: boolean;
  /** Best first; or as listed. */
  ranked: readonly Standing[];
  /** The next one is asked when the one before is late or has failed. */
  isStrict: boolean;
  /** Which of `ranked` is next; at the end of it, those who were silent are asked again. */
  next: number;
  tries: number;
  nextTryMs: number;
  gapMs: number;
  /** Nobody is left but who is late: it ends then. */
  giveUpMs: number;
  readonly pending: Set<Attempt>;
  /** Who said no, and how. */
  readonly losses: Map<Standing, Loss>;
  readonly ended: EndedAttempt[];
}

export interface Loss {
  /** What it said; undefined where it said nothing. */
  readonly rcode: number | undefined;
  /** It counts as a failure as soon as another one has a good answer. */
  readonly isBlamed: boolean;
}

export interface EndedAttempt {
  readonly attempt: Attempt;
  readonly ms: number;
  readonly result: AttemptResult;
}

/** What is left of a flight of servers that were asked as listed: who is late may still count for more. */
export interface Listed {
  readonly ranked: readonly Standing[];
  /** They said that the name is not for them. */
  readonly refused: Set<Standing>;
  /** The place of whose answer counts so far; Infinity: there was none. */
  place: number;
}

/** Why it was made: the first for an upstream, or after what came back. */
export type Cause = 'race' | 'truncated' | 'case' | 'spoofed' | 'no edns' | 'loop';

export interface Attempt extends Due {
  readonly kind: 'attempt';
  readonly id: number;
  readonly question: Question;
  readonly standing: Standing;
  readonly transport: Transport;
  readonly cause: Cause;
  readonly sent: Sent;
  readonly isCaseRandom: boolean;
  readonly hasEdns: boolean;
  readonly sentMs: number;
  /** Its end is waited for whoever wins, and counts. */
  readonly isWatched: boolean;
  /** Undefined: its flight has ended; what comes now only tells of the upstream. */
  flight: Flight | undefined;
  /** Its flight has ended with an answer. */
  isAnswered: boolean;
  /** Of its flight, which has ended, if servers were asked as listed. */
  listed: Listed | undefined;
  /** TCP: the one before it had no answer. */
  readonly isAgain: boolean;
  /** It took longer than its upstream usually does. */
  isLate: boolean;
  /** It counts as failed already, although its flight still waits for it. */
  isJudged: boolean;
  mismatches: number;
}

export type Outcome =
  | {
      readonly kind: 'won';
      readonly attempt: Attempt;
      readonly reading: Extract<Reading, { kind: 'good' }>;
      readonly isKept: boolean;
      /** By one who is listed behind others that have not spoken, and may say otherwise. */
      readonly isStandIn: boolean;
    }
  | { readonly kind: 'lost'; readonly rcode: number; readonly upstream: string | undefined };

export function newFlight(
  question: Question,
  zone: string,
  startedMs: number,
  deadlineMs: number,
): Flight {
  return {
    kind: 'flight',
    question,
    zone,
    startedMs,
    deadlineMs,
    asks: new Set(),
    joinedMs: -Infinity,
    staleMs: Infinity,
    isQueued: false,
    ranked: [],
    isStrict: false,
    next: 0,
    tries: 0,
    nextTryMs: Infinity,
    gapMs: 0,
    giveUpMs: Infinity,
    pending: new Set(),
    losses: new Map(),
    ended: [],
    dueMs: 0,
    heapIndex: -1,
  };
}

export function traceOf({ ended, pending }: Flight, nowMs: number): Trace[] {
  const all = ended.map(({ attempt, ms, result }) => ({
    attempt,
    ms,
    result: result as Trace['result'],
  }));
  for (const attempt of pending)
    all.push({ attempt, ms: nowMs - attempt.sentMs, result: 'pending' });
  all.sort((a, b) => a.attempt.id - b.attempt.id);
  return all.map(({ attempt, ms, result }) => ({
    upstream: attempt.standing.label,
    transport: attempt.transport,
    ms,
    result,
  }));
}
