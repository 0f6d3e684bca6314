/**
 * New cgroups: what the tracepoints say of them before mkdir(2) returns. The
 * automaton is written by hand, as src/acl/automaton.ts lays it out.
 */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import * as acl from '../../src/acl/abi.ts';
import { encodeU32 } from '../../src/datapath/abi.ts';
import { TestHost } from '../harness/host.ts';
import { AclKit, cgroupId, lsmMissing, Workload } from './acl-kit.ts';

/** The host's cgroup is in state 10, as if the root had led there. */
const HOST = 10;
const BATCH = 7;
const DEEP = 8;

let host: TestHost;
let kit: AclKit;
let made = 0;

/** A transition; the byte is a character, or any but `/`. */
function glob(automaton: number, state: number, byte: string | undefined, to: number): void {
  const number = byte === undefined ? acl.anyByte : (byte.codePointAt(0) ?? 0);
  const key = acl.encodeGlobKey({ automaton, state, byte: number });
  kit.map('zh_acl_globs').set(key, encodeU32(to));
}

function emit(automaton: number, state: number, tags: readonly number[]): void {
  kit.map('zh_acl_emits').set(acl.encodeEmitKey({ automaton, state }), acl.encodeEmit(tags));
}

/** `WORD` after the host's cgroup leads from state to state; answers the last. */
function word(automaton: number, from: number, text: string, next: number): number {
  let state = from;
  for (const char of text) {
    glob(automaton, state, char, next);
    state = next++;
  }
  return state;
}

/** batch → tag 7; batch/*x → tag 8. */
function batchSelectors(automaton: number): void {
  const batch = word(automaton, HOST, '/batch', 20);
  emit(automaton, batch, [BATCH]);
  glob(automaton, batch, '/', 40);
  for (const state of [40, 41]) {
    glob(automaton, state, 'x', 41);
    glob(automaton, state, undefined, 40);
  }
  emit(automaton, 41, [DEEP]);
}

const path = (...parts: readonly string[]): string => join(host.cgroup, ...parts);

function mkdir(...parts: readonly string[]): bigint {
  mkdirSync(path(...parts));
  return cgroupId(path(...parts));
}

before(async () => {
  host = await TestHost.create();
});

after(async () => {
  kit?.[Symbol.dispose]();
  await host?.[Symbol.asyncDispose]();
});

beforeEach(() => {
  kit?.[Symbol.dispose]();
  kit = AclKit.load(host, { mode: lsmMissing() === undefined ? 2 : 1, cgroups: 24 }).watch();
  made += 1;
});

test('a new cgroup has the tags of its path, and those of its parents', () => {
  batchSelectors(1);
  kit.setHead({ automata: [1, 0] });
  kit.classify(host.cgroup, { state: HOST, tags: [3] });
  const batch = mkdir('batch');
  assert.deepEqual(kit.classOf(batch), { state: 25, tags: [3, BATCH], overflow: false });
  const job = mkdir('batch', 'job');
  assert.deepEqual(kit.classOf(job), { state: 40, tags: [3, BATCH], overflow: false });
  const jobx = mkdir('batch', 'jobx');
  assert.deepEqual(kit.classOf(jobx), { state: 41, tags: [3, BATCH, DEEP], overflow: false });
  const below = mkdir('batch', 'jobx', 'below');
  assert.deepEqual(kit.classOf(below), { state: 0, tags: [3, BATCH, DEEP], overflow: false });
  rmdirSync(path('batch', 'jobx', 'below'));
  rmdirSync(path('batch', 'jobx'));
  rmdirSync(path('batch', 'job'));
  rmdirSync(path('batch'));
  for (const id of [batch, job, jobx, below]) assert.equal(kit.classOf(id), undefined);
});

test('names that no selector begins with end in the dead state, and stay there', () => {
  batchSelectors(1);
  kit.setHead({ automata: [1, 0] });
  kit.classify(host.cgroup, { state: HOST });
  for (const name of ['batc', 'batchx', 'Batch', 'b']) {
    const id = mkdir(name);
    const ends = name === 'batc' ? 24 : name === 'b' ? 21 : 0;
    assert.deepEqual(kit.classOf(id), { state: ends, tags: [], overflow: false }, name);
    const below = mkdir(name, 'batch');
    assert.deepEqual(kit.classOf(below), { state: 0, tags: [], overflow: false }, `below ${name}`);
    rmdirSync(path(name, 'batch'));
    rmdirSync(path(name));
  }
});

test('bytes above 127 and the longest name are read whole', () => {
  kit.setHead({ automata: [1, 0] });
  kit.classify(host.cgroup, { state: HOST });
  glob(1, HOST, '/', 50);
  const name = Buffer.from('ü');
  kit
    .map('zh_acl_globs')
    .set(acl.encodeGlobKey({ automaton: 1, state: 50, byte: name[0] ?? 0 }), encodeU32(51));
  kit
    .map('zh_acl_globs')
    .set(acl.encodeGlobKey({ automaton: 1, state: 51, byte: name[1] ?? 0 }), encodeU32(52));
  emit(1, 52, [5]);
  assert.deepEqual(kit.classOf(mkdir('ü')), { state: 52, tags: [5], overflow: false });
  rmdirSync(path('ü'));
  // 254 bytes of anything, then a z: only who reads all 255 gets to 61.
  glob(1, 50, 'a', 60);
  glob(1, 60, undefined, 60);
  glob(1, 60, 'z', 61);
  glob(1, 61, 'z', 61);
  const long = `${'a'.repeat(254)}z`;
  assert.deepEqual(kit.classOf(mkdir(long)), { state: 61, tags: [], overflow: false });
  rmdirSync(path(long));
});

test('two automata at a time: both get entries, and rmdir takes both away', () => {
  batchSelectors(1);
  batchSelectors(2);
  emit(2, 25, [99]);
  kit.setHead({ automata: [2, 1] });
  kit.classify(host.cgroup, { state: HOST }, 1);
  kit.classify(host.cgroup, { state: HOST }, 2);
  const batch = mkdir('batch');
  assert.deepEqual(kit.classOf(batch, 1)?.tags, [BATCH]);
  assert.deepEqual(kit.classOf(batch, 2)?.tags, [99]);
  rmdirSync(path('batch'));
  assert.equal(kit.classOf(batch, 1), undefined);
  assert.equal(kit.classOf(batch, 2), undefined);
});

test('a cgroup below one without an entry gets none: it is not ours', () => {
  batchSelectors(1);
  kit.setHead({ automata: [1, 0] });
  const id = mkdir('batch');
  assert.equal(kit.classOf(id), undefined);
  assert.deepEqual(kit.counts().unclassed, 0);
  rmdirSync(path('batch'));
});

test('a tag twice is one; more tags than fit are an overflow that is handed down', () => {
  kit.setHead({ automata: [1, 0] });
  const eleven = Array.from({ length: acl.cgroupTagsMax - 1 }, (_, i) => 100 + i);
  kit.classify(host.cgroup, { state: HOST, tags: eleven });
  const one = word(1, HOST, '/a', 20);
  emit(1, one, [100, 200]);
  const two = word(1, one, '/a', 22);
  emit(1, two, [200, 201]);
  const fits = mkdir('a');
  assert.deepEqual(kit.classOf(fits), { state: one, tags: [...eleven, 200], overflow: false });
  const brims = mkdir('a', 'a');
  assert.deepEqual(kit.classOf(brims), { state: two, tags: [...eleven, 200], overflow: true });
  const below = mkdir('a', 'a', 'b');
  assert.equal(kit.classOf(below)?.overflow, true);
  // An emission that says itself that it has more than its entry holds.
  emit(
    1,
    one,
    Array.from({ length: acl.cgroupTagsMax + 1 }, (_, i) => i),
  );
  for (const at of [['a', 'a', 'b'], ['a', 'a'], ['a']]) rmdirSync(path(...at));
  kit.classify(host.cgroup, { state: HOST });
  assert.equal(kit.classOf(mkdir('a'))?.overflow, true);
  rmdirSync(path('a'));
});

test('where the table is full a cgroup is unknown, and counted', () => {
  kit.setHead({ automata: [1, 0] });
  kit.classify(host.cgroup, { state: 0 });
  const names = Array.from({ length: 40 }, (_, i) => `many-${made}-${i}`);
  const ids = names.map((name) => mkdir(name));
  const known = ids.filter((id) => kit.classOf(id) !== undefined).length;
  assert.equal(known, 23, 'as many as fit, beside the host');
  assert.equal(kit.counts().unclassed, 40 - known);
  for (const name of names) rmdirSync(path(name));
  assert.equal(ids.filter((id) => kit.classOf(id) !== undefined).length, 0);
  const id = mkdir('again');
  assert.notEqual(kit.classOf(id), undefined, 'room again');
  rmdirSync(path('again'));
});

test('where a cgroup was is known when it is gone, whether or not it has an entry', () => {
  kit.setHead({ automata: [0, 0] });
  const longest = 'ü'.repeat(127) + 'x';
  const [batch, job] = [mkdir('batch'), mkdir('batch', longest)];
  rmdirSync(path('batch', longest));
  rmdirSync(path('batch'));
  assert.deepEqual(kit.placeOf(batch), { parent: cgroupId(host.cgroup), name: 'batch' });
  assert.deepEqual(kit.placeOf(job), { parent: batch, name: longest });
  assert.equal(kit.placeOf(cgroupId(host.cgroup)), undefined, 'made before the programs were here');
});

test('a cgroup keeps its name for life: the kernel refuses to rename one', () => {
  mkdir('batch');
  assert.throws(() => renameSync(path('batch'), path('other')));
  rmdirSync(path('batch'));
});

test('a task in a cgroup made a moment ago is judged by its selectors', async () => {
  batchSelectors(1);
  kit.attach();
  kit.setHead({ automata: [1, 0] });
  kit.classify(host.cgroup, { state: HOST });
  kit.enforce({
    dests: [{ ip: '127.0.0.9', port: 80, tags: { [BATCH]: { deny: 1 } }, tagsDeny: true }],
  });
  mkdir('batch');
  mkdir('other');
  const denied = await Workload.start(host, path('batch'));
  const allowed = await Workload.start(host, path('other'));
  assert.equal(await denied.asks('connect tcp 127.0.0.9 80'), 'EPERM');
  assert.equal(await allowed.asks('connect tcp 127.0.0.9 80'), 'ECONNREFUSED');
  assert.equal(kit.counts().unknown, 0);
  await denied.end();
  await allowed.end();
});
