/** `zerohop cluster`, `members` and `routes` as processes, against an agent without a network. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, test } from 'node:test';
import type { ClusterAnswer, MembershipAnswer } from '../../../src/api/cluster-schemas.ts';
import { caresOf, isInStep, rttText, standingText } from '../../../src/cli/cluster-text.ts';
import { joinCommand } from '../../../src/cli/cluster-token.ts';
import { formatDuration, parseDuration } from '../../../src/cli/duration.ts';
import { UsageError } from '../../../src/cli/output.ts';
import { FakeCluster, member, nodeId, SELF, WORD } from '../api/fake-cluster.ts';
import { cliForTests, type Result } from './kit.ts';

const cli = cliForTests();
const { cluster } = cli.engine;
const zerohop = (args: readonly string[], more = {}): Promise<Result> => cli.run(args, more);

beforeEach(() => {
  Object.assign(cluster, { list: [], issued: [], told: {}, ways: [], behind: [] });
  cluster.calls.length = 0;
});
const ID = 'b'.repeat(16);
const A = nodeId('a');
const B = nodeId('b');
const C = nodeId('c');

const OUTSIDE =
  'in no cluster: `zerohop cluster init` founds one, `zerohop cluster join` joins one\n';

test('init tells what was made and what comes next', async () => {
  const { code, out, err } = await zerohop(['cluster', 'init']);
  assert.deepEqual(
    [code, ...out.split('\n')],
    [0, `cluster  ${ID}`, `node     ${A} (web1)`, 'listens  10.0.0.1:7946', ''],
  );
  assert.match(err, /`zerohop cluster token` makes a token, with which another host joins/);
  const again = await zerohop(['cluster', 'init']);
  assert.equal(again.code, 1);
  assert.match(again.err, /this host is in the cluster b{16} already\n {2}`zerohop members` shows/);
});

test('a token is alone on standard output, and standard error has no word in it', async () => {
  cluster.list = [SELF];
  const made = await zerohop(['cluster', 'token', '--valid', '10m', '--signer']);
  assert.equal(made.out, `${WORD}\n`);
  assert.deepEqual(made.err.split('\n'), [
    "good once, until 2026-01-01T01:00:00.000Z, at this host; the host gets the CA's key too: keep it like a password. On the other host:",
    '  zerohop cluster join 10.0.0.1:7946 --token -',
    'which reads the word from standard input',
    '',
  ]);
  await zerohop(['cluster', 'token']);
  assert.deepEqual(cluster.calls, [
    ['token', 600, true],
    ['token', 3600, false],
  ]);
  const issued = { ...cluster.issueToken({ validForS: 1, signer: false }), token: 'WORD' };
  assert.equal(joinCommand(issued, true), 'zerohop cluster join 10.0.0.1:7946 --token WORD');
});

test('tokens are listed with who used them, and withdrawn by their ids', async () => {
  const [open, used, expired] = ['00000000000000aa', '00000000000000bb', '00000000000000cc'];
  const later = '2999-01-01T00:00:00.000Z';
  const at = '2026-01-01T00:30:00.000Z';
  cluster.list = [SELF, member('b', 'web2')];
  cluster.issued = [
    { id: open, expiresAt: later, signer: true },
    { id: used, expiresAt: later, signer: false, used: { at, node: B } },
    { id: expired, expiresAt: '2026-01-01T00:00:00.000Z', signer: false },
  ];
  assert.deepEqual((await zerohop(['cluster', 'tokens'])).out.split('\n'), [
    'TOKEN             STATE    EXPIRES                   SIGNER  USED BY',
    '00000000000000aa  open     2999-01-01T00:00:00.000Z  yes',
    '00000000000000bb  used     2999-01-01T00:00:00.000Z  no      web2 2026-01-01T00:30:00.000Z',
    '00000000000000cc  expired  2026-01-01T00:00:00.000Z  no',
    '',
  ]);
  assert.equal((await zerohop(['cluster', 'tokens', '-q'])).out, `${open}\n`);
  const both = await zerohop(['cluster', 'withdraw', open, used]);
  assert.equal(both.out, `withdrew token ${open}\n`);
  assert.match(both.err, /the token 0+bb was used by node b{25}a: it cannot be withdrawn/);
  assert.equal(both.code, 1);
});

const NEIGHBOUR_LINES = [
  'NAME  ID                          STATE  ZONE  ADDRESS        RTT      VERSION  SINCE',
  `web1  ${A}  alive  east  10.0.0.1:7946  self     0.1.0    2026-01-01T00:00:00.000Z`,
  `web2  ${B}  alive  east  10.0.0.2:7946  0.42 ms  0.1.0    2026-01-01T00:00:00.000Z`,
  '',
];

test('join waits until nothing differs from what a neighbour told, then shows the members', async () => {
  // Seen by the answer to join itself, and by each look after it.
  cluster.behind = [undefined, undefined, 3, 1, 0];
  const { code, out, err } = await zerohop(
    ['cluster', 'join', '10.0.0.2', '--token', '-', '--merge'],
    { input: `  ${WORD}\n` },
  );
  assert.equal(code, 0, err);
  assert.deepEqual(out.split('\n'), NEIGHBOUR_LINES);
  assert.deepEqual(err.split('\n'), [
    'zerohop: asking 10.0.0.2 for a certificate',
    `zerohop: in the cluster ${ID}, as node ${A}`,
    'zerohop: 2 of 2 members alive, 1 neighbour, not compared yet',
    'zerohop: 2 of 2 members alive, 1 neighbour, behind: 3 documents differ from web2',
    'zerohop: 2 of 2 members alive, 1 neighbour, behind: 1 document differs from web2',
    'zerohop: 2 of 2 members alive, 1 neighbour, in step',
    '',
  ]);
  const how = { address: '10.0.0.2', token: WORD, state: 'merge' };
  assert.deepEqual(cluster.calls, [['join', how]]);
});

test('join takes the word from its environment, and with --no-wait does not wait', async () => {
  cluster.behind = [3];
  const args = ['cluster', 'join', 'web2', '--no-wait', '--discard', '--json'];
  const { code, out, err } = await zerohop(args, { env: { ZEROHOP_TOKEN: WORD } });
  assert.equal(code, 0, err);
  const answer = JSON.parse(out) as MembershipAnswer;
  assert.equal(answer.nodeId, A);
  assert.deepEqual(answer.neighbours, [{ id: B, name: 'web2', rttMs: 0.42, behind: 3 }]);
  assert.deepEqual(cluster.calls, [['join', { address: 'web2', token: WORD, state: 'discard' }]]);
});

test('leave says whom it would take out of what, and does it with --yes', async () => {
  cluster.list = [SELF, member('b', 'web2', { signer: true })];
  const slip = await zerohop(['cluster', 'leave']);
  assert.equal(slip.code, 2);
  assert.equal(
    slip.err,
    `zerohop: this would take web1 out of the cluster ${ID} (2 of 2 members alive); to come back it needs a new token\n  say --yes if that is meant\n`,
  );
  assert.deepEqual(cluster.calls, []);
  const left = await zerohop(['cluster', 'leave', '--yes']);
  assert.equal(left.out, `left the cluster ${ID}\n`);
  assert.equal(left.code, 0);
  const again = await zerohop(['cluster', 'leave']);
  assert.equal(again.code, 1);
  assert.match(again.err, /this host is in no cluster/);
  cluster.list = [SELF, member('b', 'web2')];
  const last = await zerohop(['cluster', 'leave', '--yes']);
  assert.match(last.err, /this host is the last with the CA key/);
  assert.equal((await zerohop(['cluster', 'leave', '--yes', '--force'])).code, 0);
  assert.deepEqual(cluster.calls, [['leave'], ['leave']]);
});

test('revoke names the node it put out, and warns where that is not enough', async () => {
  cluster.list = [SELF, member('b', 'web2'), member('c', 'web3', { signer: true })];
  const web2 = await zerohop(['cluster', 'revoke', 'web2', '--reason', 'sold']);
  assert.deepEqual(web2, { code: 0, out: `revoked web2 ${B}\n`, err: '' });
  const web3 = await zerohop(['cluster', 'revoke', C, '--reason', 'stolen']);
  assert.equal(web3.out, `revoked web3 ${C}\n`);
  assert.match(web3.err, /warning: it had the CA key, which cannot be taken back/);
  assert.deepEqual(cluster.calls, [
    ['revoke', B, 'sold'],
    ['revoke', C, 'stolen'],
  ]);
});

test('members and routes are tables with names', async () => {
  cluster.list = [
    member('c', 'web3', { state: 'dead', zone: '', neighbour: false }),
    SELF,
    member('b', 'web2', { rttMs: 12.3 }),
  ];
  assert.deepEqual((await zerohop(['members'])).out.split('\n'), [
    'NAME  ID                          STATE  ZONE  ADDRESS        RTT    VERSION  SINCE',
    `web1  ${A}  alive  east  10.0.0.1:7946  self   0.1.0    2026-01-01T00:00:00.000Z`,
    `web2  ${B}  alive  east  10.0.0.2:7946  12 ms  0.1.0    2026-01-01T00:00:00.000Z`,
    `web3  ${C}  dead         10.0.0.3:7946         0.1.0    2026-01-01T00:00:00.000Z`,
    '',
  ]);
  assert.equal((await zerohop(['members', '-q'])).out, 'web1\nweb2\nweb3\n');
  cluster.ways = [
    { to: C, name: 'web3', hops: 2, path: [B, C] },
    { to: B, name: 'web2', hops: 1, path: [B] },
  ];
  const lines = ['TO    HOPS  PATH', 'web2  1     web2', 'web3  2     web2 → web3', ''];
  assert.deepEqual((await zerohop(['routes'])).out.split('\n'), lines);
  const [head, , web3] = lines;
  assert.deepEqual((await zerohop(['routes', 'web3'])).out.split('\n'), [head, web3, '']);
  const json: unknown = JSON.parse((await zerohop(['routes', B, '--json'])).out);
  assert.deepEqual(json, { routes: [cluster.ways[1]] });
  const unknown = await zerohop(['routes', 'web4']);
  assert.equal(unknown.code, 1);
  assert.match(unknown.err, /there is no member "web4"\n {2}did you mean "web1"\?/);
  assert.match((await zerohop(['routes', 'web1'])).err, /^no route to web1: /);
});

test('outside a cluster the lists are empty, and say what to do', async () => {
  for (const args of [['members'], ['routes'], ['cluster', 'status']])
    assert.deepEqual(await zerohop(args), { code: 0, out: '', err: OUTSIDE });
  assert.match((await zerohop(['cluster', 'tokens'])).err, /this host has made no tokens/);
});

test('cluster status shows this host, its neighbours, and what to look after', async () => {
  cluster.list = [
    SELF,
    member('b', 'web2', { rttMs: 0.42, signer: true }),
    member('c', 'web3', { state: 'dead', neighbour: false }),
    member('d', 'web4', { state: 'left', neighbour: false, signer: true }),
  ];
  cluster.behind = [2];
  cluster.told = { failOpen: ['web:http'], problems: ['the network is cut'] };
  assert.deepEqual((await zerohop(['cluster', 'status'])).out.split('\n'), [
    `cluster      ${ID}`,
    `this host    web1, node ${A}, at 10.0.0.1:7946, zone east`,
    'certificate  until 2026-01-31T00:00:00.000Z, to be renewed at 2026-01-20T00:00:00.000Z',
    'CA key       on web1, web2',
    'members      2 of 3 members alive, 1 dead, 1 left',
    'links        1 neighbour, behind: 2 documents differ from web2',
    '',
    'NEIGHBOUR  ID                          RTT      STATE',
    `web2       ${B}  0.42 ms  2 documents differ`,
    '',
    'problem: the network is cut',
    'fail open: no host with a backend of web:http is reachable, so all stay in use',
    '',
  ]);
});

test('zerohop status has a line for the cluster, and what to look after', async () => {
  const { out: outside } = await zerohop(['status']);
  assert.match(outside, /^cluster {11}in no cluster$/m);
  cluster.list = [SELF];
  cluster.told = { unsavedDocuments: 1 };
  const { out: inside } = await zerohop(['status']);
  assert.match(inside, /^cluster {11}this host is its only member$/m);
  assert.match(inside, /^not saved: the disk refused 1 document of other hosts; tried again$/m);
});

function standing(told: Partial<MembershipAnswer>): ClusterAnswer {
  const fake = new FakeCluster();
  fake.list = [SELF];
  fake.told = told;
  return fake.status();
}

test('how a host stands is told in one line', () => {
  const members = { alive: 4, suspect: 0, dead: 1, left: 7, unknown: 0 };
  const neighbour = (name: string, behind?: number): MembershipAnswer['neighbours'][number] => ({
    id: name,
    name,
    ...(behind !== undefined && { behind }),
  });
  const told = (...neighbours: MembershipAnswer['neighbours']): string =>
    standingText(standing({ members, neighbours }));
  assert.equal(
    told(neighbour('b', 0), neighbour('c', 0), neighbour('d')),
    '4 of 5 members alive, 3 neighbours, in step',
  );
  assert.equal(
    told(neighbour('b', 1), neighbour('c', 5), neighbour('d')),
    '4 of 5 members alive, 3 neighbours, behind: 5 documents differ from c',
  );
  assert.equal(told(neighbour('b')), '4 of 5 members alive, 1 neighbour, not compared yet');
  assert.equal(told(), '4 of 5 members alive, NO neighbour: cut off from all others');
  const inStep = (...neighbours: MembershipAnswer['neighbours']): boolean => {
    const status = standing({ neighbours });
    return status.member && isInStep(status);
  };
  assert.equal(inStep(), false);
  assert.equal(inStep(neighbour('b')), false);
  assert.equal(inStep(neighbour('b', 0), neighbour('c')), true);
  assert.equal(inStep(neighbour('b', 0), neighbour('c', 1)), false);
  assert.deepEqual([undefined, 0.417, 9.99, 12.3].map(rttText), [
    '',
    '0.42 ms',
    '9.99 ms',
    '12 ms',
  ]);
});

test('conflicts, ports that fail open, and records left out are told in words, after leaving too', () => {
  const conflicts: MembershipAnswer['conflicts'] = [
    { vip: '240.0.0.1', kind: 'reassigned', services: ['api', 'web'], now: '240.0.0.2' },
    { vip: '240.0.0.3', kind: 'reassigned', services: ['api', 'web'] },
    { vip: '10.0.0.9', kind: 'port', services: ['a', 'b'], port: 80, protocol: 'tcp' },
  ];
  assert.deepEqual(caresOf({ member: false, conflicts, unreadable: 2 }), [
    'conflict: api and web both claim 240.0.0.1: api keeps it, web has 240.0.0.2 instead',
    'conflict: api and web both claim 240.0.0.3: api keeps it, web has no VIP instead: the pool is full',
    'conflict: a and b both claim 10.0.0.9 port 80/tcp: a keeps it, b is not reached there',
    'left out: 2 records that this version cannot read: is another member newer?',
  ]);
  assert.deepEqual(caresOf({ member: false }), []);
});

test('durations are a whole number and a unit, within limits', () => {
  const cases = { '1s': 1, '90s': 90, '10m': 600, '24h': 86_400, '7d': 604_800, '030m': 1800 };
  for (const [text, seconds] of Object.entries(cases))
    assert.equal(parseDuration(text, 'x', 1, 1e9), seconds);
  for (const [text, message] of [
    ['', '--valid "" is not a duration'],
    ['1.5h', '--valid "1.5h" is not a duration'],
    ['-1h', '--valid "-1h" is not a duration'],
    ['1h30m', '--valid "1h30m" is not a duration'],
    ['90', '--valid "90" has no unit'],
    ['2w', '--valid "2w" has the unit "w"'],
    ['5M', '--valid "5M" has the unit "M"'],
    ['0s', '--valid "0s" is shorter than 1m'],
    ['8d', '--valid "8d" is longer than 7d'],
    [`${'9'.repeat(400)}d`, `--valid "${'9'.repeat(400)}d" is longer than 7d`],
  ] as const) {
    assert.throws(
      () => parseDuration(text, '--valid', 60, 604_800),
      (error) => error instanceof UsageError && error.message === message,
      text,
    );
  }
  assert.deepEqual([1, 60, 90, 5400, 3600, 172_800].map(formatDuration), [
    '1s',
    '1m',
    '90s',
    '90m',
    '1h',
    '2d',
  ]);
});

test('wrong input is refused with what to do', async () => {
  cluster.list = [SELF];
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['cluster'], 2, /Usage: zerohop cluster/],
    [
      ['cluster', 'token', '--valid', '90'],
      2,
      /--valid "90" has no unit\n {2}write 90s, 90m or 90h/,
    ],
    [['cluster', 'token', '--valid', '31d'], 2, /--valid "31d" is longer than 30d/],
    [['cluster', 'join', '10.0.0.2'], 2, /required option '--token <word>'/],
    [['cluster', 'join', '10.0.0.2', '--token', '-'], 2, /the join token is empty\n {2}make one/],
    [
      ['cluster', 'join', 'x', '--token', WORD, '--merge', '--discard'],
      2,
      /'--discard' cannot be used with option '--merge'/,
    ],
    [['cluster', 'join', 'x', '--token', WORD], 1, /this host is in the cluster b{16} already/],
    [['cluster', 'revoke', 'web2'], 2, /required option '--reason <text>'/],
    [['cluster', 'revoke', 'web1', '--reason', 'x'], 1, /that is this host/],
    [['cluster', 'withdraw', 'x'], 1, /"x" is no token id: it has 16 digits/],
  ];
  for (const [args, code, expected] of cases) {
    const result = await zerohop(args);
    assert.match(result.err, expected, args.join(' '));
    assert.equal(result.code, code, args.join(' '));
    assert.equal(result.out, '', args.join(' '));
  }
  assert.deepEqual(cluster.calls, []);
});

test('completion asks for members and open tokens', async () => {
  cluster.list = [SELF, member('b', 'web2'), member('c', '$(touch${IFS}pwned)')];
  cluster.issued = [
    { id: '00000000000000aa', expiresAt: '2999-01-01T00:00:00.000Z', signer: false },
  ];
  const words = (...typed: string[]): Promise<string[]> => cli.complete(...typed);
  assert.deepEqual(await words('cluster', 'revoke', 'w'), ['web1', 'web2']);
  assert.deepEqual(await words('routes', 'web2'), ['web2']);
  assert.deepEqual(await words('cluster', 'withdraw', '0'), ['00000000000000aa']);
  assert.deepEqual(await words('cluster', 'join', '--no'), ['--no-wait']);
  assert.ok(!existsSync(join(cli.directory, 'pwned')), 'a name was run');
});
