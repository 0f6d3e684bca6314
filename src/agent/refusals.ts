/** What the kernel did not take. */
import { ProblemError, whyText, type Problem } from '../state/problem.ts';

/** Of what was stored while the rules do not fit. */
export const NOT_APPLIED: Problem = {
  code: 'limit',
  message: 'stored, and told to the other hosts; not in this kernel until the rules fit',
  hint: 'see zerohop status',
};

/** Something has no room in the kernel's tables; nothing was changed. */
export function isLimit(error: unknown): error is ProblemError {
  return error instanceof ProblemError && error.problems.some(({ code }) => code === 'limit');
}

/** To who wrote what is stored and not there. */
export function refusedByKernel(error: unknown): ProblemError {
  const message = `stored, but not in the kernel yet: ${whyText(error)}`;
  const hint = 'the agent tries again in a second, and at every full check; see zerohop status';
  return new ProblemError([{ code: 'kernel', message, hint }], { cause: error });
}
