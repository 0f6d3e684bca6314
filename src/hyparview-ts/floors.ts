// What is remembered of broadcasts after their ids were forgotten: per life of an origin, the highest number. A replay
// of an old message falls below it. Lives have no order here: a clock may be set back, a disk lost, and a node's new
// life must be heard all the same. Bounded: the life not heard of for longest goes first.
import type { BroadcastId, NodeId } from './types.ts';

export interface ParsedId {
  readonly origin: NodeId;
  /** The id without its number: origin and life. */
  readonly life: string;
  readonly sequence: number;
}

const LIVES_MAX = 16_384; // a guess: more than the nodes of a cluster

/** Undefined when it is not an id: origin, life and sequence, apart by one space, the sequence in base 36. */
export function parseBroadcastId(id: BroadcastId): ParsedId | undefined {
  const second = id.lastIndexOf(' ');
  const first = id.lastIndexOf(' ', second - 1);
  if (first <= 0 || second <= first + 1) return undefined;
  const sequence = Number.parseInt(id.slice(second + 1), 36);
  if (!Number.isSafeInteger(sequence)) return undefined;
  return { origin: id.slice(0, first), life: id.slice(0, second), sequence };
}

/**
 * Names one life of a node in its broadcast ids. The incarnation alone does not: without its disk, and with its clock
 * set back, a node begins where it was before, and nobody tells it in time. The random part parts such lives; the
 * incarnation parts those of a host with poor randomness.
 */
export function lifeName(incarnation: number, random: number): string {
  return `${incarnation.toString(36)}-${random.toString(36)}`;
}

export class Floors {
  readonly #floors = new Map<string, number>();

  isOld({ life, sequence }: ParsedId): boolean {
    return sequence <= (this.#floors.get(life) ?? -Infinity);
  }

  raise({ life, sequence }: ParsedId): void {
    const floor = this.#floors.get(life);
    if (floor !== undefined) {
      if (sequence <= floor) return;
      this.#floors.delete(life);
    }
    this.#floors.set(life, sequence);
    if (this.#floors.size <= LIVES_MAX) return;
    const oldest = this.#floors.keys().next().value;
    if (oldest !== undefined) this.#floors.delete(oldest);
  }
}
