import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { servedEngine } from './kit.ts';

// A file of its own: the runner gives it a process, in which nobody else imports node:http.
const { client } = servedEngine();

test('the API and its client load neither undici nor ajv', async () => {
  await client.call('GET', '/v1/status');
  const builtin = (process as unknown as { moduleLoadList: readonly string[] }).moduleLoadList;
  const packages = Object.keys(createRequire(import.meta.url).cache);
  assert.deepEqual(
    [...builtin, ...packages].filter((name) => /undici|\/ajv/.test(name)),
    [],
  );
});
