import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCatalog, type Catalog } from '../../../src/catalog/catalog.ts';
import { ALONE } from '../../../src/catalog/context.ts';
import { allocateVip, DEFAULT_POOLS } from '../../../src/catalog/vips.ts';
import { configSchema } from '../../../src/config/schema.ts';
import { frontendsOf } from '../../../src/datapath/desired.ts';
import { applyChanges } from '../../../src/state/changes.ts';
import type {
  Change,
  ServicePort,
  ServiceRecord,
  StateSnapshot,
} from '../../../src/state/records.ts';
import { cidr } from '../state/generators.ts';
import { snapshotOf } from './world.ts';

const http = { name: 'http', port: 80, protocol: 'tcp' } as const;
const dns = { name: 'dns', port: 53, protocol: 'udp' } as const;

function service(
  name: string,
  vips: readonly string[],
  ports: readonly ServicePort[] = [http],
): ServiceRecord {
  return { name, vips, ports };
}

/** The n-th candidate that a name has. */
function candidate(name: string, n: number): string {
  const taken = new Set<string>();
  for (;;) {
    const allocation = allocateVip(name, 4, DEFAULT_POOLS, (vip) => taken.has(vip));
    assert.ok(allocation.ok);
    if (taken.size === n) return allocation.vip;
    taken.add(allocation.vip);
  }
}

const vipsOf = ({ services }: Catalog): Record<string, readonly string[]> =>
  Object.fromEntries([...services.values()].map(({ name, vips }) => [name, vips]));

function next(
  before: { readonly snapshot: StateSnapshot; readonly catalog: Catalog },
  ...changes: Change[]
): { readonly snapshot: StateSnapshot; readonly catalog: Catalog } {
  const { snapshot, touched } = applyChanges(before.snapshot, changes);
  return {
    snapshot,
    catalog: buildCatalog(snapshot, ALONE, { catalog: before.catalog, touched }),
  };
}

test('without a configuration the pools are those of the configuration', () => {
  const { vipCidr4, vipPrefix6 } = configSchema.parse({});
  assert.deepEqual(DEFAULT_POOLS, { v4: vipCidr4, v6: vipPrefix6 });
});

test('of a VIP of the pools the smallest name keeps it, and the others get their next ones', () => {
  const vip = candidate('b', 0);
  const { services, conflicts } = buildCatalog(
    snapshotOf([
      service('c', [vip, 'fd00::1']),
      service('b', ['fd7a:6572:6f68:6f70::1', vip]),
      service('d', ['fd7a:6572:6f68:6f70::1']),
    ]),
  );
  assert.deepEqual(services.get('b')?.vips, ['fd7a:6572:6f68:6f70::1', vip]);
  assert.deepEqual(services.get('c')?.vips, [candidate('c', 0), 'fd00::1']);
  const six = allocateVip('d', 6, DEFAULT_POOLS, () => false);
  assert.ok(six.ok);
  assert.deepEqual(services.get('d')?.vips, [six.vip]);
  assert.deepEqual(conflicts, [
    { vip, kind: 'reassigned', services: ['b', 'c'], now: candidate('c', 0) },
    {
      vip: 'fd7a:6572:6f68:6f70::1',
      kind: 'reassigned',
      services: ['b', 'd'],
      now: six.vip,
    },
  ]);
});

test('a candidate that somebody recorded is passed over, and taken when nobody has it any more', () => {
  const vip = '240.0.0.1';
  const snapshot = snapshotOf([
    service('a', [vip]),
    service('b', [vip]),
    service('c', [vip]),
    service('d', [candidate('b', 0)]),
    service('z', ['240.0.0.9']),
  ]);
  const first = { snapshot, catalog: buildCatalog(snapshot) };
  const kept = { a: [vip], d: [candidate('b', 0)], z: ['240.0.0.9'] };
  assert.deepEqual(vipsOf(first.catalog), {
    ...kept,
    b: [candidate('b', 1)],
    c: [candidate('c', 0)],
  });
  // Only d is written, and b follows.
  const second = next(first, { kind: 'put-service', service: service('d', ['240.0.0.4']) });
  assert.deepEqual(vipsOf(second.catalog), {
    ...kept,
    b: [candidate('b', 0)],
    c: [candidate('c', 0)],
    d: ['240.0.0.4'],
  });
  assert.deepEqual([...second.catalog.touched].toSorted(), ['b', 'd']);
  // The winner goes: the next in order of names has what it recorded.
  const third = next(second, { kind: 'remove-service', name: 'a' });
  assert.deepEqual(third.catalog.services.get('b')?.vips, [vip]);
  assert.deepEqual([...third.catalog.touched].toSorted(), ['a', 'b']);
  const fourth = next(third, { kind: 'remove-service', name: 'b' });
  assert.deepEqual(fourth.catalog.services.get('c')?.vips, [vip]);
  assert.deepEqual([...fourth.catalog.touched].toSorted(), ['b', 'c']);
  assert.deepEqual(fourth.catalog.conflicts, []);
});

test('two losers never get one VIP, even if it is the next candidate of both', () => {
  // .1 to .7: .0 is never given out.
  const pools = { ...DEFAULT_POOLS, v4: cidr('240.0.0.0/29') };
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'];
  const snapshot = snapshotOf(names.map((name) => service(name, ['240.0.0.1'])));
  const { services, conflicts } = buildCatalog(snapshot, { ...ALONE, pools });
  const vips = [...services.values()].flatMap((one) => one.vips);
  assert.equal(new Set(vips).size, vips.length);
  // Seven addresses for nine services: the last two have none, and say so.
  assert.equal(vips.length, 7);
  assert.deepEqual(
    conflicts.map((conflict) => [conflict.services[1], conflict.now === undefined]),
    names.slice(1).map((name) => [name, name > 'g']),
  );
  assert.deepEqual(frontendsOf(services.get('i')), []);
});

test('of a VIP from elsewhere each port is the smallest name that has it; other ports are shared out', () => {
  const vip = '192.0.2.1';
  const snapshot = snapshotOf([
    service('a', [vip], [dns]),
    service('b', [vip], [http, dns]),
    service('c', [vip], [http]),
  ]);
  const { services, conflicts } = buildCatalog(snapshot);
  const portsOf = (name: string): string[] =>
    frontendsOf(services.get(name)).map(({ port }) => port);
  assert.deepEqual([portsOf('a'), portsOf('b'), portsOf('c')], [['dns'], ['http'], []]);
  assert.deepEqual(conflicts, [
    { vip, kind: 'port', services: ['a', 'b'], port: 53, protocol: 'udp' },
    { vip, kind: 'port', services: ['b', 'c'], port: 80, protocol: 'tcp' },
  ]);
  // With b's port 80 gone, c has it; a is not concerned.
  const first = { snapshot, catalog: buildCatalog(snapshot) };
  const second = next(first, { kind: 'put-service', service: service('b', [vip], [dns]) });
  assert.deepEqual(frontendsOf(second.catalog.services.get('c')).length, 1);
  assert.deepEqual([...second.catalog.touched].toSorted(), ['b', 'c']);
});

test('a change that concerns no contested VIP decides nothing anew, and leaves all other services alone', () => {
  const many = Array.from({ length: 300 }, (_, i) => service(`s${i}`, [`240.0.${i}.7`]));
  const snapshot = snapshotOf([...many, service('x', ['240.0.0.7']), service('y', ['192.0.2.1'])]);
  const first = { snapshot, catalog: buildCatalog(snapshot) };
  const second = next(
    first,
    { kind: 'put-service', service: service('new', ['240.9.9.9']) },
    { kind: 'remove-service', name: 's7' },
    { kind: 'put-service', service: service('y', ['192.0.2.1'], [dns]) },
  );
  assert.deepEqual([...second.catalog.touched].toSorted(), ['new', 's7', 'y']);
  assert.equal(second.catalog.vipIndex.outcomes, first.catalog.vipIndex.outcomes);
  assert.equal(second.catalog.conflicts, first.catalog.conflicts);
  for (const [name, one] of second.catalog.services)
    if (!second.catalog.touched.has(name)) assert.equal(first.catalog.services.get(name), one);
});
