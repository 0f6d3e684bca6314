/**
 * Replicas with a network between them that loses, doubles, reorders and parts; beside each of them
 * a model. Nothing happens unless it is told to.
 */
import assert from 'node:assert/strict';
import {
  documentOf,
  Replica,
  SHARED,
  type Received,
  type Saved,
  type Update,
  type Write,
} from '../../../src/state/replica/replica.ts';
import { Model, type Knowledge } from './model.ts';

interface Message {
  readonly from: number;
  readonly to: number;
  readonly update: Update;
  readonly knowledge: Knowledge;
  /** Broadcasts name who made them. */
  readonly origin?: string;
}

interface Host {
  replica: Replica;
  readonly models: Map<string, Model>;
  /** What is on its disk. */
  saved: Saved;
  wallMs: number;
}

export const writers = [7001, 7002, 7003, 7004, 7005] as const;

export class World {
  readonly hosts: Host[];
  readonly truth = new Map<string, Model>();
  messages: Message[] = [];
  parted = 0;

  constructor(count: number) {
    const names = writers.slice(0, count).map((_, i) => `n${i}`);
    for (const id of [SHARED, ...names.map(documentOf)]) this.truth.set(id, new Model());
    this.hosts = names.map((node, i) => {
      const replica = Replica.open({ node, writer: writers[i] ?? 0 });
      const models = new Map([...this.truth.keys()].map((id) => [id, new Model()]));
      return { replica, models, saved: { clock: '', updates: [] }, wallMs: 1_000_000 };
    });
  }

  host(index: number): Host {
    const host = this.hosts[index % this.hosts.length];
    if (host === undefined) throw new Error('no such host');
    return host;
  }

  write(index: number, writes: readonly Write[]): void {
    const host = this.host(index);
    const { updates } = host.replica.transact(writes, host.wallMs);
    for (const update of updates) {
      const of = update.document === SHARED ? 'shared' : 'own';
      const mine = new Map(
        writes.flatMap((write) => (write.document === of ? [[write.key, write]] : [])),
      );
      const knowledge = this.#model(host, update.document).write(
        host.replica.writer,
        mine,
        (key) => {
          const entry = host.replica.entry(update.document, key);
          return [entry?.ms ?? 0, entry?.counter ?? 0, host.replica.writer];
        },
      );
      this.#learnTruth(update.document, knowledge);
      this.#store(host, [update]);
      this.broadcast(index, update, knowledge);
    }
    this.compare(host);
  }

  /** To all others; each copy has its own fate. */
  broadcast(index: number, update: Update, knowledge: Knowledge): void {
    const from = index % this.hosts.length;
    for (const [to] of this.hosts.entries()) {
      if (to === from) continue;
      const origin = `n${from}`;
      const isOwn = update.document === SHARED || update.document === documentOf(origin);
      this.messages.push({ from, to, update, knowledge, ...(isOwn ? { origin } : {}) });
    }
  }

  deliver(index: number, keep: boolean): void {
    if (this.messages.length === 0) return;
    const at = index % this.messages.length;
    const message = this.messages[at];
    if (message === undefined || this.#isParted(message.from, message.to)) return;
    if (!keep) this.messages.splice(at, 1);
    this.take(message);
  }

  lose(index: number): void {
    if (this.messages.length > 0) this.messages.splice(index % this.messages.length, 1);
  }

  #isParted(a: number, b: number): boolean {
    return ((this.parted >> a) & 1) !== ((this.parted >> b) & 1);
  }

  take({ from, to, update, knowledge, origin }: Message): void {
    const host = this.host(to);
    const { document } = update;
    const model = this.#model(host, document);
    const before = model.copy();
    const result = host.replica.receive(update, host.wallMs, origin);
    this.#check(result);
    if (result.wants !== undefined) {
      const [asked, asking] = result.wants === 'ask' ? [from, to] : [to, from];
      this.#sendWhole(asked, asking, document);
      return;
    }
    if (result.notices.some(({ type }) => type === 'epoch')) {
      model.forgetWaiting();
      this.#replace(host, document);
    } else {
      this.#store(host, [update]);
    }
    model.learn(knowledge);
    // Only what the copy that was adopted lacked: others may lack more.
    const lacking = {
      cells: new Map([...before.cells].filter(([id]) => !knowledge.cells.has(id))),
      removed: new Set([...before.removed].filter((id) => !knowledge.removed.has(id))),
    };
    for (const carried of result.updates) this.broadcast(to, carried, lacking);
    this.compare(host);
  }

  #check({ notices }: Received): void {
    const bad = notices.filter(({ type }) => type === 'refused' || type === 'own-history');
    assert.deepEqual(bad, []);
  }

  #sendWhole(from: number, to: number, document: string): void {
    const host = this.host(from);
    const update = host.replica.whole(document);
    this.messages.push({ from, to, update, knowledge: this.#model(host, document).copy() });
  }

  /** Both tell each other what the other does not know, as a new neighbour would. */
  sync(a: number, b: number): void {
    const [from, to] = [a % this.hosts.length, b % this.hosts.length];
    if (from === to || this.#isParted(from, to)) return;
    for (const [asked, asking] of [
      [from, to],
      [to, from],
    ] as const) {
      for (const document of this.truth.keys()) {
        const host = this.host(asked);
        const vector = this.host(asking).replica.vector(document);
        const update = host.replica.diff(vector);
        if (update === undefined) continue;
        const knowledge = this.#model(host, document).copy();
        this.take({ from: asked, to: asking, update, knowledge });
      }
    }
  }

  compact(index: number, document: 'shared' | 'own'): void {
    const host = this.host(index);
    const id = document === 'shared' ? SHARED : host.replica.own;
    const update = host.replica.compact(id);
    this.#model(host, id).forgetWaiting();
    this.#replace(host, id);
    this.broadcast(index, update, this.#model(host, id).copy());
    this.compare(host);
  }

  /** kill -9: what is on disk is there; `whole` if it was written afresh just before. */
  restart(index: number, whole: boolean): void {
    const host = this.host(index);
    const { node, writer } = host.replica;
    if (whole) {
      host.saved = host.replica.save();
      for (const model of host.models.values()) model.forgetWaiting();
    }
    host.replica = Replica.open({ node, writer }, host.saved);
    this.compare(host);
  }

  /** A whole copy in place of all that was stored of a document. */
  #replace(host: Host, id: string): void {
    const others = host.saved.updates.filter(({ document }) => document !== id);
    host.saved = {
      clock: host.replica.clockState(),
      updates: [...others, host.replica.whole(id)],
    };
  }

  #store(host: Host, updates: readonly Update[]): void {
    host.saved = {
      clock: host.replica.clockState(),
      updates: [...host.saved.updates, ...updates],
    };
  }

  #model(host: Host, document: string): Model {
    const model = host.models.get(document);
    if (model === undefined) throw new Error(`no model of ${document}`);
    return model;
  }

  #learnTruth(document: string, knowledge: Knowledge): void {
    this.truth.get(document)?.learn(knowledge);
  }

  /** At any time each replica says what its model says. */
  compare(host: Host): void {
    for (const [document, model] of host.models)
      assert.deepEqual(valuesOf(host.replica, document), model.values(), document);
  }

  /** Everything heals, and then all say the same: what everybody ever wrote, merged. */
  heal(): void {
    this.parted = 0;
    for (let round = 0; round < 4; round++) {
      while (this.messages.length > 0) this.deliver(0, false);
      for (let i = 0; i < this.hosts.length; i++) this.sync(i, i + 1);
    }
    const digests = this.hosts.map(({ replica }) => Object.fromEntries(replica.digests()));
    for (const digest of digests) assert.deepEqual(digest, digests[0]);
    for (const { replica } of this.hosts) {
      for (const [document, model] of this.truth)
        assert.deepEqual(valuesOf(replica, document), model.values(), document);
    }
  }
}

export function valuesOf(replica: Replica, document: string): Record<string, string> {
  const keys = [...replica.winners(document)].map(({ key }) => key).toSorted();
  return Object.fromEntries(keys.map((key) => [key, replica.get(document, key) ?? '?']));
}
