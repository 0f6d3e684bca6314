// Who is no longer trusted: a set that only grows, and merges the same way in any order (a state-based CRDT: Shapiro et
// al. 2011, "A comprehensive study…", 3.3.1). An entry names a node, which no signer serves again, or one certificate by
// its serial, as after a stolen key of a node that lives on. None is dropped when it has ended: a wall clock that is
// ahead for a moment would let somebody in.

export interface Revocation {
  readonly kind: 'node' | 'serial';
  /** A node id, or a serial in upper-case hex as Node prints it. */
  readonly id: string;
  readonly revokedAtMs: number;
  /** When the last certificate that it concerns has ended. */
  readonly untilMs: number;
  readonly reason: string;
}

export class Revocations {
  readonly #entries = new Map<string, Revocation>();

  constructor(entries: Iterable<Revocation> = []) {
    for (const entry of entries) this.add(entry);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Whether anything changed. The earliest revocation gives the reason, the latest end counts. */
  add(entry: Revocation): boolean {
    const key = `${entry.kind}:${entry.id}`;
    const old = this.#entries.get(key);
    if (old === undefined) {
      this.#entries.set(key, entry);
      return true;
    }
    const first = isBefore(entry, old) ? entry : old;
    const untilMs = Math.max(old.untilMs, entry.untilMs);
    if (first === old && untilMs === old.untilMs) return false;
    this.#entries.set(key, { ...first, untilMs });
    return true;
  }

  merge(other: Revocations): boolean {
    let changed = false;
    for (const entry of other.#entries.values()) changed = this.add(entry) || changed;
    return changed;
  }

  node(nodeId: string): Revocation | undefined {
    return this.#entries.get(`node:${nodeId}`);
  }

  /** Why this certificate is refused; undefined when it is not. */
  find(nodeId: string, serial: string): Revocation | undefined {
    return this.node(nodeId) ?? this.#entries.get(`serial:${serial}`);
  }

  /** In one order everywhere. */
  entries(): Revocation[] {
    return [...this.#entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  }
}

function isBefore(a: Revocation, b: Revocation): boolean {
  return a.revokedAtMs === b.revokedAtMs ? a.reason < b.reason : a.revokedAtMs < b.revokedAtMs;
}
