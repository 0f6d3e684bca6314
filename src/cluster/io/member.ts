/**
 * The running membership of a host: overlay, replication, signer, certificate and what is remembered
 * of them, put together. The agent gives it its state and hears what changed; services are no
 * concern of it.
 *
 *     overlay events ─► liveness ───► unreachable()         state.write, state.keep ◄─┐
 *     messages, links ► replicator ─► changed, facts ─► agent                         │
 *     shared keys ────► roll ───────► revocations enforced, documents forgotten ──────┘
 */
import type { Event, Peer, Priority } from '../../hyparview-ts/index.ts';
import { ProblemError } from '../../state/problem.ts';
import { documentOf, type Changed, type Write } from '../../state/replica/replica.ts';
import { NODE_KEY } from '../../state/replica/schema.ts';
import { writeRevocation } from '../departures.ts';
import { Ephemeral } from '../ephemeral.ts';
import { NODE_VALIDITY_MS } from '../lifetime.ts';
import { Liveness } from '../liveness.ts';
import { isNodeId } from '../names.ts';
import { explain } from '../notices.ts';
import { REPLICATION_CONFIG, type ReplicationNotice } from '../replication-types.ts';
import { Replication } from '../replication.ts';
import { Revocations } from '../revocation.ts';
import { Roll, type Followed } from '../roll.ts';
import { PoolWatch, POOLS_HINT } from '../pools.ts';
import { PEERS_MAX } from '../sign-wire.ts';
import {
  membersOf,
  rankOf,
  routesOf,
  statusOf,
  type MemberStatus,
  type MemberView,
  type RouteView,
  type Sources,
} from '../standing.ts';
import { AgingLook } from './aging-look.ts';
import type { Clock } from './clock.ts';
import { SIGN_PROTOCOL } from './listener.ts';
import { BrakedLog } from './log.ts';
import type { MemberOptions, Spreadable, TokenView } from './member-options.ts';
import { Memory } from './memory.ts';
import { newMetrics, type Metrics } from './metrics.ts';
import { Overlay } from './overlay.ts';
import { Presence } from './presence.ts';
import { unitOf } from './random.ts';
import { Replicator } from './replicator.ts';
import { Rotation } from './rotation.ts';
import { Self } from './self.ts';
import { Signer, type IssuedToken } from './signer.ts';
import { SigningKey } from './signing-key.ts';

/** How often it is looked whether there is something to remember, or to tell of this host. */
const LOOK_MS = 5000;
/** How long what is said last may take to get into the kernel, and then to get around. Guesses. */
const DRAIN_MS = 1000;
const GOODBYE_MS = 300;
const DRAIN_LOOK_MS = 5;
/** One that leaves has ended its connections by then: see leave(). */
const LEAVE_MS = 5000;

const RENEWED =
  "this host's data directory was set back (a snapshot?): nothing was written since, so it goes on " +
  'under a new id and takes what it lacks from the others';

export interface LeaveResult {
  /** Whether a neighbour was there to take the news; if not, others see a dead node until it is revoked. */
  readonly told: boolean;
}

export class Member {
  readonly metrics: Metrics = newMetrics();
  readonly #options: MemberOptions;
  readonly #clock: Clock;
  readonly #braked: BrakedLog;
  readonly #memory: Memory;
  readonly #incarnation: number;
  readonly #revocations: Revocations;
  readonly #liveness: Liveness;
  readonly #roll: Roll;
  readonly #presence: Presence;
  readonly #replicator: Replicator;
  readonly #key: SigningKey;
  readonly #signer: Signer;
  readonly #rotation: Rotation;
  readonly #self: Self;
  readonly #pools: PoolWatch;
  /** Other nodes may say something else of themselves than when they were looked at. */
  #isRecordNews = true;
  readonly #startedAtMs: number;
  readonly #aging: AgingLook;
  /** Those with a connection. */
  readonly #peers = new Map<string, Peer>();
  /** Links that came or went in the step of the overlay that is under way. */
  #relinked: { readonly id: string; readonly isLinked: boolean }[] = [];
  #overlayOrNone: Overlay | undefined;
  #wasSetBack = false;
  #isLeaving = false;
  #cancelLook: (() => void) | undefined;
  readonly #cancelCuts = new Set<() => void>();
  #stopped: Promise<void> | undefined;

  /** Resolves when it listens; others are found afterwards. Throws ProblemError. */
  static async start(options: MemberOptions): Promise<Member> {
    const member = new Member(options);
    await member.#start();
    return member;
  }

  private constructor(options: MemberOptions) {
    const { identity, state, clock, log, dataDirectory, random } = options;
    const { nodeId, clusterId } = identity;
    const { replica } = state;
    if (replica.node !== nodeId)
      throw new Error(`bug: the state is of node ${replica.node}, the certificate of ${nodeId}`);
    this.#options = options;
    this.#clock = clock;
    this.#braked = new BrakedLog(log, clock);
    this.#startedAtMs = clock.wallMs();
    this.#memory = new Memory(dataDirectory, clusterId, clock, log);
    this.#incarnation = this.#memory.begin(options.seeds);
    const revocations = new Revocations(options.revocations);
    const liveness = new Liveness({ self: nodeId, remembered: this.#memory.found.absent });
    this.#revocations = revocations;
    this.#liveness = liveness;
    this.#roll = new Roll({ replica, liveness, revocations });
    const aging = { iso, replica, liveness, roll: this.#roll };
    this.#aging = new AgingLook(aging, clock, this.#braked, (writes) => this.#write(writes));
    this.#presence = new Presence({
      liveness,
      roll: this.#roll,
      clock,
      log: this.#braked,
      node: () => this.#overlay.node,
      changed: () => options.handlers.reachability(),
    });
    const isWelcome = (document: string): boolean => this.#roll.isWelcome(document);
    const ephemeral = new Ephemeral(nodeId, this.#incarnation);
    const replication = new Replication({ replica, ephemeral, random, isWelcome });
    this.#replicator = this.#makeReplicator(replication);
    this.#key = new SigningKey(options.vault, log);
    this.#self = new Self(options, this.#key);
    this.#pools = new PoolWatch(options.settings.vips);
    this.#signer = this.#makeSigner();
    this.#rotation = this.#makeRotation();
  }

  #makeReplicator(replication: Replication): Replicator {
    const { state, handlers } = this.#options;
    return new Replicator(replication, this.#clock, {
      store: (updates, whole) => state.keep(updates, whole),
      broadcast: (bytes, priority) => this.#overlay.broadcast(bytes, priority),
      send: (to, channel, bytes) => {
        const peer = this.#peers.get(to);
        if (peer !== undefined) this.#overlay.transport.send(peer, channel, bytes);
      },
      changed: (changed) => {
        handlers.changed(changed);
        this.#follow(changed);
      },
      facts: (changed) => handlers.facts(changed),
      notice: (notice, from) => this.#notice(notice, from),
    });
  }

  #makeSigner(): Signer {
    const { identity, vault, log } = this.#options;
    return new Signer({
      clock: this.#clock,
      metrics: this.metrics,
      log,
      nodeId: identity.nodeId,
      authority: () => this.#key.read(),
      ledger: vault.ledger(),
      saveLedger: (ledger) => vault.saveLedger(ledger),
      peers: () => [this.#overlay.self, ...this.#overlay.knownPeers()].slice(0, PEERS_MAX),
      revocations: () => this.#revocations.entries(),
      isGone: (node) => this.#roll.isGone(node),
    });
  }

  #makeRotation(): Rotation {
    const { identity, vault, random, log } = this.#options;
    return new Rotation({
      clock: this.#clock,
      log,
      unit: unitOf(random),
      identity,
      signers: () => this.#roll.signers(this.unreachable()) ?? this.#anybody(),
      authority: () => this.#key.read(),
      adopt: (next) => {
        vault.saveIdentity(next);
        this.#overlay.transport.setIdentity(next);
      },
    });
  }

  async #start(): Promise<void> {
    const { identity, software, settings, random, log, seeds } = this.#options;
    // Before anybody can ask for what is forgotten by it.
    const followed = this.#roll.begin(this.#clock.now());
    const known = this.#roll.known(this.#memory.found.known);
    this.#overlayOrNone = await Overlay.start(
      {
        transport: {
          identity,
          software,
          log,
          clock: this.#clock,
          metrics: this.metrics,
          revocations: this.#revocations,
          isGone: (node) => this.#roll.isGone(node),
          takers: new Map([[SIGN_PROTOCOL, (arrived) => this.#signer.take(arrived)]]),
        },
        random,
        incarnation: this.#incarnation,
        listen: settings.listen,
        advertise: (bound) => this.#self.advertised(bound),
        zone: settings.zone,
        handlers: {
          event: (event) => this.#heard(event),
          message: (from, _channel, bytes) => this.#message(from, bytes),
          up: (peer) => this.#connected(peer),
          down: (id) => this.#disconnected(id),
        },
      },
      known,
      // The overlay forgets known peers that cannot be reached; seeds it asks again while it is alone.
      [...seeds, ...known],
    );
    try {
      this.#act(followed);
      this.#rotation.start();
      this.#look();
      const { nodeId, clusterId } = this;
      log.info({ cluster: clusterId, node: nodeId, address: this.address }, 'member of a cluster');
    } catch (error) {
      await this.stop(false); // nobody holds it: it would be a member for ever
      throw error;
    }
  }

  get #overlay(): Overlay {
    if (this.#overlayOrNone === undefined) throw new Error('bug: the overlay is not there yet');
    return this.#overlayOrNone;
  }

  get nodeId(): string {
    return this.#options.identity.nodeId;
  }

  get clusterId(): string {
    return this.#options.identity.clusterId;
  }

  /** IP:PORT that others dial. */
  get address(): string {
    return this.#overlay.self.address;
  }

  /** What was written here and is on disk: spreads it. */
  local({ updates, changed }: Spreadable): void {
    this.#replicator.give({ type: 'local', updates, changed: [], stored: true });
    this.#follow(changed);
  }

  /** Tells all; without a value it is withdrawn. It ends by itself after `forMs`. */
  fact(key: string, value: Uint8Array | undefined, forMs: number, priority: Priority): void {
    this.#replicator.give({ type: 'fact', key, value, forMs, priority });
  }

  /** This node said that it leaves, and died before it had: nobody takes its document any more. */
  get hasLeft(): boolean {
    return this.#roll.whyGone(this.nodeId) === 'left';
  }

  /** Nodes that are gone for good, with the addresses that they had: not among unreachable(). */
  gone(): Roll['gone'] {
    return this.#roll.gone;
  }

  /** Nodes whose backends are of no use now. The same set until it changes. */
  unreachable(): ReadonlySet<string> {
    return this.#liveness.unreachable;
  }

  members(): MemberView[] {
    return membersOf(this.#sources());
  }

  /** How many members are before it in what one does for all. */
  get rank(): number {
    return rankOf(this.#sources());
  }

  routes(): RouteView[] {
    return routesOf(this.#sources());
  }

  status(): MemberStatus {
    const { settings, state } = this.#options;
    const { transport } = this.#overlay;
    return statusOf(this.#sources(), {
      clusterId: this.clusterId,
      name: settings.name,
      signer: this.#key.isThere,
      keyProblem: this.#key.problem,
      vips: settings.vips,
      incarnation: this.#overlay.node.detector.incarnation,
      certificate: { ...this.#rotation.identity, dueAtMs: this.#rotation.dueAtMs },
      nowMs: this.#clock.wallMs(),
      whyGone: this.#roll.whyGone(this.nodeId),
      reachedAt: this.#self.reachedAt(this.address),
      turnedAwaySinceMs: transport.turnedAwaySinceMs,
      wasSetBack: this.#wasSetBack,
      aloneSinceMs: this.#presence.aloneSinceMs,
      documents: state.replica.documents().length,
      revocations: this.#revocations.size,
      lag: this.#replicator.lag(),
      queuedBytes: (id) => transport.queuedBytes(id),
      metrics: this.metrics,
    });
  }

  #sources(): Sources {
    return {
      node: this.#overlay.node,
      liveness: this.#liveness,
      record: (id) => this.#roll.record(id),
      isGone: (id) => this.#roll.isGone(id),
      startedAtMs: this.#startedAtMs,
      iso,
    };
  }

  /** The word is shown once and not kept. Throws ProblemError. */
  issueToken(validForMs: number, signer: boolean): IssuedToken {
    return this.#signer.issue(validForMs, signer);
  }

  tokens(): readonly TokenView[] {
    return this.#signer.tokens();
  }

  /** False when there is none that is unused. */
  withdrawToken(id: string): boolean {
    return this.#signer.withdrawToken(id);
  }

  /** Puts a node out for good: cut everywhere, its document forgotten. Throws with nothing changed. */
  revoke(node: string, reason: string): void {
    if (!isNodeId(node)) {
      const message = `"${node}" is no node id`;
      const hint = 'take one from `zerohop members`';
      throw new ProblemError([{ code: 'invalid', message, path: 'node', hint }]);
    }
    if (node === this.nodeId) {
      const message = 'a host cannot revoke itself';
      const hint = 'leave with `zerohop cluster leave`, or revoke it on another host';
      throw new ProblemError([{ code: 'conflict', message, path: 'node', hint }]);
    }
    if (this.#roll.record(node)?.signer === true)
      this.#options.log.warn(
        { member: node },
        'the member that is revoked has the CA key: if others have that now, found a new cluster',
      );
    const revokedAtMs = this.#clock.wallMs();
    const untilMs = revokedAtMs + NODE_VALIDITY_MS; // its last certificate may have been made just now
    const revocation = { kind: 'node', id: node, revokedAtMs, untilMs, reason } as const;
    this.#write([writeRevocation(revocation), this.#writeGone(node, 'revoked')]);
  }

  #writeGone(node: string, why: 'left' | 'revoked'): Write {
    const atMs = this.#clock.wallMs();
    return this.#roll.goneWrite(node, { why, at: iso(atMs), atMs });
  }

  /** With a goodbye, others have let go of this host's backends when it resolves, or soon after. */
  stop(goodbye: boolean): Promise<void> {
    this.#stopped ??= this.#stop(goodbye);
    return this.#stopped;
  }

  async #stop(goodbye: boolean): Promise<void> {
    this.#presence.stop();
    this.#cancelLook?.();
    this.#rotation.stop();
    this.#remember(true); // the goodbye forgets the neighbours
    const there = this.#reachablePeers();
    if (goodbye && there.length > 0) {
      await this.#pause(REPLICATION_CONFIG.batchMs); // the last batch
      this.#overlay.goodbye();
      await this.#drained(there);
      await this.#pause(GOODBYE_MS);
    }
    this.#replicator.stop();
    await this.#overlay.stop();
    for (const cancel of this.#cancelCuts) cancel(); // until now others can leave
  }

  /** Leaves the cluster for good; nothing of its keys is kept. Throws with nothing changed. */
  async leave(): Promise<LeaveResult> {
    this.#isLeaving = true;
    try {
      this.#write([this.#writeGone(this.nodeId, 'left')]);
    } catch (error) {
      this.#isLeaving = false;
      throw error;
    }
    await this.#pause(REPLICATION_CONFIG.batchMs);
    const there = this.#reachablePeers();
    const told = there.length > 0 && (await this.#drained(there));
    await this.stop(true);
    this.#options.vault.forget();
    this.#memory.forget();
    return { told };
  }

  #write(writes: readonly Write[]): void {
    this.local(this.#options.state.write(writes, this.#clock.wallMs()));
  }

  #message(from: Peer, bytes: Uint8Array): void {
    this.#settleLinks();
    this.#replicator.message(from.id, bytes);
  }

  #connected(peer: Peer): void {
    this.#settleLinks();
    this.#peers.set(peer.id, peer);
    this.#replicator.connected(peer.id, true);
  }

  #disconnected(id: string): void {
    this.#settleLinks();
    this.#peers.delete(id);
    this.#replicator.connected(id, false);
  }

  #heard(event: Event): void {
    switch (event.type) {
      case 'link-up':
        this.#presence.linkUp();
        return this.#relink(event.peer.id, true);
      case 'link-down':
        this.#presence.linkDown();
        return this.#relink(event.peer.id, false);
      case 'member-up':
        return this.#presence.heard(event.id, 'alive');
      case 'member-dead':
        return this.#presence.heard(event.id, 'dead');
      case 'member-left':
        return this.#presence.heard(event.id, 'left');
      case 'delivered': {
        const { origin, payload } = event;
        if (origin === this.nodeId) return undefined;
        return this.#replicator.give({ type: 'broadcast', origin, bytes: payload });
      }
      case 'refused':
        return this.#braked.write('warn', 'refused', event, 'the overlay refused a message');
      case 'joined':
      case 'suspected':
      case 'cleared':
        return this.#options.log.debug(event, 'overlay');
    }
  }

  /** Both ends greet a new neighbour once the overlay is done with its step: after its own word. */
  #relink(id: string, isLinked: boolean): void {
    if (this.#relinked.length === 0) queueMicrotask(() => this.#settleLinks());
    this.#relinked.push({ id, isLinked });
  }

  #settleLinks(): void {
    const relinked = this.#relinked;
    this.#relinked = [];
    for (const { id, isLinked } of relinked) this.#replicator.linked(id, isLinked);
  }

  #follow(changed: readonly Changed[]): void {
    const followed = this.#roll.follow(changed, this.#clock.now());
    this.#act(followed);
    for (const node of followed.gone) this.#cut(node);
    this.#presence.watch();
    this.#isRecordNews ||= changed.some(({ key }) => key === NODE_KEY);
  }

  #act({ gone, isRevocation, isReachability }: Followed): void {
    const { log, state } = this.#options;
    if (isRevocation) this.#overlay.transport.enforceRevocations();
    for (const node of gone) {
      const why = this.#roll.whyGone(node);
      if (node === this.nodeId) {
        if (this.#isLeaving) continue;
        log.warn({ why }, 'this host was put out of the cluster: leave, and join with a new token');
      } else if (state.replica.digest(documentOf(node)) !== undefined) {
        log.info({ member: node, why }, 'a member is gone for good');
        state.forget(node);
      }
    }
    if (isReachability || gone.length > 0) this.#presence.tell();
  }

  /** One that leaves of itself is let out in order first, but not in again. */
  #cut(node: string): void {
    const { transport } = this.#overlay;
    if (this.#roll.whyGone(node) !== 'left') return transport.cut(node);
    const cancel = this.#clock.after(LEAVE_MS, () => {
      this.#cancelCuts.delete(cancel);
      transport.cut(node);
    });
    this.#cancelCuts.add(cancel);
    return undefined;
  }

  #notice(notice: ReplicationNotice, from: string): void {
    if (notice.type === 'own-history') {
      if (this.#options.state.renew()) {
        const { document, writes } = notice;
        return this.#options.log.warn({ peer: from, document, writes }, RENEWED);
      }
      this.#wasSetBack = true;
    }
    const { level, message, fields } = explain(notice, from);
    this.#braked.write(level, notice.type, fields, message);
  }

  /** Now and then: what is to be remembered, and what is to be told of this host. */
  #look(): void {
    this.#remember(false);
    if (this.#key.problem !== undefined) this.#key.look();
    this.#signer.look();
    this.#tellOfSelf();
    this.#lookAtPools();
    if (this.#presence.aloneSinceMs === undefined) this.#aging.look(() => this.rank);
    this.#cancelLook = this.#clock.after(LOOK_MS, () => this.#look());
  }

  #remember(isLast: boolean): void {
    const { node } = this.#overlay;
    const known = this.#overlay.knownPeers();
    const absent = this.#liveness.remembered(this.#clock.now(), this.#clock.wallMs());
    const memories = { known: known.length > 0 ? known : this.#knownBefore(), absent };
    this.#memory.save(memories, node.detector.incarnation, isLast);
  }

  /** Whom the next run asks where this one has met nobody. */
  #knownBefore(): Peer[] {
    return this.#roll.known([...this.#memory.found.known, ...this.#options.seeds]);
  }

  #lookAtPools(): void {
    if (!this.#isRecordNews) return;
    this.#isRecordNews = false;
    const told = this.#roll.others().map(({ id, record: { name, vips } }) => ({ id, name, vips }));
    const here = this.#options.settings.vips;
    for (const { id, name, vips } of this.#pools.news(told)) {
      const message = `a member takes VIPs from other blocks than this host: ${POOLS_HINT}`;
      this.#braked.write('warn', 'pools', { member: id, name, vips, here }, message);
    }
  }

  #tellOfSelf(): void {
    try {
      const write = this.#self.write(this.address);
      if (write !== undefined) this.#write([write]);
    } catch (error) {
      this.#braked.write('warn', 'record', { error }, 'what this host is cannot be written down');
    }
  }

  /** Where nobody says that it signs. */
  #anybody(): Peer[] {
    return [...this.#overlay.knownPeers(), ...this.#memory.found.known, ...this.#options.seeds];
  }

  /** Those that answer: others take no goodbye. */
  #reachablePeers(): string[] {
    const { detector } = this.#overlay.node;
    return [...this.#peers.keys()].filter((id) => !detector.isSuspected(id));
  }

  /** Whether all that was to be sent to these is in the kernel, or further. */
  async #drained(to: readonly string[]): Promise<boolean> {
    const { transport } = this.#overlay;
    const endMs = this.#clock.now() + DRAIN_MS;
    while (to.some((id) => transport.queuedBytes(id) > 0)) {
      if (this.#clock.now() >= endMs) return false;
      await this.#pause(DRAIN_LOOK_MS);
    }
    return true;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(ms, resolve));
  }
}

function iso(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
