// Collects the outputs of one `handle` call and remembers which timers the host holds, so that a timer is asked for
// only when that changes something. Never acts.
import type { DownReason, Event, Message, Output, Peer, Priority, TimerKey } from './types.ts';

export class Effects {
  #outputs: Output[] = [];
  readonly #timers = new Map<TimerKey, number>();

  send(to: Peer, message: Message, priority: Priority = 'normal'): void {
    this.#outputs.push({ type: 'send', to, message, priority });
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
