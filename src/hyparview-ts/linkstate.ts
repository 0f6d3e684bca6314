// The link-state database: what each node last said of its neighbours, newest version only, and a digest over all of
// it by which two nodes see at once whether they know the same. Never decides who is reachable (routes.ts).
// After Lashup's global membership (lashup_gm.erl). Ids are numbered by a Names table, so that a simulator with
// thousands of nodes in one process keeps each id, and each record, once.
import type { NodeId, Peer } from './types.ts';
import { LIMITS } from './config.ts';
import type { Names } from './names.ts';

/** What a node says of itself. Newer is: higher incarnation, then higher sequence. */
export interface LinkState {
  readonly origin: Peer;
  readonly incarnation: number;
  readonly sequence: number;
  readonly left: boolean;
  readonly neighbours: readonly NodeId[];
}

export interface Version {
  readonly id: NodeId;
  readonly incarnation: number;
  readonly sequence: number;
}

/** A record as stored: the state, and its neighbours by number. */
export interface LinkRecord {
  readonly state: LinkState;
  readonly index: number;
  readonly edges: readonly number[];
  readonly hash: number;
  /** Where it is counted for the digests. */
  readonly bucket: number;
}

export function isNewer(
  a: { incarnation: number; sequence: number },
  b: { incarnation: number; sequence: number },
): boolean {
  return a.incarnation !== b.incarnation ? a.incarnation > b.incarnation : a.sequence > b.sequence;
}

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ (value >>> 0), 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

export function hashId(id: NodeId): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) h = Math.imul(h ^ id.charCodeAt(i), 0x01000193);
  return mix(h >>> 0, id.length);
}

function hashVersion(idHash: number, incarnation: number, sequence: number): number {
  const high = Math.floor(incarnation / 0x1_0000_0000);
  return mix(mix(mix(idHash, incarnation), high), sequence);
}

export class LinkStates {
  readonly #records: (LinkRecord | undefined)[] = [];
  readonly buckets: Uint32Array = new Uint32Array(LIMITS.buckets);
  #digest = 0;
  #count = 0;

  readonly #names: Names;
  readonly #statesMax: number;

  constructor(names: Names, statesMax: number) {
    this.#names = names;
    this.#statesMax = statesMax;
  }

  get size(): number {
    return this.#count;
  }

  /** Equal for equal databases; differs, but for one chance in 2^32, for unequal ones. */
  get digest(): number {
    return this.#digest >>> 0;
  }

  /** Above every number that has a record. */
  get end(): number {
    return this.#records.length;
  }

  at(index: number): LinkRecord | undefined {
    return this.#records[index];
  }

  get(id: NodeId): LinkRecord | undefined {
    const index = this.#names.find(id);
    return index === undefined ? undefined : this.#records[index];
  }

  /** In order of number: the same on every run. */
  *all(): Generator<LinkRecord> {
    for (const record of this.#records) if (record !== undefined) yield record;
  }

  isFull(): boolean {
    return this.#count >= this.#statesMax;
  }

  /** Stores a newer state; undefined when it is not newer, or there is no room for another node. */
  put(
    state: LinkState,
    old: LinkRecord | undefined = this.get(state.origin.id),
  ): { old: LinkRecord | undefined; record: LinkRecord } | undefined {
    if (old === undefined ? this.isFull() : !isNewer(state, old.state)) return undefined;
    const record = this.#names.record(state);
    if (old !== undefined) this.#toggle(old);
    else this.#count += 1;
    // an array with gaps would turn into a table, which is slow
    for (let end = this.#records.length; end < record.index; end++) this.#records.push(undefined);
    this.#records[record.index] = record;
    this.#toggle(record);
    return { old, record };
  }

  delete(record: LinkRecord): void {
    if (this.#records[record.index] !== record) return;
    this.#records[record.index] = undefined;
    this.#count -= 1;
    this.#toggle(record);
  }

  #toggle({ hash, bucket }: LinkRecord): void {
    this.#digest ^= hash;
    this.buckets[bucket] = (this.buckets[bucket] ?? 0) ^ hash;
  }

  inBuckets(buckets: ReadonlySet<number>): LinkState[] {
    const states: LinkState[] = [];
    for (const record of this.#records) {
      if (record !== undefined && buckets.has(record.bucket)) states.push(record.state);
    }
    return states;
  }

  /** The versions of all records in these buckets. */
  versions(buckets: ReadonlySet<number>): Version[] {
    return this.inBuckets(buckets).map(({ origin, incarnation, sequence }) => {
      return { id: origin.id, incarnation, sequence };
    });
  }

  /** Lets the names table forget ids that no record mentions, but for this one. */
  sweep(own: number): void {
    if (!this.#names.isSwept) return;
    const used = new Set([own]);
    for (const { index, edges } of this.all()) {
      used.add(index);
      for (const edge of edges) used.add(edge);
    }
    this.#names.sweep(used);
  }
}

/** As a signed number: those are kept without a box. */
export function versionHash(idHash: number, state: LinkState): number {
  return hashVersion(idHash, state.incarnation * 2 + (state.left ? 1 : 0), state.sequence) | 0;
}
