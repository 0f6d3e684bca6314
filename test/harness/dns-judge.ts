/**
 * Whether bytes are an answer to others, by the rules of RFC 1035 and RFC 6891 alone: written
 * apart from src/dns, and quick enough for millions. What records hold is for dnspython to say.
 */

const HEADER_BYTES = 12;
const NAME_BYTES_MAX = 255;
const OPT = 41;

const wordAt = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** Where the name at `at` ends; -1 if it is none, or points anywhere but back. */
function nameEnd(bytes: Uint8Array, at: number): number {
  let end = -1;
  let total = 0;
  for (let next = at, first = at; ;) {
    const length = bytes[next];
    if (length === undefined) return -1;
    if (length >= 0xc0) {
      const to = wordAt(bytes, next) & 0x3fff;
      if (next + 1 >= bytes.length || to >= first || to < HEADER_BYTES) return -1;
      if (end < 0) end = next + 2;
      next = first = to;
      continue;
    }
    if (length > 63) return -1;
    total += length + 1;
    if (total > NAME_BYTES_MAX) return -1;
    next += length + 1;
    if (length === 0) return end < 0 ? next : end;
  }
}

/** Of an answer with these counts; undefined: it is whole. */
function faultOfRecords(bytes: Uint8Array, start: number): string | undefined {
  let at = start;
  let opts = 0;
  const [answers, authorities, additionals] = [6, 8, 10].map((count) => wordAt(bytes, count));
  const first = (answers ?? 0) + (authorities ?? 0);
  const count = first + (additionals ?? 0);
  for (let i = 0; i < count; i++) {
    const fixed = nameEnd(bytes, at);
    if (fixed < 0 || fixed + 10 > bytes.length) return `record ${i} has no name`;
    if (wordAt(bytes, fixed) === OPT) {
      opts++;
      if (i < first || bytes[at] !== 0) return 'an OPT where none belongs';
    }
    at = fixed + 10 + wordAt(bytes, fixed + 8);
    if (at > bytes.length) return `record ${i} is cut off`;
  }
  if (opts > 1) return `${opts} OPT`;
  return at === bytes.length ? undefined : `${bytes.length - at} bytes after the last record`;
}

/** What is wrong with an answer of at most so many bytes; undefined: nothing. */
export function faultOfAnswer(
  asked: Uint8Array,
  answer: Uint8Array,
  bytesMax: number,
): string | undefined {
  if (asked.length < HEADER_BYTES) return 'an answer to no message';
  if ((asked[2] ?? 0) >= 0x80) return 'an answer to an answer';
  if (answer.length < HEADER_BYTES) return `an answer of ${answer.length} bytes`;
  if (answer.length > bytesMax) return `${answer.length} bytes of ${bytesMax}`;
  if ((answer[2] ?? 0) < 0x80) return 'an answer without QR';
  if (wordAt(answer, 0) !== wordAt(asked, 0)) return 'another id';
  if (((answer[2] ?? 0) & 0x78) !== ((asked[2] ?? 0) & 0x78)) return 'another opcode';
  const questions = wordAt(answer, 4);
  if (questions > 1) return `${questions} questions`;
  if (questions === 0) return faultOfRecords(answer, HEADER_BYTES);
  const end = nameEnd(answer, HEADER_BYTES) + 4;
  if (end < HEADER_BYTES + 5 || end > answer.length) return 'no question where one is';
  for (let at = HEADER_BYTES; at < end; at++)
    if (answer[at] !== asked[at]) return 'another question';
  return faultOfRecords(answer, end);
}
