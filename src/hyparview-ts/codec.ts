// Messages as bytes: a version, a type, then the fields. One frame is one message; how frames are told apart on a
// stream is the host's business. Decoding throws WireError on anything but a frame `encode` could have made, and never
// allocates more than a small multiple of the frame.
import { Reader, WireError, Writer } from './bytes.ts';
import { LIMITS } from './config.ts';
import type { LinkState, Version } from './linkstate.ts';
import type { Announcement, Message, MessageOf, Peer, Priority } from './types.ts';

export { WireError } from './bytes.ts';

export const WIRE_VERSION = 1;

const TYPES = [
  'join',
  'forward-join',
  'neighbor',
  'neighbor-reply',
  'disconnect',
  'shuffle',
  'shuffle-reply',
  'optimise',
  'optimise-replace',
  'optimise-switch',
  'optimise-reply',
  'gossip',
  'ihave',
  'graft',
  'prune',
  'ping',
  'pong',
  'suspect',
  'vouch',
  'states',
  'sync',
  'versions',
  'want',
] as const satisfies readonly Message['type'][];
const NUMBER = new Map<Message['type'], number>(TYPES.map((type, i) => [type, i]));
const PRIORITIES = ['urgent', 'normal', 'bulk'] as const satisfies readonly Priority[];
const PURPOSES = ['urgent', 'tree', 'sync'] as const;
const STAGES = ['switch', 'replace', 'optimise'] as const;

export function encode(message: Message): Uint8Array {
  const writer = new Writer();
  writer.byte(WIRE_VERSION);
  writer.byte(NUMBER.get(message.type) ?? 255);
  writeFields(writer, message);
  const bytes = writer.finish();
  if (bytes.length > LIMITS.frameBytes) throw new WireError(`a frame of ${bytes.length} bytes`);
  return bytes;
}

export function decode(bytes: Uint8Array): Message {
  if (bytes.length > LIMITS.frameBytes) throw new WireError(`a frame of ${bytes.length} bytes`);
  const reader = new Reader(bytes);
  const version = reader.byte();
  if (version !== WIRE_VERSION) throw new WireError(`version ${version}, not ${WIRE_VERSION}`);
  const number = reader.byte();
  const type = TYPES[number];
  if (type === undefined) throw new WireError(`no message type ${number}`);
  const message = readFields(reader, type);
  reader.end();
  return message;
}

/** For the host's handshake, in which each side says who it is. */
export function encodePeer(peer: Peer): Uint8Array {
  const writer = new Writer();
  writer.byte(WIRE_VERSION);
  writePeer(writer, peer);
  return writer.finish();
}

export function decodePeer(bytes: Uint8Array): Peer {
  const reader = new Reader(bytes);
  if (reader.byte() !== WIRE_VERSION) throw new WireError('another version');
  const peer = readPeer(reader);
  reader.end();
  return peer;
}

function writeFields(w: Writer, m: Message): void {
  switch (m.type) {
    case 'join':
      return;
    case 'forward-join':
      writePeer(w, m.peer);
      return w.integer(m.ttl);
    case 'neighbor':
      return w.bool(m.high);
    case 'neighbor-reply':
      w.bool(m.accepted);
      return writePeers(w, m.peers);
    case 'disconnect':
      return w.bool(m.leaving);
    case 'shuffle':
      writePeer(w, m.origin);
      w.integer(m.ttl);
      return writePeers(w, m.peers);
    case 'shuffle-reply':
      return writePeers(w, m.peers);
    case 'optimise':
    case 'optimise-replace':
    case 'optimise-switch':
    case 'optimise-reply':
      return writeOptimise(w, m);
    case 'gossip':
      writeId(w, m.id, LIMITS.broadcastIdLength);
      w.integer(m.hop);
      w.byte(PRIORITIES.indexOf(m.priority));
      return w.blob(m.payload);
    case 'ihave':
      return w.list(m.announcements, LIMITS.announcementsPerMessage, (a) =>
        writeAnnouncement(w, a),
      );
    case 'graft':
      w.text(m.id, LIMITS.broadcastIdLength);
      return w.integer(m.hop);
    case 'prune':
      return w.bool(m.states);
    case 'ping':
    case 'pong':
    case 'suspect':
    case 'vouch':
    case 'states':
    case 'sync':
    case 'versions':
    case 'want':
      return writeStateFields(w, m);
  }
}

type StateMessage = MessageOf<
  'ping' | 'pong' | 'suspect' | 'vouch' | 'states' | 'sync' | 'versions' | 'want'
>;

function writeStateFields(w: Writer, m: StateMessage): void {
  switch (m.type) {
    case 'ping':
      w.word(m.nonce);
      w.bool(m.measure);
      return w.word(m.digest);
    case 'pong':
      w.word(m.nonce);
      w.integer(m.incarnation);
      return w.word(m.digest);
    case 'suspect':
      writeId(w, m.target);
      return w.integer(m.incarnation);
    case 'vouch':
      writeId(w, m.target);
      w.bool(m.alive);
      return w.integer(m.incarnation);
    case 'states':
      w.byte(PURPOSES.indexOf(m.purpose));
      w.list(m.states, LIMITS.statesPerMessage, (state) => writeState(w, state));
      return w.list(m.gone ?? [], LIMITS.statesPerMessage, (seconds) => w.integer(seconds));
    case 'sync':
      return w.list(m.buckets, LIMITS.buckets, (bucket) => w.word(bucket));
    case 'versions':
      w.list(m.buckets, LIMITS.buckets, (bucket) => w.integer(bucket));
      return w.list(m.versions, LIMITS.versionsPerMessage, (version) => writeVersion(w, version));
    case 'want':
      w.bool(m.graft);
      return w.list(m.ids, LIMITS.versionsPerMessage, (id) => writeId(w, id));
  }
}

function readFields(r: Reader, type: Message['type']): Message {
  switch (type) {
    case 'join':
      return { type };
    case 'forward-join':
      return { type, peer: readPeer(r), ttl: r.integer(LIMITS.ttl) };
    case 'neighbor':
      return { type, high: r.bool() };
    case 'neighbor-reply':
      return { type, accepted: r.bool(), peers: readPeers(r) };
    case 'disconnect':
      return { type, leaving: r.bool() };
    case 'shuffle':
      return { type, origin: readPeer(r), ttl: r.integer(LIMITS.ttl), peers: readPeers(r) };
    case 'shuffle-reply':
      return { type, peers: readPeers(r) };
    case 'optimise':
    case 'optimise-replace':
    case 'optimise-switch':
    case 'optimise-reply':
      return readOptimise(r, type);
    case 'gossip':
      return readGossip(r);
    case 'ihave':
      return {
        type,
        announcements: r.list(LIMITS.announcementsPerMessage, () => readAnnouncement(r)),
      };
    case 'graft':
      return { type, id: r.text(LIMITS.broadcastIdLength), hop: r.integer(LIMITS.hop) };
    case 'prune':
      return { type, states: r.bool() };
    case 'ping':
    case 'pong':
    case 'suspect':
    case 'vouch':
    case 'states':
    case 'sync':
    case 'versions':
    case 'want':
      return readStateFields(r, type);
  }
}

function readStateFields(r: Reader, type: StateMessage['type']): StateMessage {
  switch (type) {
    case 'ping':
      return { type, nonce: r.word(), measure: r.bool(), digest: r.word() };
    case 'pong':
      return {
        type,
        nonce: r.word(),
        incarnation: r.integer(LIMITS.incarnation),
        digest: r.word(),
      };
    case 'suspect':
      return { type, target: readId(r), incarnation: r.integer(LIMITS.incarnation) };
    case 'vouch':
      return {
        type,
        target: readId(r),
        alive: r.bool(),
        incarnation: r.integer(LIMITS.incarnation),
      };
    case 'states':
      return readStates(r);
    case 'sync':
      return { type, buckets: r.list(LIMITS.buckets, () => r.word()) };
    case 'versions':
      return {
        type,
        buckets: r.list(LIMITS.buckets, () => r.integer(LIMITS.buckets - 1)),
        versions: r.list(LIMITS.versionsPerMessage, () => readVersion(r)),
      };
    case 'want':
      return { type, graft: r.bool(), ids: r.list(LIMITS.versionsPerMessage, () => readId(r)) };
  }
}

function writeOptimise(
  w: Writer,
  m: MessageOf<'optimise' | 'optimise-replace' | 'optimise-switch' | 'optimise-reply'>,
): void {
  if (m.type === 'optimise') return writePeer(w, m.old);
  if (m.type === 'optimise-reply') {
    w.byte(STAGES.indexOf(m.stage));
    w.bool(m.accepted);
  }
  writePeer(w, m.initiator);
  writePeer(w, m.type === 'optimise-switch' ? m.candidate : m.old);
}

function readOptimise(
  r: Reader,
  type: 'optimise' | 'optimise-replace' | 'optimise-switch' | 'optimise-reply',
): Message {
  switch (type) {
    case 'optimise':
      return { type, old: readPeer(r) };
    case 'optimise-replace':
      return { type, initiator: readPeer(r), old: readPeer(r) };
    case 'optimise-switch':
      return { type, initiator: readPeer(r), candidate: readPeer(r) };
    case 'optimise-reply':
      return {
        type,
        stage: oneOf(r, STAGES),
        accepted: r.bool(),
        initiator: readPeer(r),
        old: readPeer(r),
      };
  }
}

function readGossip(r: Reader): MessageOf<'gossip'> {
  const id = r.text(LIMITS.broadcastIdLength, 1);
  const hop = r.integer(LIMITS.hop);
  const priority = oneOf(r, PRIORITIES);
  return { type: 'gossip', id, hop, priority, payload: r.blob(LIMITS.frameBytes) };
}

function readStates(r: Reader): MessageOf<'states'> {
  const purpose = oneOf(r, PURPOSES);
  const states = r.list(LIMITS.statesPerMessage, () => readState(r));
  const gone = r.list(LIMITS.statesPerMessage, () => r.integer(LIMITS.goneSeconds));
  if (gone.length === 0) return { type: 'states', purpose, states };
  if (gone.length !== states.length) {
    throw new WireError(`${states.length} states and ${gone.length} times`);
  }
  return { type: 'states', purpose, states, gone };
}

function oneOf<T>(r: Reader, values: readonly T[]): T {
  const number = r.byte();
  const value = values[number];
  if (value === undefined) throw new WireError(`no such choice: ${number}`);
  return value;
}

function writeId(w: Writer, id: string, lengthMax: number = LIMITS.idLength): void {
  if (id === '') throw new WireError('an empty id');
  w.text(id, lengthMax);
}

function readId(r: Reader): string {
  return r.text(LIMITS.idLength, 1);
}

function writePeer(w: Writer, { id, address, zone }: Peer): void {
  writeId(w, id);
  w.text(address, LIMITS.addressLength);
  w.text(zone, LIMITS.zoneLength);
}

function readPeer(r: Reader): Peer {
  return { id: readId(r), address: r.text(LIMITS.addressLength), zone: r.text(LIMITS.zoneLength) };
}

function writePeers(w: Writer, peers: readonly Peer[]): void {
  w.list(peers, LIMITS.peersPerMessage, (peer) => writePeer(w, peer));
}

function readPeers(r: Reader): Peer[] {
  return r.list(LIMITS.peersPerMessage, () => readPeer(r));
}

function writeAnnouncement(w: Writer, { id, hop }: Announcement): void {
  writeId(w, id, LIMITS.broadcastIdLength);
  w.integer(hop);
}

function readAnnouncement(r: Reader): Announcement {
  return { id: r.text(LIMITS.broadcastIdLength, 1), hop: r.integer(LIMITS.hop) };
}

function writeVersion(w: Writer, { id, incarnation, sequence }: Version): void {
  writeId(w, id);
  w.integer(incarnation);
  w.integer(sequence);
}

function readVersion(r: Reader): Version {
  return {
    id: readId(r),
    incarnation: r.integer(LIMITS.incarnation),
    sequence: r.integer(LIMITS.incarnation),
  };
}

function writeState(w: Writer, state: LinkState): void {
  writePeer(w, state.origin);
  w.integer(state.incarnation);
  w.integer(state.sequence);
  w.bool(state.left);
  w.list(state.neighbours, LIMITS.neighboursPerState, (id) => writeId(w, id));
}

function readState(r: Reader): LinkState {
  return {
    origin: readPeer(r),
    incarnation: r.integer(LIMITS.incarnation),
    sequence: r.integer(LIMITS.incarnation),
    left: r.bool(),
    neighbours: r.list(LIMITS.neighboursPerState, () => readId(r)),
  };
}
