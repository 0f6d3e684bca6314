/** Inputs, outputs and settings of replication: src/cluster/replication.ts. */
import type { Priority } from '../hyparview-ts/index.ts';
import type { Changed, Notice, Update } from '../state/replica/replica.ts';
import type { FactChanged } from './ephemeral.ts';

export type ReplicationInput =
  /** What transact(), compact() or forgetDocument() returned. */
  | {
      readonly type: 'local';
      readonly updates: readonly Update[];
      readonly changed: readonly Changed[];
      /** They are on disk: no `store` is wanted. */
      readonly stored?: true;
    }
  /** A fact of this host; without a value it is withdrawn. */
  | {
      readonly type: 'fact';
      readonly key: string;
      readonly value: Uint8Array | undefined;
      readonly forMs: number;
      readonly priority: Priority;
    }
  /** The payload of a `delivered` event. */
  | { readonly type: 'broadcast'; readonly origin: string; readonly bytes: Uint8Array }
  /** A message on `state` or `state-bulk`; the transport knows who it is from. */
  | { readonly type: 'message'; readonly from: string; readonly bytes: Uint8Array }
  /** A connection is there, and is gone. */
  | { readonly type: 'up' | 'down'; readonly peer: string }
  | { readonly type: 'timer' };

export type ReplicationOutput =
  /** To be on disk before the next output is done. `whole`: in place of all that was stored of it. */
  | {
      readonly type: 'store';
      readonly updates: readonly Update[];
      readonly clock: string;
      readonly whole: boolean;
    }
  | { readonly type: 'broadcast'; readonly bytes: Uint8Array; readonly priority: Priority }
  | {
      readonly type: 'send';
      readonly to: string;
      readonly channel: 'state' | 'state-bulk';
      readonly bytes: Uint8Array;
    }
  /** A timer input is wanted then; takes the place of the one before. */
  | { readonly type: 'schedule'; readonly atMs: number }
  | { readonly type: 'changed'; readonly changed: readonly Changed[] }
  | { readonly type: 'facts'; readonly changed: readonly FactChanged[] }
  | { readonly type: 'notice'; readonly notice: ReplicationNotice; readonly from: string };

export type ReplicationNotice =
  | Notice
  /** Bytes that are no message: a direct one should end the connection. */
  | { readonly type: 'garbage'; readonly reason: string }
  /** No answer in time. */
  | { readonly type: 'no-answer'; readonly document: string }
  /** A fact of this host was not taken: a limit of ephemeral.ts. */
  | { readonly type: 'fact-refused'; readonly key: string };

export interface ReplicationConfig {
  readonly batchMs: number;
  /** Of one broadcast. A larger update is pulled, from neighbour to neighbour. */
  readonly batchBytesMax: number;
  /** On average, between two comparisons that this host begins; each time 0.5 to 1.5 of it. */
  readonly compareMs: number;
  readonly partBytes: number;
  /** Parts sent to one peer that it has not said to have got. */
  readonly windowBytes: number;
  /** At once to one peer. */
  readonly asksMax: number;
  /** Asks of one peer that wait to be answered; it may have `asksMax` of its own version. */
  readonly answersMax: number;
  /** Without any word of the peer asked. */
  readonly answerMs: number;
  /** Documents that one peer has told of and that are yet to be asked for. */
  readonly wantedMax: number;
  /** Answers that arrive, all together. */
  readonly assemblyBytesMax: number;
  readonly backoffMs: number;
  readonly backoffMsMax: number;
  /** Asks in a row without any use after which a peer is asked once in `quietMs`. */
  readonly fruitlessMax: number;
  readonly quietMs: number;
}

export const REPLICATION_CONFIG: ReplicationConfig = {
  batchMs: 10, // issue 5
  batchBytesMax: 65_536, // a guess: below a sixteenth of payloadBytesMax; some 600 changes of 100 bytes
  compareMs: 10_000, // issue 5
  partBytes: 262_144, // a guess: 20 ms of a link with 100 Mbit/s
  windowBytes: 1_048_576, // a guess: what is under way with 80 ms and 100 Mbit/s
  asksMax: 4, // a guess
  answersMax: 16, // a guess
  answerMs: 10_000, // a guess
  wantedMax: 16_384, // documentsMax of the replica
  assemblyBytesMax: 268_435_456, // snapshotBytesMax of the replica: one such document at a time
  backoffMs: 200, // a guess
  backoffMsMax: 60_000, // a guess
  fruitlessMax: 256, // a guess
  quietMs: 1000, // a guess
};
