import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { ApiClient, UnreachableError } from '../../../src/api/io/client.ts';
import { startApi, type ApiServer } from '../../../src/api/io/server.ts';
import { errorAnswer } from '../../../src/api/schemas.ts';
import { ROUTES } from '../../../src/api/routes.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { WORD } from './fake-cluster.ts';
import { FakeEngine } from './fake-engine.ts';

const directory = mkdtempSync(join(tmpdir(), 'zerohop-api-'));
const socketPath = join(directory, 'agent.sock');
const bugs: object[] = [];
const log = { debug: () => undefined, error: (fields: object) => void bugs.push(fields) };
const LIMITS = {
  headersTimeoutMs: 300,
  requestTimeoutMs: 600,
  keepAliveTimeoutMs: 300,
  idleTimeoutMs: 900,
  connectionsMax: 20,
  stopTimeoutMs: 200,
};

let engine: FakeEngine;
let api: ApiServer;

async function start(path = socketPath): Promise<ApiServer> {
  return await startApi(engine, { socketPath: path, version: '1.2.3', log, limits: LIMITS });
}

before(async () => {
  engine = new FakeEngine();
  api = await start();
});
beforeEach(() => void bugs.splice(0));
after(async () => {
  await api.close();
  rmSync(directory, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly json: unknown;
}

async function ask(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const type: Record<string, string> =
      text === undefined ? {} : { 'content-type': 'application/json' };
    const outgoing = request(
      { socketPath, method, path, headers: { ...type, ...headers } },
      (incoming) => {
        let all = '';
        incoming.setEncoding('utf8').on('data', (chunk: string) => (all += chunk));
        incoming.on('end', () => {
          const type = incoming.headers['content-type'] ?? '';
          const json: unknown = type.startsWith('application/json') ? JSON.parse(all) : all;
          resolve({ status: incoming.statusCode ?? 0, text: all, json });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(text);
  });
}

/** Sends bytes as they are; resolves with all that came back when the server hung up. */
async function raw(...pieces: (string | Buffer)[]): Promise<string> {
  return await new Promise((resolve) => {
    const socket = connect(socketPath);
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    socket.on('error', () => undefined).on('close', () => resolve(text));
    for (const piece of pieces) socket.write(piece);
  });
}

async function stillServes(): Promise<void> {
  assert.equal((await ask('GET', '/v1/status')).status, 200);
}

const KV_OPERATIONS = [
  { do: 'set', path: ['a', 'register'], value: { any: ['json', null] } },
  { do: 'add', path: ['a', 'set'], element: 'x' },
  { do: 'enable', path: ['a', 'flag'] },
  { do: 'increment', path: ['a', 'counter'], by: -2 },
  { do: 'increment', path: ['a', 'counter'] },
  { do: 'remove', path: ['a', 'set'], element: 'y' },
  { do: 'disable', path: ['a', 'other'] },
  { do: 'delete', path: ['b'], type: 'map' },
];

test('every answer keeps the schema that the description promises', async () => {
  const service = { name: 'schema', ports: [{ port: 80 }] };
  const steps: readonly (readonly [string, string, string, unknown?])[] = [
    ['POST', '/v1/services', '/v1/services', service],
    ['PUT', '/v1/services/{name}', '/v1/services/schema', { ports: [{ port: 80 }, { port: 81 }] }],
    [
      'PUT',
      '/v1/services/{name}/backends/{endpoint}',
      '/v1/services/schema/backends/10.0.0.1:80?portName=tcp-80',
      {},
    ],
    [
      'PUT',
      '/v1/services/{name}/backends/{endpoint}',
      '/v1/services/schema/backends/%5Bfd00::1%5D:80?portName=tcp-80',
      { owner: { pid: 1, startTicks: 1, bootId: 'x', command: 'y' } },
    ],
    [
      'PATCH',
      '/v1/services/{name}/backends/{endpoint}',
      '/v1/services/schema/backends/10.0.0.1:80',
      { state: 'draining' },
    ],
    ['GET', '/v1/services', '/v1/services'],
    ['GET', '/v1/services/{name}', '/v1/services/schema'],
    ['GET', '/v1/backends', '/v1/backends?service=schema'],
    ['GET', '/v1/status', '/v1/status'],
    ['GET', '/metrics', '/metrics'],
    [
      'PUT',
      '/v1/acls/{name}',
      '/v1/acls/ghost',
      { to: { service: 'schema' }, from: [{ unit: 'a.service' }, { user: 0 }], action: 'deny' },
    ],
    ['GET', '/v1/acls', '/v1/acls'],
    ['GET', '/v1/acls/{name}', '/v1/acls/ghost'],
    ['GET', '/v1/acl-log', '/v1/acl-log?rule=ghost&limit=5'],
    ['POST', '/v1/acl-test', '/v1/acl-test', { from: { pid: 1 }, to: { endpoint: '10.0.0.1:80' } }],
    ['GET', '/v1/cluster', '/v1/cluster'],
    ['POST', '/v1/cluster/join', '/v1/cluster/join', { address: '10.0.0.2', token: WORD }],
    ['GET', '/v1/members', '/v1/members'],
    ['GET', '/v1/routes', '/v1/routes'],
    ['POST', '/v1/cluster/revocations', '/v1/cluster/revocations', { node: 'web2', reason: 'r' }],
    ['DELETE', '/v1/cluster', '/v1/cluster'],
    ['POST', '/v1/cluster', '/v1/cluster'],
    ['POST', '/v1/cluster/tokens', '/v1/cluster/tokens', {}],
    ['GET', '/v1/cluster/tokens', '/v1/cluster/tokens'],
    ['DELETE', '/v1/cluster/tokens/{id}', '/v1/cluster/tokens/00112233445566aa'],
    ['POST', '/v1/kv', '/v1/kv', { operations: KV_OPERATIONS }],
    ['GET', '/v1/kv', '/v1/kv?path=a'],
    ['GET', '/v1/dns/status', '/v1/dns/status'],
    ['GET', '/v1/dns/zone', '/v1/dns/zone?type=A'],
    ['POST', '/v1/dns/query', '/v1/dns/query', { name: '240.0.0.1' }],
    ['POST', '/v1/dns/flush', '/v1/dns/flush', {}],
    ['POST', '/v1/dns/records', '/v1/dns/records', { name: 'a.b', type: 'TXT', data: 'x' }],
    ['PUT', '/v1/dns/records/{name}/{type}', '/v1/dns/records/a.b/MX', { data: '10 a', ttl: 5 }],
    ['GET', '/v1/dns/records', '/v1/dns/records'],
    ['GET', '/v1/export', '/v1/export'],
    ['DELETE', '/v1/dns/records/{name}/{type}', '/v1/dns/records/a.b/MX'],
    ['DELETE', '/v1/dns/records/{name}', '/v1/dns/records/a.b'],
    ['DELETE', '/v1/acls/{name}', '/v1/acls/ghost'],
    [
      'POST',
      '/v1/apply',
      '/v1/apply?dryRun=true',
      { documents: [{ kind: 'service', ...service }] },
    ],
    [
      'DELETE',
      '/v1/services/{name}/backends/{endpoint}',
      '/v1/services/schema/backends/10.0.0.1:80',
    ],
    ['DELETE', '/v1/services/{name}', '/v1/services/schema'],
  ];
  const seen = new Set<string>();
  for (const [method, template, path, body] of steps) {
    const route =
      ROUTES.find((one) => one.method === method && one.path === template) ?? assert.fail(template);
    const answer = await ask(method, path, body);
    assert.equal(answer.status, route.status, answer.text);
    assert.deepEqual(route.answer.parse(answer.json), answer.json);
    seen.add(`${method} ${template}`);
  }
  assert.equal(seen.size, ROUTES.length, 'a route is not tried here');
});

test('no name that somebody gives is taken for a path of the API', async () => {
  const parts = ROUTES.map(({ path }) => path.split('/'));
  for (const named of parts) {
    for (const other of parts) {
      const meet =
        named.length === other.length &&
        named.every((part, i) => part === other[i] || part.startsWith('{'));
      if (meet) assert.equal(other.join('/'), named.join('/'));
    }
  }
  for (const name of ['log', 'test', 'acl']) {
    const rule = { to: { ports: ['25/tcp'] }, action: 'deny' };
    assert.equal((await ask('PUT', `/v1/acls/${name}`, rule)).status, 200);
    const { json } = await ask('GET', `/v1/acls/${name}`);
    assert.equal((json as { acl: { name: string } }).acl.name, name);
    assert.equal((await ask('DELETE', `/v1/acls/${name}`)).status, 200);
  }
});

test('the description is OpenAPI 3.1 with every route in it', async () => {
  const { json } = await ask('GET', '/v1/openapi.json');
  const description = json as {
    openapi: string;
    info: { version: string };
    paths: Record<string, Record<string, unknown>>;
  };
  assert.equal(description.openapi, '3.1.0');
  assert.equal(description.info.version, '1.2.3');
  for (const { method, path } of ROUTES)
    assert.ok(description.paths[path]?.[method.toLowerCase()], `${method} ${path}`);
});

test('the README names every path', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../src/api/README.md'), 'utf8');
  for (const { method, path } of ROUTES)
    assert.ok(text.includes(`\`${method} ${path}\``), `${method} ${path}`);
});

const REFUSED: readonly (readonly [
  string,
  number,
  string,
  string,
  string,
  unknown?,
  Record<string, string>?,
])[] = [
  ['a path that is not there', 404, 'not-found', 'GET', '/v2/status'],
  ['a method that a path has not', 404, 'not-found', 'DELETE', '/v1/services'],
  ['a body that is not JSON', 400, 'invalid', 'POST', '/v1/services', '{"name":'],
  ['an empty body', 400, 'invalid', 'POST', '/v1/services', ''],
  [
    'a body of another type',
    415,
    'unsupported-media-type',
    'POST',
    '/v1/services',
    'name: web',
    { 'content-type': 'application/yaml' },
  ],
  ['a body that is a list', 400, 'invalid', 'POST', '/v1/services', []],
  ['a body that is null', 400, 'invalid', 'POST', '/v1/services', 'null'],
  [
    'an unknown field',
    400,
    'unknown-field',
    'POST',
    '/v1/services',
    { name: 'a', ports: [{ port: 1 }], x: 1 },
  ],
  ['an unknown query', 400, 'unknown-field', 'GET', '/v1/services?dryRn=1'],
  [
    'a dryRun that is neither true nor false',
    400,
    'invalid',
    'DELETE',
    '/v1/services/a?dryRun=maybe',
  ],
  ['a service that is not there', 404, 'not-found', 'GET', '/v1/services/nope'],
  ['a malformed name in the path', 400, 'invalid', 'GET', '/v1/services/a_b'],
  ['a malformed endpoint', 400, 'invalid', 'DELETE', '/v1/services/a/backends/10.0.0.1'],
  ['an escape that is none', 400, 'invalid', 'GET', '/v1/services/%zz'],
  [
    'a patch that changes nothing',
    400,
    'invalid',
    'PATCH',
    '/v1/services/a/backends/10.0.0.1:1',
    {},
  ],
  ['half an owner', 400, 'invalid', 'DELETE', '/v1/services/a/backends/10.0.0.1:1?ownerPid=1'],
  ['a body where none belongs', 400, 'invalid', 'DELETE', '/v1/services/a', {}],
  ['documents that are no list', 400, 'invalid', 'POST', '/v1/apply', { documents: {} }],
  ['10,000 brackets', 400, 'invalid', 'POST', '/v1/services', '['.repeat(10_000)],
];

for (const [what, status, code, method, path, body, headers] of REFUSED) {
  test(`${what} is answered with ${status} ${code}`, async () => {
    const answer = await ask(method, path, body, headers);
    assert.equal(answer.status, status, answer.text);
    assert.equal(errorAnswer.parse(answer.json).error.code, code);
    assert.deepEqual(bugs, []);
  });
}

test('problems come with the status of their kind', async () => {
  for (const [code, status] of [
    ['conflict', 409],
    ['limit', 507],
    ['store', 507],
    ['kernel', 500],
    ['unavailable', 503],
  ] as const) {
    engine.failure = new ProblemError([{ code, message: 'm', hint: 'h', path: 'p' }]);
    const answer = await ask('DELETE', '/v1/services/a');
    assert.equal(answer.status, status);
    assert.deepEqual(answer.json, {
      error: { code, message: 'm', problems: [{ code, message: 'm', hint: 'h', path: 'p' }] },
    });
  }
});

test('a bug is logged, and its inside is not told', async () => {
  engine.failure = new TypeError('secret');
  const answer = await ask('DELETE', '/v1/services/a');
  assert.equal(answer.status, 500);
  assert.doesNotMatch(answer.text, /secret/);
  assert.equal(bugs.length, 1);
});

test('a dry run says what would change and changes nothing', async () => {
  const body = { name: 'dry', ports: [{ port: 80 }] };
  const { json } = await ask('POST', '/v1/services?dryRun=true', body);
  assert.deepEqual((json as { changes: unknown }).changes, [
    { action: 'create', kind: 'service', name: 'dry' },
  ]);
  assert.equal((await ask('GET', '/v1/services/dry')).status, 404);
});

test('a body of 100 MB is refused, with a length and without one, and costs no memory', async () => {
  const big = 100 * 1024 * 1024;
  const piece = Buffer.alloc(1024 * 1024, 0x20);
  const before = process.memoryUsage().rss;
  const head = 'POST /v1/apply HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n';
  const declared = await raw(
    `${head}content-length: ${big}\r\n\r\n`,
    ...Array.from({ length: 100 }, () => piece),
  );
  assert.match(declared, /^HTTP\/1\.1 413 .*too-large/s);
  const chunk = Buffer.concat([Buffer.from('100000\r\n'), piece, Buffer.from('\r\n')]);
  const chunked = await raw(
    `${head}transfer-encoding: chunked\r\n\r\n`,
    ...Array.from({ length: 100 }, () => chunk),
  );
  assert.match(chunked, /^HTTP\/1\.1 413 .*too-large/s);
  assert.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024);
  await stillServes();
});

test('garbage is answered with 400 and the line is cut', async () => {
  assert.match(await raw('\0\0\0\0 nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /);
  assert.match(
    await raw(`GET /v1/status HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431 /,
  );
  await stillServes();
});

test('a client that sends its header or its body too slowly is cut off, and others are served meanwhile', async () => {
  const slowHeader = raw('GET /v1/status HTTP/1.1\r\nhost: x\r\n');
  const slowBody = raw(
    'POST /v1/services HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"name"',
  );
  const halfOpen = raw();
  await stillServes();
  assert.match(await slowHeader, /^HTTP\/1\.1 408 /);
  assert.match(await slowBody, /^HTTP\/1\.1 408 /);
  await halfOpen;
  await stillServes();
});

test('more connections than the limit are closed, and once they are gone others are served', async () => {
  const open: Socket[] = [];
  const closed: Promise<unknown>[] = [];
  for (let i = 0; i < 60; i++) {
    const socket = connect(socketPath);
    open.push(socket.on('error', () => undefined).resume());
    closed.push(new Promise((resolve) => socket.on('close', resolve)));
  }
  // The 20 that fit stay until their header is late; the others go at once.
  await Promise.race(closed);
  await Promise.all(closed);
  await stillServes();
});

test('clients that vanish in the middle of a request harm nobody', async () => {
  await Promise.all(
    Array.from({ length: 15 }, async () => {
      const socket = connect(socketPath);
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.write(
        'POST /v1/services HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{',
      );
      socket.destroy();
    }),
  );
  await stillServes();
  assert.deepEqual(bugs, []);
});

test('the socket is for its owner and group, and nobody else', () => {
  assert.equal(statSync(socketPath).mode & 0o777, 0o660);
});

test('a second agent on the socket is refused, and the first is not disturbed', async () => {
  await assert.rejects(
    start(),
    (error) => error instanceof ProblemError && /another agent listens/.test(error.message),
  );
  await stillServes();
});

test('the socket file that a killed agent left is replaced', async () => {
  const path = join(directory, 'stale.sock');
  const dead = createServer();
  await new Promise<void>((resolve) => void dead.listen(path, resolve));
  // As kill -9 does it: the listener goes, the file stays.
  const hidden = join(directory, 'hidden.sock');
  const { renameSync, existsSync } = await import('node:fs');
  renameSync(path, hidden);
  await new Promise((resolve) => dead.close(resolve));
  renameSync(hidden, path);
  assert.ok(existsSync(path));
  const second = await start(path);
  await second.close();
  assert.ok(!existsSync(path), 'closing removes the file');
});

test('a file that is no socket is not removed', async () => {
  const path = join(directory, 'file');
  writeFileSync(path, 'mine');
  chmodSync(path, 0o600);
  await assert.rejects(start(path), /is not a socket/);
  assert.equal(statSync(path).size, 4);
});

test('a socket in a directory that cannot be made is explained', async () => {
  await assert.rejects(
    start('/nonexistent/deep/agent.sock'),
    /cannot listen on \/nonexistent\/deep\/agent\.sock/,
  );
});

test('the client tells an agent that is away from one that refuses', async () => {
  const away = new ApiClient(join(directory, 'none.sock'));
  await assert.rejects(
    away.call('GET', '/v1/status'),
    (error) => error instanceof UnreachableError && /there is no socket/.test(error.message),
  );
  const agent = new ApiClient(socketPath);
  await assert.rejects(
    agent.call('GET', '/v1/services/nope'),
    (error) => error instanceof ProblemError && !(error instanceof UnreachableError),
  );
  const long = new ApiClient(`/${'x'.repeat(120)}`);
  await assert.rejects(long.call('GET', '/v1/status'), /107 bytes/);
});
