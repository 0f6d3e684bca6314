// The other way to broadcast: along the shortest-path tree rooted at the origin, which every node works out from the
// link states it holds (Lashup's lashup_gm_mc.erl). No message builds the tree; equal states give equal trees, and
// where states differ for a moment, announcements along the other links mend it as they do for Plumtree. Payloads also
// go along links that are too new for the trees: their ends may have lost those that the trees count on.
// Measured against Plumtree in test/sim/REPORT.md.
import type { LinkStates } from './linkstate.ts';
import type { Names } from './names.ts';
import type { NodeId } from './types.ts';

interface Tree {
  readonly digest: number;
  readonly children: ReadonlySet<NodeId>;
}

const NONE: readonly number[] = [];
const TREES_MAX = 1024; // a guess: origins that broadcast now and then; a tree is some 300 bytes
/** Up to so many nodes, a tree is made anew for the first message after each change of a link. */
const EXACT_NODES_MAX = 1000; // a guess
/** With more, one tree in so much time, times the nodes; meanwhile the old one, or Plumtree's, serves. */
const SEARCH_PER_NODE_MS = 0.002; // formula: a search takes 0.1 to 0.5 µs times the nodes (REPORT.md), so 5 to 25 % of a core

export class Multicast {
  readonly #self: NodeId;
  readonly #states: LinkStates;
  readonly #names: Names;
  readonly #nodesMax: number;
  readonly #trees = new Map<NodeId, Tree>();
  #nextSearchAt = -Infinity;

  constructor(self: NodeId, states: LinkStates, names: Names, nodesMax: number) {
    this.#nodesMax = nodesMax;
    this.#self = self;
    this.#states = states;
    this.#names = names;
  }

  /** The neighbours that get the payload from me; undefined when the origin's tree is not known here. */
  children(origin: NodeId, now: number): ReadonlySet<NodeId> | undefined {
    const { digest, size } = this.#states;
    if (size > this.#nodesMax) return undefined;
    const known = this.#trees.get(origin);
    if (known?.digest === digest) return known.children;
    if (size > EXACT_NODES_MAX) {
      if (now < this.#nextSearchAt) return known?.children;
      this.#nextSearchAt = now + size * SEARCH_PER_NODE_MS;
    }
    const children = this.#compute(origin);
    this.#trees.delete(origin);
    if (children === undefined) return undefined;
    this.#trees.set(origin, { digest, children });
    if (this.#trees.size > TREES_MAX) {
      const oldest = this.#trees.keys().next().value;
      if (oldest !== undefined) this.#trees.delete(oldest);
    }
    return children;
  }

  /** One that is not named by both its ends as far as is known here, such as a new one, is in no tree. */
  isInTrees(neighbour: NodeId): boolean {
    const [me, other] = [this.#names.find(this.#self), this.#names.find(neighbour)];
    if (me === undefined || other === undefined) return false;
    return this.#isNamed(me, other) && this.#isNamed(other, me);
  }

  #compute(origin: NodeId): Set<NodeId> | undefined {
    const root = this.#names.find(origin);
    const me = this.#names.find(this.#self);
    if (root === undefined || me === undefined) return undefined;
    const distance = this.#distances(root, me);
    const mine = distance[me] ?? 0;
    if (mine === 0) return undefined;
    const children = new Set<NodeId>();
    for (const child of this.#edges(me)) {
      if (distance[child] !== mine + 1 || !this.#isNamed(me, child)) continue;
      // of the nodes as near to the root, the one with the least id has the child: the same on every node
      const id = this.#names.id(me);
      const isMine = this.#edges(child).every(
        (other) =>
          distance[other] !== mine || this.#names.id(other) >= id || !this.#isNamed(child, other),
      );
      if (isMine) children.add(this.#names.id(child));
    }
    return children;
  }

  /** One more than the links from the root, as far out as one link beyond me; 0 is not found. */
  #distances(root: number, me: number): Uint16Array {
    const distance = new Uint16Array(Math.max(this.#states.end, root + 1, me + 1));
    const queue = new Int32Array(distance.length);
    queue[0] = root;
    distance[root] = 1;
    let count = 1;
    for (let i = 0; i < count; i++) {
      const node = queue[i] ?? -1;
      const at = distance[node] ?? 0;
      const mine = distance[me] ?? 0;
      if (mine !== 0 && at > mine) break;
      for (const other of this.#edges(node)) {
        if (distance[other] !== 0 || !this.#isNamed(node, other)) continue;
        distance[other] = at + 1;
        queue[count++] = other;
      }
    }
    return distance;
  }

  #edges(node: number): readonly number[] {
    return this.#states.at(node)?.edges ?? NONE;
  }

  /** A link counts when both its ends name it. */
  #isNamed(node: number, by: number): boolean {
    return this.#edges(by).includes(node);
  }
}
