/**
 * Access control from the command line to the kernel, and back into the log: in
 * every enforcement that this machine has. Ways around it: acl-bypass-*.test.ts.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../harness/child.ts';
import { smallMaps } from '../harness/config.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { dumpMap, dumpTables, linkIds, mapIds, mapPath } from '../harness/maps.ts';
import { HOST4, PEER4, modes, Stage, type Who } from './attacks/stage.ts';

const web: Who = { cgroup: 'web.service' };
const other: Who = { cgroup: 'other.service' };

const redis = {
  kind: 'service',
  name: 'redis.prod',
  vips: ['240.0.0.1'],
  ports: [{ name: 'main', port: 6379 }],
  backends: [{ address: '127.0.0.1:6001' }],
};

interface LogEntry {
  readonly verdict: string;
  readonly rule: string;
  readonly via?: string;
  readonly workload: {
    unit?: string;
    cgroup?: string;
    pid?: number;
    command?: string;
    user?: string;
  };
  readonly destination: { service?: string; portName?: string; address?: string };
}

async function guarded(mode: 'cgroup' | 'lsm'): Promise<Stage> {
  const stage = await Stage.create(mode);
  await stage.witnesses('redis=tcp,127.0.0.1,6001');
  await stage.apply(redis);
  return stage;
}

const direct = 'tcp.connect=127.0.0.1,6001';
const throughVip = 'tcp.connect=240.0.0.1,6379';
const reaches = { [direct]: 'redis', [throughVip]: 'redis' };
const refused = { [direct]: 'EPERM', [throughVip]: 'EPERM' };

async function entries(stage: Stage, query = ''): Promise<LogEntry[]> {
  const answer = await stage.host.api('GET', `/v1/acl-log?limit=4096${query}`);
  return (answer.json() as { entries: LogEntry[] }).entries;
}

for (const { mode, options } of modes()) {
  test(
    `${mode}: a rule from the command line is obeyed when it returns, counted and logged`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const { host } = stage;
      await stage.expect(other, reaches);
      const added = await host.must(
        'acl',
        'add',
        'only-web',
        '--to',
        'redis.prod',
        '--from',
        'unit:web.service',
      );
      assert.equal(added.stdout, 'created acl only-web\n');
      await stage.expect(other, refused);
      await stage.expect(web, reaches);
      await stage.expect(other, { 'tcp.connect=127.0.0.9,6001': 'EPERM' });
      const [one, two, alias, ...more] = await entries(stage);
      assert.deepEqual(more, []);
      assert.deepEqual(
        [one?.verdict, one?.rule, one?.workload.unit, one?.via],
        ['deny', 'only-web', 'other.service', undefined],
      );
      assert.equal(one?.workload.cgroup, stage.cgroupPath('other.service'));
      assert.equal(one.workload.user, 'root');
      assert.deepEqual(one.destination, {
        address: '127.0.0.1:6001',
        port: 6001,
        protocol: 'tcp',
        service: 'redis.prod',
        portName: 'main',
      });
      assert.deepEqual([two?.via, two?.destination.address], ['240.0.0.1:6379', '127.0.0.1:6001']);
      assert.deepEqual(alias?.destination, {
        ...one.destination,
        address: '127.0.0.9:6001',
      });
      const ls = (await host.must('acl', 'ls', '--json')).json() as {
        acls: { counters: object }[];
      };
      assert.deepEqual(
        ls.acls.map(({ counters }) => counters),
        [{ denied: 3, allowed: 2, audited: 0 }],
      );
      assert.equal((await host.must('acl', 'rm', 'only-web')).stdout, 'removed acl only-web\n');
      await stage.expect(other, reaches);
      // A number that is used again counts from zero.
      await host.must('acl', 'add', 'second', '--to', 'redis.prod', '--action', 'audit');
      await stage.expect(other, reaches);
      const again = (await host.must('acl', 'ls', '--json')).json() as {
        acls: { counters: object }[];
      };
      assert.deepEqual(
        again.acls.map(({ counters }) => counters),
        [{ denied: 0, allowed: 0, audited: 2 }],
      );
    },
  );

  test(
    `${mode}: the policy goes on with the agent dead, new cgroups included, and is taken over as it is`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const { host } = stage;
      await host.must('acl', 'add', 'only-web', '--to', 'redis.prod', '--from', 'unit:web.service');
      await host.agent.kill('SIGKILL');
      await stage.expect(other, refused);
      // Nobody but the kernel is there to see these being made.
      await stage.expect({ cgroup: 'web.service/made/later' }, reaches);
      await stage.expect({ cgroup: 'nested.slice/web.service' }, reaches);
      await stage.expect({ cgroup: 'nested/web.service' }, refused);
      const dump = await host.must('maps', 'dump', 'zh_acl_rules');
      assert.match(dump.stdout, /^1 +only-web +allow$/m);
      const before = [await dumpTables(host), await linkIds(host), await mapIds(host)];
      await host.agent.start({ config: stage.config });
      assert.deepEqual([await dumpTables(host), await linkIds(host), await mapIds(host)], before);
      assert.deepEqual(
        host.agent.log().filter(({ level }) => level === 'warn'),
        [],
      );
      await stage.expect(other, refused);
    },
  );

  test(
    `${mode}: without rules nothing is attached, and nothing is left when the last one goes`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const { host } = stage;
      const idle = await linkIds(host);
      assert.equal(idle.size, 9);
      await stage.apply({
        kind: 'acl',
        name: 'all',
        to: { service: 'redis.prod' },
        from: [{ unit: 'web.service' }, { cidr: '192.0.2.0/24' }],
        action: 'allow',
      });
      const judging = [...(await linkIds(host)).keys()]
        .filter((name) => !idle.has(name))
        .toSorted();
      const lsm = mode === 'lsm' ? ['lsm_connect', 'lsm_sctp', 'lsm_sendmsg'] : [];
      assert.deepEqual(judging, ['cgroup_mkdir', 'cgroup_rmdir', 'ingress', ...lsm]);
      await stage.removeAcl('all');
      assert.deepEqual(await linkIds(host), idle);
      for (const map of [
        'dests',
        'cidrs',
        'matches',
        'sources',
        'rules',
        'cgroups',
        'globs',
        'emits',
      ]) {
        assert.deepEqual(await dumpMap(host, `zh_acl_${map}`), [], map);
      }
    },
  );

  test(`${mode}: the capabilities of the systemd unit are enough`, options, async () => {
    await using stage = await guarded(mode);
    const { host } = stage;
    await host.agent.stop();
    const unit = readFileSync(new URL('../../scripts/zerohop.service', import.meta.url), 'utf8');
    const names = /^CapabilityBoundingSet=(.+)$/m.exec(unit)?.[1] ?? assert.fail('no bounding set');
    const kept = names.split(' ').map((name) => `+${name.replace('CAP_', '').toLowerCase()}`);
    const wrapper = ['setpriv', '--bounding-set', `-all,${kept.join()}`];
    await host.agent.start({ config: stage.config, wrapper });
    const rule = { kind: 'acl', name: 'only-web', to: { service: 'redis.prod' }, action: 'allow' };
    await stage.apply({
      ...rule,
      from: [{ unit: 'web.service' }, { user: 'daemon' }, { cidr: '192.0.2.0/24' }],
    });
    await stage.expect(other, refused);
    await stage.expect(web, reaches);
    await stage.expect({ user: 1 }, reaches);
    await host.agent.kill('SIGKILL');
    await host.agent.start({ config: stage.config, wrapper });
    await stage.apply({ ...rule, from: [{ user: 'daemon' }] });
    await stage.expect(web, refused);
    const { acl } = (await host.api('GET', '/v1/status')).json() as { acl: { state: string } };
    assert.equal(acl.state, 'active');
  });

  test(
    `${mode}: acl test explains what the kernel does, and says when the two differ`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const { host } = stage;
      await host.must('acl', 'add', 'only-web', '--to', 'redis.prod', '--from', 'unit:web.service');
      const ask = async (from: string[], to: string): Promise<{ code: number; stdout: string }> =>
        await host.zerohop('acl', 'test', ...from.flatMap((item) => ['--from', item]), '--to', to);
      const no = await ask(['unit:other.service'], 'redis.prod:6379');
      assert.equal(no.code, 1);
      assert.match(
        no.stdout,
        /^denied {2}127\.0\.0\.1:6001\/tcp \(redis\.prod:main\): only those allowed get in: only-web$/m,
      );
      assert.match(no.stdout, /^ {2}only-web {2}allow {2}- {2}.*none of unit web\.service$/m);
      assert.match(no.stdout, /the kernel says the same/);
      stage.cgroup('web.service');
      const yes = await ask([`cgroup:${stage.cgroupPath('web.service')}`], '240.0.0.1:6379');
      assert.equal(yes.code, 0, yes.stdout);
      assert.match(
        yes.stdout,
        /^allowed {2}127\.0\.0\.1:6001\/tcp .*through 240\.0\.0\.1:6379: allowed by only-web$/m,
      );
      assert.match(yes.stdout, /the kernel says the same/);
      await stage.apply(
        { ...redis, name: 'mdns', vips: ['240.0.0.2'], ports: [{ port: 5353, protocol: 'udp' }] },
        { kind: 'acl', name: 'no-mdns', to: { service: 'mdns' }, action: 'deny' },
      );
      const group = await ask(['unit:other.service'], '224.0.0.251:6001/udp');
      assert.match(
        group.stdout,
        /^denied {2}224\.0\.0\.251:6001\/udp: denied by no-mdns \(a datagram to a group is [^]*the kernel says the same/m,
      );
      const pid = await ask([`pid:${process.pid}`], '127.0.0.1:6001');
      assert.match(pid.stdout, /denied[^]*the kernel says the same/);
      // The kernel's tables are what is compared: without them it lets everything through.
      const path = mapPath(host, 'zh_acl_dests');
      for (const { key } of await dumpMap(host, 'zh_acl_dests')) {
        await run(['bpftool', 'map', 'delete', 'pinned', path, 'key', ...key]);
      }
      const differs = await ask(['unit:other.service'], 'redis.prod');
      assert.match(differs.stdout, /BUT THE KERNEL SAYS ALLOW/);
    },
  );

  test(
    `${mode}: from outside: only the sources of a rule reach the port, and acl test says so`,
    options,
    async () => {
      await using stage = await Stage.create(mode);
      const { host } = stage;
      await stage.witnesses(`redis=tcp,${HOST4},6001`);
      await stage.apply({ ...redis, backends: [{ address: `${HOST4}:6001` }] });
      stage.waitMs = 1500;
      const attempt = `tcp.connect=${HOST4},6001`;
      await stage.expect({}, { [attempt]: 'redis' }, stage.peer);
      await host.must(
        'acl',
        'add',
        'office',
        '--to',
        'redis.prod',
        '--from',
        'cidr:198.51.100.0/24',
      );
      assert.notDeepEqual(await stage.tries({}, [attempt], stage.peer), ['redis']);
      await stage.expect({}, { [attempt]: 'redis' });
      const denied = await host.zerohop(
        'acl',
        'test',
        '--from',
        `cidr:${PEER4}`,
        '--to',
        'redis.prod',
      );
      assert.equal(denied.code, 1);
      assert.match(denied.stdout, /^denied {2}port 6001\/tcp[^]*the kernel says the same/m);
      const [entry] = await entries(stage, '&rule=office');
      assert.deepEqual(
        { ...entry, time: '', workload: {} },
        {
          time: '',
          verdict: 'deny',
          rule: 'office',
          workload: {},
          source: PEER4,
          destination: { port: 6001, protocol: 'tcp', service: 'redis.prod', portName: 'main' },
          hook: 'cgroup_skb/ingress',
        },
      );
      await host.must('acl', 'add', 'office', '--to', 'redis.prod', '--from', 'cidr:192.0.2.0/24');
      await stage.expect({}, { [attempt]: 'redis' }, stage.peer);
    },
  );

  test(
    `${mode}: a unit that is gone before the agent looks is logged with its name`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const { host } = stage;
      await host.must('acl', 'add', 'only-web', '--to', 'redis.prod', '--from', 'unit:web.service');
      process.kill(host.agent.pid, 'SIGSTOP');
      try {
        const [slice, unit] = [join(host.cgroup, 'short.slice'), 'short.slice/once.service'];
        mkdirSync(slice);
        await stage.expect({ cgroup: unit }, { [direct]: 'EPERM' });
        rmdirSync(join(host.cgroup, unit));
        rmdirSync(slice);
      } finally {
        process.kill(host.agent.pid, 'SIGCONT');
      }
      const [one] = await entries(stage);
      assert.equal(one?.workload.cgroup, stage.cgroupPath('short.slice/once.service'));
    },
  );

  test(
    `${mode}: 100,000 denials at once: the agent answers, followers hear, and what is lost is counted`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const { host } = stage;
      await host.must('acl', 'add', 'only-web', '--to', 'redis.prod', '--from', 'unit:web.service');
      const follower = host.spawn([host.bin, 'acl', 'log', '-f', '--json', '--rule', 'only-web']);
      await eventually('the follower', async () => {
        await stage.expect(other, { [direct]: 'EPERM' });
        return follower.stdout.includes('\n');
      });
      const before = (await counters(stage)).denied;
      const flood = `
import errno, socket
for i in range(100000):
    s = socket.socket()
    try: s.connect(("127.0.0.1", 6001)); raise SystemExit("let in")
    except PermissionError: pass
    s.close()
print("done")`;
      const child = host.spawn([...stage.become(other), '/usr/bin/python3', '-c', flood]);
      let answers = 0;
      while (child.running) {
        assert.equal((await host.api('GET', '/v1/status')).status, 200);
        answers++;
      }
      assert.equal((await child.result()).stdout, 'done\n');
      assert.ok(answers > 1, 'it answered meanwhile');
      assert.equal((await counters(stage)).denied - before, 100_000);
      // Every one of them was either seen by the agent or counted as lost.
      await eventually('all of them', async () => {
        const log = (await host.api('GET', '/v1/acl-log')).json() as {
          seen: number;
          dropped: number;
        };
        return log.seen + log.dropped === before + 100_000;
      });
      follower.kill('SIGINT');
      await follower.result();
      const lines = follower.stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as object);
      const dropped = lines.flatMap((line) => ('dropped' in line ? [Number(line.dropped)] : []));
      assert.ok(lines.length - dropped.length > 1000, 'it heard of many');
    },
  );
}

async function counters(stage: Stage): Promise<{ denied: number }> {
  const answer = await stage.host.api('GET', '/v1/acls/only-web');
  return (answer.json() as { acl: { counters: { denied: number } } }).acl.counters;
}

test('rules are applied and exported like services, and wrong ones say where and what', async () => {
  await using host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig({ maps: smallMaps }) });
  const yaml = `kind: acl
name: only-web
to: {service: redis.prod}
from: [{unit: web.service}, {user: nobody-here}]
action: allow
---
kind: acl
name: mail
to: {ports: [25/tcp]}
action: deny
`;
  const applied = await host.zerohopWithInput(yaml, 'apply', '-f', '-');
  assert.equal(applied.code, 0, applied.stderr);
  assert.equal(applied.stdout, 'created acl only-web\ncreated acl mail\n');
  assert.match(applied.stderr, /there is none|it protects nothing until there is one/);
  assert.match(applied.stderr, /user "nobody-here", and this host knows none: it selects nobody/);
  const exported = await host.must('export');
  const again = await host.zerohopWithInput(exported.stdout, 'apply', '-f', '-');
  assert.equal(again.stdout, 'nothing to change\n', again.stderr);
  const wrong = await host.zerohopWithInput(
    'kind: acl\nname: x\nto: {servce: web}\naction: drop\n',
    'apply',
    '-f',
    '-',
  );
  assert.equal(wrong.code, 1);
  assert.match(
    wrong.stderr,
    /stdin:3:6 \(to\.servce\): unknown field "servce"\n {2}did you mean "service"\?/,
  );
  assert.match(wrong.stderr, /stdin:4:1 \(action\): action "drop" is none of allow, deny, audit/);
  const unknown = await host.zerohop(
    'acl',
    'test',
    '--from',
    'user:nobody-here',
    '--to',
    '10.0.0.1:80',
  );
  assert.match(unknown.stderr, /this host knows no user "nobody-here"/);
});

test('a policy that does not fit stores nothing, and names the knob', async () => {
  await using host = await TestHost.create();
  const maps = { ...smallMaps, aclRules: 16, aclEntries: 64, aclGlobs: 64 };
  await host.agent.start({ config: host.writeConfig({ maps }) });
  const good = [(await host.must('export')).stdout, await dumpTables(host)];
  const rule = (i: number, unit = 'web'): object => ({
    kind: 'acl',
    name: `r${i}`,
    to: { cidr: `10.0.${i}.0/24` },
    from: [{ unit: `${unit}.service` }],
    action: 'deny',
  });
  for (const [documents, knob] of [
    [Array.from({ length: 20 }, (_, i) => rule(i)), /raise maps\.aclRules/],
    [[rule(0, 'w*e*b*s*a*n*d*m*o*r*e')], /maps\.aclGlobs/],
  ] as const) {
    const answer = await host.api('POST', '/v1/apply', { documents });
    assert.equal(answer.status, 507, answer.text);
    assert.match(answer.text, knob);
    assert.deepEqual([(await host.must('export')).stdout, await dumpTables(host)], good);
  }
});

test('somebody else’s hand in the rules is put right at the next full check, and logged', async () => {
  await using stage = await guarded('cgroup');
  const { host } = stage;
  await host.agent.stop();
  const acl = { enforcement: 'cgroup' };
  await host.agent.start({
    config: host.writeConfig({ maps: smallMaps, acl, fullCheckIntervalMs: 150 }),
  });
  await stage.apply({
    kind: 'acl',
    name: 'only-web',
    to: { service: 'redis.prod' },
    from: [{ unit: 'web.service' }],
    action: 'allow',
  });
  stage.cgroup('web.service');
  const warned = (): string =>
    JSON.stringify(host.agent.log().filter(({ level }) => level === 'warn'));
  for (const map of ['dests', 'matches', 'cgroups', 'globs']) {
    const path = mapPath(host, `zh_acl_${map}`);
    // One entry: a repair may come between two.
    const id = statSync(stage.cgroup('web.service'), { bigint: true }).ino;
    const first = Number(id & 0xffn);
    const lost = (await dumpMap(host, `zh_acl_${map}`)).find(
      ({ key }) => map !== 'cgroups' || Number(key[0]) === first,
    );
    assert.ok(lost !== undefined, map);
    await run(['bpftool', 'map', 'delete', 'pinned', path, 'key', ...lost.key]);
    const what = map === 'cgroups' ? /: not known/ : new RegExp(`zh_acl_${map}`);
    await eventually(`${map} repaired`, () => what.test(warned()));
    await stage.expect(other, refused);
    await stage.expect(web, reaches);
  }
  rmSync(join(host.pinDir, 'links', 'cgroup_mkdir'));
  await eventually('the pin', () =>
    readdirSync(join(host.pinDir, 'links')).includes('cgroup_mkdir'),
  );
  const { datapath } = (await host.api('GET', '/v1/status')).json() as {
    datapath: { state: string };
  };
  assert.equal(datapath.state, 'in-sync');
});

test('an agent from before access control leaves pins that are taken over, sockets included', async () => {
  await using stage = await guarded('cgroup');
  const { host } = stage;
  await host.agent.stop();
  const maps = join(host.pinDir, 'maps');
  for (const name of readdirSync(maps)) if (name.startsWith('zh_acl')) rmSync(join(maps, name));
  const before = new Map(await mapIds(host));
  await host.agent.start({ config: stage.config });
  const after = await mapIds(host);
  for (const [name, id] of before) assert.equal(after.get(name), id, name);
  await stage.apply({ kind: 'acl', name: 'none', to: { service: 'redis.prod' }, action: 'deny' });
  await stage.expect(other, refused);
});

test('a new address of this host is guarded as the others, and a lost one is forgotten', async () => {
  await using stage = await Stage.create('cgroup');
  const { host } = stage;
  await stage.witnesses('redis=tcp,0.0.0.0,6001');
  await stage.apply(redis, {
    kind: 'acl',
    name: 'none',
    to: { service: 'redis.prod' },
    action: 'deny',
  });
  await host.ip('addr', 'add', '203.0.113.7/32', 'dev', 'lo');
  // Whole blocks are this host's as well, without any of their addresses on an interface.
  await host.ip('route', 'add', 'local', '198.51.100.0/24', 'dev', 'lo');
  await host.ip('-6', 'route', 'add', 'local', '2001:db8:1::/64', 'dev', 'lo');
  for (const address of ['203.0.113.7', '198.51.100.77', '2001:db8:1::7']) {
    const attempt = `tcp.connect=${address},6001`;
    await eventually(address, async () => (await stage.tries(other, [attempt]))[0] === 'EPERM');
  }
  assert.match(JSON.stringify(host.agent.log()), /this host changed: rules compiled anew/);
});

test('a cgroup that comes and goes leaves nothing behind', async () => {
  await using stage = await guarded('cgroup');
  await stage.apply({
    kind: 'acl',
    name: 'only-web',
    to: { service: 'redis.prod' },
    from: [{ cgroup: '/**/batch-*' }],
    action: 'allow',
  });
  const count = async (): Promise<number> => (await dumpMap(stage.host, 'zh_acl_cgroups')).length;
  const before = await count();
  const paths = Array.from({ length: 50 }, (_, i) => stage.cgroup(`batch-${i}`));
  assert.equal(await count(), before + 50);
  await stage.expect({ cgroup: 'batch-7' }, reaches);
  for (const path of paths) rmdirSync(path);
  assert.equal(await count(), before);
});
