/** bpf/abi.h and acl_abi.h against their abi.ts, through the BTF of the built object. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { layouts, layoutMagic, layoutVersion, noSuchPort } from '../../src/datapath/abi.ts';
import type { Layout } from '../../src/datapath/abi.ts';
import * as acl from '../../src/acl/abi.ts';
import { readFileSync } from 'node:fs';
import { configSchema } from '../../src/config/schema.ts';
import {
  aclHooks,
  aclMaps,
  entriesOf,
  hooks,
  socketMaps,
  tableMaps,
} from '../../src/datapath/hooks.ts';
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

const everyLayout: readonly Layout[] = [
  ...Object.values(layouts),
  ...Object.values(acl.aclLayouts),
];

for (const layout of everyLayout) {
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

const header = (name: string): string =>
  readFileSync(new URL(`../../bpf/${name}`, import.meta.url), 'utf8');

function defined(text: string, name: string): number {
  return Number(new RegExp(`#define ${name} ([0-9a-fx]+)`).exec(text)?.[1]);
}

test('the constants of abi.h are those of abi.ts', () => {
  const text = header('abi.h');
  assert.equal(defined(text, 'ZH_LAYOUT'), layoutVersion);
  assert.equal(defined(text, 'ZH_MAGIC'), layoutMagic);
  assert.equal(defined(text, 'ZH_NO_SUCH_PORT'), noSuchPort);
});

test('the constants and enums of acl_abi.h are those of abi.ts', () => {
  const text = header('acl_abi.h');
  assert.equal(defined(text, 'ZH_ACL_LAYOUT'), acl.aclLayoutVersion);
  assert.equal(defined(text, 'ZH_ACL_TAGS'), acl.cgroupTagsMax);
  assert.equal(defined(text, 'ZH_ACL_RULE_NAME_BYTES'), acl.ruleNameBytesMax + 1);
  // Rules are numbered from 1 to one less than maps.aclRules: no configuration has more than there are numbers.
  const numbers = defined(text, 'ZH_ACL_RULE_MAX');
  assert.ok(numbers > 0);
  const room = (aclRules: number): boolean =>
    configSchema.safeParse({ maps: { aclRules } }).success;
  assert.deepEqual([room(2 ** 20), room(numbers + 2)], [true, false]);
  assert.equal(defined(text, 'ZH_ACL_ANY_BYTE'), acl.anyByte);
  assert.equal(defined(text, 'ZH_ACL_START'), acl.startState);
  const enums = {
    zh_acl_gen_flags: acl.genFlag,
    zh_acl_policy_flags: acl.policyFlag,
    zh_acl_kind: acl.matchKind,
    zh_acl_verdict: acl.verdictNumber,
    zh_acl_hook: acl.aclHook,
  };
  for (const [name, values] of Object.entries(enums)) {
    const body = new RegExp(`enum ${name} \\{([^}]*)\\}`).exec(text)?.[1] ?? '';
    const found = [...body.matchAll(/ZH_ACL_([A-Z_]+) = ([0-9]+)/g)].map(([, word = '', value]) => [
      word.toLowerCase().replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      Number(value),
    ]);
    assert.deepEqual(Object.fromEntries(found), values, name);
  }
});

test('the keys and values of the maps of access control are the structs they hold', async () => {
  const { openObject } = await import('../../addon/index.ts');
  using object = openObject(objectPath());
  const l = acl.aclLayouts;
  const shapes: Readonly<Record<string, readonly [number, number]>> = {
    zh_acl: [4, l.acl.bytes],
    zh_acl_gens: [4, l.gen.bytes],
    zh_acl_dests: [l.destKey.bytes, l.dest.bytes],
    zh_acl_cidrs: [l.cidrKey.bytes, 4],
    zh_acl_matches: [l.matchKey.bytes, l.match.bytes],
    zh_acl_sources: [l.sourceKey.bytes, l.match.bytes],
    zh_acl_cgroups: [l.cgroupKey.bytes, l.cgroup.bytes],
    zh_acl_globs: [l.globKey.bytes, 4],
    zh_acl_emits: [l.emitKey.bytes, l.emit.bytes],
    zh_acl_places: [8, l.place.bytes],
    zh_acl_rules: [4, l.rule.bytes],
    zh_acl_stats: [4, l.stats.bytes],
    zh_acl_counts: [4, l.counts.bytes],
    zh_acl_events: [0, 0],
  };
  const found = object
    .maps()
    .filter(({ name }) => name.startsWith('zh_acl'))
    .map(({ name, keySize, valueSize }) => [name, [keySize, valueSize]]);
  assert.deepEqual(Object.fromEntries(found), shapes);
});

test('every map and program that user space names is in the object, with its sizes', async () => {
  const { openObject } = await import('../../addon/index.ts');
  const object = openObject(objectPath());
  try {
    const maps = new Map(object.maps().map((map) => [map.name, map]));
    for (const name of [...tableMaps, ...socketMaps, ...aclMaps]) assert.ok(maps.has(name), name);
    for (const table of Object.keys(keyBytes) as (keyof typeof keyBytes)[]) {
      assert.equal(maps.get(`zh_${table}`)?.keySize, keyBytes[table], `key of ${table}`);
      assert.equal(maps.get(`zh_${table}`)?.valueSize, valueBytes[table], `value of ${table}`);
    }
    const sizes = configSchema.parse({}).maps;
    for (const name of Object.keys(entriesOf(sizes))) assert.ok(maps.has(name), name);
    const names = (autoload: boolean): Set<string> =>
      new Set(object.programs().flatMap((p) => (p.autoload === autoload ? p.name : [])));
    assert.deepEqual(names(true), new Set(hooks.map((hook) => hook.program)));
    // Loaded only where the loader asks for them: not every kernel takes them.
    const optional = Object.values(aclHooks).flat();
    assert.deepEqual(names(false), new Set(optional.map((hook) => hook.program)));
  } finally {
    object.close();
  }
});

test('the services load without the kernel’s BTF: with their own, and access control left out', async () => {
  const { openObject } = await import('../../addon/index.ts');
  // A BTF without the kernel's structures, as a kernel without any: CO-RE finds nothing else.
  const object = openObject(objectPath(), { btfPath: objectPath() });
  try {
    using loaded = object.load();
    assert.deepEqual(new Set(loaded.programNames), new Set(hooks.map((hook) => hook.program)));
  } finally {
    object.close();
  }
});
