import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BucketMap } from '../../../src/state/bucket-map.ts';

type Edit = readonly [key: string, value: number | undefined];

// Few keys, so that they meet again; some hundred, so that buckets are shared by several.
const key = fc.oneof(
  fc.constantFrom('', 'web', 'db', '__proto__', 'ü', '😀'),
  fc.nat({ max: 400 }).map((n) => `svc-${n}`),
);
const edit: fc.Arbitrary<Edit> = fc.tuple(key, fc.option(fc.nat(), { nil: undefined, freq: 3 }));
const edits = fc.array(edit, { maxLength: 40, size: 'max' });
const history = fc.array(edits, { maxLength: 6 });

function write(
  map: { set(key: string, value: number): unknown; delete(key: string): unknown },
  list: readonly Edit[],
): void {
  for (const [name, value] of list) {
    if (value === undefined) map.delete(name);
    else map.set(name, value);
  }
}

function edited(map: BucketMap<number>, list: readonly Edit[]): BucketMap<number> {
  const next = map.edit();
  write(next, list);
  return next.build();
}

function assertSame(map: BucketMap<number>, model: ReadonlyMap<string, number>): void {
  assert.equal(map.size, model.size);
  assert.deepEqual(new Map(map), model);
  assert.deepEqual(new Map(map.entries()), model);
  assert.deepEqual(new Set(map.keys()), new Set(model.keys()));
  const sorted = (values: Iterable<number>): number[] => [...values].toSorted((a, b) => a - b);
  assert.deepEqual(sorted(map.values()), sorted(model.values()));
  const visited = new Map<string, number>();
  map.forEach((value, name, itself) => {
    assert.equal(itself, map);
    visited.set(name, value);
  });
  assert.deepEqual(visited, model);
}

test('a BucketMap holds what a Map holds after the same edits, and old versions stay as they were', () => {
  fc.assert(
    fc.property(history, key, (lists, probe) => {
      let map = new BucketMap<number>();
      let model = new Map<string, number>();
      const versions = [{ map, model }];
      for (const list of lists) {
        map = edited(map, list);
        model = new Map(model);
        write(model, list);
        versions.push({ map, model });
      }
      for (const version of versions) {
        assertSame(version.map, version.model);
        assert.equal(version.map.get(probe), version.model.get(probe));
        assert.equal(version.map.has(probe), version.model.has(probe));
      }
    }),
  );
});

test('one edit that goes on after build() leaves alone what it built', () => {
  fc.assert(
    fc.property(edits, edits, (first, second) => {
      const model = new Map<string, number>();
      const open = new BucketMap<number>().edit();
      write(open, first);
      const built = open.build();
      write(model, first);
      write(open, second);
      assertSame(built, model);
      write(model, second);
      assertSame(open.build(), model);
    }),
  );
});

test('from() takes over a Map, and gives a BucketMap back as it is', () => {
  fc.assert(
    fc.property(edits, (list) => {
      const model = new Map<string, number>();
      write(model, list);
      const map = BucketMap.from(model);
      assertSame(map, model);
      assert.equal(BucketMap.from(map), map);
      assert.deepEqual(map, edited(new BucketMap(), list));
    }),
  );
});

test('an edit copies a bucket for each key it writes to at most, and shares the others', () => {
  fc.assert(
    fc.property(edits, edits, (before, list) => {
      const old = edited(new BucketMap(), before);
      const map = edited(old, list);
      const copied = map.buckets.filter((bucket, index) => bucket !== old.buckets[index]);
      assert.ok(copied.length <= new Set(list.map(([name]) => name)).size);
    }),
  );
});

test('an edit that writes nothing gives the map itself', () => {
  const map = edited(new BucketMap(), [['web', 1]]);
  assert.equal(edited(map, []), map);
  assert.equal(edited(map, [['db', undefined]]), map);
});

test('10,000 names are spread evenly enough', () => {
  for (const nameOf of [
    (n: number): string => `svc-${n}`,
    (n: number): string => `service-${String(n).padStart(5, '0')}.prod.example`,
    (n: number): string => `${n}.example`,
  ]) {
    const names = Array.from({ length: 10_000 }, (_, n) => nameOf(n));
    const { buckets } = BucketMap.from(new Map(names.map((name, n) => [name, n])));
    const largest = Math.max(...buckets.map((bucket) => bucket.size));
    // 39 on average; 75 would be more than five standard deviations of a random spread.
    assert.ok(largest < 75, `${nameOf(0)}: ${largest}`);
  }
});
