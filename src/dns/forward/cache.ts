/**
 * What is kept of answers, bounded by bytes; the entry that was used longest ago goes first. An
 * entry outlives its TTL by staleSeconds, for when no upstream answers (RFC 8767), and remembers for
 * a few seconds that asking failed, so that a name that fails is not asked for by every client anew.
 */
import { isWithin } from '../names.ts';
import type { Packed } from './pack.ts';

export interface Entry {
  readonly name: string;
  readonly packed: Packed | undefined;
  readonly upstream: string | undefined;
  readonly storedMs: number;
  readonly expiresMs: number;
  readonly staleUntilMs: number;
  readonly bytes: number;
  hits: number;
  /** Until then nobody is asked again. */
  failedUntilMs: number;
  failures: number;
  failedRcode: number;
}

/** An entry beside its bytes and its names: objects, arrays and the place in the map (measured: 520 to 610). */
const ENTRY_BYTES = 640;
const FAILED_FIRST_MS = 1000;
const FAILED_MAX_MS = 5000; // RFC 9520 section 3.2 wants 1 s at least
/** A prefetch is worth it for who asked at least twice, in the last tenth of the TTL. */
const PREFETCH_PART = 0.1;
const PREFETCH_HITS = 2;

export class Cache {
  readonly #entries = new Map<string, Entry>();
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
      this.#drop(key, entry);
      return undefined;
    }
    this.#entries.delete(key); // to the end of the map's order
    this.#entries.set(key, entry);
    return entry;
  }

  store(key: string, name: string, packed: Packed, upstream: string, nowMs: number): void {
    const before = this.#entries.get(key);
    if (before !== undefined) this.#drop(key, before);
    if (packed.ttl <= 0) return;
    const expiresMs = nowMs + packed.ttl * 1000;
    this.#add(key, {
      name,
      packed,
      upstream,
      storedMs: nowMs,
      expiresMs,
      staleUntilMs: expiresMs + this.#staleMs,
      bytes: entryBytes(key, packed),
      hits: 0,
      failedUntilMs: 0,
      failures: 0,
      failedRcode: 0,
    });
    this.#forgetOld(nowMs);
  }

  /** Each failure in a row is remembered for longer. What is stale stays. */
  fail(key: string, name: string, rcode: number, nowMs: number): void {
    const entry = this.#entries.get(key) ?? this.#add(key, failedEntry(key, name, nowMs));
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
    for (const [key, entry] of this.#entries)
      if (name === undefined || isWithin(entry.name, name)) this.#drop(key, entry);
    return before - this.#entries.size;
  }

  #add(key: string, entry: Entry): Entry {
    this.#entries.set(key, entry);
    this.bytes += entry.bytes;
    this.#evict();
    return entry;
  }

  #drop(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.bytes -= entry.bytes;
  }

  #evict(): void {
    while (this.bytes > this.#bytesMax) {
      const [oldest] = this.#entries;
      if (oldest === undefined) return;
      this.#drop(oldest[0], oldest[1]);
      this.evicted += 1;
    }
  }

  /** Those used longest ago, if of no more use: so the cache shrinks where names are asked for once. */
  #forgetOld(nowMs: number): void {
    let looked = 0;
    for (const [key, entry] of this.#entries) {
      if (looked === 2) return;
      looked += 1;
      if (!this.#isUseful(entry, nowMs)) this.#drop(key, entry);
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
  const bytes = packed === undefined ? 0 : packed.tail.length + packed.ttlAt.byteLength;
  return ENTRY_BYTES + 2 * key.length + bytes;
}

function failedEntry(key: string, name: string, nowMs: number): Entry {
  return {
    name,
    packed: undefined,
    upstream: undefined,
    storedMs: nowMs,
    expiresMs: nowMs,
    staleUntilMs: nowMs,
    bytes: entryBytes(key, undefined),
    hits: 0,
    failedUntilMs: 0,
    failures: 0,
    failedRcode: 0,
  };
}
