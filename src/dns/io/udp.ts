/**
 * DNS over UDP. A thread of the addon has the sockets, one for each address, so that every answer
 * leaves from the one that was asked. It answers what it was taught, and hands the rest to the
 * listeners here, in batches: everything else in the process has its turn between two.
 *
 * It is taught by questions: what is asked, and what the zone has ready, is answered by the thread
 * from then on, until the name changes. So it costs nothing at the start, and holds what is used.
 */
import { DnsThread, type DnsCounts, type DnsQuestion } from '../../../addon/index.ts';
import type { HostPort } from '../../cluster/address.ts';
import { DURATION_BOUNDS_S } from '../counters.ts';
import { nameFromWire, nameToWire } from '../names.ts';
import type { PlainAnswer } from '../zone.ts';
import type { Drop, Listener, ListenerHooks, ServerLimits } from './listener.ts';

export interface UdpOptions {
  /** Bytes of an answer to a client with EDNS. */
  readonly udpSizeMax: number;
  /** What a name of ours is answered with, as the zone is now. */
  readonly lookup: (name: string, type: number) => PlainAnswer | undefined;
}

interface Place {
  readonly host: string;
  readonly hooks: ListenerHooks;
}

interface Answer {
  readonly peer: Uint8Array;
  readonly bytes: Uint8Array;
}

/** From here on all is forgotten, and taught again by who asks. A guess. */
const FORGOTTEN_MAX = 1000;

const HEADER_BYTES = 12;

/** Whether an answer has records, and from the zone: others are not authoritative. */
function isOurs(answer: Uint8Array): boolean {
  const [, , flags = 0, code = 0, , , , answers = 0] = answer;
  return (flags & 0x04) !== 0 && (code & 15) === 0 && answers > 0;
}

/** Of a plain question. */
function typeOf(message: Uint8Array): number {
  let at = HEADER_BYTES;
  while (at < message.length && message[at] !== 0) at += (message[at] ?? 0) + 1;
  return ((message[at + 1] ?? 0) << 8) | (message[at + 2] ?? 0);
}

export class UdpServer {
  readonly #options: UdpOptions;
  readonly #places = new Map<number, Place>();
  #thread: DnsThread | undefined;
  #blocks = new Uint8Array();
  /** Answers that go out together. */
  #answers: Answer[] = [];
  #isSending = false;
  /** Answers to nobody: the listener was gone. */
  #late = 0;

  constructor(options: UdpOptions) {
    this.#options = options;
  }

  /**
   * Throws what bind(2) says. `isDirect`: whether questions may be answered by the thread; it takes
   * each client for who it is.
   */
  listen(
    { host, port }: HostPort,
    isDirect: boolean,
    { receiveBufferBytes: receiveBytes, sendBufferBytes: sendBytes }: ServerLimits,
    hooks: ListenerHooks,
  ): Listener {
    const thread = (this.#thread ??= this.#start());
    const at = thread.listen({ address: host, port, isDirect, receiveBytes, sendBytes });
    this.#places.set(at.socket, { host, hooks });
    return {
      port: at.port,
      close: () => {
        if (this.#places.delete(at.socket)) thread.unlisten(at.socket);
        return Promise.resolve();
      },
    };
  }

  /** Something changes: all is asked here until changed() was told what. */
  pause(): void {
    this.#live?.pause(true);
  }

  /** The zone is what it shall be, and these names are not what they were. */
  changed(names: ReadonlySet<string> | 'all'): void {
    this.forget(names);
    this.#live?.pause(false);
  }

  forget(names: ReadonlySet<string> | 'all'): void {
    const thread = this.#live;
    if (thread === undefined) return;
    if (names === 'all' || names.size > FORGOTTEN_MAX) thread.clear();
    else thread.forget(Buffer.concat([...names].flatMap((name) => nameToWire(name) ?? [])));
  }

  /** To whom recursion is available, as Allowed has them. */
  allow(blocks: Uint8Array<ArrayBuffer>): void {
    this.#blocks = blocks;
    this.#live?.allow(blocks);
  }

  /** Of the thread's own answers; undefined before it listened anywhere. */
  counts(): DnsCounts | undefined {
    return this.#thread?.counts();
  }

  get dropped(): ReadonlyMap<Drop, number> {
    const { unread = 0, unsent = 0, tooLong = 0 } = this.counts() ?? {};
    const all: [Drop, number][] = [
      ['backlog', unread],
      ['too_long', tooLong],
      ['send', unsent + this.#late],
    ];
    return new Map(all.filter(([, count]) => count > 0));
  }

  /** When all listeners are closed. */
  close(): void {
    this.#thread?.close();
  }

  /** The agent goes on for a while when it is closed: nobody is told then. */
  get #live(): DnsThread | undefined {
    return this.#thread?.closed === false ? this.#thread : undefined;
  }

  #start(): DnsThread {
    const thread = new DnsThread({
      udpSizeMax: this.#options.udpSizeMax,
      boundsUs: DURATION_BOUNDS_S.map((seconds) => Math.round(seconds * 1e6)),
      onQuestions: (questions) => {
        for (const question of questions) this.#ask(thread, question);
        this.#send();
      },
      onFailed: (socket, error) => {
        const place = this.#places.get(socket);
        this.#places.delete(socket);
        thread.unlisten(socket);
        place?.hooks.failed(error);
      },
    });
    thread.allow(this.#blocks);
    return thread;
  }

  #ask(thread: DnsThread, { message, client, socket, peer, isUnknown }: DnsQuestion): void {
    const place = this.#places.get(socket);
    if (place === undefined) return;
    // Copies, of what may be kept until somebody else answers: `message` and `peer` are parts of
    // a buffer that all questions of a turn share, and that would be kept with them.
    const own = message.slice();
    const answer = place.hooks.answer(own, { transport: 'udp', server: place.host, client });
    if (answer instanceof Promise) {
      void this.#answerLater(answer, peer.slice(), socket);
    } else if (answer !== undefined) {
      this.#answers.push({ peer, bytes: answer });
      if (isUnknown && isOurs(answer)) this.#teach(thread, message);
    }
  }

  #teach(thread: DnsThread, message: Uint8Array): void {
    const entry = this.#options.lookup(nameFromWire(message, HEADER_BYTES), typeOf(message));
    const name = entry === undefined ? undefined : nameToWire(entry.name);
    if (entry === undefined || name === undefined) return;
    const { type, count, tail, rotate: shuffledBytes } = entry; // the thread shuffles what the kernel rotates
    thread.set({ name, type, count, tail, shuffledBytes });
  }

  /** With what else is answered in that turn. */
  async #answerLater(
    answer: Promise<Uint8Array | undefined>,
    peer: Uint8Array,
    socket: number,
  ): Promise<void> {
    const bytes = await answer;
    if (bytes === undefined) return;
    if (!this.#places.has(socket)) {
      this.#late += 1;
      return;
    }
    this.#answers.push({ peer, bytes });
    if (this.#isSending) return;
    this.#isSending = true;
    queueMicrotask(() => {
      this.#isSending = false;
      this.#send();
    });
  }

  #send(): void {
    const answers = this.#answers;
    if (answers.length === 0) return;
    this.#answers = [];
    const thread = this.#live;
    if (thread === undefined) this.#late += answers.length;
    else thread.send(answers);
  }
}
