// A reporter for `node --test`: a line of JSON for each test, for the matrix of kernels to count. On stderr, at once, why
// one failed: spec says it at the end, which a guest that hangs or dies never comes to. Loaded by Node itself.
import { inspect } from 'node:util';
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

/** One test, or one file that failed as a whole. */
export interface TestResult {
  readonly file: string;
  readonly name: string;
  readonly outcome: 'pass' | 'fail' | 'skip';
  /** Why it was skipped. */
  readonly reason?: string;
  readonly ms: number;
}

type Failure = Extract<TestEvent, { type: 'test:fail' }>['data'];

/** The error comes from another process, and has lost its class. */
function isAssertion(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'ERR_ASSERTION';
}

function whyFailed({ name, details: { error } }: Failure): string {
  const cause: unknown = error.cause ?? error;
  // inspect() tells causes too, but of a failed assertion much that its message has already.
  const text = isAssertion(cause) ? (cause.stack ?? cause.message) : inspect(cause);
  return `${name}:\n${text.replaceAll(/^/gm, '    ')}\n`;
}

// oxlint-disable-next-line import/no-default-export -- what Node asks for
export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { name, file, skip, todo, details } = event.data;
    if (details.type === 'suite') continue;
    const skipped = skip !== undefined && skip !== false;
    const undone = todo !== undefined && todo !== false;
    const result: TestResult = {
      file: relative(process.cwd(), file ?? name),
      name,
      outcome: skipped || undone ? 'skip' : event.type === 'test:pass' ? 'pass' : 'fail',
      ms: Math.round(details.duration_ms),
      ...(skipped || undone ? { reason: String(skipped ? skip : `to do: ${String(todo)}`) } : {}),
    };
    if (event.type === 'test:fail' && result.outcome === 'fail')
      process.stderr.write(whyFailed(event.data));
    yield `${JSON.stringify(result)}\n`;
  }
}
