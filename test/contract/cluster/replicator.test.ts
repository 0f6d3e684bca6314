/** What runs replication: one input after the other, one timer, and neighbours that are linked and connected. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ephemeral } from '../../../src/cluster/ephemeral.ts';
import { Replicator } from '../../../src/cluster/io/replicator.ts';
import {
  decodeReplication,
  encodeReplication,
  WireError,
} from '../../../src/cluster/replication-wire.ts';
import { Replication } from '../../../src/cluster/replication.ts';
import { sfc32 } from '../../../src/hyparview-ts/random.ts';
import { Replica, type Write } from '../../../src/state/replica/replica.ts';
import { StillClock } from './still-clock.ts';

class One {
  readonly clock = new StillClock();
  readonly replica = Replica.open({ node: 'a', writer: 1 });
  readonly done: string[] = [];
  /** Called while the first output of a kind is done. */
  readonly during = new Map<string, () => void>();
  readonly replicator: Replicator;

  constructor() {
    const replication = new Replication({
      replica: this.replica,
      ephemeral: new Ephemeral('a', 1),
      random: sfc32(1),
      config: { compareMs: 1e9 },
    });
    this.replicator = new Replicator(replication, this.clock, {
      store: () => this.#note('store'),
      broadcast: () => this.#note('broadcast'),
      send: (to, _channel, bytes) => this.#note(`${decodeReplication(bytes)?.type} ${to}`),
      changed: (changed) => this.#note(`changed ${changed.map(({ key }) => key).join()}`),
      facts: () => this.#note('facts'),
      notice: ({ type }, from) => this.#note(`${type} ${from}`),
    });
  }

  #note(what: string): void {
    this.done.push(what);
    const run = this.during.get(what);
    this.during.delete(what);
    run?.();
  }

  write(key: string): void {
    const writes: Write[] = [{ document: 'shared', key, value: '1' }];
    this.replicator.give({ type: 'local', ...this.replica.transact(writes, this.clock.wallMs()) });
  }

  take(): string[] {
    return this.done.splice(0);
  }
}

test('an input that comes while outputs are done waits until all of them are', () => {
  const one = new One();
  one.during.set('store', () => one.write('second'));
  one.write('first');
  assert.deepEqual(one.take(), ['store', 'changed first', 'broadcast', 'store', 'changed second']);
});

test('there is one timer, and it runs at its time', () => {
  const one = new One();
  one.write('a');
  one.write('b');
  one.take();
  assert.equal(one.clock.timers.size, 1);
  one.clock.go(9);
  assert.deepEqual(one.take(), []);
  one.clock.go(1);
  assert.deepEqual(one.take(), ['broadcast']);
  assert.equal(one.clock.timers.size, 1, 'the next comparison');
});

test('a neighbour counts from when it is linked and connected until it is not both', () => {
  const one = new One();
  one.replicator.connected('b', true);
  one.replicator.linked('c', true);
  assert.deepEqual(one.take(), []);
  one.replicator.linked('b', true);
  assert.deepEqual(one.take(), ['summary b']);
  one.replicator.linked('b', true);
  one.replicator.connected('c', true);
  assert.deepEqual(one.take(), ['summary c']);
  assert.deepEqual([...one.replicator.lag().keys()], ['b', 'c']);
  one.replicator.connected('b', false);
  one.replicator.linked('c', false);
  assert.deepEqual([...one.replicator.lag().keys()], []);
  one.replicator.connected('b', true);
  assert.deepEqual(one.take(), ['summary b'], 'it is greeted again');
});

test('bytes of a peer that are no message throw, and later messages do not', () => {
  const one = new One();
  one.replicator.linked('b', true);
  one.replicator.connected('b', true);
  one.take();
  assert.throws(() => one.replicator.message('b', Uint8Array.of(9, 9)), WireError);
  assert.deepEqual(one.take(), ['garbage b']);
  one.replicator.message('b', encodeReplication({ type: 'got', bytes: 1 }));
  assert.deepEqual(one.take(), []);
  one.replicator.give({ type: 'broadcast', origin: 'z', bytes: Uint8Array.of(9) });
  one.replicator.message('b', encodeReplication({ type: 'got', bytes: 1 }));
  assert.deepEqual(
    one.take(),
    ['garbage z'],
    "another's broadcast is not the fault of who brought it",
  );
});

test('after stop nothing is done, and no timer is left', () => {
  const one = new One();
  one.write('a');
  one.write('b');
  one.take();
  one.replicator.stop();
  assert.equal(one.clock.timers.size, 0);
  one.write('c');
  one.clock.go(1e6);
  assert.deepEqual(one.take(), []);
});
