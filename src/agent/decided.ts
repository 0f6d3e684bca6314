/** Changes that were decided here. */
import type { Change } from '../state/records.ts';

/** Makes nothing that was not there. */
export function takesAway({ kind }: Change): boolean {
  return kind.startsWith('remove-');
}

/** Whether the documents say what was decided: lists in any order, and nothing of others among it. */
export function isSame(a: readonly Change[], b: readonly Change[]): boolean {
  if (a.length !== b.length) return false;
  const texts = new Set(a.map((change) => JSON.stringify(change)));
  return b.every((change) => texts.has(JSON.stringify(change)));
}
