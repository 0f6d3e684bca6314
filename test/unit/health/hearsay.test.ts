/** Which backends a host looks at, and whom of the others it believes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointsOf } from '../../../src/health/endpoints.ts';
import { Hearsay, type Situation } from '../../../src/health/hearsay.ts';
import type { BackendRecord, StateSnapshot } from '../../../src/state/records.ts';

function backend(address: string, port: number, more: Partial<BackendRecord> = {}): BackendRecord {
  return { service: 'web', portName: 'main', address, port, weight: 1, state: 'active', ...more };
}

function snapshotOf(...backends: readonly BackendRecord[]): StateSnapshot {
  const ports = [
    { name: 'main', port: 80, protocol: 'tcp' },
    { name: 'udp', port: 53, protocol: 'udp' },
  ] as const;
  return {
    revision: 1,
    services: new Map([['web', { name: 'web', vips: ['240.0.0.1'], ports }]]),
    backends: new Map([['web', backends]]),
    acls: new Map(),
    records: new Map(),
  };
}

function situation(backends: readonly BackendRecord[], more: Partial<Situation> = {}): Situation {
  return {
    self: 'n1',
    snapshot: snapshotOf(...backends),
    addresses: new Set(['10.77.0.1', '172.17.0.1']),
    nodes: new Map([
      ['n1', { addresses: ['10.77.0.1', '172.17.0.1'] }],
      ['n2', { addresses: ['10.77.0.2', '10.77.0.9', '172.17.0.1'] }],
      ['n3', { addresses: ['10.77.0.3', '10.77.0.9'] }],
    ]),
    unreachable: new Set(),
    ...more,
  };
}

function heard(...said: readonly (readonly [origin: string, endpoint: string])[]): Hearsay {
  const hearsay = new Hearsay();
  for (const [origin, endpoint] of said) hearsay.hear(origin, endpoint, true);
  return hearsay;
}

test('a host looks at its own backends and at those of nobody at its addresses, and at TCP only', () => {
  const found = endpointsOf(
    snapshotOf(
      backend('10.77.0.1', 1),
      backend('10.77.0.2', 2),
      backend('127.0.0.1', 3),
      backend('::1', 4),
      backend('10.77.0.1', 5, { node: 'n2' }),
      backend('127.0.0.1', 6, { node: 'n2' }),
      backend('127.0.0.1', 7, { node: 'n1' }),
      backend('203.0.113.5', 8, { node: 'n1' }),
      backend('10.77.0.1', 9, { portName: 'udp' }),
      backend('10.77.0.1', 10, { portName: 'none' }),
    ),
    'n1',
    new Set(['10.77.0.1']),
  );
  assert.deepEqual(
    [...found.values()].map(({ key, isHere, isForAll }) => [key, isHere, isForAll]),
    [
      ['10.77.0.1 1 tcp', true, true],
      ['127.0.0.1 3 tcp', true, false],
      ['::1 4 tcp', true, false],
      ['127.0.0.1 7 tcp', true, false],
      ['203.0.113.5 8 tcp', false, true],
    ],
  );
});

test('a node speaks for its addresses, and not for those of others', () => {
  const there = backend('10.77.0.2', 80);
  const at = '10.77.0.2 80 tcp';
  assert.deepEqual([...heard(['n2', at]).believed(situation([there]))], [at]);
  assert.deepEqual([...heard(['n3', at]).believed(situation([there]))], []);
  assert.deepEqual([...heard(['n9', at]).believed(situation([there]))], []);
});

test('a node speaks for the backends of its programs wherever they are', () => {
  const there = backend('203.0.113.5', 80, { node: 'n2' });
  const at = '203.0.113.5 80 tcp';
  assert.deepEqual([...heard(['n2', at]).believed(situation([there]))], [at]);
  assert.deepEqual([...heard(['n3', at]).believed(situation([there]))], []);
  assert.deepEqual([...heard(['n2', at]).believed(situation([]))], []);
});

test('of an address that several nodes have, all that can be reached must say so', () => {
  const there = [backend('10.77.0.9', 80)];
  const at = '10.77.0.9 80 tcp';
  assert.deepEqual([...heard(['n2', at]).believed(situation(there))], []);
  assert.deepEqual([...heard(['n2', at], ['n3', at]).believed(situation(there))], [at]);
  const cut = situation(there, { unreachable: new Set(['n3']) });
  assert.deepEqual([...heard(['n2', at]).believed(cut)], [at]);
});

test('of its own addresses and of loopback nobody tells a host anything', () => {
  const there = [
    backend('172.17.0.1', 80),
    backend('172.17.0.1', 81, { node: 'n2' }),
    backend('127.0.0.1', 80, { node: 'n2' }),
  ];
  const said = heard(
    ['n2', '172.17.0.1 80 tcp'],
    ['n2', '172.17.0.1 81 tcp'],
    ['n2', '10.77.0.1 80 tcp'],
    ['n2', '127.0.0.1 80 tcp'],
  );
  assert.deepEqual([...said.believed(situation(there))], []);
});

test('what is withdrawn is not believed any more, and clear() forgets all', () => {
  const there = situation([backend('10.77.0.2', 80)]);
  const at = '10.77.0.2 80 tcp';
  const hearsay = heard(['n2', at], ['n3', at]);
  hearsay.hear('n2', at, false);
  hearsay.hear('n2', '10.77.0.2 81 tcp', false);
  assert.deepEqual([...hearsay.believed(there)], []);
  hearsay.hear('n2', at, true);
  assert.deepEqual([...hearsay.believed(there)], [at]);
  hearsay.clear();
  assert.deepEqual([...hearsay.believed(there)], []);
});
