import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkOf,
  decodeDnsAnswer,
  decodeDnsKey,
  dnsLayouts,
  encodeDnsAnswer,
  isForKernel,
  encodeDnsKey,
  sumOf,
} from '../../../src/dns/kernel-abi.ts';
import { KernelTable, type TableWrites } from '../../../src/dns/kernel-table.ts';
import type { PlainAnswer } from '../../../src/dns/zone.ts';

const A = 1;
const TXT = 16;
const SEED = 0xfedcba98;

function entry(name: string, type: number, ...bytes: readonly number[]): PlainAnswer {
  return { name, type, count: 1, tail: Uint8Array.from(bytes), rotate: 0 };
}

interface Shown {
  readonly deleted: readonly string[];
  readonly set: readonly string[];
}

/** `name/type` deleted, `name/type=tail` set. */
function shown({ deleted, keys, values }: TableWrites): Shown {
  const step = dnsLayouts.key.bytes;
  const keysOf = (bytes: Uint8Array): string[] =>
    Array.from({ length: bytes.length / step }, (_, i) => {
      const { name, type } = decodeDnsKey(bytes.subarray(i * step, (i + 1) * step));
      return `${name}/${type}`;
    });
  const tails = keysOf(keys).map((key, i) => {
    const at = i * dnsLayouts.answer.bytes;
    const { tail } = decodeDnsAnswer(values.subarray(at, at + dnsLayouts.answer.bytes));
    return `${key}=${tail.join()}`;
  });
  return { deleted: keysOf(deleted).toSorted(), set: tails.toSorted() };
}

test('only what differs is written, and what is gone is deleted', () => {
  const table = new KernelTable(10, SEED);
  const zone = [entry('a.x', A, 1, 2), entry('a.x', TXT, 3), entry('b.x', A, 4)];
  const first = shown(table.plan(undefined, zone));
  assert.deepEqual(first, { deleted: [], set: ['a.x/16=3', 'a.x/1=1,2', 'b.x/1=4'] });
  assert.deepEqual(shown(table.plan(undefined, zone)), { deleted: [], set: [] });
  const changed = [entry('a.x', A, 9, 2), entry('c.x', A, 5)];
  assert.deepEqual(shown(table.plan(undefined, changed)), {
    deleted: ['a.x/16', 'b.x/1'],
    set: ['a.x/1=9,2', 'c.x/1=5'],
  });
  assert.equal(table.used, 2);
});

test('of names that are given, others stay', () => {
  const table = new KernelTable(10, SEED);
  table.plan(undefined, [entry('a.x', A, 1), entry('b.x', A, 2)]);
  assert.deepEqual(shown(table.plan(['a.x', 'never.x'], [])), { deleted: ['a.x/1'], set: [] });
  assert.deepEqual(shown(table.plan(['b.x'], [entry('b.x', A, 2)])), { deleted: [], set: [] });
  assert.equal(table.used, 1);
});

test('what has no room is left, and comes in when something goes', () => {
  const table = new KernelTable(2, SEED);
  const zone = ['a.x', 'b.x', 'c.x', 'd.x'].map((name, i) => entry(name, A, i));
  assert.deepEqual(shown(table.plan(undefined, zone)).set, ['a.x/1=0', 'b.x/1=1']);
  assert.deepEqual([table.used, table.left], [2, 2]);
  // c.x is gone before it was ever in.
  assert.deepEqual(shown(table.plan(['c.x'], [])), { deleted: [], set: [] });
  assert.deepEqual(shown(table.plan(['a.x'], [])), { deleted: ['a.x/1'], set: ['d.x/1=3'] });
  assert.deepEqual([table.used, table.left], [2, 0]);
});

test('of one name, one type may have room and another come in later', () => {
  const table = new KernelTable(2, SEED);
  const both = [entry('b.x', A, 2), entry('b.x', TXT, 3)];
  assert.deepEqual(shown(table.plan(undefined, [entry('a.x', A, 1), ...both])).set, [
    'a.x/1=1',
    'b.x/1=2',
  ]);
  assert.deepEqual([table.used, table.left], [2, 1]);
  assert.deepEqual(shown(table.plan(['a.x'], [])), { deleted: ['a.x/1'], set: ['b.x/16=3'] });
  assert.deepEqual([table.used, table.left], [2, 0]);
  assert.deepEqual(shown(table.plan(['b.x'], both)), { deleted: [], set: [] });
  assert.deepEqual(shown(table.plan(['b.x'], [])).deleted, ['b.x/1', 'b.x/16']);
});

test('a full table takes changes of what it has', () => {
  const table = new KernelTable(1, SEED);
  table.plan(undefined, [entry('a.x', A, 1)]);
  assert.deepEqual(shown(table.plan(['a.x'], [entry('a.x', A, 2)])).set, ['a.x/1=2']);
  assert.equal(table.left, 0);
});

test('names are keys in lower case, as long as they are on the wire; longer ones are not for the kernel', () => {
  assert.deepEqual(
    encodeDnsKey('Ab.c', A)?.subarray(0, 10),
    Uint8Array.of(1, 0, 6, 0, 2, 97, 98, 1, 99, 0),
  );
  const label = 'a'.repeat(61);
  assert.equal(encodeDnsKey(`${label}.${label}`, A)?.length, dnsLayouts.key.bytes);
  assert.equal(encodeDnsKey(`${label}.${label}.aaa`, A), undefined);
  assert.equal(encodeDnsKey(`${label}.${label}.aa`, A)?.[2], 128);
});

function keyOf(name: string, type: number): Uint8Array {
  return encodeDnsKey(name, type) ?? assert.fail(name);
}

test('what the kernel cannot give in turn, or hold, is left to user space', () => {
  const tail = Uint8Array.of(1, 2, 3, 4);
  const key = keyOf('a.x', A);
  const turned = (count: number, rotate: number, bytes: Uint8Array): Uint8Array | undefined => {
    const one = { name: 'a.x', type: A, count, tail: bytes, rotate };
    return isForKernel(one) ? encodeDnsAnswer(one, key, SEED) : undefined;
  };
  const value = turned(2, 2, tail);
  assert.deepEqual(value?.subarray(0, 8), Uint8Array.of(2, 0, 4, 0, 2, 0, 6, 4));
  assert.deepEqual(value.subarray(16, 24), Uint8Array.of(...tail, 0, 0, 0, 0));
  // One record has no turns.
  assert.deepEqual(turned(1, 4, tail)?.subarray(4, 6), Uint8Array.of(0, 0));
  assert.equal(turned(4, 1, tail), undefined, 'an odd length would change the checksum');
  assert.equal(turned(3, 2, tail), undefined, 'not records of one length');
  assert.equal(turned(2, 256, new Uint8Array(512))?.length, dnsLayouts.answer.bytes);
  assert.equal(turned(1, 0, new Uint8Array(513)), undefined);
  assert.equal(turned(0, 0, new Uint8Array()), undefined);
});

test('the check is that of one answer to one name and type, whatever differs', () => {
  const tail = Uint8Array.from({ length: 45 }, (_, i) => i);
  const key = keyOf('abc.x', A);
  const abc = { name: 'abc.x', type: A, count: 1, tail, rotate: 0 };
  const value = encodeDnsAnswer(abc, key, SEED);
  const checks = new Set([checkOf(SEED, key, value), checkOf(SEED + 1, key, value)]);
  for (const other of [keyOf('abd.x', A), keyOf('abc.x', TXT), keyOf('abc.x.y', A)])
    checks.add(checkOf(SEED, other, value));
  const at = (i: number): number => (i < 8 ? i : dnsLayouts.answer.fields.tail[0] + i - 8);
  // Not the length, which says how far it goes.
  const places = Array.from({ length: 8 + tail.length }, (_, i) => i).filter(
    (i) => i !== 2 && i !== 3,
  );
  for (const i of places) {
    const torn = value.slice();
    torn[at(i)] = (torn[at(i)] ?? 0) ^ 0x80;
    checks.add(checkOf(SEED, key, torn));
  }
  assert.equal(checks.size, 2 + 3 + places.length);
});

test('sums are those of RFC 1071, section 3', () => {
  assert.equal(sumOf(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)), 0xddf2);
  assert.equal(sumOf(Uint8Array.of(0xff)), 0xff00);
});
