import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UnreachableError } from '../../../src/api/io/client.ts';
import { HostWatch } from '../../../src/run/io/host.ts';
import { placeListeners, type SeenListener, type Wish } from '../../../src/run/place.ts';
import { parseListeners } from '../../../src/run/sockets.ts';

const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000000000000000 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0000000000000000 100 0 0 10 0
`;
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0000000000000000 100 0 0 10 0
   1: 000000FD000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 555 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 666 1 0000000000000000 100 0 0 10 0
`;

const all = new Set(['111', '222', '333', '444', '555', '666']);

test('listening sockets are read from /proc/net, connected ones are not', () => {
  assert.deepEqual(parseListeners(TCP, 'tcp', all), [
    { protocol: 'tcp', address: '127.0.0.1', port: 8080, inode: '111' },
    { protocol: 'tcp', address: '0.0.0.0', port: 80, inode: '222' },
  ]);
  assert.deepEqual(parseListeners(TCP6, 'tcp', all), [
    { protocol: 'tcp', address: '::', port: 80, inode: '444' },
    { protocol: 'tcp', address: 'fd00::1', port: 443, inode: '555' },
    { protocol: 'tcp', address: '127.0.0.1', port: 8081, inode: '666' },
  ]);
});

test('sockets of other programs are left out, and an empty table is no error', () => {
  assert.deepEqual(
    parseListeners(TCP, 'tcp', new Set(['222'])).map((one) => one.port),
    [80],
  );
  assert.deepEqual(parseListeners('', 'tcp', all), []);
  assert.deepEqual(parseListeners('garbage\nmore garbage\n', 'udp', all), []);
});

const http = { name: 'http', port: 80, protocol: 'tcp' as const };
const https = { name: 'https', port: 443, protocol: 'tcp' as const };
const dns = { name: 'dns', port: 53, protocol: 'udp' as const };
const both = ['240.0.0.1', 'fd7a::1'];

function on(
  address: string,
  port: number,
  protocol: 'tcp' | 'udp' = 'tcp',
  takesV4 = false,
): SeenListener {
  return { address, port, protocol, takesV4, inode: `${address} ${port}` };
}

function placed(listeners: readonly SeenListener[], wish: Partial<Wish>): string[] {
  const { placements } = placeListeners(listeners, { ports: [http], vips: both, ...wish });
  return placements.map((one) => `${one.portName} ${one.address} ${one.port}`);
}

test('the only port that a program listens on serves the only port of the service', () => {
  assert.deepEqual(placed([on('127.0.0.1', 40_000)], {}), ['http 127.0.0.1 40000']);
});

test('a socket on all addresses is reached over loopback, over IPv4 too if it takes it', () => {
  assert.deepEqual(placed([on('0.0.0.0', 1)], {}), ['http 127.0.0.1 1']);
  assert.deepEqual(placed([on('::', 1)], {}), ['http ::1 1']);
  assert.deepEqual(placed([on('::', 1, 'tcp', true)], {}), ['http 127.0.0.1 1', 'http ::1 1']);
  assert.deepEqual(placed([on('::', 1), on('0.0.0.0', 1)], {}), ['http ::1 1', 'http 127.0.0.1 1']);
});

test('in a cluster a socket on all addresses is reached at the address of this host there', () => {
  const v4 = { hostAddresses: ['10.0.0.1'] };
  const v6 = { hostAddresses: ['fd00::1'] };
  const wildcards = {
    v4: on('0.0.0.0', 1),
    v6: on('::', 1),
    both: on('::', 1, 'tcp', true),
  };
  assert.deepEqual(placed([wildcards.v4], v4), ['http 10.0.0.1 1']);
  assert.deepEqual(placed([wildcards.v6], v6), ['http fd00::1 1']);
  assert.deepEqual(placed([wildcards.both], v4), ['http 10.0.0.1 1', 'http ::1 1']);
  assert.deepEqual(placed([wildcards.both], v6), ['http 127.0.0.1 1', 'http fd00::1 1']);
  const dual = { hostAddresses: ['10.0.0.1', 'fd00::1'] };
  assert.deepEqual(placed([wildcards.both], dual), ['http 10.0.0.1 1', 'http fd00::1 1']);
  assert.deepEqual(placed([wildcards.both], { hostAddresses: [] }), placed([wildcards.both], {}));
  assert.deepEqual(placed([on('10.0.0.9', 1)], v4), ['http 10.0.0.9 1']);
  assert.deepEqual(placed([wildcards.both], { ...v4, address: '10.9.9.9' }), ['http 10.9.9.9 1']);
});

test('what only loopback reaches is registered in a cluster, and a notice says so', () => {
  const notices = (listeners: readonly SeenListener[], wish: Partial<Wish>): string[] => [
    ...placeListeners(listeners, { ports: [http], vips: both, ...wish }).notices,
  ];
  const v4 = { hostAddresses: ['10.0.0.1'] };
  const told = (where: string): string =>
    `port "http" is registered at ${where}, which only this host reaches: for other hosts let it listen on 10.0.0.1, or say --address IP`;
  assert.deepEqual(placed([on('127.0.0.1', 1)], v4), ['http 127.0.0.1 1']);
  assert.deepEqual(notices([on('127.0.0.1', 1)], v4), [told('127.0.0.1')]);
  assert.deepEqual(notices([on('127.1.2.3', 1), on('::1', 1)], v4), [told('127.1.2.3 and ::1')]);
  // Not of the family of the address in the cluster.
  assert.deepEqual(notices([on('::', 1)], v4), [told('::1')]);
  assert.deepEqual(notices([on('::', 1, 'tcp', true)], v4), []);
  assert.deepEqual(notices([on('127.0.0.1', 1), on('10.0.0.1', 1)], v4), []);
  assert.deepEqual(notices([on('127.0.0.1', 1)], { ...v4, address: '127.0.0.1' }), []);
  assert.deepEqual(notices([on('127.0.0.1', 1)], {}), []);
  assert.deepEqual(notices([], v4), []);
});

test('the address in the cluster is asked for now and then, and the last answer counts while the agent is away', async () => {
  let nowMs = 0;
  let answer: object | undefined = { member: false };
  const asked: string[] = [];
  const call = async <T>(method: string, path: string): Promise<T> => {
    asked.push(`${nowMs} ${method} ${path}`);
    if (answer === undefined) throw new UnreachableError([]);
    return await Promise.resolve(answer as T);
  };
  const host = new HostWatch({ call }, () => nowMs);
  const at = async (ms: number, next?: object): Promise<readonly string[]> => {
    nowMs = ms;
    answer = next;
    return await host.look();
  };
  assert.deepEqual(await at(0, { member: false }), []);
  assert.deepEqual(await at(4999, { member: true, reachedAt: ['10.0.0.1'] }), []);
  assert.deepEqual(await at(5000, { member: true, reachedAt: ['10.0.0.1'] }), ['10.0.0.1']);
  assert.deepEqual(await at(10_000), ['10.0.0.1']);
  const both = ['fd00::1', '10.0.0.1'];
  assert.deepEqual(await at(15_000, { member: true, reachedAt: both }), both);
  assert.deepEqual(await at(20_000, { member: false }), []);
  assert.deepEqual(
    asked,
    [0, 5000, 10_000, 15_000, 20_000].map((ms) => `${ms} GET /v1/cluster`),
  );
});

test('--address says where it is reached instead', () => {
  assert.deepEqual(placed([on('::', 1, 'tcp', true)], { address: '10.0.0.5' }), [
    'http 10.0.0.5 1',
  ]);
});

test('a family without a VIP is not registered', () => {
  assert.deepEqual(placed([on('::', 1, 'tcp', true)], { vips: ['240.0.0.1'] }), [
    'http 127.0.0.1 1',
  ]);
});

test('UDP sockets serve UDP ports, TCP sockets TCP ports', () => {
  const listeners = [on('127.0.0.1', 5353, 'udp'), on('127.0.0.1', 8080)];
  assert.deepEqual(placed(listeners, { ports: [http, dns] }), [
    'http 127.0.0.1 8080',
    'dns 127.0.0.1 5353',
  ]);
  assert.deepEqual(placed([on('127.0.0.1', 5353, 'udp')], {}), []);
});

test('of several ports the one with the number of the service is taken', () => {
  const listeners = [on('127.0.0.1', 9090), on('127.0.0.1', 80), on('127.0.0.1', 443)];
  assert.deepEqual(placed(listeners, { ports: [http, https] }), [
    'http 127.0.0.1 80',
    'https 127.0.0.1 443',
  ]);
});

test('of several ports without that number the lowest is taken, with a notice; --listen chooses', () => {
  const listeners = [on('127.0.0.1', 9090), on('127.0.0.1', 8080)];
  const { placements, notices } = placeListeners(listeners, { ports: [http], vips: both });
  assert.deepEqual(placements, [{ portName: 'http', address: '127.0.0.1', port: 8080 }]);
  assert.match(notices.join(), /listens on 8080, 9090; 8080 is taken for port "http"/);
  assert.deepEqual(placed(listeners, { listenPort: 9090 }), ['http 127.0.0.1 9090']);
});

test('where nothing tells which socket serves which port, none is registered and a notice asks', () => {
  const { placements, notices } = placeListeners([on('127.0.0.1', 9090)], {
    ports: [http, https],
    vips: both,
  });
  assert.deepEqual(placements, []);
  assert.match(notices.join(), /say which serves port "http"/);
});

test('whatever a program listens on: no backend twice, none on a wildcard, each of a listened port', () => {
  const listener = fc
    .record({
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
      address: fc.constantFrom('0.0.0.0', '::', '127.0.0.1', '10.0.0.1', 'fd00::1', 'fe80::1'),
      port: fc.constantFrom(80, 443, 53, 8080),
      takesV4: fc.boolean(),
    })
    .map((one) => ({ ...one, inode: '1' }));
  fc.assert(
    fc.property(
      fc.array(listener),
      fc.subarray([http, https, dns], { minLength: 1 }),
      fc.subarray(['10.0.0.1', 'fd00::1']),
      (listeners, ports, hostAddresses) => {
        const wish = { ports, vips: both, hostAddresses };
        const { placements } = placeListeners(listeners, wish);
        const names = placements.map((one) => `${one.portName} ${one.address} ${one.port}`);
        assert.equal(new Set(names).size, names.length);
        for (const one of placements) {
          assert.ok(!['0.0.0.0', '::', 'fe80::1'].includes(one.address));
          const protocol = ports.find((port) => port.name === one.portName)?.protocol;
          assert.ok(listeners.some((seen) => seen.protocol === protocol && seen.port === one.port));
        }
      },
    ),
  );
});
