import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  attachTypes,
  libbpfVersion,
  linkTypes,
  mapTypes,
  possibleCpus,
  probe,
  programTypes,
} from '../../addon/index.ts';
import { native } from '../../addon/native.ts';
import { failsWith } from './support.ts';

test('the names and numbers are those of the linked libbpf', () => {
  const ours = { map: mapTypes, program: programTypes, attach: attachTypes, link: linkTypes };
  const prefix = {
    map: 'BPF_MAP_TYPE_',
    program: 'BPF_PROG_TYPE_',
    attach: 'BPF_',
    link: 'BPF_LINK_TYPE_',
  };
  const names = native.typeNames();
  for (const kind of ['map', 'program', 'attach', 'link'] as const) {
    assert.ok(names[kind].length > 5);
    const table: Record<string, number> = ours[kind];
    names[kind].forEach((name, number) => {
      assert.equal(table[prefix[kind] + name.toUpperCase()], number, `${kind} type ${name}`);
    });
  }
});

test("the names and numbers are those of the kernel's BTF", (t) => {
  // Enumerators stand in the BTF string table; that a name exists there is all this can cheaply
  // tell.
  if (!probe.btf()) return t.skip('this kernel has no BTF');
  const strings = readFileSync('/sys/kernel/btf/vmlinux').toString('latin1');
  const renamed = ['BPF_MAP_TYPE_CGROUP_STORAGE', 'BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE'];
  for (const table of [mapTypes, attachTypes, linkTypes]) {
    const names = Object.entries<number>(table)
      .sort(([, a], [, b]) => a - b)
      .map(([name]) => name)
      .filter((name) => !renamed.includes(name));
    const known = names.filter((name) => strings.includes(`\0${name}\0`));
    // Older kernels lack the newer ones, which are the last: numbers are never given twice.
    assert.deepEqual(known, names.slice(0, known.length));
    assert.ok(known.length > 5);
  }
});

test('probes tell what there is from what there is not', () => {
  assert.equal(probe.programType('BPF_PROG_TYPE_CGROUP_SOCK_ADDR'), true);
  assert.equal(probe.mapType('BPF_MAP_TYPE_HASH'), true);
  assert.equal(probe.mapType('hash'), true);
  assert.equal(probe.helper('cgroup_sock_addr', 'bpf_get_socket_cookie'), true);
  assert.equal(probe.helper('cgroup_sock_addr', 46), true);
  assert.equal(probe.helper('socket_filter', 'bpf_redirect'), false);
  assert.equal(probe.helper('xdp', 100_000), false);
});

test('a probe that libbpf cannot do is an error, not a no', () => {
  assert.throws(() => probe.helper('lsm', 'bpf_ktime_get_ns'), failsWith('EOPNOTSUPP'));
});

test('possibleCpus() is what the kernel says', () => {
  const ranges = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim().split(',');
  const count = ranges.reduce((sum, range) => {
    const [from = 0, to = from] = range.split('-').map(Number);
    return sum + to - from + 1;
  }, 0);
  assert.equal(possibleCpus(), count);
  assert.match(libbpfVersion(), /^\d+\.\d+$/);
});
