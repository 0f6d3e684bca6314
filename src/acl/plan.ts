/**
 * The writes from one AclTables to another within a generation, in an order in
 * which no call ever meets half of it: what is pointed at is there before what
 * points, and goes after it. An entry of zh_acl_dests changes at once, and the
 * number of a policy stands for what it says.
 *
 * A change of services goes in between, so that no backend is ever reachable
 * through a service whose rules do not hold for it yet, or no longer:
 *
 *   additions: before → between   every old and every new backend is protected
 *   the services' own writes
 *   removals: between → after     what is gone is forgotten
 */
import { BucketMap } from '../state/bucket-map.ts';
import type { AclTables, DestEntry, MatchEntry } from './tables.ts';

export type Table = 'matches' | 'sources' | 'dests' | 'cidrs';
type Entry = DestEntry | MatchEntry | number;
type Entries = ReadonlyMap<string, Entry>;

/** Writes to one map that may happen in any order. */
export type Step =
  | { readonly table: Table; readonly set: Entries }
  | { readonly table: Table; readonly drop: readonly string[] };

export interface GenerationDiff {
  readonly additions: readonly Step[];
  readonly removals: readonly Step[];
}

/** Of what is pointed at first. */
const TABLES = ['matches', 'sources', 'dests', 'cidrs'] as const;

function sameEntry(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object') return false;
  if ('policy' in a)
    return 'policy' in b && a.policy === b.policy && a.flags === b.flags && a.rule === b.rule;
  return 'deny' in b && a.deny === b.deny && a.allow === b.allow && a.audit === b.audit;
}

const NONE: Entries = new Map();

/** Two versions of a BucketMap share the buckets that are equal. */
function changedParts(before: Entries, after: Entries): (readonly [Entries, Entries])[] {
  if (before === after) return [];
  if (!(before instanceof BucketMap) || !(after instanceof BucketMap)) return [[before, after]];
  const olds: readonly Entries[] = before.buckets;
  const news: readonly Entries[] = after.buckets;
  return olds.flatMap((old, index) => {
    const now = news[index] ?? NONE;
    return old === now ? [] : [[old, now] as const];
  });
}

function changed(before: Entries, after: Entries): Map<string, Entry> {
  const set = new Map<string, Entry>();
  for (const [old, now] of changedParts(before, after))
    for (const [key, entry] of now) if (!sameEntry(old.get(key), entry)) set.set(key, entry);
  return set;
}

function gone(before: Entries, after: Entries): string[] {
  return changedParts(before, after).flatMap(([old, now]) =>
    [...old.keys()].filter((key) => !now.has(key)),
  );
}

function sets(before: AclTables, after: AclTables): Step[] {
  return TABLES.flatMap((table): Step[] => {
    const set = changed(before[table], after[table]);
    return set.size === 0 ? [] : [{ table, set }];
  });
}

/** `between` is tablesBetween() of the same change as `after`. */
export function diffGeneration(
  before: AclTables,
  between: AclTables,
  after: AclTables,
): GenerationDiff {
  // Policies that only `between` does without are not dropped with it: they may be wanted again.
  const drops = TABLES.toReversed().flatMap((table): Step[] => {
    const drop = new Set([
      ...gone(before[table], after[table]),
      ...gone(between[table], after[table]),
    ]);
    return drop.size === 0 ? [] : [{ table, drop: [...drop] }];
  });
  return {
    additions: sets(before, between),
    removals: [...sets(between, after), ...drops],
  };
}

export function countWrites(steps: readonly Step[]): number {
  return steps.reduce((sum, step) => sum + ('set' in step ? step.set.size : step.drop.length), 0);
}
