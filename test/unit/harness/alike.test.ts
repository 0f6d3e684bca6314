import assert from 'node:assert/strict';
import { test } from 'node:test';
import { differences, type Frontend } from '../../harness/alike.ts';

const backend = (address: string, weight = 1, sharePercent = 50): Frontend['backends'][number] => ({
  address,
  weight,
  state: 'active',
  sharePercent,
});

function web(...backends: Frontend['backends'][number][]): Frontend {
  const [vip, state] = [
    '240.0.0.1:80',
    backends.length === 0 ? 'no usable backend' : 'serving',
  ] as const;
  return { service: 'web', port: 'http', vip, protocol: 'tcp', state, backends };
}

const two = (a: Frontend[], b: Frontend[]): string[] =>
  differences(
    new Map([
      ['h1', a],
      ['h2', b],
    ]),
  );

test('hosts agree whatever the order, the ids and the counters', () => {
  const [one, other] = [backend('10.77.0.1:80'), backend('10.77.0.2:80')];
  const counted = { ...web(other, one), index: 7, connects: 12 };
  assert.deepEqual(two([web(one, other)], [counted]), []);
  assert.deepEqual(two([], []), []);
});

for (const [what, changed] of [
  ['a backend that is missing', [web(backend('10.77.0.1:80'))]],
  ['another address', [web(backend('10.77.0.1:80'), backend('10.77.0.3:80'))]],
  ['another weight', [web(backend('10.77.0.1:80'), backend('10.77.0.2:80', 2))]],
  ['another share', [web(backend('10.77.0.1:80'), backend('10.77.0.2:80', 1, 0))]],
  [
    'a draining backend',
    [web(backend('10.77.0.1:80'), { ...backend('10.77.0.2:80'), state: 'draining' })],
  ],
  [
    'a backend twice',
    [web(backend('10.77.0.1:80'), backend('10.77.0.2:80'), backend('10.77.0.2:80'))],
  ],
  [
    'another VIP',
    [{ ...web(backend('10.77.0.1:80'), backend('10.77.0.2:80')), vip: '240.0.0.2:80' }],
  ],
  ['a service that is missing', []],
] as const) {
  test(`${what} is a difference`, () => {
    const whole = [web(backend('10.77.0.1:80'), backend('10.77.0.2:80'))];
    assert.notDeepEqual(two(whole, [...changed]), []);
    assert.notDeepEqual(two([...changed], whole), []);
  });
}

test('a difference names the service, and which hosts say what', () => {
  const [told = ''] = two([web(backend('10.77.0.1:80', 1, 100))], []);
  assert.equal(
    told,
    `web:http 240.0.0.1:80/tcp serving
  h1: 10.77.0.1:80 active weight 1 share 100 %
  h2: not there`,
  );
});
