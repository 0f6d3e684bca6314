/** Kinds of values that several schemas have. */
import * as z from 'zod';
import { show } from '../state/validate.ts';

export const count = z.int().min(0);
export const textList = z.array(z.string());

/** In a query: `?dryRun=true`, and `?dryRun` alone. */
export const flag = z
  .enum(['true', 'false', '1', '0', ''], {
    error: (issue) => `${show(issue.input)} is neither true nor false`,
  })
  .transform((value) => value !== 'false' && value !== '0');
