import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DEFAULTS, LIMITS, Node, sfc32 } from '../../../src/hyparview-ts/index.ts';
import type {
  Config,
  Input,
  Message,
  Output,
  Peer,
  TimerKey,
} from '../../../src/hyparview-ts/index.ts';
import { message, peer } from './arbitrary.ts';

const SELF: Peer = { id: 'self', address: 'self:1', zone: 'z' };
const SMALL: Partial<Config> = {
  cacheMessagesMax: 8,
  cacheBytesMax: 200,
  seenMax: 16,
  statesMax: 12,
  passiveMax: 6,
};
const KEYS: TimerKey[] = ['shuffle', 'pending', 'repair', 'optimise', 'lazy', 'graft', 'evict'];
KEYS.push('detector', 'publish', 'flush', 'want', 'hold', 'routes', 'rejoin');

const known = fc.constantFrom<Peer>(
  { id: 'a', address: 'a:1', zone: 'z' },
  { id: 'b', address: 'b:1', zone: 'y' },
  { id: 'c', address: 'c:1', zone: 'z' },
  SELF,
);
const step = fc.record({
  afterMs: fc.nat({ max: 3000 }),
  input: fc.oneof(
    { weight: 8, arbitrary: fc.tuple(fc.constant('received'), known, message) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('received'), peer, message) },
    { weight: 3, arbitrary: fc.tuple(fc.constant('timer'), fc.constantFrom(...KEYS)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('unreachable'), known) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('broadcast'), fc.nat({ max: 300 })) },
  ),
});

function toInput([type, ...rest]: readonly unknown[]): Input {
  if (type === 'received') return { type, from: rest[0], message: rest[1] } as Input;
  if (type === 'timer') return { type, key: rest[0] } as Input;
  if (type === 'unreachable') return { type, peer: (rest[0] as Peer).id };
  return { type: 'broadcast', payload: new Uint8Array(rest[0] as number), priority: 'normal' };
}

function checkLimits(node: Node, outputs: readonly Output[]): void {
  const { sizes, active, passive } = node.snapshot();
  assert.ok(active.length <= node.config.activeMax);
  assert.ok(passive.length <= node.config.passiveMax);
  assert.ok(sizes.states <= node.config.statesMax);
  assert.ok(sizes.seen <= node.config.seenMax);
  assert.ok(sizes.cache <= node.config.cacheMessagesMax);
  assert.ok(sizes.cacheBytes <= node.config.cacheBytesMax || sizes.cache === 0);
  assert.ok(sizes.missing <= 8192);
  assert.ok(sizes.pending <= 32);
  assert.ok(!active.some(({ id }) => id === 'self'));
  for (const output of outputs) {
    if (output.type === 'send')
      assert.notEqual(output.to.id, 'self', 'a node sends nothing to itself');
  }
}

test('no sequence of messages, from whomever, makes a node throw or exceed a limit', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(), (steps, seed) => {
      const config = { ...DEFAULTS, ...SMALL };
      const node = new Node({ self: SELF, random: sfc32(seed), incarnation: 1, config });
      let now = 0;
      node.handle({ type: 'start', known: [] }, now);
      for (const { afterMs, input } of steps) {
        now += afterMs;
        checkLimits(node, node.handle(toInput(input), now));
      }
    }),
    { numRuns: 1500 },
  );
});

test('a flood of joins is turned away with other peers to try', () => {
  const node = new Node({ self: SELF, random: sfc32(1), incarnation: 1 });
  node.handle({ type: 'start', known: [] }, 0);
  let accepted = 0;
  let refusedWithPeers = 0;
  for (let i = 0; i < 5000; i++) {
    const from = { id: `j${i}`, address: 'x:1', zone: 'z' };
    for (const output of node.handle({ type: 'received', from, message: { type: 'join' } }, 1000)) {
      if (output.type !== 'send' || output.message.type !== 'neighbor-reply') continue;
      if (output.message.accepted) accepted += 1;
      else if (output.message.peers.length > 0) refusedWithPeers += 1;
    }
  }
  assert.deepEqual([accepted, refusedWithPeers], [DEFAULTS.joinsPerSecondMax, 4950]);
  assert.equal(node.views.active.size, DEFAULTS.activeMax);
});

test('a replayed broadcast is not delivered again, however long after', () => {
  const node = new Node({ self: SELF, random: sfc32(1), incarnation: 1 });
  const from = { id: 'a', address: 'a:1', zone: 'z' };
  const payload = Uint8Array.of(1);
  const gossip = { type: 'gossip', id: 'a 1 1', hop: 0, priority: 'normal', payload } as const;
  const delivered = (now: number): number => {
    node.handle({ type: 'received', from, message: { type: 'neighbor', high: true } }, now);
    const outputs = node.handle({ type: 'received', from, message: gossip }, now);
    return outputs.filter((o) => o.type === 'event' && o.event.type === 'delivered').length;
  };
  assert.equal(delivered(0), 1);
  assert.equal(delivered(10), 0);
  const later = 10 * DEFAULTS.seenMs;
  const other = { ...gossip, id: 'a 1 2' };
  node.handle({ type: 'received', from, message: other }, later);
  assert.equal(node.tree.sizes.seen, 1, 'the id itself is long forgotten');
  assert.equal(delivered(later), 0);
});

const bytes = (count: number): Uint8Array => new Uint8Array(count).fill(1);
const FORGERIES = { 'of a byte': bytes(1), 'larger than it takes': bytes(200) };
for (const [what, forgery] of Object.entries(FORGERIES))
  test(`nobody silences a node by a broadcast in its name with a number that it has not come to, ${what}`, () => {
    const config = { payloadBytesMax: 100 };
    const node = new Node({ self: SELF, random: sfc32(1), incarnation: 1, config });
    const other = new Node({ self: { ...SELF, id: 'o' }, random: sfc32(2), incarnation: 1 });
    const bad = { id: 'bad', address: 'bad:1', zone: 'z' };
    const payload = Uint8Array.of(1);
    const give = (to: Node, from: Peer, message: Message, now: number): Output[] =>
      to.handle({ type: 'received', from, message }, now);
    for (const to of [node, other]) give(to, bad, { type: 'neighbor', high: true }, 0);
    give(other, SELF, { type: 'neighbor', high: true }, 0);
    const idOf = (now: number): string => {
      const outputs = node.handle({ type: 'broadcast', payload, priority: 'normal' }, now);
      const [id] = outputs.flatMap((o) =>
        o.type === 'event' && o.event.type === 'delivered' ? [o.event.id] : [],
      );
      return id ?? '';
    };
    const isHeard = (id: string, now: number): boolean => {
      const gossip = { type: 'gossip', id, hop: 0, priority: 'normal', payload } as const;
      return give(other, SELF, gossip, now).some(
        (o) => o.type === 'event' && o.event.type === 'delivered',
      );
    };
    const first = idOf(0);
    assert.ok(isHeard(first, 0));
    const forged = `${first.slice(0, first.lastIndexOf(' '))} zzzzzz`;
    const gossip = {
      type: 'gossip',
      id: forged,
      hop: 0,
      priority: 'normal',
      payload: forgery,
    } as const;
    for (const to of [node, other]) give(to, bad, gossip, 1);
    const later = 2 * DEFAULTS.seenMs;
    give(other, bad, { ...gossip, id: 'bad 1 1' }, later); // what is seen is looked through
    assert.equal(other.tree.sizes.seen, 1, 'the forged id is forgotten');
    assert.ok(isHeard(idOf(later), later));
    assert.ok(isHeard(idOf(later), later));
  });

test('a payload that is too large is refused with its size, and one of the limit is not', () => {
  const node = new Node({ self: SELF, random: sfc32(1), incarnation: 1 });
  const send = (bytes: number): Output[] =>
    node.handle({ type: 'broadcast', payload: new Uint8Array(bytes), priority: 'bulk' }, 0);
  const max = DEFAULTS.payloadBytesMax;
  assert.deepEqual(send(max + 1), [
    {
      type: 'event',
      event: {
        type: 'refused',
        what: 'broadcast',
        why: `payload too large: ${max + 1} bytes, from 1 to ${max} are allowed`,
      },
    },
  ]);
  assert.equal(
    send(max).some((o) => o.type === 'event' && o.event.type === 'delivered'),
    true,
  );
  assert.ok(max < LIMITS.frameBytes);
});
