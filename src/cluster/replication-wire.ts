// Messages of replication as bytes: a version, a type, then the fields. The same form is broadcast and sent to one peer.
// Decoding throws WireError on anything that `encode` could not have made, and never allocates more than a small
// multiple of the message. A type that is not known is of a newer version, and undefined.
import { Reader, WireError, Writer } from '../hyparview-ts/bytes.ts';
import type { Epoch } from '../state/replica/log-document.ts';
import type { Update, Vector } from '../state/replica/replica.ts';
import type { Fact } from './ephemeral.ts';

export { WireError } from '../hyparview-ts/bytes.ts';

export const REPLICATION_VERSION = 1;

export const REPLICATION_LIMITS = {
  messageBytes: 4_194_304, // of the channel `state`, and of a broadcast
  updatesPerMessage: 4096,
  digestsPerMessage: 4096,
  factsPerMessage: 4096,
  documentIdLength: 261, // 'node:' and what Replica takes as the name of a node
  digestLength: 64,
  vectorBytes: 1_048_576, // 65,536 writers
  totalBytes: 268_435_456, // snapshotBytesMax of the replica
  nodeLength: 256,
  factKeyLength: 256,
  factBytes: 4096,
} as const;

export interface DocumentDigest {
  readonly document: string;
  readonly digest: string;
}

/** All documents with an id above `after`, up to and with `upTo`; an empty `upTo` is no end. */
export interface DigestRange {
  readonly after: string;
  readonly upTo: string;
}

/** A piece of an answer: `bytes` from `offset` of an update of `total` bytes. */
export interface Part {
  readonly type: 'part';
  readonly request: number;
  readonly document: string;
  readonly epoch: Epoch;
  readonly whole: boolean;
  /** Of the document as the sender has it. */
  readonly digest: string;
  readonly total: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export type ReplicationMessage =
  | { readonly type: 'updates'; readonly updates: readonly Update[] }
  /** Two words over all documents. Whoever has others answers with digests. */
  | { readonly type: 'summary'; readonly high: number; readonly low: number }
  | {
      readonly type: 'digests';
      readonly digests: readonly DocumentDigest[];
      /** With it the list has all that the sender knows within; without, it is news. */
      readonly range: DigestRange | undefined;
    }
  | { readonly type: 'ask'; readonly request: number; readonly vector: Vector }
  | Part
  /** There is nothing to answer. */
  | { readonly type: 'none'; readonly request: number }
  /** So many bytes of parts have arrived. */
  | { readonly type: 'got'; readonly bytes: number }
  | { readonly type: 'facts'; readonly facts: readonly Fact[] };

const TYPES = [
  'updates',
  'summary',
  'digests',
  'ask',
  'part',
  'none',
  'got',
  'facts',
] as const satisfies readonly ReplicationMessage['type'][];
const NUMBER = new Map<string, number>(TYPES.map((type, i) => [type, i]));
const LIMITS = REPLICATION_LIMITS;

export function encodeReplication(message: ReplicationMessage): Uint8Array {
  const writer = new Writer();
  writer.byte(REPLICATION_VERSION);
  writer.byte(NUMBER.get(message.type) ?? 255);
  writeFields(writer, message);
  const bytes = writer.finish();
  if (bytes.length > LIMITS.messageBytes) throw new WireError(`a message of ${bytes.length} bytes`);
  return bytes;
}

export function decodeReplication(bytes: Uint8Array): ReplicationMessage | undefined {
  if (bytes.length > LIMITS.messageBytes) throw new WireError(`a message of ${bytes.length} bytes`);
  const reader = new Reader(bytes);
  const version = reader.byte();
  if (version !== REPLICATION_VERSION)
    throw new WireError(`version ${version}, not ${REPLICATION_VERSION}`);
  const type = TYPES[reader.byte()];
  if (type === undefined) return undefined;
  const message = readFields(reader, type);
  reader.end();
  return message;
}

function writeFields(w: Writer, m: ReplicationMessage): void {
  switch (m.type) {
    case 'updates':
      return w.list(m.updates, LIMITS.updatesPerMessage, (update) => {
        writeHead(w, update);
        w.bool(update.whole);
        w.blob(update.bytes);
      });
    case 'summary':
      w.word(m.high);
      return w.word(m.low);
    case 'digests':
      w.bool(m.range !== undefined);
      w.text(m.range?.after ?? '', LIMITS.documentIdLength);
      w.text(m.range?.upTo ?? '', LIMITS.documentIdLength);
      return w.list(m.digests, LIMITS.digestsPerMessage, ({ document, digest }) => {
        w.text(document, LIMITS.documentIdLength);
        w.text(digest, LIMITS.digestLength);
      });
    case 'ask':
      w.integer(m.request);
      writeHead(w, m.vector);
      return w.blob(m.vector.bytes);
    case 'part':
      w.integer(m.request);
      writeHead(w, m);
      w.bool(m.whole);
      w.text(m.digest, LIMITS.digestLength);
      w.integer(m.total);
      w.integer(m.offset);
      return w.blob(m.bytes);
    case 'none':
      return w.integer(m.request);
    case 'got':
      return w.integer(m.bytes);
    case 'facts':
      return w.list(m.facts, LIMITS.factsPerMessage, (fact) => writeFact(w, fact));
  }
}

function readFields(r: Reader, type: ReplicationMessage['type']): ReplicationMessage {
  switch (type) {
    case 'updates':
      return {
        type,
        updates: r.list(LIMITS.updatesPerMessage, () => ({
          ...readHead(r),
          whole: r.bool(),
          bytes: r.blob(LIMITS.messageBytes),
        })),
      };
    case 'summary':
      return { type, high: r.word(), low: r.word() };
    case 'digests':
      return readDigests(r);
    case 'ask':
      return {
        type,
        request: r.integer(),
        vector: { ...readHead(r), bytes: r.blob(LIMITS.vectorBytes) },
      };
    case 'part':
      return {
        type,
        request: r.integer(),
        ...readHead(r),
        whole: r.bool(),
        digest: r.text(LIMITS.digestLength),
        total: r.integer(LIMITS.totalBytes),
        offset: r.integer(LIMITS.totalBytes),
        bytes: r.blob(LIMITS.messageBytes),
      };
    case 'none':
      return { type, request: r.integer() };
    case 'got':
      return { type, bytes: r.integer(LIMITS.totalBytes) };
    case 'facts':
      return { type, facts: r.list(LIMITS.factsPerMessage, () => readFact(r)) };
  }
}

function readDigests(r: Reader): ReplicationMessage {
  const isRange = r.bool();
  const after = r.text(LIMITS.documentIdLength);
  const upTo = r.text(LIMITS.documentIdLength);
  if (!isRange && (after !== '' || upTo !== '')) throw new WireError('ends of no range');
  const digests = r.list(LIMITS.digestsPerMessage, () => ({
    document: r.text(LIMITS.documentIdLength, 1),
    digest: r.text(LIMITS.digestLength, 1),
  }));
  return { type: 'digests', digests, range: isRange ? { after, upTo } : undefined };
}

function writeHead(w: Writer, { document, epoch }: Pick<Update, 'document' | 'epoch'>): void {
  w.text(document, LIMITS.documentIdLength);
  w.integer(epoch.number);
  w.integer(epoch.proposer);
}

function readHead(r: Reader): Pick<Update, 'document' | 'epoch'> {
  const document = r.text(LIMITS.documentIdLength, 1);
  return { document, epoch: { number: r.integer(), proposer: r.integer() } };
}

function writeFact(w: Writer, fact: Fact): void {
  w.text(fact.origin, LIMITS.nodeLength);
  w.integer(fact.incarnation);
  w.integer(fact.sequence);
  w.text(fact.key, LIMITS.factKeyLength);
  w.integer(fact.forMs);
  w.bool(fact.value !== undefined);
  if (fact.value !== undefined) w.blob(fact.value);
}

function readFact(r: Reader): Fact {
  return {
    origin: r.text(LIMITS.nodeLength, 1),
    incarnation: r.integer(),
    sequence: r.integer(),
    key: r.text(LIMITS.factKeyLength, 1),
    forMs: r.integer(),
    value: r.bool() ? r.blob(LIMITS.factBytes) : undefined,
  };
}
