import assert from 'node:assert/strict';
import { test } from 'node:test';
import { poolProblems, PoolWatch, type Pooled } from '../../../src/cluster/pools.ts';

const OWN = ['240.0.0.0/4', 'fd7a::/64'];

function member(id: string, vips: readonly string[] | undefined): Pooled {
  return { id, name: `host-${id}`, vips };
}

function others(count: number, vips: readonly string[]): Pooled[] {
  return Array.from({ length: count }, (_, i) => member(`${i}`, vips));
}

test('a sentence for each other set of blocks, whoever has it', () => {
  const same = [member('a', OWN), member('b', undefined)];
  assert.deepEqual(poolProblems(OWN, same), []);
  const [one, two, ...none] = poolProblems(OWN, [
    ...same,
    ...others(2, ['10.0.0.0/8']),
    member('z', ['240.0.0.0/8', 'fd7a::/64']),
  ]);
  assert.match(one ?? '', /^host-0 and host-1 take VIPs from 10\.0\.0\.0\/8, this host from 240/);
  assert.match(two ?? '', /^host-z takes VIPs from 240\.0\.0\.0\/8 and fd7a::\/64, this host from/);
  assert.deepEqual(none, []);
  const heads = [1, 3, 4, 5].map((count) => poolProblems(OWN, others(count, ['10.0.0.0/8']))[0]);
  assert.deepEqual(
    heads.map((text) => text?.split(' VIPs')[0]),
    [
      'host-0 takes',
      'host-0, host-1 and host-2 take',
      'host-0, host-1, host-2 and 1 more take',
      'host-0, host-1, host-2 and 2 more take',
    ],
  );
});

test('each member is news once, and again when it has other blocks than before', () => {
  const watch = new PoolWatch(OWN);
  const news = (...members: Pooled[]): string[] => watch.news(members).map(({ id }) => id);
  assert.deepEqual(news(member('a', OWN), member('b', ['10.0.0.0/8'])), ['b']);
  assert.deepEqual(news(member('a', ['10.0.0.0/8']), member('b', ['10.0.0.0/8'])), ['a']);
  assert.deepEqual(news(member('a', ['11.0.0.0/8']), member('b', OWN)), ['a']);
  assert.deepEqual(news(member('a', ['11.0.0.0/8']), member('b', ['10.0.0.0/8'])), ['b']);
});
