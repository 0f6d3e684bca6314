// One node: routes each input to the part it concerns, and gives back what is to be done. No clock, no sockets, no
// randomness of its own: `handle(input, now)` with equal inputs gives equal outputs.
// Never throws on what a peer sent; an error from here is a bug.
import { encodePeer } from './codec.ts';
import { badConfig, DEFAULTS, LIMITS } from './config.ts';
import type { Config } from './config.ts';
import { Detector } from './detector.ts';
import type { Helpers } from './detector.ts';
import { Dials } from './dials.ts';
import { Effects } from './effects.ts';
import { lifeName } from './floors.ts';
import { HyParView } from './hyparview.ts';
import { Members } from './members.ts';
import { Multicast } from './multicast.ts';
import { Names } from './names.ts';
import { Optimise } from './optimise.ts';
import { Plumtree } from './plumtree.ts';
import type { Random } from './random.ts';
import { Rejoin } from './rejoin.ts';
import { Shuffle } from './shuffle.ts';
import { snapshotOf } from './snapshot.ts';
import type { Snapshot } from './snapshot.ts';
import { Sync } from './sync.ts';
import type {
  DownReason,
  Input,
  Message,
  MessageOf,
  NodeId,
  Output,
  Peer,
  TimerKey,
} from './types.ts';
import { View } from './view.ts';

export interface NodeOptions {
  readonly self: Peer;
  readonly random: Random;
  /** Higher than in any earlier run of this node: a counter kept on disk, or the time of the start in ms. */
  readonly incarnation: number;
  readonly config?: Partial<Config>;
  /** Only for many nodes in one process. */
  readonly names?: Names;
}

type NeighbourMessage = MessageOf<
  'gossip' | 'ihave' | 'graft' | 'prune' | 'states' | 'sync' | 'versions' | 'want'
>;

export class Node {
  readonly self: Peer;
  readonly config: Config;
  readonly views: HyParView;
  readonly members: Members;
  readonly tree: Plumtree;
  readonly detector: Detector;
  readonly #effects: Effects;
  readonly #dials: Dials;
  readonly #shuffle: Shuffle;
  readonly #optimise: Optimise;
  readonly #sync: Sync;
  readonly #rejoin: Rejoin;
  readonly #multicast: Multicast;
  #gone = false;

  constructor({ self, random, incarnation, config, names }: NodeOptions) {
    this.self = self;
    this.config = { ...DEFAULTS, ...config };
    const bad = badConfig(this.config);
    if (bad !== undefined) throw new RangeError(`hyparview-ts, config: ${bad}`);
    if (!(incarnation >= 0 && incarnation <= LIMITS.incarnation && incarnation % 1 === 0)) {
      const range = `a whole number up to ${LIMITS.incarnation} is needed`;
      throw new RangeError(`hyparview-ts: incarnation is ${incarnation}, ${range}`);
    }
    encodePeer(self); // throws when this node could not be spoken of
    this.#dials = new Dials(this.config);
    const effects = new Effects(new View(), this.#dials);
    this.#effects = effects;
    this.views = new HyParView(self, this.config, random, effects, {
      linkUp: (peer, now) => this.#linkUp(peer, now),
      linkAgain: (peer, now) => {
        this.tree.linkUp(peer, now);
        this.members.spread.linkUp(peer.id);
      },
      linkDown: (peer, reason, now) => this.#linkDown(peer, reason, now),
    });
    const { active } = this.views;
    this.#shuffle = new Shuffle(this.views);
    const table = names ?? new Names();
    const newLife = (): string => `${self.id} ${lifeName(incarnation, random.next())}`;
    this.tree = new Plumtree(newLife, active, this.config, random, effects, {
      children: (origin) => this.#multicast.children(origin, this.members.now),
      has: (neighbour) => this.#multicast.isInTrees(neighbour),
    });
    this.members = new Members(self, active, this.config, random, effects, table, {
      incarnation: () => this.detector.incarnation,
      raiseIncarnation: (above) => this.detector.raiseIncarnation(above),
    });
    this.#multicast = new Multicast(
      self.id,
      this.members.states,
      table,
      this.config.multicastNodesMax,
    );
    this.detector = new Detector(
      self,
      this.config,
      random,
      effects,
      {
        linkFailed: (id, now) => this.views.unlink(id, 'failed', now),
        helpersFor: (id) => this.#helpersFor(id),
        isAbandoned: (id) => this.members.isAbandoned(id),
        digest: () => this.members.states.digest,
        measured: (peer, _, now) => this.#optimise.onMeasured(peer, now),
      },
      incarnation,
    );
    this.#optimise = new Optimise(this.views, this.config, random, effects, this.detector);
    this.#sync = new Sync(this.members, this.config, effects);
    this.#rejoin = new Rejoin(self, this.views, this.members, this.config, random, effects);
  }

  handle(input: Input, now: number): Output[] {
    if (this.#gone) return [];
    this.members.now = now;
    this.detector.handled(now);
    this.#effects.begin(now, input.type === 'received' ? input.from : undefined);
    switch (input.type) {
      case 'start':
        this.#start(input.known, now);
        break;
      case 'join':
        this.views.join(input.seeds, now);
        break;
      case 'leave':
        this.#leave(now);
        break;
      case 'received':
        this.#received(input.from, input.message, now);
        break;
      case 'unreachable':
        this.#unreachable(input.peer, now);
        break;
      case 'timer':
        if (this.#effects.fired(input.key, now)) this.#timer(input.key, now);
        break;
      case 'broadcast':
        this.#broadcast(input.payload, input.priority, now);
        break;
    }
    this.tree.settle(now);
    return this.#effects.take();
  }

  /** What is held just now, as plain data. */
  snapshot(): Snapshot {
    return snapshotOf(this, this.#effects.timers, this.#dials.withheld);
  }

  #start(known: readonly Peer[], now: number): void {
    this.members.start(now);
    this.views.start(known, now);
    this.#shuffle.start(now);
    this.#optimise.start(now);
    this.#rejoin.start(now);
  }

  #leave(now: number): void {
    this.members.leave(now);
    this.views.leave(now);
    this.#effects.cancelAll();
    this.#gone = true;
  }

  #broadcast(payload: Uint8Array, priority: 'urgent' | 'normal' | 'bulk', now: number): void {
    const refusal = this.tree.broadcast(this.self, payload, priority, now);
    if (refusal === undefined) return;
    const max = this.config.payloadBytesMax;
    const why = `${refusal}: ${payload.length} bytes, from 1 to ${max} are allowed`;
    this.#effects.event({ type: 'refused', what: 'broadcast', why });
  }

  #linkUp(peer: Peer, now: number): void {
    this.detector.linkUp(peer, now);
    this.tree.linkUp(peer, now);
    this.members.spread.linkUp(peer.id);
    this.members.linksChanged('up', now);
    this.#sync.linkUp(peer, now);
  }

  #linkDown(peer: Peer, reason: DownReason, now: number): void {
    this.detector.linkDown(peer.id);
    this.tree.linkDown(peer.id);
    this.members.spread.linkDown(peer.id);
    this.#sync.linkDown(peer.id);
    this.members.linksChanged(reason === 'failed' ? 'failed' : 'down', now);
  }

  /** The suspect's own neighbours know best; without link states, mine have to do. */
  #helpersFor(id: NodeId): Helpers {
    const neighbours = this.members.neighboursOf(id);
    if (neighbours.length > 0) return { peers: neighbours, areItsOwn: true };
    return { peers: this.views.active.peers.filter((peer) => peer.id !== id), areItsOwn: false };
  }

  #unreachable(id: NodeId, now: number): void {
    if (this.views.active.has(id)) this.views.unlink(id, 'failed', now);
    else this.views.onUnreachable(id, now);
  }

  #timer(key: TimerKey, now: number): void {
    switch (key) {
      case 'shuffle':
        return this.#shuffle.onTimer(now);
      case 'pending':
        return this.views.onPendingTimer(now);
      case 'repair':
        return this.views.onRepairTimer(now);
      case 'optimise':
        return this.#optimise.onTimer(now);
      case 'lazy':
        return this.tree.onLazyTimer();
      case 'graft':
        return this.tree.onGraftTimer(now);
      case 'evict':
        return this.tree.onEvictTimer(now);
      case 'detector':
        return this.detector.onTimer(now);
      case 'publish':
        return this.members.onPublishTimer(now);
      case 'flush':
        return this.members.spread.onFlushTimer();
      case 'want':
        return this.members.spread.onWantTimer(now);
      case 'routes':
        return this.members.onRoutesTimer(now);
      case 'hold':
        return this.members.onHoldTimer(now);
      case 'rejoin':
        return this.#rejoin.onTimer(now);
    }
  }

  #received(from: Peer, message: Message, now: number): void {
    if (from.id === this.self.id) return;
    this.views.renew(from, now);
    this.detector.heard(from.id, now);
    switch (message.type) {
      case 'join':
        return this.views.onJoin(from, now);
      case 'forward-join':
        return this.views.onForwardJoin(from, message, now);
      case 'neighbor':
        return this.views.onNeighbor(from, message.high, now);
      case 'neighbor-reply':
        return this.views.onNeighborReply(from, message, now);
      case 'disconnect':
        return this.views.onDisconnect(from, message.leaving, now);
      case 'shuffle':
        return this.#shuffle.onShuffle(from, message, now);
      case 'shuffle-reply':
        return this.#shuffle.onReply(message.peers);
      case 'optimise':
        return this.#optimise.onOptimise(from, message, now);
      case 'optimise-replace':
        return this.#optimise.onReplace(from, message, now);
      case 'optimise-switch':
        return this.#optimise.onSwitch(from, message, now);
      case 'optimise-reply':
        return this.#optimise.onReply(from, message, now);
      case 'ping':
        return this.#onPing(from, message, now);
      case 'pong':
        this.detector.onPong(from, message, now);
        if (this.views.active.has(from.id)) this.#sync.onDigest(from, message.digest, now);
        return;
      case 'suspect':
        return this.detector.onSuspect(from, message, now);
      case 'vouch':
        return this.detector.onVouch(from, message, now);
      case 'gossip':
      case 'ihave':
      case 'graft':
      case 'prune':
      case 'states':
      case 'sync':
      case 'versions':
      case 'want':
        if (this.views.active.has(from.id)) this.#receivedFromNeighbour(from, message, now);
    }
  }

  /** Payloads and link states are taken from neighbours only. */
  #receivedFromNeighbour(from: Peer, message: NeighbourMessage, now: number): void {
    switch (message.type) {
      case 'gossip':
        return this.tree.onGossip(from, message, now);
      case 'ihave':
        return this.tree.onIHave(from, message.announcements, now);
      case 'graft':
        return this.tree.onGraft(from, message);
      case 'prune':
        return message.states ? this.members.spread.onPrune(from) : this.tree.onPrune(from);
      case 'states':
        return this.members.onStates(from, message, now);
      case 'sync':
        return this.#sync.onSync(from, message);
      case 'versions':
        if (message.buckets.length > 0) return this.#sync.onVersions(from, message, now);
        return this.members.onAnnounced(from, message.versions, now);
      case 'want':
        return this.members.spread.onWant(from, message.ids, message.graft);
    }
  }

  #onPing(from: Peer, message: MessageOf<'ping'>, now: number): void {
    if (!message.measure && !this.views.active.has(from.id)) {
      this.views.onStrangersPing(from, now);
      if (!this.views.active.has(from.id)) return;
    }
    this.detector.onPing(from, message.nonce, now);
    if (!message.measure) this.#sync.onDigest(from, message.digest, now);
  }
}
