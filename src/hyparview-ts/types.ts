// The words of the protocol: peers, messages, and what goes into and comes out of `handle(input, now)`.
// Plain data only. A message says nothing of its sender: the host knows it from its own (authenticated) handshake.
import type { LinkState, Version } from './linkstate.ts';

/** 1 to 64 printable ASCII characters; one per data directory of a node, for ever. */
export type NodeId = string;

/** All that is needed to reach a node and to judge how near it is. */
export interface Peer {
  readonly id: NodeId;
  /** What the host dials: up to 255 printable ASCII characters; opaque here. */
  readonly address: string;
  /** Where it runs (rack, room, region): up to 32 printable ASCII characters; compared for equality only. */
  readonly zone: string;
}

/** `urgent` is failure news, `normal` the protocol and small messages, `bulk` what may wait. */
export type Priority = 'urgent' | 'normal' | 'bulk';

/** Names one broadcast: its origin, that origin's life (floors.ts), and a number that grows by one. */
export type BroadcastId = string;

export interface Announcement {
  readonly id: BroadcastId;
  /** Links between the announcer and the origin along the tree. */
  readonly hop: number;
}

export type Message =
  // HyParView
  | { readonly type: 'join' }
  | { readonly type: 'forward-join'; readonly peer: Peer; readonly ttl: number }
  | { readonly type: 'neighbor'; readonly high: boolean }
  | { readonly type: 'neighbor-reply'; readonly accepted: boolean; readonly peers: readonly Peer[] }
  | { readonly type: 'disconnect'; readonly leaving: boolean }
  | {
      readonly type: 'shuffle';
      readonly origin: Peer;
      readonly ttl: number;
      readonly peers: readonly Peer[];
    }
  | { readonly type: 'shuffle-reply'; readonly peers: readonly Peer[] }
  // X-BOT: the initiator i would give up `old` for the receiver
  | { readonly type: 'optimise'; readonly old: Peer }
  | { readonly type: 'optimise-replace'; readonly initiator: Peer; readonly old: Peer }
  | { readonly type: 'optimise-switch'; readonly initiator: Peer; readonly candidate: Peer }
  | {
      readonly type: 'optimise-reply';
      readonly stage: 'switch' | 'replace' | 'optimise';
      readonly accepted: boolean;
      readonly initiator: Peer;
      readonly old: Peer;
    }
  // Plumtree
  | {
      readonly type: 'gossip';
      readonly id: BroadcastId;
      readonly hop: number;
      readonly priority: Priority;
      readonly payload: Uint8Array;
    }
  | { readonly type: 'ihave'; readonly announcements: readonly Announcement[] }
  | { readonly type: 'graft'; readonly id: BroadcastId; readonly hop: number }
  | { readonly type: 'prune'; readonly states: boolean }
  // Failure detection; `digest` is the sender's digest of all link states
  | {
      readonly type: 'ping';
      readonly nonce: number;
      readonly measure: boolean;
      readonly digest: number;
    }
  | {
      readonly type: 'pong';
      readonly nonce: number;
      readonly incarnation: number;
      readonly digest: number;
    }
  | { readonly type: 'suspect'; readonly target: NodeId; readonly incarnation: number }
  | {
      readonly type: 'vouch';
      readonly target: NodeId;
      readonly alive: boolean;
      readonly incarnation: number;
    }
  // Link state
  | {
      readonly type: 'states';
      readonly purpose: 'urgent' | 'tree' | 'sync';
      readonly states: readonly LinkState[];
      /** For how many seconds the sender has held each for gone; absent when none is. */
      readonly gone?: readonly number[];
    }
  | { readonly type: 'sync'; readonly buckets: readonly number[] }
  | {
      /** Of all records in these buckets; with no buckets, an announcement. */
      readonly type: 'versions';
      readonly buckets: readonly number[];
      readonly versions: readonly Version[];
    }
  | { readonly type: 'want'; readonly graft: boolean; readonly ids: readonly NodeId[] };

export type MessageOf<T extends Message['type']> = Extract<Message, { type: T }>;

export type TimerKey =
  | 'shuffle'
  | 'pending'
  | 'repair'
  | 'optimise'
  | 'lazy'
  | 'graft'
  | 'evict'
  | 'detector'
  | 'publish'
  | 'flush'
  | 'want'
  | 'hold'
  | 'routes'
  | 'rejoin';

export type Input =
  /** Begins the periodic work. `known` are peers remembered from an earlier run. */
  | { readonly type: 'start'; readonly known: readonly Peer[] }
  /** Join through any one of these (the first LIMITS.seeds); they are tried again whenever this node is alone. */
  | { readonly type: 'join'; readonly seeds: readonly Peer[] }
  /** Says goodbye; after it every input is ignored and no timer is left. */
  | { readonly type: 'leave' }
  | { readonly type: 'received'; readonly from: Peer; readonly message: Message }
  /** A dial failed, or a connection broke: a hint that saves waiting for a timeout. */
  | { readonly type: 'unreachable'; readonly peer: NodeId }
  | { readonly type: 'timer'; readonly key: TimerKey }
  | { readonly type: 'broadcast'; readonly payload: Uint8Array; readonly priority: Priority };

export type DownReason = 'failed' | 'disconnected' | 'replaced' | 'left';

export type Event =
  | { readonly type: 'joined'; readonly through: NodeId }
  | { readonly type: 'link-up'; readonly peer: Peer }
  | { readonly type: 'link-down'; readonly peer: Peer; readonly reason: DownReason }
  | { readonly type: 'suspected'; readonly peer: Peer }
  | { readonly type: 'cleared'; readonly peer: Peer }
  /** Somebody reachable is that node's neighbour; `peer` may be dialled. */
  | { readonly type: 'member-up'; readonly id: NodeId; readonly incarnation: number }
  /** No path leads there any more: nobody reachable vouches for it. */
  | { readonly type: 'member-dead'; readonly id: NodeId }
  | { readonly type: 'member-left'; readonly id: NodeId }
  | {
      readonly type: 'delivered';
      readonly id: BroadcastId;
      readonly origin: NodeId;
      readonly hop: number;
      readonly payload: Uint8Array;
    }
  | { readonly type: 'refused'; readonly what: string; readonly why: string };

export type Output =
  /** Deliver if possible; not delivering is no error. Urgent goes before normal, normal before bulk. */
  | {
      readonly type: 'send';
      readonly to: Peer;
      readonly message: Message;
      readonly priority: Priority;
    }
  /** Keep a connection to this peer open. */
  | { readonly type: 'dial'; readonly peer: Peer }
  /** The connection is of no use any more, once what was sent before is out. */
  | { readonly type: 'drop'; readonly peer: Peer }
  /** Hand in `{ type: 'timer', key }` at `atMs`. A later one with that key takes its place; a stale one is harmless. */
  | { readonly type: 'schedule'; readonly key: TimerKey; readonly atMs: number }
  | { readonly type: 'cancel'; readonly key: TimerKey }
  | { readonly type: 'event'; readonly event: Event };
