/** Frames and the queue before them: order, priority, limits, and bytes that mean harm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CHANNELS, channelNumber, type Channel } from '../../../src/cluster/channels.ts';
import {
  chunk,
  CHUNK_BYTES_MAX,
  FrameDecoder,
  FrameError,
  HEADER_BYTES,
} from '../../../src/cluster/frame.ts';
import { Outbox } from '../../../src/cluster/outbox.ts';

interface Sent {
  readonly channel: number;
  readonly message: Uint8Array;
}

const PLENTY = { queueBytesMax: 2 ** 30, bulkBytesMax: 2 ** 30 };

const sent: fc.Arbitrary<Sent> = fc.record({
  channel: fc.integer({ min: 1, max: CHANNELS.length - 1 }),
  message: fc
    .tuple(fc.integer({ min: 1, max: 40_000 }), fc.nat({ max: 255 }))
    .map(([length, seed]) => Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff)),
});

function drain(outbox: Outbox, writeBytes: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let part = outbox.take(writeBytes); part !== undefined; part = outbox.take(writeBytes))
    parts.push(part);
  return Buffer.concat(parts);
}

function decodeAll(stream: Uint8Array, cuts: readonly number[]): Sent[] {
  const decoder = new FrameDecoder();
  const received: Sent[] = [];
  let at = 0;
  for (const cut of [...cuts, stream.length]) {
    decoder.push(stream.subarray(at, at + cut), (channel, message) =>
      received.push({ channel, message }),
    );
    at += cut;
    if (at >= stream.length) break;
  }
  return received;
}

const onChannel = (list: readonly Sent[], channel: number): string[] =>
  list
    .filter((one) => one.channel === channel)
    .map(({ message }) => Buffer.from(message).toString('base64'));

test('what is queued comes out of the stream whole and in order on each channel, however it is cut', () => {
  fc.assert(
    fc.property(
      fc.array(sent, { maxLength: 8 }),
      fc.integer({ min: 1, max: 100_000 }),
      fc.array(fc.integer({ min: 1, max: 20_000 }), { maxLength: 30 }),
      (list, writeBytes, cuts) => {
        const outbox = new Outbox(PLENTY);
        for (const { channel, message } of list)
          assert.equal(outbox.push(channel, message), 'queued');
        const received = decodeAll(drain(outbox, writeBytes), cuts);
        assert.ok(outbox.isEmpty);
        assert.equal(outbox.bytes, 0);
        for (let channel = 1; channel < CHANNELS.length; channel++) {
          assert.deepEqual(onChannel(received, channel), onChannel(list, channel));
        }
      },
    ),
  );
});

test('failure news overtakes a large payload that is already under way', () => {
  const outbox = new Outbox(PLENTY);
  const bulk = channelNumber('state-bulk');
  const urgent = channelNumber('overlay-urgent');
  outbox.push(bulk, new Uint8Array(1_000_000));
  outbox.take(1);
  outbox.push(urgent, Uint8Array.of(1, 2, 3));
  assert.deepEqual(outbox.take(1), Uint8Array.of(urgent, 0, 0, 3, 1, 2, 3));
});

test('two bulk channels take turns, chunk by chunk', () => {
  const outbox = new Outbox(PLENTY);
  const [a, b] = [channelNumber('overlay-bulk'), channelNumber('state-bulk')];
  outbox.push(a, new Uint8Array(3 * CHUNK_BYTES_MAX));
  outbox.push(b, new Uint8Array(3 * CHUNK_BYTES_MAX));
  const order = Array.from({ length: 6 }, () => (outbox.take(1)?.[0] ?? 0) & 0x7f);
  assert.deepEqual(order, [a, b, a, b, a, b]);
});

test('bulk beyond its limit is refused, anything beyond the whole limit is an overflow', () => {
  const outbox = new Outbox({ queueBytesMax: 3000, bulkBytesMax: 1500 });
  const push = (channel: Channel): string =>
    outbox.push(channelNumber(channel), new Uint8Array(1000));
  assert.equal(push('overlay-bulk'), 'queued');
  assert.equal(push('state-bulk'), 'refused');
  assert.equal(push('overlay'), 'queued');
  assert.equal(push('overlay'), 'overflow');
  assert.equal(outbox.messages, 2);
});

test('many small messages count for more than their bytes', () => {
  const outbox = new Outbox({ queueBytesMax: 6500, bulkBytesMax: 6500 });
  let taken = 0;
  while (outbox.push(channelNumber('state'), new Uint8Array(1)) === 'queued') taken += 1;
  assert.equal(taken, 100);
});

test('random bytes never throw anything but FrameError, and never keep more than a small multiple', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (pieces) => {
      const decoder = new FrameDecoder();
      let bytes = 0;
      try {
        for (const piece of pieces) decoder.push(piece, (_, message) => (bytes += message.length));
      } catch (error) {
        assert.ok(error instanceof FrameError, String(error));
      }
      assert.ok(bytes <= pieces.reduce((sum, piece) => sum + piece.length, 0));
    }),
    { numRuns: 3000 },
  );
});

function refused(...head: readonly number[]): string {
  try {
    new FrameDecoder().push(Uint8Array.from(head), () => undefined);
  } catch (error) {
    assert.ok(error instanceof FrameError);
    return error.message;
  }
  return 'taken';
}

test('a frame is refused by its head, before its body is waited for', () => {
  assert.equal(refused(9, 0, 0, 1), 'no channel 9');
  assert.equal(refused(1, 0, 0, 0), 'an empty chunk');
  assert.equal(refused(1, 0x40, 0, 0), 'a chunk of 4194304 bytes, at most 16380 are allowed');
  assert.equal(refused(1, 0, 0, 1), 'taken');
});

test('a message that goes on and on is refused at the limit of its channel', () => {
  const decoder = new FrameDecoder();
  const max = CHANNELS[0].messageBytesMax;
  const part = new Uint8Array(HEADER_BYTES + 1000);
  part.set([0x80, 0, 1000 >> 8, 1000 & 0xff]);
  for (let total = 1000; total <= max; total += 1000)
    decoder.push(part, () => assert.fail('not whole'));
  assert.throws(() => decoder.push(part, () => undefined), /a message above 4096 bytes on control/);
});

test('before the greeting only the control channel is open', () => {
  const decoder = new FrameDecoder();
  decoder.channelsOpen = 1;
  assert.throws(
    () => decoder.push(chunk(1, Uint8Array.of(1), 0), () => undefined),
    /overlay-urgent before the greeting/,
  );
});
