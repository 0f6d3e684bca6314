/** The forwarder around a machine that throws: what it sets in motion, and that it ends. No socket is opened. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Asked } from '../../../src/dns/forward/types.ts';
import { Forwarder } from '../../../src/dns/io/upstreams.ts';
import { queryFor, settingsOf, UDP } from '../../harness/forward-world.ts';

const TIMEOUT_MS = 1000;

interface Timer {
  readonly atMs: number;
  readonly run: () => void;
}

/** Each new question hits the bug. */
class Broken {
  readonly timers = new Set<Timer>();
  readonly forwarder: Forwarder;
  #nowMs = 0;

  constructor() {
    const clock = {
      now: () => this.#nowMs,
      after: (ms: number, run: () => void) => {
        const timer = { atMs: this.#nowMs + ms, run };
        this.timers.add(timer);
        return () => void this.timers.delete(timer);
      },
    };
    const next = (): number => {
      throw new Error('as a bug would');
    };
    const log = { warn: () => undefined, error: () => undefined };
    const settings = settingsOf(['192.0.2.1:53'], { timeoutMs: TIMEOUT_MS });
    this.forwarder = new Forwarder(settings, log, { clock, random: { next } });
  }

  ask(name: string): Promise<Asked> {
    return this.forwarder.ask(queryFor(name), UDP);
  }

  /** The times of the timers that are set. */
  get times(): number[] {
    return [...this.timers].map(({ atMs }) => atMs).toSorted((x, y) => x - y);
  }

  advance(toMs: number): void {
    for (;;) {
      const [next] = [...this.timers].toSorted((x, y) => x.atMs - y.atMs);
      if (next === undefined || next.atMs > toMs) break;
      this.#nowMs = next.atMs;
      this.timers.delete(next);
      next.run();
    }
    this.#nowMs = toMs;
  }
}

test('however often it throws, one timer looks again and one gives up; close() leaves none', async () => {
  const world = new Broken();
  for (let i = 0; i < 5; i++) {
    const { rcode, from } = await world.ask(`n${i}.example`);
    assert.deepEqual([rcode, from], [2, 'failure']);
  }
  assert.deepEqual(world.times, [100, TIMEOUT_MS]);
  world.forwarder.close();
  assert.deepEqual(world.times, []);
});

test('who asked after a bug and before another is given up one round later, and then nothing is set', async () => {
  const world = new Broken();
  await world.ask('one.example');
  world.advance(TIMEOUT_MS / 2);
  await world.ask('two.example');
  // The bug of 'one' is over. That of 'two' has its turn.
  world.advance(TIMEOUT_MS);
  assert.ok(world.times.includes(2 * TIMEOUT_MS), world.times.join());
  world.advance(2 * TIMEOUT_MS);
  assert.ok(!world.times.includes(3 * TIMEOUT_MS), world.times.join());
  world.forwarder.close();
  assert.deepEqual(world.times, []);
});
