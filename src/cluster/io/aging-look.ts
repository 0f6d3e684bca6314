/** When it is looked what is long ago (../aging.ts), and that it does no harm. */
import type { Write } from '../../state/replica/replica.ts';
import { agedOut, type Aging } from '../aging.ts';
import { Turn } from '../turn.ts';
import type { Clock } from './clock.ts';
import type { BrakedLog } from './log.ts';

const EVERY_MS = 3_600_000; // a guess
/** From a day after the start on, or after a jump of the wall clock: it is right by then. A guess. */
const FROM_MS = 86_400_000;
const JUMP_MS = 3_600_000; // a guess
const AT_ONCE = 1000; // a guess: the rest an hour later
/** So many hours later each member does what the one before it did not. A guess. */
const LOOKS_A_RANK = 2;

export class AgingLook {
  readonly #aging: Aging;
  readonly #clock: Clock;
  readonly #log: BrakedLog;
  readonly #write: (writes: readonly Write[]) => void;
  readonly #turn = new Turn(LOOKS_A_RANK);
  #atMs: number;
  /** Wall clock less the other one. */
  #apartMs: number;

  constructor(
    aging: Aging,
    clock: Clock,
    log: BrakedLog,
    write: (writes: readonly Write[]) => void,
  ) {
    this.#aging = aging;
    this.#clock = clock;
    this.#log = log;
    this.#write = write;
    this.#atMs = clock.now() + FROM_MS;
    this.#apartMs = clock.wallMs() - clock.now();
  }

  /**
   * For one member to do, which has a neighbour, so its clock is not a month ahead: it would take the
   * neighbour's certificate for one that has ended.
   */
  look(rank: () => number): void {
    const nowMs = this.#clock.now();
    const wallMs = this.#clock.wallMs();
    const wasApartMs = this.#apartMs;
    this.#apartMs = wallMs - nowMs;
    if (Math.abs(this.#apartMs - wasApartMs) > JUMP_MS) this.#atMs = nowMs + FROM_MS;
    if (nowMs < this.#atMs) return;
    this.#atMs = nowMs + EVERY_MS;
    try {
      const writes = agedOut(this.#aging, nowMs, wallMs);
      if (this.#turn.isMine(writes.length > 0, rank())) this.#write(writes.slice(0, AT_ONCE));
    } catch (error) {
      this.#log.write('warn', 'aging', { error }, 'hosts that are long gone cannot be written off');
    }
  }
}
