/** Datagrams to multicast groups: rules for what is on this host hold for them too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classifyPath } from '../../../src/acl/automaton.ts';
import { compileAcl, NO_NUMBERING } from '../../../src/acl/compile.ts';
import { evaluate, type World } from '../../../src/acl/evaluate.ts';
import { judge } from '../../../src/acl/judge.ts';
import type { CatalogService } from '../../../src/catalog/catalog.ts';
import { protocolNumber } from '../../../src/datapath/abi.ts';
import { parseIp } from '../../../src/net/ip.ts';
import type { AclRecord, AclSelector, AclTarget, Protocol } from '../../../src/state/records.ts';

const limits = { aclRules: 64, aclEntries: 1024, aclGlobs: 64 };

function mdnsAt(address: string): CatalogService {
  const backends = [{ address, port: 5353, weight: 1, state: 'active' as const }];
  const ports = [{ name: 'main', port: 5353, protocol: 'udp' as const, backends }];
  return { name: 'mdns', vips: ['240.0.0.1'], ports };
}

function rule(
  name: string,
  to: AclTarget,
  from: readonly AclSelector[],
  action: AclRecord['action'],
): AclRecord {
  return { name, to, from, action };
}

const onlyWeb = rule(
  'only-web',
  { kind: 'service', service: 'mdns' },
  [{ kind: 'unit', value: 'web.service' }],
  'allow',
);

function worldOf(backend: string, rules: readonly AclRecord[]): World {
  return {
    rules,
    services: new Map([['mdns', mdnsAt(backend)]]),
    users: new Map(),
    groups: new Map(),
    localAddresses: ['192.0.2.1'],
    defaultAction: 'allow',
  };
}

/** What the rules say, after the tables said the same. */
function verdict(
  world: World,
  unit: string,
  address: string,
  protocol: Protocol = 'udp',
  port = 5353,
): string {
  const { tables } = compileAcl({ ...world, numbering: NO_NUMBERING, limits });
  const cgroup = `/system.slice/${unit}`;
  const said = evaluate(world, { cgroup, uid: 0, gids: [0] }, { address, port, protocol });
  const task = { cgroup: classifyPath(tables.automaton, cgroup), uid: 0, gid: 0, groups: [] };
  const ip = parseIp(address) ?? assert.fail(address);
  const found = judge(tables, task, { ip, port, protocol: protocolNumber[protocol] });
  assert.equal(found.verdict, said.verdict, `${unit} ${address} ${protocol}`);
  assert.equal(tables.rules.get(found.rule)?.name, said.decidedBy[0]);
  return `${said.verdict}: ${said.why}`;
}

const hereToo = ' (a datagram to a group is one to this host as well)';

test('who may not reach a UDP server of this host may not reach it through a group either', () => {
  const world = worldOf('127.0.0.1', [onlyWeb]);
  const closed = `deny: only those allowed get in: only-web${hereToo}`;
  const open = 'allow: no rule closes it, and acl.defaultAction is allow';
  for (const group of ['224.0.0.251', '239.255.255.255', '::ffff:224.0.0.5', 'ff02::fb', 'ff3e::1'])
    assert.equal(verdict(world, 'shop.service', group), closed, group);
  assert.equal(verdict(world, 'web.service', '224.0.0.251'), open);
  // Only datagrams, only that port, and only groups.
  assert.equal(verdict(world, 'shop.service', '224.0.0.251', 'tcp'), open);
  assert.equal(verdict(world, 'shop.service', '224.0.0.251', 'udp', 5354), open);
  for (const other of ['223.255.255.255', '240.0.0.1', 'fe80::1', '203.0.113.9'])
    assert.equal(verdict(world, 'shop.service', other), open, other);
});

test('rules for servers elsewhere, blocks and ports say nothing more of groups', () => {
  const open = 'allow: no rule closes it, and acl.defaultAction is allow';
  const elsewhere = worldOf('203.0.113.9', [onlyWeb]);
  assert.equal(verdict(elsewhere, 'shop.service', '224.0.0.251'), open);
  const block = rule('block', { kind: 'cidr', cidr: '::1/128', ports: [] }, [], 'deny');
  assert.equal(verdict(worldOf('127.0.0.1', [block]), 'shop.service', '224.0.0.251'), open);
});

test('a rule that names the group cannot open what is closed on this host, and a denial stays its own', () => {
  const groups = { kind: 'cidr', cidr: '224.0.0.0/4', ports: [] } as const;
  const opens = worldOf('127.0.0.1', [onlyWeb, rule('all-groups', groups, [], 'allow')]);
  assert.equal(
    verdict(opens, 'shop.service', '224.0.0.251'),
    `deny: only those allowed get in: only-web${hereToo}`,
  );
  assert.equal(verdict(opens, 'web.service', '224.0.0.251'), 'allow: allowed by all-groups');
  const closes = worldOf('127.0.0.1', [onlyWeb, rule('no-groups', groups, [], 'deny')]);
  assert.equal(verdict(closes, 'shop.service', '224.0.0.251'), 'deny: denied by no-groups');
});
