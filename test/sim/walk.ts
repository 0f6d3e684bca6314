// The trees of each origin where a simulation of all nodes with link states would take hours: every node of an overlay
// is told of all links at once, as it knows them at rest, and the payload is followed from node to node by the code
// that ships (multicast.ts). No time passes, nothing is lost.
import { LinkStates } from '../../src/hyparview-ts/linkstate.ts';
import { Multicast } from '../../src/hyparview-ts/multicast.ts';
import { Names } from '../../src/hyparview-ts/names.ts';
import type { NodeId } from '../../src/hyparview-ts/index.ts';
import type { Cluster } from './cluster.ts';
import type { BroadcastQuality } from './measure.ts';

export type WalkQuality = Omit<BroadcastQuality, 'prompt' | 'p99Ms'>;

/** Time enough for every node to look for its place in another tree. */
const APART_MS = 1000;

/** One broadcast from each of these. */
export function walkTrees(cluster: Cluster, origins: readonly number[]): WalkQuality {
  const living = cluster.living();
  const names = new Names(true);
  const states = new LinkStates(names, living.length);
  for (const index of living) {
    const { self, views } = cluster.node(index);
    const neighbours = views.active.peers.map(({ id }) => id);
    states.put({ origin: self, incarnation: 1, sequence: 1, left: false, neighbours });
  }
  const places = new Map<NodeId, Multicast>();
  for (const index of living) {
    const { id } = cluster.node(index).self;
    places.set(id, new Multicast(id, states, names, living.length));
  }
  const walks = origins.map((origin, i) =>
    walk(places, cluster.node(origin).self.id, i * APART_MS),
  );
  const mean = (of: (walk: Walk) => number): number =>
    walks.reduce((sum, one) => sum + of(one), 0) / origins.length;
  return {
    reliability: mean(({ hops }) => hops.length / living.length),
    rmr: mean(({ payloads, hops }) => payloads / Math.max(1, hops.length - 1) - 1),
    lastHop: mean(({ hops }) => hops.at(-1) ?? 0),
    hopOf99Percent: mean(({ hops }) => hops[Math.floor(0.99 * living.length)] ?? Infinity),
  };
}

interface Walk {
  /** Of each node that got it, ascending. */
  readonly hops: readonly number[];
  readonly payloads: number;
}

function walk(places: ReadonlyMap<NodeId, Multicast>, origin: NodeId, now: number): Walk {
  const hopOf = new Map([[origin, 0]]);
  let payloads = 0;
  // a Map is walked in order of insertion, and takes in what is added meanwhile
  for (const [id, hop] of hopOf) {
    for (const child of places.get(id)?.children(origin, now) ?? []) {
      payloads += 1;
      if (!hopOf.has(child)) hopOf.set(child, hop + 1);
    }
  }
  return { hops: [...hopOf.values()], payloads };
}
