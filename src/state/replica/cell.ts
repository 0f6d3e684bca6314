/**
 * A cell: one write of one key, as text in a log. Lines, so that only two of them are cut:
 *
 *     KEY                      no newline, does not begin with @
 *     MS.COUNTER               the stamp, base 36; its writer is that of the cell
 *     VALUE                    JSON, whatever is left
 *
 * In the seed of an epoch a line `@WRITER.CLOCK` comes first: which cell this is a copy of. A cell
 * is known for ever by the log it was first written to and its place in it: its identity.
 */
import { STAMP_MS_MAX, type Stamp } from './hlc.ts';

export interface Identity {
  readonly writer: number;
  /** Place in the writer's log, from 0. */
  readonly clock: number;
}

/** Ids of data directories end below this: small integers in V8. */
export const WRITER_MAX = 2 ** 31 - 1;
/** The log that an epoch begins with belongs to nobody. */
export const SEED = 2 ** 31;
/** Places in a log; at 1,000 writes a second, 34 years. */
export const CLOCK_MAX = 2 ** 40;

export interface Cell extends Identity, Stamp {
  readonly key: string;
  /** As a log of its writer has it: without the line of a seed. */
  readonly text: string;
}

const natural = /^(?:0|[1-9a-z][0-9a-z]{0,10})$/;

function pair(text: string, max1: number, max2: number): [number, number] | undefined {
  const dot = text.indexOf('.');
  const first = text.slice(0, dot);
  const second = text.slice(dot + 1);
  if (dot < 0 || !natural.test(first) || !natural.test(second)) return undefined;
  const a = Number.parseInt(first, 36);
  const b = Number.parseInt(second, 36);
  return a < max1 && b < max2 ? [a, b] : undefined;
}

export function isKey(key: string, charsMax: number): boolean {
  return key.length > 0 && key.length <= charsMax && !key.startsWith('@') && !key.includes('\n');
}

export function formatCell(key: string, stamp: Stamp, value: string): string {
  return `${key}\n${stamp.ms.toString(36)}.${stamp.counter.toString(36)}\n${value}`;
}

export function formatSeedCell({ writer, clock, text }: Cell): string {
  return `@${writer.toString(36)}.${clock.toString(36)}\n${text}`;
}

/** The cell at `clock` of the log of `client`, or undefined if `raw` is none. */
export function parseCell(raw: string, client: number, clock: number): Cell | undefined {
  if (client === SEED) {
    const end = raw.indexOf('\n');
    if (!raw.startsWith('@') || end < 0) return undefined;
    const identity = pair(raw.slice(1, end), WRITER_MAX + 1, CLOCK_MAX);
    if (identity === undefined || identity[0] === 0) return undefined;
    return parseCell(raw.slice(end + 1), ...identity);
  }
  const keyEnd = raw.indexOf('\n');
  const stampEnd = raw.indexOf('\n', keyEnd + 1);
  if (keyEnd <= 0 || stampEnd < 0 || raw.startsWith('@')) return undefined;
  const stamp = pair(raw.slice(keyEnd + 1, stampEnd), STAMP_MS_MAX, 2 ** 31);
  if (stamp === undefined) return undefined;
  const [ms, counter] = stamp;
  return { key: raw.slice(0, keyEnd), text: raw, writer: client, clock, ms, counter };
}

/** Of the text of a cell. */
export function keyOf(text: string): string {
  return text.slice(0, text.indexOf('\n'));
}

/** Of the text of a cell. */
export function stampOf(text: string): { readonly ms: number; readonly counter: number } {
  const start = text.indexOf('\n') + 1;
  const dot = text.indexOf('.', start);
  const end = text.indexOf('\n', dot);
  const numberAt = (from: number, to: number): number => Number.parseInt(text.slice(from, to), 36);
  return { ms: numberAt(start, dot), counter: numberAt(dot + 1, end) };
}

export function valueOf({ key, text }: Pick<Cell, 'key' | 'text'>): string {
  return text.slice(text.indexOf('\n', key.length + 1) + 1);
}
