// A reporter for `node --test`: why a test failed, at once. The other reporters say it at the end, which a guest that
// hangs or dies never comes to. Loaded by Node itself.
import { AssertionError } from 'node:assert';
import { inspect } from 'node:util';
import type { TestEvent } from 'node:test/reporters';

// oxlint-disable-next-line import/no-default-export -- what Node asks for
export default async function* failures(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type !== 'test:fail' || event.data.todo !== undefined) continue;
    const { name, details } = event.data;
    // A test around others that failed says only that.
    if ('failureType' in details.error && details.error.failureType === 'subtestsFailed') continue;
    const cause: unknown = details.error.cause ?? details.error;
    // inspect() tells causes too, but of a failed assertion much that its message has already.
    const text = cause instanceof AssertionError ? (cause.stack ?? cause.message) : inspect(cause);
    yield `${name}:\n${text.replaceAll(/^/gm, '    ')}\n`;
  }
}
