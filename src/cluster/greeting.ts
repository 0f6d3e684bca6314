// What two ends say to each other on the control channel: hello and welcome (or a refusal), keepalive, and the end.
// Fields are only ever added at the end, and what follows the known ones is skipped: an older node can talk to a newer
// one. Who a peer is stands in its certificate; here it says only where it listens, and whether this is a new life.
import { Reader, WireError, Writer } from '../hyparview-ts/bytes.ts';
import { decodePeer, encodePeer } from '../hyparview-ts/codec.ts';
import type { Peer } from '../hyparview-ts/index.ts';

/** Versions of everything inside the frames that this code speaks; the highest that both ends know is used. */
export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 1;

export type RefusalCode = 'version' | 'duplicate' | 'busy' | 'identity' | 'leaving' | 'other';

export interface Hello {
  readonly type: 'hello';
  readonly protocolMin: number;
  readonly protocolMax: number;
  /** Drawn at each start of a process: tells a peer that came back from one that dials once more. */
  readonly instance: string;
  /** Drawn for each dial. */
  readonly connection: string;
  /** The last connection with this peer that this process knew of: '' when there was none (rivals.ts). */
  readonly after: string;
  readonly peer: Peer;
  /** The software's version, for people. */
  readonly software: string;
}

export type Control =
  | Hello
  | {
      readonly type: 'welcome';
      readonly protocol: number;
      readonly instance: string;
      readonly peer: Peer;
      readonly software: string;
    }
  | { readonly type: 'refuse'; readonly code: RefusalCode }
  | { readonly type: 'ping' }
  | { readonly type: 'pong' }
  /** Nothing more follows from this end. */
  | { readonly type: 'bye' };

const TYPES = ['hello', 'welcome', 'refuse', 'ping', 'pong', 'bye'] as const;
const CODES = ['other', 'version', 'duplicate', 'busy', 'identity', 'leaving'] as const;
const NAME_LENGTH = 32;
const PEER_BYTES = 512;

export function encodeControl(control: Control): Uint8Array {
  const w = new Writer();
  w.byte(TYPES.indexOf(control.type));
  switch (control.type) {
    case 'hello':
      w.integer(control.protocolMin);
      w.integer(control.protocolMax);
      w.text(control.instance, NAME_LENGTH);
      w.text(control.connection, NAME_LENGTH);
      w.text(control.after, NAME_LENGTH);
      w.blob(encodePeer(control.peer));
      w.text(control.software, NAME_LENGTH);
      break;
    case 'welcome':
      w.integer(control.protocol);
      w.text(control.instance, NAME_LENGTH);
      w.blob(encodePeer(control.peer));
      w.text(control.software, NAME_LENGTH);
      break;
    case 'refuse':
      w.byte(CODES.indexOf(control.code));
      break;
    case 'ping':
    case 'pong':
    case 'bye':
  }
  return w.finish();
}

/** undefined for a type that a newer node may know: skip it. Throws WireError on anything else that is not right. */
export function decodeControl(bytes: Uint8Array): Control | undefined {
  const r = new Reader(bytes);
  const type = TYPES[r.byte()];
  switch (type) {
    case 'hello': {
      const protocolMin = r.integer();
      const protocolMax = r.integer();
      if (protocolMax < protocolMin) throw new WireError('no protocol version');
      const instance = r.text(NAME_LENGTH, 1);
      const connection = r.text(NAME_LENGTH, 1);
      const after = r.text(NAME_LENGTH);
      const peer = decodePeer(r.blob(PEER_BYTES));
      const software = r.text(NAME_LENGTH);
      return { type, protocolMin, protocolMax, instance, connection, after, peer, software };
    }
    case 'welcome': {
      const protocol = r.integer();
      const instance = r.text(NAME_LENGTH, 1);
      const peer = decodePeer(r.blob(PEER_BYTES));
      return { type, protocol, instance, peer, software: r.text(NAME_LENGTH) };
    }
    case 'refuse':
      return { type, code: CODES[r.byte()] ?? 'other' };
    case 'ping':
    case 'pong':
    case 'bye':
      return { type };
    case undefined:
    default:
      return undefined;
  }
}

/** The version to speak with this peer; undefined when there is none. */
export function commonProtocol({ protocolMin, protocolMax }: Hello): number | undefined {
  const version = Math.min(PROTOCOL_MAX, protocolMax);
  return version >= Math.max(PROTOCOL_MIN, protocolMin) ? version : undefined;
}
