/** Headers, EDNS, sizes: what is around an answer. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as packet from 'dns-packet';
import { readQuery } from '../../../src/dns/query.ts';
import { refusal } from '../../../src/dns/packet.ts';
import { resolve } from '../../../src/dns/resolver.ts';
import { ask, OPTIONS, question, queryOf, tell, zoneOf } from './zones.ts';

const backends = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `http 10.0.${i >> 8}.${i & 255}:8080`);
const zone = zoneOf({
  services: {
    web: { vips: ['240.0.0.9'], ports: ['http=80/tcp'], backends: backends(12) },
    large: { ports: ['http=80/tcp'], backends: backends(1100) },
    huge: { ports: ['http=80/tcp'], backends: backends(1300) },
  },
});
const WEB = 'web.zerohop.internal';
const SRV = '_http._tcp.web.zerohop.internal';

/** What is said to bytes that are no query: nothing, or a code. */
function said(bytes: Uint8Array): string {
  const read = readQuery(bytes);
  if (read.ok) return 'a query';
  return read.answer === undefined ? 'silence' : tell(read.answer).rcode;
}

function changed(bytes: Uint8Array, at: number, ...values: readonly number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(values, at);
  return copy;
}

describe('readQuery()', () => {
  const plain = question(WEB, 'A');
  const edns = question(WEB, 'A', { edns: 1232 });

  test('reads what a client asks', () => {
    const flags = packet.RECURSION_DESIRED | packet.CHECKING_DISABLED | packet.AUTHENTIC_DATA;
    const query = queryOf(question('Web.ZeroHop.Internal', 'AAAA', { edns: 4096, flags }));
    const { question: asked, ...rest } = query;
    assert.deepEqual(rest, {
      id: 0x1234,
      opcode: 0,
      isRecursionDesired: true,
      isCheckingDisabled: true,
      isAuthenticDataWanted: true,
      name: 'web.zerohop.internal',
      type: 28,
      class: 1,
      edns: { version: 0, udpSize: 4096, isDnssecOk: false },
    });
    assert.equal(
      Buffer.from(asked).toString('latin1'),
      '\x03Web\x07ZeroHop\x08Internal\0\0\x1c\0\x01',
    );
  });

  test('a name with odd bytes has one text', () => {
    const wire = (...labels: readonly string[]): Uint8Array =>
      Buffer.from(
        [
          ...labels.map((label) => String.fromCharCode(label.length) + label),
          '\0\0\x01\0\x01',
        ].join(''),
        'latin1',
      );
    const name = (...labels: readonly string[]): string =>
      queryOf(new Uint8Array([...plain.subarray(0, 12), ...wire(...labels)])).name;
    assert.equal(name('a.b', 'C'), 'a\\.b.c');
    assert.equal(name('a\\', 'c'), 'a\\\\.c');
    assert.equal(name('\xc3\x9c \0'), '\\195\\156\\032\\000');
    assert.equal(name('_x', '1-2'), '_x.1-2');
    assert.equal(name(), '');
  });

  test('an answer is never answered', () => {
    assert.equal(said(changed(plain, 2, 0x81)), 'silence');
    assert.equal(said(changed(plain, 2, 0xa8)), 'silence');
  });

  test('says nothing to less than a header, and that it did not understand to the rest', () => {
    assert.equal(said(new Uint8Array()), 'silence');
    assert.equal(said(plain.subarray(0, 11)), 'silence');
    for (let length = 12; length < plain.length; length++)
      assert.equal(said(plain.subarray(0, length)), 'FORMERR', `${length} bytes`);
    for (let length = plain.length; length < edns.length; length++)
      assert.equal(said(edns.subarray(0, length)), 'FORMERR', `${length} bytes with EDNS`);
  });

  test('other opcodes are not implemented, whatever they hold', () => {
    for (const opcode of [1, 2, 4, 5, 6, 15])
      assert.equal(said(changed(plain.subarray(0, 12), 2, opcode << 3)), 'NOTIMP');
    // No flag comes back, as none of them means anything there (ISC's genreport: opcodeflg).
    const read = readQuery(changed(plain, 2, (5 << 3) | 7, 0xf0));
    assert.ok(!read.ok && read.answer !== undefined);
    assert.deepEqual([...read.answer], [0x12, 0x34, 0xa8, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  test('one question, not none and not two', () => {
    assert.equal(said(changed(plain, 5, 0)), 'FORMERR');
    const two = new Uint8Array([...plain, ...plain.subarray(12)]);
    assert.equal(said(changed(two, 5, 2)), 'FORMERR');
  });

  test('the question has no pointers, no odd labels and no name of 256 bytes', () => {
    assert.equal(said(changed(plain, 12, 0xc0, 12)), 'FORMERR');
    assert.equal(said(changed(plain, 12, 0x40)), 'FORMERR');
    assert.equal(said(changed(plain, 12, 0x83)), 'FORMERR');
    // However much follows.
    for (const length of [0x40, 0x7f, 0x80, 0xc0, 0xff]) {
      const label = Array.from({ length }, () => 0x61);
      const odd = [...plain.subarray(0, 12), length, ...label, 0, 0, 1, 0, 1];
      assert.equal(said(Uint8Array.from(odd)), 'FORMERR', `a label of ${length} bytes`);
    }
    const long = (last: number): Uint8Array => {
      const labels = [63, 63, 63, last].flatMap((length) => [
        length,
        ...Array.from({ length }, () => 0x61),
      ]);
      return new Uint8Array([...plain.subarray(0, 12), ...labels, 0, 0, 1, 0, 1]);
    };
    assert.equal(said(long(61)), 'a query');
    assert.equal(said(long(62)), 'FORMERR');
  });

  test('there is one OPT record, of the root, with whole options, in its section', () => {
    const opt = edns.length - 11;
    assert.equal(said(edns), 'a query');
    assert.equal(said(changed(new Uint8Array([...edns, ...edns.subarray(opt)]), 11, 2)), 'FORMERR');
    assert.equal(said(changed(edns, 7, 1, 0, 0, 0, 0)), 'FORMERR', 'in the answer section');
    const named = new Uint8Array([...edns.subarray(0, opt), 0xc0, 12, ...edns.subarray(opt + 1)]);
    assert.equal(said(named), 'FORMERR');
    const withData = (...data: readonly number[]): Uint8Array =>
      new Uint8Array([...edns.subarray(0, -2), 0, data.length, ...data]);
    assert.equal(said(withData(0, 10, 0, 2, 1, 2)), 'a query');
    assert.equal(said(withData(0, 10, 0, 3, 1, 2)), 'FORMERR');
    assert.equal(said(withData(0, 10, 0)), 'FORMERR');
    assert.equal(said(withData(0xff, 0xff, 0, 0, 0, 3, 0, 1, 7)), 'a query');
    assert.equal(said(withData(0, 10, 0, 0).subarray(0, -4)), 'FORMERR', 'it ends before its data');
    // A record of any type, which is not looked at, but has to end.
    const other = (length: number): Uint8Array =>
      changed(new Uint8Array([...plain, 0, 0, 16, 0, 1, 0, 0, 0, 0, 0, length, 1, 0x61]), 11, 1);
    assert.equal(said(other(2)), 'a query');
    assert.equal(said(other(3)), 'FORMERR');
  });
});

describe('resolve()', () => {
  test('keeps the case of the question, and the names of answers with it (0x20)', () => {
    const told = ask(zone, 'wEb.ZeRoHoP.iNtErNaL', 'A');
    assert.deepEqual(told.answers, ['wEb.ZeRoHoP.iNtErNaL 5 A 240.0.0.9']);
    assert.match(ask(zone, 'nO.ZeRoHoP.iNtErNaL', 'A').authorities.join(), /^ZeRoHoP\.iNtErNaL 1 /);
  });

  test('is authoritative; copies RD and CD; has RA where recursion is allowed; never AD', () => {
    const flags = packet.RECURSION_DESIRED | packet.CHECKING_DISABLED | packet.AUTHENTIC_DATA;
    assert.equal(ask(zone, WEB, 'A', { flags }).flags, 'aa rd ra cd');
    assert.equal(ask(zone, WEB, 'A', { flags: 0, isRecursionAllowed: false }).flags, 'aa');
    assert.equal(ask(zone, 'no.zerohop.internal', 'A').flags, 'aa rd ra');
  });

  test('EDNS is answered with EDNS, and nothing else is', () => {
    assert.equal(ask(zone, WEB, 'A').opt, undefined);
    assert.deepEqual(ask(zone, WEB, 'A', { edns: 4096, isDnssecOk: true }).opt, {
      size: 1232,
      isDnssecOk: true,
    });
    for (const [name, type] of [
      ['no.zerohop.internal', 'A'],
      [WEB, 'MX'],
      [SRV, 'SRV'],
      [WEB, 'ANY'],
      [WEB, 'AXFR'],
    ] as const)
      assert.deepEqual(ask(zone, name, type, { edns: 512 }).opt, { size: 1232, isDnssecOk: false });
  });

  test('a version of EDNS that is not known is BADVERS, of foreign names too', () => {
    for (const name of [WEB, 'example.com']) {
      const bytes = question(name, 'A', { edns: 1232, isDnssecOk: true });
      bytes[bytes.length - 5] = 1;
      const answer = resolve(zone, queryOf(bytes), OPTIONS);
      assert.ok(answer.kind === 'answer');
      assert.equal(answer.rcode, 16);
      // Of the code 1 in the upper bits, 0 in the header, of version 0.
      const opt = [0, 0, 41, 1232 >> 8, 1232 & 0xff, 1, 0, 0x80, 0, 0, 0];
      assert.deepEqual([...answer.bytes.subarray(-11)], opt);
      assert.equal((answer.bytes[3] ?? 0) & 15, 0);
      assert.deepEqual(tell(answer.bytes).answers, []);
    }
  });

  test('other classes, transfers and meta types are turned down', () => {
    assert.equal(ask(zone, 'version.bind', 'TXT', { class: 'CH' }).rcode, 'REFUSED');
    assert.equal(ask(zone, WEB, 'A', { class: 'ANY' }).rcode, 'REFUSED');
    assert.equal(ask(zone, 'zerohop.internal', 'AXFR').rcode, 'REFUSED');
    assert.equal(ask(zone, 'example.com', 'IXFR').rcode, 'REFUSED');
    assert.equal(ask(zone, WEB, 'TSIG').rcode, 'FORMERR');
    assert.equal(ask(zone, WEB, 'UNKNOWN_0').rcode, 'FORMERR');
    assert.equal(ask(zone, WEB, 'UNKNOWN_253').rcode, 'NOTIMP');
    assert.equal(ask(zone, WEB, 'UNKNOWN_65535').rcode, 'NOERROR');
    assert.equal(ask(zone, WEB, 'UNKNOWN_65').rcode, 'NOERROR');
  });

  test('without EDNS an answer has 512 bytes at most, with it what both sides take', () => {
    const bytes = (size?: number, udpSizeMax = 1232): number => {
      const told = ask(zone, '_http._tcp.large.zerohop.internal', 'SRV', {
        udpSizeMax,
        ...(size === undefined ? {} : { edns: size }),
      });
      assert.equal(told.flags, 'aa tc rd ra');
      return told.bytes;
    };
    // 12 of the header, 37 of the question and n records of 52 to 54: the next one did not fit.
    assert.ok(bytes() <= 512 && bytes() > 512 - 54);
    for (const size of [1, 100, 512]) assert.ok(bytes(size) <= 512 && bytes(size) > 512 - 54 - 11);
    assert.ok(bytes(800) <= 800 && bytes(800) > 800 - 54);
    assert.ok(bytes(65_535) <= 1232 && bytes(65_535) > 1232 - 54);
    assert.ok(bytes(65_535, 4096) <= 4096 && bytes(65_535, 4096) > 4096 - 54);
  });

  test('addresses of targets are left out before anything is truncated', () => {
    // More than 512 bytes without addresses, each of which takes 16.
    const of = (edns: number): string => {
      const { flags, answers, additionals } = ask(zone, SRV, 'SRV', { edns });
      return `${flags.includes('tc') ? 'tc' : 'whole'} ${answers.length} ${additionals.length}`;
    };
    const whole = ask(zone, SRV, 'SRV', { edns: 1232 }).bytes;
    assert.equal(of(1232), 'whole 12 12');
    assert.equal(of(whole), 'whole 12 12');
    assert.equal(of(whole - 1), 'whole 12 11');
    assert.equal(of(whole - 12 * 16), 'whole 12 0');
    assert.equal(of(whole - 12 * 16 - 1), 'tc 11 0');
  });

  test('what is truncated is another part each time', () => {
    const first = (random: () => number): string | undefined =>
      ask(zone, 'backends.large.zerohop.internal', 'A', { random }).answers[0];
    assert.notEqual(
      first(() => 0.1),
      first(() => 0.9),
    );
  });

  test('TCP takes answers up to 65,535 bytes, with pointers only where they reach', () => {
    const tcp = { transport: 'tcp' as const, edns: 1232 };
    const large = ask(zone, '_http._tcp.large.zerohop.internal', 'SRV', tcp);
    assert.equal(large.flags, 'aa rd ra');
    assert.equal(large.answers.length, 1100);
    // Sections beyond 16,383 bytes repeat the targets' names: dnspacket reads what belongs to whom.
    for (const text of large.additionals) {
      const [name, , , address = ''] = text.split(' ');
      assert.equal(name, `${address.replaceAll('.', '-')}.addr.zerohop.internal`);
    }
    assert.ok(large.additionals.length > 100 && large.bytes <= 65_535);
    const huge = ask(zone, '_http._tcp.huge.zerohop.internal', 'SRV', tcp);
    assert.equal(huge.flags, 'aa tc rd ra');
    assert.ok(huge.bytes <= 65_535 && huge.bytes > 65_535 - 54);
    assert.equal(ask(zone, 'backends.huge.zerohop.internal', 'A', tcp).answers.length, 1300);
  });

  test('answers stay as they are when others are made', () => {
    const first = resolve(zone, queryOf(question(WEB, 'A')), OPTIONS);
    assert.ok(first.kind === 'answer');
    const before = Buffer.from(first.bytes).toString('hex');
    for (let i = 0; i < 5000; i++) resolve(zone, queryOf(question(SRV, 'SRV')), OPTIONS);
    assert.equal(Buffer.from(first.bytes).toString('hex'), before);
  });
});

test('refusal() has the question, the code and EDNS, and no record', () => {
  const query = queryOf(question('Example.COM', 'A', { edns: 1232 }));
  const told = tell(refusal(query, 5));
  assert.deepEqual(told, {
    rcode: 'REFUSED',
    flags: 'rd',
    answers: [],
    authorities: [],
    additionals: [],
    opt: { size: 1232, isDnssecOk: false },
    bytes: 12 + 17 + 11,
  });
  assert.equal(tell(refusal(query, 2, true)).flags, 'rd ra');
});
