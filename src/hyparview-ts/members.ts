// Who exists, who is reachable, and by which path: every node says whom it is linked to, everybody keeps what all say.
// A node nobody reachable vouches for is dead, or cut off, which looks the same from here; it is probed until it is
// back or forgotten (rejoin.ts). spread.ts passes the news on; sync.ts finds what was lost on the way.
import { LIMITS } from './config.ts';
import type { Config } from './config.ts';
import type { Effects } from './effects.ts';
import { isNewer, LinkStates } from './linkstate.ts';
import type { LinkRecord, LinkState, Version } from './linkstate.ts';
import type { Names } from './names.ts';
import { NumberSet } from './numberset.ts';
import { Routes } from './routes.ts';
import type { Change } from './routes.ts';
import type { Random } from './random.ts';
import type { MessageOf, NodeId, Peer } from './types.ts';
import { Spread } from './spread.ts';
import type { View } from './view.ts';

export type Standing = 'unknown' | 'alive' | 'dead' | 'left';

interface Gone {
  readonly since: number;
  readonly left: boolean;
}

export interface MembersHooks {
  incarnation(): number;
  raiseIncarnation(above: number): void;
}

/** So many changed records are no longer single events but a storm: paths are then computed less often. */
const BATCH = 32; // a guess
const ROUTES_SLOW_MS = 500; // a guess
/** With more nodes a search takes longer, and comes later. */
const ROUTES_SLOW_PER_NODE_MS = 0.2; // a guess: two seconds with 10,000 nodes
/** So many pieces of failure news are looked at one by one in this time; the rest is gathered. */
const URGENT_MAX = 32; // a guess
const URGENT_WINDOW_MS = 100; // a guess
/** So many records of one node may follow each other at once, before they are paced. */
const BURST = 4; // a guess
/** The same for the records of all nodes together. */
const BURST_OF_ALL = 2000; // a guess
/** From this part of statesMax on, the longest dead make room for the living. */
const CROWDED = 15 / 16; // a guess
/** Who was never reachable from here may be made up: it is knocked at for so many rejoinPeriodMs, and forgotten. */
const STRANGER_PERIODS = 2; // a guess
/** How often what is dead for long is looked for, to forget it. */
const FORGET_CHECK_MS = 60_000;

export class Members {
  readonly states: LinkStates;
  readonly routes: Routes;
  readonly spread: Spread;
  readonly #index: number;
  readonly #alive = new NumberSet();
  /** Found unreachable at that time, and not yet called dead. */
  readonly #doubtful = new Map<number, number>();
  readonly #gone = new Map<number, Gone>();
  /** Those of the gone that were never reachable from here: they are the first to make room. */
  readonly #strangers = new Set<number>();
  /** Since when others hold a node for gone that is not yet judged here. */
  readonly #goneElsewhere = new Map<number, number>();
  /** Records not yet in the paths, with what they were when the paths were last computed. */
  readonly #pending = new Map<number, LinkRecord | undefined>();
  #nextRoutesAt = 0;
  /** Failure news brought the paths up to date so often since then. */
  #urgentSince = 0;
  #urgentCount = 0;
  #sequence: number;
  #published: readonly NodeId[] = [];
  #tokens = BURST;
  #refilledAt = 0;
  #publishAt = Infinity;
  #forgetAt = 0;
  /** Since when this node has had neighbours. */
  #hereSince = Infinity;
  #sweepAt = 1024;
  /** The time of the input under way. */
  now = 0;
  #left = false;

  readonly #self: Peer;
  readonly #active: View;
  readonly #config: Config;
  readonly #effects: Effects;
  readonly #names: Names;
  readonly #hooks: MembersHooks;

  constructor(
    self: Peer,
    active: View,
    config: Config,
    random: Random,
    effects: Effects,
    names: Names,
    hooks: MembersHooks,
  ) {
    this.#self = self;
    this.#active = active;
    this.#config = config;
    this.#effects = effects;
    this.#names = names;
    this.#hooks = hooks;
    // from anywhere: two lives that begin with the same incarnation never call different states by the same version
    this.#sequence = random.next() >>> 1;
    this.states = new LinkStates(names, config.statesMax);
    this.#index = names.number(self.id);
    this.routes = new Routes(this.states, this.#index);
    this.spread = new Spread(active, config, effects, this.states, (states) => {
      if (this.#gone.size + this.#goneElsewhere.size === 0) return undefined;
      const gone = states.map((state) => this.#goneSeconds(state));
      return gone.some((seconds) => seconds > 0) ? gone : undefined;
    });
  }

  get aliveCount(): number {
    return this.#alive.size;
  }

  /** Records not yet in the paths, and nodes not yet judged; the same of what others say. */
  get sizes(): { unrouted: number; doubtful: number; goneElsewhere: number } {
    const doubtful = this.#doubtful.size;
    return { unrouted: this.#pending.size, doubtful, goneElsewhere: this.#goneElsewhere.size };
  }

  get gone(): ReadonlyMap<number, Gone> {
    return this.#gone;
  }

  standing(id: NodeId): Standing {
    const index = this.#names.find(id);
    if (index === undefined) return 'unknown';
    if (this.#alive.has(index)) return 'alive';
    const gone = this.#gone.get(index);
    if (gone === undefined) return 'unknown';
    return gone.left ? 'left' : 'dead';
  }

  /** Always in the same order: that of this node's numbers for them. */
  alive(): NodeId[] {
    return Array.from(this.#alive, (index) => this.#names.id(index));
  }

  path(id: NodeId): NodeId[] {
    const index = this.#names.find(id);
    return index === undefined ? [] : this.routes.path(index).map((at) => this.#names.id(at));
  }

  neighboursOf(id: NodeId): Peer[] {
    const peers: Peer[] = [];
    for (const neighbour of this.states.get(id)?.state.neighbours ?? []) {
      const peer = this.states.get(neighbour)?.state.origin;
      if (peer !== undefined && peer.id !== this.#self.id && peer.id !== id) peers.push(peer);
    }
    return peers;
  }

  /** None of those that it named names it still, but for this node. */
  isAbandoned(id: NodeId): boolean {
    const named = this.states.get(id)?.state.neighbours ?? [];
    const isOther = (neighbour: NodeId): boolean => neighbour !== this.#self.id;
    if (!named.some(isOther)) return false;
    return !named.some(
      (other) => isOther(other) && this.states.get(other)?.state.neighbours.includes(id) === true,
    );
  }

  /** A state of its own that says nothing yet: there is room for it, whatever others fill the table with. */
  start(now: number): void {
    if (!this.#config.linkState || this.states.get(this.#self.id) !== undefined) return;
    const incarnation = this.#hooks.incarnation();
    const sequence = this.#sequence;
    this.#store({ origin: this.#self, incarnation, sequence, left: false, neighbours: [] }, now);
  }

  /** A link came or went: say so. A failure at once; a link given up only when a new one had time to come. */
  linksChanged(change: 'up' | 'down' | 'failed', now: number): void {
    if (!this.#config.linkState || this.#left) return;
    if (change === 'up' && this.#active.size === 1) this.#hereSince = now;
    if (change === 'failed') {
      this.#publish(now, true);
      return;
    }
    const { publishMs, flushMs } = this.#config;
    const wait = change === 'up' ? flushMs : publishMs;
    const at = Math.max(now + wait, now + this.#refill(now));
    this.#publishAt = Math.min(this.#publishAt, at);
    this.#effects.wakeBy('publish', this.#publishAt);
  }

  /** Adds the tokens that time has brought; how long until there is a whole one. */
  #refill(now: number): number {
    const { publishMs, publishPerNodeMs } = this.#config;
    const apart = Math.max(publishMs, publishPerNodeMs * this.#alive.size);
    const burst = Math.min(BURST, Math.max(1, BURST_OF_ALL / this.#alive.size));
    this.#tokens = Math.min(burst, this.#tokens + (now - this.#refilledAt) / apart);
    this.#refilledAt = now;
    return Math.max(0, (1 - this.#tokens) * apart);
  }

  onPublishTimer(now: number): void {
    if (this.#publishAt > now) {
      if (this.#publishAt < Infinity) this.#effects.wakeBy('publish', this.#publishAt);
      return;
    }
    this.#publish(now, false);
  }

  #publish(now: number, urgent: boolean): void {
    this.#publishAt = Infinity;
    const neighbours = this.#active.peers.map(({ id }) => id).sort();
    const own = this.states.get(this.#self.id)?.state;
    const incarnation = this.#hooks.incarnation();
    const same = neighbours.join(' ') === this.#published.join(' ');
    if (own !== undefined && same && own.incarnation === incarnation && !this.#left) return;
    this.#published = neighbours;
    this.#refill(now);
    this.#tokens = Math.max(-BURST, this.#tokens - 1);
    this.#sequence = Math.min(LIMITS.incarnation, this.#sequence + 1);
    const origin = this.#self;
    const sequence = this.#sequence;
    const state: LinkState = { origin, incarnation, sequence, left: this.#left, neighbours };
    this.#store(state, now);
    if (urgent) this.#routesAtOnce(now);
    this.spread.pass([state], this.#self.id, urgent, now);
  }

  /** Tells everybody that this node goes for good. */
  leave(now: number): void {
    if (!this.#config.linkState) return;
    this.#left = true;
    this.#publish(now, true);
  }

  /** So that a node is forgotten everywhere at about the same time, and does not live on in those that came later. */
  #goneSeconds({ origin }: LinkState): number {
    const index = this.#names.find(origin.id) ?? -1;
    const since = this.#gone.get(index)?.since ?? this.#goneElsewhere.get(index);
    if (since === undefined) return 0;
    const seconds = Math.ceil((this.now - since) / 1000); // up, so that no copy is younger than the first
    return Math.min(LIMITS.goneSeconds, Math.max(1, seconds));
  }

  onStates(from: Peer, { purpose, states, gone }: MessageOf<'states'>, now: number): void {
    if (!this.#config.linkState) return;
    const urgent = purpose === 'urgent';
    const fresh: LinkState[] = [];
    let redundant = 0;
    for (let i = 0; i < states.length; i++) {
      const state = states[i];
      if (state === undefined) continue;
      const goneMs = 1000 * (gone?.[i] ?? 0);
      if (state.origin.id === this.#self.id) this.#contradict(state, now);
      else if (this.#store(state, now, goneMs)) fresh.push(state);
      else redundant += 1;
    }
    this.spread.pass(fresh, from.id, urgent, now);
    if (urgent && fresh.length > 0) this.#routesAtOnce(now);
    // most of it was known: in a storm that is all a link that is not part of the tree can show
    if (purpose === 'tree' && 2 * redundant > states.length) this.spread.redundant(from);
  }

  /** Unless so much failed that looking at each piece of news would take longer than gathering it. */
  #routesAtOnce(now: number): void {
    if (now - this.#urgentSince > URGENT_WINDOW_MS) {
      this.#urgentSince = now;
      this.#urgentCount = 0;
    }
    this.#urgentCount += 1;
    if (this.#urgentCount <= URGENT_MAX) this.onRoutesTimer(now);
  }

  onAnnounced(from: Peer, versions: readonly Version[], now: number): void {
    if (!this.#config.linkState) return;
    this.outdo(versions, now);
    this.spread.onAnnounced(from, versions, now);
  }

  /** Somebody holds a state of me that I did not make: from before a restart, or forged. Mine must be newer still. */
  #contradict(state: LinkState, now: number): void {
    const { id } = state.origin;
    const own = this.states.get(id)?.state;
    const isOther = own !== undefined && own.neighbours.join(' ') !== state.neighbours.join(' ');
    this.outdo([{ id, incarnation: state.incarnation, sequence: state.sequence }], now, isOther);
  }

  /** Of these versions, those of my own states that I did not make: what I say next is newer than any of them. */
  outdo(versions: readonly Version[], now: number, isOther = false): void {
    const own = this.states.get(this.#self.id)?.state;
    for (const version of versions) {
      if (version.id !== this.#self.id) continue;
      const isEqual = isOther && own !== undefined && !isNewer(own, version);
      if (own !== undefined && !isNewer(version, own) && !isEqual) continue;
      const next = { incarnation: this.#hooks.incarnation(), sequence: this.#sequence };
      if (isEqual || isNewer(version, next)) this.#raiseAbove(version);
      this.#published = [];
      this.#publishAt = Math.min(this.#publishAt, now + this.#refill(now));
      this.onPublishTimer(now);
    }
  }

  /** At the end of all incarnations the sequence goes on. */
  #raiseAbove({ incarnation, sequence }: Version): void {
    this.#hooks.raiseIncarnation(incarnation);
    if (this.#hooks.incarnation() > incarnation) return;
    this.#sequence = Math.min(LIMITS.incarnation - 1, Math.max(this.#sequence, sequence));
  }

  #store(state: LinkState, now: number, goneMs = 0): boolean {
    const known = this.states.get(state.origin.id);
    if (known === undefined ? !this.#isRoom(goneMs) : !isNewer(state, known.state)) return false;
    const stored = this.states.put(state, known);
    if (stored === undefined) return false;
    const { old, record } = stored;
    // of a node known here, this node's own word counts
    if (goneMs > 0 && old === undefined)
      this.#goneElsewhere.set(record.index, this.#toldSince(goneMs, now));
    if (this.#names.size > this.#sweepAt) this.#sweep();
    if (!this.#pending.has(record.index)) this.#pending.set(record.index, old);
    this.#wakeRoutes(now);
    return true;
  }

  #wakeRoutes(now: number): void {
    this.#effects.wakeBy('routes', Math.max(now + this.#config.flushMs, this.#nextRoutesAt));
  }

  /** Brings paths up to date. Many changes together cost little more than one. */
  onRoutesTimer(now: number): void {
    const changes: Change[] = [];
    for (const [index, old] of this.#pending) {
      changes.push({ index, old, record: this.states.at(index) });
    }
    this.#pending.clear();
    if (changes.length > BATCH) {
      const slowMs = Math.max(ROUTES_SLOW_MS, ROUTES_SLOW_PER_NODE_MS * this.states.size);
      this.#nextRoutesAt = now + slowMs;
    }
    this.routes.update(changes);
    const touched = this.routes.takeChanged();
    for (const { index, old, record } of changes) {
      const isNews = old === undefined || old.state.left !== record?.state.left;
      if (isNews) touched.add(index);
    }
    for (const index of touched) {
      const changed = this.states.at(index);
      if (changed !== undefined && index !== this.#index) this.#judge(changed, now);
    }
    this.#trim(now);
  }

  #judge({ index, state }: LinkRecord, now: number): void {
    if (state.left) {
      this.#doubtful.delete(index);
      const before = this.#gone.get(index);
      const wasAlive = this.#alive.delete(index);
      const isStranger = before === undefined ? !wasAlive : this.#strangers.has(index);
      if (before?.left !== true) this.#goes(index, true, isStranger, now);
      if (wasAlive || before?.left === false)
        this.#effects.event({ type: 'member-left', id: state.origin.id });
    } else if (!this.routes.isReachable(index)) {
      if (!this.#gone.has(index)) this.#doubt(index, now);
    } else {
      this.#doubtful.delete(index);
      this.#gone.delete(index);
      this.#strangers.delete(index);
      this.#goneElsewhere.delete(index);
      if (this.#alive.has(index)) return;
      this.#alive.add(index);
      const { incarnation } = state;
      this.#effects.event({ type: 'member-up', id: state.origin.id, incarnation });
    }
  }

  #doubt(index: number, now: number): void {
    if (this.#doubtful.has(index) || this.#gone.get(index)?.left === true) return;
    this.#doubtful.set(index, now);
    this.#effects.wakeBy('hold', now + this.#config.holdMs);
  }

  /** Unreachable for `holdMs`: no newer state of any neighbour is on its way. */
  onHoldTimer(now: number): void {
    if (this.#pending.size > 0) {
      // what is not yet in the paths may show a way
      if (now < this.#nextRoutesAt) {
        this.#effects.wakeBy('hold', this.#nextRoutesAt);
        return;
      }
      this.onRoutesTimer(now);
    }
    let next = Infinity;
    for (const [index, since] of this.#doubtful) {
      if (now - since < this.#config.holdMs) {
        next = Math.min(next, since + this.#config.holdMs);
        continue;
      }
      this.#doubtful.delete(index);
      const known = this.#alive.delete(index);
      this.#goes(index, false, !known, now);
      if (known) this.#effects.event({ type: 'member-dead', id: this.#names.id(index) });
    }
    this.#trim(now);
    if (next < Infinity) this.#effects.wakeBy('hold', next);
  }

  #goes(index: number, left: boolean, isStranger: boolean, now: number): void {
    const since = isStranger ? this.#strangerSince(now) : now;
    this.#gone.set(index, { since: this.#goneElsewhere.get(index) ?? since, left });
    this.#goneElsewhere.delete(index);
    if (isStranger) this.#strangers.add(index);
  }

  /** As if it were dead for so long that it is forgotten soon: and so it is everywhere, as others are told of that time. */
  #strangerSince(now: number): number {
    const { forgetMs, rejoinPeriodMs } = this.#config;
    return now - Math.max(0, forgetMs - STRANGER_PERIODS * rejoinPeriodMs);
  }

  /** Who is said to have gone while this node was here, and was not seen from here, is one of those. */
  #toldSince(goneMs: number, now: number): number {
    const since = now - goneMs;
    const isKnownBetter = since > this.#hereSince + STRANGER_PERIODS * this.#config.rejoinPeriodMs;
    return isKnownBetter ? Math.min(since, this.#strangerSince(now)) : since;
  }

  /** Whether to take the record of a node not known before. The last room is for those that may turn out to live. */
  #isRoom(goneMs: number): boolean {
    if (goneMs >= this.#config.forgetMs) return false;
    return goneMs === 0 || this.states.size < this.#config.statesMax * CROWDED;
  }

  /** Where the living need the room, the dead make it: strangers first. */
  #trim(now: number): void {
    while (this.states.size > this.#config.statesMax * CROWDED) {
      const next = this.#strangers.values().next().value ?? this.#gone.keys().next().value;
      if (next === undefined) return;
      this.#forgetOne(next);
      this.#wakeRoutes(now);
    }
  }

  /** Old dead nodes go. Others may hold them a little longer, but say so when they tell of them. */
  forget(now: number): void {
    if (now < this.#forgetAt) return;
    const { forgetMs } = this.#config;
    this.#forgetAt = now + Math.min(FORGET_CHECK_MS, forgetMs / 10);
    for (const [index, { since }] of this.#gone) {
      if (now - since >= forgetMs) this.#forgetOne(index);
    }
    if (this.#pending.size > 0) this.onRoutesTimer(now);
    this.#sweep();
  }

  #forgetOne(index: number): void {
    const record = this.states.at(index);
    this.#gone.delete(index);
    this.#strangers.delete(index);
    this.#goneElsewhere.delete(index);
    if (record === undefined) return;
    this.states.delete(record);
    // together with what else changed: paths may not be mended halfway between two states of the records
    if (!this.#pending.has(index)) this.#pending.set(index, record);
  }

  #sweep(): void {
    this.states.sweep(this.#index);
    this.#sweepAt = 2 * this.#names.size + 1024;
  }
}
