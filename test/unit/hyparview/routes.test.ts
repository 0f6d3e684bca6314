import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LinkStates } from '../../../src/hyparview-ts/linkstate.ts';
import type { LinkState } from '../../../src/hyparview-ts/linkstate.ts';
import { Names } from '../../../src/hyparview-ts/names.ts';
import { Routes, UNREACHABLE } from '../../../src/hyparview-ts/routes.ts';
import type { Change } from '../../../src/hyparview-ts/routes.ts';

const NODES = 9;
const name = (n: number): string => `n${n}`;

/** Breadth-first search from node 0 over links that both ends name: the naive truth. */
function naive(neighbours: ReadonlyMap<number, readonly number[]>): number[] {
  const distance: number[] = Array.from({ length: NODES }, () => UNREACHABLE);
  distance[0] = 0;
  let front = [0];
  for (let d = 1; front.length > 0; d++) {
    const next: number[] = [];
    for (const node of front) {
      for (const other of neighbours.get(node) ?? []) {
        if (!neighbours.get(other)?.includes(node) || distance[other] !== UNREACHABLE) continue;
        distance[other] = d;
        next.push(other);
      }
    }
    front = next;
  }
  return distance;
}

class Subject {
  readonly names = new Names();
  readonly states = new LinkStates(this.names, 100);
  readonly routes: Routes;
  readonly truth = new Map<number, readonly number[]>();
  #sequence = 0;

  constructor(anewChanges?: number) {
    for (let n = 0; n < NODES; n++) this.names.number(name(n)); // so that a node's number is its name
    this.routes = new Routes(this.states, 0, anewChanges);
  }

  put(node: number, neighbours: readonly number[]): Change {
    const state: LinkState = {
      origin: { id: name(node), address: '', zone: '' },
      incarnation: 1,
      sequence: ++this.#sequence,
      left: false,
      neighbours: neighbours.map(name),
    };
    const stored = this.states.put(state);
    assert.ok(stored);
    this.truth.set(node, neighbours);
    return { index: node, old: stored.old, record: stored.record };
  }

  remove(node: number): Change | undefined {
    const record = this.states.at(node);
    this.truth.delete(node);
    if (record === undefined) return undefined;
    this.states.delete(record);
    return { index: node, old: record, record: undefined };
  }

  check(): void {
    const truth = naive(this.truth);
    for (let node = 0; node < NODES; node++) {
      assert.equal(this.routes.distance(node), truth[node], `distance of ${node}`);
      const path = this.routes.path(node);
      if (truth[node] === UNREACHABLE || node === 0) continue;
      assert.equal(path.length, truth[node]);
      assert.equal(path.at(-1), node);
      let before = 0;
      for (const step of path) {
        assert.ok(this.truth.get(before)?.includes(step) && this.truth.get(step)?.includes(before));
        before = step;
      }
    }
  }
}

const node = fc.nat({ max: NODES - 1 });
const change = fc.record({
  node,
  neighbours: fc.option(fc.uniqueArray(node, { maxLength: 5 }), { freq: 8 }),
});

function checkPaths(anewChanges: number): void {
  const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 4 }), { maxLength: 30 });
  fc.assert(
    fc.property(batches, (all) => {
      const subject = new Subject(anewChanges);
      for (const batch of all) {
        const before = naive(subject.truth);
        const changes = new Map<number, Change>();
        for (const { node: at, neighbours } of batch) {
          const own = neighbours?.filter((other) => other !== at);
          const made =
            own === undefined || own === null ? subject.remove(at) : subject.put(at, own);
          if (made === undefined) continue;
          const first = changes.get(at) ?? made;
          changes.set(at, { index: at, old: first.old, record: made.record });
        }
        subject.routes.update([...changes.values()]);
        subject.check();
        const changed = subject.routes.takeChanged();
        const after = naive(subject.truth);
        for (let n = 1; n < NODES; n++) {
          const flipped = (before[n] === UNREACHABLE) !== (after[n] === UNREACHABLE);
          if (flipped) assert.ok(changed.has(n), `${n} came or went unnoticed`);
        }
      }
    }),
    { numRuns: 2000 },
  );
}

test('paths after any changes are those of a breadth-first search from scratch', () => {
  checkPaths(Infinity);
});

test('paths after few changes and after many, which are computed anew, agree with that search', () => {
  checkPaths(3);
});

test('equal databases have equal digests and unequal ones do not, in whatever order they were filled', () => {
  const entry = fc.record({ node, sequence: fc.integer({ min: 1, max: 5 }) });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), fc.nat(), (entries, turn) => {
      const fill = (order: typeof entries): LinkStates => {
        const states = new LinkStates(new Names(), 100);
        for (const { node: at, sequence } of order) {
          const origin = { id: name(at), address: '', zone: '' };
          states.put({ origin, incarnation: 1, sequence, left: false, neighbours: [] });
        }
        return states;
      };
      const a = fill(entries);
      const b = fill(entries.toReversed().slice(turn % 2));
      const versions = (s: LinkStates): string =>
        [...s.all()]
          .map(({ state }) => `${state.origin.id} ${state.sequence}`)
          .sort()
          .join();
      assert.equal(a.digest === b.digest, versions(a) === versions(b));
    }),
  );
});

test('a full database refuses new nodes and still takes news of the old ones', () => {
  const states = new LinkStates(new Names(), 1);
  const of = (id: string, sequence: number): LinkState => {
    const origin = { id, address: '', zone: '' };
    return { origin, incarnation: 1, sequence, left: false, neighbours: [] };
  };
  assert.ok(states.put(of('a', 1)));
  assert.equal(states.put(of('b', 1)), undefined);
  assert.ok(states.put(of('a', 2)));
  assert.equal(states.put(of('a', 2)), undefined);
});

test('names that no record mentions any more are forgotten', () => {
  const names = new Names();
  const states = new LinkStates(names, 10);
  const origin = { id: 'a', address: '', zone: '' };
  states.put({ origin, incarnation: 1, sequence: 1, left: false, neighbours: ['b', 'c'] });
  states.put({ origin, incarnation: 1, sequence: 2, left: false, neighbours: ['c'] });
  const self = names.number('self');
  states.sweep(self);
  assert.deepEqual([names.find('b'), names.find('self'), names.size], [undefined, self, 3]);
});
