/** Names as text and bytes, and names of addresses. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_POOLS } from '../../../src/catalog/vips.ts';
import {
  addressLabel,
  addressOf,
  addressOfLabel,
  readReverse,
  reverseName,
  reverseZoneLabels,
} from '../../../src/dns/address-name.ts';
import { isWithin, nameFromWire, nameToWire, parentOf } from '../../../src/dns/names.ts';
import { encodeData } from '../../../src/dns/rdata.ts';
import { formatIp } from '../../../src/net/ip.ts';
import { anyIp, cidr } from '../state/generators.ts';

const wireName = fc
  .array(fc.uint8Array({ minLength: 1, maxLength: 12 }), { maxLength: 12 })
  .map((labels) => Uint8Array.from([...labels.flatMap((label) => [label.length, ...label]), 0]));

const lowered = (wire: Uint8Array): string =>
  Buffer.from(wire)
    .toString('latin1')
    .replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());

function labelsOf(wire: Uint8Array): string[] {
  const labels: string[] = [];
  for (let at = 0; (wire[at] ?? 0) > 0; at += 1 + (wire[at] ?? 0))
    labels.push(lowered(wire.subarray(at + 1, at + 1 + (wire[at] ?? 0))));
  return labels;
}

describe('names', () => {
  test('text and bytes say the same, of any bytes', () => {
    fc.assert(
      fc.property(wireName, (wire) => {
        const text = nameFromWire(wire);
        assert.match(text, /^[!-~]*$/);
        const back = nameToWire(text);
        assert.ok(back !== undefined);
        assert.deepEqual(labelsOf(back), labelsOf(wire));
      }),
    );
  });

  test('parentOf() and isWithin() go by labels, whatever is in them', () => {
    const odd = fc
      .array(fc.constantFrom('a', 'b', '.', '\\', 'a.b', 'b\\'), { maxLength: 4 })
      .map((labels) =>
        Uint8Array.from([...labels.flatMap((label) => [label.length, ...Buffer.from(label)]), 0]),
      );
    fc.assert(
      fc.property(odd, odd, (a, b) => {
        const [name, domain] = [nameFromWire(a), nameFromWire(b)];
        const [labels, ends] = [labelsOf(a), labelsOf(b)];
        const isEnd = ends.every((label, i) => labels.at(i - ends.length) === label);
        assert.equal(isWithin(name, domain), isEnd && ends.length <= labels.length);
        const parent = parentOf(name);
        if (labels.length === 0) assert.equal(parent, undefined);
        else assert.deepEqual(labelsOf(nameToWire(parent ?? '') ?? a), labels.slice(1));
      }),
      { numRuns: 1000 },
    );
  });

  test('what is no name has no bytes', () => {
    const no = ['a..b', '.a', '..', 'a b', 'é', 'a\\', 'a\\256', 'a\\25', 'x'.repeat(64)];
    for (const text of no) assert.equal(nameToWire(text), undefined, text);
    const long = (last: number): string => `${`${'x'.repeat(63)}.`.repeat(3)}${'x'.repeat(last)}`;
    assert.equal(nameToWire(long(61))?.length, 255);
    assert.equal(nameToWire(long(62)), undefined);
    assert.deepEqual(nameToWire('.'), Uint8Array.of(0));
    assert.deepEqual(nameToWire('A.'), nameToWire('a'));
  });
});

describe('names of addresses', () => {
  test('a label says one address, and starts and ends like a host name', () => {
    fc.assert(
      fc.property(anyIp, (ip) => {
        const address = formatIp(ip);
        const label = addressLabel(address);
        assert.match(label, /^[0-9a-f]([0-9a-f-]*[0-9a-f])?$/);
        assert.equal(addressOfLabel(label), address);
      }),
    );
    assert.equal(addressLabel('::1'), '0--1');
    assert.equal(addressLabel('::'), '0--0');
    for (const no of [
      '',
      '1-2-3',
      '1-2-3-4-5',
      '10-0-0-01',
      'x',
      'web',
      '0--ffff-102-304',
      '1.2.3.4',
    ])
      assert.equal(addressOfLabel(no), undefined, no);
  });

  test('a reverse name says one address', () => {
    fc.assert(
      fc.property(anyIp, (ip) => {
        const address = formatIp(ip);
        const reverse = readReverse(reverseName(address));
        assert.ok(reverse !== undefined);
        assert.equal(addressOf(reverse), address);
      }),
    );
    const of = (name: string): string | undefined => {
      const reverse = readReverse(name);
      return reverse === undefined ? 'none' : addressOf(reverse);
    };
    assert.equal(of('1.0.0.127.in-addr.arpa'), '127.0.0.1');
    assert.equal(of('0.0.127.in-addr.arpa'), undefined);
    assert.equal(of('9.1.0.0.127.in-addr.arpa'), undefined);
    assert.equal(of('01.0.0.127.in-addr.arpa'), 'none');
    assert.equal(of('1.0.0.256.in-addr.arpa'), 'none');
    assert.equal(of('in-addr.arpa'), 'none');
    assert.equal(of(`g.${'0.'.repeat(31)}ip6.arpa`), 'none');
    assert.equal(of(`${'0.'.repeat(31)}ip6.arpa`), undefined);
    // ::ffff:1.2.3.4, which is nobody's way to write 1.2.3.4.
    assert.equal(of(`4.0.3.0.2.0.1.0.f.f.f.f.${'0.'.repeat(20)}ip6.arpa`), undefined);
  });

  test('a reverse zone is the shortest name that is wholly of a pool', () => {
    const labels = (name: string, v4: string): number | undefined => {
      const reverse = readReverse(name);
      return reverse && reverseZoneLabels(reverse, { ...DEFAULT_POOLS, v4: cidr(v4) });
    };
    assert.equal(labels('1.2.3.250.in-addr.arpa', '240.0.0.0/4'), 3);
    assert.equal(labels('250.in-addr.arpa', '240.0.0.0/4'), 3);
    assert.equal(labels('1.2.3.239.in-addr.arpa', '240.0.0.0/4'), undefined);
    assert.equal(labels('1.2.3.10.in-addr.arpa', '10.0.0.0/8'), 3);
    assert.equal(labels('1.2.3.10.in-addr.arpa', '10.3.0.0/16'), 4);
    assert.equal(labels('10.in-addr.arpa', '10.3.0.0/16'), undefined);
    assert.equal(labels('2.3.10.in-addr.arpa', '10.3.2.0/25'), undefined);
    assert.equal(labels('1.2.3.10.in-addr.arpa', '10.3.2.0/25'), 5);
    assert.equal(labels('200.2.3.10.in-addr.arpa', '10.3.2.0/25'), undefined);
  });
});

describe('encodeData()', () => {
  const text = (type: Parameters<typeof encodeData>[0], data: string): string | undefined => {
    const bytes = encodeData(type, data);
    return bytes && Buffer.from(bytes).toString('latin1');
  };

  test('says what each type has', () => {
    assert.equal(text('A', '10.0.0.1'), '\x0a\0\0\x01');
    assert.equal(text('AAAA', '::1'), `${'\0'.repeat(15)}\x01`);
    assert.equal(text('MX', '258 a.b'), '\x01\x02\x01a\x01b\0');
    assert.equal(text('SRV', '1 2 258 .'), '\0\x01\0\x02\x01\x02\0');
    assert.equal(text('CNAME', 'a.b'), '\x01a\x01b\0');
    assert.equal(text('TXT', 'é'), '\x02\xc3\xa9');
    assert.equal(text('TXT', ''), '\0');
    assert.equal(text('TXT', 'x'.repeat(256)), `\xff${'x'.repeat(255)}\x01x`);
  });

  test('of what is none there are no bytes', () => {
    for (const [type, data] of [
      ['A', '::1'],
      ['A', '10.0.0'],
      ['AAAA', '10.0.0.1'],
      ['AAAA', '::ffff:10.0.0.1'],
      ['CNAME', 'a..b'],
      ['MX', 'a.b'],
      ['MX', '65536 a.b'],
      ['MX', '1 2 a.b'],
      ['SRV', '1 2 x a.b'],
      ['SRV', '1 2 a.b'],
      ['TXT', 'x'.repeat(66_000)],
    ] as const)
      assert.equal(encodeData(type, data), undefined, `${type} ${data.slice(0, 20)}`);
  });
});
