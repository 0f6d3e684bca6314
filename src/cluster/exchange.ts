/**
 * Documents pulled from peers and handed to peers. Whoever lacks something asks with its vector; the
 * answer comes in parts, of which no more than a window are under way; what has arrived is told, and
 * lets the next ones go. So the slowest of sender, link and receiver sets the pace.
 *
 * A document is asked for at one peer at a time. An answer without use makes the next ask of this
 * peer for this document wait, twice as long each time as long as nobody else brings something new.
 * Never applies anything: `take` does.
 */
import { LIMITS } from '../state/replica/limits.ts';
import type { Replica, Update, Vector } from '../state/replica/replica.ts';
import type { ReplicationConfig, ReplicationNotice } from './replication-types.ts';
import { REPLICATION_LIMITS, type Part, type ReplicationMessage } from './replication-wire.ts';

/** What Replica.digest() says of a document in which nothing ever was. */
export const EMPTY_DIGEST = '0.0.0000000000000000';

/** What a part costs, however short it is: as measured. */
const PART_COST_MIN = 512;

interface Ask {
  readonly request: number;
  readonly askedAtMs: number;
  /** By offset: when connections change, two parts may change places. */
  readonly parts: Map<number, Uint8Array>;
  bytes: number;
  /** Counted in `assemblyBytesMax`. */
  cost: number;
  total: number | undefined;
}

interface Answer {
  readonly request: number;
  readonly update: Update;
  readonly digest: string;
  offset: number;
}

interface Backoff {
  /** Ours then. */
  readonly digest: string;
  readonly count: number;
  readonly untilMs: number;
}

interface Peer {
  /** Whether it has told of all its documents. */
  isTold: boolean;
  /** Document → the digest it told, until what it promises is here, whatever became of the asks. */
  readonly promised: Map<string, string>;
  /** Document → the digest it told; what differs from ours is asked for. */
  readonly wanted: Map<string, string>;
  /** As `wanted`, once the backoff is over. */
  readonly later: Map<string, string>;
  laterAtMs: number;
  readonly asks: Map<string, Ask>;
  /** The oldest ask: they are answered in order. */
  front: Ask | undefined;
  /** When it became that, or the last whole part of it was there. */
  frontAtMs: number;
  frontBytes: number;
  readonly backoffs: Map<string, Backoff>;
  fruitless: number;
  heardAtMs: number;
  quietUntilMs: number;
  readonly asked: { request: number; vector: Vector }[];
  answer: Answer | undefined;
  unconfirmed: number;
  confirmedAtMs: number;
}

export interface ExchangeHost {
  readonly replica: Replica;
  readonly config: ReplicationConfig;
  send(to: string, message: ReplicationMessage): void;
  /** Gives an update to the replica; whether all that is in it is here then. */
  take(update: Update, from: string): boolean;
  notice(notice: ReplicationNotice, from: string): void;
  /** Whether a document is one to have: not that of a node that is gone for good. */
  isWelcome(document: string): boolean;
}

export class Exchange {
  readonly #host: ExchangeHost;
  readonly #peers = new Map<string, Peer>();
  /** Documents asked for → the peer asked. */
  readonly #asking = new Map<string, string>();
  #request = 0;
  #assembled = 0;

  constructor(host: ExchangeHost) {
    this.#host = host;
  }

  get peers(): string[] {
    return [...this.#peers.keys()];
  }

  has(peer: string): boolean {
    return this.#peers.has(peer);
  }

  /** Documents that differ from this peer's, as far as is known: its lag. undefined until it has told of all. */
  lag(id: string): number | undefined {
    const peer = this.#peers.get(id);
    if (peer === undefined || !peer.isTold) return undefined;
    let behind = 0;
    for (const [document, digest] of peer.promised) {
      if (digest !== this.digest(document) && this.#host.isWelcome(document)) behind += 1;
      else peer.promised.delete(document);
    }
    return behind;
  }

  /** A peer has told of the last of its documents. */
  told(id: string): void {
    const peer = this.#peers.get(id);
    if (peer !== undefined) peer.isTold = true;
  }

  /** A peer has all that is here, and no more. */
  equal(id: string): void {
    this.told(id);
    this.#peers.get(id)?.promised.clear();
  }

  up(id: string, nowMs: number): void {
    this.down(id);
    this.#peers.set(id, {
      isTold: false,
      promised: new Map(),
      wanted: new Map(),
      later: new Map(),
      laterAtMs: Infinity,
      asks: new Map(),
      front: undefined,
      frontAtMs: nowMs,
      frontBytes: 0,
      backoffs: new Map(),
      fruitless: 0,
      heardAtMs: nowMs,
      quietUntilMs: -Infinity,
      asked: [],
      answer: undefined,
      unconfirmed: 0,
      confirmedAtMs: nowMs,
    });
  }

  down(id: string): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    for (const document of peer.asks.keys()) this.#drop(peer, document);
    this.#peers.delete(id);
  }

  /** A peer has a document with this digest; an empty one differs from all. */
  want(id: string, document: string, digest: string): void {
    const peer = this.#peers.get(id);
    if (peer === undefined || !this.#host.isWelcome(document)) return;
    peer.promised.delete(document);
    if (digest === this.digest(document)) return;
    const { wantedMax } = this.#host.config;
    if (peer.promised.size < wantedMax) peer.promised.set(document, digest);
    if (peer.wanted.size + peer.later.size >= wantedMax && !peer.wanted.has(document)) return;
    peer.later.delete(document);
    peer.wanted.set(document, digest);
  }

  digest(document: string): string {
    return this.#host.replica.digest(document) ?? EMPTY_DIGEST;
  }

  /** Asks for what is wanted, as far as limits and backoffs let it. */
  pump(nowMs: number): void {
    for (const [id, peer] of this.#peers) this.#serve(id, peer, nowMs);
    for (const [id, peer] of this.#peers) {
      this.#wakeLater(peer, nowMs);
      for (const [document, digest] of peer.wanted) {
        if (peer.asks.size >= this.#host.config.asksMax || nowMs < peer.quietUntilMs) break;
        if (this.#asking.has(document)) continue;
        peer.wanted.delete(document);
        if (digest === this.digest(document)) {
          peer.promised.delete(document);
          continue;
        }
        const untilMs = peer.backoffs.get(document)?.untilMs ?? -Infinity;
        if (nowMs < untilMs) {
          peer.later.set(document, digest);
          peer.laterAtMs = Math.min(peer.laterAtMs, untilMs);
          continue;
        }
        this.#ask(id, peer, document, nowMs);
      }
    }
  }

  #wakeLater(peer: Peer, nowMs: number): void {
    if (nowMs < peer.laterAtMs) return;
    for (const [document, digest] of peer.later) peer.wanted.set(document, digest);
    peer.later.clear();
    peer.laterAtMs = Infinity;
  }

  #ask(id: string, peer: Peer, document: string, nowMs: number): void {
    this.#request += 1;
    if (peer.asks.size === 0) peer.heardAtMs = nowMs;
    const request = this.#request;
    peer.asks.set(document, {
      request,
      askedAtMs: nowMs,
      parts: new Map(),
      bytes: 0,
      cost: 0,
      total: undefined,
    });
    this.#asking.set(document, id);
    if (peer.fruitless >= this.#host.config.fruitlessMax)
      peer.quietUntilMs = nowMs + this.#host.config.quietMs;
    const vector = this.#host.replica.vector(document);
    this.#host.send(id, { type: 'ask', request, vector });
  }

  onAsk(id: string, request: number, vector: Vector): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    if (peer.asked.length >= this.#host.config.answersMax)
      return this.#host.send(id, { type: 'none', request });
    peer.asked.push({ request, vector });
  }

  /** Sends parts while the window is open. */
  #serve(id: string, peer: Peer, nowMs: number): void {
    const { partBytes, windowBytes } = this.#host.config;
    for (;;) {
      peer.answer ??= this.#nextAnswer(id, peer);
      const { answer } = peer;
      if (answer === undefined) return;
      const { update, request, digest, offset } = answer;
      const bytes = update.bytes.subarray(offset, offset + partBytes);
      if (peer.unconfirmed > 0 && peer.unconfirmed + bytes.length > windowBytes) return;
      const { document, epoch, whole } = update;
      const total = update.bytes.length;
      this.#host.send(id, {
        type: 'part',
        request,
        document,
        epoch,
        whole,
        digest,
        total,
        offset,
        bytes,
      });
      if (peer.unconfirmed === 0) peer.confirmedAtMs = nowMs;
      peer.unconfirmed += bytes.length;
      answer.offset += bytes.length;
      if (answer.offset >= total) peer.answer = undefined;
    }
  }

  #nextAnswer(id: string, peer: Peer): Answer | undefined {
    const { replica } = this.#host;
    for (let next = peer.asked.shift(); next !== undefined; next = peer.asked.shift()) {
      const { request, vector } = next;
      const update = replica.diff(vector);
      const { document } = vector;
      if (update === undefined || update.bytes.length > REPLICATION_LIMITS.totalBytes) {
        this.#host.send(id, { type: 'none', request });
        // Either they know a newer epoch, or it is no vector: an ask costs us less than to find out.
        if (replica.digest(document) !== undefined) this.want(id, document, '');
        continue;
      }
      // With everything in it, the limit is that of a whole document.
      const isLarge = update.bytes.length > LIMITS.updateBytesMax && !update.whole;
      const digest = this.digest(document);
      return { request, update: isLarge ? replica.whole(document) : update, digest, offset: 0 };
    }
    return undefined;
  }

  onGot(id: string, bytes: number, nowMs: number): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    peer.unconfirmed = Math.max(0, peer.unconfirmed - bytes);
    peer.confirmedAtMs = nowMs;
  }

  onNone(id: string, request: number, nowMs: number): void {
    const peer = this.#peers.get(id);
    for (const [document, ask] of peer?.asks ?? []) {
      if (peer === undefined || ask.request !== request) continue;
      peer.heardAtMs = nowMs;
      this.#drop(peer, document);
      this.#fruitless(peer, document, nowMs);
    }
  }

  onPart(id: string, part: Part, nowMs: number): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    this.#host.send(id, { type: 'got', bytes: part.bytes.length });
    const { document, bytes, offset, total } = part;
    const ask = peer.asks.get(document);
    if (ask === undefined || ask.request !== part.request) return; // timed out before
    peer.heardAtMs = nowMs;
    ask.total ??= total;
    const isNew = !ask.parts.has(offset) && (bytes.length > 0 || total === 0);
    const cost = Math.max(bytes.length, PART_COST_MIN);
    this.#assembled += cost;
    ask.cost += cost;
    ask.bytes += bytes.length;
    ask.parts.set(offset, bytes);
    if (!isNew || total !== ask.total || ask.bytes > total) {
      this.#drop(peer, document);
      this.#fruitless(peer, document, nowMs);
      return;
    }
    if (ask.bytes === total) return this.#finish(id, peer, part, ask, nowMs);
    if (ask === peer.front && ask.bytes - peer.frontBytes >= this.#host.config.partBytes) {
      peer.frontAtMs = nowMs;
      peer.frontBytes = ask.bytes;
    }
    this.#makeRoom(nowMs);
  }

  /** Whoever has most of what arrives gives way: nobody keeps the others from theirs. */
  #makeRoom(nowMs: number): void {
    if (this.#assembled <= this.#host.config.assemblyBytesMax) return;
    const costOf = ({ asks }: Peer): number => {
      let sum = 0;
      for (const { cost } of asks.values()) sum += cost;
      return sum;
    };
    const [most] = [...this.#peers.values()].sort((a, b) => costOf(b) - costOf(a));
    for (const [document, { cost }] of most?.asks ?? []) {
      if (most === undefined || cost === 0) continue;
      this.#drop(most, document);
      this.#fruitless(most, document, nowMs);
    }
  }

  #finish(id: string, peer: Peer, part: Part, ask: Ask, nowMs: number): void {
    const { document, epoch, whole, digest } = part;
    this.#drop(peer, document);
    const before = this.digest(document);
    const isHere = this.#host.take({ document, epoch, whole, bytes: joined(ask) }, id);
    // But for what was told since it was asked for.
    if (isHere && !peer.wanted.has(document)) peer.promised.delete(document);
    const after = this.digest(document);
    // Also if they say the same as we do now: that can be said for ever.
    if (after === before) {
      this.#fruitless(peer, document, nowMs, this.#isRace(peer, document));
    } else {
      peer.backoffs.delete(document);
      peer.fruitless = 0;
    }
    // They lack something that is known here, or lie.
    if (after !== digest && after !== EMPTY_DIGEST)
      this.#host.send(id, {
        type: 'digests',
        digests: [{ document, digest: after }],
        range: undefined,
      });
  }

  #drop(peer: Peer, document: string): void {
    const ask = peer.asks.get(document);
    if (ask === undefined) return;
    peer.asks.delete(document);
    this.#asking.delete(document);
    this.#assembled -= ask.cost;
  }

  /** Others brought something since the last answer without use: it may be what this one would have. */
  #isRace(peer: Peer, document: string): boolean {
    const last = peer.backoffs.get(document);
    return last !== undefined && last.digest !== this.digest(document);
  }

  #fruitless(peer: Peer, document: string, nowMs: number, isRace = false): void {
    const { backoffMs, backoffMsMax, wantedMax } = this.#host.config;
    if (!isRace) peer.fruitless += 1;
    const count = isRace ? 1 : (peer.backoffs.get(document)?.count ?? 0) + 1;
    peer.backoffs.delete(document);
    const untilMs = nowMs + Math.min(backoffMsMax, backoffMs * 2 ** (count - 1));
    peer.backoffs.set(document, { digest: this.digest(document), count, untilMs });
    if (peer.backoffs.size <= wantedMax) return;
    for (const [oldest] of peer.backoffs) {
      peer.backoffs.delete(oldest);
      break;
    }
  }

  /** Gives up asks and answers of which nothing was heard for too long. */
  expire(nowMs: number): void {
    const { answerMs } = this.#host.config;
    for (const [id, peer] of this.#peers) {
      for (const [document, ask] of peer.asks) {
        if (Math.max(peer.heardAtMs, ask.askedAtMs) + answerMs > nowMs) continue;
        this.#drop(peer, document);
        this.#fruitless(peer, document, nowMs);
        this.#host.notice({ type: 'no-answer', document }, id);
      }
      this.#expireFront(id, peer, nowMs);
      if (peer.unconfirmed > 0 && peer.confirmedAtMs + answerMs <= nowMs) {
        peer.unconfirmed = 0;
        peer.answer = undefined; // the asker has given it up as well
        peer.confirmedAtMs = nowMs;
      }
    }
  }

  /** The ask whose turn it is goes on, or ends: other answers do not keep it. */
  #expireFront(id: string, peer: Peer, nowMs: number): void {
    const [next] = peer.asks;
    if (next !== undefined && next[1] === peer.front) {
      if (nowMs < peer.frontAtMs + this.#host.config.answerMs) return;
      const [document] = next;
      this.#drop(peer, document);
      this.#fruitless(peer, document, nowMs);
      this.#host.notice({ type: 'no-answer', document }, id);
    }
    const [front] = peer.asks.values();
    peer.front = front;
    peer.frontAtMs = nowMs;
    peer.frontBytes = front?.bytes ?? 0;
  }

  nextAtMs(nowMs: number): number {
    const { answerMs } = this.#host.config;
    let at = Infinity;
    for (const peer of this.#peers.values()) {
      at = Math.min(at, peer.laterAtMs);
      if (peer.wanted.size > 0 && peer.quietUntilMs > nowMs) at = Math.min(at, peer.quietUntilMs);
      if (peer.front !== undefined) at = Math.min(at, peer.frontAtMs + answerMs);
      for (const ask of peer.asks.values())
        at = Math.min(at, Math.max(peer.heardAtMs, ask.askedAtMs) + answerMs);
      if (peer.unconfirmed > 0) at = Math.min(at, peer.confirmedAtMs + answerMs);
    }
    return at;
  }
}

function joined({ parts, bytes }: Ask): Uint8Array {
  const all = new Uint8Array(bytes);
  for (const [offset, part] of parts) if (offset + part.length <= bytes) all.set(part, offset);
  return all; // where parts overlap it is no update, and refused
}
