/**
 * Hosts that lost their state, or never had it yet. Each says so in its own document until it has
 * what another one has: a document is equal with a neighbour's only with that word in it, so no
 * blank host takes another one for full. It stays there over a crash.
 */
import { documentOf, type Replica, type Write } from '../state/replica/replica.ts';

const BLANK_KEY = 'node/blank';

/** `known`: node ids of those that may have a state. */
export function blankWrite(known: Iterable<string>): Write {
  const value = JSON.stringify([...new Set(known)].toSorted());
  return { document: 'own', key: BLANK_KEY, value };
}

export const FULL_WRITE: Write = { document: 'own', key: BLANK_KEY, value: undefined };

export function isBlank(replica: Replica, node: string): boolean {
  return replica.get(documentOf(node), BLANK_KEY) !== undefined;
}

/** Who may have a state: of all that are known here, and of all whom those knew that are blank. */
export function mayHaveState(replica: Replica, known: Iterable<string>): readonly string[] {
  const all = new Set(known);
  const full: string[] = [];
  // Those that are added are visited as well.
  for (const node of all) {
    const value = replica.get(documentOf(node), BLANK_KEY);
    if (value === undefined) full.push(node);
    else for (const other of idsOf(value)) all.add(other);
  }
  return full;
}

/** Others wrote it. */
function idsOf(json: string): readonly string[] {
  try {
    const ids: unknown = JSON.parse(json);
    return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string') : [];
  } catch {
    return [];
  }
}
