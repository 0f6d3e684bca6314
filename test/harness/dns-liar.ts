/**
 * A name server that lies in every way it can: replies cut off, changed, of others, with records
 * that nobody asked for. Of names that end in victim.example it tells the truth, and of them its
 * lies are: who believes them has been poisoned.
 */
import { type Mutator, nameBytes, word } from './dns-mutations.ts';

export const LIAR_END = 'liar.example';
export const VICTIM_END = 'victim.example';
export const VICTIMS = 3;
const TRUTH = [192, 0, 2, 77];
const LIE = Buffer.from([6, 6, 6, 6]);
const HEADER_BYTES = 12;
/** A, IN, for 65,536 s, of four bytes. */
const A_RECORD = [0, 1, 0, 1, 0, 1, 0, 0, 0, 4] as const;

export const liarNames = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `n${i}.${LIAR_END}`);

export const victimAt = (n: number): string => `n${n}.${VICTIM_END}`;

/** An answer about a victim that the liar made. */
export const isPoisoned = (answer: Uint8Array): boolean => Buffer.from(answer).includes(LIE);

/** One address, to be kept for a second. */
function truth(question: Uint8Array): number[] {
  const head = [...question.subarray(0, 2), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
  const record = [0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...TRUTH];
  return [...head, ...question.subarray(HEADER_BYTES), ...record];
}

/** A reply that could be one, with records of the victims as answers, authority or more. */
function poisoned(question: Uint8Array, section: number): number[] {
  const lies = Array.from({ length: VICTIMS }, (_, n) => [
    ...nameBytes(victimAt(n)),
    ...A_RECORD,
    ...LIE,
  ]).flat();
  const counts = [1, 0, 0].map((count, nth) => word(nth === section ? count + VICTIMS : count));
  const own = [0xc0, HEADER_BYTES, ...A_RECORD, ...LIE];
  const head = [...question.subarray(0, 2), 0x81, 0x80, 0, 1, ...counts.flat()];
  return [...head, ...question.subarray(HEADER_BYTES), ...own, ...lies];
}

/** What it says to a query of a resolver, in this order. */
export function lies(query: Uint8Array, mutator: Mutator): Uint8Array[] {
  const { dice } = mutator;
  const end = query.indexOf(0, HEADER_BYTES) + 5;
  const question = query.subarray(0, end);
  const name = Buffer.from(question.subarray(HEADER_BYTES)).toString('latin1').toLowerCase();
  if (name.includes('victim')) return [Uint8Array.from(truth(question))];
  const whole = Uint8Array.from(poisoned(question, dice.below(3)));
  const said: Uint8Array[] = [];
  // What is believed ends it: lies that are no replies come first.
  for (let times = dice.below(4); times > 0; times--)
    said.push(mutator.mutated(whole, dice.pick([0, 2, HEADER_BYTES, end])));
  if (dice.below(100) > 0) said.push(whole);
  return said;
}
