/**
 * Who may talk to whom, asked with real sockets against policies written by
 * hand. Without BPF LSM the cgroup hooks judge (mode 1); with it both do (mode 2).
 * Nobody listens: what is allowed is refused by TCP, what is denied by us.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { aclHook, verdictNumber } from '../../src/acl/abi.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { AclKit, cgroupId, ip, lsmMissing, makeCgroup, type Mode, Workload } from './acl-kit.ts';

const ALLOWED = 'ECONNREFUSED';
const DENIED = 'EPERM';
const A = '10.9.0.1';
const B = '10.9.0.2';
const A6 = 'fd09::1';

async function addresses(host: TestHost): Promise<void> {
  for (const at of [A, B]) await host.ip('addr', 'add', `${at}/32`, 'dev', 'lo');
  await host.ip('addr', 'add', `${A6}/128`, 'dev', 'lo', 'nodad');
}

for (const mode of [1, 2] as const satisfies readonly Mode[]) {
  const missing = mode === 2 ? lsmMissing() : undefined;
  const title = `access control ${mode === 1 ? 'by cgroup hooks' : 'by BPF LSM'}`;
  describe(title, { skip: missing ?? false }, () => {
    let host: TestHost;
    let web: string;
    let task: Workload;
    let kit: AclKit;

    before(async () => {
      host = await TestHost.create();
      await addresses(host);
      web = makeCgroup(host, 'web.service');
      kit = AclKit.load(host, { mode }).attach();
      task = await Workload.start(host, web);
      kit.classify(host.cgroup, {});
      kit.classify(web, { tags: [7, 8] });
    });

    after(async () => {
      kit?.[Symbol.dispose]();
      await host?.[Symbol.asyncDispose]();
    });

    test('without a policy everything passes', async () => {
      kit.enforce({ dests: [] });
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
      assert.equal(await task.asks(`sendto udp ${A} 53`), 'ok');
      assert.deepEqual(kit.events(), []);
    });

    test('an endpoint is its address, port and protocol, and nothing beside', async () => {
      kit.enforce({ dests: [{ ip: A, port: 80, any: { deny: 3 } }] });
      const before = kit.stats(3).denied;
      assert.equal(await task.asks(`connect tcp ${A} 80`), DENIED);
      assert.equal(await task.asks(`connect tcp ${A} 81`), ALLOWED);
      assert.equal(await task.asks(`connect tcp ${B} 80`), ALLOWED);
      assert.equal(await task.asks(`sendto udp ${A} 80`), 'ok');
      assert.equal(kit.stats(3).denied - before, 1);
    });

    test('a denial is reported with who, where to, which rule and which hook', async () => {
      kit.enforce({ dests: [{ ip: A, port: 80, any: { deny: 3 } }] });
      kit.events();
      assert.equal(await task.asks(`connect tcp ${A} 80`), DENIED);
      const [event, ...more] = kit.events();
      assert.equal(more.length, 0);
      assert.ok(event !== undefined);
      const { bootNs, comm, addr, vip, ...rest } = event;
      assert.ok(bootNs > 0n);
      assert.equal(Buffer.from(comm).toString().replaceAll('\0', '').slice(0, 4), 'dial');
      assert.deepEqual(addr, ip(A));
      assert.deepEqual(vip, new Uint8Array(16));
      assert.deepEqual(rest, {
        cgroupId: cgroupId(web),
        rule: 3,
        pid: task.pid,
        uid: 0,
        gid: 0,
        port: 80,
        vipPort: 0,
        protocol: 6,
        verdict: verdictNumber.deny,
        hook: mode === 1 ? aclHook.cgroupConnect : aclHook.lsmConnect,
        unknown: false,
      });
    });

    test('of blocks the most specific counts, in it first the rules of the port', async () => {
      kit.enforce({
        dests: [
          { block: '10.0.0.0/8', any: { deny: 1 } },
          { block: '10.9.0.1/32', port: 443, any: { deny: 2 } },
          { block: '10.9.0.1/32', any: { audit: 4 } },
          { ip: A, port: 22, any: { audit: 5 } },
          { block: 'fd09::/16', port: 25, protocol: 'tcp', any: { deny: 6 } },
        ],
      });
      kit.events();
      assert.equal(await task.asks(`connect tcp ${B} 80`), DENIED);
      assert.equal(await task.asks(`connect tcp ${A} 443`), DENIED);
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
      assert.equal(await task.asks(`connect tcp ${A} 22`), ALLOWED);
      assert.equal(await task.asks(`connect tcp ${A6} 25`), DENIED);
      assert.equal(await task.asks(`connect tcp ${A6} 26`), ALLOWED);
      assert.deepEqual(
        kit.events().map(({ rule, verdict }) => [rule, verdict]),
        [
          [1, verdictNumber.deny],
          [2, verdictNumber.deny],
          [4, verdictNumber.audit],
          [5, verdictNumber.audit],
          [6, verdictNumber.deny],
        ],
      );
    });

    test('with default deny what no rule names is closed, and named by rule 0', async () => {
      kit.enforce({ defaultDeny: true, dests: [{ ip: A, port: 80, any: { allow: 2 } }] });
      kit.events();
      const before = { none: kit.stats(0).denied, rule: kit.stats(2).allowed };
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
      assert.equal(await task.asks(`connect tcp ${A} 81`), DENIED);
      assert.equal(await task.asks(`sendto udp ${A6} 53`), DENIED);
      assert.deepEqual(
        kit.events().map(({ rule }) => rule),
        [0, 0],
      );
      assert.equal(kit.stats(0).denied - before.none, 2);
      assert.equal(kit.stats(2).allowed - before.rule, 1);
    });

    test('an endpoint that an allow closes lets in by cgroup, user or group alone', async () => {
      const outside = makeCgroup(host, 'outside');
      kit.classify(outside, {});
      await using own = await workloads(host, outside);
      const plain = await own.start();
      const user = await own.start({ uid: 40_001, gid: 40_001 });
      const group = await own.start({ uid: 40_002, gid: 40_003 });
      const member = await own.start({
        uid: 40_002,
        gid: 40_002,
        groups: [39_000, 40_003, 41_000],
      });
      kit.enforce({
        dests: [
          {
            ip: A,
            port: 80,
            restricted: 2,
            tags: { 8: { allow: 2 } },
            users: { 40_001: { allow: 3 } },
            groups: { 40_003: { allow: 4 } },
          },
        ],
      });
      kit.events();
      const stat = (rule: number): number => kit.stats(rule).allowed;
      const before = [2, 3, 4].map(stat);
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED, 'by tag');
      assert.equal(await user.asks(`connect tcp ${A} 80`), ALLOWED, 'by user');
      assert.equal(await group.asks(`connect tcp ${A} 80`), ALLOWED, 'by its real group');
      assert.equal(await member.asks(`connect tcp ${A} 80`), ALLOWED, 'by a supplementary group');
      assert.equal(await plain.asks(`connect tcp ${A} 80`), DENIED);
      assert.deepEqual(
        [2, 3, 4].map((rule, i) => stat(rule) - (before[i] ?? 0)),
        [1, 1, 2],
      );
      assert.deepEqual(
        kit.events().map(({ rule, uid, pid }) => [rule, uid, pid]),
        [[2, 0, plain.pid]],
      );
    });

    test('the 64th supplementary group counts', async () => {
      const groups = Array.from({ length: 64 }, (_, i) => 50_000 + i);
      await using own = await workloads(host, web);
      const member = await own.start({ uid: 40_002, gid: 40_002, groups });
      kit.enforce({ dests: [{ ip: A, port: 80, groups: { 50_063: { deny: 9 } } }] });
      assert.equal(await member.asks(`connect tcp ${A} 80`), DENIED);
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
    });

    test('who has more groups than are looked at may not go where a group is denied', async () => {
      const groups = Array.from({ length: 65 }, (_, i) => 50_000 + i);
      await using own = await workloads(host, web);
      const member = await own.start({ uid: 40_002, gid: 40_002, groups });
      const to = { ip: A, port: 80 };
      kit.enforce({ dests: [{ ...to, groups: { 50_064: { deny: 9 } }, groupsDeny: true }] });
      assert.equal(await member.asks(`connect tcp ${A} 80`), DENIED);
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
      kit.enforce({ dests: [{ ...to, groups: { 50_064: { allow: 9 } } }] });
      assert.equal(await member.asks(`connect tcp ${A} 80`), ALLOWED);
      kit.enforce({ dests: [{ ...to, groups: { 50_064: { allow: 9 } }, restricted: 9 }] });
      assert.equal(await member.asks(`connect tcp ${A} 80`), DENIED, 'it is not seen to be in it');
    });

    test('deny wins over allow and audit, whoever says it', async () => {
      kit.enforce({
        dests: [
          {
            ip: A,
            port: 80,
            restricted: 1,
            any: { allow: 1, audit: 2 },
            users: { 0: { deny: 5 } },
            tags: { 7: { allow: 4 } },
          },
        ],
      });
      kit.events();
      assert.equal(await task.asks(`connect tcp ${A} 80`), DENIED);
      assert.deepEqual(
        kit.events().map(({ rule, verdict }) => [rule, verdict]),
        [[5, verdictNumber.deny]],
      );
    });

    test('audit lets pass, reports and counts, beside an allow too', async () => {
      kit.enforce({
        dests: [{ ip: A, port: 80, restricted: 1, any: { audit: 2 }, tags: { 7: { allow: 1 } } }],
      });
      kit.events();
      const before = [kit.stats(1).allowed, kit.stats(2).audited];
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
      assert.deepEqual(
        kit.events().map(({ rule, verdict }) => [rule, verdict]),
        [[2, verdictNumber.audit]],
      );
      const now = [kit.stats(1).allowed, kit.stats(2).audited];
      assert.deepEqual(
        now.map((value, i) => value - (before[i] ?? 0)),
        [1, 1],
      );
    });

    test('a VIP is judged as the backend it leads to, and the event names both', async () => {
      for (const protocol of ['tcp', 'udp'] as const) {
        kit.serve('240.0.0.1', 8080, { ip: A, port: 80 }, protocol);
        const dial = protocol === 'tcp' ? 'connect tcp' : 'sendto udp';
        const passes = protocol === 'tcp' ? ALLOWED : 'ok';
        kit.enforce({ dests: [{ ip: A, port: 80, protocol, any: { deny: 3 } }] });
        kit.events();
        assert.equal(await task.asks(`${dial} 240.0.0.1 8080`), DENIED);
        const [event] = kit.events();
        assert.deepEqual(event?.addr, ip(A));
        assert.deepEqual(event?.vip, ip('240.0.0.1'));
        assert.deepEqual([event?.port, event?.vipPort], [80, 8080]);
        const hook = protocol === 'tcp' ? aclHook.cgroupConnect : aclHook.cgroupSendmsg;
        assert.equal(event?.hook, hook);
        assert.equal(await task.asks(`${dial} ${A} 80`), DENIED, 'the backend itself');
        // The VIP is no endpoint: with everything else closed, what it leads to is open.
        const dests = [{ ip: A, port: 80, protocol, any: { allow: 3 } }];
        kit.enforce({ defaultDeny: true, dests });
        assert.equal(await task.asks(`${dial} 240.0.0.1 8080`), passes);
        assert.equal(await task.asks(`connect tcp ${B} 80`), DENIED);
      }
    });

    test('an IPv4 address in IPv6 clothes is the IPv4 address', async () => {
      kit.enforce({
        dests: [
          { ip: A, port: 80, any: { deny: 1 } },
          { ip: A, port: 53, protocol: 'udp', any: { deny: 2 } },
        ],
      });
      assert.equal(await task.asks(`connect tcp ::ffff:${A} 80`), DENIED);
      assert.equal(await task.asks(`sendto udp ::ffff:${A} 53`), DENIED);
      assert.equal(await task.asks(`v4on6 udp ${A} 53`), DENIED, 'AF_INET on an IPv6 socket');
      assert.equal(await task.asks(`unspec udp ${A} 53`), DENIED, 'AF_UNSPEC on an IPv4 socket');
      assert.equal(await task.asks(`v4on6 udp ${A} 54`), 'ok');
      assert.equal(await task.asks(`unspec udp ${A} 54`), 'ok');
    });

    test('the unspecified address is where it leads', async () => {
      kit.enforce({
        dests: [
          { ip: '127.0.0.1', port: 80, any: { deny: 1 } },
          { ip: '127.0.0.1', port: 53, protocol: 'udp', any: { deny: 2 } },
          { ip: '::1', port: 81, any: { deny: 3 } },
          { ip: '::1', port: 53, protocol: 'udp', any: { deny: 4 } },
          { ip: A, port: 82, any: { deny: 5 } },
          { ip: A, port: 54, protocol: 'udp', any: { deny: 6 } },
        ],
      });
      assert.equal(await task.asks('connect tcp 0.0.0.0 80'), DENIED);
      assert.equal(await task.asks('connect tcp ::ffff:0.0.0.0 80'), DENIED);
      assert.equal(await task.asks('connect udp 0.0.0.0 53'), DENIED);
      assert.equal(await task.asks('sendto udp 0.0.0.0 53'), DENIED);
      assert.equal(await task.asks('connect tcp :: 81'), DENIED);
      assert.equal(await task.asks('sendto udp :: 53'), DENIED);
      assert.equal(await task.asks(`connect tcp :: 80 ::ffff:${A}`), DENIED, 'bound to IPv4');
      assert.equal(await task.asks(`connect tcp 0.0.0.0 82 ${A}`), DENIED, 'where it is bound');
      assert.equal(await task.asks(`connect tcp 0.0.0.0 80 ${A}`), ALLOWED, 'not loopback then');
      assert.equal(await task.asks(`sendto udp 0.0.0.0 54 ${A}`), DENIED);
      assert.equal(await task.asks(`pktinfo 0.0.0.0 54 ${A}`), DENIED, 'where it is sent from');
      assert.equal(await task.asks(`pktinfo 0.0.0.0 53 ${A}`), 'ok');
    });

    test('UDP is judged when it is connected, not at each send after', async () => {
      kit.enforce({ dests: [{ ip: A, port: 53, protocol: 'udp', any: { deny: 2 } }] });
      assert.equal(await task.asks(`connect udp ${A} 53`), DENIED);
      assert.equal(await task.asks(`sendto udp ${A} 53`), DENIED);
      kit.enforce({ dests: [] });
      assert.equal(await task.asks('open udp 4'), 'ok');
      assert.equal(await task.asks(`to ${A} 53`), 'ok');
      kit.enforce({ dests: [{ ip: A, port: 53, protocol: 'udp', any: { deny: 2 } }] });
      assert.notEqual(await task.asks('say stays'), DENIED, 'connected before the rule came');
      assert.equal(await task.asks('dissolve'), 'ok');
      assert.equal(await task.asks(`to ${A} 53`), DENIED);
    });

    test('a denied UDP connect() to a VIP leaves the socket as it was', async () => {
      kit.serve('240.0.0.1', 53, { ip: A, port: 53 }, 'udp');
      kit.enforce({ dests: [] });
      assert.equal(await task.asks('open udp 4'), 'ok');
      assert.equal(await task.asks('to 240.0.0.1 53'), 'ok');
      kit.enforce({ dests: [{ ip: B, port: 53, protocol: 'udp', any: { deny: 2 } }] });
      assert.equal(await task.asks(`to ${B} 53`), DENIED);
      assert.notEqual(await task.asks('say still'), DENIED);
    });

    test('TCP fast open and io_uring are no ways around', async () => {
      kit.serve('240.0.0.1', 8080, { ip: A, port: 80 }, 'tcp');
      kit.enforce({ dests: [{ ip: A, port: 80, any: { deny: 1 } }] });
      for (const [at, port] of [
        [A, 80],
        [`::ffff:${A}`, 80],
        ['240.0.0.1', 8080],
      ]) {
        assert.equal(await task.asks(`fastopen ${at} ${port}`), DENIED, `fast open to ${at}`);
        assert.equal(await task.asks(`uring ${at} ${port}`), DENIED, `io_uring to ${at}`);
      }
      assert.equal(await task.asks(`fastopen ${A} 81`), ALLOWED);
      assert.equal(await task.asks(`uring ${A} 81`), ALLOWED);
    });

    test('MPTCP counts as TCP', async (t) => {
      if ((await task.asks('open mptcp 4')) !== 'ok') {
        t.skip('this kernel has no MPTCP');
        return;
      }
      kit.serve('240.0.0.1', 8080, { ip: A, port: 80 }, 'tcp');
      kit.enforce({ dests: [{ ip: A, port: 80, any: { deny: 1 } }] });
      assert.equal(await task.asks(`connect mptcp ${A} 81`), ALLOWED);
      assert.equal(await task.asks(`connect mptcp ${A} 80`), DENIED);
      assert.equal(await task.asks('connect mptcp 240.0.0.1 8080'), DENIED);
    });

    test('io_uring works with the cgroup, user and groups of the task that asked', async () => {
      await using own = await workloads(host, web);
      const user = await own.start({ uid: 40_001, gid: 40_001, groups: [40_007] });
      const match = { allow: 1 };
      for (const dest of [
        { tags: { 7: match } },
        { users: { 40_001: match } },
        { groups: { 40_007: match } },
      ]) {
        kit.enforce({ dests: [{ ip: A, port: 80, restricted: 1, ...dest }] });
        assert.equal(await user.asks(`uring ${A} 80`), ALLOWED, JSON.stringify(dest));
      }
      kit.enforce({ dests: [{ ip: A, port: 80, restricted: 1, tags: { 9: match } }] });
      assert.equal(await user.asks(`uring ${A} 80`), DENIED);
    });

    test('protocols without ports meet the rules without ports', async (t) => {
      kit.enforce({
        dests: [
          { block: `${A}/32`, any: { deny: 1 } },
          { block: `${B}/32`, port: 53, protocol: 'udp', any: { deny: 2 } },
          { ip: B, port: 7, protocol: 'udp', any: { deny: 2 } },
        ],
      });
      const lite = await task.asks(`sendto udplite ${B} 53`);
      if (lite === 'EPROTONOSUPPORT') t.diagnostic('this kernel has no UDP-Lite');
      else {
        assert.equal(lite, 'ok');
        assert.equal(await task.asks(`sendto udplite ${A} 53`), DENIED);
      }
      // Raw sockets have no cgroup hook.
      const raw = mode === 2 ? DENIED : 'ok';
      assert.equal(await task.asks(`sendto raw ${A} 0`), raw);
      assert.equal(await task.asks(`connect raw ${A} 0`), raw);
      assert.equal(await task.asks(`sendto rawudp ${A} 0`), raw);
      assert.equal(await task.asks(`sendto raw ${B} 0`), 'ok');
      assert.equal(await task.asks(`sendto rawudp ${B} 53`), 'ok', 'a port nobody can tell');
      kit.enforce({ dests: [{ block: '127.0.0.0/8', any: { deny: 1 } }] });
      assert.equal(await task.asks('sendto raw 0.0.0.0 0'), raw);
    });

    test('the task that dials is judged, wherever its socket was made', async () => {
      const other = makeCgroup(host, 'other');
      kit.classify(other, { tags: [9] });
      await using own = await workloads(host, web);
      const mover = await own.start();
      kit.enforce({ dests: [{ ip: A, port: 80, tags: { 7: { deny: 1 } } }] });
      assert.equal(await mover.asks('open tcp 4'), 'ok');
      assert.equal(await mover.asks(`to ${A} 80`), DENIED);
      mover.moveTo(other);
      assert.equal(await mover.asks(`to ${A} 80`), ALLOWED);
      mover.moveTo(web);
      assert.equal(await mover.asks(`to ${A} 80`), DENIED);
    });

    test('an unknown cgroup has no tags, and what denies by cgroup is closed to it', async () => {
      const unknown = makeCgroup(host, 'unknown');
      const brimming = makeCgroup(host, 'brimming');
      kit.classify(brimming, { tags: [7], overflow: true });
      await using own = await workloads(host, unknown);
      const stranger = await own.start();
      const tags = { 9: { deny: 1 } };
      kit.enforce({
        dests: [
          { ip: A, port: 80, tags, tagsDeny: true },
          { ip: A, port: 81, restricted: 2, tags: { 7: { allow: 2 } } },
          { ip: A, port: 82, tags: { 7: { audit: 3 } } },
          { ip: A, port: 83, users: { 1: { deny: 4 } } },
        ],
      });
      for (const cgroup of [unknown, brimming]) {
        stranger.moveTo(cgroup);
        kit.events();
        const before = kit.counts().unknown;
        assert.equal(await stranger.asks(`connect tcp ${A} 80`), DENIED);
        assert.equal(await stranger.asks(`connect tcp ${A} 81`), DENIED);
        assert.equal(await stranger.asks(`connect tcp ${A} 82`), ALLOWED);
        assert.equal(await stranger.asks(`connect tcp ${A} 83`), ALLOWED);
        assert.equal(kit.counts().unknown - before, 3, 'not asked for where no rule names a tag');
        assert.deepEqual(
          kit.events().map(({ rule, unknown: flag }) => [rule, flag]),
          [
            [0, true],
            [2, true],
          ],
        );
      }
      assert.equal(await task.asks(`connect tcp ${A} 80`), ALLOWED);
    });

    test('the agent may go anywhere, and a process that got its pid may not', async () => {
      await using own = await workloads(host, web);
      const agent = await own.start();
      // proc(5): the fields after the name in parentheses; starttime is the 22nd.
      const stat = readFileSync(`/proc/${agent.pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      const agentStart = BigInt(stat[22 - 3] ?? 0);
      kit.enforce({ defaultDeny: true, dests: [] });
      kit.setHead({ agentTgid: agent.pid, agentStart });
      kit.events();
      assert.equal(await agent.asks(`connect tcp ${A} 80`), ALLOWED);
      assert.deepEqual(kit.events(), []);
      assert.equal(await task.asks(`connect tcp ${A} 80`), DENIED);
      kit.setHead({ agentStart: agentStart + 1n });
      assert.equal(await agent.asks(`connect tcp ${A} 80`), DENIED);
      kit.setHead({ agentTgid: 0, agentStart: 0n });
    });

    // The further paths of an MPTCP connection are dialled by a worker of the kernel's.
    test('a kernel thread is not judged', async (t) => {
      await using other = await TestHost.create();
      await addresses(other);
      using own = AclKit.load(other, { mode }).attach();
      await using tasks = await workloads(other, other.cgroup);
      own.classify(other.cgroup, { tags: [7] });
      const [server, client] = [await tasks.start(), await tasks.start()];
      if ((await server.asks('open mptcp 4')) !== 'ok') {
        t.skip('this kernel has no MPTCP');
        return;
      }
      assert.equal(await server.asks(`bind ${A} 80`), 'ok');
      assert.equal(await server.asks('listen'), 'ok');
      await other.ip('mptcp', 'limits', 'set', 'subflow', '2');
      await other.ip('mptcp', 'endpoint', 'add', B, 'dev', 'lo', 'subflow');
      own.enforce({
        dests: [{ ip: A, port: 80, restricted: 1, tags: { 7: { allow: 1 } }, tagsDeny: true }],
      });
      assert.equal(await client.asks('open mptcp 4'), 'ok');
      assert.equal(await client.asks(`to ${A} 80`), 'ok');
      assert.equal(await client.asks('say more'), 'ok', 'whereupon MPTCP is sure of its peer');
      await eventually('a second path', async () => {
        const [names = '', values = ''] = (await other.output(['cat', '/proc/net/netstat']))
          .split('\n')
          .filter((line) => line.startsWith('MPTcpExt:'));
        const at = names.split(' ').indexOf('MPJoinAckRx');
        return Number(values.split(' ')[at]) === 1;
      });
      assert.deepEqual(own.events(), []);
      assert.equal(own.stats(1).denied, 0);
    });

    test('tasks outside the scope are not judged', async () => {
      kit.enforce({ defaultDeny: true, dests: [] });
      await using neighbour = await TestHost.create();
      await addresses(neighbour);
      await using own = await workloads(neighbour, neighbour.cgroup);
      const stranger = await own.start();
      assert.equal(await stranger.asks(`connect tcp ${A} 80`), ALLOWED);
      assert.equal(await task.asks(`connect tcp ${A} 80`), DENIED);
    });

    test('a full ring loses reports, counts them, and lets nobody in', async () => {
      await using other = await TestHost.create();
      await addresses(other);
      using small = AclKit.load(other, { mode, ringBytes: 4096 }).attach();
      await using own = await workloads(other, other.cgroup);
      const flood = await own.start();
      small.enforce({ dests: [{ ip: A, port: 80, any: { deny: 3 } }] });
      assert.equal(await flood.asks(`many 100 tcp ${A} 80`), `${DENIED}=100`);
      const told = small.events().length;
      // 96 bytes each with their header, and one byte less than the ring holds (kernel/bpf/ringbuf.c).
      assert.equal(told, 42);
      assert.equal(small.counts().dropped, 100 - told);
      assert.equal(small.stats(3).denied, 100);
    });

    test('20,000 connects meet one whole policy each while two replace one another', async () => {
      const allow = { ip: B, port: 80, restricted: 3 };
      const policies = [
        {
          dests: [
            { ip: A, port: 80, any: { deny: 1 } },
            { ...allow, any: { allow: 3 } },
          ],
        },
        {
          dests: [
            { ...allow, tags: { 7: { allow: 4 } } },
            { block: `${A}/32`, any: { deny: 2 } },
          ],
        },
      ];
      const [first, second] = policies;
      assert.ok(first !== undefined && second !== undefined);
      await using own = await workloads(host, web);
      const closed = await own.start();
      const open = await own.start();
      kit.enforce(first);
      const sum = (): readonly number[] => [
        kit.stats(1).denied + kit.stats(2).denied,
        kit.stats(3).allowed + kit.stats(4).allowed,
      ];
      const start = sum();
      const each = [1, 2].map((rule) => kit.stats(rule).denied);
      const load = { running: true };
      const answers = Promise.all([
        closed.asks(`many 10000 tcp ${A} 80`),
        open.asks(`many 10000 tcp ${B} 80`),
      ]).finally(() => (load.running = false));
      for (let i = 0; load.running; i++) {
        kit.enforce(i % 2 === 0 ? second : first);
        if (i % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      assert.deepEqual(await answers, [`${DENIED}=10000`, `${ALLOWED}=10000`]);
      assert.deepEqual(
        sum().map((value, i) => value - (start[i] ?? 0)),
        [10_000, 10_000],
      );
      for (const [i, rule] of [1, 2].entries()) {
        assert.ok(kit.stats(rule).denied > (each[i] ?? 0), `policy ${rule} was in force, too`);
      }
      kit.events();
    });
  });
}

interface Workloads extends AsyncDisposable {
  start(identity?: Parameters<typeof Workload.start>[2]): Promise<Workload>;
}

/** Processes in one cgroup that end with the scope. */
async function workloads(host: TestHost, cgroup: string): Promise<Workloads> {
  const started: Workload[] = [];
  return await Promise.resolve({
    start: async (identity) => {
      const workload = await Workload.start(host, cgroup, identity);
      started.push(workload);
      return workload;
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(started.map((workload) => workload.end()));
    },
  });
}
