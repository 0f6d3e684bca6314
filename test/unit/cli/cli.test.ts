/** The command line as a process, against an agent without a kernel. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { columns } from '../../../src/cli/table.ts';
import { parsePort, splitService, wholeNumber } from '../../../src/cli/options.ts';
import { UsageError } from '../../../src/cli/output.ts';
import { createProgram } from '../../../src/cli/program.ts';
import type { ServiceAnswer } from '../../../src/api/schemas.ts';
import { shareWeb } from '../api/shared-web.ts';
import { cliForTests, main, type Result } from './kit.ts';

const cli = cliForTests();
const { engine } = cli;
const must = (...args: string[]): Promise<string> => cli.must(...args);
const zerohop = (args: readonly string[], more = {}): Promise<Result> => cli.run(args, more);

test('a service and its backends from first to last', async () => {
  assert.match(
    await must('service', 'add', 'web', '--port', 'http:80'),
    /^created service web\nreachable at 252\.189\.37\.169 and fd7a:/,
  );
  assert.equal(
    await must('backend', 'add', 'web', '10.0.0.1:8080'),
    'created backend web:http 10.0.0.1:8080\n',
  );
  assert.equal(
    await must('backend', 'add', 'web', '[FD00::1]:8080', '--weight', '3'),
    'created backend web:http [fd00::1]:8080\n',
  );
  assert.equal(
    await must('backend', 'add', 'web:http', '10.0.0.1:8080', '--weight', '7'),
    'updated backend web:http 10.0.0.1:8080\n',
  );
  assert.equal(
    await must('backend', 'add', 'web', '10.0.0.1:8080', '--weight', '7'),
    'nothing to change\n',
  );
  assert.equal(
    await must('backend', 'drain', 'web', '10.0.0.1:8080'),
    'updated backend web:http 10.0.0.1:8080\n',
  );
  assert.equal(await must('service', 'ls', '-q'), 'web\n');
  assert.deepEqual((await must('backend', 'ls')).split('\n'), [
    'SERVICE  PORT  BACKEND         WEIGHT  STATE     NODE  OWNER',
    'web      http  10.0.0.1:8080   7       draining',
    'web      http  [fd00::1]:8080  3       active',
    '',
  ]);
  assert.equal(
    await must('backend', 'drain', 'web', '10.0.0.1:8080', '--undo'),
    'updated backend web:http 10.0.0.1:8080\n',
  );
  assert.match(await must('service', 'show', 'web'), /port http: 80\/tcp, 2 backends/);
  const exported = await must('export');
  const again = await zerohop(['apply', '-f', '-'], { input: exported });
  assert.equal(again.out, 'nothing to change\n', again.err);
  assert.match(
    await must('backend', 'rm', 'web', '10.0.0.1:8080', '--dry-run'),
    /^would remove backend/,
  );
  assert.match(
    await must('service', 'rm', 'web'),
    /removed service web\nremoved backend web:http 10\.0\.0\.1:8080/,
  );
  const back = await zerohop(['apply', '-f', '-'], { input: exported });
  assert.match(back.out, /created service web/);
  assert.equal(await must('export'), exported);
  await must('service', 'rm', 'web');
});

test('what of a service counts on this host now', async () => {
  const { known } = engine;
  shareWeb(engine);
  try {
    assert.deepEqual((await must('service', 'show', 'web')).split('\n'), [
      'service  web',
      'vips     252.0.0.1',
      'port http: 80/tcp, 5 backends',
      '  BACKEND         WEIGHT  STATE                         NODE   OWNER',
      '  10.0.0.1:8080   1       active',
      '  10.0.0.2:8080   1       down (unreachable)            east2  httpd (run by 7)',
      '  10.0.0.2:8081   1       draining, down (unreachable)  east2  httpd (run by 7)',
      '  10.0.0.3:8080   1       down (unhealthy)',
      '  127.0.0.1:8080  1       active, on its own host only  east2  httpd (run by 7)',
      'port dns: 53/udp, 1 backend',
      '  all that would take connections are down: they get them all the same (fail open)',
      '  BACKEND        WEIGHT  STATE   NODE   OWNER',
      '  10.0.0.2:5353  1       active  east2  httpd (run by 7)',
      '',
    ]);
    const [web, web2] = (await must('service', 'ls')).split('\n').slice(1);
    assert.deepEqual(web?.split(/  +/), ['web', '252.0.0.1', 'http:80/tcp dns:53/udp', '2/6']);
    assert.doesNotMatch(web2 ?? '', /252\.0\.0\.1/, 'not the VIP that is recorded');
    const { service } = JSON.parse(await must('service', 'show', 'web', '--json')) as ServiceAnswer;
    const { down, node } = service.backends.find(({ port }) => port === 8081) ?? {};
    assert.deepEqual({ down, node }, { down: 'unreachable', node: 'n2' });
    assert.match(
      await must('backend', 'ls', 'web:dns'),
      /10\.0\.0\.2:5353 +1 +active +east2 +httpd/,
    );
  } finally {
    await must('service', 'rm', 'web');
    await must('service', 'rm', 'web2');
    engine.known = known;
  }
});

test('everything that prints is one JSON document with --json', async () => {
  await must('service', 'add', 'js', '--port', '80', '--port', '53/udp', '--vip', '240.0.0.7');
  for (const args of [
    ['service', 'ls'],
    ['service', 'show', 'js'],
    ['backend', 'ls'],
    ['backend', 'ls', 'js'],
    ['export'],
    ['status'],
    ['service', 'rm', 'js'],
  ]) {
    const value: unknown = JSON.parse(await must(...args, '--json'));
    assert.ok(typeof value === 'object' && value !== null, args.join(' '));
  }
  const { code, out, err } = await zerohop(['service', 'rm', 'js', '--json']);
  assert.equal(code, 1);
  assert.equal(out, '');
  assert.match((JSON.parse(err) as { error: { code: string } }).error.code, /not-found/);
});

const REFUSED: readonly (readonly [string, readonly string[], number, RegExp])[] = [
  ['no command', [], 2, /Usage:/],
  ['an unknown command', ['servce'], 2, /unknown command 'servce'[^]*Did you mean service/],
  ['an unknown option', ['status', '--jsn'], 2, /unknown option '--jsn'/],
  ['a missing option', ['service', 'add', 'x'], 2, /required option '--port/],
  ['a missing argument', ['backend', 'add', 'x'], 2, /missing required argument/],
  ['one argument too many', ['service', 'show', 'x', 'y'], 2, /too many arguments/],
  [
    'a malformed port',
    ['service', 'add', 'x', '--port', 'http:'],
    2,
    /port "http:" is not \[NAME:\]PORT/,
  ],
  ['a port of 65536', ['service', 'add', 'x', '--port', '65536'], 2, /65536/],
  ['a malformed backend', ['backend', 'add', 'x', '10.0.0.1'], 2, /is no ADDR:PORT/],
  [
    'a malformed weight',
    ['backend', 'add', 'x', '10.0.0.1:1', '--weight', '1.5'],
    2,
    /weight "1\.5"/,
  ],
  ['a service that is not there', ['service', 'show', 'nope'], 1, /there is no service "nope"/],
  [
    'a file that is not there',
    ['apply', '-f', '/nonexistent.yaml'],
    1,
    /\/nonexistent\.yaml cannot be read/,
  ],
  ['run without a command', ['run', '--service', 'x'], 2, /missing required argument/],
  [
    'run of a program that is not there',
    ['run', '--service', 'x', '--', 'no-such-program'],
    127,
    /command not found/,
  ],
  [
    'run for a service that is not there',
    ['run', '--service', 'nope', '--', 'true'],
    1,
    /--service nope:PORT/,
  ],
  [
    'an agent that is away',
    ['status', '--socket', '/nonexistent.sock'],
    3,
    /no agent is running[^]*systemctl start zerohop/,
  ],
  [
    'an unreadable configuration',
    ['agent', '--config', '/nonexistent.yaml'],
    1,
    /nonexistent\.yaml cannot be read/,
  ],
  ['a malformed log level', ['agent', '--log-level', 'loud'], 1, /logLevel "loud" is none of/],
];

for (const [what, args, code, expected] of REFUSED) {
  test(`${what} ends with exit code ${code} and says why`, async () => {
    const result = await zerohop(args);
    assert.equal(result.code, code, result.err);
    assert.match(result.err, expected);
    assert.equal(result.out, '');
    assert.doesNotMatch(result.err, /^\s+at /m, 'a stack trace');
  });
}

test('apply tells problems by file, line and column', async () => {
  const file = join(cli.directory, 'web.yaml');
  writeFileSync(
    file,
    'kind: service\nname: web\nports:\n  - prot: 80\n---\nkind: backend\nservice: wbe\naddress: 10.0.0.1:1\n',
  );
  const { code, err } = await zerohop(['apply', '-f', file]);
  assert.equal(code, 1);
  assert.match(
    err,
    /web\.yaml:4:5 \(ports\[0\]\.prot\): unknown field "prot"\n {2}did you mean "port"\?/,
  );
});

test('every option has an environment variable', async () => {
  assert.match((await zerohop(['service', 'ls'], { env: { ZEROHOP_JSON: '1' } })).out, /^\{/);
  assert.equal(
    (await zerohop(['status'], { env: { ZEROHOP_SOCKET: '/nonexistent.sock' } })).code,
    3,
  );
  const lacking: string[] = [];
  const walk = (command: ReturnType<typeof createProgram>): void => {
    for (const option of command.options) {
      if (option.long !== '--version' && option.envVar === undefined)
        lacking.push(`${command.name()} ${option.flags}`);
    }
    for (const child of command.commands) walk(child);
  };
  walk(createProgram());
  assert.deepEqual(lacking, []);
});

test('a reader that goes away early is no error', () => {
  const { stderr } = spawnSync(
    '/bin/sh',
    ['-c', `"${process.execPath}" "${main}" completion bash | head -n 1`],
    { encoding: 'utf8' },
  );
  assert.equal(stderr, '');
});

test('the completion script is bash, and completes commands, options and sub-commands', async () => {
  assert.deepEqual(await cli.complete('se'), ['service']);
  assert.deepEqual(await cli.complete('service', 's'), ['show']);
  assert.deepEqual(await cli.complete('service', 'ls', '--q'), ['--quiet']);
  assert.ok((await cli.complete('maps', 'd')).includes('dump'));
  assert.deepEqual(await cli.complete('acl', 'r'), ['rm']);
  assert.deepEqual(await cli.complete('acl', 'log', '--f'), ['--follow']);
  assert.ok(
    (await cli.complete('apply', '--file', cli.directory.slice(0, -2))).includes(cli.directory),
  );
  assert.ok((await cli.complete('run', '--service', 'web', '--', 'bas')).includes('bash'));
});

test('arguments are read as the help says', () => {
  assert.deepEqual(parsePort('80'), { port: 80, protocol: 'tcp' });
  assert.deepEqual(parsePort('dns:53/UDP'), { name: 'dns', port: 53, protocol: 'udp' });
  assert.deepEqual(splitService('web'), { service: 'web', port: undefined });
  assert.deepEqual(splitService('web:http'), { service: 'web', port: 'http' });
  for (const wrong of ['', 'http', ':80', 'a:b:80', '80/', '80/sctp', '-1', '0', '70000', '8 0']) {
    assert.throws(() => parsePort(wrong), UsageError, wrong);
  }
  for (const wrong of [':80', 'web:']) assert.throws(() => splitService(wrong), UsageError, wrong);
  for (const wrong of ['', '1e3', '0x10', ' 1', '-1', '11']) {
    assert.throws(() => wholeNumber(wrong, 'x', 0, 10), UsageError, wrong);
  }
});

test('columns of ASCII are as those of cli-table3, which is asked for all others', () => {
  const cell = fc.string({ unit: fc.constantFrom('a', ' ', '-', '"', '{'), maxLength: 5 });
  const table = fc.integer({ min: 1, max: 4 }).chain((width) => {
    const row = fc.array(cell, { minLength: width, maxLength: width });
    return fc.tuple(
      fc.array(row, { minLength: 1, maxLength: 4 }),
      fc.option(row, { nil: undefined }),
    );
  });
  fc.assert(
    fc.property(table, ([rows, headers]) => {
      // A column with a letter that is not ASCII: one wide, too.
      const others = columns(
        rows.map((row) => ['ä', ...row]),
        headers && ['a', ...headers],
      );
      const plain = columns(
        rows.map((row) => ['a', ...row]),
        headers && ['a', ...headers],
      );
      assert.equal(plain, others.replaceAll('ä', 'a'));
    }),
  );
});

test('columns are aligned and have nothing at their ends', () => {
  assert.equal(
    columns(
      [
        ['a', 'bbb'],
        ['cccc', ''],
      ],
      ['X', 'Y'],
    ),
    'X     Y\na     bbb\ncccc',
  );
  assert.equal(columns([], ['X', 'Y']), 'X  Y');
});
