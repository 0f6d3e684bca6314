/** What a member is given, and what it hears and asks of the agent around it. */
import type { Peer, Random } from '../../hyparview-ts/index.ts';
import type { Changed, Replica, Update, Write } from '../../state/replica/replica.ts';
import type { HostPort } from '../address.ts';
import type { Interface } from '../advertise.ts';
import type { FactChanged } from '../ephemeral.ts';
import type { Revocation } from '../revocation.ts';
import type { Clock } from './clock.ts';
import type { Identity } from './identity.ts';
import type { ClusterLog } from './log.ts';
import type { Vault } from './vault.ts';

export interface Spreadable {
  readonly updates: readonly Update[];
  readonly changed: readonly Changed[];
}

/** The part of the agent's state that a member needs. What `write` and `forget` change its owner follows by itself. */
export interface MemberState {
  readonly replica: Replica;
  /** Never throws: what the disk refuses is tried again by its owner. */
  keep(updates: readonly Update[], whole: boolean): void;
  /** On disk when it returns; throws with nothing changed. */
  write(writes: readonly Write[], nowMs: number): Spreadable;
  /** The directory was set back. Whether it goes on as a new writer: nothing was written since the start. */
  renew(): boolean;
  /** A node is gone for good, and its document with it. Never throws. Not told as `changed`. */
  forget(node: string): void;
}

export interface MemberHandlers {
  /** Others' writes are in the replica and kept: follow them. */
  changed(changed: readonly Changed[]): void;
  /** `unreachable()` is another one than before. */
  reachability(): void;
  facts(changed: readonly FactChanged[]): void;
}

export interface MemberSettings {
  readonly listen: HostPort;
  /** IP or IP:PORT that others dial; undefined: chosen (advertise.ts). */
  readonly advertise: string | undefined;
  readonly zone: string;
  readonly name: string;
  /** Blocks that VIPs are taken from here; other members should have the same. */
  readonly vips: readonly string[];
}

export interface MemberOptions {
  readonly vault: Vault;
  readonly identity: Identity;
  readonly state: MemberState;
  readonly settings: MemberSettings;
  readonly dataDirectory: string;
  readonly software: string;
  /** To join through; peers of an earlier run are remembered. */
  readonly seeds: readonly Peer[];
  /** As the joining answer told them: until the state has come. */
  readonly revocations?: readonly Revocation[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: ClusterLog;
  readonly handlers: MemberHandlers;
  /** Of this host; the system's unless a test says otherwise. */
  readonly interfaces?: () => readonly Interface[];
}

export interface TokenView {
  readonly id: string;
  readonly expiresAtMs: number;
  readonly signer: boolean;
  readonly used?: { readonly atMs: number; readonly nodeId: string };
}
