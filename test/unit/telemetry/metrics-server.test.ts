/** `GET /metrics` over TCP, with clients that nobody let in. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request, type IncomingHttpHeaders } from 'node:http';
import { connect, createServer, type AddressInfo } from 'node:net';
import { afterEach, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { startMetrics, type MetricsServer } from '../../../src/telemetry/io/metrics-server.ts';
import { eventually } from '../../harness/eventually.ts';

const LIMITS = {
  headersTimeoutMs: 300,
  idleTimeoutMs: 600,
  keepAliveTimeoutMs: 300,
  connectionsMax: 4,
  sameTextMs: 0,
  retryMs: 20,
};

const said: { level: string; message: string }[] = [];
const log = {
  info: (_fields: object, message: string): void => void said.push({ level: 'info', message }),
  error: (_fields: object, message: string): void => void said.push({ level: 'error', message }),
};
const open: MetricsServer[] = [];

afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
  said.splice(0);
});

async function start(
  read: () => Promise<string>,
  limits: Partial<typeof LIMITS> = {},
  port = 0,
): Promise<MetricsServer> {
  const options = { host: '127.0.0.1', port, log, limits: { ...LIMITS, ...limits } };
  const server = startMetrics(read, options);
  open.push(server);
  if (port === 0) await eventually('the port', () => server.port());
  return server;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
}

async function ask(server: MetricsServer, method: string, path: string): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    const port = server.port() ?? 0;
    const outgoing = request({ host: '127.0.0.1', port, method, path, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, text, headers: answer.headers }),
      );
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

/** Sends bytes as they are; resolves with all that came back when the server hung up. */
async function raw(server: MetricsServer, bytes: string): Promise<string> {
  return await new Promise((resolve) => {
    const socket = connect(server.port() ?? 0, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    socket.on('error', () => undefined).on('close', () => resolve(text));
    socket.write(bytes);
  });
}

test('GET /metrics answers the text, with the type that Prometheus asks for', async () => {
  const server = await start(() => Promise.resolve('a 1\n'));
  const { status, text, headers } = await ask(server, 'GET', '/metrics');
  assert.deepEqual([status, text], [200, 'a 1\n']);
  assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  assert.equal((await ask(server, 'GET', '/metrics?collect=all')).status, 200);
});

test('nothing else is served', async () => {
  let reads = 0;
  const server = await start(() => Promise.resolve(`${++reads}`));
  for (const path of [
    '/',
    '/v1/status',
    '/v1/kv',
    '/metrics/',
    '/metrics/../v1/status',
    '//metrics',
  ])
    assert.equal((await ask(server, 'GET', path)).status, 404, path);
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS']) {
    const { status, headers } = await ask(server, method, '/metrics');
    assert.deepEqual([status, headers.allow], [405, 'GET'], method);
  }
  assert.equal(reads, 0);
});

test('a reading that fails is answered with 500, logged, and tells nothing of its inside', async () => {
  const server = await start(() => Promise.reject(new Error('secret')));
  const { status, text } = await ask(server, 'GET', '/metrics');
  assert.equal(status, 500);
  assert.doesNotMatch(text, /secret/);
  assert.ok(said.some(({ level }) => level === 'error'));
});

test('who asks again at once gets the same reading', async () => {
  let reads = 0;
  const server = await start(() => Promise.resolve(`${++reads}`), { sameTextMs: 3_600_000 });
  const answers = await Promise.all([1, 2, 3].map(() => ask(server, 'GET', '/metrics')));
  assert.deepEqual(
    answers.map(({ text }) => text),
    ['1', '1', '1'],
  );
  const fresh = await start(() => Promise.resolve(`${++reads}`));
  assert.equal((await ask(fresh, 'GET', '/metrics')).text, '2');
  assert.equal((await ask(fresh, 'GET', '/metrics')).text, '3');
});

test('large headers, slow headers, garbage and too many connections harm nobody', async () => {
  const server = await start(() => Promise.resolve('a 1\n'));
  assert.match(
    await raw(server, `GET /metrics HTTP/1.1\r\nx: ${'x'.repeat(9000)}\r\n\r\n`),
    /^HTTP\/1\.1 431/,
  );
  assert.match(await raw(server, 'GET /metrics HTTP/1.1\r\nhost:'), /^HTTP\/1\.1 408/);
  assert.match(await raw(server, 'hello\r\n\r\n'), /^HTTP\/1\.1 400/);
  const body = 'POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n';
  assert.match(await raw(server, body), /^HTTP\/1\.1 405/);
  const idle = Array.from({ length: 6 }, () => connect(server.port() ?? 0, '127.0.0.1'));
  // Read, or a socket does not see its end.
  for (const socket of idle) socket.resume().on('error', () => undefined);
  await Promise.all(idle.map((socket) => once(socket, 'close')));
  assert.equal((await ask(server, 'GET', '/metrics')).status, 200);
});

test('a port that is taken is said once and tried again until it is free', async () => {
  const other = createServer();
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const server = await start(() => Promise.resolve('a 1\n'), {}, port);
  await eventually('a word of it', () => said.length > 0);
  await pause(5 * LIMITS.retryMs);
  assert.equal(server.port(), undefined);
  assert.deepEqual(
    said.map(({ level }) => level),
    ['error'],
  );
  other.close();
  await eventually('the port', () => server.port());
  assert.equal((await ask(server, 'GET', '/metrics')).text, 'a 1\n');
  assert.deepEqual(
    said.map(({ level }) => level),
    ['error', 'info'],
  );
});

test('a server that never got its port can be closed', async () => {
  const other = createServer();
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const server = await start(() => Promise.resolve(''), {}, port);
  await eventually('a word of it', () => said.length > 0);
  await server.close();
  other.close();
  await once(other, 'close');
  await pause(5 * LIMITS.retryMs);
  assert.equal(server.port(), undefined, 'it went on trying');
});
