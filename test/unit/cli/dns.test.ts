/** `zerohop dns` as a process, against a resolver that answers what is laid down. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, test } from 'node:test';
import { registerAgent } from '../../../src/cli/agent.ts';
import { dnsText, verdictText } from '../../../src/cli/dns-text.ts';
import type { DnsQueryAnswer, DnsStatusAnswer } from '../../../src/api/dns-schemas.ts';
import { FakeDns } from '../api/fake-dns.ts';
import { cliForTests, type Result } from './kit.ts';

const cli = cliForTests();
const { engine } = cli;
const dns = (...args: string[]): Promise<Result> => cli.run(['dns', ...args]);
const must = (...args: string[]): Promise<string> => cli.must('dns', ...args);

beforeEach(() => {
  Object.assign(engine, { dns: new FakeDns() });
  for (const { name, type } of engine.snapshot().records.values())
    engine.receive({ kind: 'remove-record', name, type });
});

test('the zone is shown with where each answer comes from, and what is not given', async () => {
  assert.deepEqual((await must('zone')).split('\n'), [
    'NAME                      TTL  TYPE  DATA       FROM',
    'web.zerohop.internal      5    A     240.0.0.1  service',
    'web.zerohop.internal      5    AAAA  fd00::1    service',
    'h1.node.zerohop.internal  5    A     10.0.0.1   node',
    'web.zerohop.internal      60   A     192.0.2.1  record, not given: the service web has this name',
    '',
  ]);
  assert.equal(
    await must('zone', 'node.zerohop.internal', '--type', 'a'),
    'NAME                      TTL  TYPE  DATA      FROM\nh1.node.zerohop.internal  5    A     10.0.0.1  node\n',
  );
  assert.equal(await must('zone', '-q'), 'web.zerohop.internal\nh1.node.zerohop.internal\n');
  const json = JSON.parse(await must('zone', '--json')) as { serial: number; entries: object[] };
  assert.deepEqual([json.serial, json.entries.length], [7, 4]);
  const none = await dns('zone', '--type', 'MX');
  assert.deepEqual(none, {
    code: 0,
    out: '',
    err: 'nothing in the zone zerohop.internal is of that name and type\n',
  });
});

test('an answer is printed as dig does it, with where it comes from', async () => {
  assert.equal(
    await must('query', 'Web.zerohop.internal'),
    ';; NOERROR from the zone in 0.10 ms\nweb.zerohop.internal.  5  IN  A  240.0.0.1\n',
  );
  assert.deepEqual(engine.dns.questions, [{ name: 'web.zerohop.internal', type: 'A' }]);
  engine.dns.answer = {
    rcode: 'NXDOMAIN',
    from: 'upstream',
    upstream: '192.0.2.53:53',
    authoritative: false,
    ms: 25.4,
    answers: [],
    authority: [{ name: '', type: 'SOA', ttl: 60, data: 'a. b. 1 2 3 4 5' }],
    additional: [],
    attempts: [
      { upstream: '192.0.2.53:53', transport: 'udp', ms: 12.34, result: 'truncated' },
      { upstream: '192.0.2.53:53', transport: 'tcp', ms: 5.01, result: 'good' },
    ],
  };
  const missing = await dns('query', 'nope.example', 'mx');
  assert.deepEqual(missing, {
    code: 1,
    err: '',
    out: [
      ';; NXDOMAIN from upstream 192.0.2.53:53 in 25 ms',
      ';; asked 192.0.2.53:53 over udp: truncated after 12 ms',
      ';; asked 192.0.2.53:53 over tcp: good after 5.01 ms',
      ';; authority',
      '.  60  IN  SOA  a. b. 1 2 3 4 5',
      '',
    ].join('\n'),
  });
  const json = await dns('query', 'nope.example', 'mx', '--json');
  assert.equal(json.code, 1);
  assert.deepEqual(JSON.parse(json.out), {
    question: { name: 'nope.example', type: 'MX' },
    ...engine.dns.answer,
  });
});

test('why there is no answer is said in words', () => {
  const answer = { ...new FakeDns().answer, question: { name: 'a', type: 'A' } };
  const cases: readonly (readonly [Partial<DnsQueryAnswer>, string])[] = [
    [{ answers: [] }, 'NOERROR, no such record, from the zone in 0.10 ms'],
    [{ rcode: 'SERVFAIL', from: 'failure' }, 'SERVFAIL as no upstream gave an answer in 0.10 ms'],
    [{ rcode: 'REFUSED', from: 'refused' }, 'REFUSED by itself in 0.10 ms'],
    [{ from: 'stale' }, 'NOERROR from the cache, over its time: no upstream answers in 0.10 ms'],
    [{ from: 'cache', ms: 0 }, 'NOERROR from the cache in 0.00 ms'],
  ];
  for (const [more, text] of cases) assert.equal(verdictText({ ...answer, ...more }), text);
});

test('how the resolver stands, and exit code 1 where it does not listen', async () => {
  const lines = (await must('status')).split('\n');
  assert.deepEqual(lines.slice(0, 6), [
    'zone       zerohop.internal: 3 names, serial 7',
    'listens    127.0.0.55:53',
    'kernel     answers by itself (3 answers prepared)',
    'requests   10: 9 NOERROR, 1 NXDOMAIN',
    'answers    4 cache, 3 upstream, 3 zone',
    'cache      2 answers, 300 B of 16.0 MiB; 4 hits, 3 not there',
  ]);
  assert.match(lines[6] ?? '', /^this host {2}(asks it, by|does not ask it)/);
  assert.deepEqual(lines.slice(7), [
    '',
    'UPSTREAM       FOR  STATE  RTT      SENT  RESULTS',
    '192.0.2.53:53  all  good   1.50 ms  3     2 good, 1 timeout',
    '',
  ]);
  engine.dns.state = {
    ...engine.dns.state,
    ready: false,
    listeners: [
      { address: '127.0.0.55:53', listening: true },
      { address: '10.0.0.7:53', listening: false, problem: 'dnsmasq (pid 7) has it' },
    ],
    upstreams: [],
    kernel: { state: 'unavailable', why: 'no BTF', entries: 0 },
    counters: { requests: 0, rcodes: {}, from: {}, dropped: { malformed: 2 } },
  };
  const { code, out, err } = await dns('status');
  assert.equal(code, 1);
  assert.equal(err, 'no upstreams: names of others are answered with SERVFAIL\n');
  assert.deepEqual(out.split('\n').slice(0, 8), [
    'zone       zerohop.internal: 3 names, serial 7, not ready yet',
    'listens    127.0.0.55:53',
    '           not at 10.0.0.7:53: dnsmasq (pid 7) has it',
    'kernel     unavailable: no BTF',
    'requests   0',
    'answers    none yet',
    'cache      2 answers, 300 B of 16.0 MiB; 4 hits, 3 not there',
    'dropped    2 malformed',
  ]);
  const why = 'not over IPv6: this host has no IPv6';
  engine.dns.state = { ...engine.dns.state, kernel: { state: 'active', why, entries: 3 } };
  assert.equal(
    (await dns('status')).out.split('\n')[3],
    `kernel     answers by itself (3 answers prepared); ${why}`,
  );
  assert.deepEqual(JSON.parse((await dns('status', '--json')).out), engine.dns.state);
});

test('zerohop status has a line about it', async () => {
  assert.match(
    await cli.must('status'),
    /^dns +zerohop\.internal: 3 names at 127\.0\.0\.55:53; answered in the kernel; 1 upstream$/m,
  );
  const { state } = engine.dns;
  const [upstream] = state.upstreams;
  assert.ok(upstream !== undefined);
  const told = (more: Partial<DnsStatusAnswer>): string => dnsText({ ...state, ...more });
  assert.equal(told({ enabled: false }), 'off');
  assert.equal(
    told({
      kernel: { state: 'off', entries: 0 },
      listeners: [],
      upstreams: [upstream, { ...upstream, state: 'failing' }, { ...upstream, state: 'loop' }],
    }),
    'zerohop.internal: 3 names at no address; 3 upstreams, 2 failing',
  );
  engine.dns.state = {
    ...state,
    listeners: [{ address: '127.0.0.55:53', listening: false, problem: 'in use' }],
  };
  const { code, out } = await cli.run(['status']);
  assert.equal(code, 0);
  assert.match(out, /^no DNS at 127\.0\.0\.55:53: in use$/m);
});

test('flush forgets a name or everything', async () => {
  assert.equal(await must('flush'), 'forgot 2 answers\n');
  assert.equal(await must('flush', 'Example.com.'), 'forgot 2 answers\n');
  assert.equal(await must('flush', '--json'), '{\n  "flushed": 2\n}\n');
  assert.deepEqual(engine.dns.flushed, [undefined, 'example.com', undefined]);
});

test('records from first to last', async () => {
  assert.deepEqual(await dns('record', 'ls'), {
    code: 0,
    out: '',
    err: 'no records yet: `zerohop dns record add` adds one\n',
  });
  const add = (...args: string[]): Promise<string> => must('record', 'add', ...args);
  assert.equal(
    await add('DB.example.', 'a', '10.0.0.7', '10.0.0.8', '--ttl', '60'),
    'created record db.example A\n',
  );
  assert.equal(await add('db.example', 'A', '10.0.0.8'), 'nothing to change\n');
  assert.equal(await add('db.example', 'A', '10.0.0.9'), 'updated record db.example A\n');
  assert.equal(
    await add('db.example', 'A', '10.0.0.1', '--replace', '--dry-run'),
    'would update record db.example A\n',
  );
  assert.equal(
    await add('db.example', 'MX', '10', 'mail.example'),
    'created record db.example MX\n',
  );
  assert.equal(await add('db.example', 'mx', '20 b.example'), 'updated record db.example MX\n');
  assert.equal(
    await add('_sip._udp.example', 'srv', '0', '5', '5060', 'sip.example'),
    'created record _sip._udp.example SRV\n',
  );
  assert.equal(await add('db.example', 'TXT', '--', '-1 x'), 'created record db.example TXT\n');
  assert.deepEqual((await must('record', 'ls')).split('\n'), [
    'NAME               TYPE  TTL  DATA',
    '_sip._udp.example  SRV        0 5 5060 sip.example',
    'db.example         A     60   10.0.0.7',
    'db.example         A     60   10.0.0.8',
    'db.example         A     60   10.0.0.9',
    'db.example         MX         10 mail.example',
    'db.example         MX         20 b.example',
    'db.example         TXT        -1 x',
    '',
  ]);
  assert.equal(await must('record', 'ls', '-q'), '_sip._udp.example\ndb.example\n');
  const { records } = JSON.parse(await must('record', 'ls', '--json')) as { records: object[] };
  assert.deepEqual(records[1], {
    name: 'db.example',
    type: 'A',
    ttl: 60,
    data: ['10.0.0.7', '10.0.0.8', '10.0.0.9'],
  });
  const exported = await cli.must('export');
  assert.match(exported, /^kind: record\nname: db\.example\ntype: A\nttl: 60\ndata:\n {2}- 10/m);
  assert.equal(
    await must('record', 'rm', 'db.example', 'A', '--dry-run'),
    'would remove record db.example A\n',
  );
  assert.equal(await must('record', 'rm', 'db.example', 'A'), 'removed record db.example A\n');
  assert.equal(
    await must('record', 'rm', 'db.example'),
    'removed record db.example TXT\nremoved record db.example MX\n',
  );
  await must('record', 'rm', '_sip._udp.example');
  const back = await cli.run(['apply', '-f', '-'], { input: exported });
  assert.equal(back.err, '');
  assert.equal(await cli.must('export'), exported);
  const again = await cli.run(['apply', '-f', '-', '--dry-run'], { input: exported });
  assert.equal(again.out, 'nothing to change\n');
});

test('a record that another host wrote beside a service is told of', async () => {
  const record = { name: 'web.zerohop.internal', type: 'A', data: ['192.0.2.1'] } as const;
  engine.receive({ kind: 'put-record', record });
  const { code, out, err } = await dns('record', 'ls');
  assert.equal(code, 0);
  assert.equal(
    out,
    'NAME                  TYPE  TTL  DATA\nweb.zerohop.internal  A          192.0.2.1\n',
  );
  assert.equal(
    err,
    'zerohop: warning: web.zerohop.internal A is not given: the service web has this name\n',
  );
});

test('wrong input is refused with what to do', async () => {
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [[], 2, /Usage: zerohop dns/],
    [['query'], 2, /missing required argument 'name'/],
    [['query', 'a..b'], 1, /name "a\.\.b" is malformed: a label is empty/],
    [['query', 'a', 'AXFR'], 1, /type "AXFR" is none of A, NS/],
    [['record', 'add', 'a.b', 'A'], 2, /missing required argument 'data'/],
    [['record', 'add', 'a.b', 'A', 'x'], 1, /data\[0\]: A data "x" is not an IPv4 address/],
    [['record', 'add', 'a.b', 'NS', 'x'], 1, /type "NS" is none of A, AAAA, CNAME/],
    [['record', 'add', 'a.b', 'A', '10.0.0.1', '--ttl', '1h'], 2, /--ttl "1h" is not a whole/],
    [['record', 'add', '*.b', 'A', '10.0.0.1'], 1, /there are no wildcards/],
    [['record', 'rm', 'no.such'], 1, /there is no record of "no\.such"/],
    [['zone', '--socket', '/nonexistent.sock'], 3, /no agent is running/],
    [['install', '--config', '/nonexistent.yaml'], 1, /nonexistent\.yaml cannot be read/],
    [['install', '--dry-run', '--dns-listen', 'x'], 1, /dns\.listen "x" is not an IP address/],
  ];
  for (const [args, code, expected] of cases) {
    const result = await dns(...args);
    assert.match(result.err, expected, args.join(' '));
    assert.equal(result.code, code, args.join(' '));
    assert.equal(result.out, '', args.join(' '));
  }
});

test('install and uninstall say what they would do, without an agent', async () => {
  const config = join(cli.directory, 'dns.yaml');
  writeFileSync(config, 'dns: {enabled: false, listen: [127.0.0.56]}\n');
  const plan = await dns('install', '--config', config, '--dry-run', '--json');
  assert.equal(plan.code, 0, plan.err);
  const report = JSON.parse(plan.out) as { methods: string[]; steps: string[] };
  assert.equal(report.methods.length > 0, true);
  assert.match(plan.err, /warning: dns\.enabled is false: nobody answers there/);
  const text = await dns('install', '--dry-run', '--dns-listen', '127.0.0.57');
  assert.equal(text.code, 0, text.err);
  assert.match(text.out, /^would do: .*127\.0\.0\.57|^would do: .*systemd-resolved/m);
  const back = JSON.parse(await must('uninstall', '--dry-run', '--json')) as object;
  assert.deepEqual(Object.keys(back), ['methods', 'steps', 'warnings']);
});

test('the agent has its options, and a variable for each', async () => {
  const agent = async (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> => {
    const config = ['--config', join(cli.directory, 'agent.yaml')];
    writeFileSync(join(cli.directory, 'agent.yaml'), 'vipCidr4: x\n');
    return (await cli.run(['agent', ...config, ...args], { env })).err;
  };
  assert.doesNotMatch(await agent(['--no-dns', '--no-dns-kernel']), /dns/);
  assert.match(await agent(['--dns-listen', '127.0.0.1', '--dns-listen', 'x']), /dns\.listen "x"/);
  assert.match(await agent([], { ZEROHOP_DNS_LISTEN: '127.0.0.1,y' }), /dns\.listen "y"/);
  for (const [args, env, expected] of [
    [[], {}, [true, true]],
    [['--no-dns'], {}, [false, true]],
    [['--no-dns-kernel'], {}, [true, false]],
    [[], { ZEROHOP_NO_DNS: '1' }, [false, true]],
    [[], { ZEROHOP_NO_DNS_KERNEL: '1' }, [true, false]],
  ] as const) {
    Object.assign(process.env, env);
    try {
      const { Command } = await import('commander');
      const program = new Command();
      registerAgent(program);
      const command = program.commands[0] ?? assert.fail('no command');
      command.action(() => undefined);
      await program.parseAsync(['node', 'zerohop', 'agent', ...args]);
      const { dns: enabled, dnsKernel } = command.opts<{ dns: boolean; dnsKernel: boolean }>();
      assert.deepEqual([enabled, dnsKernel], expected, JSON.stringify([args, env]));
    } finally {
      for (const name of Object.keys(env)) delete process.env[name];
    }
  }
});

test('completion offers names of the zone and of records', async () => {
  const names = ['h1.node.zerohop.internal', 'web.zerohop.internal'];
  assert.deepEqual(
    (await cli.complete('dns', 'query', '')).filter((one) => !one.startsWith('-')).toSorted(),
    names,
  );
  assert.deepEqual(await cli.complete('dns', 'zone', 'h'), ['h1.node.zerohop.internal']);
  await must('record', 'add', 'db.example', 'A', '10.0.0.1');
  assert.deepEqual(await cli.complete('dns', 'record', 'rm', 'd'), ['db.example']);
  assert.deepEqual(await cli.complete('dns', 'record', 'add', 'd'), []);
  assert.deepEqual(await cli.complete('dns', 'flush', 'h'), []);
  assert.deepEqual(await cli.complete('dns', 'un'), ['uninstall']);
});
