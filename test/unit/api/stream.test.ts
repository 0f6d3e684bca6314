/** Answers that go on: GET /v1/acl-log?follow=true. */
import assert from 'node:assert/strict';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ApiClient } from '../../../src/api/io/client.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { denial } from './fake-acls.ts';
import { servedEngine } from './kit.ts';

const path = '/v1/acl-log?follow=true';
const { engine, socketPath } = servedEngine();

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(5);
}

function open(): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path, agent: false }, resolve).on('error', reject).end();
  });
}

test('a follower gets every value as a line of JSON', { timeout: 10_000 }, async () => {
  const answer = await open();
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers['content-type'], 'application/x-ndjson');
  let text = '';
  answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  for (const follower of engine.acls.followers) {
    follower.entry(denial);
    follower.dropped(3);
  }
  await until(() => text.split('\n').length === 3);
  assert.equal(text, `${JSON.stringify(denial)}\n{"dropped":3}\n`);
  answer.destroy();
  await until(() => engine.acls.followers.size === 0);
});

test(
  'a reader that does not read loses values, is told how many, and costs bounded memory',
  { timeout: 20_000 },
  async () => {
    const socket = connect(socketPath);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await until(() => engine.acls.followers.size === 1);
    const [follower] = engine.acls.followers;
    const entries = 20_000;
    for (let i = 0; i < entries; i++) follower?.entry({ ...denial, time: `${i}` });
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await until(() => text.includes('{"dropped":'));
    const dropped = Number(/\{"dropped":(\d+)\}/.exec(text)?.[1]);
    const seen = text.split('"time":').length - 1;
    // 20,000 entries are 8 MB; the queue has 1 MiB.
    assert.ok(seen < 5000, `${seen} were kept for it`);
    assert.equal(seen + dropped, entries);
    socket.destroy();
    await until(() => engine.acls.followers.size === 0);
  },
);

test('a wrong question is refused as any other request', async () => {
  const client = new ApiClient(socketPath);
  await assert.rejects(
    client.lines('/v1/acl-log', { follow: true, rule: '_' }, () => undefined),
    (error) => error instanceof ProblemError && /rule/.test(error.message),
  );
});

test('the thirty-third stream is refused', { timeout: 10_000 }, async () => {
  const answers = await Promise.all(Array.from({ length: 32 }, open));
  const client = new ApiClient(socketPath);
  await assert.rejects(
    client.lines('/v1/acl-log', { follow: true }, () => undefined),
    /32 streams are open already/,
  );
  assert.equal(engine.acls.followers.size, 32);
  for (const answer of answers) answer.destroy();
  await until(() => engine.acls.followers.size === 0);
});
