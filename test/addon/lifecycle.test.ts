import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BpfMap, openObject, RingBuffer, VerifierError } from '../../addon/index.ts';
import { testSeed } from '../harness/random.ts';
import { Bench, runChild, u32, u64 } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** What one user does, all of it closed again. */
async function visit(cgroup: string): Promise<void> {
  using object = openObject(bench.object('kit'));
  using loaded = object.load();
  using map = loaded.map('hash');
  using events = loaded.map('events');
  using program = loaded.program('deny');
  using link = program.attachCgroup(cgroup);
  using again = BpfMap.openById(map.info.id);
  using ring = new RingBuffer(events, () => {});
  again.setBatch(u32(1, 2), u64(1, 2));
  assert.equal(map.dump().count + link.info.programId - program.info.id, 2);
  assert.equal(ring.closed, false);
  assert.throws(() => openObject(bench.object('rejected')).load(), VerifierError);
  await turn();
}

test('1,000 rounds of everything leave no descriptor and no memory map behind', async () => {
  const cgroup = bench.cgroup('leak');
  const maps = (): number =>
    execFileSync('cat', [`/proc/${process.pid}/maps`])
      .toString()
      .split('\n').length;
  for (let i = 0; i < 20; i++) await visit(cgroup);
  await turn();
  const before = { descriptors: descriptors(), maps: maps() };
  for (let i = 0; i < 1000; i++) await visit(cgroup);
  await turn();
  assert.equal(descriptors(), before.descriptors);
  assert.ok(maps() < before.maps + 100, `${before.maps} maps became ${maps()}`);
});

test('failing calls leave no descriptor behind', () => {
  using map = BpfMap.create({ name: 'm', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 1 });
  map.pin(bench.pin('leak'));
  using loaded = openObject(bench.object('kit')).load();
  using program = loaded.program('deny');
  const before = descriptors();
  for (let i = 0; i < 100; i++) {
    assert.throws(() => openObject(bench.object('rejected')).load());
    assert.throws(() => openObject(new Uint8Array(100)));
    assert.throws(() => program.attachCgroup('/tmp'));
    assert.throws(() => program.attachNetns('/proc/self/ns/net'));
    assert.throws(() => new RingBuffer(map, () => {}));
    assert.throws(() => map.unpin('/nonexistent'));
    assert.throws(() => program.unpin(bench.pin('leak')));
  }
  assert.equal(descriptors(), before);
});

test('a process that exits with everything open exits well, by end, exit() or exception', () => {
  for (const how of ['end', 'exit', 'throw']) {
    const child = runChild('children/leaves.ts', [bench.object('kit'), how]);
    assert.equal(child.signal, null);
    assert.equal(child.status, how === 'throw' ? 1 : 0, child.stderr);
  }
});

test('a handle that is collected unclosed is closed, with a warning', () => {
  const child = runChild('children/forgets.ts', [], ['--expose-gc']);
  assert.equal(child.status, 0, child.stderr);
  assert.match(child.stderr, /BpfResourceWarning: BpfMap forgotten was garbage collected without/);
  assert.doesNotMatch(child.stderr, /orderly/);
});

function worker(mode: string): Worker {
  const script = fileURLToPath(new URL('children/worker.ts', import.meta.url));
  return new Worker(script, { workerData: { object: bench.object('kit'), mode } });
}

async function finish(thread: Worker): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  thread.once('error', reject);
  thread.once('exit', () => resolve());
  await promise;
}

test('workers load objects, read rings and hear logs of their own side by side', async () => {
  const threads = Array.from({ length: 6 }, () => worker('orderly'));
  const heard = threads.map(async (thread) => {
    const answers: unknown[] = [];
    thread.on('message', (message) => answers.push(message));
    await finish(thread);
    return answers;
  });
  for (const answers of await Promise.all(heard)) {
    assert.deepEqual(answers, [{ records: 500, foreignLines: 0, verifier: true }]);
  }
});

test('workers that are terminated in the middle of everything take nothing with them', async () => {
  const before = descriptors();
  for (let round = 0; round < 12; round++) {
    const threads = Array.from({ length: 4 }, () => worker('endless'));
    await Promise.all(
      threads.map(async (thread, i) => {
        const end = finish(thread);
        const { promise, resolve } = Promise.withResolvers<void>();
        thread.once('message', () => setTimeout(resolve, (round * 7 + i * 13) % 50));
        await promise;
        await thread.terminate();
        await end;
      }),
    );
  }
  assert.ok(descriptors() <= before + 2, `${before} descriptors became ${descriptors()}`);
  openObject(bench.object('kit')).load().close();
});

test('20,000 random calls with wrong arguments, and as many on the native half, crash nothing', (t) => {
  const seed = String(testSeed(t));
  for (const surface of ['public', 'native']) {
    const args = [surface, seed, bench.object('kit'), bench.cgroup(surface), bench.pin(surface)];
    const child = runChild('children/fuzz.ts', args, ['--no-warnings']);
    assert.equal(child.signal, null, `ZEROHOP_TEST_SEED=${seed}: ${child.stderr.slice(-2000)}`);
    assert.equal(child.status, 0, `ZEROHOP_TEST_SEED=${seed}: ${child.stderr.slice(-2000)}`);
    t.diagnostic(`${surface}: ${child.stdout.trim()}`);
  }
});
