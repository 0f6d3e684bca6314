/**
 * Judges of the resolver that know nothing of it: what ISC's EDNS compliance list (genreport,
 * ednscomp.isc.org) expects, asked with dig and read from the bytes; and dnspython, which parses
 * whatever the resolver says to mutated messages.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DOMAIN, fuzz, fuzzHost, RESOLVER } from '../harness/dns-fuzzing.ts';
import { checkout, type TestHost } from '../harness/host.ts';
import { testSeed } from '../harness/random.ts';

let host: TestHost;

before(async () => {
  host = await fuzzHost();
});

after(async () => {
  await host[Symbol.asyncDispose]();
});

interface Seen {
  readonly status: string;
  readonly opcode: string;
  readonly flags: readonly string[];
  /** Of EDNS; undefined: there is none. */
  readonly edns:
    | { readonly version: number; readonly flags: string; readonly udp: number }
    | undefined;
  /** Answers, and how many of all but the OPT. */
  readonly types: readonly string[];
  readonly counts: {
    readonly answer: number;
    readonly authority: number;
    readonly additional: number;
  };
  readonly bytes: number;
  readonly text: string;
}

function field(text: string, pattern: RegExp): string {
  const found = pattern.exec(text)?.[1];
  assert.ok(found !== undefined, `${String(pattern)} in:\n${text}`);
  return found;
}

/** dig's own reading of the answer. */
function read(text: string): Seen {
  const edns = /^; EDNS: version: (\d+), flags:([^;]*); (?:MBZ: (0x[0-9a-f]+), )?udp: (\d+)/m.exec(
    text,
  );
  const answers = /;; ANSWER SECTION:\n([\s\S]*?)\n\n/.exec(text)?.[1]?.split('\n') ?? [];
  const [answer = 0, authority = 0, additional = 0] = ['ANSWER', 'AUTHORITY', 'ADDITIONAL'].map(
    (name) => Number(field(text, new RegExp(`${name}: (\\d+)`))),
  );
  return {
    status: field(text, /status: (\w+)/),
    opcode: field(text, /opcode: (\w+)/),
    flags: field(text, /^;; flags: ?([^;]*);/m)
      .split(' ')
      .filter((flag) => flag !== ''),
    edns:
      edns === null
        ? undefined
        : {
            version: Number(edns[1]),
            flags: `${edns[2]?.trim()}${edns[3] ?? ''}`,
            udp: Number(edns[4]),
          },
    types: answers.map((line) => line.split(/\s+/)[3] ?? ''),
    counts: { answer, authority, additional: additional - (edns === null ? 0 : 1) },
    bytes: Number(field(text, /MSG SIZE {2}rcvd: (\d+)/)),
    text,
  };
}

async function dig(words: string): Promise<Seen> {
  const all = [
    'dig',
    `@${RESOLVER}`,
    '+tries=1',
    '+time=3',
    '+nocookie',
    '+noad',
    ...words.split(' '),
  ];
  return read(await host.output(all));
}

const SOA = `SOA ${DOMAIN}`;

/** What genreport asks of every answer, and what of each question. */
interface Case {
  /** As genreport calls it. */
  readonly name: string;
  readonly words: string;
  readonly status?: 'NOERROR' | 'BADVERS' | 'NOTIMP';
  readonly hasNoSoa?: true;
  readonly flags?: readonly string[];
}

const PLAIN: readonly Case[] = [
  { name: 'dns', words: `+noedns +norec ${SOA}` },
  { name: 'aa', words: `+noedns +norec +aaflag ${SOA}` },
  { name: 'ad', words: `+noedns +norec +ad ${SOA}` },
  { name: 'cd', words: `+noedns +norec +cd ${SOA}`, flags: ['cd'] },
  { name: 'ra', words: `+noedns +norec +raflag ${SOA}` },
  { name: 'rd', words: `+noedns +rec ${SOA}`, flags: ['rd'] },
  { name: 'tc', words: `+noedns +norec +tcflag ${SOA}` },
  { name: 'zflag', words: `+noedns +norec +zflag ${SOA}` },
  { name: 'type666', words: `+noedns +norec TYPE666 ${DOMAIN}`, hasNoSoa: true },
  { name: 'tcp', words: `+noedns +norec +tcp ${SOA}` },
  {
    name: 'opcode',
    words: '+noedns +norec +header-only +opcode=15',
    status: 'NOTIMP',
    hasNoSoa: true,
  },
  {
    name: 'opcodeflg',
    words: '+noedns +header-only +opcode=15 +tcflag +rec +raflag +cd +ad +aaflag +zflag',
    status: 'NOTIMP',
    hasNoSoa: true,
  },
];

const EDNS: readonly Case[] = [
  { name: 'edns', words: `+edns=0 +norec ${SOA}` },
  { name: 'edns1', words: `+edns=1 +noednsneg +norec ${SOA}`, status: 'BADVERS' },
  {
    name: 'edns@512',
    words: `+edns=0 +norec +dnssec +ignore +bufsize=512 DNSKEY ${DOMAIN}`,
    hasNoSoa: true,
  },
  { name: 'ednsopt', words: `+edns=0 +norec +ednsopt=100 ${SOA}` },
  { name: 'edns1opt', words: `+edns=1 +noednsneg +norec +ednsopt=100 ${SOA}`, status: 'BADVERS' },
  { name: 'do', words: `+edns=0 +norec +dnssec ${SOA}` },
  { name: 'docd', words: `+edns=0 +norec +dnssec +cd ${SOA}`, flags: ['cd'] },
  { name: 'edns1do', words: `+edns=1 +noednsneg +norec +dnssec ${SOA}`, status: 'BADVERS' },
  { name: 'ednsflags', words: `+edns=0 +norec +ednsflags=0x0080 ${SOA}` },
  { name: 'ednsnsid', words: `+edns=0 +norec +nsid ${SOA}` },
  { name: 'ednscookie', words: `+edns=0 +norec +cookie=0102030405060708 ${SOA}` },
  { name: 'ednsexpire', words: `+edns=0 +norec +expire ${SOA}` },
  { name: 'ednssubnet', words: `+edns=0 +norec +subnet=0.0.0.0/0 ${SOA}` },
  {
    name: 'optlist',
    words: `+edns=0 +norec +nsid +subnet=0.0.0.0/0 +expire +cookie=0102030405060708 ${SOA}`,
  },
  { name: 'edns1nsid', words: `+edns=1 +noednsneg +norec +nsid ${SOA}`, status: 'BADVERS' },
  {
    name: 'edns1subnet',
    words: `+edns=1 +noednsneg +norec +subnet=0.0.0.0/0 ${SOA}`,
    status: 'BADVERS',
  },
  {
    name: 'ednstcp',
    words: `+edns=0 +norec +dnssec +bufsize=512 +tcp DNSKEY ${DOMAIN}`,
    hasNoSoa: true,
  },
  { name: 'dig11', words: `+edns=0 +cookie=0102030405060708 +ad +rec ${SOA}`, flags: ['rd'] },
];

/** What a query may have back: nothing that it did not ask for, and nothing that means nothing. */
function expectAnswer(seen: Seen, { status = 'NOERROR', hasNoSoa, flags = [] }: Case): void {
  assert.equal(seen.status, status, seen.text);
  assert.equal(seen.opcode, status === 'NOTIMP' ? 'RESERVED15' : 'QUERY', seen.text);
  const isQuery = status !== 'NOTIMP';
  const expected = isQuery ? new Set(['qr', 'ra', ...flags]) : new Set(['qr']);
  if (status === 'NOERROR') expected.add('aa');
  for (const flag of seen.flags) assert.ok(expected.has(flag), `flag ${flag} in:\n${seen.text}`);
  for (const flag of ['qr', ...(isQuery && status === 'NOERROR' ? ['aa'] : [])])
    assert.ok(seen.flags.includes(flag), `no flag ${flag} in:\n${seen.text}`);
  if (flags.includes('rd')) assert.ok(seen.flags.includes('rd'), seen.text);
  const hasSoa = status === 'NOERROR' && hasNoSoa !== true;
  assert.deepEqual(seen.types, hasSoa ? ['SOA'] : [], seen.text);
  assert.doesNotMatch(seen.text, /OPT=100|NSID|CLIENT-SUBNET|EXPIRE|MBZ/, seen.text);
}

describe("ISC's EDNS compliance list", () => {
  for (const expected of PLAIN) {
    test(`${expected.name}: dig ${expected.words}`, async () => {
      const seen = await dig(expected.words);
      expectAnswer(seen, expected);
      assert.equal(seen.edns, undefined, seen.text);
    });
  }

  for (const expected of EDNS) {
    test(`${expected.name}: dig ${expected.words}`, async () => {
      const seen = await dig(expected.words);
      expectAnswer(seen, expected);
      assert.equal(seen.edns?.version, 0, seen.text);
      assert.equal(seen.edns?.flags, expected.words.includes('+dnssec') ? 'do' : '', seen.text);
    });
  }
});

describe("ISC's genreport itself", () => {
  const program = process.env['ZEROHOP_GENREPORT'];
  const skip =
    program === undefined &&
    "ZEROHOP_GENREPORT is not set: genreport of ISC's DNS-Compliance-Testing";

  for (const [what, options] of [
    ['EDNS, flags, opcodes', '-fcs'],
    ['all types', '-ts'],
  ] as const) {
    test(`finds nothing: ${what}`, { skip }, async () => {
      const input = `${DOMAIN} ns.${DOMAIN} ${RESOLVER}\n`;
      const { code, stdout, stderr } = await host.exec([String(program), options], { input });
      assert.equal(code, 0, stderr);
      const results = stdout.trim().split(': ').slice(1).join(': ').split(' ');
      assert.ok(results.length > 20, stdout);
      assert.deepEqual(
        results.filter((result) => !result.endsWith('=ok')),
        [],
      );
    });
  }
});

describe('sizes', () => {
  const LARGE = `backends.large.${DOMAIN}`;
  const LARGE_BACKENDS = 300;

  for (const [words, most] of [
    ['+noedns', 512],
    ['+bufsize=512', 512],
    ['+bufsize=100', 512],
    ['+bufsize=1000', 1000],
    ['+bufsize=1232', 1232],
    ['+bufsize=4096', 1232],
  ] as const) {
    test(`a large answer to ${words} is cut at ${most} bytes and says so`, async () => {
      const seen = await dig(`+notcp +ignore ${words} A ${LARGE}`);
      assert.equal(seen.status, 'NOERROR');
      assert.ok(seen.flags.includes('tc'), seen.text);
      assert.ok(seen.bytes <= most, seen.text);
      // As many as fit: one more has 16 bytes.
      assert.ok(seen.bytes > most - 16 && seen.counts.answer > 20, seen.text);
      assert.equal(new Set(seen.types).size, 1);
      assert.equal(seen.edns?.version, words === '+noedns' ? undefined : 0);
    });
  }

  test('dig asks over TCP by itself when it is cut, and has all of it', async () => {
    const seen = await dig(`+bufsize=512 A ${LARGE}`);
    assert.match(seen.text, /^;; Truncated, retrying in TCP mode/m);
    assert.ok(!seen.flags.includes('tc'), seen.text);
    assert.equal(seen.counts.answer, LARGE_BACKENDS);
    assert.match(seen.text, /\(TCP\)/);
  });

  test('over TCP nothing is cut, with EDNS and without', async () => {
    for (const edns of ['+noedns', '+edns=0 +bufsize=512', '+edns=0 +dnssec']) {
      const seen = await dig(`+tcp ${edns} A ${LARGE}`);
      assert.ok(!seen.flags.includes('tc'), seen.text);
      assert.equal(seen.counts.answer, LARGE_BACKENDS);
    }
  });

  test('SRV records without their addresses are no reason to be cut off', async () => {
    const seen = await dig(`+notcp +ignore +bufsize=1232 SRV _http._tcp.web.${DOMAIN}`);
    assert.ok(!seen.flags.includes('tc'), seen.text);
    assert.equal(seen.counts.answer, 5);
    assert.equal(seen.counts.additional, 5);
  });
});

/** Counts and faults that dnspython finds in what fuzz() has dumped. */
async function dnspython(
  dump: string,
): Promise<{ count: number; rcodes: Record<string, number>; faults: string[] }> {
  const script = join(checkout, 'test/system/clients/dns-judge.py');
  const text = await host.output(['/usr/bin/python3', script, dump], { env: { PYTHONUTF8: '1' } });
  return JSON.parse(text) as { count: number; rcodes: Record<string, number>; faults: string[] };
}

describe('dnspython reads every answer', () => {
  const seed = testSeed();
  const count = Number(process.env['ZEROHOP_TEST_FUZZ'] ?? 20_000) / 2;

  for (const transport of ['udp', 'tcp'] as const) {
    test(`to ${count} mutated messages over ${transport.toUpperCase()}, with a liar as name server`, async () => {
      const dump = join(host.dir, `answers.${transport}`);
      const seen = await fuzz(host, { transport, count, seed, dump }, 300_000 + count * 5);
      const judged = await dnspython(dump);
      const hint = `ZEROHOP_TEST_SEED=${seed}`;
      assert.deepEqual(seen.faults, [], hint);
      assert.deepEqual(judged.faults, [], hint);
      assert.equal(seen.poisoned, 0, hint);
      assert.ok(seen.sent >= count && judged.count > count / 3, `${judged.count} answers; ${hint}`);
      for (const rcode of [
        'NOERROR',
        'FORMERR',
        'SERVFAIL',
        'NXDOMAIN',
        'NOTIMP',
        'REFUSED',
        'BADVERS',
      ])
        assert.ok((judged.rcodes[rcode] ?? 0) > 0, `no ${rcode}; ${hint}`);
    });
  }

  test('after that the agent is the same, and answers', async () => {
    assert.ok(host.agent.running);
    assert.equal((await dig(SOA)).status, 'NOERROR');
    const errors = host.agent.log().filter(({ level }) => typeof level === 'number' && level >= 50);
    assert.deepEqual(errors, []);
  });
});
