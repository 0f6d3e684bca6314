// A reporter for `node --test`: a line of JSON for each test, for the matrix of kernels to count. Loaded by Node itself.
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
    yield `${JSON.stringify(result)}\n`;
  }
}
