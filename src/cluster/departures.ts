/**
 * Who is out of the cluster for good, as shared keys that every node reads and acts on:
 *
 *     gone/NODE        { at, why: left | revoked | expired, addresses, writers }   its document is
 *                      forgotten and not taken again; what is at its addresses is as unreachable as
 *                      it is; epochs leave its writer ids out a month later
 *     missed/NODE      { atMs }                      not there since then, for a day or more; taken
 *                      away when it is back
 *     revocation/NODE  a Revocation                  its certificate counts no more
 *
 * What is read was written by others: a value that says nothing is as good as none.
 */
import { canonicalIp } from '../net/ip.ts';
import { GONE_PREFIX as GONE, GONE_WRITERS_MAX } from '../state/replica/schema.ts';
import { isNodeId } from './names.ts';
import type { Revocation } from './revocation.ts';

const REVOCATION = 'revocation/';
const MISSED = 'missed/';
/** As in a NodeRecord. */
const ADDRESSES_MAX = 256;
const REASON_CHARS_MAX = 512; // a guess: a sentence or two

export interface Gone {
  readonly type: 'gone';
  readonly node: string;
  /** ISO 8601, for people. */
  readonly at: string;
  /** The same of the wall clock; the first versions did not tell. */
  readonly atMs: number | undefined;
  /** WhyGone, or what a newer version calls it. */
  readonly why: string;
  readonly addresses: readonly string[];
  /** Ids of its data directories. */
  readonly writers: readonly number[];
  /** What a newer version says beside it, kept when the record is written anew. */
  readonly more?: Readonly<Record<string, unknown>> | undefined;
}

/** expired: not there for so long that its certificate has ended. */
export type WhyGone = 'left' | 'revoked' | 'expired';

export type Departure = Gone | { readonly type: 'revoked'; readonly revocation: Revocation };

export function isDepartureKey(key: string): boolean {
  return key.startsWith(GONE) || key.startsWith(REVOCATION);
}

export function goneKey(node: string): string {
  return GONE + node;
}

/** The node of a key gone/NODE. */
export function goneNode(key: string): string | undefined {
  return key.startsWith(GONE) ? key.slice(GONE.length) : undefined;
}

export function missedKey(node: string): string {
  return MISSED + node;
}

/** Whose key it is, and since when that node is missed: Infinity where that cannot be read. */
export function readMissed(
  key: string,
  json: string | undefined,
): { readonly node: string; readonly atMs: number } | undefined {
  if (json === undefined || !key.startsWith(MISSED)) return undefined;
  const { atMs } = fieldsOf(json) ?? {};
  return { node: key.slice(MISSED.length), atMs: isTime(atMs) ? atMs : Infinity };
}

/** undefined for other keys, removed ones, and what cannot be read. */
export function readDeparture(key: string, json: string | undefined): Departure | undefined {
  if (json === undefined || !isDepartureKey(key)) return undefined;
  const fields = fieldsOf(json);
  if (fields === undefined) return undefined;
  if (key.startsWith(GONE)) return goneOf(key.slice(GONE.length), fields);
  return revocationOf(key.slice(REVOCATION.length), fields);
}

function goneOf(node: string, fields: Record<string, unknown>): Departure | undefined {
  const { at, atMs, why, addresses: where, writers: who, ...more } = fields;
  if (!isNodeId(node) || typeof at !== 'string' || typeof why !== 'string') return undefined;
  const isAddress = (one: unknown): one is string =>
    typeof one === 'string' && canonicalIp(one) === one;
  const isWriter = (one: unknown): one is number => Number.isSafeInteger(one);
  const addresses = listOf(where, ADDRESSES_MAX).filter(isAddress);
  const writers = listOf(who, GONE_WRITERS_MAX).filter(isWriter);
  const said = { at, atMs: isTime(atMs) ? atMs : undefined, why, addresses, writers };
  return { type: 'gone', node, ...said, ...(Object.keys(more).length > 0 && { more }) };
}

function listOf(value: unknown, max: number): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]).slice(0, max) : [];
}

function revocationOf(name: string, fields: Record<string, unknown>): Departure | undefined {
  const { kind, id, revokedAtMs, untilMs, reason } = fields;
  const isNode = kind === 'node' && isNodeId(name);
  const isSerial = kind === 'serial' && /^[0-9A-F]{1,64}$/.test(name);
  if (id !== name || (!isNode && !isSerial)) return undefined;
  if (!isTime(revokedAtMs) || !isTime(untilMs) || typeof reason !== 'string') return undefined;
  const short = reason.slice(0, REASON_CHARS_MAX);
  return { type: 'revoked', revocation: { kind, id, revokedAtMs, untilMs, reason: short } };
}

export interface SharedWrite {
  readonly document: 'shared';
  readonly key: string;
  readonly value: string;
}

export function writeGone(
  node: string,
  said: {
    readonly why: WhyGone;
    readonly at: string;
    readonly atMs: number;
    readonly addresses?: readonly string[];
    readonly writers?: readonly number[];
    readonly more?: Gone['more'];
  },
): SharedWrite {
  const { addresses = [], writers = [] } = said;
  return goneWrite(node, { ...said, addresses, writers: writers.slice(-GONE_WRITERS_MAX) });
}

function goneWrite(node: string, said: Omit<Gone, 'type' | 'node'>): SharedWrite {
  const { at, atMs, why, addresses, writers, more } = said;
  const value = JSON.stringify({ ...more, at, atMs, why, addresses, writers });
  return { document: 'shared', key: goneKey(node), value };
}

/**
 * Somebody put backends that are nobody's at addresses of nodes that are gone: they are other hosts'
 * now (DHCP, a cloud).
 */
export function readdressed(
  used: ReadonlySet<string>,
  gone: ReadonlyMap<string, Gone>,
): SharedWrite[] {
  if (used.size === 0) return [];
  return [...gone].flatMap(([node, one]) => {
    const addresses = one.addresses.filter((address) => !used.has(address));
    return addresses.length < one.addresses.length ? [goneWrite(node, { ...one, addresses })] : [];
  });
}

export function writeRevocation(revocation: Revocation): SharedWrite {
  const { kind, id, revokedAtMs, untilMs } = revocation;
  const reason = revocation.reason.slice(0, REASON_CHARS_MAX);
  const value = JSON.stringify({ kind, id, revokedAtMs, untilMs, reason });
  return { document: 'shared', key: REVOCATION + id, value };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

function fieldsOf(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
