import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildCatalog, type Catalog } from '../../../src/catalog/catalog.ts';
import { servicesBetween, type CatalogContext } from '../../../src/catalog/context.ts';
import { inPools as isOfPools } from '../../../src/catalog/vips.ts';
import { claimedKeys, frontendsOf } from '../../../src/datapath/desired.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type { Change, StateSnapshot } from '../../../src/state/records.ts';
import { naiveCatalog, plain } from './naive.ts';
import { anyPools, changes, contextIn, names, nodeIds, snapshots } from './world.ts';

type Step =
  | { readonly kind: 'records'; readonly changes: readonly Change[] }
  | { readonly kind: 'context'; readonly context: CatalogContext }
  | {
      readonly kind: 'both';
      readonly changes: readonly Change[];
      readonly context: CatalogContext;
    };

const steps = anyPools.chain((pools) =>
  fc.tuple(
    contextIn(pools),
    fc.array(
      fc.oneof(
        changes.map((some): Step => ({ kind: 'records', changes: some })),
        contextIn(pools).map((context): Step => ({ kind: 'context', context })),
        fc
          .tuple(changes, contextIn(pools))
          .map(([some, context]): Step => ({ kind: 'both', changes: some, context })),
      ),
      { minLength: 1, maxLength: 12 },
    ),
  ),
);

interface World {
  readonly snapshot: StateSnapshot;
  readonly context: CatalogContext;
  readonly catalog: Catalog;
}

function after(world: World, step: Step): World {
  const applied = applyChanges(world.snapshot, step.kind === 'context' ? [] : step.changes);
  const { snapshot } = applied;
  const context = step.kind === 'records' ? world.context : step.context;
  const touched = [...applied.touched, ...servicesBetween(snapshot, world.context, context)];
  const catalog = buildCatalog(snapshot, context, { catalog: world.catalog, touched });
  return { snapshot, context, catalog };
}

test('a Catalog made step by step is the one made at once, and the one of a naive reading of the rules', () => {
  fc.assert(
    fc.property(steps, ([context, sequence]) => {
      const snapshot = EMPTY_SNAPSHOT;
      let world: World = { snapshot, context, catalog: buildCatalog(snapshot, context) };
      for (const step of sequence) {
        const before = world.catalog;
        world = after(world, step);
        const whole = buildCatalog(world.snapshot, world.context);
        assert.deepEqual(plain(world.catalog), plain(whole));
        const { claims, contested, records } = world.catalog.vipIndex;
        assert.deepEqual([claims, contested], [whole.vipIndex.claims, whole.vipIndex.contested]);
        assert.deepEqual(records, world.snapshot.services);
        assert.deepEqual(plain(whole), naiveCatalog(world.snapshot, world.context));
        for (const [name, service] of world.catalog.services)
          if (!world.catalog.touched.has(name)) assert.equal(before.services.get(name), service);
        for (const name of before.services.keys())
          assert.ok(world.catalog.services.has(name) || world.catalog.touched.has(name));
      }
    }),
    { numRuns: 500 },
  );
});

test('services that are named as touched only later do no harm until then, and are right from then on', () => {
  const late = anyPools.chain((pools) =>
    fc.tuple(
      contextIn(pools),
      fc.array(fc.tuple(changes, fc.subarray([...names])), { minLength: 1, maxLength: 8 }),
    ),
  );
  fc.assert(
    fc.property(late, ([context, sequence]) => {
      let snapshot = EMPTY_SNAPSHOT;
      let catalog = buildCatalog(snapshot, context);
      const open = new Set<string>();
      for (const [some, held] of sequence) {
        const applied = applyChanges(snapshot, some);
        snapshot = applied.snapshot;
        for (const name of applied.touched) open.add(name);
        const touched = [...open].filter((name) => !held.includes(name as (typeof names)[number]));
        catalog = buildCatalog(snapshot, context, { catalog, touched });
        for (const name of touched) open.delete(name);
        claimedKeys(new Map([...catalog.services].map(([name, one]) => [name, frontendsOf(one)])));
      }
      catalog = buildCatalog(snapshot, context, { catalog, touched: open });
      assert.deepEqual(plain(catalog), plain(buildCatalog(snapshot, context)));
    }),
    { numRuns: 500 },
  );
});

/** Of any records, in any pools. */
function always(check: (snapshot: StateSnapshot, context: CatalogContext) => void): void {
  const contexts = anyPools.chain((pools) => contextIn(pools));
  fc.assert(fc.property(snapshots, contexts, check), { numRuns: 1000 });
}

test('whatever is recorded, no two services claim one frontend, and no two of the pools one VIP', () => {
  always((snapshot, context) => {
    const { services } = buildCatalog(snapshot, context);
    const wanted = new Map([...services].map(([name, one]) => [name, frontendsOf(one)]));
    const keys = claimedKeys(wanted);
    assert.equal(keys.size, [...wanted.values()].flat().length);
    const ofPools = [...services.values()]
      .flatMap(({ vips }) => vips)
      .filter((vip) => isOfPools(context.pools, vip));
    assert.equal(new Set(ofPools).size, ofPools.length);
  });
});

test('a service keeps every VIP that no smaller name recorded, and gets none that anybody recorded', () => {
  always((snapshot, context) => {
    const { services } = buildCatalog(snapshot, context);
    const records = [...snapshot.services.values()];
    const recorded = new Set(records.flatMap(({ vips }) => vips));
    for (const { name, vips } of records) {
      const has = services.get(name)?.vips ?? [];
      for (const vip of vips) {
        const rivals = records.filter((one) => one.name < name && one.vips.includes(vip));
        const keeps = rivals.length === 0 || !isOfPools(context.pools, vip);
        assert.equal(has.includes(vip), keeps);
      }
      for (const vip of has) assert.ok(vips.includes(vip) || !recorded.has(vip));
    }
  });
});

test('neither the order of records, nor who looks, nor who is reachable decides who has a VIP', () => {
  const two = anyPools.chain((pools) => fc.tuple(contextIn(pools), contextIn(pools)));
  fc.assert(
    fc.property(snapshots, two, fc.constantFrom(...nodeIds), (snapshot, [one, other], self) => {
      const shuffled = { ...snapshot, services: new Map([...snapshot.services].toReversed()) };
      const vipsOf = ({ services, conflicts }: Catalog): unknown => [
        new Map([...services].map(([name, { vips, lost }]) => [name, { vips, lost }])),
        conflicts,
      ];
      assert.deepEqual(
        vipsOf(buildCatalog(shuffled, { ...other, self })),
        vipsOf(buildCatalog(snapshot, one)),
      );
    }),
    { numRuns: 300 },
  );
});

test('the services of a node are all whose entry changes when it comes or goes, and no others', () => {
  fc.assert(
    fc.property(
      snapshots,
      anyPools.chain((pools) => contextIn(pools)),
      fc.constantFrom('n1', 'n2', 'n3'),
      (snapshot, context, node) => {
        const others = [...context.unreachable].filter((id) => id !== node);
        const [isUp, isDown] = [others, [...others, node]].map((ids): CatalogContext => ({
          ...context,
          unreachable: new Set(ids),
        })) as [CatalogContext, CatalogContext];
        const named = servicesBetween(snapshot, isUp, isDown);
        assert.deepEqual(servicesBetween(snapshot, isDown, isUp), named);
        const [up, down] = [buildCatalog(snapshot, isUp), buildCatalog(snapshot, isDown)];
        for (const [name, service] of up.services) {
          if (!named.has(name)) assert.deepEqual(down.services.get(name), service);
        }
        const claimed: readonly string[] = context.nodes.get(node)?.addresses ?? [];
        for (const name of named) {
          const backends = snapshot.backends.get(name) ?? [];
          const ofNode = backends.some((one) =>
            one.node === undefined ? claimed.includes(one.address) : one.node === node,
          );
          assert.ok(ofNode);
        }
      },
    ),
    { numRuns: 500 },
  );
});
