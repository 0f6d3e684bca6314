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

/** One host's kernel sent connects to a backend that it could not reach. */
export interface Spell {
  /** gone: while its agent was there; away: its agent was not there for a part of it. */
  readonly kind: 'gone' | 'away';
  readonly at: Place;
  readonly to: Place;
  readonly sinceNs: bigint;
  readonly forMs: number;
}

export type Verdict =
  /** The backend was really gone: for so long when the attempt began. */
  | { readonly kind: 'gone' | 'away'; readonly afterMs: number }
  /** The backend was reachable, or is not known. */
  | { readonly kind: 'strange' };

export class Truth {
  readonly #hosts: number;
  readonly #apart = new Map<string, Interval[]>();
  readonly #shown = new Map<string, Interval[]>();
  readonly #away = new Map<Place, Interval[]>();

  constructor(hosts: number) {
    this.#hosts = hosts;
  }

  /** From `beforeNs` to `afterNs` the network was changed: these pairs are apart since, all others not. */
  network(isApart: (a: Place, b: Place) => boolean, span: Span): void {
    this.#pairs((at, to) => mark(this.#apart, `${at} ${to}`, isApart(at, to), span));
  }

  /** The agent of a host is gone, or back. */
  agent(at: Place, isAway: boolean, nowNs: bigint): void {
    mark(this.#away, at, isAway, [nowNs, nowNs]);
  }

  /** What the kernel of a host sends connects to. */
  maps(at: Place, backends: ReadonlySet<Place>, nowNs: bigint): void {
    for (let to = 0; to < this.#hosts; to++)
      mark(this.#shown, `${at} ${to}`, backends.has(to), [nowNs, nowNs]);
  }

  judge(at: Place, to: Place | undefined, { fromNs, toNs }: Failure): Verdict {
    const pair = `${at} ${to}`;
    const apart = this.#apart.get(pair)?.findLast((one) => overlaps(one, fromNs, toNs));
    if (apart === undefined) return { kind: 'strange' };
    // It may have been taken for reachable once more, by old news.
    const shown = this.#shown.get(pair)?.findLast((one) => one.fromNs <= fromNs);
    const sinceNs = later(apart.fromNs, shown?.fromNs ?? apart.fromNs);
    const afterMs = Math.max(0, Number(fromNs - sinceNs) / 1e6);
    return { kind: this.#isAway(at, sinceNs, toNs) ? 'away' : 'gone', afterMs };
  }

  /** All of them, the longest first; those that go on end now. */
  spells(nowNs: bigint): Spell[] {
    const spells: Spell[] = [];
    this.#pairs((at, to) => {
      for (const apart of this.#apart.get(`${at} ${to}`) ?? []) {
        for (const shown of this.#shown.get(`${at} ${to}`) ?? []) {
          const sinceNs = later(apart.fromNs, shown.fromNs);
          const untilNs = earlier(apart.toNs ?? nowNs, shown.toNs ?? nowNs);
          if (untilNs <= sinceNs) continue;
          const kind = this.#isAway(at, sinceNs, untilNs) ? 'away' : 'gone';
          spells.push({ kind, at, to, sinceNs, forMs: Number(untilNs - sinceNs) / 1e6 });
        }
      }
    });
    return spells.toSorted((a, b) => b.forMs - a.forMs);
  }

  #isAway(at: Place, fromNs: bigint, toNs: bigint): boolean {
    return (this.#away.get(at) ?? []).some((one) => overlaps(one, fromNs, toNs));
  }

  #pairs(visit: (at: Place, to: Place) => void): void {
    for (let at = 0; at < this.#hosts; at++) for (let to = 0; to < this.#hosts; to++) visit(at, to);
  }
}

const later = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const earlier = (a: bigint, b: bigint): bigint => (a < b ? a : b);

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
