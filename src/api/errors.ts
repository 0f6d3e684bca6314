/**
 * Problems as HTTP answers (RFC 9110, 15).
 */
import type { Problem, ProblemCode } from '../state/problem.ts';
import type { ErrorAnswer } from './schemas.ts';

const STATUS: Readonly<Record<ProblemCode, number>> = {
  invalid: 400,
  'unknown-field': 400,
  'not-found': 404,
  conflict: 409,
  limit: 507,
  store: 507,
  kernel: 500,
  unavailable: 503,
};

export interface ErrorReply {
  readonly status: number;
  readonly body: ErrorAnswer;
}

/** All problems in one answer; the first gives the code and the status. */
export function replyOfProblems(problems: readonly Problem[]): ErrorReply {
  const code = problems[0]?.code ?? 'invalid';
  const message = problems.map((problem) => problem.message).join('; ');
  return { status: STATUS[code], body: { error: { code, message, problems: [...problems] } } };
}

/** A request that HTTP itself refuses: too large, not JSON, no such path. */
export function replyOfHttp(
  status: number,
  code: string,
  message: string,
  hint?: string,
): ErrorReply {
  const problem = { code, message, ...(hint === undefined ? {} : { hint }) };
  return { status, body: { error: { code, message, problems: [problem] } } };
}
