/** Messages of replication as bytes: there and back, and nothing but WireError on anything else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeReplication,
  encodeReplication,
  WireError,
  type ReplicationMessage,
} from '../../../src/cluster/replication-wire.ts';

const PLAIN = { noNullPrototype: true } as const;
const whole = fc.nat();
const word = fc.integer({ min: 0, max: 0xffffffff });
const blob = fc.uint8Array({ maxLength: 40 });
const document = fc.constantFrom('shared', 'node:a', 'node:b7e1');
const digest = fc.constantFrom('0.0.0000000000000000', '7.12.00ff00ff00ff00ff');
const epoch = fc.record({ number: whole, proposer: whole }, PLAIN);
const is = <T extends string>(type: T): fc.Arbitrary<T> => fc.constant(type);

const message: fc.Arbitrary<ReplicationMessage> = fc.oneof(
  fc.record(
    {
      type: is('updates'),
      updates: fc.array(fc.record({ document, epoch, whole: fc.boolean(), bytes: blob }, PLAIN)),
    },
    PLAIN,
  ),
  fc.record({ type: is('summary'), high: word, low: word }, PLAIN),
  fc.record(
    {
      type: is('digests'),
      digests: fc.array(fc.record({ document, digest }, PLAIN)),
      range: fc.option(fc.record({ after: document, upTo: document }, PLAIN), { nil: undefined }),
    },
    PLAIN,
  ),
  fc.record(
    {
      type: is('ask'),
      request: whole,
      vector: fc.record({ document, epoch, bytes: blob }, PLAIN),
    },
    PLAIN,
  ),
  fc.record(
    {
      type: is('part'),
      request: whole,
      document,
      epoch,
      whole: fc.boolean(),
      digest,
      total: fc.nat(1e6),
      offset: fc.nat(1e6),
      bytes: blob,
    },
    PLAIN,
  ),
  fc.record({ type: is('none'), request: whole }, PLAIN),
  fc.record({ type: is('got'), bytes: fc.nat(1e6) }, PLAIN),
  fc.record(
    {
      type: is('facts'),
      facts: fc.array(
        fc.record(
          {
            origin: fc.constantFrom('a', 'b'),
            incarnation: whole,
            sequence: whole,
            key: fc.constantFrom('health/x', 'load'),
            forMs: whole,
            value: fc.option(blob, { nil: undefined }),
          },
          PLAIN,
        ),
      ),
    },
    PLAIN,
  ),
);

test('every message survives the wire, and none of its beginnings is one', () => {
  fc.assert(
    fc.property(message, (one) => {
      const bytes = encodeReplication(one);
      assert.deepEqual(decodeReplication(bytes), one);
      for (let i = 0; i < bytes.length; i++)
        assert.throws(() => decodeReplication(bytes.subarray(0, i)), WireError);
      assert.throws(() => decodeReplication(Uint8Array.of(...bytes, 0)), WireError);
    }),
    { numRuns: 300 },
  );
});

test('decoding throws nothing but WireError, and what it takes is what encode makes', () => {
  const damaged = fc
    .tuple(message, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }))
    .map(([one, changes]) => {
      const bytes = encodeReplication(one);
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      return bytes;
    });
  fc.assert(
    fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 100 })), (bytes) => {
      try {
        const taken = decodeReplication(bytes);
        if (taken !== undefined) assert.deepEqual(encodeReplication(taken), bytes);
      } catch (error) {
        assert.ok(error instanceof WireError, String(error));
      }
    }),
    { numRuns: 3000 },
  );
});

test('another version is refused, a type that is not known left out', () => {
  assert.throws(() => decodeReplication(Uint8Array.of(2, 5, 1)), /version 2, not 1/);
  assert.equal(decodeReplication(Uint8Array.of(1, 99, 1, 2, 3)), undefined);
});
