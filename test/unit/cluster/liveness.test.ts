/** Who is unreachable, from what the overlay says, what was remembered, and who only has a document. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Liveness, type Remembered } from '../../../src/cluster/liveness.ts';

function liveness(remembered: readonly Remembered[] = [], nodesMax = 100): Liveness {
  return new Liveness({ self: 'me', remembered, graceMs: 10_000, nodesMax });
}

const out = (one: Liveness): string[] => [...one.unreachable].sort();

test('who is dead or left is unreachable, who is seen again is not, and each change is told once', () => {
  const one = liveness();
  assert.equal(one.heard('a', 'alive', 1), false);
  assert.equal(one.heard('a', 'dead', 2), true);
  assert.equal(one.heard('a', 'dead', 3), false);
  assert.deepEqual([out(one), one.standing('a'), one.sinceMs('a')], [['a'], 'dead', 2]);
  assert.equal(one.heard('a', 'left', 4), false, 'unreachable before and after');
  assert.deepEqual([one.standing('a'), one.sinceMs('a')], ['left', 4]);
  assert.equal(one.heard('a', 'alive', 5), true);
  assert.deepEqual(out(one), []);
  assert.equal(one.standing('b'), 'unknown');
});

test('this node is never unreachable', () => {
  const one = liveness([{ id: 'me', standing: 'left', sinceMs: 1 }]);
  one.heard('me', 'dead', 1);
  one.known('me', 0);
  one.linked(0);
  one.expire(1e9);
  assert.deepEqual(out(one), []);
});

test('the set stays the same object until it changes, and one that was handed out does not change', () => {
  const one = liveness([{ id: 'a', standing: 'dead', sinceMs: 1 }]);
  const before = one.unreachable;
  one.heard('b', 'alive', 1);
  assert.equal(one.unreachable, before);
  one.heard('b', 'dead', 2);
  assert.notEqual(one.unreachable, before);
  assert.deepEqual([...before], ['a']);
});

test('who was gone in the run before stays unreachable, without a neighbour too, until it is seen', () => {
  const one = liveness([
    { id: 'a', standing: 'dead', sinceMs: 1 },
    { id: 'b', standing: 'left', sinceMs: 2 },
  ]);
  assert.deepEqual(out(one), ['a', 'b']);
  assert.equal(one.expire(1e9), false);
  one.heard('a', 'alive', 3);
  assert.deepEqual(out(one), ['b']);
});

test('who only has a document counts as reachable for ten seconds from the first neighbour on', () => {
  const one = liveness();
  one.known('a', 100);
  assert.equal(one.nextAtMs, Infinity);
  assert.deepEqual([...one.awaited(1e9)], []);
  assert.equal(one.expire(1e9), false, 'nobody is missed without a neighbour');
  one.linked(5000);
  one.linked(9000);
  assert.equal(one.nextAtMs, 15_000);
  assert.equal(one.expire(14_999), false);
  assert.deepEqual([...one.awaited(14_999)], [{ id: 'a', forMs: 9999 }]);
  one.known('late', 14_000);
  assert.equal(one.expire(15_000), true);
  assert.deepEqual(out(one), ['a']);
  assert.deepEqual([...one.awaited(15_000)], [{ id: 'late', forMs: 1000 }]);
  assert.equal(one.nextAtMs, 24_000);
  assert.equal(one.heard('late', 'alive', 1), false);
  assert.equal(one.nextAtMs, Infinity);
  assert.equal(one.heard('a', 'alive', 1), true);
  assert.deepEqual(out(one), []);
});

test('who is gone for good is not kept in mind', () => {
  const one = liveness([{ id: 'a', standing: 'dead', sinceMs: 1 }]);
  one.known('a', 0);
  assert.equal(one.forget('a'), true);
  assert.equal(one.forget('a'), false);
  assert.deepEqual([one.ids(), one.remembered(0, 0)], [[], []]);
});

test('only those with a document are remembered, and only they are kept beyond the limit', () => {
  const one = liveness([], 3);
  one.known('kept', 0);
  one.heard('kept', 'dead', 1);
  for (let i = 0; i < 10; i++) one.heard(`n${i}`, 'left', 2 + i);
  assert.deepEqual(one.remembered(0, 0), [{ id: 'kept', standing: 'dead', sinceMs: 1 }]);
  assert.deepEqual(out(one), ['kept', 'n8', 'n9']);
  for (let i = 0; i < 10; i++) one.heard(`n${i}`, 'alive', 20);
  assert.deepEqual(out(one), ['kept']);
});

test('whatever happened, unreachable are those that are out, and those that were silent for too long', () => {
  const step = fc.record({
    what: fc.constantFrom('alive', 'dead', 'left', 'known', 'linked', 'forget', 'expire'),
    id: fc.constantFrom('a', 'b', 'c'),
    afterMs: fc.nat(8000),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const one = liveness();
      const standing = new Map<string, string>();
      const since = new Map<string, number>();
      let linkedAtMs = Infinity;
      let nowMs = 0;
      for (const { what, id, afterMs } of steps) {
        nowMs += afterMs;
        const before = out(one);
        let told = true;
        if (what === 'expire') told = one.expire(nowMs);
        else if (what === 'linked') {
          one.linked(nowMs);
          linkedAtMs = Math.min(linkedAtMs, nowMs);
        } else if (what === 'known') {
          one.known(id, nowMs);
          if (!since.has(id)) since.set(id, nowMs);
        } else if (what === 'forget') {
          told = one.forget(id);
          standing.delete(id);
          since.delete(id);
        } else {
          told = one.heard(id, what, nowMs);
          standing.set(id, what);
        }
        if (what !== 'known' && what !== 'linked')
          assert.equal(told, before.join() !== out(one).join());
        one.expire(nowMs);
        const expected = ['a', 'b', 'c'].filter((node) => {
          const said = standing.get(node);
          const silentAtMs = Math.max(since.get(node) ?? Infinity, linkedAtMs);
          return said === undefined ? nowMs >= silentAtMs + 10_000 : said !== 'alive';
        });
        assert.deepEqual(out(one), expected);
        assert.ok(one.nextAtMs > nowMs);
      }
    }),
  );
});
