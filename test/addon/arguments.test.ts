import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, test } from 'node:test';
import { BpfLink, BpfMap, openObject, probe } from '../../addon/index.ts';
import type { MapCreateOptions } from '../../addon/index.ts';
import { native } from '../../addon/native.ts';
import type { NativeHandle } from '../../addon/native.ts';
import { Bench, failsWith, readU64, u32, u64 } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

const shape = { name: 'test', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 10 };
const refused = failsWith('ERR_BPF_ARGUMENT');

test('a key or value of the wrong length is refused, naming both lengths', () => {
  using map = BpfMap.create(shape);
  const sizes = (expected: number, given: number): RegExp =>
    new RegExp(`must have ${expected} bytes, not ${given}`);
  const wrong = (pattern: RegExp): ((error: unknown) => boolean) =>
    failsWith('ERR_BPF_ARGUMENT', pattern);
  assert.throws(() => map.get(u64(1)), wrong(sizes(4, 8)));
  assert.throws(() => map.set(u32(1), u32(1)), wrong(sizes(8, 4)));
  assert.throws(() => map.delete(new Uint8Array(0)), wrong(sizes(4, 0)));
  assert.throws(() => map.setBatch(u32(1, 2), u64(1)), wrong(sizes(16, 8)));
  assert.throws(() => map.setBatch(new Uint8Array(5), u64(1)), wrong(/multiple of 4 bytes, not 5/));
});

test('views are read at their offset, Buffers from the shared pool included', () => {
  using map = BpfMap.create(shape);
  const whole = new Uint8Array(64);
  whole.set(u32(3), 5);
  whole.set(u64(33), 13);
  map.set(whole.subarray(5, 9), whole.subarray(13, 21));
  assert.equal(readU64(map.get(Buffer.from(u32(3)))), 33);
});

test('a detached buffer is refused', () => {
  using map = BpfMap.create(shape);
  const key = u32(1);
  structuredClone(key.buffer, { transfer: [key.buffer as ArrayBuffer] });
  assert.throws(() => map.get(key), failsWith('ERR_BPF_ARGUMENT', /detached/));
  assert.throws(() => map.setBatch(key, key), failsWith('ERR_BPF_ARGUMENT', /detached/));
});

test('a shared buffer is refused: another thread could change it meanwhile', () => {
  using map = BpfMap.create(shape);
  const shared = failsWith('ERR_BPF_ARGUMENT', /SharedArrayBuffer/);
  assert.throws(() => map.get(new Uint8Array(new SharedArrayBuffer(4))), shared);
  assert.throws(() => openObject(new Uint8Array(new SharedArrayBuffer(400))), shared);
});

test('a resizable buffer counts with its present length', () => {
  using map = BpfMap.create(shape);
  const buffer = new ArrayBuffer(4, { maxByteLength: 64 });
  const tracking = new Uint8Array(buffer);
  const fixed = new Uint8Array(buffer, 0, 4);
  assert.equal(map.get(tracking), undefined);
  buffer.resize(8);
  assert.throws(() => map.get(tracking), refused);
  assert.equal(map.get(fixed), undefined);
  buffer.resize(2);
  assert.throws(() => map.get(fixed), refused); // out of bounds now
});

test('only bytes are bytes', () => {
  using map = BpfMap.create(shape);
  const wrong = [undefined, null, 1, 'abcd', [1, 2, 3, 4], {}, new ArrayBuffer(4)];
  const views = [new Uint32Array(1), new Int8Array(4), new DataView(new ArrayBuffer(4))];
  for (const key of [...wrong, ...views, Symbol('x'), 1n, () => {}]) {
    assert.throws(() => map.get(key as Uint8Array), refused);
  }
});

test('numbers are integers in their range', () => {
  for (const maxEntries of [-1, 1.5, NaN, Infinity, 2 ** 32, '4', undefined, 1n]) {
    const options = { ...shape, maxEntries } as MapCreateOptions;
    assert.throws(() => BpfMap.create(options), failsWith('ERR_BPF_ARGUMENT', /maxEntries/));
  }
});

test('paths are strings without NUL bytes, not empty, not too long', () => {
  using map = BpfMap.create(shape);
  for (const path of ['', 'a\0b', 'x'.repeat(5000), 7, null, undefined, Buffer.from('/tmp')]) {
    assert.throws(() => map.pin(path as string), refused);
    assert.throws(() => BpfMap.openPinned(path as string), refused);
    assert.throws(() => BpfLink.openPinned(path as string), refused);
    if (typeof path === 'string') assert.throws(() => openObject(path), /ENOENT|ENAMETOOLONG|ARG/);
  }
});

test('a closed handle is refused with ERR_BPF_CLOSED by every method, and closes again', () => {
  const map = BpfMap.create(shape);
  map.close();
  map.close();
  assert.equal(map.closed, true);
  assert.equal(map.info.name, 'test');
  const closed = failsWith('ERR_BPF_CLOSED');
  assert.throws(() => map.get(u32(1)), closed);
  assert.throws(() => map.set(u32(1), u64(1)), closed);
  assert.throws(() => map.delete(u32(1)), closed);
  assert.throws(() => map.setBatch(u32(1), u64(1)), closed);
  assert.throws(() => map.deleteBatch(u32(1)), closed);
  assert.throws(() => map.dump(), closed);
  assert.throws(() => [...map], closed);
  assert.throws(() => map.pin('/tmp/x'), closed);
  assert.throws(() => map.unpin('/tmp/x'), closed);
  assert.throws(() => map.freeze(), closed);
});

test('closing a map while it is iterated makes the iteration throw', () => {
  using map = BpfMap.create({ ...shape, valueSize: 65_536, maxEntries: 100 });
  for (let i = 0; i < 50; i++) map.set(u32(i), new Uint8Array(65_536));
  assert.throws(() => {
    for (const _ of map) map.close();
  }, failsWith('ERR_BPF_CLOSED'));
});

test('methods refuse a this and handles that are not theirs', () => {
  using map = BpfMap.create(shape);
  const get = map.get.bind({} as BpfMap);
  assert.throws(() => get(u32(1)), refused);
  const forged = Object.create(BpfMap.prototype) as BpfMap;
  assert.throws(() => forged.get(u32(1)), refused);
  assert.throws(() => new BpfMap({} as never), refused);
  using loaded = openObject(bench.object('kit')).load();
  using program = loaded.program('emit');
  const misused = map.get.bind(program as unknown as BpfMap);
  assert.throws(() => misused(u32(1)), failsWith('ERR_BPF_ARGUMENT', /map is expected/));
});

test('a foreign External is not taken for one of ours', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const inner = Reflect.get(server, '_handle') as { readonly _externalStream: NativeHandle };
  const foreign = inner._externalStream; // libuv's stream of the server: a pointer that is not ours
  assert.throws(() => native.mapInfo(foreign), failsWith('ERR_BPF_ARGUMENT', /of this addon/));
  assert.throws(() => native.close(foreign), failsWith('ERR_BPF_ARGUMENT', /of this addon/));
  server.close();
});

test('unknown names of types and helpers are refused', () => {
  assert.throws(() => probe.mapType('nope'), refused);
  assert.throws(() => probe.programType('toString'), refused);
  assert.throws(() => probe.helper('xdp', 'bpf_nope'), refused);
});
