/** When a member looks for what is long ago: not with a clock that may be wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgingLook } from '../../../src/cluster/io/aging-look.ts';
import type { BrakedLog } from '../../../src/cluster/io/log.ts';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { Revocations } from '../../../src/cluster/revocation.ts';
import { Roll } from '../../../src/cluster/roll.ts';
import { Replica, type Write } from '../../../src/state/replica/replica.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const DEAD = 'aaaaaaaaaaaaaaaaaaaaaaaaaa';

test('a day after the start, and a day after the wall clock jumped', () => {
  const time = { nowMs: 0, aheadMs: 1000 * DAY_MS };
  const clock = {
    now: () => time.nowMs,
    wallMs: () => time.nowMs + time.aheadMs,
    after: () => () => undefined,
  };
  const replica = Replica.open({ node: 'me', writer: 1 });
  const liveness = new Liveness({ self: 'me', remembered: [] });
  liveness.known(DEAD, 0);
  liveness.heard(DEAD, 'dead', clock.wallMs());
  const roll = new Roll({ replica, liveness, revocations: new Revocations() });
  const aging = { iso: String, replica, liveness, roll };
  const keys: string[] = [];
  const write = (writes: readonly Write[]): void => {
    keys.push(...writes.map(({ key }) => key));
    replica.transact(writes, clock.wallMs());
  };
  const log = { write: () => assert.fail('nothing went wrong') } as unknown as BrakedLog;
  const look = new AgingLook(aging, clock, log, write);
  const until = (nowMs: number): void => {
    for (; time.nowMs < nowMs; time.nowMs += HOUR_MS / 2) look.look(() => 0);
  };
  until(DAY_MS);
  assert.deepEqual(keys, []);
  until(2 * DAY_MS);
  assert.deepEqual(keys, [`missed/${DEAD}`]);
  time.aheadMs += 50 * DAY_MS;
  until(2.9 * DAY_MS);
  assert.deepEqual(keys, [`missed/${DEAD}`], 'it is seen first whether the clock stays so');
  time.aheadMs -= 50 * DAY_MS;
  until(45 * DAY_MS);
  assert.deepEqual(keys, [`missed/${DEAD}`]);
  until(46 * DAY_MS);
  assert.deepEqual(keys.slice(0, 2), [`missed/${DEAD}`, `gone/${DEAD}`]);
});

test('where the first member cannot write, the next one does two hours later, and not where it can', () => {
  for (const isFull of [true, false]) {
    const time = { nowMs: 0 };
    const clock = { now: () => time.nowMs, wallMs: () => time.nowMs, after: () => () => undefined };
    const shared = Replica.open({ node: 'me', writer: 1 });
    const told: string[] = [];
    const log = { write: (_level: string, key: string) => void told.push(key) };
    const writers: string[] = [];
    const looks = ['first', 'second', 'third'].map((name, rank) => {
      const liveness = new Liveness({ self: 'me', remembered: [] });
      liveness.known(DEAD, 0);
      liveness.heard(DEAD, 'dead', 0);
      const roll = new Roll({ replica: shared, liveness, revocations: new Revocations() });
      const aging = { iso: String, replica: shared, liveness, roll };
      const look = new AgingLook(aging, clock, log as unknown as BrakedLog, (writes) => {
        if (isFull && rank === 0) throw new Error('ENOSPC');
        writers.push(`${name} ${(time.nowMs - DAY_MS) / HOUR_MS}`);
        shared.transact(writes, clock.wallMs());
      });
      return () => look.look(() => rank);
    });
    for (; time.nowMs <= 3 * DAY_MS; time.nowMs += HOUR_MS)
      for (const look of looks.toReversed()) look();
    assert.deepEqual(writers, [isFull ? 'second 2' : 'first 0']);
    assert.deepEqual(told, isFull ? ['aging', 'aging'] : []);
  }
});
