/**
 * When not everything fits into the kernel's tables: as much of it as does, so that one service with
 * too many backends, or too many services, keep no other one from changing. Knows names only.
 */
import { ProblemError, whyText } from '../../state/problem.ts';

/** Plans that may fail before the rest waits for the next time. A guess: one of 10,000 services is found in 14. */
const FAILURES_MAX = 40;
/** Of services, in a sentence. */
const NAMED_MAX = 5;

/** Applies all of `names` or, throwing ProblemError, none. */
export type Apply = (names: readonly string[]) => Promise<void>;

/** Those that were not applied, one of `lists` after the other; halves of what does not fit are tried. */
export async function applyWhatFits(
  lists: readonly (readonly string[])[],
  apply: Apply,
): Promise<ReadonlySet<string>> {
  const left = new Set(lists.flat());
  let failures = 0;
  const halve = async (names: readonly string[]): Promise<void> => {
    if (names.length === 0 || failures >= FAILURES_MAX) return;
    try {
      await apply(names);
      for (const name of names) left.delete(name);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      failures += 1;
      if (names.length === 1) return;
      const middle = names.length >> 1;
      await halve(names.slice(0, middle));
      await halve(names.slice(middle));
    }
  };
  for (const names of lists) await halve(names);
  return left;
}

/** In a sentence, for people. */
export function unfitText(names: Iterable<string>, error: unknown): string {
  const all = [...names].toSorted();
  const some = all.slice(0, NAMED_MAX).join(', ');
  const who = all.length > NAMED_MAX ? `${some}, …` : some;
  const count = all.length === 1 ? '1 service is' : `${all.length} services are`;
  return `${count} not as the cluster has it (${who}): ${whyText(error)}`;
}
