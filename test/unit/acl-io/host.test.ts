/** What the host says: addresses, users, groups, cgroups, and verdicts in words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AclEvent } from '../../../src/acl/abi.ts';
import { logEntry, unitOf, type EventNames } from '../../../src/acl/event.ts';
import {
  parseFibTrie,
  parseIfInet6,
  parseIgmp,
  parseIgmp6,
  parseIpv6Route,
} from '../../../src/acl/io/addresses.ts';
import { AclLog, type EventSource, type Follower } from '../../../src/acl/io/events.ts';
import { Identities, parseDatabase } from '../../../src/acl/io/identities.ts';
import { numbersOf } from '../../../src/acl/io/question.ts';
import { parseIp } from '../../../src/net/ip.ts';

test('local addresses are those that the routing tables deliver here, carrier or not', () => {
  const trie = `Id 100:
  |-- 0.0.0.0
     /0 host LOCAL
  |-- 203.0.113.9
     /32 host LOCAL
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 172.17.0.1
        /32 host LOCAL
     |-- 192.0.2.0
        /24 link UNICAST
     |-- 198.51.100.0
        /24 universe LOCAL
`;
  assert.deepEqual(parseFibTrie(trie), [
    '203.0.113.9',
    '127.0.0.0/8',
    '127.0.0.1',
    '127.255.255.255',
    '172.17.0.1',
    '198.51.100.0/24',
  ]);
  const inet6 = `fd000000000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
`;
  assert.deepEqual(parseIfInet6(inet6), [
    'fd00:0000:0000:0000:0000:0000:0000:0002',
    '0000:0000:0000:0000:0000:0000:0000:0001',
  ]);
});

test('local blocks of IPv6 are told from other routes, and from a transparent proxy’s', () => {
  const zero = '0'.repeat(32);
  const route = (address: string, length: string, flags: string): string =>
    `${address} ${length} ${zero} 00 ${zero} 00000400 00000001 00000000 ${flags}       lo\n`;
  const routes =
    route('20010db8000500000000000000000000', '40', '00000001') +
    route(zero, '00', '00200200') +
    route(zero, '00', '80000001') +
    route('20010db8000100000000000000000000', '40', '80000001') +
    route('20010db8000200000000000000000005', '80', '80200001');
  assert.deepEqual(parseIpv6Route(routes), [
    '2001:0db8:0001:0000:0000:0000:0000:0000/64',
    '2001:0db8:0002:0000:0000:0000:0000:0005',
  ]);
});

test('groups that this host joined lead to it as well', () => {
  const igmp = `Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\teth0      :     2      V3
\t\t\t\tFB0000E0     1 0:00000000\t\t0
`;
  assert.deepEqual(parseIgmp(igmp), ['224.0.0.1', '224.0.0.251']);
  const igmp6 = '1    lo              ff020000000000000000000000000001     1 0000000C 0\n';
  assert.deepEqual(parseIgmp6(igmp6), ['ff02:0000:0000:0000:0000:0000:0000:0001']);
});

test('the first entry of a name counts in passwd and group files', () => {
  const ids = parseDatabase('root:x:0:0::/:/bin/sh\nweb:x:33:33\nweb:x:34:34\nbad:x:\n\n+::::\n');
  assert.deepEqual(
    [...ids],
    [
      ['root', 0],
      ['web', 33],
    ],
  );
});

test('names are looked up in the host’s own databases, and a change of answers is told', async () => {
  const identities = new Identities();
  const wanted = { users: ['root', 'no-such-user'], groups: ['root'] };
  assert.equal(await identities.refresh(wanted), true);
  assert.equal(identities.all('user').get('root'), 0);
  assert.equal(identities.all('group').get('root'), 0);
  assert.equal(identities.all('user').has('no-such-user'), false);
  assert.equal(await identities.refresh(wanted), false);
  assert.equal(await identities.refresh({ users: [], groups: ['root'] }), false);
  assert.equal(identities.all('user').size, 0, 'no longer wanted, so no longer known');
});

test('a unit is the first thing below nothing but slices', () => {
  assert.equal(unitOf('/system.slice/web.service'), 'web.service');
  assert.equal(unitOf('/system.slice/web.service/worker/1'), 'web.service');
  assert.equal(
    unitOf('/user.slice/user-1000.slice/user@1000.service/app.slice/web.service'),
    'user@1000.service',
  );
  assert.equal(unitOf('/system.slice'), 'system.slice');
  assert.equal(unitOf('/system.slice/_io.service'), 'io.service');
  assert.equal(unitOf('/batch/web.service'), undefined);
  assert.equal(unitOf('/'), undefined);
});

test('a process without further groups has none, whatever line comes next', () => {
  const status = 'Uid:\t33\t0\t0\t0\nFDSize:\t64\nGroups:\t \nNStgid:\t185\n';
  assert.deepEqual(numbersOf('Groups', status), []);
  assert.deepEqual(numbersOf('Uid', status), [33, 0, 0, 0]);
  assert.deepEqual(numbersOf('Groups', 'Groups:\t4 27 1000 \n'), [4, 27, 1000]);
  assert.deepEqual(numbersOf('Gid', status), []);
});

const ip = (text: string): Uint8Array => parseIp(text) ?? new Uint8Array(16);
const event: AclEvent = {
  bootNs: 5_000_000n,
  cgroupId: 7n,
  rule: 3,
  pid: 42,
  uid: 1000,
  gid: 100,
  addr: ip('10.0.0.1'),
  vip: ip('240.0.0.1'),
  port: 6379,
  vipPort: 80,
  protocol: 6,
  verdict: 1,
  hook: 3,
  unknown: false,
  comm: Uint8Array.from([0x61, 0x62, 0, 0x63]),
};
const names: EventNames = {
  rule: (number) => (number === 3 ? 'only-web' : undefined),
  endpoint: (address, port) =>
    address === '240.0.0.1' && port === 80
      ? { service: 'redis.prod', portName: 'main' }
      : undefined,
  cgroup: (id) => (id === 7n ? '/system.slice/web.service' : undefined),
  user: (uid) => (uid === 1000 ? 'deploy' : undefined),
};

test('a verdict in words names rule, workload, destination and the VIP it went through', () => {
  assert.deepEqual(logEntry(event, 'T', names), {
    time: 'T',
    verdict: 'deny',
    rule: 'only-web',
    workload: {
      cgroup: '/system.slice/web.service',
      unit: 'web.service',
      pid: 42,
      command: 'ab',
      user: 'deploy',
      uid: 1000,
      gid: 100,
    },
    destination: {
      address: '10.0.0.1:6379',
      port: 6379,
      protocol: 'tcp',
      service: 'redis.prod',
      portName: 'main',
    },
    via: '240.0.0.1:80',
    hook: 'cgroup/connect',
  });
});

test('a verdict on what came from outside names its source, and no process', () => {
  const came = { ...event, hook: 5, pid: 0, rule: 0, vip: new Uint8Array(16), verdict: 2 };
  assert.deepEqual(logEntry(came, 'T', names), {
    time: 'T',
    verdict: 'audit',
    rule: 'defaultAction',
    workload: { cgroup: '/system.slice/web.service', unit: 'web.service' },
    source: '10.0.0.1',
    destination: { port: 6379, protocol: 'tcp' },
    hook: 'cgroup_skb/ingress',
  });
});

/** A ring buffer that holds what a test puts in. */
class FakeSource implements EventSource {
  records: Uint8Array[] = [];
  lost = 0;

  drain(visit: (record: Uint8Array) => void): void {
    for (const record of this.records.splice(0)) visit(record);
  }

  dropped(): number {
    return this.lost;
  }
}

function recordOf(rule: number): Uint8Array {
  const bytes = new Uint8Array(88);
  const view = new DataView(bytes.buffer);
  view.setUint32(16, rule, true);
  bytes[69] = 1;
  return bytes;
}

test('the log keeps the last entries in order, and followers hear of each and of what was dropped', () => {
  const source = new FakeSource();
  const log = new AclLog(source, { ...names, rule: (number) => `r${number}` });
  const heard: string[] = [];
  const follower: Follower = {
    entry: (entry) => void heard.push(entry.rule),
    dropped: (count) => void heard.push(`${count} dropped`),
  };
  const stop = log.follow(follower);
  source.records = [recordOf(1), recordOf(2)];
  source.lost = 5;
  log.drain();
  stop();
  source.records = Array.from({ length: 5000 }, (_, i) => recordOf(i + 3));
  log.drain();
  assert.deepEqual(heard, ['r1', 'r2', '5 dropped']);
  const { entries, seen, dropped } = log.last(3, () => true);
  assert.deepEqual(
    entries.map((entry) => entry.rule),
    ['r5000', 'r5001', 'r5002'],
  );
  assert.equal(seen, 5002);
  assert.equal(dropped, 5);
  assert.equal(log.last(10_000, () => true).entries.length, 4096);
  assert.deepEqual(
    log.last(10, (entry) => entry.rule === 'r4000').entries.map((entry) => entry.rule),
    ['r4000'],
  );
});
