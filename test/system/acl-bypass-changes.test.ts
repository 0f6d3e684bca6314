/**
 * While things change: backends come and go and rules flip under clients that
 * never rest. A verdict that is the same before and after must be so at every
 * moment between, and what a command closed stays closed once it has returned.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Child } from '../harness/child.ts';
import { patience } from '../harness/eventually.ts';
import { loadClient } from '../harness/programs.ts';
import { echoes } from '../harness/servers.ts';
import { putBackend, removeBackend } from '../harness/services.ts';
import { endLoad, type Round } from '../harness/clients.ts';
import { modes, Stage, type Who } from './attacks/stage.ts';

const web: Who = { cgroup: 'web.service' };
const other: Who = { cgroup: 'other.service' };
const VIP = '240.0.0.1';

const service = (...addresses: readonly string[]): object => ({
  kind: 'service',
  name: 'redis',
  vips: [VIP],
  ports: [{ port: 6379 }],
  backends: addresses.map((address) => ({ address })),
});
const onlyWeb = {
  kind: 'acl',
  name: 'only-web',
  to: { service: 'redis' },
  from: [{ unit: 'web.service' }],
  action: 'allow',
};

const bothOfThem = [{ unit: 'other.service' }, { unit: 'web.service' }];

/** An emulated machine has one slow core for agent and clients: fewer of them, with pauses, and fewer changes. */
const emulated = patience > 1;
const pauseUs = emulated ? '10000' : '200';
const often = (times: number): number => (emulated ? Math.ceil(times / 5) : times);

/** Clients that connect again and again until endLoad(), each round logged. */
async function hammer(stage: Stage, who: Who, count: number, at: string): Promise<Child[]> {
  const load = await loadClient();
  const [addr = '', port = ''] = at.split(',');
  return Array.from({ length: emulated ? 1 : count }, () =>
    stage.host.spawn([...stage.become(who), load, 'tcp', addr, port, '20', pauseUs, 'log']),
  );
}

async function rounds(loads: readonly Child[]): Promise<Round[]> {
  return (await Promise.all(loads.map(endLoad))).flatMap(({ log }) => log);
}

function counted(list: readonly Round[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { answer } of list) counts[answer] = (counts[answer] ?? 0) + 1;
  return counts;
}

for (const { mode, options } of modes()) {
  test(
    `${mode}: a new backend is closed to clients that hammer it from before the command returned`,
    options,
    async () => {
      await using stage = await Stage.create(mode);
      await echoes(stage.host, { name: 'one', port: 6001 }, { name: 'two', port: 6002 });
      await stage.apply(service('127.0.0.1:6001'), onlyWeb);
      const denied = await hammer(stage, other, 8, '127.0.0.1,6002');
      const allowed = await hammer(stage, web, 1, '127.0.0.1,6002');
      const times: [closed: bigint, open: bigint][] = [];
      for (let i = 0; i < often(20); i++) {
        await stage.apply({
          kind: 'backend',
          service: 'redis',
          address: '127.0.0.1:6002',
        });
        const closed = process.hrtime.bigint();
        // Some rounds of each client while it is closed.
        assert.deepEqual(await stage.tries(other, ['tcp.connect=127.0.0.1,6002']), ['EPERM']);
        const open = process.hrtime.bigint();
        times.push([closed, open]);
        await removeBackend(stage.host, 'redis', { address: '127.0.0.1', port: 6002 });
      }
      const log = await rounds(denied);
      for (const [closed, open] of times) {
        const inside = log.filter(({ beforeNs, afterNs }) => beforeNs > closed && afterNs < open);
        const wrong = inside.filter(({ answer }) => answer !== '!connect EPERM');
        assert.deepEqual(counted(wrong), {}, 'connected after the command had returned');
      }
      const judged = log.filter(({ answer }) => answer === '!connect EPERM').length;
      assert.ok(judged > 0 && judged < log.length, 'it was open, and it was closed');
      assert.deepEqual(Object.keys(counted(await rounds(allowed))), ['two']);
    },
  );

  test(
    `${mode}: no connect to a guarded VIP slips through while its backends change`,
    options,
    async () => {
      await using stage = await Stage.create(mode);
      const ports = [6001, 6002, 6003, 6004];
      await echoes(stage.host, ...ports.map((port) => ({ name: `e${port}`, port })));
      await stage.apply(service('127.0.0.1:6001'), onlyWeb);
      const denied = await hammer(stage, other, 6, `${VIP},6379`);
      const allowed = await hammer(stage, web, 2, `${VIP},6379`);
      for (let i = 0; i < often(60); i++) {
        const at = { address: '127.0.0.1', port: ports[1 + (i % 3)] ?? 0 };
        await putBackend(stage.host, 'redis', at);
        if (i % 2 === 1) await removeBackend(stage.host, 'redis', at);
        const only = { address: '127.0.0.1', port: 6001 };
        if (i % 7 === 3) await putBackend(stage.host, 'redis', { ...only, state: 'draining' });
        if (i % 7 === 5) await putBackend(stage.host, 'redis', only);
      }
      assert.deepEqual(Object.keys(counted(await rounds(denied))), ['!connect EPERM']);
      const wrong = (await rounds(allowed)).filter(({ answer }) => answer.startsWith('!'));
      assert.deepEqual(counted(wrong), {});
    },
  );

  test(
    `${mode}: rules and backends that change together leave no moment without a guard`,
    options,
    async () => {
      await using stage = await Stage.create(mode);
      await echoes(stage.host, { name: 'one', port: 6001 }, { name: 'two', port: 6002 });
      const [one, two] = ['127.0.0.1:6001', '127.0.0.1:6002'];
      await stage.apply(service(one), onlyWeb);
      const denied = await hammer(stage, other, 6, `${VIP},6379`);
      const allowed = await hammer(stage, web, 2, `${VIP},6379`);
      for (let i = 0; i < often(40); i++) {
        const from = [{ unit: 'web.service' }, { user: 7000 + i }];
        await stage.apply(service(i % 2 === 0 ? two : one), { ...onlyWeb, from });
      }
      // A backend of two services: what it loses with one must not go before it does.
      await stage.apply(
        { ...onlyWeb, from: [{ unit: 'other.service' }], action: 'deny' },
        { ...service(one, two), name: 'also', vips: ['240.0.0.2'] },
        { ...onlyWeb, name: 'either', to: { service: 'also' }, from: bothOfThem },
      );
      for (let i = 0; i < often(40); i++) await stage.apply(service(i % 2 === 0 ? two : one));
      assert.deepEqual(Object.keys(counted(await rounds(denied))), ['!connect EPERM']);
      const wrong = (await rounds(allowed)).filter(({ answer }) => answer.startsWith('!'));
      assert.deepEqual(counted(wrong), {});
    },
  );

  test(`${mode}: while policies flip, verdicts that both share never waver`, options, async () => {
    await using stage = await Stage.create(mode);
    await echoes(stage.host, { name: 'one', port: 6001 }, { name: 'two', port: 6002 });
    const both = { name: 'mail', vips: ['240.0.0.2'], ports: [{ port: 25 }] };
    await stage.apply(
      service('127.0.0.1:6001'),
      { kind: 'service', ...both, backends: [{ address: '127.0.0.1:6002' }] },
      onlyWeb,
    );
    const denied = [
      ...(await hammer(stage, other, 2, '127.0.0.1,6001')),
      ...(await hammer(stage, other, 2, `${VIP},6379`)),
    ];
    const allowed = [
      ...(await hammer(stage, web, 1, '127.0.0.1,6001')),
      ...(await hammer(stage, web, 1, `${VIP},6379`)),
    ];
    const bystander = await hammer(stage, other, 1, '127.0.0.1,6002');
    // The same rule said in other words, and others that come and go: new selectors, new blocks, new generations.
    for (let i = 0; i < often(40); i++) {
      const from =
        i % 2 === 0
          ? [{ cgroup: '$HOST/web.service' }, { user: 7000 + i }]
          : [{ unit: 'w*b.service' }, { unit: `x${i}.service` }];
      await stage.apply(
        { ...onlyWeb, from },
        {
          kind: 'acl',
          name: `deny-${i % 3}`,
          to: { cidr: '10.0.0.0/8', ports: [`${1000 + i}/tcp`] },
          from: [{ cgroup: `$HOST/jobs-${i}/*` }],
          action: 'deny',
        },
      );
      if (i % 3 === 2) await stage.removeAcl('deny-1');
    }
    assert.deepEqual(Object.keys(counted(await rounds(denied))), ['!connect EPERM']);
    assert.deepEqual(Object.keys(counted(await rounds(allowed))), ['one']);
    assert.deepEqual(Object.keys(counted(await rounds(bystander))), ['two']);
  });

  test(
    `${mode}: a rule is in force when the command that made it returns, and until one takes it away`,
    options,
    async () => {
      await using stage = await Stage.create(mode);
      await echoes(stage.host, { name: 'one', port: 6001 });
      await stage.apply(service('127.0.0.1:6001'));
      const loads = await hammer(stage, other, 4, '127.0.0.1,6001');
      const closedTimes: [bigint, bigint][] = [];
      const dial = ['tcp.connect=127.0.0.1,6001'];
      for (let i = 0; i < often(15); i++) {
        await stage.apply(onlyWeb);
        const closed = process.hrtime.bigint();
        assert.deepEqual(await stage.tries(other, dial), ['EPERM']);
        const open = process.hrtime.bigint();
        await stage.removeAcl('only-web');
        closedTimes.push([closed, open]);
        const opened = process.hrtime.bigint();
        assert.match((await stage.tries(other, dial))[0] ?? '', /^one /);
        closedTimes.push([-opened, -process.hrtime.bigint()]);
      }
      const log = await rounds(loads);
      for (const [from, to] of closedTimes) {
        const isClosed = from > 0n;
        const [start, end] = isClosed ? [from, to] : [-from, -to];
        const inside = log.filter(({ beforeNs, afterNs }) => beforeNs > start && afterNs < end);
        const expected = isClosed ? '!connect EPERM' : 'one';
        const wrong = inside.filter(({ answer }) => answer !== expected);
        assert.deepEqual(
          counted(wrong),
          {},
          isClosed ? 'while it was closed' : 'while it was open',
        );
      }
    },
  );
}
