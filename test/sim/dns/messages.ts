/** Messages made and read byte by byte: fast enough for millions, and by other code than what is tested. */
import { readQuery, type Query } from '../../../src/dns/query.ts';

/** A query for A by a client without EDNS. */
export function queryOf(name: string, id = 1): Query {
  const labels = name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)]));
  const header = Buffer.from([id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const read = readQuery(Buffer.concat([header, ...labels, Buffer.from([0, 0, 1, 0, 1])]));
  if (!read.ok) throw new Error(`no query: ${name}`);
  return read.query;
}

export function questionEnd(message: Uint8Array): number {
  let at = 12;
  while ((message[at] ?? 0) > 0) at += (message[at] ?? 0) + 1;
  return at + 5;
}

/** The name that was asked, in lower case. */
export function nameIn(message: Uint8Array): string {
  const labels: string[] = [];
  for (let at = 12; (message[at] ?? 0) > 0;) {
    const length = message[at] ?? 0;
    labels.push(Buffer.from(message.subarray(at + 1, at + 1 + length)).toString('latin1'));
    at += length + 1;
  }
  return labels.join('.').toLowerCase();
}

export interface Said {
  readonly rcode?: number;
  readonly isTruncated?: boolean;
  readonly address?: readonly [number, number, number, number];
  readonly ttl?: number;
}

/** A reply with one address, or none. */
export function replyOf(sent: Uint8Array, said: Said): Buffer {
  const end = questionEnd(sent);
  const { rcode = 0, isTruncated = false, address, ttl = 60 } = said;
  const reply = Buffer.alloc(end + (address === undefined ? 0 : 16));
  reply.set(sent.subarray(0, end));
  reply[2] = 0x81 | (isTruncated ? 2 : 0);
  reply[3] = 0x80 | rcode;
  reply.writeUInt16BE(address === undefined ? 0 : 1, 6);
  reply.writeUInt32BE(0, 8);
  if (address === undefined) return reply;
  reply.writeUInt32BE(0xc00c_0001, end);
  reply.writeUInt16BE(1, end + 4);
  reply.writeUInt32BE(ttl, end + 6);
  reply.writeUInt16BE(4, end + 10);
  reply.set(address, end + 12);
  return reply;
}

export interface ReadRecord {
  readonly owner: string;
  readonly type: number;
  readonly data: Buffer;
  /** The name that a CNAME leads to. */
  readonly target: string | undefined;
}

export interface ReadMessage {
  readonly name: string;
  readonly rcode: number;
  readonly answers: readonly ReadRecord[];
}

/** Throws where anything is not as it should be in a message. */
export function readMessage(bytes: Uint8Array): ReadMessage {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (message.readUInt16BE(4) !== 1) throw new Error('not one question');
  const [name, nameEnd] = readName(message, 12);
  let at = nameEnd + 4;
  const answers: ReadRecord[] = [];
  const counts = [6, 8, 10].map((offset) => message.readUInt16BE(offset));
  for (const [section, count] of counts.entries())
    for (let i = 0; i < count; i++) {
      const [owner, ownerEnd] = readName(message, at);
      const end = ownerEnd + 10 + message.readUInt16BE(ownerEnd + 8);
      if (end > message.length) throw new Error('a record leaves the message');
      const type = message.readUInt16BE(ownerEnd);
      const data = message.subarray(ownerEnd + 10, end);
      if (type === 1 && data.length !== 4) throw new Error('an address of another length');
      const [target, targetEnd] = type === 5 ? readName(message, ownerEnd + 10) : [undefined, end];
      if (targetEnd !== end) throw new Error('a name does not end where its data ends');
      if (section === 0) answers.push({ owner, type, data, target });
      at = end;
    }
  if (at !== message.length) throw new Error('bytes are left over');
  return { name, rcode: (message[3] ?? 0) & 15, answers };
}

function readName(message: Buffer, start: number): [string, number] {
  let name = '';
  let at = start;
  let end = -1;
  for (let steps = 0; ; steps++) {
    const length = message.readUInt8(at);
    if (steps > 200) throw new Error('a name without end');
    if (length >= 0xc0) {
      if (end < 0) end = at + 2;
      at = message.readUInt16BE(at) & 0x3fff;
    } else if (length > 63) {
      throw new Error('a label of more than 63 bytes');
    } else {
      at += length + 1;
      if (length === 0) break;
      name += `${message.toString('latin1', at - length, at).toLowerCase()}.`;
      if (name.length > 255) throw new Error('a name of more than 255 bytes');
    }
  }
  return [name, end < 0 ? at : end];
}
