/**
 * The disk of one simulated host, as src/state/io/store.ts has it: steps, in order, each whole or not
 * there at all. Own writes wait until they are durable. What others have too is written without
 * waiting: a kill -9 leaves it, a power cut takes the last of it, never one step before another.
 */
import { below } from '../../../src/hyparview-ts/random.ts';
import type { Peer, Random } from '../../../src/hyparview-ts/index.ts';
import type { Remembered } from '../../../src/cluster/liveness.ts';
import type { Saved, Update } from '../../../src/state/replica/replica.ts';

/** As src/cluster/io/memory.ts keeps it beside the state: written anew as a whole. */
export interface OverlayMemory {
  /** Higher each start. */
  readonly incarnation: number;
  readonly known: readonly Peer[];
  readonly absent: readonly Remembered[];
}

export interface Step {
  readonly updates: readonly Update[];
  readonly clock: string;
  /** Documents of which nothing that was stored before stays. */
  readonly clear: readonly string[];
}

/** Steps that wait for the disk, before the operating system writes them by itself. A guess. */
const LAZY_MAX = 256;

export class Disk {
  /** Of the data directory: drawn once. */
  readonly writer: number;
  overlay: OverlayMemory = { incarnation: 0, known: [], absent: [] };
  /** Its host is not gone for ever. */
  isThere = true;
  #durable: Saved;
  #lazy: Step[] = [];
  #pending: Step | undefined;

  constructor(writer: number, saved: Saved = { clock: '', updates: [] }) {
    this.writer = writer;
    this.#durable = saved;
  }

  saved(): Saved {
    return this.#lazy.reduce(after, this.#durable);
  }

  /** What a power cut leaves at least. */
  durable(): Saved {
    return this.#durable;
  }

  get isWriting(): boolean {
    return this.#pending !== undefined;
  }

  /** A start: what was left by the last life is made durable before anybody is told of it. */
  open(): Saved {
    this.#sync();
    return this.#durable;
  }

  /** Without waiting. */
  write(step: Step): void {
    this.#lazy.push(step);
    if (this.#lazy.length > LAZY_MAX) this.#sync();
  }

  begin(step: Step): void {
    if (this.#pending !== undefined) throw new Error('bug: one write at a time');
    this.#pending = step;
  }

  /** It is durable, and so is all before it. */
  end(): void {
    if (this.#pending === undefined) throw new Error('bug: nothing is being written');
    this.#lazy.push(this.#pending);
    this.#pending = undefined;
    this.#sync();
  }

  #sync(): void {
    this.#durable = this.saved();
    this.#lazy = [];
  }

  /** The process is killed: what was being written is there, or not. */
  kill(random: Random): void {
    if (this.#pending !== undefined && below(random, 2) === 0) this.#lazy.push(this.#pending);
    this.#pending = undefined;
  }

  /** The power is cut: of what is not durable the last is lost. */
  cut(random: Random): void {
    this.kill(random);
    this.#lazy.length = below(random, this.#lazy.length + 1);
    this.#sync();
  }
}

function after(saved: Saved, { updates, clock, clear }: Step): Saved {
  const kept =
    clear.length === 0
      ? saved.updates
      : saved.updates.filter(({ document }) => !clear.includes(document));
  return { clock, updates: [...kept, ...updates] };
}
