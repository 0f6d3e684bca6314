/** What the transport holds for one peer: the link in use, the dial under way, what waits for it. */
import type { Peer } from '../../hyparview-ts/index.ts';
import type { Channel } from '../channels.ts';
import type { Dial } from './dial.ts';
import type { Link } from './link.ts';

interface Waiting {
  readonly channel: Channel;
  readonly message: Uint8Array;
}

export class Slot {
  readonly id: string;
  peer: Peer;
  kept = false;
  /** What was told of it last. */
  isUp = false;
  /** The link that messages go out on. */
  current: Link | undefined;
  dial: Dial | undefined;
  /** The dial's link, from the handshake to the welcome. */
  dialled: Link | undefined;
  /** The link that the dial is to take the place of. */
  replaces: Link | undefined;
  /** The last connection that was open with this peer (rivals.ts). */
  after = '';
  /** Dials that failed, or links that did not last, one after the other. */
  failures = 0;
  stopWatch: (() => void) | undefined;
  stopRefresh: (() => void) | undefined;
  #stopRetry: (() => void) | undefined;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;

  constructor(peer: Peer) {
    this.id = peer.id;
    this.peer = peer;
  }

  get isRetrying(): boolean {
    return this.#stopRetry !== undefined;
  }

  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  get isOfNoUse(): boolean {
    const { kept, current, dial, isRetrying, hasWaiting } = this;
    return !kept && current === undefined && dial === undefined && !isRetrying && !hasWaiting;
  }

  established(link: Link): void {
    this.current = link;
    this.after = link.connectionId;
    if (link.peer !== undefined) this.peer = link.peer;
    this.cancelRetry();
  }

  lost(): void {
    this.current = undefined;
    this.stopWatch?.();
    this.stopWatch = undefined;
    this.stopRefresh?.();
    this.stopRefresh = undefined;
  }

  wait(channel: Channel, message: Uint8Array, messagesMax: number, bytesMax: number): boolean {
    const isFull = this.#waiting.length >= messagesMax;
    if (isFull || this.#waitingBytes + message.length > bytesMax) return false;
    this.#waiting.push({ channel, message });
    this.#waitingBytes += message.length;
    return true;
  }

  takeWaiting(): readonly Waiting[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    return waiting;
  }

  retry(stop: () => void): void {
    this.cancelRetry();
    this.#stopRetry = stop;
  }

  retried(): void {
    this.#stopRetry = undefined;
  }

  cancelRetry(): void {
    this.#stopRetry?.();
    this.#stopRetry = undefined;
  }

  /** Nothing happens by itself any more. */
  cancel(): void {
    this.kept = false;
    this.cancelRetry();
    this.stopWatch?.();
    this.stopRefresh?.();
    this.stopWatch = undefined;
    this.stopRefresh = undefined;
    this.dial?.cancel();
    this.dial = undefined;
    this.takeWaiting();
  }
}
