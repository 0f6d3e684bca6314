/**
 * The state of one host: its documents, what they say, and the disk under them. One way in for each
 * kind of change: what is decided here, what others wrote, what a join or a leave makes of it.
 *
 * What is decided here is on disk before anything shows it; the disk's refusal changes nothing.
 * What others wrote is shown also while the disk refuses it, and stored later.
 * Never sends: src/cluster does, with the updates that are returned.
 */
import { randomInt } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { backendName } from '../draft.ts';
import { ProblemError, type Problem } from '../problem.ts';
import type { Change, StateSnapshot } from '../records.ts';
import { WRITER_MAX } from '../replica/cell.ts';
import { Kv } from '../replica/kv.ts';
import {
  documentOf,
  Replica,
  SHARED,
  WriteError,
  type Changed,
  type Plan,
  type Update,
  type Write,
} from '../replica/replica.ts';
import { rebased, type Rebase } from '../replica/rebase.ts';
import type { NodeRecord } from '../replica/schema.ts';
import { StateView, type Elsewhere, type Viewed } from '../replica/view.ts';
import { UpdateError } from '../replica/wire.ts';
import { Store, type Meta, type Step, type StoreSize } from './store.ts';
import { classify, storeError, type StoreError } from './store-error.ts';
import { syncDirectory } from './sync-directory.ts';

/** The node id of a host that is in no cluster. */
export const LOCAL_NODE = 'local';

/** After the disk refused a document written afresh. A guess. */
const COMPACTION_RETRY_MS = 60_000;

export interface Committed extends Viewed {
  /** Stored already: to be sent to others. */
  readonly updates: readonly Update[];
  readonly changed: readonly Changed[];
}

export interface StateOptions {
  /** Ids of data directories; a test gives its own. */
  readonly drawWriter?: () => number;
  readonly nowMs?: number;
}

export class State {
  readonly #store: Store;
  readonly #drawWriter: () => number;
  #replica: Replica;
  #view: StateView;
  #kv: Kv;
  /** Documents of which the disk lacks something that others wrote. */
  readonly #unsaved = new Set<string>();
  #refusal: StoreError | undefined;
  #compactionFromMs = 0;

  private constructor(store: Store, replica: Replica, drawWriter: () => number) {
    this.#store = store;
    this.#drawWriter = drawWriter;
    this.#replica = replica;
    this.#view = StateView.open(replica, store.meta.revision);
    this.#kv = new Kv(replica);
  }

  /** Opens the state in `directory`, or throws StoreError with what to do. */
  static open(directory: string, options: StateOptions = {}): State {
    const { drawWriter = () => randomInt(1, WRITER_MAX + 1), nowMs = Date.now() } = options;
    const beginning = { node: LOCAL_NODE, writer: drawWriter(), nowMs };
    const { store, updates } = Store.open(directory, beginning);
    try {
      const { node, clock } = store.meta;
      // Others may know what the file lacks: no place in a log is given out twice. Stored with the
      // first write, so that an id that wrote nothing costs nothing.
      const writer = store.isCopy ? drawnBut(store.meta.writer, drawWriter) : store.meta.writer;
      return new State(store, Replica.open({ node, writer }, { clock, updates }), drawWriter);
    } catch (error) {
      store.close();
      // Every row is as it was written, and still they are no documents.
      if (error instanceof UpdateError)
        throw storeError('damaged', store.file, error.message, error);
      throw error;
    }
  }

  /**
   * Moves a damaged state out of the way, for one to begin afresh: where the members of a cluster
   * have all of it. The names say when; what is there of the log of SQLite goes along.
   */
  static setAside(directory: string, now = new Date()): readonly string[] {
    const file = join(directory, 'state.db');
    const aside = `${file}.damaged-${now.toISOString().replaceAll(':', '-')}`;
    const moved: string[] = [];
    // First the file: a file without its log would open as something older than it was.
    for (const suffix of ['', '-wal', '-shm', '-journal']) {
      try {
        renameSync(`${file}${suffix}`, `${aside}${suffix}`);
        moved.push(`${aside}${suffix}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw classify(error, file);
      }
    }
    if (moved.length > 0) syncDirectory(directory);
    return moved;
  }

  /** LOCAL_NODE, or the id that a cluster gave. */
  get node(): string {
    return this.#replica.node;
  }

  /** The file was put in the place of the one it was: what is written here has a new writer id. */
  get isCopy(): boolean {
    return this.#store.isCopy;
  }

  get replica(): Replica {
    return this.#replica;
  }

  get view(): StateView {
    return this.#view;
  }

  get kv(): Kv {
    return this.#kv;
  }

  /** Documents that the disk refused. */
  get unsaved(): number {
    return this.#unsaved.size;
  }

  /** Why, as long as there are any. */
  get refusal(): StoreError | undefined {
    return this.#refusal;
  }

  snapshot(): StateSnapshot {
    return this.#view.snapshot();
  }

  /**
   * Changes that decide() made; durable, then visible. StoreError or ProblemError: nothing changed.
   * With `settles` they win over nothing that is written elsewhere meanwhile. `beside`: in the same step.
   */
  commit(
    changes: readonly Change[],
    nowMs: number,
    { settles = false, beside = [] }: { settles?: boolean; beside?: readonly Write[] } = {},
  ): Committed {
    const { writes, elsewhere } = this.#view.writes(changes);
    const problems = this.#problemsOf(elsewhere, changes);
    if (problems.length > 0) throw new ProblemError(problems);
    const all = settles ? writes.map((write) => ({ ...write, settles })) : writes;
    return this.write([...all, ...beside], nowMs);
  }

  /** Why commit() would refuse: backends that are for other nodes to change. */
  problems(changes: readonly Change[]): readonly Problem[] {
    return this.#problemsOf(this.#view.writes(changes).elsewhere, changes);
  }

  #problemsOf(elsewhere: readonly Elsewhere[], changes: readonly Change[]): readonly Problem[] {
    return elsewhere.flatMap(({ node, change }) =>
      isOfGonePort(change, changes, this.snapshot())
        ? []
        : [problemOf(node, change, this.#view.nodes())],
    );
  }

  /** The same for entries that are no records: the key-value store, node/info, gone/NODE. */
  write(writes: readonly Write[], nowMs: number): Committed {
    const plan = this.#plan(writes, nowMs);
    if (plan.updates.length > 0) {
      const ofRecords = writes.some(({ key }) => /^(?:service|backend|acl|dns)\//.test(key));
      this.#write(this.#stepOf(plan, ofRecords ? 1 : 0));
    }
    const done = this.#replica.commit(plan);
    return { ...this.#view.follow(done.changed), ...done };
  }

  #plan(writes: readonly Write[], nowMs: number): Plan {
    try {
      return this.#replica.plan(writes, nowMs);
    } catch (error) {
      if (!(error instanceof WriteError)) throw error;
      throw new ProblemError([{ code: 'limit', message: error.message }], { cause: error });
    }
  }

  /** A plan on disk: with the whole of a document of which something is missing there, or too long. */
  #stepOf({ updates, clock }: Plan, revisions: number): Step {
    const documents = updates.map(({ document }) => document);
    const missing = documents.filter((document) => this.#unsaved.has(document));
    const clear = [...new Set([...missing, ...this.#store.tooLong(documents)])];
    const append = [...this.#wholes(clear), ...updates];
    return { meta: this.#meta(clock, revisions), clear, append };
  }

  #wholes(documents: readonly string[]): readonly Update[] {
    const known = new Set(this.#replica.documents());
    return documents.filter((id) => known.has(id)).map((id) => this.#replica.whole(id));
  }

  /** The revision on disk is at least the one that is shown. */
  #meta(clock: string, revisions: number): Meta {
    const { node, writer } = this.#replica;
    const shown = this.snapshot().revision + revisions;
    return { revision: Math.max(this.#store.meta.revision, shown), clock, node, writer };
  }

  /** Durable, all or nothing; what is cleared is there as a whole afterwards. */
  #write(step: Step): void {
    this.#store.write(step);
    if (step.clear === 'all') this.#unsaved.clear();
    else for (const document of step.clear ?? []) this.#unsaved.delete(document);
    if (this.#unsaved.size === 0) this.#refusal = undefined;
  }

  /** What others wrote, and the replica has taken in: later than that, in any order. */
  follow(changed: readonly Changed[]): Viewed {
    return this.#view.follow(changed);
  }

  /**
   * Stores what others wrote and the replica has taken in; with `whole` in place of all that was
   * stored of the document. Never throws: what the disk refuses is stored as a whole by
   * saveUnsaved(), or by the next write() to its document.
   */
  keep(updates: readonly Update[], whole: boolean): void {
    const wanted = updates.filter(({ document }) => whole || !this.#unsaved.has(document));
    const documents = [...new Set(wanted.map(({ document }) => document))];
    const replaced = whole ? documents : [];
    const long = this.#store.tooLong(documents).filter((document) => !replaced.includes(document));
    const rest = wanted.filter(({ document }) => !long.includes(document));
    this.#tryWrite([...replaced, ...long], [...this.#wholes(long), ...rest], documents);
  }

  /** Documents that the disk refused, tried again. */
  saveUnsaved(): void {
    for (const document of this.#unsaved)
      if (!this.#tryWrite([document], this.#wholes([document]), [])) return;
  }

  /** Of a node that is gone for good. Never throws: a document that the disk keeps is unsaved. */
  forget(node: string): Committed {
    const document = documentOf(node);
    const changed = this.#replica.forgetDocument(document);
    if (this.#store.has(document)) this.#tryWrite([document], [], [document]);
    return { ...this.#view.follow(changed), changed, updates: [] };
  }

  #tryWrite(
    clear: readonly string[],
    append: readonly Update[],
    documents: readonly string[],
    lazy = true,
  ): boolean {
    if (clear.length + append.length === 0) return true;
    try {
      // One more than may be shown once this is followed: no revision is ever shown twice.
      const revision = this.#store.meta.revision + 1;
      const meta = { ...this.#meta(this.#replica.clockState(), 0), revision };
      this.#write({ meta, clear, append, lazy });
      return true;
    } catch (error) {
      for (const document of documents) this.#unsaved.add(document);
      this.#refusal = classify(error, this.#store.file);
      return false;
    }
  }

  /**
   * Writes the own document afresh, and with `shared` the shared one, where that is due. Stored
   * already; what the disk refuses is left as it was and tried again a minute later.
   */
  compactIfDue(nowMs: number, shared = false): readonly Update[] {
    const waitMs = this.#compactionFromMs - nowMs;
    if (waitMs > 0 && waitMs <= COMPACTION_RETRY_MS) return [];
    const done: Update[] = [];
    for (const id of shared ? [this.#replica.own, SHARED] : [this.#replica.own]) {
      if (!this.#replica.compactionDue(id, nowMs)) continue;
      const plan = this.#replica.planCompaction(id, nowMs);
      // Durable before it is told: after a power cut others would have an epoch that this host does
      // not know, and the next one begun here would be another with the same number and proposer.
      if (!this.#tryWrite([id], plan.updates, [], false)) {
        this.#compactionFromMs = nowMs + COMPACTION_RETRY_MS;
        break;
      }
      done.push(...this.#replica.commit(plan).updates);
    }
    return done;
  }

  /**
   * Another writer, and maybe another node, in one durable step: for a join and a leave. `replica`,
   * `view` and `kv` are others afterwards. StoreError: nothing changed.
   */
  rebase(options: Rebase): Viewed {
    const writer = drawnBut(this.#replica.writer, this.#drawWriter);
    const replica = rebased(options.from ?? this.#replica, writer, options);
    const { view, viewed } = this.#view.replaced(replica);
    const revision = Math.max(this.#store.meta.revision, viewed.snapshot.revision);
    const { clock, updates } = replica.save();
    const meta = { revision, clock, node: replica.node, writer };
    this.#write({ meta, clear: 'all', append: updates });
    this.#replica = replica;
    this.#view = view;
    this.#kv = new Kv(replica);
    return viewed;
  }

  /**
   * Others know writes of this directory that it lacks. True: nothing was written since it was
   * opened, and what will be has a new writer id, stored with the first of it.
   */
  renew(): boolean {
    return this.#replica.renew(drawnBut(this.#replica.writer, this.#drawWriter));
  }

  /** What the disk holds. */
  get storeSize(): StoreSize {
    return this.#store.size;
  }

  close(): void {
    const { revision } = this.snapshot();
    // keep() counts ahead.
    if (this.#store.isOpen && this.#store.meta.revision !== revision) {
      try {
        const meta = { ...this.#meta(this.#replica.clockState(), 0), revision };
        this.#store.write({ meta, append: [] });
      } catch {
        // The revision that is there is a higher one: as good.
      }
    }
    this.#store.close();
  }
}

function drawnBut(writer: number, draw: () => number): number {
  let drawn = draw();
  while (drawn === writer) drawn = draw();
  return drawn;
}

/** Removals of what nobody sees any more are left to its node, which knows as well that the port is gone. */
function isOfGonePort(
  change: Change,
  changes: readonly Change[],
  snapshot: StateSnapshot,
): boolean {
  if (change.kind !== 'remove-backend') return false;
  let service = snapshot.services.get(change.service);
  for (const other of changes) {
    if (other.kind === 'put-service' && other.service.name === change.service)
      service = other.service;
    if (other.kind === 'remove-service' && other.name === change.service) service = undefined;
  }
  return service?.ports.some(({ name }) => name === change.portName) !== true;
}

function problemOf(node: string, change: Change, nodes: ReadonlyMap<string, NodeRecord>): Problem {
  const name = nodes.get(node)?.name;
  const who = name === undefined ? `node ${node}` : `${name} (node ${node})`;
  const backend = change.kind === 'put-backend' ? change.backend : change;
  const what = 'portName' in backend ? backendName(backend) : change.kind;
  return {
    code: 'conflict',
    message: `backend ${what} lives with a process on ${who}: only that host changes it`,
    hint: `give the same command on ${name ?? 'that host'}, or end the process there`,
  };
}
