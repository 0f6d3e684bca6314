// A host's way out, when it is narrow: one message at a time, urgent before normal before bulk. What is being sent is
// not interrupted.

const RANKS = ['urgent', 'normal', 'bulk'] as const;

export class Uplink<T> {
  readonly #queues: { readonly item: T; readonly bytes: number }[][] = [[], [], []];
  #isBusy = false;
  readonly #bytesPerMs: number;
  readonly #after: (ms: number, call: () => void) => void;
  readonly #out: (item: T) => void;

  constructor(
    bytesPerMs: number,
    after: (ms: number, call: () => void) => void,
    out: (item: T) => void,
  ) {
    this.#bytesPerMs = bytesPerMs;
    this.#after = after;
    this.#out = out;
  }

  push(item: T, bytes: number, priority: string): void {
    const rank = RANKS.findIndex((name) => name === priority);
    this.#queues[Math.max(0, rank)]?.push({ item, bytes });
    if (!this.#isBusy) this.#next();
  }

  #next(): void {
    const first = this.#queues.find((queue) => queue.length > 0)?.shift();
    this.#isBusy = first !== undefined;
    if (first === undefined) return;
    this.#after(first.bytes / this.#bytesPerMs, () => {
      this.#out(first.item);
      this.#next();
    });
  }
}
