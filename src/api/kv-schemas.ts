/** What the API answers and takes about the key-value store; as schemas.ts. */
import * as z from 'zod';
import { parsePath, PATH_HINT } from '../state/kv-text.ts';
import type { Json, KvOperation, Path } from '../state/replica/kv.ts';
import { show, strict, text } from '../state/validate.ts';
import { flag } from './values.ts';

/** A guess: what a program may want to change as one, far below a transaction's limit. */
const OPERATIONS_MAX = 1000;
/** As deep as the store goes (state/replica/kv.ts). */
const DEPTH_MAX = 16;
/** One host's part of a counter (state/replica/kv.ts). */
const COUNT_MAX = 2 ** 42;

const names = z.array(z.string());

/** One of these by `type`; a flag that is not enabled is not there. */
const values = [
  z.object({ type: z.literal('register'), value: z.unknown() }),
  z.object({ type: z.literal('set'), elements: z.array(z.string()) }),
  z.object({ type: z.literal('flag'), enabled: z.literal(true) }),
  z.object({ type: z.literal('counter'), value: z.int() }),
] as const;

const value = z.discriminatedUnion('type', values);

export const kvAnswer = z.object({
  /** Registers, sets, flags and counters; a name may be there once of each. */
  entries: z.array(z.object({ path: names, value })),
});
export type KvAnswer = z.output<typeof kvAnswer>;

/** Also what each line of a stream is. */
export const kvChange = z.object({
  path: names,
  type: z.enum(['register', 'set', 'flag', 'counter']),
  /** Absent: it was not there. */
  before: value.optional(),
  /** Absent: it is gone. */
  after: value.optional(),
});
export type KvChangeAnswer = z.output<typeof kvChange>;

/** What the operations changed, as this host sees it; those that changed nothing are not there. */
export const kvWriteAnswer = z.object({ changes: z.array(kvChange) });
export type KvWriteAnswer = z.output<typeof kvWriteAnswer>;

const TYPES = ['register', 'set', 'flag', 'counter', 'map'] as const;

const type = z.enum(TYPES, {
  error: (issue) => `type ${show(issue.input)} is none of ${TYPES.join(', ')}`,
});

export const kvQuery = strict({
  /** Names with `/` between them; within one %2F is a slash and %25 a percent sign. */
  path: z
    .string()
    .transform((given, ctx): Path => {
      const path = given === '' ? [] : parsePath(given);
      if (path !== undefined && path.length <= DEPTH_MAX) return path;
      ctx.addIssue({ code: 'custom', message: `${show(given)} is no path: ${PATH_HINT}` });
      return z.NEVER;
    })
    .default([]),
  type: type.optional(),
  follow: flag.default(false),
  /** With follow: what is there already comes first, as changes from nothing. */
  initial: flag.default(false),
}).refine((query) => query.follow || !query.initial, { error: 'initial comes with follow' });

const path = z
  .array(text('name').min(1, { error: 'a name is empty' }), {
    error: (issue) => `path ${show(issue.input)} is no list of names, like ["config", "motd"]`,
  })
  .min(1, { error: 'path is empty' })
  .max(DEPTH_MAX, { error: `path has more than ${DEPTH_MAX} names` });

const by = z.int({ error: (issue) => `by ${show(issue.input)} is not a whole number` });

const operation = z.discriminatedUnion(
  'do',
  [
    strict({
      do: z.literal('set'),
      path,
      value: z.custom<Json>((given) => given !== undefined, { error: 'value is missing' }),
    }),
    strict({ do: z.enum(['add', 'remove']), path, element: text('element') }),
    strict({ do: z.enum(['enable', 'disable']), path }),
    strict({
      do: z.literal('increment'),
      path,
      by: by
        .min(-COUNT_MAX)
        .max(COUNT_MAX, { error: `by is outside ±${COUNT_MAX}` })
        .default(1),
    }),
    strict({ do: z.literal('delete'), path, type }),
  ],
  {
    error: (issue) =>
      issue.code === 'invalid_union'
        ? '"do" is none of set, add, remove, enable, disable, increment, delete'
        : `${show(issue.input)} is not an object with fields`,
  },
);

export const kvWriteBody = strict({
  operations: z
    .array(operation, { error: (issue) => `operations ${show(issue.input)} is not a list` })
    .min(1, { error: 'operations is empty' })
    .max(OPERATIONS_MAX, { error: `operations has more than ${OPERATIONS_MAX} items` }),
});

/** Checked by the compiler: what is taken is what the store knows. */
export function operationsOf(body: z.output<typeof kvWriteBody>): readonly KvOperation[] {
  return body.operations;
}
