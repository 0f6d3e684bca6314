// Numbers for node ids: dense, so that tables over nodes are arrays. A host has one table a node. A simulator gives
// all its nodes the same one (`shared`), and each record exists once however many nodes hold it.
import { LIMITS } from './config.ts';
import { hashId, versionHash } from './linkstate.ts';
import type { LinkRecord, LinkState } from './linkstate.ts';
import type { NodeId } from './types.ts';

export class Names {
  readonly #index = new Map<NodeId, number>();
  readonly #ids: (NodeId | undefined)[] = [];
  readonly #hashes: number[] = [];
  readonly #free: number[] = [];
  readonly #latest: LinkRecord[] = [];
  readonly #records: WeakMap<LinkState, LinkRecord> = new WeakMap();

  readonly #shared: boolean;

  constructor(shared = false) {
    this.#shared = shared;
  }

  get size(): number {
    return this.#index.size;
  }

  /** A shared table knows of one node's records only. */
  get isSwept(): boolean {
    return !this.#shared;
  }

  find(id: NodeId): number | undefined {
    return this.#index.get(id);
  }

  number(id: NodeId): number {
    const known = this.#index.get(id);
    if (known !== undefined) return known;
    const index = this.#free.pop() ?? this.#ids.length;
    this.#index.set(id, index);
    this.#ids[index] = id;
    this.#hashes[index] = hashId(id);
    return index;
  }

  id(index: number): NodeId {
    return this.#ids[index] ?? '';
  }

  hashAt(index: number): number {
    return this.#hashes[index] ?? 0;
  }

  record(state: LinkState): LinkRecord {
    const index = this.number(state.origin.id);
    if (this.#shared) {
      const latest = this.#latest[index];
      if (latest?.state === state) return latest;
      const known = this.#records.get(state);
      if (known !== undefined) return known;
    }
    const edges = state.left ? [] : state.neighbours.map((id) => this.number(id));
    const bucket = this.hashAt(index) % LIMITS.buckets;
    const record = { state, index, edges, hash: versionHash(this.hashAt(index), state), bucket };
    if (!this.#shared) return record;
    this.#latest[index] = record;
    this.#records.set(state, record);
    return record;
  }

  /** Frees all numbers but the used ones. */
  sweep(used: ReadonlySet<number>): void {
    if (this.#shared) return;
    for (let index = 0; index < this.#ids.length; index++) {
      const id = this.#ids[index];
      if (id === undefined || used.has(index)) continue;
      this.#index.delete(id);
      this.#ids[index] = undefined;
      this.#free.push(index);
    }
  }
}
