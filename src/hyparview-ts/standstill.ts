// A clock that leaves out the time in which this node itself stood still: paused, swapped out, without a processor. Its
// own wake-up tells, which is handled later than it was due. Who stands still hears nobody, and that is not their silence.
// Cassandra judges nobody after a pause of its own (CASSANDRA-9183), Orleans counts its late timers against its health;
// here the time is not counted. Never looks at a clock: it is told when inputs are handled.

const LATE_MS = 50; // a guess: half of pingTimeoutMinMs; less is the operating system's doing

export class Standstill {
  #lostMs = 0;
  #lastAt = -Infinity;

  /** An input is handled now; a wake-up was asked for at `dueAt`. */
  handled(now: number, dueAt: number): void {
    const lateMs = now - dueAt;
    // what waited meanwhile is handled at one time, of which only the first input counts
    if (lateMs > LATE_MS) this.#lostMs += Math.min(lateMs, now - this.#lastAt);
    this.#lastAt = now;
  }

  own(now: number): number {
    return now - this.#lostMs;
  }

  /** When its own clock will show this, if it does not stand still until then. */
  real(own: number): number {
    return own + this.#lostMs;
  }
}
