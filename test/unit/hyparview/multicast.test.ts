import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LinkStates } from '../../../src/hyparview-ts/linkstate.ts';
import { Multicast } from '../../../src/hyparview-ts/multicast.ts';
import type { Output } from '../../../src/hyparview-ts/index.ts';
import { Names } from '../../../src/hyparview-ts/names.ts';
import { peer, sent, Subject } from './subject.ts';

const NODES = 10;
const node = fc.nat({ max: NODES - 1 });
const links = fc.array(fc.tuple(node, node), { maxLength: 30 });
const name = (n: number): string => `n${n}`;

test('what all nodes hand on, each by its own reckoning, is one shortest-path tree from the origin', () => {
  fc.assert(
    fc.property(links, node, fc.array(node), (pairs, origin, shuffled) => {
      const neighbours = Array.from({ length: NODES }, () => new Set<number>());
      for (const [a, b] of pairs) {
        if (a === b) continue;
        neighbours[a]?.add(b);
        neighbours[b]?.add(a);
      }
      // every node has heard of the others in an order of its own: its numbers are not theirs
      const childrenOf = (self: number): ReadonlySet<string> | undefined => {
        const names = new Names();
        for (const n of shuffled) names.number(name((n + self) % NODES));
        const states = new LinkStates(names, 100);
        for (let n = 0; n < NODES; n++) {
          const at = (n + self) % NODES;
          const ids = [...(neighbours[at] ?? [])].map(name);
          const peer = { id: name(at), address: '', zone: '' };
          states.put({ origin: peer, incarnation: 1, sequence: 1, left: false, neighbours: ids });
        }
        return new Multicast(name(self), states, names, 100).children(name(origin), 0);
      };
      const depth = new Map([[name(origin), 0]]);
      let front = [origin];
      const truth = new Map([[origin, 0]]);
      for (let d = 1; front.length > 0; d++) {
        const next: number[] = [];
        for (const at of front) {
          for (const child of childrenOf(at) ?? []) {
            assert.ok(!depth.has(child), `${child} gets it twice`);
            depth.set(child, d);
          }
          for (const other of neighbours[at] ?? []) {
            if (truth.has(other)) continue;
            truth.set(other, d);
            next.push(other);
          }
        }
        front = next;
      }
      assert.deepEqual(depth.size, truth.size);
      for (const [at, d] of truth) assert.equal(depth.get(name(at)), d);
    }),
    { numRuns: 500 },
  );
});

test('with more nodes than the limit there is no tree', () => {
  const names = new Names();
  const states = new LinkStates(names, 10);
  const peer = { id: 'a', address: '', zone: '' };
  states.put({ origin: peer, incarnation: 1, sequence: 1, left: false, neighbours: [] });
  assert.deepEqual(new Multicast('a', states, names, 1).children('a', 0), new Set());
  assert.equal(new Multicast('a', states, names, 0).children('a', 0), undefined);
});

/** A ring of so many nodes, as the second sees it; a function that takes its link to the third away. */
function ring(nodes: number): { tree: Multicast; cut: () => void } {
  const names = new Names();
  const states = new LinkStates(names, nodes);
  const say = (n: number, sequence: number, others: readonly number[]): void => {
    const origin = { id: name(n), address: '', zone: '' };
    const neighbours = others.map((other) => name((other + nodes) % nodes));
    states.put({ origin, incarnation: 1, sequence, left: false, neighbours });
  };
  for (let n = 0; n < nodes; n++) say(n, 1, [n - 1, n + 1]);
  const cut = (): void => {
    say(1, 2, [0]);
    say(2, 2, [3]);
  };
  return { tree: new Multicast(name(1), states, names, nodes), cut };
}

test('up to 1,000 nodes a tree is made anew as soon as a link has changed', () => {
  const { tree, cut } = ring(1000);
  assert.deepEqual(tree.children(name(0), 5000), new Set([name(2)]));
  cut();
  assert.deepEqual(tree.children(name(0), 5000), new Set());
});

test('above 1,000 nodes one tree is made in 2 µs times the nodes; meanwhile the old one serves, or none', () => {
  const { tree, cut } = ring(2000);
  assert.deepEqual(tree.children(name(0), 5000), new Set([name(2)]));
  cut();
  assert.deepEqual(tree.children(name(0), 5003.9), new Set([name(2)]));
  assert.equal(tree.children(name(1999), 5003.9), undefined);
  assert.deepEqual(tree.children(name(0), 5004), new Set());
  assert.equal(tree.children(name(1999), 5007.9), undefined);
  assert.deepEqual(tree.children(name(0), 5007.9), new Set(), 'no search: nothing has changed');
  assert.deepEqual(tree.children(name(1999), 5008), new Set());
});

test('a payload also goes along a link that the trees cannot know of yet, and no longer when both ends have named it', () => {
  const subject = new Subject({ publishMs: 10, publishPerNodeMs: 0, flushMs: 1 });
  const say = (id: string, sequence: number, ...neighbours: string[]): Output[] =>
    subject.receive('a', {
      type: 'states',
      purpose: 'sync',
      states: [{ origin: peer(id), incarnation: 1, sequence, left: false, neighbours }],
    });
  let last = 0;
  const payloadFrom = (origin: string): string[] => {
    last += 1;
    const id = `${origin} 1 ${last}`;
    const payload = Uint8Array.of(1);
    const message = { type: 'gossip', id, hop: 1, priority: 'normal', payload } as const;
    return sent(subject.receive('a', message), 'gossip').map(({ to }) => to);
  };
  subject.link('a', 'b');
  say('origin', 1, 'a', 'b');
  say('a', 1, 'origin', 'self');
  say('b', 1, 'origin', 'self');
  subject.run(100, 'a', 'b');
  assert.deepEqual(payloadFrom('origin'), [], 'b has it from the origin');
  subject.link('c');
  say('c', 1, 'b');
  assert.deepEqual(payloadFrom('origin'), ['c'], 'it may have lost b');
  subject.run(200, 'a', 'b', 'c');
  assert.deepEqual(payloadFrom('origin'), ['c'], 'it has not named this link');
  say('c', 2, 'b', 'self');
  say('b', 2, 'origin', 'self', 'c');
  assert.deepEqual(
    payloadFrom('origin'),
    [],
    'of the two that could hand it on, b has the lesser id',
  );
});
