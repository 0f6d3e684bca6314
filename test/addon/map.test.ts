import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  BpfError,
  BpfMap,
  BpfProgram,
  openObject,
  possibleCpus,
  probe,
} from '../../addon/index.ts';
import type { MapCreateOptions } from '../../addon/index.ts';
import { Bench, failsWith, readU32, readU64, u32, u64 } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

function create(options: Partial<MapCreateOptions> = {}): BpfMap {
  const base = { name: 'test', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 100 };
  return BpfMap.create({ ...base, ...options });
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

test('set(), get(), delete() and their modes', () => {
  using map = create();
  assert.equal(map.get(u32(1)), undefined);
  map.set(u32(1), u64(10));
  assert.equal(readU64(map.get(u32(1))), 10);
  assert.throws(() => map.set(u32(1), u64(1), 'noexist'), failsWith('EEXIST', /map update test/));
  assert.throws(() => map.set(u32(2), u64(1), 'exist'), failsWith('ENOENT'));
  map.set(u32(1), u64(11), 'exist');
  map.set(u32(2), u64(12), 'noexist');
  assert.equal(map.delete(u32(1)), true);
  assert.equal(map.delete(u32(1)), false);
  assert.equal(map.dump().count, 1);
});

test('info says what create() asked for, and what the kernel made of it', () => {
  using map = create({ name: 'fifteen_letters', flags: 1 });
  const { id, ...rest } = map.info;
  assert.ok(id > 0);
  assert.deepEqual(rest, {
    name: 'fifteen_letters',
    type: 'BPF_MAP_TYPE_HASH',
    keySize: 4,
    valueSize: 8,
    valueBytes: 8,
    maxEntries: 100,
    flags: 1,
  });
  using again = BpfMap.openById(id);
  assert.deepEqual(again.info, map.info);
  assert.throws(() => BpfMap.openById(0x7fff_fff0), failsWith('ENOENT'));
  assert.throws(() => create({ name: 'sixteen_letters_' }), failsWith('ERR_BPF_ARGUMENT', /15/));
  assert.throws(() => create({ type: 'nope' }), failsWith('ERR_BPF_ARGUMENT', /nope/));
  assert.throws(() => create({ valueSize: 0 }), failsWith('EINVAL'));
});

test('a per-CPU value is the values of all possible CPUs, each rounded up to 8 bytes', () => {
  using map = create({ type: 'percpu_array', valueSize: 4, maxEntries: 3 });
  const bytes = 8 * possibleCpus();
  assert.equal(map.info.valueBytes, bytes);
  const value = new Uint8Array(bytes);
  range(possibleCpus()).forEach((cpu) => value.set(u32(cpu + 1), cpu * 8));
  map.set(u32(2), value);
  assert.deepEqual(map.get(u32(2)), value);
  assert.deepEqual([...map.entries()][2]?.[1], value);
  assert.throws(() => map.set(u32(0), u32(1)), failsWith('ERR_BPF_ARGUMENT', /bytes, not 4/));
});

test('setBatch(), dump() and deleteBatch() move 100,000 entries', () => {
  const count = 100_000;
  using map = create({ maxEntries: count });
  const keys = u32(...range(count));
  map.setBatch(keys, u64(...range(count)));
  const dump = map.dump();
  assert.equal(dump.count, count);
  const seen = new Set<number>();
  for (const [key, value] of map) {
    assert.equal(readU32(key), readU64(value));
    seen.add(readU32(key));
  }
  assert.equal(seen.size, count);
  assert.equal(map.deleteBatch(keys), count);
  assert.equal(map.dump().count, 0);
});

test('setBatch() that does not fit tells how many entries were applied', () => {
  using map = create({ maxEntries: 10 });
  assert.throws(
    () => map.setBatch(u32(...range(20)), u64(...range(20))),
    (error: unknown) => {
      assert.ok(error instanceof BpfError);
      assert.equal(error.code, 'E2BIG');
      assert.equal(error.applied, map.dump().count);
      return true;
    },
  );
});

test('deleteBatch() skips what is not there and counts what was', () => {
  using map = create();
  map.setBatch(u32(...range(50)), u64(...range(50)));
  assert.equal(map.deleteBatch(u32(90, 1, 91, 92, 2, 3, 93)), 3);
  assert.equal(map.dump().count, 47);
  assert.equal(map.deleteBatch(new Uint8Array(0)), 0);
});

test('a whole array comes in the order of its indices', () => {
  const count = 50_000;
  using map = create({ type: 'array', maxEntries: count, valueSize: 8 });
  map.setBatch(u32(...range(count)), u64(...range(count)));
  const { keys, values } = map.dump();
  assert.deepEqual(keys, u32(...range(count)));
  assert.deepEqual(values, u64(...range(count)));
});

// LPM tries have batches from 5.16 or so on, devmap_hash has none; both must look alike from here.
for (const type of ['lpm_trie', 'devmap_hash'] as const) {
  test(`batches work on ${type}, whether the kernel has them for it or not`, (t) => {
    if (!probe.mapType(type)) return t.skip(`this kernel has no ${type}`);
    const trie = type === 'lpm_trie';
    const shape = trie ? { keySize: 8, flags: 1 } : { keySize: 4, flags: 0 };
    using map = create({ type, valueSize: 4, maxEntries: 5000, ...shape });
    const count = 3000;
    const key = (i: number): Uint8Array => (trie ? u32(32, i) : u32(i));
    const keys = new Uint8Array(range(count).flatMap((i) => [...key(i)]));
    // A devmap's values are interface indices: 1 is lo.
    const values = u32(...range(count).map((i) => (trie ? i : 1)));
    map.setBatch(keys, values);
    const found = new Set([...map].map(([k]) => Buffer.from(k).toString('hex')));
    assert.equal(found.size, count);
    assert.equal(map.dump().count, count);
    assert.equal(map.deleteBatch(keys.subarray(0, keys.length / 2)), count / 2);
    assert.equal(map.dump().count, count / 2);
    assert.equal(map.deleteBatch(keys), count / 2);
    assert.throws(() => map.setBatch(keys, values.subarray(4)), failsWith('ERR_BPF_ARGUMENT'));
  });
}

test('reading a map ends, and sees what stays, while everything else comes and goes', () => {
  for (const type of ['hash', 'lpm_trie', 'devmap_hash'] as const) {
    const [keySize, flags] = type === 'lpm_trie' ? [8, 1] : [4, 0];
    using map = create({ type, keySize, flags, valueSize: 4, maxEntries: 60_000 });
    const key = (i: number): Uint8Array => (type === 'lpm_trie' ? u32(32, i) : u32(i));
    for (const i of range(40_000)) map.set(key(i), u32(1));
    const stays = new Set(range(20_000).map((i) => i * 2));
    let next = 0;
    let steps = 0;
    for (const [found] of map.entries()) {
      stays.delete(readU32(type === 'lpm_trie' ? found.subarray(4) : found));
      if (++steps % 4 === 0 && next < 20_000) map.delete(key(next++ * 2 + 1));
      assert.ok(steps < 1_000_000);
    }
    assert.equal(stays.size, 0, type);
  }
});

test('a map that is emptied key by key while it is read is read to the end', () => {
  using map = create({ type: 'hash', maxEntries: 30_000 });
  map.setBatch(u32(...range(30_000)), u64(...range(30_000)));
  let seen = 0;
  for (const [key] of map) {
    map.delete(key);
    seen++;
  }
  assert.equal(seen, 30_000);
});

test('maps of maps and program arrays take handles, never numbers', () => {
  using inner = create({ type: 'array', valueSize: 4, maxEntries: 1 });
  using outer = create({ type: 'hash_of_maps', valueSize: 4, innerMap: inner });
  outer.set(u32(1), inner);
  assert.equal(readU32(outer.get(u32(1))), inner.info.id);
  assert.throws(() => outer.set(u32(1), u32(3)), failsWith('ERR_BPF_ARGUMENT'));
  assert.throws(() => outer.setBatch(u32(1), u32(3)), failsWith('ERR_BPF_ARGUMENT'));
  using loaded = openObject(bench.object('kit')).load();
  using program = loaded.program('emit');
  assert.throws(() => outer.set(u32(1), program), failsWith('ERR_BPF_ARGUMENT', /map is expected/));
  using jumps = create({ type: 'prog_array', valueSize: 4, maxEntries: 2 });
  jumps.set(u32(0), program);
  assert.equal(readU32(jumps.get(u32(0))), program.info.id);
});

test('pin() outlives the handle, unpin() removes only its own pin', () => {
  const path = bench.pin('map');
  const map = create();
  map.set(u32(1), u64(7));
  map.pin(path);
  assert.throws(() => map.pin(path), failsWith('EEXIST'));
  map.close();
  using again = BpfMap.openPinned(path);
  assert.equal(readU64(again.get(u32(1))), 7);
  using stranger = create();
  assert.throws(() => stranger.unpin(path), failsWith('ERR_BPF_ARGUMENT', /id/));
  again.unpin(path);
  assert.throws(() => BpfMap.openPinned(path), failsWith('ENOENT'));
  assert.throws(() => again.pin('/tmp/not-a-bpffs/x'), failsWith('ENOENT'));
});

test('openPinned() refuses a pin of another kind', () => {
  const path = bench.pin('kind');
  using map = create();
  map.pin(path);
  assert.throws(() => BpfProgram.openPinned(path), failsWith('ERR_BPF_ARGUMENT', /not a program/));
  assert.throws(() => BpfMap.openPinned('/etc/passwd'), BpfError);
});

test('freeze() ends writing from user space', () => {
  using map = create({ type: 'array', maxEntries: 2 });
  map.freeze();
  assert.throws(() => map.set(u32(0), u64(1)), failsWith('EPERM'));
  assert.equal(readU64(map.get(u32(0))), 0);
});
