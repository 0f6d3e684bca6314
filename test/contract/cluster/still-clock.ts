/** A clock that a test holds in its hand. */
import type { Clock } from '../../../src/cluster/io/clock.ts';

/** Time stands still until it is told to go on. */
export class StillClock implements Clock {
  nowMs = 0;
  readonly timers = new Map<object, { readonly atMs: number; readonly run: () => void }>();

  now(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return 1_000_000 + this.nowMs;
  }

  after(ms: number, run: () => void): () => void {
    const key = {};
    this.timers.set(key, { atMs: this.nowMs + ms, run });
    return () => this.timers.delete(key);
  }

  go(ms: number): void {
    this.nowMs += ms;
    for (const [key, { atMs, run }] of this.timers) {
      if (atMs > this.nowMs) continue;
      this.timers.delete(key);
      run();
    }
  }
}
