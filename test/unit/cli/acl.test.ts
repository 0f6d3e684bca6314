/** `zerohop acl` as a process, against an agent without a kernel. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  parseAskedTarget,
  parseSelector,
  parseSubject,
  parseTarget,
} from '../../../src/cli/acl-text.ts';
import { UsageError } from '../../../src/cli/output.ts';
import { denial } from '../api/fake-acls.ts';
import { cliForTests, type Result } from './kit.ts';

const cli = cliForTests();
const { engine } = cli;
const zerohop = (...args: string[]): Promise<Result> => cli.run(args);
const acl = (...args: string[]): Promise<Result> => cli.run(['acl', ...args]);

test('what a rule protects is written as people say it', () => {
  const cases: readonly (readonly [string, object])[] = [
    ['redis.prod', { service: 'redis.prod' }],
    ['redis.prod:main', { service: 'redis.prod', port: 'main' }],
    ['10.0.0.0/8', { cidr: '10.0.0.0/8' }],
    ['10.0.0.1', { cidr: '10.0.0.1/32' }],
    ['10.0.0.0/8:443/tcp,80', { cidr: '10.0.0.0/8', ports: ['443/tcp', '80'] }],
    ['fd00::/8', { cidr: 'fd00::/8' }],
    ['fd00::1', { cidr: 'fd00::1/128' }],
    ['[fd00::/8]:443/tcp', { cidr: 'fd00::/8', ports: ['443/tcp'] }],
    [':25/tcp,53/udp', { ports: ['25/tcp', '53/udp'] }],
  ];
  for (const [text, fields] of cases) assert.deepEqual(parseTarget(text), fields, text);
  for (const wrong of ['', ':', ':x', 'a/b', '10.0.0.0/8:x', '[web]:80/x/y', '/etc']) {
    assert.throws(() => parseTarget(wrong), UsageError, wrong);
  }
});

test('who a rule is about is a kind, a colon and a value', () => {
  assert.deepEqual(parseSelector('unit:web.service'), { unit: 'web.service' });
  assert.deepEqual(parseSelector('cgroup:/a:b'), { cgroup: '/a:b' });
  assert.deepEqual(parseSelector('cidr:fd00::/8'), { cidr: 'fd00::/8' });
  for (const wrong of ['web.service', 'unit:', ':x', 'units:x', 'pid:1']) {
    assert.throws(() => parseSelector(wrong), UsageError, wrong);
  }
  assert.deepEqual(parseSubject(['cgroup:/x', 'user:deploy', 'pid:12']), {
    cgroup: '/x',
    user: 'deploy',
    pid: 12,
  });
  for (const wrong of [['pid:x'], ['user:a', 'user:b'], ['x']]) {
    assert.throws(() => parseSubject(wrong), UsageError, wrong.join());
  }
  assert.deepEqual(parseAskedTarget('redis.prod:6379'), { service: 'redis.prod', port: '6379' });
  assert.deepEqual(parseAskedTarget('[FD00::1]:53/udp'), {
    endpoint: '[fd00::1]:53',
    protocol: 'udp',
  });
  for (const wrong of ['', '10.0.0.1', 'a/b', 'a:b:c']) {
    assert.throws(() => parseAskedTarget(wrong), UsageError, wrong);
  }
});

test('a rule from first to last', async () => {
  const made = await acl(
    'add',
    'only-web',
    '--to',
    '10.0.0.0/8:443/tcp',
    '--from',
    'unit:web.service',
    '--from',
    'user:deploy',
  );
  assert.deepEqual(made, { code: 0, out: 'created acl only-web\n', err: '' });
  const again = await acl(
    'add',
    'only-web',
    '--to',
    '10.0.0.0/8:443',
    '--from',
    'unit:web.service,user:deploy',
  );
  assert.equal(again.out, 'nothing to change\n');
  const dry = await acl('add', 'mail', '--to', ':25/tcp', '--action', 'deny', '--dry-run');
  assert.equal(dry.out, 'would create acl mail\n');
  const ls = await acl('ls');
  assert.deepEqual(ls.out.split('\n'), [
    'RULE      ACTION  TO                  FROM                          DENIED  ALLOWED  AUDITED',
    'only-web  allow   10.0.0.0/8:443/tcp  unit:web.service user:deploy  3       2        1',
    '',
  ]);
  assert.equal((await acl('ls', '-q')).out, 'only-web\n');
  const shown = JSON.parse((await acl('show', 'only-web', '--json')).out) as { acl: object };
  assert.deepEqual(shown.acl, {
    name: 'only-web',
    to: { cidr: '10.0.0.0/8', ports: ['443/tcp'] },
    from: [{ unit: 'web.service' }, { user: 'deploy' }],
    action: 'allow',
    counters: { denied: 3, allowed: 2, audited: 1 },
    warnings: [],
  });
  assert.match((await acl('show', 'only-web')).out, /^from +unit:web.service\n +user:deploy$/m);
  assert.equal((await acl('rm', 'only-web')).out, 'removed acl only-web\n');
  assert.match((await acl('ls')).err, /no rules yet: `zerohop acl add` adds one/);
});

test('what is one is told as one', async () => {
  const told: string[] = [];
  for (const count of [0, 1, 2]) {
    engine.acls.rules = count;
    engine.acls.lost = count;
    const { out } = await zerohop('status');
    told.push(...(out.match(/^(access control|acl counters) .*$/gm) ?? []));
  }
  assert.deepEqual(told, [
    'access control    0 rules, enforced by cgroup hooks only (a test)',
    'acl counters      0 verdicts lost before the log, 0 judged without a known cgroup, 0 new cgroups without room',
    'access control    1 rule, enforced by cgroup hooks only (a test)',
    'acl counters      1 verdict lost before the log, 1 judged without a known cgroup, 1 new cgroup without room',
    'access control    2 rules, enforced by cgroup hooks only (a test)',
    'acl counters      2 verdicts lost before the log, 2 judged without a known cgroup, 2 new cgroups without room',
  ]);
  const backends: string[] = [];
  await zerohop('service', 'add', 'web', '--port', '80');
  for (const address of ['', '10.0.0.1:80', '10.0.0.2:80']) {
    if (address !== '') await zerohop('backend', 'add', 'web', address);
    const { out } = await zerohop('service', 'show', 'web');
    backends.push(/^port .*$/m.exec(out)?.[0] ?? out);
  }
  assert.deepEqual(backends, [
    'port tcp-80: 80/tcp, 0 backends',
    'port tcp-80: 80/tcp, 1 backend',
    'port tcp-80: 80/tcp, 2 backends',
  ]);
});

test('add and apply tell a change in the same words', async () => {
  const file = join(cli.directory, 'rule.yaml');
  const write = (action: string): void =>
    writeFileSync(file, `kind: acl\nname: two\nto: {ports: [25/tcp]}\naction: ${action}\n`);
  const add = async (action: string, ...rest: string[]): Promise<string> =>
    (await acl('add', 'one', '--to', ':25/tcp', '--action', action, ...rest)).out;
  const apply = async (...rest: string[]): Promise<string> =>
    (await zerohop('apply', '-f', file, ...rest)).out;
  const told: [string, string][] = [];
  for (const action of ['deny', 'audit', 'audit']) {
    write(action);
    told.push([await add(action, '--dry-run'), await apply('--dry-run')]);
    told.push([await add(action), await apply()]);
  }
  const both = (verb: string): [string, string] => [`${verb} acl one\n`, `${verb} acl two\n`];
  const same: [string, string] = ['nothing to change\n', 'nothing to change\n'];
  assert.deepEqual(told, [
    both('would create'),
    both('created'),
    both('would update'),
    both('updated'),
    same,
    same,
  ]);
  assert.equal(
    (await acl('rm', 'one', 'two', '--dry-run')).out,
    'would remove acl one\nwould remove acl two\n',
  );
  assert.equal((await acl('rm', 'one', 'two')).out, 'removed acl one\nremoved acl two\n');
});

test('wrong input is refused with what to do', async () => {
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['add', 'x'], 2, /required option '--to/],
    [['add', 'x', '--to', 'a/b'], 2, /--to "a\/b" is no service, block or port\n {2}for example/],
    [['add', 'x', '--to', 'web', '--from', 'web'], 2, /--from "web" is not unit, cgroup/],
    [['add', 'x', '--to', 'web', '--action', 'drop'], 2, /Allowed choices are allow, deny, audit/],
    [['add', 'X y', '--to', 'web'], 1, /rule name "x y" is malformed/],
    [
      ['add', 'x', '--to', 'web', '--from', 'unit:web'],
      1,
      /from\[0\]\.unit: unit "web" has no suffix: did you mean web\.service\?/,
    ],
    [
      ['add', 'x', '--to', '10.0.0.1/8'],
      1,
      /to\.cidr: cidr "10\.0\.0\.1\/8" has bits after its prefix/,
    ],
    [['show', 'nope'], 1, /there is no rule "nope"/],
    [['rm', 'nope'], 1, /there is no rule "nope"/],
    [['test', '--from', 'unit:x.service'], 2, /required option '--to/],
    [['test', '--to', 'web:80', '--from', 'x'], 2, /--from "x" is not/],
    [['log', '-n', 'x'], 2, /number "x" is not a whole number/],
    [['log', '--rule', 'X_'], 1, /rule/],
  ];
  for (const [args, code, expected] of cases) {
    const result = await acl(...args);
    assert.match(result.err, expected, args.join(' '));
    assert.equal(result.code, code, args.join(' '));
    assert.equal(result.out, '', args.join(' '));
  }
});

test('a question is asked as given, and a denial is exit code 1', async () => {
  engine.acls.answer = {
    allowed: false,
    subject: { cgroup: '/system.slice/other.service' },
    targets: [
      {
        address: '10.0.0.1:6379',
        protocol: 'tcp',
        service: 'redis.prod',
        portName: 'main',
        verdict: 'deny',
        rule: 'only-web',
        audit: [],
        why: 'only-web allows others, and not this one',
        rules: [
          { rule: 'only-web', action: 'allow', applies: false, why: 'is about unit:web.service' },
        ],
        kernel: { same: true, verdict: 'deny', rule: 'only-web' },
      },
    ],
    notes: ['a note'],
  };
  const denied = await acl('test', '--from', 'unit:other.service', '--to', 'redis.prod:main');
  assert.equal(denied.code, 1);
  assert.deepEqual(denied.out.split('\n'), [
    'asking: cgroup /system.slice/other.service',
    'denied  10.0.0.1:6379/tcp (redis.prod:main): only-web allows others, and not this one',
    '  only-web  allow  -  is about unit:web.service',
    '  the kernel says the same',
    '',
  ]);
  assert.equal(denied.err, 'a note\n');
  assert.deepEqual(engine.acls.questions.at(-1), {
    from: { unit: 'other.service' },
    to: { service: 'redis.prod', port: 'main' },
  });
  engine.acls.answer = { allowed: true, subject: {}, targets: [], notes: [] };
  assert.equal((await acl('test', '--from', 'pid:1', '--to', '10.0.0.1:53/udp')).code, 0);
});

const line =
  '2026-01-01T00:00:00.000Z deny only-web: other.service curl[42] deploy to 10.0.0.1:6379/tcp (redis.prod:main) through 240.0.0.1:6379';

test('the log shows who was denied what, of one rule if asked', async () => {
  engine.acls.entries = [denial, { ...denial, rule: 'other' }];
  assert.equal((await acl('log', '--rule', 'only-web')).out, `${line}\n`);
  const all = JSON.parse((await acl('log', '--json')).out) as { entries: unknown[] };
  assert.deepEqual(all.entries, [denial, { ...denial, rule: 'other' }]);
  engine.acls.entries = [];
  assert.match((await acl('log')).err, /nothing was denied or audited/);
});

test(
  'log -f goes on, tells of what was lost, and ends with the agent',
  { timeout: 20_000 },
  async () => {
    engine.acls.entries = [denial];
    const child = cli.spawn('acl', 'log', '-f', '--rule', 'only-web');
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    while (!out.includes('\n')) await new Promise((resolve) => setTimeout(resolve, 10));
    const [follower] = engine.acls.followers;
    assert.ok(follower !== undefined, 'it follows');
    follower.entry({ ...denial, rule: 'other' });
    follower.entry({ ...denial, time: 'LATER' });
    follower.dropped(7);
    while (!err.includes('7 verdicts not shown'))
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(out.split('\n'), [line, line.replace(/^\S+/, 'LATER'), '']);
    const ended = new Promise((resolve) => child.on('exit', resolve));
    await cli.stop();
    assert.equal(await ended, 0);
    assert.equal(engine.acls.followers.size, 0);
  },
);
