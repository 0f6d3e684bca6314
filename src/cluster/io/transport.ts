/**
 * Connections to the other nodes of the cluster: mutual TLS 1.3, one for each
 * peer, dialled when wanted, kept while wanted, closed when idle.
 *
 * Whom a message is from is what the peer's verified certificate says. Messages
 * may be lost when a connection is; they are never doubled, torn or forged, and
 * arrive in order within a channel of one connection.
 *
 * A peer that is revoked is cut at once, one that does not read is dropped
 * within CONNECTION_LIMITS, and one whose certificate ends must show a new one.
 */
import { randomBytes } from 'node:crypto';
import type { SecureContext, TLSSocket } from 'node:tls';
import type { Peer } from '../../hyparview-ts/index.ts';
import type { HostPort } from '../address.ts';
import { BACKOFF_MAX_MS, backoffMs } from '../backoff.ts';
import type { Channel } from '../channels.ts';
import {
  commonProtocol,
  encodeControl,
  PROTOCOL_MAX,
  PROTOCOL_MIN,
  type Control,
  type Hello,
  type RefusalCode,
} from '../greeting.ts';
import { SKEW_MS } from '../lifetime.ts';
import { Revocations } from '../revocation.ts';
import { arrivingWins, ownWins } from '../rivals.ts';
import { TURNED_AWAY, TurnedAway } from '../turned-away.ts';
import type { Clock } from './clock.ts';
import type { CloseReason } from './connection.ts';
import { Dial } from './dial.ts';
import { contextOf, type Authenticated, type Identity } from './identity.ts';
import { Link, type LinkHandlers } from './link.ts';
import { Listener, LISTENER_LIMITS, MEMBER_PROTOCOL, type Arrived } from './listener.ts';
import { SILENT, StrangersLog, type ClusterLog } from './log.ts';
import { newMetrics, type Metrics } from './metrics.ts';
import { Slot } from './slot.ts';
import {
  TRANSPORT_LIMITS,
  type LinkView,
  type Sizes,
  type TransportLimits,
  type TransportOptions,
} from './transport-options.ts';

export class Transport {
  readonly id: string;
  readonly metrics: Metrics;
  readonly revocations: Revocations;
  readonly #options: TransportOptions;
  readonly #clock: Clock;
  readonly #limits: TransportLimits;
  readonly #log: ClusterLog;
  readonly #listener: Listener;
  readonly #instance = randomBytes(8).toString('hex');
  readonly #slots = new Map<string, Slot>();
  /** Every link that is not closed: in use, greeting, or being emptied. */
  readonly #links = new Set<Link>();
  readonly #linkHandlers: LinkHandlers;
  readonly #turnedAway = new TurnedAway();
  #self: Peer;
  #identity: Identity;
  #context: SecureContext;
  #stopping = false;
  #whenEmpty: (() => void) | undefined;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#identity = options.identity;
    this.#context = contextOf(options.identity);
    this.#clock = options.clock;
    this.#limits = { ...TRANSPORT_LIMITS, ...options.limits };
    this.metrics = options.metrics ?? newMetrics();
    this.revocations = options.revocations ?? new Revocations();
    this.#log = options.log ?? SILENT;
    this.id = options.identity.nodeId;
    this.#self = { id: this.id, ...options.self };
    encodeControl(this.#hello('x', '')); // throws when this node could not greet anybody
    const strangers = new StrangersLog(this.#log, this.#clock);
    this.#listener = new Listener({
      identity: options.identity,
      clock: this.#clock,
      metrics: this.metrics,
      limits: { ...LISTENER_LIMITS, ...options.listener },
      isRevoked: (peer) => this.#isRevoked(peer),
      takers: new Map([
        [MEMBER_PROTOCOL, (arrived) => this.#arrived(arrived)],
        ...(options.takers ?? []),
      ]),
      log: (what, address) => strangers.refused(what, address),
    });
    this.#linkHandlers = {
      greeting: (link, control) => this.#greeted(link, control),
      message: (link, channel, message) => this.#message(link, channel, message),
      ending: (link) => this.#ending(link),
      closed: (link, reason, detail) => this.#closed(link, reason, detail),
    };
  }

  get self(): Peer {
    return this.#self;
  }

  /** Gauges: how near the limits are. */
  get sizes(): Sizes {
    let queuedBytes = 0;
    for (const { connection } of this.#links) queuedBytes += connection.queuedBytes;
    const { pending, sockets } = this.#listener;
    return { links: this.#links.size, slots: this.#slots.size, pending, sockets, queuedBytes };
  }

  links(): LinkView[] {
    const now = this.#clock.now();
    return [...this.#slots.values()].flatMap(({ current }) => {
      if (current?.peer === undefined) return [];
      const { peer, dialledBy, software, protocol, connection, openedAt } = current;
      const { queuedBytes, remoteAddress } = connection;
      const { serial } = connection.peer;
      const ageMs = now - openedAt;
      return [{ peer, dialledBy, serial, software, protocol, queuedBytes, ageMs, remoteAddress }];
    });
  }

  /** Since when nobody takes this host in who could be reached; of the wall clock. */
  get turnedAwaySinceMs(): number | undefined {
    return this.#turnedAway.sinceMs;
  }

  listen(where: HostPort): Promise<HostPort> {
    return this.#listener.listen(where);
  }

  /** Before the first connection: where others find this node, when the kernel chose its port. */
  setAddress(address: string): void {
    this.#self = { ...this.#self, address };
    encodeControl(this.#hello('x', ''));
  }

  /** A new certificate of the same node. Connections go on; each is made anew some time within `refreshMs`. */
  setIdentity(identity: Identity): void {
    this.#identity = identity;
    this.#context = contextOf(identity);
    this.#listener.setIdentity(identity);
    this.#turnedAway.over(); // the next certificate may be welcome
    for (const slot of this.#slots.values()) this.#refreshLater(slot);
  }

  /** Looks at every open connection again: call it when `revocations` has grown. */
  enforceRevocations(): void {
    this.#cut(({ nodeId, serial }) => this.revocations.find(nodeId, serial) !== undefined);
  }

  /** Ends what is open with a node that is gone for good. */
  cut(id: string): void {
    this.#cut(({ nodeId }) => nodeId === id);
  }

  #cut(isOut: (who: Pick<Authenticated, 'nodeId' | 'serial'>) => boolean): void {
    for (const slot of this.#slots.values()) {
      if (!isOut({ nodeId: slot.id, serial: '' })) continue;
      slot.cancel();
      if (slot.current === undefined) this.#giveUp(slot, 'it is revoked');
    }
    for (const link of this.#links) {
      if (!isOut(link.connection.peer)) continue;
      this.#log.warn({ peer: link.id }, 'cut the connection to a revoked node');
      link.connection.close('revoked', 'its certificate is revoked');
    }
  }

  /** Keeps a connection to this peer until `release`. */
  keep(peer: Peer): void {
    const slot = this.#slotFor(peer);
    if (slot === undefined) return this.#options.handlers.unreachable(peer.id, 'too many peers');
    slot.kept = true;
    this.#want(slot);
    return undefined;
  }

  /** The connection may go when it is idle, or with `close` as soon as what was sent before is out. */
  release(id: string, close = false): void {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    slot.kept = false;
    slot.cancelRetry();
    if (close) {
      const { current } = slot;
      slot.lost();
      current?.connection.end();
      this.#down(slot);
    }
    this.#tidy(slot);
  }

  /** 'dropped': it will not arrive. Anything else may arrive. */
  send(peer: Peer, channel: Channel, message: Uint8Array): 'sent' | 'waiting' | 'dropped' {
    const slot = this.#slotFor(peer);
    if (slot === undefined) return this.#dropped('unreachable');
    const link = slot.current;
    if (link !== undefined) {
      const pushed = link.connection.send(channel, message);
      return pushed === 'queued' ? 'sent' : this.#dropped('bulk');
    }
    const { waitingMessagesMax, waitingBytesMax } = this.#limits;
    if (!slot.wait(channel, message, waitingMessagesMax, waitingBytesMax))
      return this.#dropped('bulk');
    this.#want(slot);
    return 'waiting';
  }

  /** What waits in this process for a peer, also on connections that end. */
  queuedBytes(id: string): number {
    let bytes = 0;
    for (const link of this.#links) if (link.id === id) bytes += link.connection.queuedBytes;
    return bytes;
  }

  /** Sends what is queued, tells every peer, and leaves nothing behind: within `stopMs`, whoever does not answer. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const slot of this.#slots.values()) {
      slot.cancel();
      slot.current?.connection.end();
    }
    for (const link of this.#links) if (!link.isOpen) link.connection.close('stopped', 'stopped');
    const cancel = this.#clock.after(this.#limits.stopMs, () => {
      for (const { connection } of this.#links) connection.close('stopped', 'no answer to the end');
    });
    if (this.#links.size > 0) await new Promise<void>((resolve) => (this.#whenEmpty = resolve));
    cancel();
    this.#slots.clear();
    await this.#listener.close();
  }

  #dropped(why: 'bulk' | 'unreachable'): 'dropped' {
    this.metrics[`cluster_messages_dropped_total.${why}`] += 1;
    return 'dropped';
  }

  #isRevoked({ nodeId, serial }: Pick<Authenticated, 'nodeId' | 'serial'>): boolean {
    const { isGone } = this.#options;
    return this.revocations.find(nodeId, serial) !== undefined || isGone?.(nodeId) === true;
  }

  /** The newest address counts. */
  #slotFor(peer: Peer): Slot | undefined {
    if (this.#stopping || peer.id === this.id) return undefined;
    const known = this.#slots.get(peer.id);
    if (known !== undefined) {
      known.peer = peer;
      return known;
    }
    if (this.#slots.size >= this.#limits.slotsMax) return undefined;
    const slot = new Slot(peer);
    this.#slots.set(peer.id, slot);
    return slot;
  }

  #tidy(slot: Slot): void {
    if (slot.isOfNoUse && this.#slots.get(slot.id) === slot) this.#slots.delete(slot.id);
  }

  #want(slot: Slot): void {
    if (slot.current !== undefined || slot.dial !== undefined || slot.isRetrying) return;
    this.#dial(slot);
  }

  #dial(slot: Slot): void {
    if (this.#stopping || slot.dial !== undefined) return;
    const { id, peer } = slot;
    if (this.#isRevoked({ nodeId: id, serial: '' })) {
      // A connection that is there ends by itself, or by a cut.
      return slot.current === undefined ? this.#giveUp(slot, 'it is revoked') : undefined;
    }
    if (slot.current === undefined && this.#turnedAway.isWaiting(this.#clock.now()))
      return this.#giveUp(slot, 'the others turn this host away: they are asked again later');
    this.metrics.cluster_dials_total += 1;
    const dial = new Dial(
      {
        peer,
        clusterId: this.#identity.clusterId,
        context: this.#context,
        clock: this.#clock,
        timeoutMs: this.#limits.dialTimeoutMs,
      },
      {
        secured: (socket, who) => this.#secured(slot, dial, socket, who),
        failed: (why) => this.#dialFailed(slot, dial, why),
      },
    );
    slot.dial = dial;
    slot.replaces = slot.current;
    return undefined;
  }

  #link(socket: TLSSocket, who: Authenticated, dialledBy: 'self' | 'peer'): Link {
    const options = { clock: this.#clock, limits: this.#limits, metrics: this.metrics };
    const link = new Link(socket, who, dialledBy, options, this.#linkHandlers);
    this.#links.add(link);
    return link;
  }

  #secured(slot: Slot, dial: Dial, socket: TLSSocket, who: Authenticated): void {
    if (this.#isRevoked(who)) return dial.fail('its certificate is revoked');
    // The peer's own dial was quicker.
    if (slot.current !== undefined && slot.current !== slot.replaces) {
      slot.dial = undefined;
      return dial.cancel();
    }
    const link = this.#link(socket, who, 'self');
    link.connectionId = randomBytes(8).toString('hex');
    slot.dialled = link;
    link.connection.sendControl(this.#hello(link.connectionId, slot.after));
    return undefined;
  }

  #hello(connection: string, after: string): Hello {
    return {
      type: 'hello',
      protocolMin: PROTOCOL_MIN,
      protocolMax: PROTOCOL_MAX,
      instance: this.#instance,
      connection,
      after,
      peer: this.#self,
      software: this.#options.software,
    };
  }

  #arrived({ socket, peer, settled }: Arrived): void {
    if (peer === undefined || peer.nodeId === this.id || this.#stopping)
      return void socket.destroy();
    const link = this.#link(socket, peer, 'peer');
    this.#settle.set(link, settled);
    return undefined;
  }

  /** Ends the listener's deadline for links that were not dialled here. */
  readonly #settle = new WeakMap<Link, () => void>();

  #greeted(link: Link, control: Control): void {
    const slot = this.#slots.get(link.id);
    if (link.dialledBy === 'peer' && control.type === 'hello') return this.#onHello(link, control);
    if (link.dialledBy === 'self' && control.type === 'welcome' && slot?.dialled === link) {
      return this.#onWelcome(slot, link, control);
    }
    if (link.dialledBy === 'self' && control.type === 'refuse') {
      return this.#onRefusal(slot, link, control.code);
    }
    return link.connection.close('protocol', `${control.type} is not expected`);
  }

  #onRefusal(slot: Slot | undefined, link: Link, code: RefusalCode): void {
    if (code === 'duplicate' && slot?.dialled === link) {
      // The peer has our other connection, or thinks so: that is not unreachable.
      slot.dial?.settled();
      slot.dial = undefined;
      slot.dialled = undefined;
      slot.failures += 1;
      if (slot.current === undefined) this.#retryLater(slot);
    }
    link.connection.close('ended', `refused: ${code}`);
  }

  #onHello(link: Link, hello: Hello): void {
    const refuse = (code: RefusalCode): void => {
      this.metrics['cluster_handshake_failures_total.greeting'] += 1;
      link.connection.sendControl({ type: 'refuse', code });
      link.connection.end();
    };
    this.#settle.get(link)?.();
    const protocol = commonProtocol(hello);
    if (hello.peer.id !== link.id) return refuse('identity');
    if (protocol === undefined) return refuse('version');
    if (this.#stopping) return refuse('leaving');
    const known = this.#slots.get(link.id);
    const current = known?.current;
    if (current !== undefined && !arrivingWins(this.id, link.id, current.established, hello)) {
      return refuse('duplicate');
    }
    const isFull = current === undefined && this.#links.size > this.#limits.linksMax;
    const slot = isFull ? undefined : this.#slotFor(hello.peer);
    if (slot === undefined) return refuse('busy');
    const { instance, connection, software } = hello;
    Object.assign(link, {
      instance,
      connectionId: connection,
      software,
      protocol,
      peer: hello.peer,
    });
    link.connection.sendControl({
      type: 'welcome',
      protocol,
      instance: this.#instance,
      peer: this.#self,
      software: this.#options.software,
    });
    this.#establish(slot, link);
    return undefined;
  }

  #onWelcome(slot: Slot, link: Link, welcome: Extract<Control, { type: 'welcome' }>): void {
    const { protocol, instance, peer, software } = welcome;
    if (peer.id !== link.id || protocol < PROTOCOL_MIN || protocol > PROTOCOL_MAX) {
      return link.connection.close('protocol', 'a welcome that fits no hello');
    }
    slot.dial?.settled();
    slot.dial = undefined;
    slot.dialled = undefined;
    Object.assign(link, { instance, software, protocol, peer });
    const { current } = slot;
    if (current !== undefined && !ownWins(this.id, link.id, current.established, instance)) {
      link.open(this.#clock.now()); // what the peer has sent on it until it knows is still taken
      return link.connection.end();
    }
    this.#establish(slot, link);
    return undefined;
  }

  #establish(slot: Slot, link: Link): void {
    const old = slot.current;
    link.open(this.#clock.now());
    this.metrics.cluster_connections_established_total += 1;
    slot.established(link);
    this.#turnedAway.over();
    old?.connection.end();
    for (const { channel, message } of slot.takeWaiting()) link.connection.send(channel, message);
    this.#watch(slot, link);
    if (slot.isUp || link.peer === undefined) return;
    slot.isUp = true;
    this.#options.handlers.up(link.peer);
  }

  #down(slot: Slot): void {
    if (!slot.isUp) return;
    slot.isUp = false;
    this.#options.handlers.down(slot.id);
  }

  /** Looks at a link now and then: is it used, and is its certificate still good? */
  #watch(slot: Slot, link: Link): void {
    slot.stopWatch?.();
    slot.stopWatch = this.#clock.after(this.#limits.idleMs, () => {
      const { connection } = link;
      if (slot.current !== link) return;
      if (this.#clock.wallMs() > connection.peer.notAfterMs + SKEW_MS) {
        return connection.close('expired', 'its certificate has ended, and it showed no new one');
      }
      const isIdle = this.#clock.now() - connection.usedAt >= this.#limits.idleMs;
      if (!slot.kept && isIdle) return this.release(slot.id, true);
      this.#watch(slot, link);
      return undefined;
    });
  }

  #refreshLater(slot: Slot): void {
    if (slot.current === undefined) return;
    slot.stopRefresh?.();
    slot.stopRefresh = this.#clock.after(this.#options.unit() * this.#limits.refreshMs, () => {
      slot.stopRefresh = undefined;
      if (slot.current !== undefined) this.#dial(slot);
    });
  }

  #message(link: Link, channel: Channel, message: Uint8Array): void {
    // A link that lost against its rival still brings what was under way.
    if (link.peer !== undefined) this.#options.handlers.message(link.peer, channel, message);
  }

  #ending(link: Link): void {
    const slot = this.#slots.get(link.id);
    if (slot?.current === link) this.#lost(slot, 'ended', 'the peer ended it');
  }

  #closed(link: Link, reason: CloseReason, detail: string): void {
    this.#links.delete(link);
    this.#settle.get(link)?.();
    const slot = this.#slots.get(link.id);
    if (slot?.dialled === link) {
      if (reason === 'lost') this.#wasTurnedAway();
      slot.dialled = undefined;
      slot.dial?.fail(detail);
    }
    if (slot?.current === link) this.#lost(slot, reason, detail);
    if (this.#stopping && this.#links.size === 0) this.#whenEmpty?.();
  }

  /** By one that is who it should be, has seen this host's certificate, and says nothing. */
  #wasTurnedAway(): void {
    for (const { current } of this.#slots.values()) if (current !== undefined) return;
    const { unit } = this.#options;
    if (this.#turnedAway.again(this.#clock.now(), this.#clock.wallMs(), unit()))
      this.#log.warn({}, TURNED_AWAY);
  }

  #lost(slot: Slot, reason: CloseReason, detail: string): void {
    const lived = this.#clock.now() - (slot.current?.openedAt ?? 0);
    slot.lost();
    if (this.#stopping) return;
    this.#log.debug({ peer: slot.id, reason, detail }, 'a connection is over');
    if (slot.dial !== undefined) return; // the next one is already on its way
    this.#down(slot);
    if (slot.kept && reason === 'revoked') this.#retryLater(slot);
    else if (slot.kept) {
      // At once when it was a good connection: only when that fails too is the peer called unreachable.
      if (lived >= BACKOFF_MAX_MS) slot.failures = 0;
      if (slot.failures === 0) {
        slot.failures = 1;
        return this.#dial(slot);
      }
      return this.#retryLater(slot);
    }
    if (reason !== 'ended') this.#options.handlers.unreachable(slot.id, detail);
    this.#tidy(slot);
  }

  #dialFailed(slot: Slot, dial: Dial, why: string): void {
    if (slot.dial !== dial) return;
    slot.dial = undefined;
    this.metrics.cluster_dial_failures_total += 1;
    const { dialled } = slot;
    slot.dialled = undefined;
    if (dialled?.connection.isClosed === false) dialled.connection.close('lost', why);
    if (slot.current !== undefined) {
      // It was to take the place of one that is good still.
      if (slot.current === slot.replaces) this.#refreshLater(slot);
      return;
    }
    this.#log.debug({ peer: slot.id, address: slot.peer.address, why }, 'a dial failed');
    this.#giveUp(slot, why);
  }

  /** For now: whoever keeps it gets another try. */
  #giveUp(slot: Slot, why: string): void {
    slot.failures += 1;
    this.#down(slot);
    const lost = slot.takeWaiting().length;
    this.metrics['cluster_messages_dropped_total.unreachable'] += lost;
    if (slot.kept) this.#retryLater(slot);
    this.#options.handlers.unreachable(slot.id, why);
    this.#tidy(slot);
  }

  #retryLater(slot: Slot): void {
    const waitMs = backoffMs(slot.failures, this.#options.unit());
    slot.retry(
      this.#clock.after(waitMs, () => {
        slot.retried();
        if (slot.kept || slot.hasWaiting) this.#want(slot);
        else this.#tidy(slot);
      }),
    );
  }
}
