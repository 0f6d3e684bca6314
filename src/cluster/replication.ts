/**
 * Replication between a Replica and the overlay: what happened goes in with the time, what is to be
 * done comes out, in the order in which it has to be done. Small updates are broadcast; everything
 * else is pulled from neighbours that told a digest which is not ours (exchange.ts).
 *
 * No socket, file, clock or timer. handle() never throws on what others sent. `nowMs` never goes
 * back; `wallMs` is wall time for the stamps of the replica and may jump.
 */
import { unit, below, type Random } from '../hyparview-ts/random.ts';
import type { Priority } from '../hyparview-ts/index.ts';
import {
  documentOf,
  SHARED,
  type Changed,
  type Replica,
  type Update,
} from '../state/replica/replica.ts';
import { LIMITS } from '../state/replica/limits.ts';
import { buildUpdate, parseUpdate } from '../state/replica/wire.ts';
import { Strangers, type Ephemeral, type Fact } from './ephemeral.ts';
import { EMPTY_DIGEST, Exchange } from './exchange.ts';
import {
  REPLICATION_CONFIG,
  type ReplicationConfig,
  type ReplicationInput,
  type ReplicationNotice,
  type ReplicationOutput,
} from './replication-types.ts';
import {
  decodeReplication,
  encodeReplication,
  REPLICATION_LIMITS,
  WireError,
  type DigestRange,
  type DocumentDigest,
  type ReplicationMessage,
} from './replication-wire.ts';

export interface ReplicationOptions {
  readonly replica: Replica;
  readonly ephemeral: Ephemeral;
  readonly random: Random;
  readonly config?: Partial<ReplicationConfig>;
  /** Documents of nodes that are gone for good are not to be brought back. */
  readonly isWelcome?: (document: string) => boolean;
}

type MessageOf<T extends ReplicationMessage['type']> = Extract<ReplicationMessage, { type: T }>;

/** Bytes of an update in a message beside its id and its content, at most. */
const UPDATE_OVERHEAD = 40;

export class Replication {
  readonly #replica: Replica;
  readonly #ephemeral: Ephemeral;
  readonly #random: Random;
  readonly #config: ReplicationConfig;
  readonly #isWelcome: (document: string) => boolean;
  readonly #exchange: Exchange;
  #out: ReplicationOutput[] = [];
  /** What each update of this input changed. */
  #changed: (readonly Changed[])[] = [];
  #nowMs = 0;
  #wallMs = 0;
  #queue: Update[] = [];
  #queueBytes = 0;
  readonly #facts = new Map<Priority, Map<string, Fact>>();
  readonly #strangers = new Strangers();
  /** Documents that neighbours are to be told of, and the one they are from. */
  readonly #news = new Map<string, string | undefined>();
  #sentAtMs = -Infinity;
  #compareAtMs: number | undefined;
  #scheduledAtMs: number | undefined;

  constructor(options: ReplicationOptions) {
    this.#replica = options.replica;
    this.#ephemeral = options.ephemeral;
    this.#random = options.random;
    this.#config = { ...REPLICATION_CONFIG, ...options.config };
    this.#isWelcome = options.isWelcome ?? (() => true);
    this.#exchange = new Exchange({
      replica: this.#replica,
      config: this.#config,
      isWelcome: this.#isWelcome,
      send: (to, message) => this.#send(to, message),
      take: (update, from) => this.#take(update, from, undefined),
      notice: (notice, from) => this.#notice(notice, from),
    });
  }

  handle(input: ReplicationInput, nowMs: number, wallMs: number): ReplicationOutput[] {
    this.#out = [];
    this.#nowMs = nowMs;
    this.#wallMs = wallMs;
    this.#compareAtMs ??= this.#nextCompare();
    this.#dispatch(input);
    this.#tellChanged();
    if (nowMs >= this.#compareAtMs) this.#compare();
    const ended = this.#ephemeral.expire(nowMs);
    if (ended.length > 0) this.#out.push({ type: 'facts', changed: ended });
    this.#exchange.expire(nowMs);
    this.#exchange.pump(nowMs);
    if (this.#waits() && nowMs >= this.#sentAtMs + this.#config.batchMs) this.#flush();
    this.#schedule();
    return this.#out;
  }

  /** For each neighbour: documents in which it is known to be ahead, or otherwise different, whatever it answered; undefined until it has told of all. */
  lag(): ReadonlyMap<string, number | undefined> {
    return new Map(this.#exchange.peers.map((id) => [id, this.#exchange.lag(id)]));
  }

  #dispatch(input: ReplicationInput): void {
    switch (input.type) {
      case 'local':
        if (input.stored !== true) this.#storeOwn(input.updates);
        this.#changed.push(input.changed);
        for (const update of input.updates) this.#enqueue(update);
        return;
      case 'fact':
        return this.#fact(input);
      case 'broadcast':
        if (input.origin !== this.#replica.node)
          this.#read(input.origin, input.bytes, (message) => this.#heard(input.origin, message));
        return;
      case 'message':
        return this.#read(input.from, input.bytes, (message) => this.#told(input.from, message));
      case 'up':
        this.#exchange.up(input.peer, this.#nowMs);
        this.#send(input.peer, this.#summary());
        for (const facts of chunks(this.#ephemeral.facts(this.#nowMs), FACTS_AT_ONCE))
          this.#send(input.peer, { type: 'facts', facts });
        return;
      case 'down':
        return this.#exchange.down(input.peer);
      case 'timer':
        this.#scheduledAtMs = undefined;
        return;
    }
  }

  #read(from: string, bytes: Uint8Array, take: (message: ReplicationMessage) => void): void {
    try {
      const message = decodeReplication(bytes);
      if (message !== undefined) take(message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#notice({ type: 'garbage', reason: error.message }, from);
    }
  }

  /** By broadcast. */
  #heard(origin: string, message: ReplicationMessage): void {
    if (message.type === 'updates') {
      for (const update of message.updates) this.#take(update, undefined, origin);
    } else if (message.type === 'facts') {
      this.#learn(message.facts.filter((fact) => fact.origin === origin));
    } else {
      throw new WireError(`${message.type} is not for all`);
    }
  }

  /** By a neighbour. */
  #told(from: string, message: ReplicationMessage): void {
    if (!this.#exchange.has(from)) return;
    switch (message.type) {
      case 'updates':
        throw new WireError('updates are for all');
      case 'summary':
        return this.#answerSummary(from, message);
      case 'digests':
        return this.#onDigests(from, message);
      case 'ask': {
        const writes = this.#replica.writesUnknownHere(message.vector);
        const { document } = message.vector;
        if (writes > 0) this.#notice({ type: 'own-history', document, writes }, from);
        return this.#exchange.onAsk(from, message.request, message.vector);
      }
      case 'part':
        return this.#exchange.onPart(from, message, this.#nowMs);
      case 'none':
        return this.#exchange.onNone(from, message.request, this.#nowMs);
      case 'got':
        return this.#exchange.onGot(from, message.bytes, this.#nowMs);
      case 'facts':
        return this.#learn(message.facts, from);
    }
  }

  /** Whether all that is in it is here now. */
  #take(update: Update, peer: string | undefined, origin: string | undefined): boolean {
    const { document } = update;
    if (!this.#isWelcome(document)) return false;
    const before = peer === undefined ? undefined : this.#exchange.digest(document);
    const isFirst = before === EMPTY_DIGEST && !this.#replica.waits(document);
    const received = this.#replica.receive(update, this.#wallMs, origin);
    const from = peer ?? origin ?? '';
    for (const notice of received.notices) this.#notice(notice, from);
    if (received.wants === 'ask') this.#want(document, peer ?? origin);
    if (received.wants === 'tell' && origin !== undefined && this.#exchange.has(origin))
      this.#send(origin, this.#digests([document]));
    const is = (type: ReplicationNotice['type']): boolean =>
      received.notices.some((notice) => notice.type === type);
    if (is('gap')) this.#want(document, peer ?? origin);
    if (received.wants !== undefined || is('refused')) return false;
    // An answer builds on what is known here. A broadcast that changes nothing may wait for another,
    // and the disk needs both.
    if (peer !== undefined && this.#exchange.digest(document) === before) return !is('gap');
    // After a new epoch nothing that was stored of the document before fits.
    if (is('epoch'))
      this.#store([received.updates.length === 0 ? update : this.#replica.whole(document)], true);
    else if (isFirst && !this.#replica.waits(document))
      this.#store([{ ...update, whole: true }], true);
    else this.#store([update], false);
    this.#changed.push(received.changed);
    for (const carried of received.updates) this.#carry(carried);
    if (peer !== undefined) this.#news.set(document, peer);
    return !is('gap');
  }

  /** What an epoch missed. Of others' writes all hosts would broadcast the same: neighbours are told of them. */
  #carry(update: Update): void {
    const { writer } = this.#replica;
    const { runs, removals } = parseUpdate(update.bytes, LIMITS, LIMITS.snapshotBytesMax);
    const own = {
      runs: runs.filter(({ client }) => client === writer),
      removals: new Map([...removals].filter(([client]) => client === writer)),
    };
    if (own.runs.length > 0) this.#enqueue({ ...update, bytes: buildUpdate(own) });
    const isAll = own.runs.length === runs.length && own.removals.size === removals.size;
    if (!isAll) this.#news.set(update.document, undefined);
  }

  /** At once: when the first of several updates is told, the replica holds them all. */
  #tellChanged(): void {
    const changed = merged(this.#changed.filter(({ length }) => length > 0));
    this.#changed = [];
    if (changed.length > 0) this.#out.push({ type: 'changed', changed });
    if (this.#strangers.size > 0 && changed.some(({ document }) => document !== SHARED))
      this.#learn(this.#strangers.take((origin) => this.#isKnown(origin), this.#nowMs));
  }

  /** A document of which something came that does not fit: asked for where it came from, or anywhere. */
  #want(document: string, from: string | undefined): void {
    const { peers } = this.#exchange;
    const peer =
      from !== undefined && this.#exchange.has(from)
        ? from
        : peers[below(this.#random, Math.max(1, peers.length))];
    if (peer !== undefined) this.#exchange.want(peer, document, UNLIKE_ANY);
  }

  #storeOwn(updates: readonly Update[]): void {
    for (const whole of [false, true])
      this.#store(
        updates.filter((update) => update.whole === whole),
        whole,
      );
  }

  #store(updates: readonly Update[], whole: boolean): void {
    if (updates.length > 0)
      this.#out.push({ type: 'store', updates, clock: this.#replica.clockState(), whole });
  }

  #enqueue(update: Update): void {
    const { batchBytesMax } = this.#config;
    const bytes = update.bytes.length + update.document.length + UPDATE_OVERHEAD;
    if (bytes > batchBytesMax) {
      this.#news.set(update.document, undefined);
      return;
    }
    const isFull = this.#queue.length >= REPLICATION_LIMITS.updatesPerMessage;
    if (this.#queueBytes + bytes > batchBytesMax || isFull) this.#flush();
    this.#queue.push(update);
    this.#queueBytes += bytes;
  }

  #fact({ key, value, forMs, priority }: Extract<ReplicationInput, { type: 'fact' }>): void {
    const fact = this.#ephemeral.state(key, value, forMs, this.#nowMs);
    if (fact === undefined) return this.#notice({ type: 'fact-refused', key }, '');
    if ((this.#facts.get(priority)?.size ?? 0) >= FACTS_AT_ONCE) this.#flush();
    const facts = this.#facts.get(priority) ?? new Map<string, Fact>();
    facts.set(key, fact);
    this.#facts.set(priority, facts);
  }

  /** Of nodes with a document, and of the neighbour that says it itself: made-up origins could be without number. */
  #learn(facts: readonly Fact[], from?: string): void {
    const known: Fact[] = [];
    for (const fact of facts) {
      if (fact.origin === from || this.#isKnown(fact.origin)) known.push(fact);
      else if (this.#isWelcome(documentOf(fact.origin))) this.#strangers.keep(fact, this.#nowMs);
    }
    const changed = this.#ephemeral.receive(known, this.#nowMs);
    if (changed.length > 0) this.#out.push({ type: 'facts', changed });
  }

  #isKnown(node: string): boolean {
    if (node === this.#replica.node) return true;
    const document = documentOf(node);
    return this.#exchange.digest(document) !== EMPTY_DIGEST && this.#isWelcome(document);
  }

  #waits(): boolean {
    return this.#queue.length > 0 || this.#news.size > 0 || this.#facts.size > 0;
  }

  #flush(): void {
    this.#sentAtMs = this.#nowMs;
    for (const [priority, facts] of this.#facts)
      if (facts.size > 0) this.#broadcast({ type: 'facts', facts: [...facts.values()] }, priority);
    this.#facts.clear();
    if (this.#queue.length > 0)
      this.#broadcast({ type: 'updates', updates: this.#queue }, 'normal');
    this.#queue = [];
    this.#queueBytes = 0;
    for (const peer of this.#exchange.peers) {
      const news = [...this.#news].flatMap(([id, source]) => (source === peer ? [] : [id]));
      for (const some of chunks(news, REPLICATION_LIMITS.digestsPerMessage))
        this.#send(peer, this.#digests(some));
    }
    this.#news.clear();
  }

  /** With a random neighbour, whether or not anything is known to have happened. */
  #compare(): void {
    this.#compareAtMs = this.#nextCompare();
    const { peers } = this.#exchange;
    const peer = peers[below(this.#random, Math.max(1, peers.length))];
    if (peer !== undefined) this.#send(peer, this.#summary());
  }

  #nextCompare(): number {
    return this.#nowMs + this.#config.compareMs * (0.5 + unit(this.#random));
  }

  #known(): DocumentDigest[] {
    return [...this.#replica.digests()]
      .flatMap(([document, digest]) =>
        digest !== EMPTY_DIGEST && this.#isWelcome(document) ? [{ document, digest }] : [],
      )
      .sort((a, b) => (a.document < b.document ? -1 : 1));
  }

  #summary(): MessageOf<'summary'> {
    let [high, low] = [0, 0];
    for (const { document, digest } of this.#known()) {
      high ^= hash(`${document} ${digest}`, 0x811c9dc5);
      low ^= hash(`${digest} ${document}`, 0x01000193);
    }
    return { type: 'summary', high: high >>> 0, low: low >>> 0 };
  }

  #answerSummary(from: string, theirs: MessageOf<'summary'>): void {
    const ours = this.#summary();
    if (ours.high === theirs.high && ours.low === theirs.low) return this.#exchange.equal(from);
    const known = this.#known();
    const pieces = chunks(known, REPLICATION_LIMITS.digestsPerMessage);
    let after = '';
    for (const [i, digests] of (pieces.length > 0 ? pieces : [[]]).entries()) {
      const upTo = i + 1 < pieces.length ? (digests.at(-1)?.document ?? '') : '';
      this.#send(from, { type: 'digests', digests, range: { after, upTo } });
      after = upTo;
    }
  }

  #onDigests(from: string, { digests, range }: MessageOf<'digests'>): void {
    for (const { document, digest } of digests) this.#exchange.want(from, document, digest);
    if (range === undefined) return;
    if (range.upTo === '') this.#exchange.told(from);
    this.#tellMissing(from, digests, range);
  }

  /** What they have nothing of, they cannot find different. */
  #tellMissing(from: string, digests: readonly DocumentDigest[], range: DigestRange): void {
    const listed = new Set(digests.map(({ document }) => document));
    const missing = this.#known().flatMap(({ document }) => {
      const isWithin = document > range.after && (range.upTo === '' || document <= range.upTo);
      return isWithin && !listed.has(document) ? [document] : [];
    });
    for (const some of chunks(missing, REPLICATION_LIMITS.digestsPerMessage))
      this.#send(from, this.#digests(some));
  }

  #digests(documents: readonly string[]): MessageOf<'digests'> {
    const digests = documents.map((document) => ({
      document,
      digest: this.#exchange.digest(document),
    }));
    return { type: 'digests', digests, range: undefined };
  }

  #broadcast(message: ReplicationMessage, priority: Priority): void {
    this.#out.push({ type: 'broadcast', bytes: encodeReplication(message), priority });
  }

  #send(to: string, message: ReplicationMessage): void {
    const channel = message.type === 'part' ? 'state-bulk' : 'state';
    this.#out.push({ type: 'send', to, channel, bytes: encodeReplication(message) });
  }

  #notice(notice: ReplicationNotice, from: string): void {
    this.#out.push({ type: 'notice', notice, from });
  }

  #schedule(): void {
    const flushAtMs = this.#waits() ? this.#sentAtMs + this.#config.batchMs : Infinity;
    const atMs = Math.min(
      flushAtMs,
      this.#compareAtMs ?? Infinity,
      this.#ephemeral.nextAtMs,
      this.#exchange.nextAtMs(this.#nowMs),
    );
    if (atMs === this.#scheduledAtMs || atMs === Infinity) return;
    this.#scheduledAtMs = atMs;
    this.#out.push({ type: 'schedule', atMs });
  }
}

/** A digest that no document has. */
const UNLIKE_ANY = '';

/** 1 MiB of facts of the largest kind: what a broadcast may hold. */
const FACTS_AT_ONCE = 200;

/** What was before the first and is after the last; without what is again as it was. */
function merged(all: readonly (readonly Changed[])[]): readonly Changed[] {
  const [first = [], ...more] = all;
  if (more.length === 0) return first;
  const byKey = new Map<string, Changed>();
  for (const one of [first, ...more].flat()) {
    const name = `${one.document}\n${one.key}`;
    byKey.set(name, { ...one, before: (byKey.get(name) ?? one).before });
  }
  return [...byKey.values()].filter(({ before, after }) => before !== after);
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  const pieces: T[][] = [];
  for (let i = 0; i < items.length; i += size) pieces.push(items.slice(i, i + size));
  return pieces;
}

/** FNV-1a: to see that something differs, between hosts that trust each other. */
function hash(text: string, seed: number): number {
  let value = seed;
  for (let i = 0; i < text.length; i++)
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return value;
}
