// Plumtree: payloads along the eager links, which form a tree; announcements along all others, which mend it.
// Leitão, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007. Departures:
// - announcements are gathered per link for `lazyMs` at most, and left out where the peer announces the same first;
// - a new neighbour, and now and then a random one, is told what is in the cache, so that a message lost on every link
//   at once, or sent before a partition healed, still arrives;
// - a message older than what is remembered of its origin is refused: a replay is never delivered twice. So that nobody
//   makes a node old by a number that it has not come to, who meets such a number of its own begins another life.
import { LIMITS } from './config.ts';
import type { Config } from './config.ts';
import type { Effects } from './effects.ts';
import { Floors, parseBroadcastId } from './floors.ts';
import { below, unit } from './random.ts';
import type { Random } from './random.ts';
import type { Announcement, BroadcastId, MessageOf, NodeId, Peer, Priority } from './types.ts';
import type { View } from './view.ts';

interface Cached {
  readonly message: MessageOf<'gossip'>;
  readonly at: number;
  readonly from: NodeId | undefined;
  compared: boolean;
}

interface Missing {
  /** Who announced it, in order; the first is asked first. */
  readonly announcers: { readonly peer: NodeId; readonly hop: number }[];
  /** On whose account it is. */
  readonly first: NodeId;
  deadline: number;
}

export type Refusal = 'payload too large' | 'nothing to send';

/** Most messages heard of but not had; a peer that announces what it never sends cannot take more. */
const MISSING_MAX = 8192;
/** And by one neighbour alone, so that the others are still heard. */
const MISSING_OF_ONE_MAX = 2048; // a guess
const ANNOUNCERS_MAX = 8;

/** Of each origin, as multicast.ts has them. */
export interface Trees {
  /** Who gets its payloads from here; undefined when its tree is not known. */
  children(origin: NodeId): ReadonlySet<NodeId> | undefined;
  /** Whether the link to this neighbour could be in a tree. */
  has(neighbour: NodeId): boolean;
}

export class Plumtree {
  readonly #lazy = new Set<NodeId>();
  readonly #seen = new Map<BroadcastId, number>();
  readonly #cache = new Map<BroadcastId, Cached>();
  readonly #missing = new Map<BroadcastId, Missing>();
  readonly #missingOf = new Map<NodeId, number>();
  readonly #queues = new Map<NodeId, Map<BroadcastId, Announcement>>();
  readonly #floors = new Floors();
  #cacheBytes = 0;
  /** What the ids of this node's broadcasts begin with. */
  #life: string;
  #sequence = 0;
  #wakeLazy = false;

  readonly #newLife: () => string;
  readonly #active: View;
  readonly #config: Config;
  readonly #random: Random;
  readonly #effects: Effects;
  readonly #trees: Trees;

  constructor(
    newLife: () => string,
    active: View,
    config: Config,
    random: Random,
    effects: Effects,
    trees: Trees,
  ) {
    this.#newLife = newLife;
    this.#life = newLife();
    this.#trees = trees;
    this.#active = active;
    this.#config = config;
    this.#random = random;
    this.#effects = effects;
  }

  isEager(id: NodeId): boolean {
    return this.#active.has(id) && !this.#lazy.has(id);
  }

  get sizes(): {
    seen: number;
    cache: number;
    cacheBytes: number;
    missing: number;
    announcing: number;
  } {
    return {
      seen: this.#seen.size,
      cache: this.#cache.size,
      cacheBytes: this.#cacheBytes,
      missing: this.#missing.size,
      announcing: this.#queues.size,
    };
  }

  linkUp(peer: Peer, now: number): void {
    this.#lazy.delete(peer.id);
    this.#queues.delete(peer.id); // all of it is in the cache
    this.#announceCache(peer, now);
  }

  linkDown(id: NodeId): void {
    this.#lazy.delete(id);
    this.#queues.delete(id);
    for (const { announcers } of this.#missing.values()) {
      const at = announcers.findIndex(({ peer }) => peer === id);
      if (at >= 0) announcers.splice(at, 1);
    }
  }

  /** Sends to every node; returns why not. */
  broadcast(self: Peer, payload: Uint8Array, priority: Priority, now: number): Refusal | undefined {
    if (payload.length > this.#config.payloadBytesMax) return 'payload too large';
    if (payload.length === 0) return 'nothing to send';
    this.#sequence += 1;
    const id = `${this.#life} ${this.#sequence.toString(36)}`;
    const message = { type: 'gossip', id, hop: 0, priority, payload } as const;
    this.#accept(message, undefined, now);
    this.#push(message, undefined);
    this.#effects.event({ type: 'delivered', id, origin: self.id, hop: 0, payload });
    return undefined;
  }

  onGossip(from: Peer, message: MessageOf<'gossip'>, now: number): void {
    if (this.#seen.has(message.id)) {
      if (this.#prunes(message.id)) this.prune(from);
      return;
    }
    const parsed = parseBroadcastId(message.id);
    if (parsed === undefined) return;
    // also by what is refused here: others may take it
    if (parsed.life === this.#life && parsed.sequence > this.#sequence) this.#beginAnew();
    if (message.payload.length > this.#config.payloadBytesMax) return;
    if (this.#floors.isOld(parsed)) return;
    const hop = Math.min(message.hop + 1, LIMITS.hop);
    const better = this.#betterAnnouncer(message.id, hop);
    this.#found(message.id);
    const own = { ...message, hop };
    this.#accept(own, from.id, now);
    this.#lazy.delete(from.id);
    this.#push(own, from.id);
    if (better !== undefined && better !== from.id && this.#prunes(message.id))
      this.#optimise(better, from, hop);
    const { id, payload } = message;
    this.#effects.event({ type: 'delivered', id, origin: parsed.origin, hop, payload });
  }

  /** Once others have forgotten the id, this life's own numbers would be old to them until it comes to that one. */
  #beginAnew(): void {
    this.#life = this.#newLife();
    this.#sequence = 0;
  }

  /** An announcer so much nearer the origin that the tree should go through it (paper, section 3.8). */
  #betterAnnouncer(id: BroadcastId, hop: number): NodeId | undefined {
    const announcers = this.#missing.get(id)?.announcers ?? [];
    let best: NodeId | undefined;
    let bestHop = hop - this.#config.hopGainMin;
    for (const { peer, hop: theirs } of announcers) {
      if (theirs + 1 > bestHop) continue;
      best = peer;
      bestHop = theirs + 1;
    }
    return best;
  }

  #optimise(better: NodeId, worse: Peer, hop: number): void {
    const peer = this.#active.get(better);
    if (peer === undefined) return;
    this.#lazy.delete(better);
    this.#effects.send(peer, { type: 'graft', id: '', hop }); // the payload is here: only the link is wanted
    this.prune(worse);
  }

  /** This link is not needed for payloads. */
  prune(peer: Peer): void {
    if (!this.#active.has(peer.id)) return;
    this.#lazy.add(peer.id);
    this.#effects.send(peer, { type: 'prune', states: false });
  }

  onPrune(from: Peer): void {
    if (this.#active.has(from.id)) this.#lazy.add(from.id);
  }

  onIHave(from: Peer, announcements: readonly Announcement[], now: number): void {
    for (const { id, hop } of announcements) {
      if (this.#seen.has(id)) {
        this.#queues.get(from.id)?.delete(id);
        this.#compare(from, hop, this.#cache.get(id));
        continue;
      }
      const parsed = parseBroadcastId(id);
      if (parsed === undefined || this.#floors.isOld(parsed)) continue;
      let missing = this.#missing.get(id);
      if (missing === undefined) {
        const others = this.#missingOf.get(from.id) ?? 0;
        if (this.#missing.size >= MISSING_MAX || others >= MISSING_OF_ONE_MAX) return;
        const { graftFirstMs, lazyMs } = this.#config;
        missing = {
          announcers: [],
          first: from.id,
          deadline: now + Math.max(0, graftFirstMs - lazyMs),
        };
        this.#missing.set(id, missing);
        this.#missingOf.set(from.id, others + 1);
        this.#effects.wakeBy('graft', missing.deadline);
      }
      const { announcers } = missing;
      if (announcers.length >= ANNOUNCERS_MAX || announcers.some(({ peer }) => peer === from.id))
        continue;
      announcers.push({ peer: from.id, hop });
    }
  }

  onGraft(from: Peer, { id }: MessageOf<'graft'>): void {
    this.#lazy.delete(from.id);
    const cached = this.#cache.get(id);
    if (cached !== undefined) this.#effects.send(from, cached.message, cached.message.priority);
  }

  onGraftTimer(now: number): void {
    let next = Infinity;
    for (const [id, missing] of this.#missing) {
      if (missing.deadline <= now && !this.#graftNext(id, missing, now)) this.#found(id);
      else next = Math.min(next, missing.deadline);
    }
    if (next < Infinity) this.#effects.wakeBy('graft', next);
  }

  /** Or given up. */
  #found(id: BroadcastId): void {
    const missing = this.#missing.get(id);
    if (missing === undefined) return;
    this.#missing.delete(id);
    const others = (this.#missingOf.get(missing.first) ?? 1) - 1;
    if (others > 0) this.#missingOf.set(missing.first, others);
    else this.#missingOf.delete(missing.first);
  }

  #graftNext(id: BroadcastId, missing: Missing, now: number): boolean {
    for (;;) {
      const announcer = missing.announcers.shift();
      if (announcer === undefined) return false;
      const peer = this.#active.get(announcer.peer);
      if (peer === undefined) continue;
      this.#lazy.delete(peer.id);
      this.#effects.send(peer, { type: 'graft', id, hop: announcer.hop });
      missing.deadline = now + this.#config.graftNextMs;
      return true;
    }
  }

  /** An announcement after the payload: it may still show a much shorter way (the paper looks only at earlier ones). */
  #compare(announcer: Peer, theirHop: number, cached: Cached | undefined): void {
    if (cached === undefined || cached.compared || cached.from === undefined) return;
    const { hop } = cached.message;
    if (theirHop + 1 > hop - this.#config.hopGainMin) return;
    cached.compared = true;
    const worse = this.#active.get(cached.from);
    if (worse === undefined || worse.id === announcer.id || !this.isEager(worse.id)) return;
    if (!this.#prunes(cached.message.id)) return;
    this.#optimise(announcer.id, worse, hop);
  }

  #accept(message: MessageOf<'gossip'>, from: NodeId | undefined, now: number): void {
    this.#seen.set(message.id, now);
    this.#cache.set(message.id, { message, at: now, from, compared: false });
    this.#cacheBytes += message.payload.length;
    this.#trim(now);
    this.#effects.wakeBy('evict', now + this.#config.cacheMs);
  }

  #push(message: MessageOf<'gossip'>, from: NodeId | undefined): void {
    const isEager = this.#eager(message);
    for (const peer of this.#active.peers) {
      if (peer.id === from) continue;
      if (isEager(peer.id)) this.#effects.send(peer, message, message.priority);
      else this.#announce(peer.id, { id: message.id, hop: message.hop });
    }
  }

  /** Of the origin's own tree; undefined when there is none, and Plumtree's serves. */
  #children(id: BroadcastId): ReadonlySet<NodeId> | undefined {
    if (this.#config.broadcast !== 'source-tree') return undefined;
    return this.#trees.children(parseBroadcastId(id)?.origin ?? '');
  }

  #prunes(id: BroadcastId): boolean {
    return this.#config.broadcast !== 'flood' && this.#children(id) === undefined;
  }

  #eager(message: MessageOf<'gossip'>): (id: NodeId) => boolean {
    if (this.#config.broadcast === 'flood') return () => true;
    const children = this.#children(message.id);
    if (children === undefined) return (id) => !this.#lazy.has(id);
    return (id) => children.has(id) || !this.#trees.has(id);
  }

  /** Called at the end of each input: one timer for all queued announcements. */
  settle(now: number): void {
    if (!this.#wakeLazy) return;
    this.#wakeLazy = false;
    // at another time than the other end of the link: one of the two is enough
    const lazyMs = this.#config.lazyMs * (0.5 + unit(this.#random) / 2);
    this.#effects.wakeBy('lazy', now + lazyMs);
  }

  #announce(to: NodeId, announcement: Announcement): void {
    this.#wakeLazy = true;
    const queue = this.#queues.get(to);
    if (queue === undefined) this.#queues.set(to, new Map([[announcement.id, announcement]]));
    else if (queue.size < this.#config.cacheMessagesMax) queue.set(announcement.id, announcement);
  }

  onLazyTimer(): void {
    for (const [id, queue] of this.#queues) {
      const peer = this.#active.get(id);
      if (peer === undefined) continue;
      const announcements = [...queue.values()];
      const { announcementsMax } = this.#config;
      for (let at = 0; at < announcements.length; at += announcementsMax) {
        const part = announcements.slice(at, at + announcementsMax);
        this.#effects.send(peer, { type: 'ihave', announcements: part });
      }
    }
    this.#queues.clear();
  }

  #announceCache(peer: Peer, now: number): void {
    for (const [id, { message, at }] of this.#cache) {
      if (now - at > this.#config.cacheMs) continue;
      this.#announce(peer.id, { id, hop: message.hop });
    }
  }

  /** Every third of the cache's time: forgets what is old, and tells a random neighbour what is left. */
  onEvictTimer(now: number): void {
    this.#trim(now);
    if (this.#cache.size > 0) {
      const peer = this.#active.peers[below(this.#random, Math.max(1, this.#active.size))];
      if (peer !== undefined && this.#config.broadcast !== 'flood') this.#announceCache(peer, now);
    }
    if (this.#seen.size > 0) this.#effects.wakeBy('evict', now + this.#config.cacheMs / 3);
  }

  #trim(now: number): void {
    const { cacheMs, cacheMessagesMax, cacheBytesMax, seenMs, seenMax } = this.#config;
    for (const [id, { message, at }] of this.#cache) {
      const fits = this.#cache.size <= cacheMessagesMax && this.#cacheBytes <= cacheBytesMax;
      if (fits && now - at < cacheMs) break;
      this.#cache.delete(id);
      this.#cacheBytes -= message.payload.length;
    }
    for (const [id, at] of this.#seen) {
      if (this.#seen.size <= seenMax && now - at < seenMs) break;
      this.#seen.delete(id);
      const parsed = parseBroadcastId(id);
      if (parsed !== undefined) this.#floors.raise(parsed);
    }
  }
}
