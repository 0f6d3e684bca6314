import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCatalog } from '../../../src/catalog/catalog.ts';
import type { Catalog } from '../../../src/catalog/catalog.ts';
import { KernelTables } from '../../../src/datapath/io/kernel.ts';
import { Reconciler } from '../../../src/datapath/io/reconciler.ts';
import { keyBytes, valueBytes } from '../../../src/datapath/tables.ts';
import type { TableName } from '../../../src/datapath/tables.ts';
import { EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';

const ARRAYS: readonly string[] = [
  'services',
  'slots',
  'backends',
  'svc_stats',
  'bk_stats',
  'meta',
];
const ENTRIES = 8;

/** A BPF map in memory, read two entries at a time. */
class FakeMap {
  readonly entries = new Map<string, Uint8Array>();
  readonly #keySize: number;
  readonly #valueSize: number;

  constructor(table: TableName) {
    this.#keySize = keyBytes[table];
    this.#valueSize = valueBytes[table];
    if (!ARRAYS.includes(table)) return;
    for (let i = 0; i < ENTRIES; i++)
      this.entries.set(`${i},0,0,0`, new Uint8Array(this.#valueSize));
  }

  setBatch(keys: Uint8Array, values: Uint8Array): void {
    for (let i = 0; i * this.#keySize < keys.length; i++)
      this.entries.set(
        keys.subarray(i * this.#keySize, (i + 1) * this.#keySize).join(),
        values.slice(i * this.#valueSize, (i + 1) * this.#valueSize),
      );
  }

  deleteBatch(keys: Uint8Array): void {
    for (let i = 0; i * this.#keySize < keys.length; i++)
      this.entries.delete(keys.subarray(i * this.#keySize, (i + 1) * this.#keySize).join());
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.entries.get(key.join());
  }

  *chunks(): Generator<{ keys: Uint8Array; values: Uint8Array; count: number }> {
    const all = [...this.entries];
    for (let at = 0; at < all.length; at += 2) {
      const some = all.slice(at, at + 2);
      const keys = Uint8Array.from(some.flatMap(([key]) => key.split(',').map(Number)));
      const values = Uint8Array.from(some.flatMap(([, value]) => [...value]));
      yield { keys, values, count: some.length };
    }
  }

  dump(): { keys: Uint8Array; values: Uint8Array; count: number } {
    const chunks = [...this.chunks()];
    const join = (pick: 'keys' | 'values'): Uint8Array =>
      Uint8Array.from(chunks.flatMap((chunk) => [...chunk[pick]]));
    return { keys: join('keys'), values: join('values'), count: this.entries.size };
  }
}

const backendsOf = (...addresses: string[]): { address: string; port: number; weight: number }[] =>
  addresses.map((address) => ({ address, port: 8080, weight: 1 }));

const catalog: Catalog = {
  ...buildCatalog({ ...EMPTY_SNAPSHOT, revision: 1 }),
  services: new Map(
    ['a', 'b', 'c'].map((name, i) => {
      const backends = backendsOf(`10.0.0.${i}`, `10.0.1.${i}`).map((one) => ({
        ...one,
        state: 'active' as const,
      }));
      const ports = [{ name: 'http', port: 80, protocol: 'tcp' as const, backends }];
      return [name, { name, vips: [`240.0.0.${i + 1}`], ports }];
    }),
  ),
};

function filled(): { maps: Map<string, FakeMap>; reconciler: Reconciler } {
  const maps = new Map<string, FakeMap>();
  const open = (name: string): FakeMap => {
    const map = new FakeMap(name.slice('zh_'.length) as TableName);
    maps.set(name, map);
    return map;
  };
  const kernel = new KernelTables(open as never);
  const limits = { services: ENTRIES, slots: ENTRIES, backends: ENTRIES };
  const reconciler = new Reconciler(kernel, { limits, inVipRange: () => true }, () => 0);
  reconciler.prepareWhole(catalog).apply();
  return { maps, reconciler };
}

test('tables that hold what was applied are found to, a chunk in each turn', async () => {
  const { reconciler } = filled();
  let turns = 0;
  const found = await reconciler.isAsApplied(() => Promise.resolve(void turns++));
  assert.equal(found, true);
  assert.ok(turns > 9, `${turns} turns`);
});

for (const table of ['vips', 'names', 'services', 'slots', 'backends'] as const)
  test(`an entry of ${table} that somebody changed, or took away, is noticed`, async () => {
    const { maps, reconciler } = filled();
    const { entries } = maps.get(`zh_${table}`) ?? assert.fail();
    const turn = (): Promise<void> => Promise.resolve();
    for (const [key, value] of [...entries].slice(0, 3)) {
      entries.set(key, value.with(0, (value[0] ?? 0) ^ 1));
      assert.equal(await reconciler.isAsApplied(turn), false, `${key} changed`);
      entries.set(key, value);
      assert.equal(await reconciler.isAsApplied(turn), true);
      if (ARRAYS.includes(table)) continue;
      entries.delete(key);
      assert.equal(await reconciler.isAsApplied(turn), false, `${key} gone`);
      entries.set(key, value);
      entries.set(key.replace(/\d+$/, '77'), value);
      assert.equal(await reconciler.isAsApplied(turn), false, 'one more');
      entries.delete(key.replace(/\d+$/, '77'));
    }
    assert.equal(reconciler.check(catalog), undefined);
  });
