/** bpf/abi.h against src/datapath/abi.ts, through the BTF of the built object. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { layouts, layoutMagic, layoutVersion, noSuchPort } from '../../src/datapath/abi.ts';
import type { Layout } from '../../src/datapath/abi.ts';
import { readFileSync } from 'node:fs';
import { entriesOf, hooks, socketMaps, tableMaps } from '../../src/datapath/hooks.ts';
import { objectPath } from '../../src/datapath/io/object.ts';
import { keyBytes, valueBytes } from '../../src/datapath/tables.ts';

interface BtfMember {
  readonly name: string;
  readonly type_id: number;
  readonly bits_offset: number;
}
interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly nr_elems?: number;
  readonly members?: readonly BtfMember[];
}

function readBtf(): Map<number, BtfType> {
  const json = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', objectPath()], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const { types } = JSON.parse(json) as { types: readonly BtfType[] };
  return new Map(types.map((type) => [type.id, type]));
}

const types = readBtf();

function sizeOf(id: number): number {
  const type = types.get(id);
  assert.ok(type !== undefined, `BTF type ${id}`);
  if (type.kind === 'PTR') return 8;
  if (type.kind === 'ARRAY') return (type.nr_elems ?? 0) * sizeOf(type.type_id ?? 0);
  if (type.kind !== 'INT' && type.size === undefined) return sizeOf(type.type_id ?? 0);
  return type.size ?? 0;
}

function structNamed(name: string): BtfType {
  const type = [...types.values()].find((t) => t.kind === 'STRUCT' && t.name === name);
  return type ?? assert.fail(`struct ${name} is not in the BTF of the object`);
}

for (const layout of Object.values(layouts) as readonly Layout[]) {
  test(`struct ${layout.struct} has the same bytes in the kernel and in user space`, () => {
    const struct = structNamed(layout.struct);
    assert.equal(struct.size, layout.bytes);
    const members = new Map(
      struct.members?.filter((m) => m.name !== '(anon)').map((m) => [m.name, m]),
    );
    for (const [name, [offset, bytes]] of Object.entries(layout.fields)) {
      const member = members.get(name) ?? assert.fail(`${layout.struct} has no ${name}`);
      assert.equal(member.bits_offset / 8, offset, `offset of ${name}`);
      assert.equal(sizeOf(member.type_id), bytes, `size of ${name}`);
      members.delete(name);
    }
    assert.deepEqual([...members.keys()], [], 'fields that user space does not know');
  });
}

test('the set of a service lies where user space writes it', () => {
  const union = structNamed('zh_service').members?.find((m) => m.name === '(anon)');
  assert.equal(union?.bits_offset, 24 * 8);
});

test('the constants of abi.h are those of abi.ts', () => {
  const header = readFileSync(new URL('../../bpf/abi.h', import.meta.url), 'utf8');
  const constant = (name: string): number =>
    Number(new RegExp(`#define ${name} ([0-9a-fx]+)`).exec(header)?.[1]);
  assert.equal(constant('ZH_LAYOUT'), layoutVersion);
  assert.equal(constant('ZH_MAGIC'), layoutMagic);
  assert.equal(constant('ZH_NO_SUCH_PORT'), noSuchPort);
});

test('every map and program that user space names is in the object, with its sizes', async () => {
  const { openObject } = await import('../../addon/index.ts');
  const object = openObject(objectPath());
  try {
    const maps = new Map(object.maps().map((map) => [map.name, map]));
    for (const name of [...tableMaps, ...socketMaps]) assert.ok(maps.has(name), name);
    for (const table of Object.keys(keyBytes) as (keyof typeof keyBytes)[]) {
      assert.equal(maps.get(`zh_${table}`)?.keySize, keyBytes[table], `key of ${table}`);
      assert.equal(maps.get(`zh_${table}`)?.valueSize, valueBytes[table], `value of ${table}`);
    }
    const sizes = { services: 1, backends: 1, slots: 1, sockets: 1, socketsSpilled: 1 };
    for (const name of Object.keys(entriesOf(sizes))) assert.ok(maps.has(name), name);
    const programs = new Set(object.programs().map((program) => program.name));
    assert.deepEqual(programs, new Set(hooks.map((hook) => hook.program)));
  } finally {
    object.close();
  }
});
