import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { whyNoBackend, whyNoVip } from '../../../src/net/classes.ts';
import { canonicalIp, parseIp } from '../../../src/net/ip.ts';
import { readBackend, readService, writeService } from '../../../src/state/replica/schema.ts';

const octet = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 10, 126, 127, 128, 169, 223, 224, 254));
const quad = fc.tuple(octet, octet, octet, octet).map((bytes) => bytes.join('.'));
/** Of every class, some of them written otherwise than canonically. */
const text = fc.oneof(
  quad,
  fc.tuple(octet, octet).map((bytes) => `${bytes.join('.')}.254.${bytes[0]}`),
  quad.map((v4) => `::ffff:${v4}`),
  quad.map((v4) => v4.replace(/\d+$/, '0$&')),
  quad.map((v4) => `${v4}.`),
  fc.ipV6(),
  fc.ipV6().map((v6) => canonicalIp(v6) ?? v6),
  fc.constantFrom('255.255.255.255', '::', '::1', 'fe80::1', 'ff02::1', 'fd00::1', '169.254.1.1'),
);

function expected(address: string, whyNot: typeof whyNoVip): boolean {
  const ip = parseIp(address);
  return ip !== undefined && canonicalIp(address) === address && whyNot(ip) === undefined;
}

function hasVip(...vips: readonly string[]): boolean {
  const ports = [{ name: 'http', port: 80, protocol: 'tcp' }];
  return readService('service/web', JSON.stringify({ vips, ports })) !== undefined;
}

suite('addresses of records that others wrote', () => {
  test('a service has VIPs that can be one, in canonical text', () => {
    fc.assert(
      fc.property(text, (vip) => assert.equal(hasVip(vip), expected(vip, whyNoVip), vip)),
      { numRuns: 2000 },
    );
  });

  test('a backend is where a server can be, in canonical text', () => {
    fc.assert(
      fc.property(text, (address) => {
        const read = readBackend(`backend/web/http/${address}/80`, '{}', undefined);
        assert.equal(read !== undefined, expected(address, whyNoBackend), address);
        assert.equal(read?.address ?? address, address);
      }),
      { numRuns: 2000 },
    );
  });

  test('one VIP that cannot be one makes the record unreadable', () => {
    assert.ok(hasVip('240.0.0.1', 'fd7a::1', '169.254.9.9'));
    for (const vip of ['127.0.0.1', '::1', '224.0.0.1', 'ff02::1', '0.0.0.0', '::', 'fe80::1'])
      assert.ok(!hasVip('240.0.0.1', vip), vip);
  });
});

suite('fields of records that this version does not know', () => {
  const service = (depth: number): string =>
    '{"vips":["240.0.0.1"],"ports":[{"name":"http","port":80,"protocol":"tcp"}],' +
    `"x":${'['.repeat(depth)}${']'.repeat(depth)}}`;

  test('are kept to a depth of 256 levels; a record with more is unreadable', () => {
    for (const [depth, isReadable] of [
      [1, true],
      [255, true],
      [256, false],
      [30_000, false],
    ] as const) {
      const record = readService('service/web', service(depth));
      assert.equal(record !== undefined, isReadable, String(depth));
    }
  });

  test('never make a write throw', () => {
    const record = readService('service/web', service(1));
    assert.ok(record);
    assert.match(writeService(record, service(255)), /"x":\[/);
    assert.doesNotMatch(writeService(record, service(30_000)), /"x"/);
  });
});
