/**
 * What the command line prints, and how it fails: results on standard output,
 * everything else on standard error, an exit code that scripts can rely on.
 */
import { writeSync } from 'node:fs';
import type { OutcomeAnswer } from '../api/schemas.ts';
import { ProblemError, type Problem } from '../state/problem.ts';

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_UNREACHABLE = 3;

/** A value on the command line that makes no sense: exit code 2. */
export class UsageError extends ProblemError {
  constructor(message: string, hint?: string) {
    super([{ code: 'invalid', message, ...(hint === undefined ? {} : { hint }) }]);
  }
}

function write(fd: number, text: string): void {
  let bytes: Uint8Array = Buffer.from(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // A pipe that another program made non-blocking and that is full: wait for its reader.
      if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      // The reader has seen enough (`zerohop … | head`).
      else if (code === 'EPIPE') return;
      else throw error;
    }
  }
}

/** One line, or several, on standard output. */
export function print(text: string): void {
  write(1, text.endsWith('\n') ? text : `${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

/** `1 rule`, `2 rules`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** On standard error: not part of the result. */
export function note(text: string): void {
  write(2, `${text}\n`);
}

interface Told {
  readonly message: string;
  readonly path?: string | undefined;
  readonly hint?: string | undefined;
}

function linesOf(problem: Told): string {
  const where =
    problem.path === undefined || problem.message.includes(problem.path) ? '' : `${problem.path}: `;
  const hint = problem.hint === undefined ? '' : `\n  ${problem.hint}`;
  return `${where}${problem.message}${hint}`;
}

function problemsOf(error: unknown): readonly Problem[] {
  if (error instanceof ProblemError) return error.problems;
  const message = error instanceof Error ? error.message : String(error);
  return [{ code: 'unavailable', message }];
}

/** Tells why a command failed; returns the exit code. */
export function report(error: unknown, json: boolean): number {
  const problems = problemsOf(error);
  if (json) {
    const message = problems.map((problem) => problem.message).join('; ');
    const code = problems[0]?.code ?? 'invalid';
    note(JSON.stringify({ error: { code, message, problems } }, undefined, 2));
  } else {
    for (const problem of problems) note(`zerohop: ${linesOf(problem)}`);
  }
  if (process.env['ZEROHOP_STACK'] !== undefined && error instanceof Error) note(error.stack ?? '');
  if (error instanceof UsageError) return EXIT_USAGE;
  // By name, so that the client need not be loaded to tell.
  return error instanceof Error && error.name === 'UnreachableError'
    ? EXIT_UNREACHABLE
    : EXIT_FAILED;
}

/** More lines than this help nobody; --json has them all. */
const CHANGE_LINES_MAX = 50;

const DONE = { create: 'created', update: 'updated', remove: 'removed' } as const;

/** What a change did, one line per thing. */
export function printOutcome(outcome: OutcomeAnswer, json: boolean): void {
  if (json) {
    printJson(outcome);
    return;
  }
  for (const warning of outcome.warnings) note(`zerohop: warning: ${linesOf(warning)}`);
  if (outcome.changes.length === 0) {
    print('nothing to change');
    return;
  }
  for (const change of outcome.changes.slice(0, CHANGE_LINES_MAX)) {
    const what = outcome.dryRun ? `would ${change.action}` : DONE[change.action];
    print(`${what} ${change.kind} ${change.name}`);
  }
  const more = outcome.changes.length - CHANGE_LINES_MAX;
  if (more > 0) print(`… and ${more} more (--json lists all)`);
}
