import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isIP } from 'node:net';
import fc from 'fast-check';
import { addressClass, whyNoBackend, whyNoVip } from '../../../src/net/classes.ts';
import { cidrContains, formatCidr, parseCidr } from '../../../src/net/cidr.ts';
import {
  canonicalIp,
  familyOf,
  formatEndpoint,
  formatIp,
  parseEndpoint,
  parseIp,
} from '../../../src/net/ip.ts';
import { anyIp, cidr } from '../state/generators.ts';

test('an address printed and read again is the same address, and its text is canonical', () => {
  fc.assert(
    fc.property(anyIp, (ip) => {
      const text = formatIp(ip);
      assert.deepEqual(parseIp(text), ip);
      assert.equal(canonicalIp(text), text);
      assert.equal(isIP(text), familyOf(ip));
    }),
  );
});

test('parseIp() accepts what Node calls an address, but for zone ids', () => {
  const pieces = fc.constantFrom(
    '0',
    '1',
    '255',
    '256',
    '01',
    '.',
    ':',
    '::',
    'ffff',
    'g',
    '10',
    '::ffff:',
    '%lo',
    ' ',
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
      const text = parts.join('');
      assert.equal(parseIp(text) !== undefined, isIP(text) !== 0 && !text.includes('%'), text);
    }),
    { numRuns: 3000 },
  );
});

test('IPv6 text follows RFC 5952', () => {
  for (const [text, canonical] of [
    ['2001:DB8::0001', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::', '::'],
  ] as const) {
    assert.equal(canonicalIp(text), canonical);
  }
});

test('an endpoint printed and read again is the same endpoint', () => {
  fc.assert(
    fc.property(anyIp, fc.integer({ min: 1, max: 65_535 }), (ip, port) => {
      const address = formatIp(ip);
      assert.deepEqual(parseEndpoint(formatEndpoint(address, port)), { address, port });
    }),
  );
  for (const text of [
    '10.0.0.1',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    'fd00::1:80',
    '[10.0.0.1]:80',
    '[fd00::1]80',
    ':80',
    'web:80',
  ]) {
    assert.equal(parseEndpoint(text), undefined, text);
  }
});

test('a block holds exactly the addresses that share its prefix', () => {
  const bits = (ip: Uint8Array): string =>
    [...ip].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  fc.assert(
    fc.property(
      anyIp,
      anyIp,
      fc.integer({ min: 0, max: 128 }),
      fc.boolean(),
      (a, other, length, near) => {
        const family = familyOf(a);
        const prefixLength = family === 4 ? length % 33 : length;
        const skip = family === 4 ? 96 : 0;
        const keep = skip + prefixLength;
        const first = Uint8Array.from(
          a,
          (byte, i) => byte & (0xff << (8 - Math.min(8, Math.max(0, keep - i * 8)))) & 0xff,
        );
        if (familyOf(first) !== family) return;
        const b = near
          ? Uint8Array.from(a, (byte, i) => (i * 8 >= keep ? (other[i] ?? 0) : byte))
          : other;
        const expected =
          familyOf(b) === family && bits(b).slice(0, keep) === bits(first).slice(0, keep);
        const block = { family, first, prefixLength };
        assert.equal(cidrContains(block, b), expected);
        assert.deepEqual(parseCidr(formatCidr(block)), { ok: true, cidr: block });
      },
    ),
  );
});

test('a malformed block says what is wrong with it', () => {
  for (const [text, reason] of [
    ['10.0.0.0', /not a block/],
    ['10.0.0.0/33', /longer than 32 bits/],
    ['10.0.0.1/8', /write 10\.0\.0\.0\/8/],
    ['fd00::/129', /longer than 128 bits/],
    ['web/8', /not a block/],
  ] as const) {
    const result = parseCidr(text);
    assert.ok(!result.ok && reason.test(result.reason), text);
  }
});

test('addresses that no VIP and no backend can have are told apart', () => {
  const ip = (text: string): Uint8Array => parseIp(text) ?? assert.fail(text);
  for (const text of [
    '0.0.0.0',
    '::',
    '0.1.2.3',
    '127.0.0.1',
    '::1',
    '224.0.0.1',
    'ff02::1',
    '255.255.255.255',
    'fe80::1',
  ]) {
    assert.notEqual(whyNoVip(ip(text)), undefined, text);
  }
  for (const text of ['240.0.0.1', '169.254.20.10', '10.0.0.1', 'fd00::1', '8.8.8.8']) {
    assert.equal(whyNoVip(ip(text)), undefined, text);
  }
  for (const text of [
    '0.0.0.0',
    '::',
    '169.254.1.1',
    'fe80::1',
    '224.0.0.1',
    'ff02::1',
    '255.255.255.255',
    '240.0.0.1',
  ]) {
    assert.notEqual(whyNoBackend(ip(text)), undefined, text);
  }
  for (const text of ['127.0.0.1', '::1', '10.0.0.1', 'fd00::1']) {
    assert.equal(whyNoBackend(ip(text)), undefined, text);
  }
  assert.equal(addressClass(ip('::ffff:127.0.0.1')), 'loopback');
  assert.ok(cidrContains(cidr('240.0.0.0/4'), ip('254.1.2.3')));
});
