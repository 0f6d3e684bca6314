/** The key-value store over a replica in memory: no disk, no kernel, nobody else. */
import { KvStore } from '../../../src/state/kv.ts';
import { Kv } from '../../../src/state/replica/kv.ts';
import { Replica, type Changed, type Update } from '../../../src/state/replica/replica.ts';

export class FakeKv extends KvStore {
  readonly replica: Replica;
  readonly kv: Kv;
  /** What has been written here, for another one's receive(). */
  readonly updates: Update[] = [];

  constructor(writer = 1) {
    const replica = Replica.open({ node: `n${writer}`, writer });
    const kv = new Kv(replica);
    let nowMs = writer;
    super({
      kv: () => kv,
      exclusive: (work) => work(),
      write: (writes): readonly Changed[] => {
        const { changed, updates } = replica.transact(writes, ++nowMs);
        this.updates.push(...updates);
        this.changed(changed);
        return changed;
      },
    });
    this.replica = replica;
    this.kv = kv;
  }

  /** As if it came from the network. */
  receive(update: Update): void {
    this.changed(this.replica.receive(update, 1000).changed);
  }
}
