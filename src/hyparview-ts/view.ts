// A view: a set of peers with a limit, O(1) membership and O(1) random choice. Its order depends only on what was
// done to it, so that equal histories choose equally.
import { below, sample } from './random.ts';
import type { Random } from './random.ts';
import type { NodeId, Peer } from './types.ts';

export class View {
  readonly #peers: Peer[] = [];
  readonly #at = new Map<NodeId, number>();

  get size(): number {
    return this.#peers.length;
  }

  get peers(): readonly Peer[] {
    return this.#peers;
  }

  has(id: NodeId): boolean {
    return this.#at.has(id);
  }

  get(id: NodeId): Peer | undefined {
    const at = this.#at.get(id);
    return at === undefined ? undefined : this.#peers[at];
  }

  /** Adds the peer, or renews its address. */
  add(peer: Peer): void {
    const at = this.#at.get(peer.id);
    if (at !== undefined) {
      this.#peers[at] = peer;
      return;
    }
    this.#at.set(peer.id, this.#peers.length);
    this.#peers.push(peer);
  }

  delete(id: NodeId): boolean {
    const at = this.#at.get(id);
    if (at === undefined) return false;
    this.#at.delete(id);
    const last = this.#peers.pop();
    if (last !== undefined && at < this.#peers.length) {
      this.#peers[at] = last;
      this.#at.set(last.id, at);
    }
    return true;
  }

  /** A random peer that is none of `but`. */
  choose(random: Random, ...but: readonly NodeId[]): Peer | undefined {
    const left = but.filter((id, i) => this.#at.has(id) && but.indexOf(id) === i).length;
    if (this.#peers.length === left) return undefined;
    if (left === 0) return this.#peers[below(random, this.#peers.length)];
    const pool = this.#peers.filter(({ id }) => !but.includes(id));
    return pool[below(random, pool.length)];
  }

  sample(random: Random, count: number, but?: NodeId): Peer[] {
    const pool = but === undefined ? this.#peers : this.#peers.filter(({ id }) => id !== but);
    return sample(random, pool, count);
  }
}
