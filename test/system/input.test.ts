/** Bad input, through the command line and the API: a clear error, nothing changed, nothing lost. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { within } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { dumpTables } from '../harness/maps.ts';
import { smallMaps } from '../harness/config.ts';
import { putService, removeService, VIP4 } from '../harness/services.ts';

let host: TestHost;

before(async () => {
  host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig({ maps: smallMaps }) });
  await putService(host, 'web', {
    vips: [VIP4],
    ports: [{ port: 80 }],
    backends: [{ address: '127.0.0.1', port: 8080 }],
  });
});

after(async () => {
  await host[Symbol.asyncDispose]();
});

const state = async (): Promise<unknown> => [
  (await host.api('GET', '/v1/export')).json(),
  await dumpTables(host),
];

/** Runs a command that must fail without changing anything. */
async function fails(args: readonly string[], code: number, ...says: RegExp[]): Promise<void> {
  const good = await state();
  const result = await host.zerohop(...args);
  const shown = `${args.join(' ')}\n${result.stderr}`;
  assert.equal(result.code, code, shown);
  for (const pattern of says) assert.match(result.stderr, pattern, shown);
  assert.doesNotMatch(result.stderr, /^\s+at .*:\d+/m, 'a stack trace');
  assert.equal(result.stdout, '');
  assert.deepEqual(await state(), good, shown);
}

const wrong: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['a name with a space', ['service', 'add', 'a b', '--port', '80'], /"a b"/],
  ['a name with an underscore', ['service', 'add', 'a_b', '--port', '80'], /a_b/],
  ['an empty name', ['service', 'add', '', '--port', '80'], /empty/],
  ['a name that is too long', ['service', 'add', 'a'.repeat(200), '--port', '80'], /127/],
  ['a name like an address', ['service', 'add', '10.0.0.1', '--port', '80'], /IP address/],
  ['port 0', ['service', 'add', 'x', '--port', '0'], /0/],
  ['port 70000', ['service', 'add', 'x', '--port', '70000'], /70000/],
  ['port -1', ['service', 'add', 'x', '--port=-1'], /-1/],
  ['port 8O', ['service', 'add', 'x', '--port', '8O'], /8O/],
  ['port 80/sctp', ['service', 'add', 'x', '--port', '80/sctp'], /sctp/],
  ['a port twice', ['service', 'add', 'x', '--port', '80', '--port', '80'], /80\/tcp/],
  ['VIP 300.1.1.1', ['service', 'add', 'x', '--port', '80', '--vip', '300.1.1.1'], /300\.1\.1\.1/],
  ['VIP 127.0.0.1', ['service', 'add', 'x', '--port', '80', '--vip', '127.0.0.1'], /127\.0\.0\.1/],
  ['VIP 0.0.0.0', ['service', 'add', 'x', '--port', '80', '--vip', '0.0.0.0'], /0\.0\.0\.0/],
  ['a VIP that is taken', ['service', 'add', 'x', '--port', '80', '--vip', VIP4], /web/],
  [
    'the same VIP as v4-mapped',
    ['service', 'add', 'x', '--port', '80', '--vip', `::ffff:${VIP4}`],
    /./,
  ],
  ['a service that exists', ['service', 'add', 'web', '--port', '81'], /web/],
  ['no such service', ['service', 'rm', 'wep'], /wep.*\n?.*web/],
  ['no such service to show', ['service', 'show', 'nope'], /nope/],
  ['a backend without port', ['backend', 'add', 'web', '10.0.0.1'], /10\.0\.0\.1/],
  ['a backend with port 0', ['backend', 'add', 'web', '10.0.0.1:0'], /10\.0\.0\.1:0/],
  ['a backend with a name', ['backend', 'add', 'web', 'host:80'], /host:80/],
  ['an IPv6 backend without brackets', ['backend', 'add', 'web', 'fd00::1:80'], /fd00::1:80/],
  ['a backend that is a VIP', ['backend', 'add', 'web', '240.0.0.7:80'], /240\.0\.0\.7/],
  ['a backend 0.0.0.0', ['backend', 'add', 'web', '0.0.0.0:80'], /0\.0\.0\.0/],
  ['a backend that is multicast', ['backend', 'add', 'web', '224.0.0.1:80'], /224\.0\.0\.1/],
  ['weight -1', ['backend', 'add', 'web', '10.0.0.1:80', '--weight=-1'], /-1/],
  ['weight 70000', ['backend', 'add', 'web', '10.0.0.1:80', '--weight', '70000'], /70000/],
  ['weight 1.5', ['backend', 'add', 'web', '10.0.0.1:80', '--weight', '1.5'], /1\.5/],
  ['a backend of no service', ['backend', 'add', 'nope', '10.0.0.1:80'], /nope/],
  ['a backend of no port', ['backend', 'add', 'web:nope', '10.0.0.1:80'], /nope/],
  ['removing no backend', ['backend', 'rm', 'web', '10.9.9.9:1'], /10\.9\.9\.9:1/],
  ['draining no backend', ['backend', 'drain', 'web', '10.9.9.9:1'], /10\.9\.9\.9:1/],
  ['an unknown command', ['serve'], /serve/],
  ['an unknown option', ['service', 'ls', '--jsn'], /jsn/],
  ['a map that is none', ['maps', 'dump', 'zh_nope'], /zh_nope/],
  ['a file that is not there', ['apply', '-f', '/nonexistent.yaml'], /nonexistent/],
];

for (const [what, args, says] of wrong) {
  test(`${what}: ${args.slice(0, 5).join(' ').slice(0, 70)}`, async () => {
    const good = await state();
    const result = await host.zerohop(...args);
    assert.ok(result.code === 1 || result.code === 2, `code ${result.code}: ${result.stderr}`);
    assert.match(result.stderr, says);
    assert.doesNotMatch(result.stderr, /^\s+at .*:\d+/m, 'a stack trace');
    assert.deepEqual(await state(), good);
  });
}

const documents: readonly (readonly [string, string, RegExp])[] = [
  [
    'an unknown field',
    'kind: service\nname: x\nports:\n  - port: 80\n    prot: tcp\n',
    /x\.yaml:5.*prot/s,
  ],
  ['an unknown kind', 'kind: servise\nname: x\n', /x\.yaml:1.*servise/s],
  ['a broken document', 'kind: service\nname: [x\n', /x\.yaml:\d/],
  [
    'a bad port in the second document',
    'kind: service\nname: x\nports: [{port: 80}]\n---\nkind: service\nname: y\nports:\n  - port: 99999\n',
    /x\.yaml:8.*99999/s,
  ],
  [
    'two services with one VIP',
    'kind: service\nname: x\nvips: [240.0.0.50]\nports: [{port: 80}]\n---\nkind: service\nname: y\nvips: [240.0.0.50]\nports: [{port: 81}]\n',
    /240\.0\.0\.50/,
  ],
  [
    'a duplicate port',
    'kind: service\nname: x\nports:\n  - {name: a, port: 80}\n  - {name: b, port: 80}\n',
    /80\/tcp/,
  ],
  [
    'a duplicate backend',
    'kind: service\nname: x\nports: [{port: 80}]\nbackends:\n  - address: 10.0.0.1:80\n  - address: 10.0.0.1:80\n',
    /10\.0\.0\.1:80/,
  ],
  [
    'a bad weight',
    'kind: backend\nservice: web\naddress: 10.0.0.1:80\nweight: heavy\n',
    /x\.yaml:4.*heavy/s,
  ],
];

for (const [what, text, says] of documents) {
  test(`YAML with ${what} is refused with file and line, whole`, async () => {
    const file = join(host.dir, 'x.yaml');
    writeFileSync(file, text);
    await fails(['apply', '-f', file], 1, says);
  });
}

test('YAML that is no YAML at all, from standard input', async () => {
  const result = await host.zerohopWithInput('\u0000\u0001{{{', 'apply', '-f', '-');
  assert.equal(result.code, 1);
  assert.match(result.stderr, /stdin/);
});

test('errors are JSON with --json', async () => {
  const result = await host.zerohop('service', 'rm', 'nope', '--json');
  assert.equal(result.code, 1);
  const shown = JSON.parse(result.stdout === '' ? result.stderr : result.stdout) as object;
  assert.match(JSON.stringify(shown), /not-found/);
});

test('a full map names the limit and how to raise it; nothing of the change is there', async () => {
  const answers = [];
  for (let i = 0; i <= smallMaps.services; i++) {
    const vips = [`240.1.0.${i}`];
    answers.push(await host.api('PUT', `/v1/services/full${i}`, { vips, ports: [{ port: 80 }] }));
  }
  const refused = answers.filter(({ status }) => status >= 300);
  assert.ok(refused.length > 0, 'never full');
  for (const { text } of refused) assert.match(text, /maps\.services/);
  const good = await state();
  const result = await host.zerohop('service', 'add', 'more', '--port', '80');
  assert.equal(result.code, 1);
  assert.match(result.stderr, /maps\.services/);
  assert.match(result.stderr, /64/);
  assert.deepEqual(await state(), good);
  const { datapath } = (await host.api('GET', '/v1/status')).json() as {
    datapath: { maps: { used: number; max: number; limit: string }[] };
  };
  const fill = datapath.maps.find(({ limit }) => limit === 'maps.services');
  assert.ok(fill !== undefined && fill.used <= fill.max);

  await removeService(host, 'full0');
  await host.must('service', 'add', 'more', '--port', '80', '--vip', '240.2.0.1');
  for (let i = 1; i <= smallMaps.services; i++) await host.api('DELETE', `/v1/services/full${i}`);
});

test('too many backends: the limit is named, and the service keeps those it had', async () => {
  const backends = Array.from({ length: 300 }, (_, i) => ({ address: '10.0.0.1', port: 1 + i }));
  const good = await state();
  const answer = await host.api('PUT', '/v1/services/web', {
    vips: [VIP4],
    ports: [{ port: 80 }],
    backends,
  });
  assert.equal(answer.status, 507, answer.text); // Insufficient Storage
  assert.match(answer.text, /maps\.(backends|slots)/);
  assert.deepEqual(await state(), good);
});

test('a body of 100 MB is refused, and the agent stays small', async () => {
  const rss = async (): Promise<number> =>
    ((await host.api('GET', '/v1/status')).json() as { memory: { rssBytes: number } }).memory
      .rssBytes;
  const smallBefore = await rss();
  const good = await state();
  const answer = await host
    .api('POST', '/v1/apply', 'x'.repeat(100 * 1024 * 1024))
    .catch((error: NodeJS.ErrnoException) => error.code);
  // The agent may close the connection before the client has said all.
  assert.ok(
    answer === 'EPIPE' ||
      answer === 'ECONNRESET' ||
      (typeof answer === 'object' && answer.status === 413),
    JSON.stringify(answer),
  );
  assert.ok((await rss()) - smallBefore < 64 * 1024 * 1024);
  assert.deepEqual(await state(), good);
});

test('a client that never ends its request disturbs nobody', async () => {
  const slow = Array.from({ length: 20 }, () => connect(host.socket));
  for (const socket of slow) {
    socket.on('error', () => {});
    socket.write('POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{');
  }
  const answer = await within('an answer beside slow clients', host.api('GET', '/v1/status'), 1000);
  assert.equal(answer.status, 200);
  for (const socket of slow) socket.destroy();
});

for (const [what, method, path, body] of [
  ['no JSON', 'POST', '/v1/services', '{nope'],
  ['a list', 'POST', '/v1/services', '[]'],
  ['null', 'POST', '/v1/services', 'null'],
  ['deep nesting', 'POST', '/v1/apply', '['.repeat(100_000)],
  ['an unknown field', 'POST', '/v1/services', '{"name":"x","ports":[{"port":80}],"colour":"red"}'],
  ['__proto__', 'POST', '/v1/services', '{"__proto__":{"name":"x"},"ports":[{"port":80}]}'],
  ['an unknown path', 'GET', '/v1/nothing', undefined],
  ['a method that is not there', 'PATCH', '/v1/services', '{}'],
  ['a path with dots', 'GET', '/v1/services/..%2f..%2fetc', undefined],
  ['a long path', 'GET', `/v1/services/${'a'.repeat(5000)}`, undefined],
] as const) {
  test(`the API refuses ${what}`, async () => {
    const good = await state();
    const answer = await host.api(method, path, body);
    assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status} ${answer.text}`);
    assert.equal(typeof (answer.json() as { error?: unknown }).error, 'object', answer.text);
    assert.deepEqual(await state(), good);
  });
}

test('after all this the agent has logged no error and is in sync', async () => {
  const errors = host.agent.log().filter((line) => line['level'] === 'error');
  assert.deepEqual(errors, []);
  const { datapath } = (await host.api('GET', '/v1/status')).json() as {
    datapath: { state: string };
  };
  assert.equal(datapath.state, 'in-sync');
});
