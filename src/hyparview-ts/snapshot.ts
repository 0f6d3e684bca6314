// A node's state as plain data: to look at, and to remember peers by across restarts. Never a way to change anything.
import type { Need } from './dials.ts';
import type { Node } from './node.ts';
import type { NodeId, Peer, TimerKey } from './types.ts';

export interface Snapshot {
  readonly self: Peer;
  readonly incarnation: number;
  readonly active: readonly (Peer & {
    readonly eager: boolean;
    readonly suspected: boolean;
    readonly rttMs: number | undefined;
  })[];
  readonly passive: readonly Peer[];
  readonly alive: readonly NodeId[];
  readonly deadCount: number;
  readonly localHealth: number;
  readonly timers: readonly { readonly key: TimerKey; readonly atMs: number }[];
  /** Messages that were not sent, as a connection would have had to be made for them: dials.ts. `heard`: peers not taken. */
  readonly withheld: Readonly<Record<Need | 'heard', number>>;
  readonly sizes: {
    readonly states: number;
    readonly pending: number;
    readonly seen: number;
    readonly cache: number;
    readonly cacheBytes: number;
    readonly missing: number;
    readonly announcing: number;
    readonly outbox: number;
    readonly wanted: number;
    readonly unrouted: number;
    readonly doubtful: number;
    readonly goneElsewhere: number;
  };
}

const KNOWN_MAX = 256; // a guess: enough for one of them to be alive after years

export function snapshotOf(
  node: Node,
  timers: ReadonlyMap<TimerKey, number>,
  withheld: Readonly<Record<Need, number>>,
): Snapshot {
  const { views, members, tree, detector } = node;
  return {
    self: node.self,
    incarnation: detector.incarnation,
    active: views.active.peers.map((peer) => ({
      ...peer,
      eager: tree.isEager(peer.id),
      suspected: detector.isSuspected(peer.id),
      rttMs: detector.rttMs(peer.id),
    })),
    passive: [...views.passive.peers],
    alive: members.alive(),
    deadCount: [...members.gone.values()].filter(({ left }) => !left).length,
    localHealth: detector.localHealth,
    timers: [...timers].map(([key, atMs]) => ({ key, atMs })),
    withheld: { ...withheld, heard: views.unheard },
    sizes: {
      states: members.states.size,
      pending: views.pendingCount,
      ...tree.sizes,
      ...members.spread.sizes,
      ...members.sizes,
    },
  };
}

/** What to write to disk and to give to the next `start`: neighbours first, then passive peers, then other members. */
export function knownPeers(node: Node): Peer[] {
  const known = new Map<NodeId, Peer>();
  const add = (peer: Peer): void => {
    if (known.size < KNOWN_MAX && peer.id !== node.self.id) known.set(peer.id, peer);
  };
  for (const peer of node.views.active.peers) add(peer);
  for (const peer of node.views.passive.peers) add(peer);
  for (const { state } of node.members.states.all()) add(state.origin);
  return [...known.values()];
}
