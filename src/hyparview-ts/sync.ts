// Anti-entropy of link states. Pings carry a digest of all a node knows; where two digests stay different, the nodes
// compare 64 buckets, then the versions in the differing ones, and send each other what is newer.
// Bounded: one exchange begun every `syncMs`, whatever the peers say.
import type { Config } from './config.ts';
import type { Effects } from './effects.ts';
import { isNewer } from './linkstate.ts';
import type { LinkState } from './linkstate.ts';
import { LIMITS } from './config.ts';
import type { Members } from './members.ts';
import type { MessageOf, NodeId, Peer, Priority } from './types.ts';

export class Sync {
  #nextAt = 0;
  #newLinks: Peer[] = [];
  /** Differing digests seen in a row, by peer. */
  readonly #differs = new Map<NodeId, number>();

  readonly #members: Members;
  readonly #config: Config;
  readonly #effects: Effects;

  constructor(members: Members, config: Config, effects: Effects) {
    this.#members = members;
    this.#config = config;
    this.#effects = effects;
  }

  linkUp(peer: Peer, now: number): void {
    if (!this.#config.linkState) return;
    if (now >= this.#nextAt) this.#begin(peer, now);
    else if (this.#newLinks.length < 8) this.#newLinks.push(peer);
  }

  linkDown(id: NodeId): void {
    this.#differs.delete(id);
    this.#newLinks = this.#newLinks.filter((peer) => peer.id !== id);
  }

  /** News on its way makes digests differ for a moment; twice in a row means that something was lost. */
  onDigest(from: Peer, digest: number, now: number): void {
    if (!this.#config.linkState) return;
    if (digest === this.#members.states.digest) {
      this.#differs.delete(from.id);
      return;
    }
    const times = (this.#differs.get(from.id) ?? 0) + 1;
    this.#differs.set(from.id, times);
    const isNew = this.#newLinks.some(({ id }) => id === from.id);
    if ((times >= 3 || isNew) && now >= this.#nextAt) this.#begin(from, now);
  }

  #begin(peer: Peer, now: number): void {
    const { syncMs, publishPerNodeMs } = this.#config;
    this.#nextAt = now + Math.max(syncMs, publishPerNodeMs * this.#members.states.size);
    this.#newLinks = this.#newLinks.filter(({ id }) => id !== peer.id);
    this.#differs.delete(peer.id);
    this.#send(peer, { type: 'sync', buckets: [...this.#members.states.buckets] });
  }

  onSync(from: Peer, { buckets }: MessageOf<'sync'>): void {
    const differing = new Set<number>();
    const empty = new Set<number>();
    const { states } = this.#members;
    for (let i = 0; i < LIMITS.buckets; i++) {
      if (buckets[i] === states.buckets[i]) continue;
      // of a bucket that the other has nothing in, it needs no versions: a newcomer gets all at once
      if (buckets[i] === 0) empty.add(i);
      else differing.add(i);
    }
    if (empty.size > 0) this.#members.spread.send(from, states.inBuckets(empty), 'sync');
    if (differing.size === 0) return;
    const versions = states.versions(differing).slice(0, LIMITS.versionsPerMessage);
    this.#send(from, { type: 'versions', buckets: [...differing], versions });
  }

  onVersions(from: Peer, { buckets, versions }: MessageOf<'versions'>, now: number): void {
    if (!this.#config.linkState) return;
    const { states } = this.#members;
    this.#members.outdo(versions, now);
    const theirs = new Map(versions.map((version) => [version.id, version]));
    const newer: LinkState[] = [];
    for (const { id } of states.versions(new Set(buckets))) {
      const own = states.get(id)?.state;
      const version = theirs.get(id);
      if (own !== undefined && (version === undefined || isNewer(own, version))) newer.push(own);
    }
    this.#members.spread.send(from, newer, 'sync');
    const want: NodeId[] = [];
    for (const version of theirs.values()) {
      const own = states.get(version.id)?.state;
      if (own === undefined ? !states.isFull() : isNewer(version, own)) want.push(version.id);
    }
    if (want.length > 0) this.#send(from, { type: 'want', graft: false, ids: want });
  }

  #send(to: Peer, message: MessageOf<'sync' | 'versions' | 'want'>): void {
    const priority: Priority = 'normal';
    this.#effects.send(to, message, priority);
  }
}
