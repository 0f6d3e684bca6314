/**
 * The obvious replica of one document: every write as a value, every set as a set; no logs of cells
 * that go, no epochs, no yjs. What the merge rules of src/state/replica/README.md say, and nothing
 * else. Stamps are those that the real replica gave: the clock has tests of its own.
 */

import type { Write } from '../../../src/state/replica/replica.ts';

export interface ModelCell {
  readonly writer: number;
  /** Counts the writer's writes: the third is known only with the first and the second. */
  readonly nth: number;
  readonly key: string;
  readonly value: string;
  readonly stamp: readonly [ms: number, counter: number, writer: number];
}

/** Cells by id, and ids of removed ones. */
export interface Knowledge {
  readonly cells: ReadonlyMap<string, ModelCell>;
  readonly removed: ReadonlySet<string>;
}

function isNewer(a: ModelCell['stamp'], b: ModelCell['stamp']): boolean {
  for (const [i, part] of a.entries()) if (part !== b[i]) return part > (b[i] ?? 0);
  return false;
}

export class Model implements Knowledge {
  readonly cells = new Map<string, ModelCell>();
  readonly removed = new Set<string>();
  readonly #known = new Map<number, number>();
  #waiting = new Map<string, ModelCell>();
  #waitingRemovals = new Set<string>();

  of(key: string): ModelCell[] {
    return [...this.cells].flatMap(([id, cell]) =>
      cell.key === key && !this.removed.has(id) ? [cell] : [],
    );
  }

  get(key: string): string | undefined {
    return this.of(key).reduce<ModelCell | undefined>(
      (best, cell) => (best === undefined || isNewer(cell.stamp, best.stamp) ? cell : best),
      undefined,
    )?.value;
  }

  values(): Record<string, string> {
    const keys = [...new Set([...this.cells.values()].map(({ key }) => key))].toSorted();
    return Object.fromEntries(
      keys.flatMap((key) => {
        const value = this.get(key);
        return value === undefined ? [] : [[key, value]];
      }),
    );
  }

  /** What this write adds to what is known. */
  write(
    writer: number,
    writes: ReadonlyMap<string, Pick<Write, 'value' | 'always'>>,
    stampOf: (key: string) => ModelCell['stamp'],
  ): Knowledge {
    const cells = new Map<string, ModelCell>();
    const removed = new Set<string>();
    let nth = this.#known.get(writer) ?? 0;
    for (const [key, { value, always = false }] of writes) {
      const there = this.of(key);
      const isNews = there.length > 1 || there[0]?.value !== value;
      if (!isNews && !(always && value !== undefined)) continue;
      for (const cell of there) removed.add(`${cell.writer} ${cell.nth}`);
      if (value === undefined) continue;
      cells.set(`${writer} ${nth}`, { writer, nth, key, value, stamp: stampOf(key) });
      nth += 1;
    }
    this.learn({ cells, removed });
    return { cells, removed };
  }

  learn({ cells, removed }: Knowledge): void {
    for (const [id, cell] of cells) if (!this.cells.has(id)) this.#waiting.set(id, cell);
    for (const id of removed) this.#waitingRemovals.add(id);
    for (let learned = true; learned;) {
      learned = false;
      for (const [id, cell] of this.#waiting) {
        if (cell.nth !== (this.#known.get(cell.writer) ?? 0)) continue;
        this.cells.set(id, cell);
        this.#known.set(cell.writer, cell.nth + 1);
        this.#waiting.delete(id);
        learned = true;
      }
    }
    for (const id of this.#waitingRemovals) {
      if (!this.cells.has(id)) continue;
      this.removed.add(id);
      this.#waitingRemovals.delete(id);
    }
  }

  /** A restart, and a new epoch: what waits for earlier writes is not kept. */
  forgetWaiting(): void {
    this.#waiting = new Map();
    this.#waitingRemovals = new Set();
  }

  copy(): Knowledge {
    return { cells: new Map(this.cells), removed: new Set(this.removed) };
  }
}
