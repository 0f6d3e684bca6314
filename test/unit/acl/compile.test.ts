/** What the compiler says of single things: numbers, names that nobody has, limits, who is named. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileAcl,
  NO_NUMBERING,
  numberingOf,
  updateEndpoints,
  type CompileInput,
  type Compiled,
} from '../../../src/acl/compile.ts';
import { assignNumbers } from '../../../src/acl/frame.ts';
import { judge, judgeIngress, type Finding, type JudgedTask } from '../../../src/acl/judge.ts';
import { Policies, RuleSets, type PreparedRule } from '../../../src/acl/policies.ts';
import { decodeCidrKey, decodeDestKey, genFlag, policyFlag } from '../../../src/acl/abi.ts';
import type { CatalogService } from '../../../src/catalog/catalog.ts';
import { keyToBytes, protocolNumber } from '../../../src/datapath/abi.ts';
import { parseCidr } from '../../../src/net/cidr.ts';
import { formatEndpoint, formatIp, parseIp } from '../../../src/net/ip.ts';
import { parseDocuments } from '../../../src/state/documents.ts';
import type { AclRecord } from '../../../src/state/records.ts';

const limits = { aclRules: 100, aclEntries: 1000, aclGlobs: 1000 };

function rulesOf(...documents: readonly object[]): AclRecord[] {
  const parsed = parseDocuments(
    documents.map((document, index) => ({ kind: 'acl', name: `rule-${index}`, ...document })),
  );
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value.flatMap((document) => {
    if (document.kind !== 'acl') return [];
    const { kind: _, ...rule } = document;
    return [rule];
  });
}

function service(name: string, ...endpoints: readonly string[]): [string, CatalogService] {
  const backends = endpoints.map((endpoint) => {
    const [address = '', port] = endpoint.split(' ');
    return { address, port: Number(port), weight: 1, state: 'active' as const };
  });
  const ports = [{ name: 'main', port: 1, protocol: 'tcp' as const, backends }];
  return [name, { name, vips: [], ports }];
}

function compile(rules: readonly AclRecord[], more: Partial<CompileInput> = {}): Compiled {
  return compileAcl({
    rules,
    services: new Map(),
    users: new Map(),
    groups: new Map(),
    localAddresses: [],
    defaultAction: 'allow',
    numbering: NO_NUMBERING,
    limits,
    ...more,
  });
}

const nobody: JudgedTask = {
  cgroup: { state: 0, tags: [], overflow: false },
  uid: 9,
  gid: 9,
  groups: [],
};

function asked({ tables }: Compiled, address: string, port: number, task = nobody): Finding {
  const ip = parseIp(address);
  assert.ok(ip);
  return judge(tables, task, { ip, port, protocol: protocolNumber.tcp });
}

function told({ problems }: Compiled): string[] {
  return problems.map(
    (p) => `${p.fatal ? 'fatal ' : ''}${p.rule ?? '-'}: ${p.message} | ${p.hint}`,
  );
}

test('without rules nothing is asked; defaultAction deny alone closes everything', () => {
  const { tables } = compile([]);
  assert.deepEqual(
    [tables.flags, tables.dests.size, tables.cidrs.size, tables.automaton.globs.size],
    [0, 0, 0, 0],
  );
  const closed = compile([], { defaultAction: 'deny' });
  assert.equal(closed.tables.flags, genFlag.defaultDeny);
  assert.deepEqual(asked(closed, '10.0.0.1', 80), {
    verdict: 'deny',
    rule: 0,
    allow: 0,
    unknown: false,
  });
});

test('a backend of this host is protected on all its addresses, and no other port is', () => {
  const rules = rulesOf({ to: { service: 'redis' }, action: 'deny' });
  const services = new Map([service('redis', '10.0.0.1 6379', '10.9.9.9 6379')]);
  const made = compile(rules, {
    services,
    localAddresses: ['10.0.0.1', '192.0.2.1', 'fd00::1', '127.0.0.1'],
  });
  const exact = [...made.tables.dests.keys()]
    .map((key) => decodeDestKey(keyToBytes(key)))
    .map(({ region, addr, port }) =>
      region === 0 ? formatEndpoint(formatIp(addr), port) : `block ${region} port ${port}`,
    );
  assert.deepEqual(exact.toSorted(), [
    '10.0.0.1:6379',
    '10.9.9.9:6379',
    '192.0.2.1:6379',
    '[::1]:6379',
    '[fd00::1]:6379',
    'block 1 port 6379',
  ]);
  for (const address of ['127.0.0.1', '127.9.9.9', '0.0.0.0', '::', '::1', '::ffff:10.0.0.1'])
    assert.equal(asked(made, address, 6379).verdict, 'deny', address);
  assert.equal(asked(made, '127.0.0.1', 80).verdict, 'allow');
  assert.equal(asked(made, '10.9.9.8', 6379).verdict, 'allow');
});

test('a backend of this host is protected in blocks that a route makes local as a whole', () => {
  const rules = [
    ...rulesOf({ to: { service: 'redis' }, action: 'deny' }),
    ...rulesOf({ to: { cidr: '198.51.100.128/25', ports: [80] }, action: 'deny' }),
  ].map((rule, i) => ({ ...rule, name: `rule-${i}` }));
  const localAddresses = ['198.51.100.0/24', '2001:db8::/64', '198.51.100.1'];
  for (const backend of ['127.0.0.1', '198.51.100.7', '198.51.100.1', '2001:db8::7']) {
    const services = new Map([service('redis', `${backend} 6379`)]);
    const made = compile(rules, { services, localAddresses });
    for (const address of [
      '198.51.100.0',
      '198.51.100.1',
      '198.51.100.77',
      '198.51.100.255',
      '2001:db8::9',
      '127.0.0.9',
      '::1',
    ])
      assert.equal(asked(made, address, 6379).verdict, 'deny', `${backend} at ${address}`);
    for (const address of ['198.51.101.0', '198.51.99.255', '2001:db8:0:1::', '203.0.113.1'])
      assert.equal(asked(made, address, 6379).verdict, 'allow', `${backend} at ${address}`);
    assert.equal(asked(made, '198.51.100.77', 80).verdict, 'allow');
    assert.equal(asked(made, '198.51.100.177', 80).verdict, 'deny');
    // When the backend goes, so does what guarded the blocks.
    const gone = updateEndpoints(made, new Map(), ['redis']);
    assert.equal(asked(gone, '198.51.100.77', 6379).verdict, 'allow');
  }
});

test('::/0 is IPv6 only, though IPv4 lives within it', () => {
  const made = compile(rulesOf({ to: { cidr: '::/0' }, action: 'deny' }));
  assert.equal(asked(made, 'fd00::1', 80).verdict, 'deny');
  assert.equal(asked(made, '10.0.0.1', 80).verdict, 'allow');
  const blocks = [...made.tables.cidrs.keys()].map((key) => decodeCidrKey(keyToBytes(key)).bits);
  assert.deepEqual(
    blocks.toSorted((a, b) => a - b),
    [0, 96],
  );
  const outside = compile(
    rulesOf({ to: { ports: [22] }, from: [{ cidr: '::/0' }], action: 'allow' }),
  );
  const from = (address: string): string =>
    judgeIngress(outside.tables, parseIp(address) ?? new Uint8Array(16), {
      port: 22,
      protocol: protocolNumber.tcp,
    }).verdict;
  assert.deepEqual([from('fd00::1'), from('10.0.0.1')], ['allow', 'deny']);
});

test('of several rules with the same selector the first by name is told', () => {
  const from = [{ user: 9 }];
  const rules = rulesOf(
    { name: 'b', to: { cidr: '10.0.0.0/8' }, from, action: 'deny' },
    { name: 'a', to: { cidr: '10.0.0.0/16' }, from, action: 'deny' },
    { name: 'c', to: { ports: [80] }, from, action: 'deny' },
  );
  const made = compile(rules);
  const { rule } = asked(made, '10.0.0.1', 80);
  assert.equal(made.tables.rules.get(rule)?.name, 'a');
  const closing = rulesOf(
    { name: 'z', to: { cidr: '10.0.0.0/8' }, from: [{ user: 1 }], action: 'allow' },
    { name: 'y', to: { cidr: '10.0.0.0/16' }, from: [{ user: 2 }], action: 'allow' },
  );
  const closed = compile(closing);
  assert.equal(closed.tables.rules.get(asked(closed, '10.0.0.1', 80).rule)?.name, 'y');
  const outside = rulesOf(
    { name: 'f', to: { ports: [22] }, from: [{ cidr: '10.0.0.0/8' }], action: 'deny' },
    { name: 'e', to: { ports: [22] }, from: [{ cidr: '0.0.0.0/0' }], action: 'deny' },
  );
  const found = compile(outside);
  const source = parseIp('10.0.0.1') ?? new Uint8Array(16);
  const denied = judgeIngress(found.tables, source, { port: 22, protocol: protocolNumber.tcp });
  assert.equal(found.tables.rules.get(denied.rule)?.name, 'e');
});

test('a name that this host does not know selects nobody, closes all the same, and is reported', () => {
  const rules = rulesOf(
    { to: { cidr: '10.0.0.0/8' }, from: [{ user: 'ghost' }], action: 'allow' },
    { to: { cidr: '11.0.0.0/8' }, from: [{ group: 'gone' }], action: 'deny' },
  );
  const made = compile(rules, { users: new Map([['ghost', undefined]]) });
  assert.deepEqual(told(made), [
    'rule-0: rule "rule-0" names user "ghost", and this host knows none: it selects nobody | `getent passwd ghost` shows it once it is there',
    'rule-1: rule "rule-1" names group "gone", and this host knows none: it selects nobody | `getent group gone` shows it once it is there',
  ]);
  assert.equal(asked(made, '10.0.0.1', 80).verdict, 'deny');
  assert.equal(asked(made, '11.0.0.1', 80).verdict, 'allow');
  const known = compile(rules, { users: new Map([['ghost', 9]]) });
  assert.equal(asked(known, '10.0.0.1', 80).verdict, 'allow');
});

test('a rule keeps its number, and a number rests before another rule gets it', () => {
  let numbering = assignNumbers(['a', 'b', 'c'], NO_NUMBERING, 6);
  assert.deepEqual(
    [...numbering.numbers],
    [
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ],
  );
  numbering = assignNumbers(['b', 'd'], numbering, 6);
  assert.deepEqual(
    [...numbering.numbers],
    [
      ['b', 2],
      ['d', 4],
    ],
  );
  numbering = assignNumbers(['b', 'd', 'e', 'f'], numbering, 6);
  assert.deepEqual(Object.fromEntries(numbering.numbers), { b: 2, d: 4, e: 5, f: 1 });
  // One more than there is room for gets none.
  numbering = assignNumbers(['b', 'd', 'e', 'f', 'g', 'h'], numbering, 6);
  assert.deepEqual(Object.fromEntries(numbering.numbers), { b: 2, d: 4, e: 5, f: 1, g: 3 });
});

test('numbers are taken over from the kernel', () => {
  const rules = rulesOf(
    { name: 'new', to: { ports: [1] }, action: 'deny' },
    { name: 'old', to: { ports: [2] }, action: 'deny' },
  );
  const held = new Map([[7, { name: 'old', action: 'allow' as const }]]);
  const made = compile(rules, { numbering: numberingOf(held) });
  assert.deepEqual(Object.fromEntries(made.numbering.numbers), { old: 7, new: 8 });
  assert.deepEqual(made.tables.rules.get(7), { name: 'old', action: 'deny' });
});

test('what does not fit is told with the knob that makes room', () => {
  const ports = rulesOf(
    { to: { ports: [1] }, action: 'deny' },
    { to: { ports: [2] }, action: 'deny' },
  );
  assert.deepEqual(told(compile(ports, { limits: { ...limits, aclRules: 2 } })), [
    'fatal -: there are 2 rules, and room for 1 | raise maps.aclRules in the configuration and restart the agent',
  ]);
  assert.deepEqual(told(compile(ports, { limits: { ...limits, aclEntries: 3 } })), [
    'fatal -: the rules take 4 entries for endpoints and ports, and there is room for 3 | raise maps.aclEntries in the configuration and restart the agent',
  ]);
  const unit = rulesOf({ to: { ports: [1] }, from: [{ unit: 'web.service' }], action: 'deny' });
  assert.deepEqual(told(compile(unit, { limits: { ...limits, aclGlobs: 9 } })), [
    'fatal -: the units and cgroups that rules name take more than 9 steps | use fewer wildcards, or raise maps.aclGlobs in the configuration and restart the agent',
  ]);
  const redis = rulesOf({ to: { service: 'redis' }, action: 'deny' });
  const small = compile(redis, { limits: { ...limits, aclEntries: 2 } });
  assert.deepEqual(told(small), []);
  const grown = new Map([service('redis', '10.0.0.1 1', '10.0.0.2 1', '10.0.0.3 1')]);
  assert.match(
    told(updateEndpoints(small, grown, ['redis'])).join(),
    /^fatal -: the rules take 3 ent/,
  );
});

test('the automaton stays the same object until selectors of cgroups change', () => {
  const web = { from: [{ unit: 'web.service' }], action: 'allow' };
  const one = compile(rulesOf({ to: { ports: [1] }, ...web }));
  const two = compile(
    rulesOf({ to: { ports: [2] }, ...web }, { to: { ports: [3] }, action: 'deny' }),
    { previous: one },
  );
  assert.equal(two.tables.automaton, one.tables.automaton);
  const three = compile(
    rulesOf({ to: { ports: [1] }, from: [{ unit: 'x.service' }], action: 'allow' }),
    { previous: two },
  );
  assert.notEqual(three.tables.automaton, two.tables.automaton);
});

test('equal sets of rules share a policy, and flags say what it has', () => {
  const rules = rulesOf({
    to: { service: 'redis' },
    from: [{ unit: 'web.service' }, { user: 1 }, { group: 2 }, { cidr: '192.0.2.0/24' }],
    action: 'deny',
  });
  const services = new Map([service('redis', '10.0.0.1 1', '10.0.0.2 1', '10.0.0.3 2')]);
  const { dests, matches, sources } = compile(rules, { services }).tables;
  assert.equal(new Set([...dests.values()].map(({ policy }) => policy)).size, 1);
  const { hasTags, hasUsers, hasGroups, tagsDeny, groupsDeny } = policyFlag;
  assert.equal(
    [...dests.values()][0]?.flags,
    hasTags | hasUsers | hasGroups | tagsDeny | groupsDeny,
  );
  assert.equal(matches.size, 3);
  // No backend is this host's, so nothing of it can be reached from outside.
  assert.equal(sources.size, 0);
});

test('two policies whose hashes meet get numbers of their own', () => {
  const rule = (number: number, value: number): PreparedRule => ({
    number,
    name: `rule-${number}`,
    action: 'allow',
    egress: true,
    workloads: [{ kind: 'user', value }],
    sources: [],
  });
  const sets = new RuleSets();
  const policies = new Policies([rule(1, 10), rule(2, 20)], false, () => 0x7fffffff);
  const [one, other, both] = [[0], [1], [1, 0]].map((rules) => policies.egress(sets.of(rules)));
  assert.deepEqual(
    [one, other, both].map((policy) => policy?.dest.policy),
    [0x7fffffff, 1, 2],
  );
  assert.equal(policies.egress(sets.of([0])), one);
  const cidr = parseCidr('10.0.0.0/8');
  assert.ok(cidr.ok);
  const outside = new Policies([{ ...rule(1, 1), sources: [cidr.cidr] }], false, () => 5);
  assert.notEqual(
    outside.ingress(sets.of([0])).dest.policy,
    outside.egress(sets.of([0])).dest.policy,
  );
});
