// hyparview-ts: membership, broadcast and failure detection as a pure state machine. See README.md.
export { Node } from './node.ts';
export type { NodeOptions } from './node.ts';
export { DEFAULTS, LIMITS, PAPER } from './config.ts';
export type { Config } from './config.ts';
export { Names } from './names.ts';
export { sfc32 } from './random.ts';
export type { Random } from './random.ts';
export { knownPeers } from './snapshot.ts';
export type { Snapshot } from './snapshot.ts';
export type { LinkState, Version } from './linkstate.ts';
export type {
  Announcement,
  BroadcastId,
  DownReason,
  Event,
  Input,
  Message,
  MessageOf,
  NodeId,
  Output,
  Peer,
  Priority,
  TimerKey,
} from './types.ts';
