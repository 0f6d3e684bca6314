import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const file = fileURLToPath(new URL('../../addon/build/Release/zerohop_bpf.node', import.meta.url));

function readelf(...flags: string[]): string {
  return execFileSync('readelf', ['-W', ...flags, file], { encoding: 'utf8' });
}

test('the built addon needs nothing but libc', () => {
  const needed = [...readelf('-d').matchAll(/NEEDED.*\[(.*)\]/g)].map(([, name]) => name);
  const allowed = /^(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|ld-linux-.*\.so\.\d)$/;
  assert.deepEqual(
    needed.filter((name) => !allowed.test(name ?? '')),
    [],
  );
});

test('the built addon has no text relocations and exports only its entry points', () => {
  assert.doesNotMatch(readelf('-d'), /TEXTREL/);
  const exported = readelf('--dyn-syms')
    .split('\n')
    .filter((line) => / (GLOBAL|WEAK) +DEFAULT +\d+ /.test(line))
    .map((line) => line.trim().split(/\s+/).at(-1) ?? '');
  const foreign = exported.filter((name) =>
    /^(bpf_|libbpf_|btf_|elf_|gelf_|ring_buffer__)/.test(name),
  );
  assert.deepEqual(foreign, []);
  assert.ok(exported.some((name) => name.startsWith('napi_register_module')));
});
