/** Access rules as documents and commands: what is refused and why, what is stored, exported, warned of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { aclSpec } from '../../../src/state/acl-validate.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import { decide, type Decision } from '../../../src/state/commands.ts';
import { parseDocuments } from '../../../src/state/documents.ts';
import { aclDocument, exportDocuments } from '../../../src/state/export.ts';
import type { AclRecord, StateSnapshot } from '../../../src/state/records.ts';
import { parse } from '../../../src/state/validate.ts';
import { aclRecord, pools } from './generators.ts';

const to = { service: 'redis.prod' };
const rule = {
  kind: 'acl',
  name: 'only-web-to-redis',
  to,
  from: [{ unit: 'web.service' }],
  action: 'allow',
};

function parsed(document: unknown): AclRecord {
  const result = parseDocuments([document]);
  assert.ok(result.ok, JSON.stringify(result));
  const [only] = result.value;
  assert.ok(only?.kind === 'acl');
  const { kind: _, ...record } = only;
  return record;
}

function complaint(document: unknown): string {
  const result = parseDocuments([document]);
  assert.ok(!result.ok, `accepted: ${JSON.stringify(document)}`);
  return result.problems
    .map((p) => `${p.path ?? '-'}: ${p.message}${p.hint === undefined ? '' : ` | ${p.hint}`}`)
    .join('\n')
    .replaceAll('documents[0]', '');
}

test('the rule of the README is stored in canonical form', () => {
  const from = [
    { unit: 'web.service' },
    { cgroup: '/batch/*' },
    { user: 'deploy' },
    { group: 100 },
    { user: '0042' },
  ];
  assert.deepEqual(parsed({ ...rule, from }), {
    name: 'only-web-to-redis',
    to: { kind: 'service', service: 'redis.prod' },
    from: [
      { kind: 'unit', value: 'web.service' },
      { kind: 'cgroup', value: '/batch/*' },
      { kind: 'user', value: 'deploy' },
      { kind: 'group', value: '100' },
      { kind: 'user', value: '42' },
    ],
    action: 'allow',
  });
});

test('a target is a port of a service, a block, a block with ports, or ports', () => {
  const target = (value: unknown): unknown =>
    parsed({ kind: 'acl', name: 'a', to: value, action: 'deny' }).to;
  assert.deepEqual(target({ service: 'Redis.Prod', port: 'main' }), {
    kind: 'service',
    service: 'redis.prod',
    portName: 'main',
  });
  assert.deepEqual(target({ cidr: 'FD00:0::/16' }), { kind: 'cidr', cidr: 'fd00::/16', ports: [] });
  assert.deepEqual(target({ cidr: '10.0.0.0/8', ports: ['443/TCP', 53] }), {
    kind: 'cidr',
    cidr: '10.0.0.0/8',
    ports: [
      { port: 443, protocol: 'tcp' },
      { port: 53, protocol: 'tcp' },
    ],
  });
  assert.deepEqual(target({ ports: ['53/udp'] }), {
    kind: 'ports',
    ports: [{ port: 53, protocol: 'udp' }],
  });
});

const from = (selector: unknown): unknown => ({ ...rule, from: [selector] });
const REFUSED: readonly (readonly [string, unknown, RegExp])[] = [
  ['no action', { ...rule, action: undefined }, /^\.action: action is missing: allow, deny or/],
  ['another action', { ...rule, action: 'drop' }, /action "drop" is none of allow, deny, audit$/],
  ['no name', { ...rule, name: undefined }, /^\.name: rule name is missing$/],
  ['a name of 64 bytes', { ...rule, name: 'a'.repeat(64) }, /longer than 63 bytes/],
  [
    'a name with "_"',
    { ...rule, name: 'a_b' },
    /^\.name: rule name "a_b" is malformed: it has a–z/,
  ],
  ['a name with ".."', { ...rule, name: 'a..b' }, /malformed/],
  [
    'an unknown field',
    { ...rule, form: [] },
    /^\.form: unknown field "form" \| did you mean "from"/,
  ],
  ['no target', { ...rule, to: undefined }, /^\.to: /],
  [
    'an empty target',
    { ...rule, to: {} },
    /^\.to: to is empty: it names a service, a cidr or ports$/,
  ],
  ['a slip in its target', { ...rule, to: { servce: 'a' } }, /"servce" \| did you mean "service"/],
  ['two targets', { ...rule, to: { ...to, cidr: '10.0.0.0/8' } }, /^\.to\.cidr: service and cidr/],
  ['a service with ports', { ...rule, to: { ...to, ports: [1] } }, /^\.to\.ports: a service has/],
  [
    'a port without service',
    { ...rule, to: { port: 'main' } },
    /^\.to\.port: port names a port of/,
  ],
  [
    'a block with host bits',
    { ...rule, to: { cidr: '10.1.2.3/8' } },
    /^\.to\.cidr: cidr "10\.1\.2\.3\/8" has bits after its prefix: write 10\.0\.0\.0\/8$/,
  ],
  [
    'an address for a block',
    { ...rule, to: { cidr: 'fd00::1' } },
    /is an address: write fd00::1\/128/,
  ],
  ['a word for a block', { ...rule, to: { cidr: 'lan' } }, /cidr "lan" is not a block like/],
  ['an empty list of ports', { ...rule, to: { ports: [] } }, /^\.to\.ports: ports is empty/],
  ['port 0', { ...rule, to: { ports: [0] } }, /^\.to\.ports\[0\]: port 0 is outside 1–65535$/],
  ['a port of SCTP', { ...rule, to: { ports: ['9/sctp'] } }, /port "9\/sctp" is not like 443\/tcp/],
  [
    'a port twice',
    { ...rule, to: { ports: [9, '9/tcp'] } },
    /ports\[1\]: port 9\/tcp is there twice/,
  ],
  ['an empty from', { ...rule, from: [] }, /^\.from: from is empty: leave it out for everyone$/],
  ['a from that is no list', { ...rule, from: { unit: 'a.service' } }, /from is not a list/],
  [
    'an empty selector',
    from({}),
    /^\.from\[0\]: a selector names one of unit, cgroup, user, group/,
  ],
  [
    'a selector with two keys',
    from({ unit: 'web.service', user: 'x' }),
    /^\.from\[0\]: a selector names one thing, this one unit and user: items of their own are/,
  ],
  [
    'an unknown selector',
    from({ units: 'a.service' }),
    /unknown field "units" \| did you mean "unit"/,
  ],
  [
    'a selector twice',
    { ...rule, from: [{ user: 7 }, { user: '7' }] },
    /\[1\]: selector user 7 is/,
  ],
  [
    'a unit without suffix',
    from({ unit: 'web' }),
    /"web" has no suffix: did you mean web\.service\?$/,
  ],
  [
    'a unit with another suffix',
    from({ unit: 'a.b' }),
    /ends in none of .*: did you mean a\.b\.serv/,
  ],
  ['a unit with a path', from({ unit: '/a/b.service' }), /has a "\/": `cgroup` takes paths$/],
  ['a unit with **', from({ unit: '**.service' }), /has "\*\*": one \* stands for everything in a/],
  ['the root slice', from({ unit: '-.slice' }), /root of all units: without `from`/],
  ['an empty unit', from({ unit: '' }), /^\.from\[0\]\.unit: unit is empty$/],
  [
    'a relative cgroup',
    from({ cgroup: 'a/b' }),
    /does not begin with "\/": did you mean \/a\/b\?$/,
  ],
  ['a cgroup with its mount', from({ cgroup: '/sys/fs/cgroup/a' }), /file system: write \/a$/],
  ['a cgroup with //', from({ cgroup: '/a//b' }), /empty component/],
  ['a cgroup that ends in /', from({ cgroup: '/a/' }), /empty component/],
  ['a cgroup with ..', from({ cgroup: '/a/../b' }), /has "\." or "\.\." in it/],
  [
    'a cgroup with a class',
    from({ cgroup: '/a[bc]' }),
    /has brackets: patterns know only \*, \? and/,
  ],
  [
    'a cgroup with a**',
    from({ cgroup: '/a**/b' }),
    /"\*\*" beside other characters: it stands alone/,
  ],
  ['a user that is no number', from({ user: 1.5 }), /user 1\.5 is no whole number in 0–4294967294/],
  ['a user that is too high', from({ user: '4294967295' }), /is outside 0–4294967294/],
  ['a user with a space', from({ user: 'a b' }), /user "a b" is no name of an account/],
  [
    'a group that is a list',
    from({ group: ['ops'] }),
    /group \["ops"\] is neither a name nor a num/,
  ],
  ['a source with host bits', from({ cidr: '192.0.2.7/24' }), /write 192\.0\.2\.0\/24$/],
  [
    'a source where `to` is a block',
    { ...(from({ cidr: '192.0.2.0/24' }) as object), to: { cidr: '10.0.0.0/8' } },
    /^\.from\[0\]\.cidr: a source \(cidr\) says who may reach a port of this host: `to` is then/,
  ],
];

for (const [what, document, message] of REFUSED) {
  test(`a rule with ${what} is refused`, () => {
    assert.match(complaint(document), message);
    assert.equal(complaint(document).split('\n').length, 1, complaint(document));
  });
}

test('what is exported is read as the same rule, by documents and by the API', () => {
  fc.assert(
    fc.property(aclRecord, (record) => {
      const document = JSON.parse(JSON.stringify(aclDocument(record))) as { kind: string };
      assert.deepEqual(parsed(document), record);
      const { kind: _, ...spec } = document;
      assert.deepEqual(parse(aclSpec, spec), { ok: true, value: record });
    }),
  );
});

function apply(snapshot: StateSnapshot, documents: readonly unknown[]): Decision {
  const result = parseDocuments(documents);
  assert.ok(result.ok, JSON.stringify(result));
  return decide(snapshot, { kind: 'apply', documents: result.value }, pools);
}

function told({ problems, warnings }: Decision): string[] {
  return [...problems, ...warnings].map(
    (p) => `${p.code} ${p.path ?? '-'}: ${p.message}${p.hint === undefined ? '' : ` | ${p.hint}`}`,
  );
}

const redis = { kind: 'service', name: 'redis.prod', ports: [{ name: 'main', port: 6379 }] };

test('a rule is created, changed, removed, and saying it again changes nothing', () => {
  const first = apply(EMPTY_SNAPSHOT, [rule, redis]);
  assert.deepEqual(first.actions.at(-1), { action: 'create', kind: 'acl', name: rule.name });
  assert.deepEqual(told(first), []);
  const one = applyChanges(EMPTY_SNAPSHOT, first.changes);
  assert.equal(one.aclsChanged, true);
  assert.deepEqual(apply(one.snapshot, [rule]).changes, []);

  const denied = { ...rule, action: 'deny' };
  const second = apply(one.snapshot, [denied]);
  assert.deepEqual(second.actions, [{ action: 'update', kind: 'acl', name: rule.name }]);
  const two = applyChanges(one.snapshot, second.changes);
  assert.deepEqual([...two.snapshot.acls.values()], [parsed(denied)]);
  assert.equal([...one.snapshot.acls.values()][0]?.action, 'allow');

  const third = decide(two.snapshot, { kind: 'remove-acl', name: rule.name }, pools);
  assert.deepEqual(third.actions, [{ action: 'remove', kind: 'acl', name: rule.name }]);
  const three = applyChanges(two.snapshot, third.changes);
  assert.equal(three.snapshot.acls.size, 0);
  assert.equal(three.aclsChanged, true);
  assert.deepEqual([...three.touched], []);
});

test('a change of backends is no change of rules', () => {
  const start = applyChanges(EMPTY_SNAPSHOT, apply(EMPTY_SNAPSHOT, [redis, rule]).changes).snapshot;
  const backend = { kind: 'backend', service: 'redis.prod', address: '10.0.0.1:6379' };
  const { aclsChanged, snapshot } = applyChanges(start, apply(start, [backend]).changes);
  assert.equal(aclsChanged, false);
  assert.equal(snapshot.acls, start.acls);
});

test('removing a rule that is not there is refused with the one that may be meant', () => {
  const { snapshot } = applyChanges(EMPTY_SNAPSHOT, apply(EMPTY_SNAPSHOT, [rule]).changes);
  const remove = (from: StateSnapshot, name: string): string[] =>
    told(decide(from, { kind: 'remove-acl', name }, pools));
  assert.deepEqual(remove(snapshot, 'only-web-to-redsi'), [
    'not-found -: there is no rule "only-web-to-redsi" | did you mean "only-web-to-redis"?',
  ]);
  assert.match(
    remove(EMPTY_SNAPSHOT, 'x')[0] ?? '',
    /there is none yet: `zerohop apply` adds them/,
  );
});

test('a rule described twice is a conflict', () => {
  assert.deepEqual(told(apply(EMPTY_SNAPSHOT, [rule, redis, rule])), [
    'conflict documents[2].name: rule "only-web-to-redis" is described twice | first in documents[0]',
  ]);
});

test('a rule may come before its service or port, with a warning', () => {
  const early = apply(EMPTY_SNAPSHOT, [rule]);
  assert.equal(early.changes.length, 1);
  assert.deepEqual(told(early), [
    'not-found documents[0].to.service: rule "only-web-to-redis" names service "redis.prod", and there is none | it protects nothing until there is one',
  ]);
  const slip = { ...rule, to: { service: 'redis.prod', port: 'mian' } };
  assert.deepEqual(told(apply(EMPTY_SNAPSHOT, [slip, redis])), [
    'not-found documents[0].to.port: rule "only-web-to-redis" names port "mian" of "redis.prod", which has none of that name | did you mean "main"?',
  ]);
});

test('a service or port that goes while rules name it is a warning', () => {
  const byPort = { ...rule, name: 'by-port', to: { service: 'redis.prod', port: 'main' } };
  const early = { ...rule, name: 'early', to: { service: 'later' } };
  const { changes } = apply(EMPTY_SNAPSHOT, [redis, rule, byPort, early]);
  const { snapshot } = applyChanges(EMPTY_SNAPSHOT, changes);
  const removal = decide(snapshot, { kind: 'remove-service', name: 'redis.prod' }, pools);
  assert.deepEqual(
    told(removal)
      .map((line) => line.replace(/ \|.*/, ''))
      .toSorted(),
    [
      'not-found -: rule "by-port" names service "redis.prod", which is gone: it protects nothing now',
      'not-found -: rule "only-web-to-redis" names service "redis.prod", which is gone: it protects nothing now',
    ],
  );
  const other = apply(snapshot, [{ ...redis, ports: [{ name: 'other', port: 6379 }] }]);
  assert.deepEqual(told(other), [
    'not-found -: rule "by-port" names port "main" of "redis.prod", which is gone: it protects nothing now | what listened there is open to whom no other rule stops; `zerohop acl rm by-port` removes the rule',
  ]);
});

test('a rule for a block of VIPs is told that connections are judged as their backends', () => {
  const vips = { ...rule, to: { cidr: '240.0.0.1/32' } };
  assert.match(
    told(apply(EMPTY_SNAPSHOT, [vips]))[0] ?? '',
    /^invalid documents\[0\]\.to\.cidr: .*VIPs live/,
  );
});

test('services are exported before rules, each in the order of names, and applied again change nothing', () => {
  const other = { ...rule, name: 'a', to: { ports: ['25/tcp'] }, from: [{ cidr: '192.0.2.0/24' }] };
  const { snapshot } = applyChanges(
    EMPTY_SNAPSHOT,
    apply(EMPTY_SNAPSHOT, [rule, redis, other]).changes,
  );
  const documents = exportDocuments(snapshot);
  assert.deepEqual(
    documents.map(({ kind, name }) => `${kind} ${name}`),
    ['service redis.prod', 'acl a', 'acl only-web-to-redis'],
  );
  assert.deepEqual(documents[2], rule);
  assert.deepEqual(documents[1], other);
  assert.deepEqual(apply(snapshot, documents).changes, []);
  const copy = applyChanges(EMPTY_SNAPSHOT, apply(EMPTY_SNAPSHOT, documents).changes).snapshot;
  assert.deepEqual(exportDocuments(copy), documents);
});
