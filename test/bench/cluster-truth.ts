/**
 * Who could really reach whom, and when: what failed connects are judged by.
 * Pure; times are nanoseconds of CLOCK_MONOTONIC.
 */
import type { Failure } from '../harness/dialling.ts';
import type { Place } from '../harness/wires.ts';

interface Interval {
  readonly fromNs: bigint;
  toNs: bigint | undefined;
}

export type Verdict =
  /** The backend was really gone: for so long when the attempt began. */
  | { readonly kind: 'gone'; readonly afterMs: number; readonly sinceNs: bigint }
  /** The same, where the agent of the host that connects was not there for a part of it. */
  | { readonly kind: 'agent-away'; readonly afterMs: number; readonly sinceNs: bigint }
  /** The backend was reachable, or is not known. */
  | { readonly kind: 'strange' };

export class Truth {
  readonly #apart = new Map<string, Interval[]>();
  readonly #away = new Map<Place, Interval[]>();

  /** From `beforeNs` to `afterNs` the network was changed: these pairs are apart since, all others not. */
  network(
    hosts: number,
    isApart: (a: Place, b: Place) => boolean,
    [beforeNs, afterNs]: Span,
  ): void {
    for (let from = 0; from < hosts; from++)
      for (let to = 0; to < hosts; to++)
        mark(this.#apart, `${from} ${to}`, isApart(from, to), [beforeNs, afterNs]);
  }

  agent(at: Place, isAway: boolean, span: Span): void {
    mark(this.#away, at, isAway, span);
  }

  judge(at: Place, to: Place | undefined, { fromNs, toNs }: Failure): Verdict {
    const apart = (this.#apart.get(`${at} ${to}`) ?? []).findLast((one) =>
      overlaps(one, fromNs, toNs),
    );
    if (apart === undefined) return { kind: 'strange' };
    const afterMs = Math.max(0, Number(fromNs - apart.fromNs) / 1e6);
    const away = (this.#away.get(at) ?? []).some((one) => overlaps(one, apart.fromNs, toNs));
    return { kind: away ? 'agent-away' : 'gone', afterMs, sinceNs: apart.fromNs };
  }

  /** How many times some host could not reach some other. */
  get separations(): number {
    return [...this.#apart.values()].reduce((sum, list) => sum + list.length, 0);
  }
}

/** Of an action: before it began, after it was done. */
export type Span = readonly [beforeNs: bigint, afterNs: bigint];

/** An interval begins before the action that begins it, and ends after the one that ends it. */
function mark<K>(all: Map<K, Interval[]>, key: K, isSo: boolean, [before, after]: Span): void {
  const list = all.get(key) ?? [];
  const last = list.at(-1);
  const isOpen = last !== undefined && last.toNs === undefined;
  if (isSo && !isOpen) list.push({ fromNs: before, toNs: undefined });
  if (!isSo && isOpen) last.toNs = after;
  all.set(key, list);
}

const overlaps = ({ fromNs, toNs }: Interval, from: bigint, to: bigint): boolean =>
  fromNs <= to && (toNs === undefined || toNs >= from);
