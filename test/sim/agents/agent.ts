/**
 * One whole agent as a state machine of the simulator: overlay, replication, replica, view, liveness,
 * catalog and a fake map, joined as src/cluster/io and src/agent.ts join them. The parts are those
 * that ship; what is here is the order in which they are called.
 *
 * Writing to the disk takes time, in which the agent stands still, as one that waits for fsync does:
 * what it does is a generator that yields the milliseconds it waits.
 */
import { buildCatalog, type Catalog } from '../../../src/catalog/catalog.ts';
import { servicesBetween, type CatalogContext } from '../../../src/catalog/context.ts';
import type { VipPools } from '../../../src/catalog/vips.ts';
import { Ephemeral } from '../../../src/cluster/ephemeral.ts';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { Replication } from '../../../src/cluster/replication.ts';
import { Revocations } from '../../../src/cluster/revocation.ts';
import { Roll, type Followed } from '../../../src/cluster/roll.ts';
import type {
  ReplicationInput,
  ReplicationNotice,
  ReplicationOutput,
} from '../../../src/cluster/replication-types.ts';
import { knownPeers, Node } from '../../../src/hyparview-ts/index.ts';
import type {
  Config,
  Event,
  Input,
  Message,
  Names,
  Output,
  Peer,
  Random,
} from '../../../src/hyparview-ts/index.ts';
import type { Change } from '../../../src/state/records.ts';
import {
  documentOf,
  Replica,
  SHARED,
  type Changed,
  type Update,
  type Write,
} from '../../../src/state/replica/replica.ts';
import type { NodeRecord } from '../../../src/state/replica/schema.ts';
import { StateView } from '../../../src/state/replica/view.ts';
import type { Disk } from './disk.ts';
import type { FakeMap } from './fake-map.ts';

/** On the channels `state` and `state-bulk`. */
export interface StateMessage {
  readonly type: 'state';
  readonly bytes: Uint8Array;
}

export type AgentMessage = Message | StateMessage;

/** What an operator asks for: `writes` is called when it is this command's turn. */
export interface Command {
  readonly writes: (agent: Agent) => readonly Write[];
  readonly acknowledged?: () => void;
}

export type AgentInput =
  | Exclude<Input, { type: 'received' | 'timer' }>
  | { readonly type: 'received'; readonly from: Peer; readonly message: AgentMessage }
  | { readonly type: 'timer'; readonly key: string }
  | { readonly type: 'command'; readonly command: Command }
  | { readonly type: 'compact'; readonly document: 'shared' | 'own' };

export type AgentOutput =
  | Exclude<Output, { type: 'send' | 'schedule' | 'cancel' }>
  | {
      readonly type: 'send';
      readonly to: Peer;
      readonly message: AgentMessage;
      readonly priority: string;
    }
  | { readonly type: 'schedule'; readonly key: string; readonly atMs: number }
  | { readonly type: 'cancel'; readonly key: string };

export interface AgentOptions {
  readonly self: Peer;
  readonly disk: Disk;
  readonly map: FakeMap;
  readonly pools: VipPools;
  readonly random: Random;
  readonly names: Names | undefined;
  readonly config: Partial<Config>;
  /** The wall clock, of the monotonic one. */
  readonly wallMs: (nowMs: number) => number;
  /** How long the next write to the disk takes. */
  readonly diskMs: () => number;
  /** What is about to be written; gives back what is called when that may be acknowledged. */
  readonly onWrites: (agent: Agent, writes: readonly Write[]) => () => void;
  readonly onNotice: (notice: ReplicationNotice, from: string) => void;
}

type Steps = Generator<number, void, void>;

/** How often an agent remembers whom it knows, and tidies its disk: src/cluster/io/member.ts, src/agent.ts. */
const REMEMBER_MS = 5000;
const TIDY_MS = 10_000;
/** As src/cluster/io/presence.ts. */
const AWAITED_LOOK_MS = 500;
const AWAITED_DEAD_MS = 3000;

export class Agent {
  readonly id: string;
  readonly overlay: Node;
  readonly replica: Replica;
  readonly view: StateView;
  readonly liveness: Liveness;
  readonly roll: Roll;
  catalog: Catalog;
  readonly #options: AgentOptions;
  readonly #replication: Replication;
  readonly #linked = new Map<string, Peer>();
  #relinked: { readonly peer: string; readonly isLinked: boolean }[] = [];
  #context: CatalogContext;
  #now = 0;
  #out: AgentOutput[] = [];
  #busy = false;
  #waits = false;
  #running: Steps | undefined;
  readonly #inputs: AgentInput[] = [];
  readonly #overlayInputs: Input[] = [];
  #overlayBusy = false;
  readonly #replicationInputs: ReplicationInput[] = [];
  #replicationBusy = false;

  /** A start: with what the disk has, and nothing else. */
  constructor(options: AgentOptions) {
    const { self, disk, random, names, config, map } = options;
    this.#options = options;
    this.id = self.id;
    const incarnation = disk.overlay.incarnation + 1;
    disk.overlay = { ...disk.overlay, incarnation };
    this.overlay = new Node({ self, random, incarnation, config, ...(names && { names }) });
    this.replica = Replica.open({ node: self.id, writer: disk.writer }, disk.open());
    this.view = StateView.open(this.replica);
    this.liveness = new Liveness({ self: self.id, remembered: disk.overlay.absent });
    const revocations = new Revocations();
    this.roll = new Roll({ replica: this.replica, liveness: this.liveness, revocations });
    const followed = this.roll.begin(this.#now);
    this.#replication = new Replication({
      replica: this.replica,
      ephemeral: new Ephemeral(self.id, incarnation),
      random,
      isWelcome: (document) => this.roll.isWelcome(document),
    });
    this.#context = this.contextOf(this.view);
    this.catalog = buildCatalog(this.view.snapshot(), this.#context);
    this.#act(followed);
    map.reconcile(this.catalog);
  }

  /** Nodes of the state that do not count. */
  unreachable(): string[] {
    return [...this.liveness.unreachable].filter((id) => this.view.nodes().has(id)).toSorted();
  }

  handle(input: AgentInput, now: number): AgentOutput[] {
    if (this.#busy) {
      this.#inputs.push(input);
      return [];
    }
    this.#busy = true;
    this.#now = now;
    this.#out = [];
    if (input.type === 'timer' && input.key === 'disk') {
      this.#options.disk.end();
      this.#waits = false;
    } else {
      this.#inputs.push(input);
    }
    this.#drain();
    this.#busy = false;
    return this.#out;
  }

  #drain(): void {
    while (!this.#waits) {
      if (this.#running === undefined) {
        const next = this.#inputs.shift();
        if (next === undefined) return;
        this.#running = this.#take(next);
      }
      const { done, value } = this.#running.next();
      if (done === true) this.#running = undefined;
      else this.#wait(value);
    }
  }

  #wait(ms: number): void {
    this.#waits = true;
    this.#out.push({ type: 'schedule', key: 'disk', atMs: this.#now + ms });
  }

  *#take(input: AgentInput): Steps {
    switch (input.type) {
      case 'command':
        return yield* this.#command(input.command);
      case 'compact':
        return yield* this.#compact(input.document === 'shared' ? SHARED : this.replica.own);
      case 'received': {
        const { from, message } = input;
        if (message.type !== 'state') return yield* this.#give({ type: 'received', from, message });
        return yield* this.#replicate({ type: 'message', from: from.id, bytes: message.bytes });
      }
      case 'timer':
        return yield* this.#onTimer(input.key);
      case 'start':
        this.#every('remember', REMEMBER_MS);
        this.#every('tidy', TIDY_MS);
        yield* this.#give({ type: 'start', known: this.roll.known(input.known) });
        return this.#watch();
      case 'join':
      case 'leave':
      case 'unreachable':
      case 'broadcast':
        return yield* this.#give(input);
    }
  }

  *#onTimer(key: string): Steps {
    switch (key) {
      case 'replication':
        return yield* this.#replicate({ type: 'timer' });
      case 'presence':
        return this.#askOfAwaited();
      case 'remember':
        this.#every('remember', REMEMBER_MS);
        return this.#remember();
      case 'tidy':
        this.#every('tidy', TIDY_MS);
        return yield* this.#tidy();
      default:
        return yield* this.#give({ type: 'timer', key } as Input);
    }
  }

  #every(key: string, ms: number): void {
    this.#out.push({ type: 'schedule', key, atMs: this.#now + ms });
  }

  #remember(): void {
    const { disk } = this.#options;
    const absent = this.liveness.remembered(this.#now, this.#options.wallMs(this.#now));
    disk.overlay = { ...disk.overlay, known: knownPeers(this.overlay), absent };
  }

  *#tidy(): Steps {
    const { replica } = this;
    const isKeeper = this.overlay.members.alive().every((id) => id >= this.id);
    for (const id of isKeeper ? [replica.own, SHARED] : [replica.own])
      if (replica.compactionDue(id, this.#options.wallMs(this.#now))) yield* this.#compact(id);
    if (isKeeper) yield* this.#settleVips();
  }

  /** As src/agent/io/pipeline.ts. */
  *#settleVips(): Steps {
    const changes: Change[] = [];
    for (const { kind, services } of this.catalog.conflicts) {
      const [, name] = services;
      const record = this.view.snapshot().services.get(name);
      const vips = this.catalog.services.get(name)?.vips ?? [];
      if (kind === 'reassigned' && record !== undefined && vips.length > 0)
        changes.push({ kind: 'put-service', service: { ...record, vips } });
    }
    if (changes.length > 0)
      yield* this.#command({ writes: () => this.view.writes(changes).writes });
  }

  // The overlay: as src/cluster/io/overlay.ts, inputs wait for their turn.

  *#give(input: Input): Steps {
    this.#overlayInputs.push(input);
    if (this.#overlayBusy) return;
    this.#overlayBusy = true;
    for (let next = this.#overlayInputs.shift(); next; next = this.#overlayInputs.shift())
      for (const output of this.overlay.handle(next, this.#now)) {
        if (output.type === 'event') yield* this.#event(output.event);
        else this.#out.push(output);
      }
    this.#overlayBusy = false;
    yield* this.#settleLinks();
  }

  *#event(event: Event): Steps {
    this.#out.push({ type: 'event', event });
    switch (event.type) {
      case 'delivered': {
        const { origin, payload } = event;
        if (origin === this.id) return;
        return yield* this.#replicate({ type: 'broadcast', origin, bytes: payload });
      }
      case 'link-up':
        this.#linked.set(event.peer.id, event.peer);
        this.#relinked.push({ peer: event.peer.id, isLinked: true });
        this.liveness.linked(this.#now);
        return this.#watch();
      case 'link-down':
        this.#relinked.push({ peer: event.peer.id, isLinked: false });
        return;
      case 'member-up':
        return this.#heard(event.id, 'alive');
      case 'member-dead':
        return this.#heard(event.id, 'dead');
      case 'member-left':
        return this.#heard(event.id, 'left');
      case 'joined':
      case 'suspected':
      case 'cleared':
      case 'refused':
        return;
    }
  }

  /** Once the overlay is done with its step, as src/cluster/io/member.ts. */
  *#settleLinks(): Steps {
    const relinked = this.#relinked;
    this.#relinked = [];
    for (const { peer, isLinked } of relinked) {
      yield* this.#replicate({ type: isLinked ? 'up' : 'down', peer });
      if (!isLinked && !this.overlay.views.active.has(peer)) this.#linked.delete(peer);
    }
  }

  // Presence: as src/cluster/io/presence.ts.

  #heard(id: string, standing: 'alive' | 'dead' | 'left'): void {
    if (this.roll.isGone(id)) return;
    if (this.liveness.heard(id, standing, this.#options.wallMs(this.#now))) this.#look(new Set());
  }

  #watch(): void {
    const inMs = this.liveness.nextAtMs - this.#now;
    if (inMs !== Infinity) this.#every('presence', Math.min(inMs, AWAITED_LOOK_MS));
  }

  #askOfAwaited(): void {
    for (const { id, forMs } of this.liveness.awaited(this.#now)) {
      const standing = this.overlay.members.standing(id);
      if (standing === 'left' || (standing === 'dead' && forMs >= AWAITED_DEAD_MS))
        this.#heard(id, standing);
    }
    if (this.liveness.expire(this.#now)) this.#look(new Set());
    this.#watch();
  }

  // Replication: as src/cluster/io/replicator.ts.

  *#replicate(input: ReplicationInput): Steps {
    this.#replicationInputs.push(input);
    if (this.#replicationBusy) return;
    this.#replicationBusy = true;
    for (
      let next = this.#replicationInputs.shift();
      next !== undefined;
      next = this.#replicationInputs.shift()
    ) {
      const wallMs = this.#options.wallMs(this.#now);
      for (const output of this.#replication.handle(next, this.#now, wallMs))
        yield* this.#do(output);
    }
    this.#replicationBusy = false;
  }

  *#do(output: ReplicationOutput): Steps {
    switch (output.type) {
      case 'store':
        return this.#keep(output.updates, output.clock, output.whole);
      case 'broadcast':
        return yield* this.#give({
          type: 'broadcast',
          payload: output.bytes,
          priority: output.priority,
        });
      case 'send': {
        const to = this.#linked.get(output.to);
        if (to === undefined) return;
        const priority = output.channel === 'state' ? 'normal' : 'bulk';
        const message: StateMessage = { type: 'state', bytes: output.bytes };
        this.#out.push({ type: 'send', to, message, priority });
        return;
      }
      case 'schedule':
        this.#out.push({ type: 'schedule', key: 'replication', atMs: output.atMs });
        return;
      case 'changed':
        return this.#follow(output.changed);
      case 'facts':
        return;
      case 'notice':
        return this.#options.onNotice(output.notice, output.from);
    }
  }

  // State: as src/state/io/state.ts, on the disk first.

  /** What others have too: nobody waits for the disk. */
  #keep(updates: readonly Update[], clock: string, whole: boolean): void {
    const clear = whole ? [...new Set(updates.map(({ document }) => document))] : [];
    this.#options.disk.write({ updates, clock, clear });
  }

  *#command({ writes: make, acknowledged }: Command): Steps {
    const { replica } = this;
    const { disk, diskMs, onWrites, wallMs } = this.#options;
    const writes = make(this);
    const done = onWrites(this, writes);
    const plan = replica.plan(writes, wallMs(this.#now));
    if (plan.updates.length > 0) {
      disk.begin({ updates: plan.updates, clock: plan.clock, clear: [] });
      yield diskMs();
    }
    const { updates, changed } = replica.commit(plan);
    yield* this.#replicate({ type: 'local', updates, changed: [], stored: true });
    this.#follow(changed);
    done();
    acknowledged?.();
  }

  *#compact(document: string): Steps {
    const { disk, diskMs } = this.#options;
    const plan = this.replica.planCompaction(document, this.#options.wallMs(this.#now));
    // Durable first: after a power cut the number of an epoch that others have must not be given again.
    disk.begin({ updates: plan.updates, clock: plan.clock, clear: [document] });
    yield diskMs();
    const { updates } = this.replica.commit(plan);
    yield* this.#replicate({ type: 'local', updates, changed: [], stored: true });
  }

  #follow(changed: readonly Changed[]): void {
    const { touched } = this.view.follow(changed);
    this.#look(touched);
    this.#act(this.roll.follow(changed, this.#now));
    this.#watch();
  }

  #act({ gone, isReachability }: Followed): void {
    for (const node of gone) {
      const document = documentOf(node);
      if (node === this.id || this.replica.digest(document) === undefined) continue;
      const changed = this.replica.forgetDocument(document);
      this.#options.disk.write({
        updates: [],
        clock: this.replica.clockState(),
        clear: [document],
      });
      this.#look(this.view.follow(changed).touched);
    }
    if (isReachability || gone.length > 0) this.#look(new Set());
  }

  /** What the catalog depends on beside the records of a view. */
  contextOf(view: StateView): CatalogContext {
    const { gone } = this.roll;
    return {
      pools: this.#options.pools,
      self: this.id,
      nodes: new Map<string, Pick<NodeRecord, 'addresses'>>([...gone, ...view.nodes()]),
      unreachable: new Set([...this.liveness.unreachable, ...gone.keys()]),
      unhealthy: new Set(),
    };
  }

  /** The catalog and the map of what is known now, given the services whose records changed. */
  #look(touched: ReadonlySet<string>): void {
    const before = this.#context;
    this.#context = this.contextOf(this.view);
    const snapshot = this.view.snapshot();
    const names = new Set([...touched, ...servicesBetween(snapshot, before, this.#context)]);
    if (names.size === 0) return;
    const previous = { catalog: this.catalog, touched: names };
    this.catalog = buildCatalog(snapshot, this.#context, previous);
    this.#options.map.write(this.catalog, this.catalog.touched);
  }
}
