/**
 * Who is out of the cluster for good, as shared keys that every node reads and acts on:
 *
 *     gone/NODE        { at, why: left | revoked, addresses }   its document is forgotten and not
 *                      taken again; what is at its addresses is as unreachable as it is
 *     revocation/NODE  a Revocation                  its certificate counts no more
 *
 * What is read was written by others: a value that says nothing is as good as none.
 */
import { canonicalIp } from '../net/ip.ts';
import { isNodeId } from './names.ts';
import type { Revocation } from './revocation.ts';

const GONE = 'gone/';
const REVOCATION = 'revocation/';
/** As in a NodeRecord. */
const ADDRESSES_MAX = 256;
const REASON_CHARS_MAX = 512; // a guess: a sentence or two

export type Departure =
  | {
      readonly type: 'gone';
      readonly node: string;
      readonly at: string;
      readonly why: string;
      readonly addresses: readonly string[];
    }
  | { readonly type: 'revoked'; readonly revocation: Revocation };

export function isDepartureKey(key: string): boolean {
  return key.startsWith(GONE) || key.startsWith(REVOCATION);
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
  const { at, why, addresses: told } = fields;
  if (!isNodeId(node) || typeof at !== 'string' || typeof why !== 'string') return undefined;
  const list = Array.isArray(told) ? (told as readonly unknown[]) : [];
  const isAddress = (one: unknown): one is string =>
    typeof one === 'string' && canonicalIp(one) === one;
  return { type: 'gone', node, at, why, addresses: list.slice(0, ADDRESSES_MAX).filter(isAddress) };
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
  why: 'left' | 'revoked',
  at: string,
  addresses: readonly string[] = [],
): SharedWrite {
  return { document: 'shared', key: GONE + node, value: JSON.stringify({ at, why, addresses }) };
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
