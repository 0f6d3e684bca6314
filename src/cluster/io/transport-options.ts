/** What a transport is given, and what it tells of itself: limits, handlers, views. */
import type { Peer } from '../../hyparview-ts/index.ts';
import type { Channel } from '../channels.ts';
import type { Revocations } from '../revocation.ts';
import type { Clock } from './clock.ts';
import { CONNECTION_LIMITS, type ConnectionLimits } from './connection.ts';
import type { Identity } from './identity.ts';
import type { ListenerLimits, Taker } from './listener.ts';
import type { ClusterLog } from './log.ts';
import type { Metrics } from './metrics.ts';

export interface TransportLimits extends ConnectionLimits {
  /** From the first SYN to the peer's welcome. */
  readonly dialTimeoutMs: number;
  /** A connection that nobody keeps and nobody uses is closed after this. */
  readonly idleMs: number;
  /** Links in use. More peers are told to come back later. */
  readonly linksMax: number;
  /** Peers that are thought of: linked, dialled, or waited for. */
  readonly slotsMax: number;
  /** What may wait for a dial, for each peer. */
  readonly waitingMessagesMax: number;
  readonly waitingBytesMax: number;
  /** For what is left to get out, and for peers to end their side, when all stops. */
  readonly stopMs: number;
  /** After a new certificate, connections are made anew within this time. */
  readonly refreshMs: number;
}

/** All guesses. */
export const TRANSPORT_LIMITS: TransportLimits = {
  ...CONNECTION_LIMITS,
  dialTimeoutMs: 3000,
  idleMs: 30_000,
  linksMax: 2048,
  slotsMax: 8192,
  waitingMessagesMax: 256,
  waitingBytesMax: 8_388_608,
  stopMs: 1000,
  refreshMs: 3_600_000,
};

export interface TransportHandlers {
  message(from: Peer, channel: Channel, message: Uint8Array): void;
  /** There is a connection. It may come again for the same peer after a quick change of connections. */
  up(peer: Peer): void;
  /** There is none any more, whoever ended it. */
  down(id: string): void;
  /** It could not be reached, or is cut off, and what was sent to it lately may be lost. */
  unreachable(id: string, why: string): void;
}

export interface TransportOptions {
  readonly identity: Identity;
  /** Where others reach this node, and where it stands. */
  readonly self: Omit<Peer, 'id'>;
  readonly software: string;
  readonly clock: Clock;
  /** From 0 up to 1: spreads what would happen at once. */
  readonly unit: () => number;
  readonly handlers: TransportHandlers;
  /** More than `zerohop/1` on the same port: `zerohop-sign/1` on signers. */
  readonly takers?: ReadonlyMap<string, Taker>;
  readonly limits?: Partial<TransportLimits>;
  readonly listener?: Partial<ListenerLimits>;
  readonly metrics?: Metrics;
  /** Who is out; grows while it runs (enforceRevocations). */
  readonly revocations?: Revocations;
  /** Whether a node is gone for good: it is let in no more, whatever its certificate says. */
  readonly isGone?: (id: string) => boolean;
  readonly log?: ClusterLog;
}

export interface Sizes {
  readonly links: number;
  readonly slots: number;
  /** Handshakes under way that others began. */
  readonly pending: number;
  /** Connections that others began. */
  readonly sockets: number;
  readonly queuedBytes: number;
}

export interface LinkView {
  readonly peer: Peer;
  readonly dialledBy: 'self' | 'peer';
  readonly serial: string;
  readonly software: string;
  readonly protocol: number;
  readonly queuedBytes: number;
  readonly ageMs: number;
  readonly remoteAddress: string;
}
