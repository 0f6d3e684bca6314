/**
 * What is kept of answers, bounded by bytes; the entry that was used longest ago goes first. An
 * entry outlives its TTL by staleSeconds, for when no upstream answers (RFC 8767), and remembers for
 * a few seconds that asking failed, so that a name that fails is not asked for by every client anew.
 */
import { isWithin } from '../names.ts';
import type { Packed } from './pack.ts';

export interface Entry {
  readonly key: string;
  readonly name: string;
  readonly packed: Packed | undefined;
  readonly upstream: string | undefined;
  readonly storedMs: number;
  readonly expiresMs: number;
  readonly staleUntilMs: number;
  readonly bytes: number;
  /** Its neighbours by when they were used; a map's own order is no help: a key that is moved often makes it slow. */
  before: Entry | undefined;
  after: Entry | undefined;
  hits: number;
  /** Until then nobody is asked again. */
  failedUntilMs: number;
  failures: number;
  failedRcode: number;
}

/** An entry, and what is more with an answer in it: measured with Node 24, 288 bytes in all and 819 with one address. */
const ENTRY_BYTES = 260;
const PACKED_BYTES = 520;
const FAILED_FIRST_MS = 1000;
const FAILED_MAX_MS = 5000; // RFC 9520 section 3.2 wants 1 s at least
/** A prefetch is worth it for who asked at least twice, in the last tenth of the TTL. */
const PREFETCH_PART = 0.1;
const PREFETCH_HITS = 2;

export class Cache {
  readonly #entries = new Map<string, Entry>();
  #oldest: Entry | undefined;
  #newest: Entry | undefined;
  #bytesMax: number;
  #staleMs: number;
  bytes = 0;
  evicted = 0;

  constructor(bytesMax: number, staleSeconds: number) {
    this.#bytesMax = bytesMax;
    this.#staleMs = staleSeconds * 1000;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytesMax(): number {
    return this.#bytesMax;
  }

  limit(bytesMax: number, staleSeconds: number): void {
    this.#bytesMax = bytesMax;
    this.#staleMs = staleSeconds * 1000;
    this.#evict();
  }

  /** Fresh, stale, or only a memory of failing; what is too old for all of these is dropped. */
  find(key: string, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (!this.#isUseful(entry, nowMs)) {
      this.#drop(entry);
      return undefined;
    }
    if (entry !== this.#newest) {
      this.#unlink(entry);
      this.#link(entry);
    }
    return entry;
  }

  store(key: string, name: string, packed: Packed, upstream: string, nowMs: number): void {
    const before = this.#entries.get(key);
    if (before !== undefined) this.#drop(before);
    if (packed.ttl <= 0) return;
    const expiresMs = nowMs + packed.ttl * 1000;
    this.#add({
      key,
      name,
      packed,
      upstream,
      storedMs: nowMs,
      expiresMs,
      staleUntilMs: expiresMs + this.#staleMs,
      bytes: entryBytes(key, packed),
      before: undefined,
      after: undefined,
      hits: 0,
      failedUntilMs: 0,
      failures: 0,
      failedRcode: 0,
    });
    this.#forgetOld(nowMs);
  }

  /** Each failure in a row is remembered for longer. What is stale stays. */
  fail(key: string, name: string, rcode: number, nowMs: number): void {
    const entry = this.#entries.get(key) ?? this.#add(failedEntry(key, name, nowMs));
    entry.failures += 1;
    entry.failedRcode = rcode;
    entry.failedUntilMs =
      nowMs + Math.min(FAILED_MAX_MS, FAILED_FIRST_MS * 2 ** Math.min(8, entry.failures - 1));
    this.#evict();
    this.#forgetOld(nowMs);
  }

  /** All, or a name with all below it. */
  flush(name?: string): number {
    const before = this.#entries.size;
    for (const entry of this.#entries.values())
      if (name === undefined || isWithin(entry.name, name)) this.#drop(entry);
    return before - this.#entries.size;
  }

  #add(entry: Entry): Entry {
    this.#entries.set(entry.key, entry);
    this.#link(entry);
    this.bytes += entry.bytes;
    this.#evict();
    return entry;
  }

  #drop(entry: Entry): void {
    if (!this.#entries.delete(entry.key)) return;
    this.#unlink(entry);
    this.bytes -= entry.bytes;
  }

  #link(entry: Entry): void {
    entry.before = this.#newest;
    entry.after = undefined;
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.after = entry;
    this.#newest = entry;
  }

  #unlink({ before, after }: Entry): void {
    if (before === undefined) this.#oldest = after;
    else before.after = after;
    if (after === undefined) this.#newest = before;
    else after.before = before;
  }

  #evict(): void {
    while (this.bytes > this.#bytesMax && this.#oldest !== undefined) {
      this.#drop(this.#oldest);
      this.evicted += 1;
    }
  }

  /** Those used longest ago, if of no more use: so the cache shrinks where names are asked for once. */
  #forgetOld(nowMs: number): void {
    for (let looked = 0; looked < 2; looked++) {
      const oldest = this.#oldest;
      if (oldest === undefined || this.#isUseful(oldest, nowMs)) return;
      this.#drop(oldest);
    }
  }

  #isUseful(entry: Entry, nowMs: number): boolean {
    const keptUntilMs = entry.packed === undefined ? entry.failedUntilMs : entry.staleUntilMs;
    // A failure is remembered a little beyond its time, to know the next one as a repetition.
    return nowMs < Math.max(keptUntilMs, entry.failedUntilMs + FAILED_MAX_MS);
  }
}

export function isFresh(entry: Entry, nowMs: number): boolean {
  return entry.packed !== undefined && nowMs < entry.expiresMs;
}

export function isStale(entry: Entry, nowMs: number): boolean {
  return entry.packed !== undefined && nowMs >= entry.expiresMs && nowMs < entry.staleUntilMs;
}

export function isPrefetchDue(entry: Entry, nowMs: number): boolean {
  const ttlMs = entry.expiresMs - entry.storedMs;
  return (
    entry.hits >= PREFETCH_HITS &&
    nowMs >= entry.expiresMs - ttlMs * PREFETCH_PART &&
    nowMs >= entry.failedUntilMs
  );
}

function entryBytes(key: string, packed: Packed | undefined): number {
  const own = ENTRY_BYTES + 2 * key.length; // the name is in the key as well
  if (packed === undefined) return own;
  return own + PACKED_BYTES + packed.tail.length + packed.ttlAt.byteLength;
}

function failedEntry(key: string, name: string, nowMs: number): Entry {
  return {
    key,
    name,
    packed: undefined,
    upstream: undefined,
    storedMs: nowMs,
    expiresMs: nowMs,
    staleUntilMs: nowMs,
    bytes: entryBytes(key, undefined),
    before: undefined,
    after: undefined,
    hits: 0,
    failedUntilMs: 0,
    failures: 0,
    failedRcode: 0,
  };
}
