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

const [NONE, ZERO, NINE, A, Z] = [-1, 48, 57, 97, 122];

/** The natural number below `max` that is written there in base 36, or NONE. Makes no strings: a start reads 200,000. */
function naturalAt(text: string, from: number, to: number, max: number): number {
  const hasLeadingZero = to > from + 1 && text.charCodeAt(from) === ZERO;
  if (to <= from || hasLeadingZero) return NONE;
  let value = 0;
  for (let at = from; at < to; at++) {
    const code = text.charCodeAt(at);
    if (code >= ZERO && code <= NINE) value = 36 * value + code - ZERO;
    else if (code >= A && code <= Z) value = 36 * value + code - A + 10;
    else return NONE;
  }
  return value < max ? value : NONE;
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

/** Where the parts of a cell are, and its numbers. */
interface Parts extends Identity, Stamp {
  /** Of its key: what comes before is the line of a seed. */
  readonly start: number;
  readonly keyEnd: number;
}

function partsOf(raw: string, client: number, clock: number): Parts | undefined {
  let [writer, place, start] = [client, clock, 0];
  if (client === SEED) {
    const end = raw.indexOf('\n');
    const dot = raw.indexOf('.');
    if (!raw.startsWith('@') || end < 0 || dot < 0 || dot > end) return undefined;
    writer = naturalAt(raw, 1, dot, WRITER_MAX + 1);
    place = naturalAt(raw, dot + 1, end, CLOCK_MAX);
    if (writer <= 0 || place < 0) return undefined;
    start = end + 1;
  }
  const keyEnd = raw.indexOf('\n', start);
  const stampEnd = raw.indexOf('\n', keyEnd + 1);
  const dot = raw.indexOf('.', keyEnd + 1);
  if (keyEnd <= start || stampEnd < 0 || dot < 0 || raw.startsWith('@', start)) return undefined;
  const ms = naturalAt(raw, keyEnd + 1, dot, STAMP_MS_MAX);
  const counter = naturalAt(raw, dot + 1, stampEnd, 2 ** 31);
  return ms < 0 || counter < 0 ? undefined : { writer, clock: place, start, keyEnd, ms, counter };
}

/** The cell at `clock` of the log of `client`, or undefined if `raw` is none. */
export function parseCell(raw: string, client: number, clock: number): Cell | undefined {
  const parts = partsOf(raw, client, clock);
  if (parts === undefined) return undefined;
  const { start, keyEnd, writer, clock: place, ms, counter } = parts;
  const text = start === 0 ? raw : raw.slice(start);
  return { key: raw.slice(start, keyEnd), text, writer, clock: place, ms, counter };
}

/** Whether parseCell() gives a cell, with such a key at most. */
export function isCell(raw: string, client: number, keyCharsMax: number): boolean {
  const parts = partsOf(raw, client, 0);
  return parts !== undefined && parts.keyEnd - parts.start <= keyCharsMax;
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
