// What is remembered of broadcasts after their ids were forgotten: per origin, the highest number. A replay of an old
// message falls below it. Bounded: the origin not heard of for longest goes first.
import type { BroadcastId, NodeId } from './types.ts';

export interface ParsedId {
  readonly origin: NodeId;
  readonly incarnation: number;
  readonly sequence: number;
}

const ORIGINS_MAX = 16_384; // a guess: more than the nodes of a cluster

/** Undefined when it is not an id: origin, incarnation and sequence, apart by one space, numbers in base 36. */
export function parseBroadcastId(id: BroadcastId): ParsedId | undefined {
  const second = id.lastIndexOf(' ');
  const first = id.lastIndexOf(' ', second - 1);
  if (first <= 0 || second <= first) return undefined;
  const incarnation = Number.parseInt(id.slice(first + 1, second), 36);
  const sequence = Number.parseInt(id.slice(second + 1), 36);
  if (!Number.isSafeInteger(incarnation) || !Number.isSafeInteger(sequence)) return undefined;
  return { origin: id.slice(0, first), incarnation, sequence };
}

export class Floors {
  readonly #floors = new Map<NodeId, { incarnation: number; sequence: number }>();

  isOld({ origin, incarnation, sequence }: ParsedId): boolean {
    const floor = this.#floors.get(origin);
    if (floor === undefined || incarnation > floor.incarnation) return false;
    return incarnation < floor.incarnation || sequence <= floor.sequence;
  }

  raise({ origin, incarnation, sequence }: ParsedId): void {
    const floor = this.#floors.get(origin);
    if (floor !== undefined) {
      if (incarnation < floor.incarnation) return;
      if (incarnation === floor.incarnation && sequence <= floor.sequence) return;
      this.#floors.delete(origin);
    }
    this.#floors.set(origin, { incarnation, sequence });
    if (this.#floors.size <= ORIGINS_MAX) return;
    const oldest = this.#floors.keys().next().value;
    if (oldest !== undefined) this.#floors.delete(oldest);
  }
}
