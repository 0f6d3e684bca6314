/**
 * A thread that answers DNS over UDP: plain questions from its table of prebuilt answers; all
 * else comes here in batches, and its answers go back the same way. What the table is told holds
 * for every question that comes after the call has returned. Of DNS it knows what an answer is
 * made of (native/dns_answer.h), not what it says.
 *
 * Open, it is alive by itself, like a socket: it keeps the process running and is never collected.
 */
import { BpfError } from './errors.ts';
import { native } from './native.ts';
import type { NativeHandle } from './native.ts';
import { handleOf, Resource } from './resource.ts';

export interface DnsQuestion {
  /** Whatever came. A view of a buffer that a turn's questions share, and so is `peer`: who keeps one copies it. */
  readonly message: Uint8Array;
  readonly client: string;
  /** As listen() gave it. */
  readonly socket: number;
  /** Where the answer goes: for send(), as it is. */
  readonly peer: Uint8Array;
  /** A plain question, of which the table knows nothing. */
  readonly isUnknown: boolean;
}

/** All records of one type at one name. */
export interface DnsRecords {
  /** On the wire, in lower case. */
  readonly name: Uint8Array;
  readonly type: number;
  readonly count: number;
  /** The answer section; names of records are pointers to the question's, at 12. */
  readonly tail: Uint8Array;
  /** Bytes of one record if they are shuffled for each answer, all of this length; else 0. */
  readonly shuffledBytes: number;
}

export interface DnsThreadOptions {
  /** Bytes of an answer to a client with EDNS; at most 4096. */
  readonly udpSizeMax: number;
  /** Bounds of the histogram of how long answers took; at most 32, in microseconds. */
  readonly boundsUs: readonly number[];
  readonly onQuestions: (questions: readonly DnsQuestion[]) => void;
  /** The socket cannot be read any more, and is to be closed with unlisten(). */
  readonly onFailed: (socket: number, error: BpfError) => void;
}

export interface DnsCounts {
  /** Answers in the table. */
  readonly answers: number;
  /** Over IPv4 and IPv6. */
  readonly answered4: number;
  readonly answered6: number;
  /** Questions that JavaScript was too slow for: the oldest are dropped. */
  readonly unread: number;
  /** Answers, of both, that the kernel did not take. */
  readonly unsent: number;
  /** Datagrams of more than 4096 bytes: they are dropped. */
  readonly tooLong: number;
  /** From when a question was read to when its answer was made; of a batch: all of it. */
  readonly sumNs: number;
  /** How many took at most each of the bounds; the last one longer. */
  readonly took: readonly number[];
}

/** As native/dns.cc has them. */
const TOLD = { question: 0, unknown: 1, failed: 2 } as const;
const PEER_BYTES = 32;
const ITEM_BYTES = 8 + PEER_BYTES;
const RECORDS_BYTES = 10;
const SCRATCH_BYTES = 64 * 1024;
const FIRST_TOOK = 7;

function read(bytes: Uint8Array, clients: readonly string[], options: DnsThreadOptions): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const questions: DnsQuestion[] = [];
  let at = 0;
  for (const client of clients) {
    const told = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    const socket = view.getUint32(at + 8, true);
    const start = at + ITEM_BYTES;
    if (told === TOLD.failed) {
      const error = new BpfError(client, 'udp read', 'the socket failed', { errno: length });
      options.onFailed(socket, error);
      at = start;
      continue;
    }
    at = start + length;
    const message = bytes.subarray(start, at);
    const peer = bytes.subarray(start - PEER_BYTES, start);
    questions.push({ message, client, socket, peer, isUnknown: told === TOLD.unknown });
  }
  if (questions.length > 0) options.onQuestions(questions);
}

function opened(options: DnsThreadOptions, self: { thread?: DnsThread }): NativeHandle {
  const bounds = Uint32Array.from(options.boundsUs);
  return native.dnsOpen(
    (bytes, clients) => {
      if (self.thread?.closed === false) read(bytes, clients, options);
    },
    options.udpSizeMax,
    new Uint8Array(bounds.buffer),
  );
}

export class DnsThread extends Resource {
  #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #lastCounts: { counts?: DnsCounts } = {};

  constructor(options: DnsThreadOptions) {
    const self: { thread?: DnsThread } = {};
    super(opened(options, self), 'DnsThread');
    self.thread = this; // keeps it from being collected while the native half holds the callback
  }

  /**
   * A socket at one address. Without `isDirect` everything that comes there is a question for
   * JavaScript. What bind(2) refuses is a BpfError with its errno.
   */
  listen(at: {
    readonly address: string;
    readonly port: number;
    readonly isDirect: boolean;
    readonly receiveBytes: number;
    readonly sendBytes: number;
  }): { readonly socket: number; readonly port: number } {
    const { address, port, isDirect, receiveBytes, sendBytes } = at;
    const dns = handleOf(this, 'dns listen');
    const [socket, bound] = native.dnsListen(dns, address, port, isDirect, receiveBytes, sendBytes);
    return { socket, port: bound };
  }

  /** The address is free when it returns. False: there is no such socket. */
  unlisten(socket: number): boolean {
    return native.dnsUnlisten(handleOf(this, 'dns unlisten'), socket);
  }

  /** What cannot be sent is counted. */
  send(answers: readonly { readonly peer: Uint8Array; readonly bytes: Uint8Array }[]): void {
    let size = 0;
    for (const { bytes } of answers) size += 4 + PEER_BYTES + bytes.length;
    if (size > this.#scratch.length) this.#scratch = new Uint8Array(size);
    const all = this.#scratch;
    let at = 0;
    for (const { peer, bytes } of answers) {
      const { length } = bytes;
      all[at] = length;
      all[at + 1] = length >> 8;
      all[at + 2] = length >> 16;
      all[at + 3] = 0;
      all.set(peer, at + 4);
      all.set(bytes, at + 4 + PEER_BYTES);
      at += 4 + PEER_BYTES + length;
    }
    native.dnsSend(handleOf(this, 'dns send'), all.subarray(0, at));
  }

  /** In the place of what was there of the name and type. False: it is answered by JavaScript. */
  set({ name, type, count, tail, shuffledBytes }: DnsRecords): boolean {
    const bytes = new Uint8Array(RECORDS_BYTES + name.length + tail.length);
    const view = new DataView(bytes.buffer);
    const head = [type, name.length, count, count > 1 ? shuffledBytes : 0, tail.length];
    for (const [i, number] of head.entries()) view.setUint16(2 * i, number, true);
    bytes.set(name, RECORDS_BYTES);
    bytes.set(tail, RECORDS_BYTES + name.length);
    return native.dnsSet(handleOf(this, 'dns set'), bytes) > 0;
  }

  /** All types of these names, as they are on the wire, in lower case, one behind the other. */
  forget(names: Uint8Array): void {
    native.dnsForget(handleOf(this, 'dns forget'), names);
  }

  clear(): void {
    native.dnsClear(handleOf(this, 'dns clear'));
  }

  /** Everything is asked of JavaScript for a while. */
  pause(isPaused: boolean): void {
    native.dnsPause(handleOf(this, 'dns pause'), isPaused);
  }

  /**
   * To whom recursion is available, none at first. 18 bytes each: family (4 or 6), bits of the
   * prefix in 128, and the first address, of which IPv4 is mapped.
   */
  allow(blocks: Uint8Array): void {
    native.dnsAllow(handleOf(this, 'dns allow'), blocks);
  }

  /** When it is closed: what they were at the end. */
  counts(): DnsCounts {
    const { counts } = this.#lastCounts;
    if (counts !== undefined) return counts;
    const all = native.dnsCounts(handleOf(this, 'dns counts'));
    const [answers = 0, answered4 = 0, answered6 = 0, ...others] = all.subarray(0, FIRST_TOOK);
    const [unread = 0, unsent = 0, tooLong = 0, sumNs = 0] = others;
    const took = [...all.subarray(FIRST_TOOK)];
    return { answers, answered4, answered6, unread, unsent, tooLong, sumNs, took };
  }

  /** Waits for the thread, and frees all addresses. */
  override close(): void {
    if (!this.closed) this.#lastCounts.counts = this.counts();
    super.close();
  }
}
