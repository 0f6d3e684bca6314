/**
 * Whether the others turn this host away: they let it finish the handshake, look at its certificate
 * and hang up without a word, as they do with one that is revoked or has ended. Who is just going
 * down does so too: it counts when it happens time and again with no connection in between. This
 * host then asks less and less often.
 *
 * `nowMs` never goes back; `wallMs` is for people.
 */

/** So many times at the usual pace. A guess. */
const FREE = 5;
const FIRST_MS = 2000; // a guess
const MAX_MS = 300_000; // a guess

export const TURNED_AWAY =
  'other members hang up on this host, as they do when it is revoked or its certificate is not good: ' +
  'see `zerohop members` on one of them; to come back, leave the cluster and join with a new token';

export class TurnedAway {
  #times = 0;
  #untilMs = -Infinity;
  #beganMs = 0;

  /** Wall clock; undefined as long as it may be chance. */
  get sinceMs(): number | undefined {
    return this.#times < FREE ? undefined : this.#beganMs;
  }

  /** Whether nobody is to be asked now. */
  isWaiting(nowMs: number): boolean {
    return nowMs < this.#untilMs;
  }

  /** `unit` is a random number from 0 up to 1. Whether this is when it is more than chance. */
  again(nowMs: number, wallMs: number, unit: number): boolean {
    // Of dials that were under way at once the first one counts.
    if (this.isWaiting(nowMs)) return false;
    if (this.#times === 0) this.#beganMs = wallMs;
    this.#times += 1;
    if (this.#times < FREE) return false;
    const full = Math.min(MAX_MS, FIRST_MS * 2 ** Math.min(20, this.#times - FREE));
    this.#untilMs = nowMs + (full / 2) * (1 + unit);
    return this.#times === FREE;
  }

  /** Somebody took it in. */
  over(): void {
    this.#times = 0;
    this.#untilMs = -Infinity;
  }
}
