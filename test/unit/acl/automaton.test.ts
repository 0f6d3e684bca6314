/** Patterns of units and cgroups, against expressions that say the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anyByte } from '../../../src/acl/abi.ts';
import {
  buildAutomaton,
  classify,
  classifyPath,
  classifyRoot,
  utf8,
  type CgroupPattern,
} from '../../../src/acl/automaton.ts';
import { Dice, testSeed } from '../../harness/random.ts';

const PLENTY = 100_000;
const first = testSeed();

function built(...values: readonly string[]): NonNullable<ReturnType<typeof buildAutomaton>> {
  const automaton = buildAutomaton(
    values.map((value, index): CgroupPattern => ({
      tag: index + 1,
      kind: value.startsWith('/') ? 'cgroup' : 'unit',
      value,
    })),
    PLENTY,
  );
  assert.ok(automaton);
  return automaton;
}

function tagsOf(pattern: string, path: string): readonly number[] {
  return classifyPath(built(pattern), path).tags;
}

const MATCHES: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  [
    'web.service',
    ['/web.service', '/system.slice/web.service', '/a.slice/a-b.slice/web.service/child'],
    [
      '/',
      '/web.servic',
      '/user.slice/user@0.service/web.service',
      '/x/web.service',
      '/web.service2',
    ],
  ],
  ['w*.service', ['/w.service', '/system.slice/web.service'], ['/sw.service', '/web.slice']],
  ['app.slice', ['/app.slice', '/app.slice/x.service', '/a.slice/app.slice'], ['/appa.slice']],
  ['x@?.service', ['/x@1.service'], ['/x@12.service', '/x@.service']],
  ['io.service', ['/io.service', '/a.slice/_io.service/x'], ['/__io.service', '/x_io.service']],
  ['_a.service', ['/__a.service'], ['/_a.service', '/a.service']],
  ['/', ['/', '/a', '/a/b'], []],
  ['/batch', ['/batch', '/batch/a/b'], ['/', '/batch2', '/a/batch']],
  ['/batch/*', ['/batch/a', '/batch/a/b'], ['/batch', '/a/batch']],
  ['/**/b', ['/b', '/a/b', '/a/c/b/d'], ['/', '/a', '/ab']],
  ['/a/**/b/c', ['/a/b/c', '/a/b/b/c', '/a/x/y/b/c/z'], ['/a/b', '/a/b/x/c', '/b/c']],
  ['/a/**', ['/a', '/a/b'], ['/', '/b']],
  ['/*a*b', ['/ab', '/xaybab/c'], ['/ba', '/a/b']],
  ['/b?tch', ['/batch'], ['/btch', '/baatch', '/b/tch']],
  ['/é', ['/é', '/é/x'], ['/e', '/É']],
];

for (const [pattern, matching, others] of MATCHES) {
  test(`${pattern} matches ${matching.join(' ')}${others.length > 0 ? `, not ${others.join(' ')}` : ''}`, () => {
    for (const path of matching) assert.deepEqual(tagsOf(pattern, path), [1], path);
    for (const path of others) assert.deepEqual(tagsOf(pattern, path), [], path);
  });
}

/** Another way to the same: an expression over the whole path, and all paths above it. */
function expressionOf({ kind, value }: CgroupPattern): RegExp {
  const glob = (text: string): string =>
    text
      .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '[^/]*')
      .replaceAll('?', '[^/]');
  const escape = value.startsWith('_') ? '_' : '_?';
  if (kind === 'unit') return new RegExp(`^(/[^/]*\\.slice)*/${escape}${glob(value)}(/.*)?$`);
  const names = value.split('/').filter((name) => name !== '');
  const steps = names.map((name) => (name === '**' ? '(/[^/]+)*' : `/${glob(name)}`));
  return new RegExp(`^${steps.join('')}(/.*)?$`);
}

test('random patterns together give each path the tags that expressions give it', () => {
  const letters = ['a', 'b', '*', '?', 'a', '.', '_'];
  let matched = 0;
  for (let i = 0; i < 4000; i++) {
    const seed = (first + i) >>> 0;
    const dice = new Dice(seed);
    const word = (pool: readonly string[]): string =>
      Array.from({ length: 1 + dice.below(4) }, () => dice.pick(pool)).join('');
    const pattern = (tag: number): CgroupPattern => {
      if (dice.below(3) === 0)
        return {
          tag,
          kind: 'unit',
          value: `${word(letters).replaceAll('**', '*')}${dice.pick(['.slice', '.service'])}`,
        };
      const names = Array.from({ length: dice.below(4) }, () =>
        dice.below(5) === 0 ? '**' : word(letters).replaceAll(/\*+/g, '*'),
      );
      return { tag, kind: 'cgroup', value: `/${names.join('/')}` };
    };
    const patterns = Array.from({ length: 1 + dice.below(5) }, (_, index) => pattern(index + 1));
    const automaton = buildAutomaton(patterns, PLENTY);
    assert.ok(automaton);
    for (let j = 0; j < 8; j++) {
      const names = Array.from(
        { length: dice.below(5) },
        () => `${word(['a', 'b', '.', 'c', '_'])}${dice.pick(['', '', '.slice', '.service'])}`,
      );
      const path = names.map((name) => `/${name}`).join('');
      const expected = patterns.filter((one) => expressionOf(one).test(path)).map(({ tag }) => tag);
      const told = `ZEROHOP_TEST_SEED=${seed}: ${path} in ${JSON.stringify(patterns)}`;
      assert.deepEqual(
        classifyPath(automaton, path).tags.toSorted((a, b) => a - b),
        expected,
        told,
      );
      matched += expected.length;
    }
  }
  assert.ok(matched > 4000, `${matched} matches`);
});

test('no step over "/" is by any byte, and no name is the start', () => {
  const { globs } = built('/*/*', 'w*.service', '/a/**/b');
  const into = new Set(globs.values());
  assert.equal(into.has(0), false);
  for (const [key, next] of globs) {
    if (!key.endsWith(' 47')) continue;
    const other = globs.get(key.replace(/ 47$/, ` ${anyByte}`));
    assert.notEqual(other, next, `${key} leads where any byte does`);
  }
});

test('more selectors than an entry holds make a cgroup unknown, with all below it', () => {
  const many = Array.from({ length: 13 }, (_, index) => `/a${'*'.repeat(1)}${'?'.repeat(index)}`);
  const automaton = built(...many);
  const twelve = classifyPath(automaton, `/a${'x'.repeat(11)}`);
  assert.deepEqual([twelve.tags.length, twelve.overflow], [12, false]);
  const thirteen = classifyPath(automaton, `/a${'x'.repeat(12)}`);
  assert.deepEqual([thirteen.tags.length, thirteen.overflow], [12, true]);
  assert.equal(classify(automaton, thirteen, 'child').overflow, true);
});

test('a name that is no UTF-8 is told apart by its bytes', () => {
  const automaton = built('/a?', '/é');
  const root = classifyRoot(automaton);
  assert.deepEqual(classify(automaton, root, Uint8Array.of(0x61, 0xff)).tags, [1]);
  assert.deepEqual(classify(automaton, root, Uint8Array.of(0xc3)).tags, []);
  assert.deepEqual(classify(automaton, root, Uint8Array.of(0xc3, 0xa9)).tags, [2]);
  for (const text of ['é', '€', '😀', 'a'])
    assert.deepEqual([...utf8(text)], [...new TextEncoder().encode(text)]);
});

test('an automaton that grows beyond the limit is refused, not cut', () => {
  const patterns = [{ tag: 1, kind: 'unit' as const, value: 'web.service' }];
  const steps = built('web.service').globs.size;
  assert.equal(buildAutomaton(patterns, steps)?.globs.size, steps);
  assert.equal(buildAutomaton(patterns, steps - 1), undefined);
  // Each `?` after a `*` doubles the states.
  const wild = [{ tag: 1, kind: 'cgroup' as const, value: `/*a${'?'.repeat(40)}` }];
  assert.equal(buildAutomaton(wild, 10_000), undefined);
});

test('1,000 units take about four steps a letter', () => {
  const names = Array.from({ length: 1000 }, (_, index) => `app-${index * 7919}.service`);
  const letters = names.join('').length;
  const { globs } = built(...names);
  assert.ok(globs.size < letters * 4, `${globs.size} steps for ${letters} letters`);
});
