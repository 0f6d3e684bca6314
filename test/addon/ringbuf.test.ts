import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { BpfMap, openObject, RingBuffer } from '../../addon/index.ts';
import type { LoadedObject } from '../../addon/index.ts';
import { Bench, failsWith, readU64, runChild, u32 } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

function load(): LoadedObject {
  return openObject(bench.object('kit')).load();
}

function emit(loaded: LoadedObject, times: number): void {
  using program = loaded.program('emit');
  program.testRun({ dataIn: new Uint8Array(64), repeat: times });
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, 'waited too long');
    await turn();
  }
}

test('records arrive in order, each with its own bytes', async () => {
  using loaded = load();
  using map = loaded.map('events');
  const numbers: number[] = [];
  using ring = new RingBuffer(map, (record) => {
    assert.equal(record.length, 16);
    numbers.push(readU64(record));
  });
  assert.equal(ring.closed, false);
  emit(loaded, 100);
  await until(() => numbers.length === 100);
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => i),
  );
});

test('drain() delivers at once, at most a turn’s worth, and throws when closed', async () => {
  using loaded = load();
  using map = loaded.map('events');
  const numbers: number[] = [];
  const ring = new RingBuffer(map, (record) => numbers.push(readU64(record)), {
    recordsPerTurnMax: 60,
  });
  ring.drain();
  assert.deepEqual(numbers, []);
  emit(loaded, 100);
  ring.drain();
  assert.equal(numbers.length, 60);
  ring.drain();
  assert.deepEqual(
    numbers,
    Array.from({ length: 100 }, (_, i) => i),
  );
  await turn();
  ring.close();
  assert.throws(() => ring.drain(), failsWith('ERR_BPF_CLOSED'));
  assert.equal(numbers.length, 100);
});

test('a ring buffer outlives the handles of its map and object', async () => {
  const loaded = load();
  const map = loaded.map('events');
  using program = loaded.program('emit');
  let seen = 0;
  using ring = new RingBuffer(map, () => seen++);
  assert.equal(ring.closed, false);
  map.close();
  loaded.close();
  program.testRun({ dataIn: new Uint8Array(64), repeat: 10 });
  await until(() => seen === 10);
});

test('a flood is delivered in turns: the loop goes on, nothing is lost that was reserved', async () => {
  using loaded = load();
  using map = loaded.map('events');
  let seen = 0;
  let inOneTurn = 0;
  let mostInOneTurn = 0;
  const count = (): void => {
    seen++;
    mostInOneTurn = Math.max(mostInOneTurn, ++inOneTurn);
  };
  using ring = new RingBuffer(map, count, { recordsPerTurnMax: 100 });
  assert.equal(ring.closed, false);
  for (let round = 0; round < 20; round++) {
    emit(loaded, 10_000);
    const wanted = seen + 10_000;
    let turns = 0;
    await until(() => {
      inOneTurn = 0;
      turns++;
      return seen >= wanted;
    });
    assert.ok(turns >= 50, `${turns} turns`);
  }
  assert.equal(seen, 200_000);
  // libuv may report one descriptor twice in a turn, hence not exactly 100.
  assert.ok(mostInOneTurn <= 200, `${mostInOneTurn} in one turn`);
});

test('a full ring drops in the kernel, and delivery goes on after it', async () => {
  using loaded = load();
  using map = loaded.map('events');
  using counters = loaded.map('counters');
  let seen = 0;
  using ring = new RingBuffer(map, () => seen++);
  assert.equal(ring.closed, false);
  emit(loaded, 100_000);
  const dropped = readU64(counters.get(u32(4)));
  assert.ok(dropped > 0);
  await until(() => seen === 100_000 - dropped);
  emit(loaded, 10);
  await until(() => seen === 100_010 - dropped);
});

test('onError takes what the callback throws, and the other records still arrive', async () => {
  using loaded = load();
  using map = loaded.map('events');
  const errors: unknown[] = [];
  let seen = 0;
  const onRecord = (): void => {
    if (++seen % 2 === 0) throw new Error(`record ${seen}`);
  };
  using ring = new RingBuffer(map, onRecord, { onError: (error) => errors.push(error) });
  assert.equal(ring.closed, false);
  emit(loaded, 10);
  await until(() => seen === 10);
  assert.deepEqual(
    errors.map(String),
    [2, 4, 6, 8, 10].map((n) => `Error: record ${n}`),
  );
});

test('without onError each becomes an uncaught exception; closing in the callback ends the process', () => {
  const { stdout, stderr, status } = runChild('children/uncaught.ts', [
    'ring',
    bench.object('kit'),
  ]);
  assert.equal(stderr, '');
  assert.equal(stdout, [1, 2, 3].map((n) => `uncaught: from record ${n}\n`).join(''));
  assert.equal(status, 0);
});

test('close() within a callback stops delivery at once, and twice is fine', async () => {
  using loaded = load();
  using map = loaded.map('events');
  let seen = 0;
  const ring = new RingBuffer(map, () => {
    if (++seen === 5) ring.close();
  });
  emit(loaded, 100);
  await until(() => ring.closed);
  for (let i = 0; i < 10; i++) await turn();
  assert.equal(seen, 5);
  ring.close();
  assert.throws(() => ring.unref(), failsWith('ERR_BPF_CLOSED'));
});

test('an unreferenced ring buffer does not keep the process alive', () => {
  const { status } = runChild('children/unref.ts', [bench.object('kit')]);
  assert.equal(status, 0);
});

test('only a ring buffer map, a function and sane options are taken', () => {
  using loaded = load();
  using map = loaded.map('events');
  using hash = loaded.map('hash');
  const ignore = (): void => {};
  assert.throws(() => new RingBuffer(hash, ignore), failsWith('ERR_BPF_ARGUMENT', /RINGBUF/));
  assert.throws(() => new RingBuffer(map, 3 as never), failsWith('ERR_BPF_ARGUMENT'));
  const options = { recordsPerTurnMax: 0 };
  assert.throws(() => new RingBuffer(map, ignore, options), failsWith('ERR_BPF_ARGUMENT'));
  assert.throws(() => new RingBuffer({} as BpfMap, ignore), failsWith('ERR_BPF_ARGUMENT'));
});
