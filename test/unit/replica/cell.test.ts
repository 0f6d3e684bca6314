/** What is a cell of a log, to the letter: what others send is refused where it is none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  CLOCK_MAX,
  formatCell,
  formatSeedCell,
  isCell,
  parseCell,
  SEED,
  WRITER_MAX,
} from '../../../src/state/replica/cell.ts';
import { STAMP_MS_MAX } from '../../../src/state/replica/hlc.ts';

const KEY_CHARS_MAX = 8;
const digits = (value: number): string => value.toString(36);

test('a cell is read as it was written, in its log and as a copy in a seed', () => {
  const cells = fc.record({
    key: fc.stringMatching(/^[^@\n][^\n]{0,7}$/),
    ms: fc.nat({ max: STAMP_MS_MAX - 1 }),
    counter: fc.nat({ max: 2 ** 31 - 1 }),
    value: fc.json(),
    writer: fc.integer({ min: 1, max: WRITER_MAX }),
    clock: fc.nat({ max: CLOCK_MAX - 1 }),
  });
  fc.assert(
    fc.property(cells, ({ key, ms, counter, value, writer, clock }) => {
      const text = formatCell(key, { ms, counter, writer }, value);
      const cell = { key, text, writer, clock, ms, counter };
      assert.deepEqual(parseCell(text, writer, clock), cell);
      assert.deepEqual(parseCell(formatSeedCell(cell), SEED, 7), cell);
      assert.equal(isCell(text, writer, KEY_CHARS_MAX), key.length <= KEY_CHARS_MAX);
      assert.equal(isCell(formatSeedCell(cell), SEED, KEY_CHARS_MAX), key.length <= KEY_CHARS_MAX);
    }),
  );
});

const refused: Readonly<Record<string, readonly string[]>> = {
  'no lines': ['', 'k', 'k\n1.0', '\n1.0\n{}'],
  'a key that looks like the line of a seed': ['@k\n1.0\n{}'],
  'a key that is too long': [`${'k'.repeat(KEY_CHARS_MAX + 1)}\n1.0\n{}`],
  'no stamp': ['k\n\n{}', 'k\n1\n{}', 'k\n.0\n{}', 'k\n1.\n{}', 'k\n1\n0.{}', 'k\n1.0.0\n{}'],
  'a number that is written otherwise': ['k\n01.0\n{}', 'k\n1.00\n{}', 'k\nA.0\n{}', 'k\n-1.0\n{}'],
  'a number that is too large': [
    `k\n${digits(STAMP_MS_MAX)}.0\n{}`,
    `k\n1.${digits(2 ** 31)}\n{}`,
    `k\n${'z'.repeat(12)}.0\n{}`,
    `k\n${'z'.repeat(400)}.0\n{}`,
  ],
};
const refusedInSeed: readonly string[] = [
  'k\n1.0\n{}',
  '@\nk\n1.0\n{}',
  '@1\nk\n1.0\n{}',
  '@1.\nk\n1.0\n{}',
  '@0.1\nk\n1.0\n{}',
  '@01.1\nk\n1.0\n{}',
  `@${digits(WRITER_MAX + 1)}.1\nk\n1.0\n{}`,
  `@1.${digits(CLOCK_MAX)}\nk\n1.0\n{}`,
  '@1.1\n@1.1\nk\n1.0\n{}',
];

for (const [what, texts] of Object.entries(refused))
  test(`no cell: ${what}`, () => {
    for (const text of texts) {
      assert.equal(isCell(text, 1, KEY_CHARS_MAX), false, text);
      assert.equal(isCell(`@1.1\n${text}`, SEED, KEY_CHARS_MAX), false, text);
      const isOnlyTooLong = what.startsWith('a key that is too long');
      assert.equal(parseCell(text, 1, 0) === undefined, !isOnlyTooLong, text);
    }
  });

test('no cell of a seed: without a writer and a place in its log', () => {
  for (const text of refusedInSeed) {
    assert.equal(isCell(text, SEED, KEY_CHARS_MAX), false, text);
    assert.equal(parseCell(text, SEED, 0), undefined, text);
  }
});
