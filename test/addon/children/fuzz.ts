// 20,000 random calls with mostly wrong arguments. Whatever happens must be a value or an
// exception. Arguments: public|native, seed, object file, a cgroup and a pin path of the test's
// own.
//
// Never random: ids (a real id of a neighbour would open, and change, somebody else's map), and
// paths outside of the test's own.
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { types } from 'node:util';
import * as library from '../../../addon/index.ts';
import { native } from '../../../addon/native.ts';

type Callable = (...args: unknown[]) => unknown;

const CALLS = 20_000;
const POOL_MAX = 60;
const [surface, seedText = '1', file = '', cgroup = '', pin = ''] = process.argv.slice(2);

let state = Number(seedText) >>> 0;
function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}
function pick<T>(list: readonly T[]): T {
  return list[random(list.length)] as T;
}

let thrownByCallback = 0;
process.on('uncaughtException', (error) => {
  if (String(error).includes('thrown by a callback')) thrownByCallback++;
  else {
    console.error(error);
    process.exit(3);
  }
});

function detached(): Uint8Array {
  const bytes = new Uint8Array(4);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

const elf = readFileSync(file);
const numbers = [
  0,
  1,
  2,
  3,
  4,
  6,
  7,
  8,
  10,
  16,
  27,
  64,
  100,
  256,
  -1,
  1.5,
  NaN,
  2 ** 32 - 1,
  2 ** 32,
];
const strings = ['hash', 'array', 'percpu_array', 'lpm_trie', 'ringbuf', 'queue', 'hash_of_maps'];
const names = [
  'events',
  'counters',
  'limit',
  'prefix',
  '.rodata',
  'deny',
  'emit',
  'cgroup',
  'none',
];
const odd = [
  '',
  'a\0b',
  'x'.repeat(5000),
  '\ud800',
  'BPF_CGROUP_INET4_CONNECT',
  'xdp',
  'any',
  'debug',
];
const paths = [cgroup, pin, `${pin}2`, file, '/nonexistent'];
const things: Callable[] = [
  () => pick(numbers),
  () => pick(numbers),
  () => pick([...strings, ...names]),
  () => pick(odd),
  () => pick(paths),
  () =>
    pick([undefined, null, true, false, 1n, Symbol('s'), {}, [], Object.create(null) as object]),
  () => new Uint8Array(pick([0, 1, 4, 4, 4, 8, 8, 16, 32, 64, 400])).fill(random(256)),
  () => new Uint8Array(pick([4, 8, 8, 12, 16])),
  () => pick([new SharedArrayBuffer(4), new Uint8Array(new SharedArrayBuffer(4)), detached()]),
  () => pick([new Uint32Array(1), new DataView(new ArrayBuffer(4)), new ArrayBuffer(4)]),
  () => elf,
  () => elf.subarray(0, random(elf.length)),
  () => () => {
    throw new Error('thrown by a callback');
  },
  () => () => {},
  () => (pool.length > 0 ? pick(pool) : undefined),
  () => (pool.length > 0 ? pick(pool) : undefined),
  () => (pool.length > 0 ? pick(pool) : undefined),
  () => options(),
  () => new Proxy({}, { get: () => pick(numbers) }),
];

function options(): object {
  const keys = ['name', 'type', 'keySize', 'valueSize', 'maxEntries', 'flags', 'innerMap', 'old'];
  const more = ['attachType', 'dataIn', 'ctxIn', 'ctxSize', 'repeat', 'unref', 'onError', 'level'];
  const shape = {
    name: 'fuzz',
    type: pick(strings),
    keySize: 4,
    valueSize: 8,
    maxEntries: 16,
    flags: 0,
  };
  const some = [...keys, ...more].filter(() => random(4) === 0);
  return {
    ...(random(3) > 0 ? shape : {}),
    ...Object.fromEntries(some.map((key) => [key, thing()])),
  };
}

function thing(): unknown {
  return pick(things)();
}

const classes = [library.BpfMap, library.BpfProgram, library.BpfLink, library.RingBuffer];
const more = [library.OpenObject, library.LoadedObject, library.Stats];
const kept: readonly (abstract new (...args: never[]) => unknown)[] = [...classes, ...more];

/** What calls returned: maps, programs, links, objects, open and closed. */
const pool: unknown[] = [];
const unsubscribe: Callable[] = [];
function keep(value: unknown): void {
  // Sinks would pile up, and each hears every line.
  if (typeof value === 'function') unsubscribe.push(value as Callable);
  if (unsubscribe.length > 3) unsubscribe.shift()?.();
  // Only what belongs to the library: calling random methods of arrays and iterators tests V8.
  if (!types.isExternal(value) && !kept.some((kind) => value instanceof kind)) return;
  pool.push(value);
  if (pool.length <= POOL_MAX) return;
  const [old] = pool.splice(random(10), 1);
  if (old !== undefined && typeof old === 'object' && old !== null && Symbol.dispose in old) {
    (old as Disposable)[Symbol.dispose]();
  }
}

const ownIds = (): number[] => [
  0,
  2 ** 32 - 1,
  ...pool.filter((value) => value instanceof library.BpfMap).map((map) => map.info.id),
];

function methodsOf(target: object): [string, Callable][] {
  const found: [string, Callable][] = [];
  for (
    let at: object | null = target;
    at !== null && at !== Object.prototype;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    if (at === Function.prototype) break;
    for (const key of Object.getOwnPropertyNames(at)) {
      // A generator's throw() throws what it is given.
      if (['constructor', 'prototype', 'throw'].includes(key)) continue;
      const value: unknown = Reflect.get(at, key, target);
      if (typeof value === 'function') found.push([key, value as Callable]);
    }
  }
  return found;
}

function args(name: string): unknown[] {
  if (name.endsWith('ById')) return [pick(ownIds()), thing()];
  return Array.from({ length: random(7) }, thing);
}

/**
 * A random member of the public surface: a function, a static, a constructor or a method of
 * something alive.
 */
function publicCall(): unknown {
  switch (random(8)) {
    case 0: {
      const functions = Object.entries(library).filter(([name]) => /^[a-z]/.test(name));
      const [name, value] = pick(functions.filter(([, f]) => typeof f === 'function'));
      return (value as Callable)(...args(name));
    }
    case 1: {
      const [name, method] = pick(methodsOf(pick([library.probe, ...classes])));
      return method.apply(pick([library.BpfMap, undefined, library.probe]), args(name));
    }
    case 2:
      return Reflect.construct(pick([...classes, ...more]), args('constructor')) as unknown;
    case 3:
      return library.BpfMap.create(options() as library.MapCreateOptions);
    case 4:
      return library.openObject(random(2) === 0 ? elf : file);
    default: {
      const target = pick(pool) as object | undefined;
      if (target === undefined) return undefined;
      const methods = methodsOf(target);
      if (methods.length === 0) return undefined;
      const [name, method] = pick(methods);
      // Closing and loading are one call of many, so that most things stay open for a while.
      if (name === 'close' && random(3) > 0) return undefined;
      return method.apply(random(20) === 0 ? thing() : target, args(name));
    }
  }
}

function nativeCall(): unknown {
  const [name, call] = pick(methodsOf(native));
  if (name === 'useErrorClasses' && random(2) >= 0) return undefined;
  if (name === 'objectOpen' && random(2) === 0)
    return native.objectOpen(elf, 'fuzz', undefined, undefined);
  if (name === 'mapCreate' && random(2) === 0)
    return native.mapCreate('f', pick([1, 2, 6, 27]), 4, 8, 16, 0, undefined);
  if (name === 'close' && random(3) > 0) return undefined;
  if (pool.length > 0 && random(3) > 0) return call(pick(pool), ...args(name));
  return call(...args(name));
}

const tally = new Map<string, number>();
for (let i = 0; i < CALLS; i++) {
  try {
    const result = surface === 'native' ? nativeCall() : publicCall();
    tally.set('returned', (tally.get('returned') ?? 0) + 1);
    if (
      typeof result === 'object' &&
      result !== null &&
      Symbol.iterator in result &&
      random(2) === 0
    ) {
      if (!Array.isArray(result) && !ArrayBuffer.isView(result))
        for (const _ of result as Iterable<unknown>) break;
    }
    keep(result);
  } catch (error) {
    assert.ok(error instanceof Error, `threw ${String(error)}`);
    const kind = error instanceof library.BpfError ? error.code : error.name;
    tally.set(kind, (tally.get(kind) ?? 0) + 1);
  }
  if (i % 200 === 0) await turn();
}
await turn();
console.log(JSON.stringify({ ...Object.fromEntries(tally), thrownByCallback }));
process.exit(0);
