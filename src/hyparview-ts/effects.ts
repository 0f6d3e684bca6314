// Collects the outputs of one `handle` call and remembers which timers the host holds, so that a timer is asked for
// only when that changes something. No message to a peer without a connection gets past the rate in dials.ts. Never acts.
import type { Dials, Need } from './dials.ts';
import type { DownReason, Event, Message, Output, Peer, Priority, TimerKey } from './types.ts';
import type { View } from './view.ts';

export class Effects {
  #outputs: Output[] = [];
  readonly #timers = new Map<TimerKey, number>();
  #now = 0;
  #sender: Peer | undefined;

  /** The neighbours: the host keeps connections to them. */
  readonly active: View;
  readonly #dials: Dials;

  constructor(active: View, dials: Dials) {
    this.active = active;
    this.#dials = dials;
  }

  /** An input is handled from here on: a message of this peer, or none. */
  begin(now: number, sender: Peer | undefined): void {
    this.#now = now;
    this.#sender = sender;
  }

  /** False: not sent, as a connection would have to be made for it, and there were too many. */
  send(to: Peer, message: Message, priority: Priority = 'normal', need: Need = 'told'): boolean {
    // who has a connection is spoken to there, whatever address others tell
    const connected = this.#sender?.id === to.id ? this.#sender : this.active.get(to.id);
    if (connected === undefined && !this.#dials.allows(to, need, this.#now)) return false;
    this.#outputs.push({ type: 'send', to: connected ?? to, message, priority });
    return true;
  }

  dial(peer: Peer): void {
    this.#outputs.push({ type: 'dial', peer });
  }

  drop(peer: Peer): void {
    this.#outputs.push({ type: 'drop', peer });
  }

  event(event: Event): void {
    this.#outputs.push({ type: 'event', event });
  }

  linkDown(peer: Peer, reason: DownReason): void {
    this.event({ type: 'link-down', peer, reason });
  }

  /** The timer fires at `atMs` or, when one with this key is already due sooner, then. */
  wakeBy(key: TimerKey, atMs: number): void {
    const held = this.#timers.get(key);
    if (held !== undefined && held <= atMs) return;
    this.#timers.set(key, atMs);
    this.#outputs.push({ type: 'schedule', key, atMs });
  }

  /** Whether this firing is the one asked for; a stale one is not, and after an early one the timer is asked for again. */
  fired(key: TimerKey, now: number): boolean {
    const at = this.#timers.get(key);
    if (at === undefined) return false;
    if (now < at) {
      this.#outputs.push({ type: 'schedule', key, atMs: at });
      return false;
    }
    this.#timers.delete(key);
    return true;
  }

  cancelAll(): void {
    for (const key of this.#timers.keys()) this.#outputs.push({ type: 'cancel', key });
    this.#timers.clear();
  }

  get timers(): ReadonlyMap<TimerKey, number> {
    return this.#timers;
  }

  take(): Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }
}
