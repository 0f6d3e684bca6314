/** Servers and clients from the distribution, as people run them. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { nginx, redis } from '../harness/servers.ts';
import { VIP4 } from '../harness/services.ts';

let host: TestHost;

before(async () => {
  host = await TestHost.create();
  await host.agent.start();
});

after(async () => {
  await host[Symbol.asyncDispose]();
});

/** A pattern of curl that opens a new connection each time. */
async function curls(times: number, url: string): Promise<string[]> {
  const commands = Array.from({ length: times }, () => `curl -sS --max-time 5 ${url}`).join('\n');
  return (await host.output(['sh', '-ec', commands])).trim().split('\n');
}

test('two nginx behind one VIP both answer curl, and one alone when the other is removed', async () => {
  await nginx(host, 'blue', 8001);
  await nginx(host, 'green', 8002);
  await host.must('service', 'add', 'web', '--port', '80', '--vip', VIP4);
  await host.must('backend', 'add', 'web', '127.0.0.1:8001');
  await host.must('backend', 'add', 'web', '127.0.0.1:8002');
  const answers = await curls(40, `http://${VIP4}/`);
  assert.deepEqual(new Set(answers), new Set(['blue 127.0.0.1', 'green 127.0.0.1']));
  const shown = await host.output([
    'curl',
    '-s',
    '-o',
    '/dev/null',
    '-w',
    '%{remote_ip}:%{remote_port}',
    `http://${VIP4}/`,
  ]);
  assert.equal(shown, `${VIP4}:80`);
  await host.must('backend', 'rm', 'web', '127.0.0.1:8001');
  assert.deepEqual(new Set(await curls(20, `http://${VIP4}/`)), new Set(['green 127.0.0.1']));
  await host.must('backend', 'drain', 'web', '127.0.0.1:8002');
  const refused = await host.exec(['curl', '-sSv', '--max-time', '5', `http://${VIP4}/`]);
  assert.equal(refused.code, 7);
  assert.match(refused.stderr, /refused/i);
});

test('a kept-alive connection to a removed backend goes on until it ends', async () => {
  const script = `
import http.client
http = http.client.HTTPConnection('${VIP4}', 80, timeout=5)
for line in iter(input, 'end'):
    http.request('GET', '/')
    print(line, http.getresponse().read().decode().strip(), flush=True)
`;
  await host.must('backend', 'add', 'web', '127.0.0.1:8002'); // takes it out of draining
  const client = host.spawn(['/usr/bin/python3', '-c', script]);
  client.say('one\n');
  await client.says(/^one green/m);
  await host.must('backend', 'rm', 'web', '127.0.0.1:8002');
  client.say('two\n');
  await client.says(/^two green/m);
});

test('redis-cli sets and gets through a VIP', async () => {
  await redis(host, 6379);
  await host.must('service', 'add', 'cache', '--port', '6379', '--vip', '240.0.0.2');
  await host.must('backend', 'add', 'cache', '127.0.0.1:6379');
  const cli = ['redis-cli', '-h', '240.0.0.2'];
  assert.equal(await host.output([...cli, 'set', 'key', 'value']), 'OK\n');
  assert.equal(await host.output([...cli, 'get', 'key']), 'value\n');
  assert.match(
    await host.output([...cli, 'client', 'list']),
    /addr=127\.0\.0\.1:\d+ laddr=127\.0\.0\.1:6379/,
  );
});

test('zerohop run finds the port of python -m http.server 0, registers it and removes it at Ctrl-C', async () => {
  const files = join(host.dir, 'files');
  mkdirSync(files);
  writeFileSync(join(files, 'hello'), 'hello\n');
  await host.must('service', 'add', 'files', '--port', '80', '--vip', '240.0.0.3');
  const cgroupsBefore = readdirSync(host.cgroup, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  ).length;
  const server = [
    '/usr/bin/python3',
    '-m',
    'http.server',
    '--bind',
    '127.0.0.1',
    '--directory',
    files,
    '0',
  ];
  const run = host.spawn([host.bin, 'run', '--service', 'files', '--', ...server]);
  const curl = ['curl', '-sS', '--max-time', '5', 'http://240.0.0.3/hello'];
  await eventually(
    'the server to be registered',
    async () => {
      assert.equal(run.running, true, run.stderr);
      return (await host.exec(curl)).code === 0;
    },
    { timeoutMs: 10_000, everyMs: 50 },
  );
  assert.equal(await host.output(curl), 'hello\n');

  run.kill('SIGINT');
  await run.result();
  assert.equal((await host.exec(curl)).code, 7);
  const left = readdirSync(host.cgroup, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  );
  assert.equal(left.length, cgroupsBefore);
  assert.equal(existsSync(`/proc/${run.pid}`), false);
});

test('zerohop run passes on the exit code, and kill -9 of it does not leave its backend for long', async () => {
  const { code } = await host.exec([
    host.bin,
    'run',
    '--service',
    'files',
    '--',
    'sh',
    '-c',
    'exit 7',
  ]);
  assert.equal(code, 7);
  const server = ['/usr/bin/python3', '-m', 'http.server', '--bind', '127.0.0.1', '0'];
  const run = host.spawn([host.bin, 'run', '--service', 'files', '--', ...server], {
    cwd: host.dir,
  });
  const backends = async (): Promise<number> => {
    const answer = (await host.api('GET', '/v1/backends?service=files')).json() as {
      backends: unknown[];
    };
    return answer.backends.length;
  };
  await eventually('the backend to come', async () => (await backends()) === 1, {
    timeoutMs: 10_000,
  });
  run.kill('SIGKILL'); // its child may live on and keep our pipes open, so no waiting for their end
  await eventually('the backend to go', async () => (await backends()) === 0, {
    timeoutMs: 10_000,
  });
});
