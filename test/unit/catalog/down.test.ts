import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileAcl, NO_NUMBERING } from '../../../src/acl/compile.ts';
import { buildCatalog, type Catalog } from '../../../src/catalog/catalog.ts';
import { ALONE, servicesBetween, type CatalogContext } from '../../../src/catalog/context.ts';
import { dumpFrontends } from '../../../src/datapath/dump.ts';
import { frontendsOf } from '../../../src/datapath/desired.ts';
import { Planner } from '../../../src/datapath/plan.ts';
import { Tables } from '../../../src/datapath/tables.ts';
import type { AclRecord, BackendRecord } from '../../../src/state/records.ts';
import { snapshotOf } from './world.ts';

const web = {
  name: 'web',
  vips: ['240.0.0.1', 'fd7a:6572:6f68:6f70::1'],
  ports: [{ name: 'http', port: 80, protocol: 'tcp' }],
} as const;

function backend(address: string, more: Partial<BackendRecord> = {}): BackendRecord {
  return {
    service: 'web',
    portName: 'http',
    address,
    port: 8080,
    weight: 1,
    state: 'active',
    ...more,
  };
}

function contextOf(more: {
  readonly nodes?: Readonly<Record<string, readonly string[]>>;
  readonly unreachable?: readonly string[];
  readonly unhealthy?: readonly string[];
}): CatalogContext {
  const nodes = Object.entries(more.nodes ?? {});
  return {
    ...ALONE,
    self: 'me',
    nodes: new Map(nodes.map(([id, addresses]) => [id, { addresses }])),
    unreachable: new Set(more.unreachable),
    unhealthy: new Set(more.unhealthy),
  };
}

function build(backends: readonly BackendRecord[], context: CatalogContext): Catalog {
  return buildCatalog(snapshotOf([web], backends), context);
}

/** `ADDRESS`, `ADDRESS unreachable`; and `fail open` at the end. */
function say(backends: readonly BackendRecord[], context: CatalogContext): string[] {
  const [port] = build(backends, context).services.get('web')?.ports ?? [];
  assert.ok(port);
  const texts = port.backends.map(({ address, down }) =>
    down === undefined ? address : `${address} ${down}`,
  );
  return [...texts, ...(port.failOpen ? ['fail open'] : [])];
}

const spare = backend('10.0.0.9');

test('whose a backend is: the node of its record, else every node that has its address', () => {
  const nodes = { n1: ['10.0.0.1', '10.0.0.2'], n2: ['10.0.0.2', '10.0.0.3'], me: ['10.0.0.4'] };
  const gone = (...unreachable: string[]): CatalogContext => contextOf({ nodes, unreachable });
  const cases: readonly (readonly [BackendRecord, CatalogContext, 'up' | 'unreachable'])[] = [
    [backend('10.0.0.1'), gone('n1'), 'unreachable'],
    [backend('10.0.0.1'), gone('n2'), 'up'],
    // Two have it: both must be gone.
    [backend('10.0.0.2'), gone('n1'), 'up'],
    [backend('10.0.0.2'), gone('n2'), 'up'],
    [backend('10.0.0.2'), gone('n1', 'n2'), 'unreachable'],
    // Nobody has it: a server that zerohop knows nothing of.
    [backend('10.0.0.7'), gone('n1', 'n2'), 'up'],
    // The record says whose, also where others have the address, and of a node never heard of.
    [backend('10.0.0.2', { node: 'n1' }), gone('n1'), 'unreachable'],
    [backend('10.0.0.2', { node: 'n1' }), gone('n2'), 'up'],
    [backend('10.0.0.1', { node: 'n9' }), gone('n9'), 'unreachable'],
    // This node is never out of its own reach.
    [backend('10.0.0.4'), gone('me', 'n1'), 'up'],
    [backend('10.0.0.1', { node: 'me' }), gone('me', 'n1'), 'up'],
    [backend('127.0.0.1'), gone('me', 'n1', 'n2'), 'up'],
    [backend('127.0.0.1', { node: 'me' }), gone('me', 'n1', 'n2'), 'up'],
  ];
  for (const [one, context, expected] of cases) {
    const text = expected === 'up' ? one.address : `${one.address} unreachable`;
    const all = say([one, spare], context);
    assert.ok(all.includes(text), `${all.join(', ')} instead of ${text}`);
    assert.equal(all.length, 2);
  }
});

test('loopback backends of another node are none of this one; those of all and of its own are', () => {
  const context = contextOf({});
  for (const address of ['127.0.0.1', '127.8.8.8', '::1']) {
    assert.deepEqual(say([backend(address, { node: 'n1' })], context), []);
    assert.deepEqual(say([backend(address, { node: 'me' })], context), [address]);
    assert.deepEqual(say([backend(address)], context), [address]);
  }
  assert.deepEqual(say([backend('10.0.0.1', { node: 'n1' })], context), ['10.0.0.1']);
});

test('what its node found broken is unhealthy, that very port and protocol alone', () => {
  const one = backend('10.0.0.1');
  for (const [text, expected] of [
    ['10.0.0.1 8080 tcp', '10.0.0.1 unhealthy'],
    ['10.0.0.1 8081 tcp', '10.0.0.1'],
    ['10.0.0.1 8080 udp', '10.0.0.1'],
    ['10.0.0.2 8080 tcp', '10.0.0.1'],
  ] as const) {
    assert.deepEqual(say([one, spare], contextOf({ unhealthy: [text] })), [expected, '10.0.0.9']);
  }
  // What a node said before it was lost is old.
  const lost = contextOf({
    nodes: { n1: ['10.0.0.1'] },
    unreachable: ['n1'],
    unhealthy: ['10.0.0.1 8080 tcp'],
  });
  assert.deepEqual(say([one, spare], lost), ['10.0.0.1 unreachable', '10.0.0.9']);
});

test('when nobody is left all who would take connections are kept, whatever is wrong with them', () => {
  const lost = backend('10.0.0.1', { node: 'n1' });
  const sick = backend('10.0.0.2', { node: 'n2' });
  const context = contextOf({ unreachable: ['n1'], unhealthy: ['10.0.0.2 8080 tcp'] });
  assert.deepEqual(say([lost], context), ['10.0.0.1', 'fail open']);
  assert.deepEqual(say([sick], context), ['10.0.0.2', 'fail open']);
  assert.deepEqual(say([lost, sick], context), ['10.0.0.1', '10.0.0.2', 'fail open']);
  assert.deepEqual(say([lost, sick, spare], context), [
    '10.0.0.1 unreachable',
    '10.0.0.2 unhealthy',
    '10.0.0.9',
  ]);
});

test('backends that take no connections anyway neither prevent that nor are kept by it', () => {
  const lost = backend('10.0.0.1', { node: 'n1' });
  const context = contextOf({ unreachable: ['n1'] });
  for (const more of [{ state: 'draining' }, { weight: 0 }] as const) {
    assert.deepEqual(say([lost, backend('10.0.0.8', more)], context), [
      '10.0.0.1',
      '10.0.0.8',
      'fail open',
    ]);
    const resting = backend('10.0.0.1', { node: 'n1', ...more });
    assert.deepEqual(say([resting], context), ['10.0.0.1 unreachable']);
    assert.deepEqual(say([resting, spare], context), ['10.0.0.1 unreachable', '10.0.0.9']);
  }
});

test('each family fails open on its own, and one without a VIP never', () => {
  const four = backend('10.0.0.1', { node: 'n1' });
  const six = backend('fd00::1', { node: 'n2' });
  const context = contextOf({ unreachable: ['n1'] });
  assert.deepEqual(say([four, six], context), ['10.0.0.1', 'fd00::1', 'fail open']);
  const both = contextOf({ unreachable: ['n1', 'n2'] });
  assert.deepEqual(say([four, spare, six], both), [
    '10.0.0.1 unreachable',
    '10.0.0.9',
    'fd00::1',
    'fail open',
  ]);
  const snapshot = snapshotOf([{ ...web, vips: ['240.0.0.1'] }], [spare, six]);
  const [port] = buildCatalog(snapshot, both).services.get('web')?.ports ?? [];
  assert.equal(port?.failOpen, undefined);
  assert.deepEqual(port?.backends[1], { ...six, down: 'unreachable' });
});

test('in the kernel a down backend stays, without a share and named so, and comes back as it was', () => {
  const tables = new Tables();
  const limits = { services: 16, slots: 64, backends: 64 };
  const planner = new Planner(tables, { limits, inVipRange: () => true });
  const backends = [backend('10.0.0.1', { node: 'n1', weight: 7 }), backend('10.0.0.2')];
  let now = 0;
  const show = (context: CatalogContext): unknown[] => {
    const catalog = build(backends, context);
    const wanted = new Map([['web', frontendsOf(catalog.services.get('web'))]]);
    planner.applied(planner.plan(wanted, 1, (now += 10_000)));
    const shown = dumpFrontends(tables, () => []).filter(({ vip }) => vip === '240.0.0.1:80');
    return shown.flatMap((one) => [
      one.state,
      ...one.backends
        .toSorted((a, b) => (a.address < b.address ? -1 : 1))
        .map(({ index, address, weight, state, sharePercent }) =>
          [index, address, weight, state, sharePercent].join(' '),
        ),
    ]);
  };
  const up = ['serving', '0 10.0.0.1:8080 7 active 87.5', '1 10.0.0.2:8080 1 active 12.5'];
  assert.deepEqual(show(contextOf({})), up);
  assert.deepEqual(show(contextOf({ unreachable: ['n1'] })), [
    'serving',
    '0 10.0.0.1:8080 7 down 0',
    '1 10.0.0.2:8080 1 active 100',
  ]);
  assert.deepEqual(show(contextOf({})), up);
});

test('rules protect a down backend as before, and none that is not of this node', () => {
  const rule: AclRecord = {
    name: 'only-ops',
    to: { kind: 'service', service: 'web' },
    from: [{ kind: 'user', value: '1000' }],
    action: 'allow',
  };
  const destsOf = (backends: readonly BackendRecord[], context: CatalogContext): number =>
    compileAcl({
      rules: [rule],
      services: build(backends, context).services,
      users: new Map(),
      groups: new Map(),
      localAddresses: ['10.0.0.4'],
      defaultAction: 'allow',
      numbering: NO_NUMBERING,
      limits: { aclRules: 64, aclEntries: 1024, aclGlobs: 64 },
    }).tables.dests.size;
  const lost = [backend('10.0.0.1', { node: 'n1' }), spare];
  assert.equal(destsOf(lost, contextOf({ unreachable: ['n1'] })), destsOf(lost, contextOf({})));
  const none = destsOf([], contextOf({}));
  assert.equal(destsOf(lost, contextOf({ unreachable: ['n1'] })), none + 2);
  assert.equal(destsOf([backend('127.0.0.1', { node: 'n1' })], contextOf({})), none);
});

test('between two contexts those services are touched whose backends they speak of', () => {
  const other = { ...web, name: 'api', vips: ['240.0.0.2'] };
  const snapshot = snapshotOf(
    [web, other],
    [backend('10.0.0.1'), { ...backend('10.0.0.2', { node: 'n2' }), service: 'api' }],
  );
  const nodes = { n1: ['10.0.0.1'], n2: ['10.0.0.2'], n3: [] };
  const between = (a: CatalogContext, b: CatalogContext): string[] =>
    [...servicesBetween(snapshot, a, b)].toSorted();
  const calm = contextOf({ nodes });
  assert.deepEqual(between(calm, calm), []);
  assert.deepEqual(between(calm, contextOf({ nodes, unreachable: ['n1'] })), ['web']);
  assert.deepEqual(between(contextOf({ nodes, unreachable: ['n2'] }), calm), ['api']);
  assert.deepEqual(between(calm, contextOf({ nodes, unreachable: ['n3'] })), []);
  assert.deepEqual(between(calm, contextOf({ nodes, unhealthy: ['10.0.0.2 8080 tcp'] })), ['api']);
  assert.deepEqual(between(calm, contextOf({ nodes, unhealthy: ['10.0.0.2 9999 tcp'] })), []);
  // An address moves from one node to another while somebody is gone.
  const gone = contextOf({ nodes, unreachable: ['n3'] });
  const moved = contextOf({ nodes: { ...nodes, n1: [], n3: ['10.0.0.1'] }, unreachable: ['n3'] });
  assert.deepEqual(between(gone, moved), ['web']);
  // Without anybody gone it makes no difference.
  assert.deepEqual(between(calm, contextOf({ nodes: { n3: ['10.0.0.1'] } })), []);
  // After joining a cluster this node is another one.
  assert.deepEqual(between(calm, { ...calm, self: 'n2' }), ['api', 'web']);
});
