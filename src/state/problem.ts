/**
 * Why a request cannot be done: for people (message, hint) and for programs
 * (code, path). Thrown as one error with everything that was wrong at once.
 */

export type ProblemCode =
  | 'invalid'
  | 'unknown-field'
  | 'not-found'
  | 'conflict'
  | 'limit'
  | 'store'
  | 'kernel'
  | 'unavailable';

export interface Problem {
  readonly code: ProblemCode;
  /** What was wrong, naming the value: `port 70000 is outside 1–65535`. */
  readonly message: string;
  /** Where: a field path (`ports[0].port`) or file position (`web.yaml:7:3`). */
  readonly path?: string;
  /** What to do about it. */
  readonly hint?: string;
}

export class ProblemError extends Error {
  override readonly name: string = 'ProblemError';
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[], options?: ErrorOptions) {
    super(problems.map((problem) => problem.message).join('; '), options);
    this.problems = problems;
  }
}

/** In one line, with what to do about it. */
export function whyText(error: unknown): string {
  if (!(error instanceof ProblemError))
    return error instanceof Error ? error.message : String(error);
  return error.problems
    .map(({ message, hint }) => (hint === undefined ? message : `${message}: ${hint}`))
    .join('; ');
}
