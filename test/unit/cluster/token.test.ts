/** Join tokens as words: there and back, and every mistake told for what it is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { base32, base32Length, fromBase32 } from '../../../src/cluster/base32.ts';
import { crc32 } from '../../../src/cluster/crc32.ts';
import {
  FINGERPRINT_BYTES,
  SECRET_BYTES,
  TOKEN_ID_BYTES,
  decodeToken,
  encodeToken,
} from '../../../src/cluster/token.ts';
import { ProblemError } from '../../../src/state/problem.ts';

const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });

const token = fc.record(
  {
    expiresAtS: fc.integer({ min: 0, max: 0xffffffff }),
    caFingerprint: bytes(FINGERPRINT_BYTES),
    issuer: bytes(16).map(base32),
    id: bytes(TOKEN_ID_BYTES),
    secret: bytes(SECRET_BYTES),
  },
  { noNullPrototype: true },
);

function refusal(word: string): string {
  try {
    decodeToken(word);
  } catch (error) {
    assert.ok(error instanceof ProblemError, String(error));
    assert.equal(error.problems[0]?.path, 'token');
    return error.message;
  }
  return 'taken';
}

test('base32 is RFC 4648 in lower case, without padding', () => {
  const vectors: readonly (readonly [string, string])[] = [
    ['', ''],
    ['f', 'my'],
    ['fo', 'mzxq'],
    ['foo', 'mzxw6'],
    ['foob', 'mzxw6yq'],
    ['fooba', 'mzxw6ytb'],
    ['foobar', 'mzxw6ytboi'],
  ];
  for (const [plain, encoded] of vectors) {
    assert.equal(base32(Buffer.from(plain)), encoded);
    assert.deepEqual(fromBase32(encoded), Uint8Array.from(Buffer.from(plain)));
  }
});

test('every text is the base32 of at most one sequence of bytes', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), (text) => {
      const decoded = fromBase32(text);
      if (decoded !== undefined) assert.equal(base32(decoded), text);
    }),
  );
  assert.equal(fromBase32('mz'), undefined); // bits that no byte set
  assert.equal(fromBase32('m'), undefined);
  assert.equal(fromBase32('m1'), undefined);
});

test('the checksum is the usual CRC-32', () => {
  assert.equal(crc32(Buffer.from('123456789')), 0xcbf43926);
});

test('every token survives being a word', () => {
  fc.assert(fc.property(token, (t) => assert.deepEqual(decodeToken(encodeToken(t)), t)));
});

test('a token is one word of letters, digits and one underscore, and capitals do not matter', () => {
  fc.assert(
    fc.property(token, (t) => {
      const word = encodeToken(t);
      assert.match(word, /^zh1_[a-z2-7]+$/);
      assert.equal(word.length, 4 + base32Length(80));
      assert.deepEqual(decodeToken(` ${word.toUpperCase()}\n`), t);
    }),
  );
});

test('a token with one character changed, lost, doubled or two exchanged is called mistyped', () => {
  const index = fc.nat({ max: 127 });
  const letter = fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz234567'.split(''));
  fc.assert(
    fc.property(
      token,
      index,
      letter,
      fc.constantFrom('set', 'cut', 'double', 'swap'),
      (t, i, l, how) => {
        const word = encodeToken(t);
        const at = 4 + i;
        const front = word.slice(0, at);
        const changed = {
          set: front + l + word.slice(at + 1),
          cut: front + word.slice(at + 1),
          double: front + word.slice(at, at + 1) + word.slice(at),
          swap: front + word.slice(at + 1, at + 2) + word.slice(at, at + 1) + word.slice(at + 2),
        }[how];
        if (changed === word) return;
        assert.match(refusal(changed), /^the join token is mistyped: /);
      },
    ),
    { numRuns: 2000 },
  );
});

test('what is no token is refused with the reason, and never shown', () => {
  const good = encodeToken({
    expiresAtS: 1,
    caFingerprint: new Uint8Array(FINGERPRINT_BYTES),
    issuer: base32(new Uint8Array(16)),
    id: new Uint8Array(TOKEN_ID_BYTES),
    secret: new Uint8Array(SECRET_BYTES).fill(7),
  });
  assert.equal(refusal('hunter2'), 'that is no join token: one begins with zh1_');
  assert.equal(refusal(''), 'that is no join token: one begins with zh1_');
  assert.equal(refusal('zh2_abc'), 'the join token is of version 2, this zerohop knows version 1');
  assert.equal(refusal(good.slice(0, -3)), 'the join token is mistyped: 3 characters are missing');
  assert.equal(refusal(`${good}aa`), 'the join token is mistyped: 2 too many');
  assert.equal(
    refusal(`zh1_1${good.slice(5)}`),
    'the join token is mistyped: character 5 is "1", which no token has',
  );
});

test('decoding throws nothing but ProblemError, whatever the text, and never repeats it', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((s) => `zh1_${s}`),
      ),
      (text) => {
        const said = refusal(text);
        assert.notEqual(said, 'taken');
        if (text.length > 20) assert.ok(!said.includes(text));
      },
    ),
    { numRuns: 2000 },
  );
});
