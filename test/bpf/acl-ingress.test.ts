/** Who may reach this host from outside: a veth pair between two test hosts. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { aclHook, verdictNumber } from '../../src/acl/abi.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { AclKit, cgroupId, ip, Workload } from './acl-kit.ts';

const HERE = '10.8.0.1';
const THERE = '10.8.0.2';
const HERE6 = 'fd08::1';
const THERE6 = 'fd08::2';

let host: TestHost;
let peer: TestHost;
let kit: AclKit;
let outside: Workload;

before(async () => {
  host = await TestHost.create();
  peer = await TestHost.create();
  await host.ip('link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', peer.name);
  for (const [at, four, six] of [
    [host, HERE, HERE6],
    [peer, THERE, THERE6],
  ] as const) {
    await at.ip('addr', 'add', `${four}/24`, 'dev', 'wire');
    await at.ip('addr', 'add', `${six}/64`, 'dev', 'wire', 'nodad');
    await at.ip('link', 'set', 'wire', 'up');
  }
  kit = AclKit.load(host, { mode: 1 }).attachIngress();
  outside = await Workload.start(peer, peer.cgroup);
});

after(async () => {
  kit?.[Symbol.dispose]();
  await host?.[Symbol.asyncDispose]();
  await peer?.[Symbol.asyncDispose]();
});

async function server(protocol: 'tcp' | 'udp', port: number): Promise<Workload> {
  const workload = await Workload.start(host, host.cgroup);
  assert.equal(await workload.asks(`open ${protocol} 6`), 'ok');
  assert.equal(await workload.asks(`bind :: ${port}`), 'ok');
  if (protocol === 'tcp') assert.equal(await workload.asks('listen'), 'ok');
  return workload;
}

test('a SYN that is denied is dropped; the connection stands once the rule is gone', async () => {
  const web = await server('tcp', 80);
  for (const [family, to, from, block] of [
    [4, HERE, THERE, '10.8.0.0/16'],
    [6, HERE6, THERE6, 'fd08::/32'],
  ] as const) {
    kit.enforce({ dests: [{ ingress: true, port: 80, sources: { [block]: { deny: 3 } } }] });
    kit.events();
    const before = kit.stats(3).denied;
    assert.equal(await outside.asks(`open tcp ${family}`), 'ok');
    assert.equal(await outside.asks(`start ${to} 80`), 'EINPROGRESS');
    await eventually('a dropped SYN', () => kit.stats(3).denied > before);
    const [event] = kit.events();
    assert.ok(event !== undefined);
    const { bootNs, comm, addr, vip, ...rest } = event;
    assert.ok(bootNs > 0n);
    assert.deepEqual([...comm, ...vip], Array(32).fill(0));
    assert.deepEqual(addr, ip(from));
    assert.deepEqual(rest, {
      cgroupId: cgroupId(host.cgroup),
      rule: 3,
      pid: 0,
      uid: 0,
      gid: 0,
      port: 80,
      vipPort: 0,
      protocol: 6,
      verdict: verdictNumber.deny,
      hook: aclHook.ingress,
      unknown: false,
    });
    // The kernel sends the SYN again.
    kit.enforce({ dests: [] });
    assert.equal(await outside.asks('finish'), 'ok');
  }
  await web.end();
});

test('a port that an allow closes takes the most specific source that is named', async () => {
  const dns = await server('udp', 53);
  kit.enforce({
    dests: [
      {
        ingress: true,
        port: 53,
        protocol: 'udp',
        restricted: 2,
        sources: { '10.8.0.0/24': { deny: 4 }, [`${THERE}/32`]: { allow: 2 } },
      },
    ],
  });
  const before = [kit.stats(2).allowed, kit.stats(2).denied, kit.stats(4).denied];
  assert.equal(await outside.asks(`open udp 6`), 'ok');
  assert.equal(await outside.asks(`to ${HERE6} 53`), 'ok');
  assert.equal(await outside.asks('say closed'), 'ok');
  await eventually('a dropped datagram', () => kit.stats(2).denied > (before[1] ?? 0));
  assert.equal(await outside.asks('open udp 4'), 'ok');
  assert.equal(await outside.asks(`to ${HERE} 53`), 'ok');
  assert.equal(await outside.asks('say open'), 'ok');
  assert.equal(await dns.asks('hear'), 'open', 'the first that arrived');
  assert.deepEqual(
    [kit.stats(2).allowed, kit.stats(2).denied, kit.stats(4).denied].map(
      (now, i) => now - (before[i] ?? 0),
    ),
    [1, 1, 0],
  );
  await dns.end();
});

test('an audited source gets in and is reported', async () => {
  const dns = await server('udp', 54);
  kit.enforce({
    dests: [{ ingress: true, port: 54, protocol: 'udp', sources: { '::/0': { audit: 5 } } }],
  });
  kit.events();
  assert.equal(await outside.asks(`open udp 6`), 'ok');
  assert.equal(await outside.asks(`to ${HERE6} 54`), 'ok');
  assert.equal(await outside.asks('say audited'), 'ok');
  assert.equal(await dns.asks('hear'), 'audited');
  assert.deepEqual(
    kit.events().map(({ rule, verdict, addr }) => [rule, verdict, addr]),
    [[5, verdictNumber.audit, ip(THERE6)]],
  );
  await dns.end();
});

test('loopback is not judged, and what the host asked for itself comes back', async () => {
  const inside = await server('udp', 55);
  const there = await Workload.start(peer, peer.cgroup);
  assert.equal(await there.asks('open tcp 6'), 'ok');
  assert.equal(await there.asks('bind :: 80'), 'ok');
  assert.equal(await there.asks('listen'), 'ok');
  const everyone = { '::/0': { deny: 1 } };
  kit.enforce({
    dests: [
      { ingress: true, port: 55, protocol: 'udp', sources: everyone },
      { ingress: true, port: 80, sources: everyone },
    ],
  });
  const local = await Workload.start(host, host.cgroup);
  const before = kit.stats(1).denied;
  assert.equal(await local.asks('open udp 4'), 'ok');
  assert.equal(await local.asks(`to ${HERE} 55`), 'ok');
  assert.equal(await local.asks('say local'), 'ok');
  assert.equal(await inside.asks('hear'), 'local');
  // Outbound, from the very port that is closed inbound.
  assert.equal(await local.asks('open tcp 4'), 'ok');
  assert.equal(await local.asks(`bind ${HERE} 80`), 'ok');
  assert.equal(await local.asks(`to ${THERE} 80`), 'ok');
  assert.equal(kit.stats(1).denied - before, 0);
  await Promise.all([inside.end(), there.end(), local.end()]);
});
