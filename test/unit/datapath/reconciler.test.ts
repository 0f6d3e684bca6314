import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCatalog } from '../../../src/catalog/catalog.ts';
import type { Catalog, CatalogService } from '../../../src/catalog/catalog.ts';
import { backendState, decodeMeta } from '../../../src/datapath/abi.ts';
import { KernelError } from '../../../src/datapath/io/kernel.ts';
import type { KernelTables } from '../../../src/datapath/io/kernel.ts';
import { Reconciler } from '../../../src/datapath/io/reconciler.ts';
import { EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import { noRevision, Tables } from '../../../src/datapath/tables.ts';
import type { TableName, WriteGroup } from '../../../src/datapath/tables.ts';

/** A kernel in memory that refuses a table as long as it is told to. */
class FakeKernel {
  readonly tables = new Tables();
  refuses: TableName | undefined;
  /** As after kill -9 between two groups. */
  dies: TableName | undefined;

  constructor() {
    this.tables.revision = noRevision;
  }

  apply(groups: readonly WriteGroup[]): void {
    for (const group of groups) {
      if (group.table === this.refuses) throw new KernelError(`zh_${group.table}`, 'ENOMEM');
      if (group.table === 'meta') this.tables.revision = decodeMeta(group.values).revision;
      else this.tables.apply([group]);
      if (group.table === this.dies) throw new Error('killed');
    }
  }

  read(): Tables {
    return new Tables(this.tables);
  }

  revision(): number {
    return this.tables.revision;
  }

  /** As of a hash map, entries are counted over several steps. */
  *compare(known: Tables): Generator<void, boolean, undefined> {
    const { size } = this.tables.vips;
    yield;
    if (size !== known.vips.size) return false;
    yield;
    return this.tables.equals(known);
  }
}

const limits = { services: 16, slots: 64, backends: 64 };

function reconcilerOf(kernel: FakeKernel): Reconciler {
  let now = 0;
  const options = { limits, inVipRange: () => true };
  return new Reconciler(kernel as unknown as KernelTables, options, () => (now += 1000));
}

const service = (name: string, vip: string, ...addresses: string[]): CatalogService => {
  const backends = addresses.map(
    (address) => ({ address, port: 8080, weight: 1, state: 'active' }) as const,
  );
  return { name, vips: [vip], ports: [{ name: 'http', port: 80, protocol: 'tcp', backends }] };
};

const catalogOf = (revision: number, ...services: CatalogService[]): Catalog => ({
  ...buildCatalog({ ...EMPTY_SNAPSHOT, revision }),
  services: new Map(services.map((one) => [one.name, one])),
});

/** Whether a new agent would find everything as the Catalog wants it. */
function assertRight(kernel: FakeKernel, catalog: Catalog): void {
  const plan = reconcilerOf(kernel).prepareWhole(catalog);
  assert.deepEqual([plan.writes, plan.reasons], [0, []]);
  assert.equal(kernel.tables.revision, catalog.revision);
}

test('what the kernel refused is applied by the next change, or by the next check', () => {
  for (const next of ['a change of another service', 'a dry run of one', 'a check']) {
    const kernel = new FakeKernel();
    const reconciler = reconcilerOf(kernel);
    reconciler.prepareWhole(catalogOf(0)).apply();
    kernel.refuses = 'services';
    const first = catalogOf(1, service('a', '240.0.0.1', '10.0.0.1'));
    assert.throws(() => reconciler.prepare(first, ['a']).apply(), KernelError);
    kernel.refuses = undefined;
    const second = catalogOf(2, ...first.services.values(), service('b', '240.0.0.2'));
    const prepared = next === 'a check' ? undefined : reconciler.prepare(second, ['b']);
    if (next === 'a dry run of one') prepared?.abandon();
    else prepared?.apply();
    if (next !== 'a change of another service') reconciler.check(second);
    assertRight(kernel, second);
    assert.equal(reconciler.check(second), undefined);
  }
});

test('a check that could not write is tried again by the next one', () => {
  const kernel = new FakeKernel();
  const reconciler = reconcilerOf(kernel);
  const catalog = catalogOf(1, service('a', '240.0.0.1', '10.0.0.1'));
  reconciler.prepareWhole(catalog).apply();
  kernel.tables.vips.clear();
  kernel.refuses = 'names';
  assert.throws(() => reconciler.check(catalog), KernelError);
  assert.throws(() => reconciler.check(catalog), KernelError);
  kernel.refuses = undefined;
  assert.ok((reconciler.check(catalog)?.writes ?? 0) > 0);
  assertRight(kernel, catalog);
});

test('tables are compared in turns: what somebody else changed is seen, what is applied meanwhile is no change', async () => {
  const kernel = new FakeKernel();
  const reconciler = reconcilerOf(kernel);
  const first = catalogOf(1, service('a', '240.0.0.1', '10.0.0.1'));
  reconciler.prepareWhole(first).apply();
  let turns = 0;
  const turn = (): Promise<void> => Promise.resolve(void turns++);
  assert.equal(await reconciler.isAsApplied(turn), true);
  assert.equal(turns, 2);
  const second = catalogOf(2, ...first.services.values(), service('b', '240.0.0.2'));
  const applied = reconciler.isAsApplied(() => {
    if (turns++ === 2) reconciler.prepare(second, ['b']).apply();
    return Promise.resolve();
  });
  assert.equal(await applied, true);
  assert.equal(turns, 5, 'looked at again');
  kernel.tables.vips.clear();
  assert.equal(await reconciler.isAsApplied(turn), false);
  reconciler.check(second);
  assert.equal(await reconciler.isAsApplied(turn), true);
  kernel.tables.revision = noRevision;
  assert.equal(await reconciler.isAsApplied(turn), false);
});

test('after a write that failed, tables are not as applied, whatever they hold', async () => {
  const kernel = new FakeKernel();
  const reconciler = reconcilerOf(kernel);
  reconciler.prepareWhole(catalogOf(0)).apply();
  kernel.refuses = 'names';
  const catalog = catalogOf(0, service('a', '240.0.0.1', '10.0.0.1'));
  assert.throws(() => reconciler.prepare(catalog, ['a']).apply(), KernelError);
  assert.equal(await reconciler.isAsApplied(() => Promise.resolve()), false);
});

test('a start with nothing to say marks the maps as ours, and a damaged mark is repaired', () => {
  const kernel = new FakeKernel();
  const reconciler = reconcilerOf(kernel);
  reconciler.prepareWhole(catalogOf(0)).apply();
  assert.equal(kernel.tables.revision, 0);
  kernel.tables.revision = noRevision;
  assert.deepEqual(reconciler.check(catalogOf(0))?.reasons, ['zh_meta: not what was applied']);
  assert.equal(kernel.tables.revision, 0);
  assert.equal(reconciler.check(catalogOf(0)), undefined);
});

test('wherever a change was cut short, the next start leaves nothing of what was removed', () => {
  const before = catalogOf(
    1,
    service('a', '240.0.0.1', '10.0.0.1', '10.0.0.2'),
    service('b', '240.0.0.2', '10.0.0.1'),
  );
  const after = catalogOf(2, service('a', '240.0.0.1', '10.0.0.2', '10.0.0.3'));
  for (const dies of ['names', 'backends', 'slots', 'services', 'vips', 'meta'] as const) {
    const kernel = new FakeKernel();
    const reconciler = reconcilerOf(kernel);
    reconciler.prepareWhole(before).apply();
    kernel.dies = dies;
    try {
      reconciler.prepare(after, ['a', 'b']).apply();
    } catch {
      // killed
    }
    kernel.dies = undefined;
    reconcilerOf(kernel).prepareWhole(after).apply();
    assertRight(kernel, after);
    const { backends, names, services, vips } = kernel.tables;
    const ids = Array.from({ length: backends.high }, (_, id) => kernel.tables.backend(id));
    const inUse = ids.filter(({ state }) => state !== backendState.free);
    assert.equal(inUse.length, 2, `cut after ${dies}: a removed backend still counts as alive`);
    assert.deepEqual(
      [...names.keys()],
      [...new Set(vips.values())].filter((i) => i < limits.services),
    );
    const keyed = Array.from({ length: services.high }, (_, i) => kernel.tables.service(i)).filter(
      ({ key }) => key.port !== 0,
    );
    assert.equal(keyed.length, 1);
  }
});

test('what the tables hold, read backwards, plans nothing', () => {
  const kernel = new FakeKernel();
  const web = service('web', '240.0.0.1', '10.0.0.1', '10.0.0.2', 'fd00::1');
  const [http] = web.ports;
  assert.ok(http !== undefined);
  const [first, second] = http.backends;
  assert.ok(first !== undefined && second !== undefined);
  const lame = [
    { ...first, weight: 7 },
    { ...second, state: 'draining' as const },
    { ...first, address: '10.0.0.3', down: 'unhealthy' as const },
    { ...first, address: 'fd00::1' },
  ];
  const catalog = catalogOf(
    3,
    {
      name: 'web',
      vips: ['240.0.0.1', 'fd7a::1'],
      ports: [
        { ...http, backends: lame },
        { name: 'dns', port: 53, protocol: 'udp', backends: [] },
      ],
      // Another service has it: no frontend.
      lost: new Set(['240.0.0.1 53 udp']),
    },
    service('none', '240.0.0.2'),
  );
  reconcilerOf(kernel).prepareWhole(catalog).apply();
  const next = reconcilerOf(kernel);
  const held = { ...catalog, services: next.held() };
  assert.deepEqual([...held.services.keys()].toSorted(), ['none', 'web']);
  assert.deepEqual(next.prepareWhole(held).reasons, []);
  assertRight(kernel, held);
  assert.deepEqual(held.services.get('web')?.ports[0]?.backends[1], lame[1]);
  // What makes no sense is not there, and goes.
  kernel.tables.names.clear();
  assert.equal(reconcilerOf(kernel).held().size, 0);
});
