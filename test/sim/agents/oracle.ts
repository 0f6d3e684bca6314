/**
 * What must be there in the end: for each entry that was written by hosts which knew all that was
 * written to it before, exactly what was acknowledged last. It knows places in logs, no stamps.
 *
 * An entry that two wrote without knowing of each other, or that was under way when its writer was
 * killed and was then written again, may be anything afterwards: it is given up here (`wild`), and
 * only equality of all hosts is asked of it.
 */
import { documentOf, Replica, SHARED, type Write } from '../../../src/state/replica/replica.ts';
import type { Agent } from './agent.ts';
import { Violation, type Fleet, type Place } from './fleet.ts';

/** A cell: its writer, and its place in the writer's log. Undefined: nothing is there. */
type Cell = string | undefined;

interface Fate {
  readonly document: string;
  readonly key: string;
  /** Host of the last write. */
  by: number;
  cell: Cell;
  /** What was there before a write that is under way, or that was cut off: which is there is open. */
  doubt: { readonly cell: Cell; readonly value: string | undefined } | undefined;
  underWay: boolean;
}

export interface Counts {
  readonly acknowledged: number;
  readonly judged: number;
  readonly wild: number;
}

export class Oracle {
  readonly #fates = new Map<string, Fate>();
  readonly #wild = new Set<string>();
  readonly #underWay = new Map<number, Fate[]>();
  acknowledged = 0;

  /** Called as the writes are made; gives back what is to be called when they are acknowledged. */
  begin(place: Place, agent: Agent, writes: readonly Write[]): () => void {
    const begun: Fate[] = [];
    for (const write of writes) {
      const document = write.document === 'shared' ? SHARED : agent.replica.own;
      const fate = this.#begin(agent, document, write, place.index);
      if (fate !== undefined) begun.push(fate);
    }
    this.#underWay.set(place.index, begun);
    const { life } = place;
    return () => {
      if (place.life !== life) return;
      if (writes.length > 0) this.acknowledged += 1;
      this.#underWay.delete(place.index);
      for (const fate of begun) {
        fate.underWay = false;
        fate.doubt = undefined;
        fate.cell = cellOf(agent.replica, fate.document, fate.key);
      }
    };
  }

  #begin(
    { replica }: Agent,
    document: string,
    { key, value, always = false }: Write,
    by: number,
  ): Fate | undefined {
    const id = `${document} ${key}`;
    if (this.#wild.has(id)) return undefined;
    const [cell, before] = [cellOf(replica, document, key), replica.get(document, key)];
    if (value === before && !always) return undefined; // nothing is written, or nothing is removed
    const there = this.#fates.get(id);
    if (there === undefined) {
      const fate = { document, key, by, cell: undefined, doubt: { cell, value }, underWay: true };
      this.#fates.set(id, fate);
      return fate;
    }
    if (there.doubt !== undefined || there.cell !== cell) {
      this.#giveUp(id);
      return undefined;
    }
    Object.assign(there, { by, doubt: { cell, value }, underWay: true });
    return there;
  }

  #giveUp(id: string): void {
    this.#fates.delete(id);
    this.#wild.add(id);
  }

  killed(place: Place): void {
    for (const fate of this.#underWay.get(place.index) ?? []) fate.underWay = false;
    this.#underWay.delete(place.index);
  }

  /**
   * A host is gone for ever, and its disk. What no other disk has is lost with it, as it must be, and
   * its document is to be gone everywhere.
   */
  lost(fleet: Fleet, gone: Place): void {
    const disks = fleet.places
      .filter((place) => place !== gone && place.disk.isThere)
      .map(({ id, disk }) => Replica.open({ node: id, writer: disk.writer }, disk.durable()));
    for (const [id, fate] of this.#fates) {
      const { document, key, cell, by } = fate;
      if (document === documentOf(gone.id)) this.#fates.delete(id);
      else if (fate.doubt !== undefined) {
        if (by === gone.index) this.#giveUp(id);
      } else {
        const has = disks.filter((replica) => cellOf(replica, document, key) === cell).length;
        const isKept = cell === undefined ? by !== gone.index || has === disks.length : has > 0;
        if (!isKept) this.#giveUp(id);
      }
    }
  }

  counts(): Counts {
    let judged = 0;
    for (const { doubt } of this.#fates.values()) if (doubt === undefined) judged += 1;
    return { acknowledged: this.acknowledged, judged, wild: this.#wild.size };
  }

  check(replica: Replica, who: string): void {
    for (const { document, key, cell, doubt, by } of this.#fates.values()) {
      const is = cellOf(replica, document, key);
      if (doubt === undefined && is !== cell)
        throw new Violation(
          `${who}: ${document} ${key} is ${is ?? 'nothing'}, and host ${by} had it acknowledged as ${cell ?? 'removed'}`,
        );
      if (doubt === undefined) continue;
      const value = replica.get(document, key);
      if (is !== doubt.cell && value !== doubt.value)
        throw new Violation(
          `${who}: ${document} ${key} is ${value ?? 'nothing'}, which is neither`,
        );
    }
  }
}

function cellOf(replica: Replica, document: string, key: string): Cell {
  const entry = replica.entry(document, key);
  return entry === undefined ? undefined : `${entry.writer} ${entry.clock}`;
}
