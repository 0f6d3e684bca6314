// Arbitrary messages for property tests: everything the wire allows.
import fc from 'fast-check';
import type { Arbitrary } from 'fast-check';
import { LIMITS } from '../../../src/hyparview-ts/index.ts';
import type { Message, Peer } from '../../../src/hyparview-ts/index.ts';

const char = fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code));
const text = (minLength: number, maxLength: number): Arbitrary<string> =>
  fc.string({ unit: char, minLength, maxLength });

/** fast-check's own makes objects without a prototype now and then; a decoder never does. */
function record<T>(model: { [K in keyof T]: Arbitrary<T[K]> }): Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

const type = <T extends string>(name: T): Arbitrary<T> => fc.constant(name);

export const id = text(1, 64);
export const peer = peerOf(id);
export const message = messages(id, fc.integer({ min: 0, max: LIMITS.incarnation }));

function peerOf(ids: Arbitrary<string>): Arbitrary<Peer> {
  return record({ id: ids, address: text(0, 255), zone: text(0, 32) });
}

/** Messages about nodes with these ids, with these incarnations and sequences. */
export function messages(id: Arbitrary<string>, count: Arbitrary<number>): Arbitrary<Message> {
  const peer = peerOf(id);
  const peers = fc.array(peer, { maxLength: 8 });
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  const hop = fc.integer({ min: 0, max: 65_535 });
  const ttl = fc.integer({ min: 0, max: 64 });
  const broadcastId = text(1, 96);
  const bool = fc.boolean();
  const version = record({ id, incarnation: count, sequence: count });
  const bucket = fc.integer({ min: 0, max: 63 });

  const state = record({
    origin: peer,
    incarnation: count,
    sequence: count,
    left: bool,
    neighbours: fc.array(id, { maxLength: 32 }),
  });

  return fc.oneof(
    record({ type: type('join') }),
    record({ type: type('forward-join'), peer, ttl }),
    record({ type: type('neighbor'), high: bool }),
    record({ type: type('neighbor-reply'), accepted: bool, peers }),
    record({ type: type('disconnect'), leaving: bool }),
    record({ type: type('shuffle'), origin: peer, ttl, peers }),
    record({ type: type('shuffle-reply'), peers }),
    record({ type: type('optimise'), old: peer }),
    record({ type: type('optimise-replace'), initiator: peer, old: peer }),
    record({ type: type('optimise-switch'), initiator: peer, candidate: peer }),
    record({
      type: type('optimise-reply'),
      stage: fc.constantFrom('switch', 'replace', 'optimise'),
      accepted: bool,
      initiator: peer,
      old: peer,
    }),
    record({
      type: type('gossip'),
      id: broadcastId,
      hop,
      priority: fc.constantFrom('urgent', 'normal', 'bulk'),
      payload: fc.uint8Array({ maxLength: 64 }),
    }),
    record({
      type: type('ihave'),
      announcements: fc.array(record({ id: broadcastId, hop }), { maxLength: 20 }),
    }),
    record({ type: type('graft'), id: text(0, 96), hop }),
    record({ type: type('prune'), states: bool }),
    record({ type: type('ping'), nonce: word, measure: bool, digest: word }),
    record({ type: type('pong'), nonce: word, incarnation: count, digest: word }),
    record({ type: type('suspect'), target: id, incarnation: count }),
    record({ type: type('vouch'), target: id, alive: bool, incarnation: count }),
    record({
      type: type('states'),
      purpose: fc.constantFrom('urgent', 'tree', 'sync'),
      states: fc.array(state, { maxLength: 5 }),
    }),
    record({ type: type('sync'), buckets: fc.array(word, { maxLength: 64 }) }),
    record({
      type: type('versions'),
      buckets: fc.array(bucket, { maxLength: 64 }),
      versions: fc.array(version, { maxLength: 10 }),
    }),
    record({ type: type('want'), graft: bool, ids: fc.array(id, { maxLength: 10 }) }),
  );
}
