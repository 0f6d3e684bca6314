/**
 * What is so long ago that nobody needs it, as writes that one member makes for all: hosts that never
 * came back are gone for good, and that somebody is gone is said no more. Without it each host that
 * ever was stays in every host's state: in a cloud, hundreds a month.
 */
import { SHARED, type Replica, type Write } from '../state/replica/replica.ts';
import { goneKey } from './departures.ts';
import { NODE_VALIDITY_MS } from './lifetime.ts';
import type { Liveness } from './liveness.ts';
import type { Roll } from './roll.ts';

/**
 * Its certificate ended in between: it could only join anew. The half on top is a guess, for two
 * halves of a cluster that do not see each other for so long.
 */
export const EXPIRED_AFTER_MS = 1.5 * NODE_VALIDITY_MS;
/**
 * No host can come back that has not heard of it (NODE_VALIDITY_MS), and epochs have left its writer
 * ids out (FORGOTTEN_AFTER_MS).
 */
export const GONE_KEPT_MS = 2 * NODE_VALIDITY_MS + 2 * 86_400_000;

export interface Aging {
  /** ISO 8601 of a time of the wall clock. */
  readonly iso: (wallMs: number) => string;
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly roll: Roll;
}

/** Who is revoked stays so: somebody meant it. */
export function agedOut(
  { iso, replica, liveness, roll }: Aging,
  nowMs: number,
  wallMs: number,
): Write[] {
  const expired = liveness
    .remembered(nowMs, wallMs)
    .filter(({ sinceMs }) => sinceMs + EXPIRED_AFTER_MS <= wallMs)
    .map(({ id }) => roll.goneWrite(id, { why: 'expired', at: iso(wallMs), atMs: wallMs }));
  const known = new Set(replica.writersOf(SHARED));
  const said = [...roll.gone.values()].filter(
    ({ atMs = Infinity, why, writers }) =>
      why !== 'revoked' &&
      atMs + GONE_KEPT_MS <= wallMs &&
      !writers.some((writer) => known.has(writer)),
  );
  return [
    ...expired,
    ...said.map(({ node }): Write => ({
      document: 'shared',
      key: goneKey(node),
      value: undefined,
    })),
  ];
}
