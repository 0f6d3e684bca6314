/** Who listens, from the text of /proc, however it is cut into pieces. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isListenedAt, Missing, type Endpoint } from '../../../src/health/endpoints.ts';
import { Listening, TableReader } from '../../../src/health/listening.ts';

const HEAD =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
const rest = ' 00000000:00000000 00:00000000 00000000     0        0 1 1 0000 100 0 0 10 0\n';
const line = (local: string, state: string): string =>
  `   0: ${local} ${local.replace(/[0-9A-F]/g, '0')} ${state}${rest}`;

const V4 = [
  HEAD,
  line('0100007F:1F90', '0A'), // 127.0.0.1:8080
  line('01004D0A:1F91', '0A'), // 10.77.0.1:8081
  line('00000000:1F92', '0A'), // 0.0.0.0:8082
  line('0100007F:1F93', '01'), // established: the end
  line('0100007F:1F94', '0A'), // never there
].join('');
const V6 = [
  HEAD,
  line('00000000000000000000000000000000:1F95', '0A'), // [::]:8085
  line('00000000000000000000000001000000:1F96', '0A'), // [::1]:8086
  line('0000000000000000FFFF000001004D0A:1F97', '0A'), // [::ffff:10.77.0.1]:8087
].join('');

function read(texts: readonly string[], pieceLength: number): Listening {
  const listening = new Listening();
  for (const text of texts) {
    const reader = new TableReader(listening);
    for (let at = 0; at < text.length; at += pieceLength)
      if (!reader.feed(text.slice(at, at + pieceLength))) break;
  }
  return listening;
}

const PLACES = ['127.0.0.1', '10.77.0.1', '10.77.0.2', '::1', 'fd77::1'].flatMap((address) =>
  [8080, 8081, 8082, 8083, 8084, 8085, 8086, 8087].map((port) => [address, port] as const),
);

test('a listener counts at its address, one at all addresses at each, IPv6 for IPv4 too', () => {
  const listening = read([V4, V6], 1 << 20);
  const served = PLACES.filter(([address, port]) => listening.serves(address, port));
  assert.deepEqual(
    served.map(([address, port]) => `${address} ${port}`),
    [
      '127.0.0.1 8080',
      '127.0.0.1 8082',
      '127.0.0.1 8085',
      '10.77.0.1 8081',
      '10.77.0.1 8082',
      '10.77.0.1 8085',
      '10.77.0.1 8087',
      '10.77.0.2 8082',
      '10.77.0.2 8085',
      '::1 8085',
      '::1 8086',
      'fd77::1 8085',
    ],
  );
});

test('however the text is cut into pieces, the same is read', () => {
  const whole = read([V4, V6], 1 << 20);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 400 }), (length) => {
      const cut = read([V4, V6], length);
      for (const [address, port] of PLACES)
        assert.equal(cut.serves(address, port), whole.serves(address, port));
    }),
  );
});

test('nothing is read beyond the first line that is no listener', () => {
  const reader = new TableReader(new Listening());
  assert.equal(reader.feed(V4.slice(0, 400)), true);
  assert.equal(reader.feed(V4.slice(400)), false);
});

test('once all that are asked for are found nobody is missing, and not before', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(20), { maxLength: 10 }),
      fc.array(fc.nat(20)),
      (ports, heard) => {
        const listening = new Listening();
        const endpoint = { key: '', address: '10.0.0.1', isHere: true, isForAll: true };
        const missing = new Missing(
          ports.map((port) => ({ ...endpoint, port })),
          listening,
        );
        const left = new Set(ports);
        for (const port of heard) {
          assert.equal(missing.isNone, left.size === 0);
          listening.add('10.0.0.1', port);
          left.delete(port);
        }
        assert.equal(missing.isNone, left.size === 0);
      },
    ),
  );
});

test('at an address that is not this host’s, any listener at the port may be the one behind it', () => {
  const listening = read([V4], 1 << 20);
  const endpoint: Endpoint = {
    key: '203.0.113.5 8080 tcp',
    address: '203.0.113.5',
    port: 8080,
    isHere: false,
    isForAll: true,
  };
  assert.equal(isListenedAt(endpoint, listening), true);
  assert.equal(isListenedAt({ ...endpoint, isHere: true }, listening), false);
  assert.equal(isListenedAt({ ...endpoint, port: 9 }, listening), false);
});
