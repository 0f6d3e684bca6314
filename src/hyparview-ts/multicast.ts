// The other way to broadcast: along the shortest-path tree rooted at the origin, which every node works out from the
// link states it holds (Lashup's lashup_gm_mc.erl). No message builds the tree; equal states give equal trees, and
// where states differ for a moment, announcements along the other links mend it as they do for Plumtree.
// Measured against Plumtree in test/sim/REPORT.md.
import type { LinkStates } from './linkstate.ts';
import type { Names } from './names.ts';
import type { NodeId } from './types.ts';

interface Tree {
  readonly digest: number;
  readonly children: ReadonlySet<NodeId>;
}

const TREES_MAX = 64; // a guess: origins that broadcast often at the same time

export class Multicast {
  readonly #self: NodeId;
  readonly #states: LinkStates;
  readonly #names: Names;
  readonly #nodesMax: number;
  readonly #trees = new Map<NodeId, Tree>();

  constructor(self: NodeId, states: LinkStates, names: Names, nodesMax: number) {
    this.#nodesMax = nodesMax;
    this.#self = self;
    this.#states = states;
    this.#names = names;
  }

  /** The neighbours that get the payload from me; undefined when the origin's tree is not known here. */
  children(origin: NodeId): ReadonlySet<NodeId> | undefined {
    const { digest, size } = this.#states;
    if (size > this.#nodesMax) return undefined;
    const known = this.#trees.get(origin);
    if (known?.digest === digest) return known.children;
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

  #compute(origin: NodeId): Set<NodeId> | undefined {
    const root = this.#names.find(origin);
    const me = this.#names.find(this.#self);
    if (root === undefined || me === undefined) return undefined;
    if (this.#states.at(root) === undefined) return undefined; // not even its links are known
    const distance = this.#distances(root);
    const mine = distance.get(me);
    if (mine === undefined) return undefined;
    const children = new Set<NodeId>();
    for (const child of this.#links(me)) {
      if (distance.get(child) !== mine + 1) continue;
      // of the nodes as near to the root, the one with the least id has the child: the same on every node
      const id = this.#names.id(me);
      const isMine = this.#links(child).every(
        (other) => distance.get(other) !== mine || this.#names.id(other) >= id,
      );
      if (isMine) children.add(this.#names.id(child));
    }
    return children;
  }

  #distances(root: number): Map<number, number> {
    const distance = new Map([[root, 0]]);
    let front = [root];
    for (let d = 1; front.length > 0; d++) {
      const next: number[] = [];
      for (const node of front) {
        for (const other of this.#links(node)) {
          if (distance.has(other)) continue;
          distance.set(other, d);
          next.push(other);
        }
      }
      front = next;
    }
    return distance;
  }

  /** Links that both ends name. */
  #links(node: number): number[] {
    const edges = this.#states.at(node)?.edges ?? [];
    return edges.filter((other) => this.#states.at(other)?.edges.includes(node));
  }
}
