// Shortest paths from one node over the link states, kept up to date edge by edge: a change costs what it changes,
// not what the cluster has. When a good part of all records changed at once, one search from scratch costs less.
// A link counts when both its ends name each other (as in OSPF, RFC 2328 section 16.1).
// After Lashup's lashup_gm_route.erl; held against a naive breadth-first search by property test.
import type { LinkRecord, LinkStates } from './linkstate.ts';

export interface Change {
  readonly index: number;
  readonly old: LinkRecord | undefined;
  readonly record: LinkRecord | undefined;
}

const NONE: readonly number[] = [];
/** Further than any path: not reachable. */
export const UNREACHABLE = 65_535;
/** From so many changes on, and from this part of all records on, all paths are computed anew. */
const ANEW_CHANGES = 64; // a guess
const ANEW_PART = 1 / 16; // measured: with 2,000 nodes a change costs as much as a search does for some 20 nodes

export class Routes {
  #distance: Uint16Array = new Uint16Array(64).fill(UNREACHABLE);
  #parent: Int32Array = new Int32Array(64).fill(-1);
  #root: number;
  /** Nodes whose reachability may have changed since it was last taken. */
  #changed = new Set<number>();

  readonly #states: LinkStates;
  readonly #anewChanges: number;

  constructor(states: LinkStates, root: number, anewChanges: number = ANEW_CHANGES) {
    this.#states = states;
    this.#root = root;
    this.#anewChanges = anewChanges;
    this.#grow(root);
    this.#distance[root] = 0;
  }

  distance(index: number): number {
    return this.#distance[index] ?? UNREACHABLE;
  }

  isReachable(index: number): boolean {
    return this.distance(index) !== UNREACHABLE;
  }

  /** The nodes from the root's neighbour to `index`; empty when there is no way. */
  path(index: number): number[] {
    const path: number[] = [];
    if (!this.isReachable(index)) return path;
    const length = this.distance(index); // a bound too: whatever is wrong, nobody goes round for ever
    for (let at = index; path.length < length && at >= 0; at = this.#parent[at] ?? -1)
      path.push(at);
    return path.toReversed();
  }

  takeChanged(): Set<number> {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }

  /** Call after the records of these nodes were stored or deleted: what they were before, and what they are. */
  update(changes: readonly Change[]): void {
    for (const { index } of changes) this.#grow(index);
    const isMuch = changes.length >= Math.max(this.#anewChanges, ANEW_PART * this.#states.size);
    if (isMuch) this.#computeAnew();
    else this.#computeChanges(changes);
  }

  #computeChanges(changes: readonly Change[]): void {
    const queue = new Queue();
    const orphans: number[] = [];
    for (const { index, old, record } of changes) {
      const kept = record?.edges ?? NONE;
      // a link that both records keep is lost only by the other end's change, which is, or will be, one of its own
      for (const other of old?.edges ?? NONE) {
        if (kept.includes(other)) continue;
        if (this.#parent[other] === index) orphans.push(other);
        else if (this.#parent[index] === other) orphans.push(index);
      }
    }
    if (orphans.length > 0) this.#detach(orphans, queue);
    for (const { index, old, record } of changes) {
      const before = old?.edges ?? NONE;
      for (const other of record?.edges ?? NONE) {
        if (before.includes(other) || !this.#names(other, index)) continue;
        this.#offer(queue, index, other);
        this.#offer(queue, other, index);
      }
    }
    this.#settle(queue);
  }

  #names(index: number, other: number): boolean {
    return this.#states.at(index)?.edges.includes(other) ?? false;
  }

  #offer(queue: Queue, from: number, to: number): void {
    const distance = this.distance(from) + 1;
    if (distance < UNREACHABLE && distance < this.distance(to)) queue.push(distance, to, from);
  }

  /** Takes whole subtrees off, and offers each of their nodes every way that is left into it. */
  #detach(orphans: readonly number[], queue: Queue): void {
    const cut: number[] = [];
    const stack = orphans.filter((node) => this.#cut(node));
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      cut.push(node);
      for (const child of this.#states.at(node)?.edges ?? NONE) {
        if (this.#parent[child] === node && this.#cut(child)) stack.push(child);
      }
    }
    for (const node of cut) {
      for (const other of this.#states.at(node)?.edges ?? NONE) {
        if (this.isReachable(other) && this.#names(other, node)) this.#offer(queue, other, node);
      }
    }
  }

  #cut(node: number): boolean {
    if (node === this.#root || this.distance(node) === UNREACHABLE) return false;
    this.#distance[node] = UNREACHABLE;
    this.#parent[node] = -1;
    this.#changed.add(node);
    return true;
  }

  #settle(queue: Queue): void {
    for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
      const [distance, node, parent] = item;
      if (distance >= this.distance(node)) continue;
      this.#grow(node);
      if (!this.isReachable(node)) this.#changed.add(node);
      this.#distance[node] = distance;
      this.#parent[node] = parent;
      for (const other of this.#states.at(node)?.edges ?? NONE) {
        if (this.distance(other) > distance + 1 && this.#names(other, node))
          queue.push(distance + 1, other, node);
      }
    }
  }

  #computeAnew(): void {
    const before = this.#distance;
    const distance = new Uint16Array(before.length).fill(UNREACHABLE);
    const parent = this.#parent.fill(-1);
    const queue = new Int32Array(before.length);
    queue[0] = this.#root;
    distance[this.#root] = 0;
    let count = 1;
    for (let i = 0; i < count; i++) {
      const node = queue[i] ?? -1;
      const next = (distance[node] ?? UNREACHABLE) + 1;
      for (const other of this.#states.at(node)?.edges ?? NONE) {
        if (distance[other] !== UNREACHABLE || !this.#names(other, node)) continue;
        distance[other] = next;
        parent[other] = node;
        queue[count++] = other;
      }
    }
    this.#distance = distance;
    for (let index = 0; index < distance.length; index++) {
      if ((distance[index] === UNREACHABLE) !== (before[index] === UNREACHABLE))
        this.#changed.add(index);
    }
  }

  #grow(index: number): void {
    if (index < this.#distance.length) return;
    const size = Math.max(index + 1, Math.ceil(this.#distance.length * 1.25));
    const distance = new Uint16Array(size).fill(UNREACHABLE);
    distance.set(this.#distance);
    const parent = new Int32Array(size).fill(-1);
    parent.set(this.#parent);
    this.#distance = distance;
    this.#parent = parent;
  }
}

/** Nearest first; among equals the last one first, which is as good as any and always the same. */
class Queue {
  readonly #buckets: (number[] | undefined)[] = [];
  #lowest = 0;

  push(distance: number, node: number, parent: number): void {
    const bucket = this.#buckets[distance];
    if (bucket === undefined) this.#buckets[distance] = [node, parent];
    else bucket.push(node, parent);
    if (distance < this.#lowest) this.#lowest = distance;
  }

  pop(): [distance: number, node: number, parent: number] | undefined {
    for (; this.#lowest < this.#buckets.length; this.#lowest++) {
      const bucket = this.#buckets[this.#lowest];
      if (bucket === undefined || bucket.length === 0) continue;
      const parent = bucket.pop();
      const node = bucket.pop();
      if (parent !== undefined && node !== undefined) return [this.#lowest, node, parent];
    }
    return undefined;
  }
}
