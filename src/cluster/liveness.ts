/**
 * Which nodes are not reachable, so that their backends are out of use: those the overlay calls dead
 * or left, now or in the run before this one; and those that are only known by their documents and
 * from which nothing was heard for a grace time since this node found a neighbour. Without any
 * neighbour ever, nobody is missed: what was known last goes on.
 *
 * Never asks the time and never acts. `nowMs` never goes back; `wallMs` is for people and the disk.
 */
export type Standing = 'alive' | 'dead' | 'left' | 'unknown';

/** What an earlier run knew last of a node that was not there. */
export interface Remembered {
  readonly id: string;
  readonly standing: 'dead' | 'left';
  /** Wall clock. */
  readonly sinceMs: number;
}

export interface LivenessOptions {
  readonly self: string;
  readonly remembered: readonly Remembered[];
  /** How long a node that was never heard of counts as reachable. */
  readonly graceMs?: number;
  /** Beyond it, nodes without a document that went before all others are forgotten. */
  readonly nodesMax?: number;
}

const HOUR_MS = 3_600_000;

interface Heard {
  readonly standing: Exclude<Standing, 'unknown'>;
  readonly sinceMs: number;
}

/** Some rounds of anti-entropy: contracts of issue 5. */
const GRACE_MS = 10_000;
/** statesMax of the overlay. Documents have a limit of their own, documentsMax of the replica. */
const NODES_MAX = 16_384;

export class Liveness {
  readonly #self: string;
  readonly #graceMs: number;
  readonly #nodesMax: number;
  readonly #heard = new Map<string, Heard>();
  /** With a document. */
  readonly #known = new Set<string>();
  /** Of these, the ones that were never heard of: since when they are known. */
  readonly #silent = new Map<string, number>();
  readonly #unreachable = new Set<string>();
  /** Since when there was a neighbour for the first time. */
  #linkedAtMs: number | undefined;
  #view: ReadonlySet<string> | undefined;

  constructor({ self, remembered, graceMs, nodesMax }: LivenessOptions) {
    this.#self = self;
    this.#graceMs = graceMs ?? GRACE_MS;
    this.#nodesMax = nodesMax ?? NODES_MAX;
    for (const { id, standing, sinceMs } of remembered) this.heard(id, standing, sinceMs);
  }

  /** The same set until something changes. */
  get unreachable(): ReadonlySet<string> {
    this.#view ??= new Set(this.#unreachable);
    return this.#view;
  }

  standing(id: string): Standing {
    return this.#heard.get(id)?.standing ?? 'unknown';
  }

  /** Wall clock; undefined for a node that was never heard of. */
  sinceMs(id: string): number | undefined {
    return this.#heard.get(id)?.sinceMs;
  }

  ids(): string[] {
    return [...this.#heard.keys(), ...this.#silent.keys()];
  }

  /** Nodes that are waited for: known, never heard of, and not missed yet; and for how long. */
  *awaited(nowMs: number): Iterable<{ readonly id: string; readonly forMs: number }> {
    if (this.#linkedAtMs === undefined) return;
    for (const [id, sinceMs] of this.#silent)
      if (!this.#unreachable.has(id))
        yield { id, forMs: nowMs - Math.max(sinceMs, this.#linkedAtMs) };
  }

  /** What the overlay says. Whether `unreachable` is another one than before. */
  heard(id: string, standing: Exclude<Standing, 'unknown'>, wallMs: number): boolean {
    if (id === this.#self || this.#heard.get(id)?.standing === standing) return false;
    this.#silent.delete(id);
    this.#heard.delete(id); // to the end: the map is in the order of what happened
    this.#heard.set(id, { standing, sinceMs: wallMs });
    this.#limit();
    return this.#set(id, standing !== 'alive');
  }

  /** There is a document of this node. */
  known(id: string, nowMs: number): void {
    if (id === this.#self || this.#known.has(id)) return;
    this.#known.add(id);
    if (!this.#heard.has(id)) this.#silent.set(id, nowMs);
  }

  /** This node is linked to another one. */
  linked(nowMs: number): void {
    this.#linkedAtMs ??= nowMs;
  }

  /** It is gone for good, and its document with it. Whether `unreachable` is another one than before. */
  forget(id: string): boolean {
    this.#known.delete(id);
    this.#heard.delete(id);
    this.#silent.delete(id);
    return this.#set(id, false);
  }

  /** When `expire` has something to do. */
  get nextAtMs(): number {
    let at = Infinity;
    if (this.#linkedAtMs === undefined) return at;
    for (const [id, sinceMs] of this.#silent)
      if (!this.#unreachable.has(id)) at = Math.min(at, this.#dueAtMs(sinceMs));
    return at;
  }

  /** Whether `unreachable` is another one than before. */
  expire(nowMs: number): boolean {
    if (this.#linkedAtMs === undefined) return false;
    let changed = false;
    for (const [id, sinceMs] of this.#silent)
      if (nowMs >= this.#dueAtMs(sinceMs)) changed = this.#set(id, true) || changed;
    return changed;
  }

  /**
   * For the next run: nodes without a document have nothing that could be out of use. Of one that
   * was missed, and never heard of, the hour in which its document became known.
   */
  remembered(nowMs: number, wallMs: number): Remembered[] {
    const heard = [...this.#heard].flatMap(([id, { standing, sinceMs }]) =>
      standing !== 'alive' && this.#known.has(id) ? [{ id, standing, sinceMs }] : [],
    );
    const missed = [...this.#silent].flatMap(([id, knownMs]): Remembered[] =>
      this.#unreachable.has(id)
        ? [{ id, standing: 'dead', sinceMs: hourOf(wallMs - (nowMs - knownMs)) }]
        : [],
    );
    return [...heard, ...missed];
  }

  #dueAtMs(sinceMs: number): number {
    return Math.max(sinceMs, this.#linkedAtMs ?? Infinity) + this.#graceMs;
  }

  #set(id: string, isUnreachable: boolean): boolean {
    if (this.#unreachable.has(id) === isUnreachable) return false;
    if (isUnreachable) this.#unreachable.add(id);
    else this.#unreachable.delete(id);
    this.#view = undefined;
    return true;
  }

  #limit(): void {
    if (this.#heard.size <= this.#nodesMax) return;
    for (const [id, { standing }] of this.#heard) {
      if (standing === 'alive' || this.#known.has(id)) continue;
      this.#heard.delete(id);
      this.#set(id, false);
      return;
    }
  }
}

/** The two clocks drift apart: what is remembered of a moment is the same each time. */
function hourOf(wallMs: number): number {
  return Math.floor(wallMs / HOUR_MS) * HOUR_MS;
}
