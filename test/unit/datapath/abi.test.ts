import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  bytesToKey,
  decodeBackend,
  decodeMeta,
  decodeName,
  decodePair,
  decodeService,
  decodeSlot,
  decodeU32,
  decodeVipKey,
  encodeBackend,
  encodeMeta,
  encodeName,
  encodeService,
  encodeSlot,
  encodeU32,
  encodeVipKey,
  keyToBytes,
  layouts,
} from '../../../src/datapath/abi.ts';

const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const addr = fc.uint8Array({ minLength: 16, maxLength: 16 });
/** Plain objects, as the decoders make them. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true });
const vipKey = record({ addr, port: u16, protocol: fc.nat(255) });

function roundTrips<T>(
  what: string,
  arbitrary: fc.Arbitrary<T>,
  bytes: number,
  encode: (value: T) => Uint8Array,
  decode: (bytes: Uint8Array) => T,
): void {
  test(`${what} reads back what was written, in ${bytes} bytes`, () => {
    fc.assert(
      fc.property(arbitrary, (value) => {
        const encoded = encode(value);
        assert.equal(encoded.length, bytes);
        assert.deepEqual(decode(encoded), value);
      }),
    );
  });
}

roundTrips('a VIP key', vipKey, layouts.vipKey.bytes, encodeVipKey, decodeVipKey);
roundTrips(
  'a service',
  record({ key: vipKey, members: u32, base: u32, count: u16, gen: u16 }),
  layouts.service.bytes,
  encodeService,
  decodeService,
);
roundTrips(
  'a slot',
  record({ backend: u32, alias: u32, threshold: u32, gen: u16, weight: u16 }),
  layouts.slot.bytes,
  encodeSlot,
  decodeSlot,
);
roundTrips(
  'a backend',
  record({ addr, port: u16, state: u16, service: u32, incarnation: u32 }),
  layouts.backend.bytes,
  encodeBackend,
  decodeBackend,
);
roundTrips(
  'a name',
  record({
    service: fc.stringMatching(/^[a-z][a-z0-9.-]{0,126}$/),
    port: fc.stringMatching(/^[a-z][a-z0-9-]{0,14}$/),
  }),
  layouts.name.bytes,
  encodeName,
  decodeName,
);
roundTrips(
  'the meta entry',
  record({ magic: u32, layout: u32, revision: fc.maxSafeNat() }),
  layouts.meta.bytes,
  encodeMeta,
  decodeMeta,
);
roundTrips('a u32', u32, 4, encodeU32, decodeU32);

test('bytes survive as map keys', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => assert.deepEqual(keyToBytes(bytesToKey(bytes)), bytes)),
  );
});

test('the key of 240.0.0.1:80/tcp has the bytes of the example in abi.h', () => {
  const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 240, 0, 0, 1);
  const bytes = encodeVipKey({ addr: mapped, port: 80, protocol: 6 });
  assert.equal(Buffer.from(bytes).toString('hex'), '00000000000000000000fffff000000100500600');
});

test('a socket pair is read with ports in network order', () => {
  const bytes = new Uint8Array(layouts.pair.bytes);
  bytes.set([0, 80, 0x1f, 0x90], 32);
  const pair = decodePair(bytes);
  assert.deepEqual([pair.vipPort, pair.port], [80, 8080]);
});
