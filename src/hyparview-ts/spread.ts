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

export class Spread {
  readonly #active: View;
  readonly #config: Config;
  readonly #effects: Effects;
  readonly #states: LinkStates;
  readonly #lazy = new Set<NodeId>();
  readonly #wanted = new Map<NodeId, Wanted>();
  /** The newest of each origin, so that nobody fills it. */
  readonly #outbox = new Map<NodeId, { readonly state: LinkState; readonly from: NodeId }>();
  readonly #goneSeconds: (state: LinkState) => number;

  constructor(
    active: View,
    config: Config,
    effects: Effects,
    states: LinkStates,
    goneSeconds: (state: LinkState) => number,
  ) {
    this.#goneSeconds = goneSeconds;
    this.#active = active;
    this.#config = config;
    this.#effects = effects;
    this.#states = states;
  }

  /** Records waiting to be passed on, and asked for soon. */
  get sizes(): { outbox: number; wanted: number } {
    return { outbox: this.#outbox.size, wanted: this.#wanted.size };
  }

  linkUp(id: NodeId): void {
    this.#lazy.delete(id);
  }

  linkDown(id: NodeId): void {
    this.#lazy.delete(id);
  }

  /** Passes a new record on. */
  pass(state: LinkState, from: NodeId, urgent: boolean, now: number): void {
    this.#outbox.delete(state.origin.id); // older: news that is out of date before it is out
    if (urgent) {
      const message = { type: 'states', purpose: 'urgent', states: [state] } as const;
      for (const peer of this.#active.peers) {
        if (peer.id !== from) this.#effects.send(peer, message, 'urgent');
      }
      return;
    }
    this.#outbox.set(state.origin.id, { state, from });
    this.#effects.wakeBy('flush', now + this.#config.flushMs);
  }

  onFlushTimer(): void {
    const outbox = [...this.#outbox.values()];
    this.#outbox.clear();
    for (const peer of this.#active.peers) {
      const states: LinkState[] = [];
      for (const { state, from } of outbox) if (from !== peer.id) states.push(state);
      if (!this.#lazy.has(peer.id)) this.send(peer, states, 'tree');
      else if (states.length > 0) this.#announce(peer, states);
    }
  }

  #announce(peer: Peer, states: readonly LinkState[]): void {
    const versions = states.map(({ origin, incarnation, sequence }) => {
      return { id: origin.id, incarnation, sequence };
    });
    this.#effects.send(peer, { type: 'versions', buckets: [], versions });
  }

  send(peer: Peer, states: readonly LinkState[], purpose: 'tree' | 'sync'): void {
    for (let at = 0; at < states.length; at += LIMITS.statesPerMessage) {
      const part = states.slice(at, at + LIMITS.statesPerMessage);
      const gone = part.map((state) => this.#goneSeconds(state));
      const isAnyGone = gone.some((seconds) => seconds > 0);
      const message = { type: 'states', purpose, states: part } as const;
      this.#effects.send(peer, isAnyGone ? { ...message, gone } : message);
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
      if (!this.#isMissing(version)) {
        this.#wanted.delete(id);
      } else if (deadline > now) {
        next = Math.min(next, deadline);
      } else {
        this.#wanted.delete(id);
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
