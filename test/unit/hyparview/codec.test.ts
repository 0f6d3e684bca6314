import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  WireError,
  decode,
  decodePeer,
  encode,
  encodePeer,
} from '../../../src/hyparview-ts/codec.ts';
import { LIMITS } from '../../../src/hyparview-ts/index.ts';
import { message, peer } from './arbitrary.ts';

test('every message survives the wire', () => {
  fc.assert(
    fc.property(message, (m) => assert.deepEqual(decode(encode(m)), m)),
    { numRuns: 3000 },
  );
});

test('a peer survives the wire', () => {
  fc.assert(fc.property(peer, (p) => assert.deepEqual(decodePeer(encodePeer(p)), p)));
});

/** Decodes, and lets only the one error pass that decoding may throw. */
function decodesOrRefuses(bytes: Uint8Array): boolean {
  try {
    const decoded = decode(bytes);
    assert.deepEqual(
      encode(decoded),
      bytes,
      'a frame that decodes is the one encoding of its message',
    );
    return true;
  } catch (error) {
    assert.ok(error instanceof WireError, String(error));
    return false;
  }
}

test('random bytes are refused with a WireError or are a message exactly', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void decodesOrRefuses(bytes)),
    { numRuns: 20_000 },
  );
});

test('random bytes behind a right version and type are refused or are a message exactly', () => {
  const frame = fc.tuple(fc.integer({ min: 0, max: 30 }), fc.uint8Array({ maxLength: 80 }));
  fc.assert(
    fc.property(frame, ([type, body]) => void decodesOrRefuses(Uint8Array.of(1, type, ...body))),
    { numRuns: 20_000 },
  );
});

test('every truncated message is refused', () => {
  fc.assert(
    fc.property(message, (m) => {
      const bytes = encode(m);
      for (let length = 0; length < Math.min(bytes.length, 300); length++) {
        assert.equal(decodesOrRefuses(bytes.subarray(0, length)), false);
      }
    }),
    { numRuns: 300 },
  );
});

test('a message with a byte changed is refused or is another message exactly', () => {
  const change = fc.tuple(message, fc.nat(), fc.integer({ min: 1, max: 255 }));
  fc.assert(
    fc.property(change, ([m, at, by]) => {
      const bytes = encode(m);
      const place = at % bytes.length;
      bytes[place] = (bytes[place] ?? 0) ^ by;
      decodesOrRefuses(bytes);
    }),
    { numRuns: 5000 },
  );
});

test('a byte after the message is refused', () => {
  assert.throws(() => decode(Uint8Array.of(...encode({ type: 'join' }), 0)), /1 bytes too many/);
});

test('another version is refused', () => {
  assert.throws(() => decode(Uint8Array.of(2, 0)), /version 2, not 1/);
});

test('a list that claims more items than the frame has bytes is refused before it is built', () => {
  // want, no graft, 32,768 ids, and nothing behind
  assert.throws(() => decode(Uint8Array.of(1, 22, 0, 0x80, 0x80, 2)), /truncated/);
});

test('limits hold on both sides', () => {
  const long = { id: 'x'.repeat(LIMITS.idLength + 1), address: '', zone: '' };
  assert.throws(() => encode({ type: 'optimise', old: long }), /longer than 64/);
  const ids = Array.from({ length: LIMITS.peersPerMessage + 1 }, (_, i) => `n${i}`);
  const peers = ids.map((id) => ({ id, address: '', zone: '' }));
  assert.throws(() => encode({ type: 'shuffle-reply', peers }), /a list of 65, at most 64/);
  assert.throws(() => decode(new Uint8Array(LIMITS.frameBytes + 1)), /a frame of/);
});
