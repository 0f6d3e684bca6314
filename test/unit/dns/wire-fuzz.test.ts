/**
 * What anybody may send: nothing throws, an answer is never answered, each answer is whole,
 * belongs to its question and fits. ZEROHOP_TEST_SEED is the first seed (random.ts),
 * a failure names its own.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as packet from 'dns-packet';
import { readQuery } from '../../../src/dns/query.ts';
import { resolve } from '../../../src/dns/resolver.ts';
import { Dice, testSeed } from '../../harness/random.ts';
import { OPTIONS, question, zoneOf } from './zones.ts';

const first = testSeed();
const RUNS = 1500;

const zone = zoneOf({
  services: {
    web: {
      vips: ['240.0.0.1', '240.0.0.2', 'fd7a:6572:6f68:6f70::1'],
      ports: ['http=80/tcp'],
      backends: Array.from({ length: 60 }, (_, i) => `http 10.0.0.${i}:${80 + (i % 3)}`),
    },
    'a.b': { vips: ['240.0.0.3'] },
  },
  nodes: { n1: { name: 'alpha', addresses: ['192.0.2.1'] } },
  records: [
    'c.zerohop.internal CNAME d.zerohop.internal',
    'd.zerohop.internal CNAME backends.web.zerohop.internal',
    'e.zerohop.internal CNAME www.example.com',
    'f.zerohop.internal CNAME f.zerohop.internal',
    'x.example TXT hello',
    ...Array.from({ length: 9 }, (_, i) => `long.example TXT ${i}${'x'.repeat(250)}`),
  ],
});

const NAMES = [
  'web.zerohop.internal',
  'WEB.ZeroHop.Internal',
  'backends.web.zerohop.internal',
  '_http._tcp.web.zerohop.internal',
  '_tcp.web.zerohop.internal',
  'b.zerohop.internal',
  'a.b.zerohop.internal',
  'alpha.node.zerohop.internal',
  '10-1-2-3.addr.zerohop.internal',
  'fd00--1.addr.zerohop.internal',
  'c.zerohop.internal',
  'e.zerohop.internal',
  'f.zerohop.internal',
  'nobody.zerohop.internal',
  'zerohop.internal',
  'ready.zerohop.internal',
  'ns.zerohop.internal',
  'x.example',
  'long.example',
  'example.com',
  '1.0.0.240.in-addr.arpa',
  '9.0.240.in-addr.arpa',
  '1.2.0.192.in-addr.arpa',
  '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.f.6.8.6.f.6.2.7.5.6.a.7.d.f.ip6.arpa',
  `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(44)}.zerohop.internal`,
];
const TYPES = ['A', 'AAAA', 'SRV', 'TXT', 'PTR', 'MX', 'CNAME', 'SOA', 'NS', 'ANY', 'AXFR'];

const SIZES: readonly (number | undefined)[] = [undefined, 1, 512, 1232, 65_535];

function someQuery(dice: Dice): Uint8Array {
  const edns = SIZES[dice.below(SIZES.length)];
  const flags = dice.below(2) === 0 ? 0 : packet.RECURSION_DESIRED;
  return question(dice.pick(NAMES), dice.pick(TYPES), {
    flags,
    isDnssecOk: dice.below(2) === 0,
    ...(edns === undefined ? {} : { edns }),
  });
}

function randomBytes(dice: Dice, length: number): number[] {
  return Array.from({ length }, () => dice.below(256));
}

/** Bytes changed, cut off, put in or added; names of others put in for labels. */
function mutated(dice: Dice, bytes: Uint8Array): Uint8Array {
  const list = [...bytes];
  for (let times = 1 + dice.below(4); times > 0; times--) {
    const at = dice.below(list.length + 1);
    switch (dice.below(6)) {
      case 0:
        list[Math.min(at, list.length - 1)] = dice.below(256);
        break;
      case 1:
        list[Math.min(at, list.length - 1)] = dice.pick([0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff]);
        break;
      case 2:
        list.splice(at);
        break;
      case 3:
        list.splice(at, 0, ...randomBytes(dice, dice.below(20)));
        break;
      case 4:
        list.splice(at, dice.below(8));
        break;
      default:
        list.splice(12, 0, 0xc0, 12);
    }
    if (list.length === 0) list.push(0);
  }
  return Uint8Array.from(list);
}

/** Said to `bytes`, by the rules of src/dns; undefined is nothing, or what others are asked. */
function answerTo(dice: Dice, bytes: Uint8Array): Uint8Array | undefined {
  const read = readQuery(bytes);
  if (!read.ok) return checkedFailure(bytes, read.answer);
  const { query } = read;
  const transport = dice.below(4) === 0 ? ('tcp' as const) : ('udp' as const);
  const udpSizeMax = dice.pick([512, 1232, 4096]);
  const random = (): number => dice.below(2 ** 30) / 2 ** 30;
  const answer = resolve(zone, query, { ...OPTIONS, transport, udpSizeMax, random });
  if (answer.kind === 'forward') return undefined;
  const { bytes: made, rcode } = answer;
  const size = query.edns === undefined ? 512 : Math.min(query.edns.udpSize, udpSizeMax);
  const bytesMax = transport === 'tcp' ? 65_535 : Math.max(512, size);
  assert.ok(made.length <= bytesMax, `${made.length} bytes of ${bytesMax}`);
  const asked = Buffer.from(query.question).toString('hex');
  const repeated = made.subarray(12, 12 + query.question.length);
  assert.equal(Buffer.from(repeated).toString('hex'), asked);
  assert.equal(((made[0] ?? 0) << 8) | (made[1] ?? 0), query.id);
  const decoded = decodedWhole(made);
  const opt = decoded.additionals?.filter((record) => record.type === 'OPT') ?? [];
  assert.equal(opt.length, query.edns === undefined ? 0 : 1);
  assert.equal((made[3] ?? 0) & 15, rcode & 15);
  return made;
}

/** As dns-packet reads it, which must use up every byte. */
function decodedWhole(bytes: Uint8Array): packet.DecodedPacket {
  const decoded = packet.decode(Buffer.from(bytes));
  const { bytes: read } = packet.decode as unknown as { bytes: number };
  assert.equal(read, bytes.length);
  assert.equal(decoded.type, 'response');
  return decoded;
}

function checkedFailure(bytes: Uint8Array, answer: Uint8Array | undefined): Uint8Array | undefined {
  const isSilent = bytes.length < 12 || (bytes[2] ?? 0) >= 0x80;
  assert.equal(answer === undefined, isSilent);
  if (answer === undefined) return undefined;
  decodedWhole(answer);
  assert.deepEqual([...answer.subarray(0, 2)], [...bytes.subarray(0, 2)]);
  return answer;
}

test('whatever comes, nothing throws, and what is said is an answer to it that fits', () => {
  const seen = new Map<string, number>();
  for (let i = 0; i < RUNS; i++) {
    const seed = (first + i) >>> 0;
    const dice = new Dice(seed);
    const query = someQuery(dice);
    for (const bytes of [
      query,
      mutated(dice, query),
      mutated(dice, query),
      Uint8Array.from(randomBytes(dice, dice.below(300))),
      // Random, but for a header that asks one question.
      Uint8Array.from([0, dice.below(256), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...randomBytes(dice, 40)]),
    ]) {
      try {
        const answer = answerTo(dice, bytes);
        const code = answer === undefined ? 'none' : String((answer[3] ?? 0) & 15);
        seen.set(code, (seen.get(code) ?? 0) + 1);
        if (answer !== undefined) {
          const again = readQuery(answer);
          assert.ok(!again.ok && again.answer === undefined, 'an answer is not answered');
        }
      } catch (error) {
        const shown = Buffer.from(bytes).toString('hex');
        throw new Error(`ZEROHOP_TEST_SEED=${seed}: ${shown}`, { cause: error });
      }
    }
  }
  // All kinds were met: answers, FORMERR, NXDOMAIN, SERVFAIL (a round of CNAMEs), NOTIMP, REFUSED.
  for (const code of ['0', '1', '2', '3', '4', '5', 'none'])
    assert.ok((seen.get(code) ?? 0) > 10, `${code}: ${seen.get(code)}, ZEROHOP_TEST_SEED=${first}`);
});
