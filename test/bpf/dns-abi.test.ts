/** bpf/dns_abi.h against src/dns/kernel-abi.ts, through the BTF of the built object. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { openObject } from '../../addon/index.ts';
import type { Layout } from '../../src/datapath/abi.ts';
import { dnsMaps } from '../../src/datapath/hooks.ts';
import { objectPath } from '../../src/datapath/io/object.ts';
import * as abi from '../../src/dns/kernel-abi.ts';
import { dnsHooks } from '../../src/dns/kernel-hooks.ts';
import { UDP_BYTES_TAKEN } from '../../src/dns/packet.ts';

interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly nr_elems?: number;
  readonly members?: readonly { name: string; type_id: number; bits_offset: number }[];
}

const path = objectPath('zerohop_dns');
const json = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', path], { encoding: 'utf8' });
const { types } = JSON.parse(json) as { types: readonly BtfType[] };
const byId = new Map(types.map((type) => [type.id, type]));

function sizeOf(id: number): number {
  const type = byId.get(id) ?? assert.fail(`BTF type ${id}`);
  if (type.kind === 'ARRAY') return (type.nr_elems ?? 0) * sizeOf(type.type_id ?? 0);
  return type.size ?? sizeOf(type.type_id ?? 0);
}

const layouts: readonly Layout[] = Object.values(abi.dnsLayouts);

for (const { struct, bytes, fields } of layouts) {
  test(`struct ${struct} has the same bytes in the kernel and in user space`, () => {
    const found =
      types.find((type) => type.kind === 'STRUCT' && type.name === struct) ??
      assert.fail(`struct ${struct} is not in the BTF of the object`);
    assert.equal(found.size, bytes);
    const members = found.members?.map(({ name, type_id: type, bits_offset: bits }) => [
      name,
      [bits / 8, sizeOf(type)],
    ]);
    assert.deepEqual(Object.fromEntries(members ?? []), fields);
  });
}

test('the constants of dns_abi.h are those of kernel-abi.ts', () => {
  const text = readFileSync(new URL('../../bpf/dns_abi.h', import.meta.url), 'utf8');
  const defined = (name: string): number =>
    Number(new RegExp(`#define ${name} ([0-9]+)`).exec(text)?.[1]);
  assert.equal(defined('ZH_DNS_NAME_BYTES'), abi.kernelNameBytesMax);
  assert.equal(defined('ZH_DNS_TAIL_BYTES'), abi.kernelTailBytesMax);
  assert.equal(defined('ZH_DNS_PORT'), abi.kernelPort);
  assert.equal(defined('ZH_DNS_SIZE_TAKEN'), UDP_BYTES_TAKEN);
  assert.equal(defined('ZH_DNS_MIX'), abi.kernelMix);
});

test('every map and program that user space names is in the object, with its sizes', () => {
  using object = openObject(path);
  const maps = new Map(object.maps().map((map) => [map.name, map]));
  for (const name of dnsMaps) assert.ok(maps.has(name), name);
  const { key, answer, config, counts } = abi.dnsLayouts;
  assert.equal(maps.get('zh_dns_names')?.keySize, key.bytes);
  assert.equal(maps.get('zh_dns_names')?.valueSize, answer.bytes);
  assert.equal(maps.get('zh_dns_config')?.valueSize, config.bytes);
  assert.equal(maps.get('zh_dns_counts')?.valueSize, counts.bytes);
  const programs = object.programs().map(({ name }) => name);
  const wanted = ['zh_dns_egress', ...dnsHooks.map(({ program }) => program)];
  assert.deepEqual(new Set(programs), new Set(wanted));
});
