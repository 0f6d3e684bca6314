/**
 * Names as text and on the wire (RFC 1035, 3.1 and 5.1). The text is lower case, without
 * a dot at the end, '' for the root; within a label a dot is `\.`, a backslash `\\`,
 * and what is no printable ASCII is `\DDD`. One name has one text.
 */

/** With lengths and the root (RFC 1035, 2.3.4). */
export const NAME_BYTES_MAX = 255;
const LABEL_BYTES_MAX = 63;

const DOT = 0x2e;
const BACKSLASH = 0x5c;

/** What each byte is in the text of a label. */
export const LABEL_TEXT: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  if (byte === DOT || byte === BACKSLASH) return `\\${String.fromCharCode(byte)}`;
  if (byte <= 0x20 || byte >= 0x7f) return `\\${String(byte).padStart(3, '0')}`;
  return String.fromCharCode(byte).toLowerCase();
});

/** The byte that an escape at `at` stands for, and how long the escape is. */
function unescape(text: string, at: number): { byte: number; length: number } | undefined {
  const digits = /^\d{3}/.exec(text.slice(at + 1, at + 4))?.[0];
  if (digits !== undefined)
    return Number(digits) > 255 ? undefined : { byte: Number(digits), length: 4 };
  const code = text.charCodeAt(at + 1);
  const isPlain = code > 0x20 && code < 0x7f && (code < 0x30 || code > 0x39);
  return isPlain ? { byte: code, length: 2 } : undefined;
}

/** The labels' bytes, in lower case; undefined if `name` is none. A dot at the end is allowed. */
export function nameToWire(name: string): Uint8Array | undefined {
  const wire: number[] = [0];
  let start = 0;
  const text = name === '.' ? '' : name;
  for (let at = 0; at < text.length;) {
    const code = text.charCodeAt(at);
    if (code === DOT) {
      if (wire.length === start + 1) return undefined;
      start = wire.length;
      wire.push(0);
      at += 1;
      continue;
    }
    const one = code === BACKSLASH ? unescape(text, at) : { byte: code, length: 1 };
    if (
      one === undefined ||
      one.byte > 255 ||
      (code !== BACKSLASH && (code <= 0x20 || code > 0x7e))
    )
      return undefined;
    wire.push(one.byte >= 0x41 && one.byte <= 0x5a ? one.byte + 0x20 : one.byte);
    const length = wire.length - start - 1;
    if (length > LABEL_BYTES_MAX) return undefined;
    wire[start] = length;
    at += one.length;
  }
  if (wire.length > start + 1) wire.push(0);
  return wire.length > NAME_BYTES_MAX ? undefined : Uint8Array.from(wire);
}

/** The text of a name on the wire that is known to be whole and without pointers. */
export function nameFromWire(wire: Uint8Array, start = 0): string {
  let text = '';
  for (let at = start; ;) {
    const length = wire[at] ?? 0;
    if (length === 0) return text;
    if (at > start) text += '.';
    for (let i = at + 1; i <= at + length; i++) text += LABEL_TEXT[wire[i] ?? 0];
    at += length + 1;
  }
}

/** What follows the first label; undefined of the root. */
export function parentOf(name: string): string | undefined {
  if (name === '') return undefined;
  let dot = name.indexOf('.');
  while (dot > 0 && isEscaped(name, dot)) dot = name.indexOf('.', dot + 1);
  return dot < 0 ? '' : name.slice(dot + 1);
}

/** Whether an odd number of backslashes stands before it. */
function isEscaped(name: string, at: number): boolean {
  let before = at;
  while (name.charCodeAt(before - 1) === BACKSLASH) before--;
  return (at - before) % 2 === 1;
}

/** Whether `name` is `domain` or below it. */
export function isWithin(name: string, domain: string): boolean {
  if (name.length === domain.length) return name === domain;
  if (domain === '') return true;
  const dot = name.length - domain.length - 1;
  return name.charCodeAt(dot) === DOT && dot > 0 && name.endsWith(domain) && !isEscaped(name, dot);
}
