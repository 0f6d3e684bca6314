/** What is remembered from run to run: when it is written, and what is made of it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeSecret } from '../../../src/cluster/io/files.ts';
import { Memory, type Memories } from '../../../src/cluster/io/memory.ts';
import { LIMITS } from '../../../src/hyparview-ts/index.ts';
import { StillClock } from './still-clock.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-memory-'));
after(() => rmSync(root, { recursive: true, force: true }));

let directories = 0;

class Run {
  readonly clock: StillClock;
  readonly warnings: string[] = [];
  readonly directory: string;
  readonly memory: Memory;

  constructor(directory = mkdtempSync(join(root, `${directories++}-`)), cluster = 'c1', nowMs = 0) {
    this.clock = new StillClock();
    this.clock.nowMs = nowMs;
    this.directory = directory;
    this.memory = new Memory(directory, cluster, this.clock, {
      debug: () => undefined,
      info: () => undefined,
      warn: (_, message) => this.warnings.push(message),
    });
  }

  get path(): string {
    return join(this.directory, 'cluster', 'overlay.json');
  }

  /** What the next run finds. */
  next(cluster?: string): Run {
    return new Run(this.directory, cluster, this.clock.nowMs);
  }
}

const peer = (id: string) => ({ id, address: '10.0.0.1:7946', zone: '' });
const dead = (id: string) => ({ id, standing: 'dead' as const, sinceMs: 5 });
const none: Memories = { known: [], absent: [] };

test('a life begins higher than the one before and than the seconds of the clock', () => {
  const first = new Run();
  assert.equal(first.memory.begin(), 1000, 'the clock stands at 1,000 s');
  const second = first.next();
  assert.equal(second.memory.begin(), 1001);
  second.memory.save(none, 5000, true);
  assert.equal(second.next().memory.begin(), 5001, 'it was raised in that life');
});

test('at the end of all numbers it stays there', () => {
  const run = new Run();
  run.memory.begin();
  run.memory.save(none, LIMITS.incarnation, true);
  assert.equal(run.next().memory.begin(), LIMITS.incarnation);
});

test('who is gone is written within five seconds, who is known within a minute, the last word at once', () => {
  const run = new Run();
  const incarnation = run.memory.begin();
  const found = (): Memories => run.next().memory.found;
  run.memory.save({ known: [], absent: [dead('a')] }, incarnation, false);
  assert.deepEqual(found().absent, [], 'it was written just now');
  run.clock.go(5000);
  run.memory.save({ known: [peer('k')], absent: [dead('a')] }, incarnation, false);
  assert.deepEqual([found().absent, found().known], [[dead('a')], [peer('k')]]);
  const before = readFileSync(run.path);
  run.clock.go(59_999);
  run.memory.save({ known: [peer('l')], absent: [dead('a')] }, incarnation, false);
  assert.deepEqual(readFileSync(run.path), before);
  run.clock.go(1);
  run.memory.save({ known: [peer('l')], absent: [dead('a')] }, incarnation, false);
  assert.deepEqual(found().known, [peer('l')]);
  run.memory.save({ known: [peer('m')], absent: [] }, incarnation, true);
  assert.deepEqual([found().absent, found().known], [[], [peer('m')]]);
});

test('of another cluster only the number of lives goes on', () => {
  const run = new Run();
  run.memory.begin();
  run.memory.save({ known: [peer('k')], absent: [dead('a')] }, 7000, true);
  const other = run.next('c2');
  assert.deepEqual([other.memory.found.known, other.memory.found.absent], [[], []]);
  assert.equal(other.memory.begin(), 7001);
});

test('what no zerohop wrote is begun afresh, and told of', () => {
  for (const text of [
    '',
    '[]',
    'null',
    '{"version":2,"cluster":"c1","incarnation":9,"known":[],"absent":[]}',
    '{"version":1,"cluster":"c1","incarnation":-9,"known":[],"absent":[]}',
    '{"version":1,"cluster":"c1","incarnation":9,"known":[{"id":"a"}],"absent":[]}',
    '{"version":1,"cluster":"c1","incarnation":9,"known":[],"absent":[{"id":"a","standing":"alive","sinceMs":1}]}',
    '{"version":1,"cluster":"c1","incarnation":9,"known":7,"absent":[]}',
  ]) {
    const run = new Run();
    writeSecret(run.path, text);
    const next = run.next();
    assert.deepEqual(next.memory.found.known, [], text);
    assert.equal(next.warnings.length, 1, text);
    assert.equal(next.memory.begin(), 1000, text);
  }
});

test('of a cluster that was left nothing is remembered', () => {
  const run = new Run();
  run.memory.begin();
  run.memory.forget();
  assert.throws(() => readFileSync(run.path), /ENOENT/);
});
