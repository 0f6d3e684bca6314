import assert from 'node:assert/strict';
import { readFileSync, rmdirSync, statSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BpfLink, BpfProgram, enableStats, openObject, queryCgroup } from '../../addon/index.ts';
import type { LoadedObject } from '../../addon/index.ts';
import { Bench, connectIn, failsWith, readU64, u32 } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

const CONNECT4 = 'BPF_CGROUP_INET4_CONNECT';

function load(): LoadedObject {
  return openObject(bench.object('kit')).load();
}

function counter(loaded: LoadedObject, index: number): number {
  using map = loaded.map('counters');
  return readU64(map.get(u32(index)));
}

test('attachCgroup() enforces until the link is closed', () => {
  const cgroup = bench.cgroup('enforce');
  using loaded = load();
  using deny = loaded.program('deny');
  assert.equal(connectIn(cgroup), 'refused');
  const link = deny.attachCgroup(cgroup);
  assert.equal(connectIn(cgroup), 'not permitted');
  const { id, ...info } = link.info;
  assert.ok(id > 0);
  assert.deepEqual(info, {
    type: 'BPF_LINK_TYPE_CGROUP',
    programId: deny.info.id,
    cgroupId: statSync(cgroup, { bigint: true }).ino,
    attachType: CONNECT4,
  });
  const { programIds } = queryCgroup(cgroup, CONNECT4, { effective: true });
  assert.ok(programIds.includes(deny.info.id));
  link.close();
  assert.equal(connectIn(cgroup), 'refused');
  assert.deepEqual(queryCgroup(cgroup, CONNECT4).programIds, []);
});

test('a pinned link outlives its handle, is opened again, updated, detached', () => {
  const cgroup = bench.cgroup('pinned');
  const path = bench.pin('link');
  using loaded = load();
  using deny = loaded.program('deny');
  using allow = loaded.program('allow_first');
  const first = deny.attachCgroup(cgroup);
  first.pin(path);
  first.close();
  assert.equal(connectIn(cgroup), 'not permitted');
  using link = BpfLink.openPinned(path);
  link.update(allow);
  assert.equal(connectIn(cgroup), 'refused');
  assert.throws(() => link.update(deny, { old: deny }), failsWith('EPERM'));
  link.update(deny, { old: allow });
  assert.equal(connectIn(cgroup), 'not permitted');
  using byId = BpfLink.openById(link.info.id);
  assert.equal(byId.info.programId, deny.info.id);
  link.detach();
  assert.equal(connectIn(cgroup), 'refused');
  assert.equal(link.info.cgroupId, 0n);
  assert.throws(() => link.update(allow), failsWith('ENOLINK'));
  link.unpin(path);
});

test('a link whose cgroup was removed says cgroupId 0, soon', async () => {
  const cgroup = bench.cgroup('dying');
  using loaded = load();
  using allow = loaded.program('allow_first');
  using link = allow.attachCgroup(cgroup);
  rmdirSync(cgroup);
  // The kernel lets go of the cgroup from a work queue.
  const deadline = performance.now() + 20_000;
  while (link.info.cgroupId !== 0n) {
    assert.ok(performance.now() < deadline, `still ${link.info.cgroupId}`);
    await turn();
  }
});

test('swapping a pinned link under load leaves no connect without a program', async () => {
  const cgroup = bench.cgroup('load');
  using loaded = load();
  using first = loaded.program('allow_first');
  using second = loaded.program('allow_second');
  using link = first.attachCgroup(cgroup);
  const script = fileURLToPath(new URL('children/connects.ts', import.meta.url));
  const connects = 3000;
  const child = spawn(process.execPath, [script, cgroup, String(connects)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit');
  let updates = 0;
  while (child.exitCode === null && child.signalCode === null) {
    link.update(updates++ % 2 === 0 ? second : first);
    await turn();
  }
  assert.deepEqual(await exit, [0, null]);
  const [a, b] = [counter(loaded, 0), counter(loaded, 1)];
  assert.equal(a + b, connects);
  assert.ok(a > 0 && b > 0, `both ran (${a}, ${b}) in ${updates} updates`);
});

test('a raw tracepoint runs its program until the link and its pin are gone', () => {
  using loaded = load();
  using program = loaded.program('on_mkdir');
  const before = counter(loaded, 5);
  const link = program.attachRawTracepoint('cgroup_mkdir');
  bench.cgroup('traced-1');
  assert.ok(counter(loaded, 5) > before);
  const path = bench.pin('tracepoint');
  link.pin(path);
  const { id } = link.info;
  link.close();
  using pinned = BpfLink.openPinned(path);
  assert.equal(pinned.info.id, id);
  assert.equal(pinned.info.programId, program.info.id);
  assert.throws(() => program.attachRawTracepoint('no_such_tracepoint'), failsWith('ENOENT'));
});

test('attaching needs an attach type where the kernel does not tell it, and the right one', () => {
  const cgroup = bench.cgroup('types');
  using loaded = load();
  using deny = loaded.program('deny');
  deny.pin(bench.pin('program'));
  using pinned = BpfProgram.openPinned(bench.pin('program'));
  assert.equal(pinned.info.tag, deny.info.tag);
  assert.throws(() => pinned.attachCgroup(cgroup), failsWith('ERR_BPF_ARGUMENT', /attachType/));
  pinned.attachCgroup(cgroup, { attachType: CONNECT4 }).close();
  const attachType = 'BPF_CGROUP_INET6_CONNECT';
  assert.throws(() => pinned.attachCgroup(cgroup, { attachType }), failsWith('EINVAL'));
  assert.throws(() => deny.attachCgroup('/nonexistent'), failsWith('ENOENT', /nonexistent/));
  assert.throws(() => deny.attachCgroup('/etc/passwd'), failsWith('ENOTDIR'));
  assert.throws(() => deny.attachCgroup('/tmp'), failsWith('EBADF'));
  assert.throws(() => queryCgroup(cgroup, 'nope'), failsWith('ERR_BPF_ARGUMENT', /nope/));
});

test("testRun() returns the program's answer, the packet and the time", () => {
  using loaded = load();
  using program = loaded.program('read_globals');
  const dataIn = Uint8Array.from({ length: 100 }, (_, i) => i);
  const result = program.testRun({ dataIn, repeat: 10 });
  assert.equal(result.retval, 7 + 6 + 42);
  assert.deepEqual(result.dataOut, dataIn);
  assert.ok(result.durationNs >= 0);
  assert.throws(() => program.testRun(), failsWith('EINVAL'));
  assert.throws(() => program.testRun({ dataIn, repeat: -1 }), failsWith('ERR_BPF_ARGUMENT'));
});

test('info counts runs while statistics are enabled, and knows when it was loaded', () => {
  using loaded = load();
  using program = loaded.program('deny');
  const cgroup = bench.cgroup('stats');
  using link = program.attachCgroup(cgroup);
  assert.ok(link.info.programId === program.info.id);
  // the host may count all the time
  const counted = Number(readFileSync('/proc/sys/kernel/bpf_stats_enabled', 'utf8'));
  connectIn(cgroup);
  assert.equal(program.info.runCount, counted);
  const stats = enableStats();
  connectIn(cgroup);
  connectIn(cgroup);
  stats.close();
  assert.equal(program.info.runCount, counted + 2);
  assert.ok(program.info.runTimeNs > 0);
  assert.ok(Math.abs(program.info.loadedAt.getTime() - Date.now()) < 60_000);
  using byId = BpfProgram.openById(program.info.id);
  assert.deepEqual(byId.info.mapIds, program.info.mapIds);
});
