// What an issuer remembers of its join tokens: plain data, and functions that give new data. A token is used once in the
// whole cluster because its issuer alone redeems it, and writes that down before it answers (io/signer.ts).
// Whatever is not in the ledger is refused, so a lost file can only refuse too much. So can a clock that is ahead, also for
// a moment: what was seen to have ended stays so when the clock is set back. Only an end that no agent saw does not.

export interface LedgerEntry {
  /** The token's id in hex. */
  readonly id: string;
  /** What the secret becomes (io/proof.ts) in hex: the secret itself is not kept. */
  readonly key: string;
  readonly expiresAtMs: number;
  /** Whether the new node gets the CA's key too. */
  readonly signer: boolean;
  /** It was seen to be over. */
  readonly ended?: boolean;
  readonly used?: { readonly atMs: number; readonly nodeId: string };
}

export type Ledger = readonly LedgerEntry[];

export type Verdict = 'good' | 'unknown' | 'used' | 'expired';

/** So that nobody fills the disk; a guess. */
export const LEDGER_MAX = 1024;
/** For so long after its end a token is refused as used or expired, and not just as unknown. */
const KEEP_MS = 24 * 3_600_000;

export function prune(ledger: Ledger, nowMs: number): Ledger {
  return ledger.filter(({ expiresAtMs }) => nowMs < expiresAtMs + KEEP_MS);
}

/** undefined when the ledger is full. */
export function issue(ledger: Ledger, entry: LedgerEntry, nowMs: number): Ledger | undefined {
  const kept = prune(ledger, nowMs);
  return kept.length < LEDGER_MAX ? [...kept, entry] : undefined;
}

export function find(ledger: Ledger, id: string): LedgerEntry | undefined {
  return ledger.find((entry) => entry.id === id);
}

export function judge(entry: LedgerEntry | undefined, nowMs: number): Verdict {
  if (entry === undefined) return 'unknown';
  if (entry.used !== undefined) return 'used';
  return nowMs < entry.expiresAtMs && entry.ended !== true ? 'good' : 'expired';
}

/** Marks what has ended and was not used; undefined where there is nothing new to mark. */
export function markEnded(ledger: Ledger, nowMs: number): Ledger | undefined {
  const isOver = (entry: LedgerEntry): boolean =>
    entry.ended !== true && judge(entry, nowMs) === 'expired';
  if (!ledger.some(isOver)) return undefined;
  return ledger.map((entry) => (isOver(entry) ? { ...entry, ended: true } : entry));
}

export function markUsed(ledger: Ledger, id: string, nodeId: string, atMs: number): Ledger {
  return ledger.map((entry) => (entry.id === id ? { ...entry, used: { atMs, nodeId } } : entry));
}

/** Takes an unused token back; a used one stays, so that it is still refused as used. */
export function withdraw(ledger: Ledger, id: string): Ledger {
  return ledger.filter((entry) => entry.id !== id || entry.used !== undefined);
}

export function isLedger(value: unknown): value is Ledger {
  return Array.isArray(value) && value.length <= LEDGER_MAX && value.every(isEntry);
}

function isEntry(value: unknown): value is LedgerEntry {
  if (typeof value !== 'object' || value === null) return false;
  const { id, key, expiresAtMs, signer, ended, used } = value as Partial<
    Record<keyof LedgerEntry, unknown>
  >;
  if (typeof id !== 'string' || typeof key !== 'string') return false;
  if (typeof expiresAtMs !== 'number' || typeof signer !== 'boolean') return false;
  if (ended !== undefined && typeof ended !== 'boolean') return false;
  if (used === undefined) return true;
  if (typeof used !== 'object' || used === null) return false;
  const { atMs, nodeId } = used as Record<string, unknown>;
  return typeof atMs === 'number' && typeof nodeId === 'string';
}
