// How link states travel. Failure news goes at once along every link. All other news is gathered for `flushMs` and
// goes along a tree of its own, in Plumtree's way: whole records along eager links, their versions along lazy ones,
// and who misses a record after `graftFirstMs` asks for it. Its own tree, because many nodes publish at once, which
// disturbs a tree, and payloads should not pay for that.
import type { Config } from './config.ts';
import { LIMITS } from './config.ts';
import type { Effects } from './effects.ts';
import { isNewer } from './linkstate.ts';
import type { LinkState, LinkStates, Version } from './linkstate.ts';
import type { NodeId, Peer } from './types.ts';
import type { View } from './view.ts';

interface Wanted {
  readonly version: Version;
  readonly announcer: NodeId;
  readonly deadline: number;
}

interface Batch {
  readonly from: NodeId;
  readonly states: readonly LinkState[];
}

/** So many records in one flush are a storm: then one lazy link hears of them, the digests see to the rest. */
const STORM = 32; // a guess

export class Spread {
  readonly #active: View;
  readonly #config: Config;
  readonly #effects: Effects;
  readonly #states: LinkStates;
  readonly #lazy = new Set<NodeId>();
  readonly #wanted = new Map<NodeId, Wanted>();
  /** What came from whom since the last flush. */
  #outbox: Batch[] = [];
  #outboxSize = 0;
  /** Which lazy link hears of a storm. */
  #turn = 0;
  /** Undefined when none of them is gone. */
  readonly #goneSeconds: (states: readonly LinkState[]) => number[] | undefined;

  constructor(
    active: View,
    config: Config,
    effects: Effects,
    states: LinkStates,
    goneSeconds: (states: readonly LinkState[]) => number[] | undefined,
  ) {
    this.#goneSeconds = goneSeconds;
    this.#active = active;
    this.#config = config;
    this.#effects = effects;
    this.#states = states;
  }

  /** Records waiting to be passed on, and asked for soon. */
  get sizes(): { outbox: number; wanted: number } {
    return { outbox: this.#outboxSize, wanted: this.#wanted.size };
  }

  linkUp(id: NodeId): void {
    this.#lazy.delete(id);
  }

  linkDown(id: NodeId): void {
    this.#lazy.delete(id);
  }

  /** Passes new records on. */
  pass(states: readonly LinkState[], from: NodeId, urgent: boolean, now: number): void {
    if (states.length === 0) return;
    if (urgent) {
      const message = { type: 'states', purpose: 'urgent', states } as const;
      for (const peer of this.#active.peers) {
        if (peer.id !== from) this.#effects.send(peer, message, 'urgent');
      }
      return;
    }
    this.#outbox.push({ from, states });
    this.#outboxSize += states.length;
    // so that nobody fills it
    if (this.#outboxSize > 2 * this.#config.statesMax) this.#dropOld();
    this.#effects.wakeBy('flush', now + this.#config.flushMs);
  }

  /** Leaves only what is still the newest of its origin. */
  #dropOld(): void {
    this.#outboxSize = 0;
    this.#outbox = this.#outbox.map(({ from, states }) => {
      const newest = states.filter((state) => this.#states.get(state.origin.id)?.state === state);
      this.#outboxSize += newest.length;
      return { from, states: newest };
    });
    this.#outbox = this.#outbox.filter(({ states }) => states.length > 0);
  }

  onFlushTimer(): void {
    this.#dropOld();
    const outbox = this.#outbox;
    const isStorm = this.#outboxSize > STORM;
    this.#outbox = [];
    this.#outboxSize = 0;
    const lazy: Peer[] = [];
    for (const peer of this.#active.peers) {
      if (this.#lazy.has(peer.id)) lazy.push(peer);
      else this.send(peer, statesFor(peer, outbox), 'tree');
    }
    if (lazy.length === 0) return;
    this.#turn = (this.#turn + 1) % lazy.length;
    for (const [i, peer] of lazy.entries()) {
      if (!isStorm || i === this.#turn) this.#announce(peer, statesFor(peer, outbox));
    }
  }

  #announce(peer: Peer, states: readonly LinkState[]): void {
    if (states.length === 0) return;
    const versions = states.map(({ origin, incarnation, sequence }) => {
      return { id: origin.id, incarnation, sequence };
    });
    this.#effects.send(peer, { type: 'versions', buckets: [], versions });
  }

  send(peer: Peer, states: readonly LinkState[], purpose: 'tree' | 'sync'): void {
    for (let at = 0; at < states.length; at += LIMITS.statesPerMessage) {
      const part = states.slice(at, at + LIMITS.statesPerMessage);
      const gone = this.#goneSeconds(part);
      const message = { type: 'states', purpose, states: part } as const;
      this.#effects.send(peer, gone === undefined ? message : { ...message, gone });
    }
  }

  /** Everything in it was known: this link is not part of the tree. */
  redundant(from: Peer): void {
    if (!this.#active.has(from.id)) return;
    this.#lazy.add(from.id);
    this.#effects.send(from, { type: 'prune', states: true });
  }

  onPrune(from: Peer): void {
    if (this.#active.has(from.id)) this.#lazy.add(from.id);
  }

  onAnnounced(from: Peer, versions: readonly Version[], now: number): void {
    for (const version of versions) {
      if (!this.#isMissing(version)) continue;
      const wanted = this.#wanted.get(version.id);
      if (wanted !== undefined && !isNewer(version, wanted.version)) continue;
      if (wanted === undefined && this.#wanted.size >= this.#config.statesMax) return;
      const deadline = now + this.#config.graftFirstMs;
      this.#wanted.delete(version.id); // so that the first is always the one due first
      this.#wanted.set(version.id, { version, announcer: from.id, deadline });
      this.#effects.wakeBy('want', deadline);
    }
  }

  #isMissing(version: Version): boolean {
    const own = this.#states.get(version.id)?.state;
    return own === undefined ? !this.#states.isFull() : isNewer(version, own);
  }

  onWantTimer(now: number): void {
    let next = Infinity;
    const asks = new Map<NodeId, NodeId[]>();
    for (const [id, { version, announcer, deadline }] of this.#wanted) {
      if (deadline > now) {
        next = deadline;
        break;
      }
      this.#wanted.delete(id);
      if (this.#isMissing(version)) {
        const ids = asks.get(announcer);
        if (ids === undefined) asks.set(announcer, [id]);
        else ids.push(id);
      }
    }
    for (const [announcer, ids] of asks) {
      const peer = this.#active.get(announcer);
      if (peer === undefined) continue;
      this.#lazy.delete(announcer);
      this.#effects.send(peer, { type: 'want', graft: true, ids });
    }
    if (next < Infinity) this.#effects.wakeBy('want', next);
  }

  onWant(from: Peer, ids: readonly NodeId[], graft: boolean): void {
    if (graft) this.#lazy.delete(from.id);
    const found: LinkState[] = [];
    for (const id of new Set(ids)) {
      const state = this.#states.get(id)?.state;
      if (state !== undefined) found.push(state);
    }
    this.send(from, found, 'sync');
  }
}

function statesFor({ id }: Peer, outbox: readonly Batch[]): LinkState[] {
  const states: LinkState[] = [];
  for (const batch of outbox) {
    if (batch.from !== id) for (const state of batch.states) states.push(state);
  }
  return states;
}
