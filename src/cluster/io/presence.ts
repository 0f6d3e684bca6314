/**
 * Keeps liveness up to date with the overlay and the time, and tells when somebody else is
 * unreachable than before: once for all that one step of the overlay brought.
 */
import type { Node } from '../../hyparview-ts/index.ts';
import type { Liveness } from '../liveness.ts';
import type { Roll } from '../roll.ts';
import type { Clock } from './clock.ts';
import type { BrakedLog } from './log.ts';

/** How often the overlay is asked about nodes that are waited for. A guess. */
const AWAITED_LOOK_MS = 500;
/** How long one that it calls dead is waited for all the same. A guess. */
const AWAITED_DEAD_MS = 3000;

const WORDS = {
  alive: 'a member is there',
  dead: 'a member cannot be reached any more',
  left: 'a member said goodbye',
} as const;

export interface PresenceOptions {
  readonly liveness: Liveness;
  readonly roll: Roll;
  readonly clock: Clock;
  readonly log: BrakedLog;
  readonly node: () => Node;
  /** Never in the middle of a step of the overlay. */
  readonly changed: () => void;
}

export class Presence {
  readonly #options: PresenceOptions;
  #aloneSinceMs: number | undefined;
  #isNews = false;
  #isStopped = false;
  #cancelTimer: (() => void) | undefined;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.#aloneSinceMs = options.clock.wallMs();
  }

  /** Of the wall clock; undefined while there is a neighbour. */
  get aloneSinceMs(): number | undefined {
    return this.#aloneSinceMs;
  }

  linkUp(): void {
    this.#aloneSinceMs = undefined;
    this.#options.liveness.linked(this.#options.clock.now());
    this.watch();
  }

  linkDown(): void {
    const { node, clock } = this.#options;
    if (node().views.active.size === 0) this.#aloneSinceMs = clock.wallMs();
  }

  /** What the overlay says of a node. */
  heard(id: string, standing: keyof typeof WORDS, words: string = WORDS[standing]): void {
    const { liveness, roll, clock, log } = this.#options;
    if (roll.isGone(id)) return;
    if (liveness.heard(id, standing, clock.wallMs())) this.tell();
    const name = roll.record(id)?.name;
    log.write('info', standing, { member: id, ...(name !== undefined && { name }) }, words);
  }

  /** Somebody else is unreachable than before. */
  tell(): void {
    if (this.#isNews) return;
    this.#isNews = true;
    queueMicrotask(() => {
      this.#isNews = false;
      if (!this.#isStopped) this.#options.changed();
    });
  }

  /** To be called when nodes became known. */
  watch(): void {
    const { liveness, clock } = this.#options;
    if (this.#cancelTimer !== undefined || this.#isStopped) return;
    const inMs = liveness.nextAtMs - clock.now();
    if (inMs === Infinity) return;
    this.#cancelTimer = clock.after(Math.min(inMs, AWAITED_LOOK_MS), () => {
      this.#cancelTimer = undefined;
      this.#askOfAwaited();
      if (liveness.expire(clock.now())) this.tell();
      this.watch();
    });
  }

  /** Nobody is told of anything afterwards, and no timer is left. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
  }

  /** Who was gone before this node came is never told of as an event. */
  #askOfAwaited(): void {
    const { liveness, clock, node } = this.#options;
    for (const { id, forMs } of liveness.awaited(clock.now())) {
      const standing = node().members.standing(id);
      // Who is just joining may look dead for a moment: known, and not yet linked to anybody.
      if (standing === 'left' || (standing === 'dead' && forMs >= AWAITED_DEAD_MS))
        this.heard(id, standing, 'a member was gone before this one came');
    }
  }
}
