/**
 * The key-value store as the API asks for it: reads, transactions, and followers that are told of
 * every change, whoever made it. Keeps nothing but its followers; the values are the replica's.
 */
import { isBelow, isOfType, LEAF_TYPES, type KvEntry, type KvLeaf } from './kv-text.ts';
import { ProblemError } from './problem.ts';
import type { Kv, KvChange, KvField, KvOperation, KvType, Path } from './replica/kv.ts';
import { WriteError, type Changed, type Write } from './replica/replica.ts';

/** What the agent lends it. */
export interface KvHost {
  /** Another one after a rebase. */
  kv(): Kv;
  /** Runs `work` while nothing else is changed. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Stores, spreads, and hands to changed(), at once; throws ProblemError with nothing changed. */
  write(writes: readonly Write[]): readonly Changed[];
}

interface Follower {
  readonly root: Path;
  readonly sink: (change: KvChange) => void;
}

/** By path, name by name, then as in LEAF_TYPES. */
function inOrder(a: KvEntry, b: KvEntry): number {
  const at = a.path.findIndex((name, i) => name !== b.path[i]);
  const [mine, other] = [a.path[at] ?? '', b.path[at]];
  if (at >= 0 && other !== undefined) return mine < other ? -1 : 1;
  const shorter = a.path.length - b.path.length;
  return shorter === 0
    ? LEAF_TYPES.indexOf(a.value.type) - LEAF_TYPES.indexOf(b.value.type)
    : shorter;
}

function entriesOf(fields: readonly KvField[], at: Path): readonly KvEntry[] {
  return fields.flatMap(({ name, value }) => {
    const path = [...at, name];
    return value.type === 'map' ? entriesOf(value.fields, path) : [{ path, value }];
  });
}

/** What a write cannot be is the caller's fault. */
function explained<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof WriteError)) throw error;
    throw new ProblemError([{ code: 'invalid', message: error.message }], { cause: error });
  }
}

export class KvStore {
  readonly #host: KvHost;
  readonly #followers = new Set<Follower>();

  constructor(host: KvHost) {
    this.#host = host;
  }

  /** What is at `path`, then what is below it. With a type only that at `path`; `map`: all below. */
  read(path: Path, type?: KvType): readonly KvEntry[] {
    const kv = this.#host.kv();
    const entries = explained(() => {
      if (path.length === 0) return entriesOf(kv.all(), path);
      const here = LEAF_TYPES.flatMap((leaf) => {
        const value = kv.get(path, leaf) as KvLeaf | undefined;
        return value === undefined ? [] : [{ path, value }];
      });
      const map = kv.get(path, 'map');
      return [...here, ...(map?.type === 'map' ? entriesOf(map.fields, path) : [])];
    });
    return entries
      .filter((entry) => isOfType(entry.path, entry.value.type, path, type))
      .toSorted(inOrder);
  }

  /** All of it or nothing; rejects with ProblemError. */
  write(operations: readonly KvOperation[]): Promise<readonly KvChange[]> {
    return this.#host.exclusive(async () => {
      const writes = explained(() => this.#host.kv().writes(operations));
      const changed = explained(() => this.#host.write(writes));
      return await Promise.resolve(this.#host.kv().changes(changed));
    });
  }

  follow(root: Path, sink: (change: KvChange) => void): () => void {
    const follower = { root, sink };
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }

  /** To be called after every call of the replica that changed something, before the next one. */
  changed(changed: readonly Changed[]): void {
    if (this.#followers.size > 0) this.#tell(this.#host.kv().changes(changed));
  }

  /** Runs what puts another Kv in the place of this one, and tells what is different afterwards. */
  replaced(work: () => void): void {
    const before = this.#followers.size > 0 ? this.read([]) : [];
    work();
    if (this.#followers.size > 0) this.#tell(differences(before, this.read([])));
  }

  #tell(changes: readonly KvChange[]): void {
    for (const change of changes)
      for (const { root, sink } of this.#followers) if (isBelow(change.path, root)) sink(change);
  }
}

function differences(was: readonly KvEntry[], is: readonly KvEntry[]): readonly KvChange[] {
  const keyOf = ({ path, value }: KvEntry): string => JSON.stringify([path, value.type]);
  const [before, after] = [was, is].map(
    (entries) => new Map(entries.map((entry) => [keyOf(entry), entry] as const)),
  ) as [Map<string, KvEntry>, Map<string, KvEntry>];
  const changes: KvChange[] = [];
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const [old, young] = [before.get(key), after.get(key)];
    const { path, value } = young ?? old ?? { path: [], value: undefined };
    if (value === undefined || JSON.stringify(old) === JSON.stringify(young)) continue;
    changes.push({ path, type: value.type, before: old?.value, after: young?.value });
  }
  return changes;
}
