/**
 * What this machine enforces, as status, doctor and the log of the agent say it,
 * and how it ends: no BPF LSM, no BTF, detach.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { whyNoLsm } from '../../src/acl/io/enforcement.ts';
import { withoutBtf } from '../harness/agent.ts';
import { smallMaps } from '../harness/config.ts';
import { TestHost } from '../harness/host.ts';
import { echoes } from '../harness/servers.ts';
import { Stage } from './attacks/stage.ts';

const direct = 'tcp.connect=127.0.0.1,6001';

/** A host with one server on it, which is a service. */
async function served(): Promise<Stage> {
  const stage = await Stage.create('cgroup');
  await stage.witnesses('redis=tcp,127.0.0.1,6001');
  await stage.apply({
    kind: 'service',
    name: 'redis.prod',
    vips: ['240.0.0.1'],
    ports: [{ name: 'main', port: 6379 }],
    backends: [{ address: '127.0.0.1:6001' }],
  });
  return stage;
}

test('status and doctor say what judges, why, and what it cannot cover', async () => {
  await using stage = await served();
  const { host } = stage;
  const idle = await host.must('status');
  assert.match(
    idle.stdout,
    /^access control +0 rules, enforced by cgroup hooks only \(acl\.enforcement is cgroup\)$/m,
  );
  assert.doesNotMatch(idle.stdout, /not covered/);
  await host.must('acl', 'add', 'none', '--to', 'redis.prod', '--action', 'deny');
  const judging = await host.must('status');
  assert.match(judging.stdout, /^access control +1 rule, enforced by cgroup hooks only/m);
  const ways = judging.stdout.match(/^not covered by access control: .*/gm) ?? [];
  for (const way of [
    /raw, SCTP, DCCP, L2TP and ping sockets, and connect\(\) of UDP-Lite/,
    /calls of AF_RXRPC sockets: no hook/,
    /packet sockets \(AF_PACKET, AF_XDP\)/,
  ])
    assert.equal(ways.filter((line) => way.test(line)).length, 1, `${way.source}: ${ways.join()}`);
  assert.match(judging.stdout, /^zh_acl_rules +1 /m);
  const doctor = await host.must('doctor');
  assert.match(doctor.stdout, /^access control +cgroup hooks only$/m);
  assert.match(doctor.stdout, /^cgroup_mkdir +in effect/m);
  assert.match(doctor.stdout, /calls of AF_RXRPC sockets/);
  const possible = whyNoLsm() === undefined ? 'BPF LSM \\+ cgroup hooks' : 'cgroup hooks only';
  assert.match(doctor.stdout, new RegExp(`^possible here +${possible}: `, 'm'));
  const maps = await host.must('maps', 'ls');
  assert.match(maps.stdout, /^zh_acl_dests .*endpoint, block or port → policy$/m);
  assert.match((await host.must('maps', 'dump', 'acl_dests')).stdout, /127\.0\.0\.1:6001\/tcp/);
  assert.match((await host.zerohop('maps', 'dump', 'acl_events')).stderr, /zerohop acl log/);
});

test(
  'acl.enforcement lsm does not start where BPF LSM cannot judge',
  { skip: whyNoLsm() === undefined ? 'BPF LSM judges here' : false },
  async () => {
    await using host = await TestHost.create();
    const child = host.agent.launch({
      config: host.writeConfig({ maps: smallMaps, acl: { enforcement: 'lsm' } }),
    });
    const { code, stderr } = await child.result();
    assert.equal(code, 1);
    assert.match(stderr, /acl\.enforcement is lsm, but .*\n {2}set it to auto/);
  },
);

test('without kernel BTF rules are stored, and status says that nothing enforces them', async () => {
  await using host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig({ maps: smallMaps }), wrapper: withoutBtf });
  const { echoes: list } = await echoes(host, { name: 'one' });
  await host.must(
    'acl',
    'add',
    'none',
    '--to',
    `127.0.0.1:${list[0]?.port}/tcp`,
    '--action',
    'deny',
  );
  const status = await host.zerohop('status');
  assert.equal(status.code, 1);
  assert.match(status.stdout, /^access control +NOT ENFORCED: 1 rule; the kernel has no BTF/m);
  assert.match(status.stdout, /^degraded: there are rules, and nothing enforces them/m);
  const asked = await host.zerohop(
    'acl',
    'test',
    '--from',
    'cgroup:/x',
    '--to',
    `127.0.0.1:${list[0]?.port}`,
  );
  assert.match(asked.stdout, /^denied[^]*the kernel was not asked: nothing is enforced/m);
  await host.must('acl', 'rm', 'none');
  await host.must('status');
});

test('detach takes the rules out of the kernel too', async () => {
  await using stage = await served();
  const { host } = stage;
  await host.must('acl', 'add', 'none', '--to', 'redis.prod', '--action', 'deny');
  const early = await host.zerohop('detach', '--pin', host.pinDir);
  assert.equal(early.code, 1);
  assert.match(
    early.stderr,
    /^zerohop: an agent \(pid [0-9]+\) is running on .*\n {2}stop it first .*, then detach\n$/,
  );
  await host.agent.stop();
  await stage.expect({}, { [direct]: 'EPERM' });
  await host.must('detach', '--pin', host.pinDir);
  await stage.expect({}, { [direct]: 'redis' });
});
