/**
 * A replica's entries as those of another writer: for a host that joins or leaves a cluster. Not for
 * one that was set back: what others have changed or removed since would be said anew.
 *
 * Only what is read stays: of writes made at once, the newest. Never touches the old replica.
 */
import { documentOf, Replica, SHARED, type Update, type Write } from './replica.ts';

export interface Rebase {
  /** The own document becomes the one of this node. */
  readonly node: string;
  /**
   * `keep`: written afresh, now. `oldest`: with stamps older than any, so that whatever a cluster has
   * wins. `drop`: gone.
   */
  readonly shared: 'keep' | 'oldest' | 'drop';
  readonly nowMs: number;
  /** Of this one, which an earlier rebase took the place of: to take that back. */
  readonly from?: Replica;
}

/** Of a cluster and its members; they mean nothing in another. */
const OF_MEMBERS = /^(?:gone|missed|revocation|node)\//;

/** A transaction may not have more than LIMITS.writesPerTransactionMax. */
const WRITES_AT_ONCE = 100_000;

export function transactAll(replica: Replica, writes: readonly Write[], nowMs: number): void {
  for (let from = 0; from < writes.length; from += WRITES_AT_ONCE)
    replica.transact(writes.slice(from, from + WRITES_AT_ONCE), nowMs);
}

export function rebased(old: Replica, writer: number, { node, shared, nowMs }: Rebase): Replica {
  const clock = old.clockState();
  const updates: Update[] = [];
  const isOther = node !== old.node;
  const entriesOf = (document: Write['document'], id: string): readonly Write[] =>
    [...old.winners(id)].flatMap(({ key }) =>
      isOther && OF_MEMBERS.test(key) ? [] : [{ document, key, value: old.get(id, key) }],
    );
  if (shared !== 'drop') {
    const fresh = Replica.open(
      { node, writer },
      { clock: shared === 'keep' ? clock : '', updates },
    );
    transactAll(fresh, entriesOf('shared', SHARED), shared === 'keep' ? nowMs : 0);
    updates.push(fresh.whole(SHARED));
  }
  if (!isOther) {
    const others = old.documents().filter((id) => id !== SHARED && id !== old.own);
    updates.push(...others.map((id) => old.whole(id)));
  }
  const replica = Replica.open({ node, writer }, { clock, updates });
  transactAll(replica, entriesOf('own', documentOf(old.node)), nowMs);
  return replica;
}
