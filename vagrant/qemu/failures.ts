// A reporter for `node --test`: why a test failed, at once. The other reporters say it at the end, which a guest that
// hangs or dies never comes to. Loaded by Node itself.
import { inspect } from 'node:util';
import type { TestEvent } from 'node:test/reporters';

// The error comes from another process, and has lost its class.
const isAssertion = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && error.code === 'ERR_ASSERTION';

// oxlint-disable-next-line import/no-default-export -- what Node asks for
export default async function* failures(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type !== 'test:fail' || event.data.todo !== undefined) continue;
    const { name, details } = event.data;
    // A test around others that failed says only that.
    if ('failureType' in details.error && details.error.failureType === 'subtestsFailed') continue;
    const cause: unknown = details.error.cause ?? details.error;
    // inspect() tells causes too, but of a failed assertion much that its message has already.
    const text = isAssertion(cause) ? (cause.stack ?? cause.message) : inspect(cause);
    yield `${name}:\n${text.replaceAll(/^/gm, '    ')}\n`;
  }
}
