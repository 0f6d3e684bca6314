/** What the key-value store refuses over HTTP, and what its streams want. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { complaint, servedEngine } from './kit.ts';

const { engine, client } = servedEngine();

const OPERATIONS: readonly (readonly [string, unknown, string])[] = [
  ['no list', 1, 'invalid operations: operations 1 is not a list'],
  ['an empty list', [], 'invalid operations: operations is empty'],
  [
    'an unknown one',
    [{ do: 'push', path: ['a'] }],
    'invalid operations[0].do: "do" is none of set, add, remove, enable, disable, increment, delete',
  ],
  [
    'a set without a value',
    [{ do: 'set', path: ['a'] }],
    'invalid operations[0].value: value is missing',
  ],
  [
    'a path as text',
    [{ do: 'enable', path: 'a/b' }],
    'invalid operations[0].path: path "a/b" is no list of names, like ["config", "motd"]',
  ],
  ['an empty path', [{ do: 'enable', path: [] }], 'invalid operations[0].path: path is empty'],
  [
    'an empty name',
    [{ do: 'enable', path: ['a', ''] }],
    'invalid operations[0].path[1]: a name is empty',
  ],
  [
    'half a step',
    [{ do: 'increment', path: ['a'], by: 0.5 }],
    'invalid operations[0].by: by 0.5 is not a whole number',
  ],
  [
    'a field too many',
    [{ do: 'enable', path: ['a'], value: 1 }],
    'unknown-field operations[0].value: unknown field "value"',
  ],
  [
    'a delete of no type',
    [{ do: 'delete', path: ['a'] }],
    'invalid operations[0].type: type nothing is none of register, set, flag, counter, map',
  ],
  [
    'half a character',
    [{ do: 'add', path: ['a'], element: '\ud800' }],
    'invalid -: a name or element has half a character (a lone UTF-16 surrogate)',
  ],
];

for (const [what, operations, expected] of OPERATIONS) {
  test(`operations: ${what} is refused, and nothing is written`, async () => {
    assert.equal(await complaint(client.call('POST', '/v1/kv', {}, { operations })), expected);
    assert.deepEqual(engine.kv.read([]), []);
  });
}

test('a thousand operations are one, a thousand and one are too many', async () => {
  const of = (count: number): object[] =>
    Array.from({ length: count }, (_, i) => ({ do: 'enable', path: [`${i}`] }));
  assert.match(
    await complaint(client.call('POST', '/v1/kv', {}, { operations: of(1001) })),
    /operations has more than 1000 items/,
  );
  const { changes } = await client.call<{ changes: unknown[] }>(
    'POST',
    '/v1/kv',
    {},
    { operations: of(1000) },
  );
  assert.equal(changes.length, 1000);
  await engine.kv.write(of(1000).map((_, i) => ({ do: 'delete', path: [`${i}`], type: 'flag' })));
});

test('a question that makes no sense is refused, also by a stream', async () => {
  const get = (query: object): Promise<unknown> => client.call('GET', '/v1/kv', { ...query });
  assert.match(await complaint(get({ path: 'a//b' })), /"a\/\/b" is no path: write names/);
  assert.match(await complaint(get({ path: '50%' })), /is no path/);
  assert.match(await complaint(get({ type: 'list' })), /type "list" is none of/);
  assert.equal(await complaint(get({ initial: true })), 'invalid -: initial comes with follow');
  assert.equal(await complaint(get({ path: 'a/b' })), 'not-found -: there is nothing at a/b');
  assert.match(
    await complaint(client.lines('/v1/kv', { follow: true, path: '/' }, () => undefined)),
    /is no path/,
  );
  assert.deepEqual(await get({}), { entries: [] });
});

test('a stream of one type has only changes at its path', { timeout: 10_000 }, async () => {
  await engine.kv.write([{ do: 'set', path: ['a'], value: 1 }]);
  const lines: unknown[] = [];
  const query = { path: 'a', type: 'register', follow: true, initial: true };
  await new Promise<void>((resolve) => {
    const done = client.lines('/v1/kv', query, (line) => {
      lines.push(JSON.parse(line));
      if (lines.length === 1) {
        void engine.kv.write([
          { do: 'increment', path: ['a'], by: 1 },
          { do: 'set', path: ['a', 'b'], value: 2 },
          { do: 'delete', path: ['a'], type: 'register' },
        ]);
      } else {
        resolve();
      }
    });
    // The end of the server ends it.
    done.catch(() => undefined);
  });
  assert.deepEqual(lines, [
    { path: ['a'], type: 'register', after: { type: 'register', value: 1 } },
    { path: ['a'], type: 'register', before: { type: 'register', value: 1 } },
  ]);
});
