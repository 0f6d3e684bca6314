import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encode } from '../../src/hyparview-ts/codec.ts';
import { message as any } from '../unit/hyparview/arbitrary.ts';
import { sizeOf } from './measure.ts';

test('the bytes that are counted for a message are those it has on the wire', () => {
  fc.assert(
    fc.property(any, (message) => {
      assert.equal(sizeOf(message), encode(message).length);
    }),
    { numRuns: 2000 },
  );
});
