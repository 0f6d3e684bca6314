/**
 * What is so long ago that nobody needs it, as writes that one member makes for all: hosts that never
 * came back are gone for good, and that somebody is gone is said no more. Without it each host that
 * ever was stays in every host's state: in a cloud, hundreds a month.
 */
import { SHARED, type Replica, type Write } from '../state/replica/replica.ts';
import { goneKey, missedKey, readMissed } from './departures.ts';
import { NODE_VALIDITY_MS } from './lifetime.ts';
import type { Liveness } from './liveness.ts';
import type { Roll } from './roll.ts';

const DAY_MS = 86_400_000;
/** From then on all are told since when it is missed: the one who saw it go may itself be gone tomorrow. */
const MISSED_AFTER_MS = DAY_MS;
/**
 * Its certificate ended in between: it could only join anew, but for one that can sign its own. The
 * half on top is a guess, for two halves of a cluster that do not see each other for so long.
 */
export const EXPIRED_AFTER_MS = 1.5 * NODE_VALIDITY_MS;
/** Epochs have left its writer ids out (FORGOTTEN_AFTER_MS), and any that was away then is gone as well. */
export const GONE_KEPT_MS = 2.5 * NODE_VALIDITY_MS;

export interface Aging {
  /** ISO 8601 of a time of the wall clock. */
  readonly iso: (wallMs: number) => string;
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly roll: Roll;
}

/** Who is revoked stays so: somebody meant it. */
export function agedOut(aging: Aging, nowMs: number, wallMs: number): Write[] {
  return [...missedOut(aging, nowMs, wallMs), ...saidLongAgo(aging, wallMs)];
}

function missedOut(
  { iso, replica, liveness, roll }: Aging,
  nowMs: number,
  wallMs: number,
): Write[] {
  const writes: Write[] = [];
  const absent = new Map(liveness.remembered(nowMs, wallMs).map((one) => [one.id, one.sinceMs]));
  const missed = new Map<string, number>();
  for (const { key } of replica.winners(SHARED)) {
    const one = readMissed(key, replica.get(SHARED, key));
    if (one !== undefined) missed.set(one.node, one.atMs);
  }
  const others = roll.others();
  const isSigner = new Set(others.flatMap(({ id, record }) => (record.signer ? [id] : [])));
  const hasSigner =
    roll.record(replica.node)?.signer === true || [...isSigner].some((id) => !absent.has(id));
  for (const [id, sinceMs] of absent) {
    const atMs = missed.get(id);
    if (atMs === undefined) {
      if (sinceMs + MISSED_AFTER_MS <= wallMs) writes.push(put(missedKey(id), { atMs: sinceMs }));
    } else if (atMs + EXPIRED_AFTER_MS <= wallMs && (hasSigner || !isSigner.has(id))) {
      // Of the last one who can sign, nobody knows whether it is given up.
      writes.push(roll.goneWrite(id, { why: 'expired', at: iso(wallMs), atMs: wallMs }));
    }
  }
  for (const id of missed.keys()) if (!absent.has(id)) writes.push(put(missedKey(id), undefined));
  return writes;
}

function saidLongAgo({ replica, roll }: Aging, wallMs: number): Write[] {
  const known = new Set(replica.writersOf(SHARED));
  return [...roll.gone.values()]
    .filter(
      ({ atMs = Infinity, why, writers }) =>
        why !== 'revoked' &&
        atMs + GONE_KEPT_MS <= wallMs &&
        !writers.some((writer) => known.has(writer)),
    )
    .map(({ node }) => put(goneKey(node), undefined));
}

function put(key: string, value: object | undefined): Write {
  return { document: 'shared', key, value: value && JSON.stringify(value) };
}
