import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDocuments } from '../../../src/state/documents.ts';
import { editDistance, nearest } from '../../../src/state/suggest.ts';
import { ofNode, removalsOfDead, startTicksOf } from '../../../src/state/owners.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';

const service = { kind: 'service', name: 'web', ports: [{ port: 80 }] };
const backend = { kind: 'backend', service: 'web', address: '10.0.0.1:80' };

function complaint(document: unknown): string {
  const result = parseDocuments([document]);
  assert.ok(!result.ok, `accepted: ${JSON.stringify(document)}`);
  return result.problems
    .map((p) => `${p.path ?? '-'}: ${p.message}${p.hint === undefined ? '' : ` | ${p.hint}`}`)
    .join('\n');
}

const REFUSED: readonly (readonly [string, unknown, RegExp])[] = [
  ['an empty name', { ...service, name: '' }, /documents\[0\]\.name: .*empty/],
  ['a name with an underscore', { ...service, name: 'a_b' }, /service name "a_b" is malformed/],
  ['a label that ends in a hyphen', { ...service, name: 'a-.b' }, /malformed/],
  ['a name like an address', { ...service, name: '10.0.0.1' }, /digits only, like an IP address/],
  [
    'a name of 128 bytes',
    { ...service, name: `a.${'b'.repeat(62)}.${'c'.repeat(63)}` },
    /longer than 127 bytes/,
  ],
  ['a label of 64 bytes', { ...service, name: 'a'.repeat(64) }, /longer than 63 bytes/],
  ['a name that is a number', { ...service, name: 5 }, /service name 5 is not text/],
  ['no name', { kind: 'service', ports: [{ port: 80 }] }, /service name is missing/],
  ['no ports', { kind: 'service', name: 'web' }, /ports is missing/],
  ['an empty list of ports', { ...service, ports: [] }, /ports is empty/],
  [
    'port 0',
    { ...service, ports: [{ port: 0 }] },
    /documents\[0\]\.ports\[0\]\.port: port 0 is not a whole number in 1–65535/,
  ],
  ['port 65536', { ...service, ports: [{ port: 65_536 }] }, /port 65536/],
  ['port 80.5', { ...service, ports: [{ port: 80.5 }] }, /port 80\.5/],
  ['a port in quotes', { ...service, ports: [{ port: '80' }] }, /port "80" is not a whole number/],
  [
    'a port name of 16 bytes',
    { ...service, ports: [{ port: 80, name: 'a'.repeat(16) }] },
    /1–15 characters/,
  ],
  [
    'a port name of digits',
    { ...service, ports: [{ port: 80, name: '80' }] },
    /needs at least one letter/,
  ],
  [
    'a port name with two hyphens',
    { ...service, ports: [{ port: 80, name: 'a--b' }] },
    /single "-"/,
  ],
  [
    'an unknown protocol',
    { ...service, ports: [{ port: 80, protocol: 'sctp' }] },
    /protocol "sctp" is neither tcp nor udp/,
  ],
  ['a loopback VIP', { ...service, vip: '127.0.0.1' }, /127\.0\.0\.1 cannot be a VIP/],
  [
    'a VIP that is no address',
    { ...service, vips: ['240.0.0'] },
    /VIP "240\.0\.0" is not an IP address/,
  ],
  ['vip and vips', { ...service, vip: '240.0.0.1', vips: ['240.0.0.2'] }, /both given/],
  [
    'an unknown field',
    { ...service, prot: 1 },
    /documents\[0\]\.prot: unknown field "prot" \| did you mean "ports"\?|known here/,
  ],
  [
    'an unknown field deep inside',
    { ...service, ports: [{ port: 80, naem: 'x' }] },
    /ports\[0\]\.naem: unknown field "naem" \| did you mean "name"\?/,
  ],
  ['an unknown kind', { kind: 'sevice' }, /kind "sevice" is none of service, backend, acl/],
  ['no kind', { name: 'web' }, /kind is missing/],
  ['a document that is a list', [service], /kind is missing/],
  ['a document that is text', 'web', /kind is missing/],
  [
    'a weight of 65536',
    { ...backend, weight: 65_536 },
    /weight 65536 is not a whole number in 0–65535/,
  ],
  ['a weight below 0', { ...backend, weight: -1 }, /weight -1/],
  ['a weight that is not a number', { ...backend, weight: Number.NaN }, /weight/],
  ['an unknown state', { ...backend, state: 'up' }, /state "up" is neither active nor draining/],
  ['a backend without a port', { ...backend, address: '10.0.0.1' }, /port is missing/],
  [
    'ports that contradict',
    { ...backend, port: 81 },
    /port 81 contradicts the address 10\.0\.0\.1:80/,
  ],
  [
    'a host name as address',
    { ...backend, address: 'localhost:80' },
    /address "localhost:80" is neither/,
  ],
  [
    'an IPv6 address with a port without brackets',
    { ...backend, address: 'fd00::g:80' },
    /\[IP\]:PORT/,
  ],
  [
    'a link-local backend',
    { ...backend, address: '[fe80::1]:80' },
    /fe80::1 cannot be a backend: it is link-local/,
  ],
  ['a multicast backend', { ...backend, address: '224.0.0.1:80' }, /multicast/],
  ['an unspecified backend', { ...backend, address: '0.0.0.0:80' }, /unspecified/],
  ['an owner in a document', { ...backend, owner: {} }, /unknown field "owner"/],
  [
    '__proto__',
    JSON.parse('{"kind":"backend","service":"web","address":"10.0.0.1:1","__proto__":{"x":1}}'),
    /unknown field "__proto__"/,
  ],
];

for (const [what, document, expected] of REFUSED) {
  test(`a document with ${what} is refused`, () => assert.match(complaint(document), expected));
}

test('names and addresses become canonical, and defaults are filled in', () => {
  const result = parseDocuments([
    { ...service, name: 'API.Shop', ports: [{ port: 53, protocol: 'udp' }] },
    { kind: 'backend', service: 'Web', address: 'FD00:0:0::1', port: 80 },
    {
      kind: 'backend',
      service: 'web',
      address: '[::ffff:10.0.0.1]:80',
      state: 'draining',
      weight: 0,
    },
  ]);
  assert.ok(result.ok);
  assert.deepEqual(JSON.parse(JSON.stringify(result.value)), [
    { kind: 'service', name: 'api.shop', ports: [{ name: 'udp-53', port: 53, protocol: 'udp' }] },
    { kind: 'backend', service: 'web', address: 'fd00::1', port: 80, weight: 1, state: 'active' },
    {
      kind: 'backend',
      service: 'web',
      address: '10.0.0.1',
      port: 80,
      weight: 0,
      state: 'draining',
    },
  ]);
});

test('every problem of every document is reported at once', () => {
  const text = parseDocuments([
    { ...service, name: '', ports: [{ port: 0, x: 1 }] },
    { ...backend, weight: -1 },
  ]);
  assert.ok(!text.ok);
  assert.deepEqual(
    text.problems.map((p) => p.path),
    [
      'documents[0].name',
      'documents[0].ports[0].port',
      'documents[0].ports[0].x',
      'documents[1].weight',
    ],
  );
});

test('a slip of the fingers is guessed, another word is not', () => {
  assert.equal(editDistance('wbe', 'web', 2), 1);
  assert.equal(editDistance('kitten', 'sitting', 5), 3);
  assert.equal(editDistance('abc', 'xyz', 2), 3);
  assert.equal(nearest('wbe', ['api', 'web']), 'web');
  assert.equal(nearest('db', ['api', 'web']), undefined);
});

test('the start time of a process is found behind any name, and a zombie has none', () => {
  const stat = (name: string, state: string): string =>
    `42 (${name}) ${state} 1 42 42 0 -1 4194560 ${'1 '.repeat(12)}98765 1 2 3`;
  assert.equal(startTicksOf(stat('node', 'S')), 98_765);
  assert.equal(startTicksOf(stat('a) R (b c', 'S')), 98_765);
  assert.equal(startTicksOf(stat('node', 'Z')), undefined);
  assert.equal(startTicksOf(''), undefined);
});

test('backends of processes that are gone are removed, each process being asked for once', () => {
  const owner = (pid: number) => ({ pid, startTicks: 1, bootId: 'b', command: 'c' });
  const put = (port: number, pid?: number) => ({
    kind: 'put-backend' as const,
    backend: {
      service: 'web',
      portName: 'http',
      address: '127.0.0.1',
      port,
      weight: 1,
      state: 'active' as const,
      ...(pid === undefined ? {} : { owner: owner(pid) }),
    },
  });
  const here = [put(1), put(2, 10), put(3, 10), put(4, 20)].map((one) => ofNode(one, 'n1'));
  const { snapshot } = applyChanges(EMPTY_SNAPSHOT, [...here, ofNode(put(5, 10), 'n2')]);
  const asked: number[] = [];
  const changes = removalsOfDead(snapshot, 'n1', ({ pid }) => {
    asked.push(pid);
    return pid === 20;
  });
  assert.deepEqual(asked, [10, 20]);
  assert.deepEqual(
    changes.map((change) => change.kind === 'remove-backend' && change.port),
    [2, 3],
  );
});
