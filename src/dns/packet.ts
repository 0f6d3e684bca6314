/**
 * Answers as bytes.
 */
import { TYPE } from './numbers.ts';
import type { Query } from './query.ts';

const HEADER_BYTES = 12;
/** Of an OPT record without options. */
export const OPT_BYTES = 11;
/** What this host takes over UDP: as DNS Flag Day 2020 recommends. */
const UDP_BYTES = 1232;

/** An answer with no records, with EDNS if the query had it. */
export function refusal(query: Query, rcode: number, isRecursionAllowed = false): Uint8Array {
  const { question } = query;
  const answer = new Uint8Array(
    HEADER_BYTES + question.length + (query.edns === undefined ? 0 : OPT_BYTES),
  );
  answer[0] = query.id >> 8;
  answer[1] = query.id;
  answer[2] = 0x80 | Number(query.isRecursionDesired);
  answer[3] =
    (isRecursionAllowed ? 0x80 : 0) | (query.isCheckingDisabled ? 0x10 : 0) | (rcode & 15);
  answer[5] = 1;
  answer.set(question, HEADER_BYTES);
  if (query.edns !== undefined) {
    answer[11] = 1;
    const at = HEADER_BYTES + question.length;
    answer[at + 2] = TYPE.OPT;
    answer[at + 3] = UDP_BYTES >> 8;
    answer[at + 4] = UDP_BYTES & 0xff;
    answer[at + 5] = rcode >> 4;
    answer[at + 7] = query.edns.isDnssecOk ? 0x80 : 0;
  }
  return answer;
}
