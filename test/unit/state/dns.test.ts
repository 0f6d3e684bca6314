/** DNS records as people write them, and which of them may stand beside what. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import { decide, type Command, type Decision } from '../../../src/state/commands.ts';
import { DNS_RECORDS_MAX } from '../../../src/state/dns-commands.ts';
import { dnsRecordSpec } from '../../../src/state/dns-validate.ts';
import { parseDocuments } from '../../../src/state/documents.ts';
import { exportDocuments } from '../../../src/state/export.ts';
import type { DnsRecord, DnsType, StateSnapshot } from '../../../src/state/records.ts';
import { parse } from '../../../src/state/validate.ts';
import { dnsRecord, pools } from './generators.ts';

function record(name: string, type: DnsType, ...data: string[]): DnsRecord {
  return { name, type, data };
}

/** What is wrong with a document; empty: nothing is. */
function complaints(document: object): string[] {
  const parsed = parseDocuments([{ kind: 'record', ...document }]);
  return parsed.ok ? [] : parsed.problems.map((p) => `${p.path ?? '-'}: ${p.message}`);
}

suite('a DNS record as it is written', () => {
  test('names lose their case and the dot at the end, addresses are as they are printed', () => {
    for (const [type, given, canonical] of [
      ['A', '10.0.0.1', '10.0.0.1'],
      ['AAAA', 'FD00:0:0::1', 'fd00::1'],
      ['CNAME', 'WWW.Example.', 'www.example'],
      ['PTR', '_x.Example', '_x.example'],
      ['MX', ' 010  Mail.Example. ', '10 mail.example'],
      ['MX', '0 .', '0 .'],
      ['SRV', '0 5 443 Web.Example', '0 5 443 web.example'],
      ['TXT', 'As It Is. ', 'As It Is. '],
      ['TXT', '', ''],
      ['TXT', `${'ä'.repeat(127)}x`, `${'ä'.repeat(127)}x`],
    ] as const) {
      const name = 'A_1.Example.';
      assert.deepEqual(parse(dnsRecordSpec, { name, type: type.toLowerCase(), data: given }), {
        ok: true,
        value: { name: 'a_1.example', type, data: [canonical] },
      });
    }
  });

  test('a list is a record each, with one TTL or that of the zone', () => {
    const given = { name: 'a.example', type: 'A', ttl: 0, data: ['10.0.0.2', '10.0.0.1'] };
    assert.deepEqual(parse(dnsRecordSpec, given), { ok: true, value: given });
  });

  test('what is malformed is told with its place', () => {
    const a = { name: 'a.example', type: 'A', data: '10.0.0.1' };
    const told = (more: object): string => complaints({ ...a, ...more }).join('\n');
    for (const [more, complaint] of [
      [{ name: '' }, 'documents[0].name: name "" is malformed: it is empty'],
      [{ name: '.' }, 'a label is empty'],
      [{ name: 'a..b' }, 'a label is empty'],
      [{ name: '*.example' }, 'there are no wildcards: each name has its own record'],
      [{ name: 'a b' }, 'a label has a–z, 0–9, "_" and "-", and no "-" at its ends'],
      [{ name: 'a-.b' }, 'no "-" at its ends'],
      [{ name: 'ä.example' }, 'a label has a–z'],
      [{ name: '10.0.0.1' }, 'it is an IP address'],
      [{ name: `${'a'.repeat(64)}.b` }, 'a label is longer than 63 bytes'],
      [{ name: 'a.'.repeat(127) }, undefined],
      [{ name: `${'a.'.repeat(127)}b` }, 'it is longer than 253 bytes'],
      [{ name: 5 }, 'name 5 is not text'],
      [{ name: undefined }, 'name is missing'],
      [{ type: 'NS' }, 'type "NS" is none of A, AAAA, CNAME, TXT, SRV, MX, PTR'],
      [{ type: undefined }, 'type is missing'],
      [{ ttl: -1 }, 'documents[0].ttl: ttl -1 is not a whole number in 0–2147483647'],
      [{ data: undefined }, 'documents[0].data: data is missing'],
      [{ data: [] }, 'data is empty: a record has at least one'],
      [
        { data: Array.from({ length: 65 }, (_, i) => `10.0.0.${i}`) },
        'data is neither a text nor a list of 1–64 texts',
      ],
      [{ data: [1] }, 'data is neither a text nor a list of 1–64 texts'],
      [{ data: 5 }, 'data is neither a text nor a list of 1–64 texts'],
      [
        { data: ['10.0.0.1', '10.0.0.01'] },
        'documents[0].data[1]: A data "10.0.0.01" is not an IPv4',
      ],
      [
        { data: ['10.0.0.1', '10.0.0.1'] },
        'documents[0].data[1]: A data "10.0.0.1" is there twice',
      ],
      [{ data: 'fd00::1' }, 'A data "fd00::1" is not an IPv4 address'],
      [{ type: 'AAAA' }, 'AAAA data "10.0.0.1" is not an IPv6 address'],
      [{ type: 'AAAA', data: '::ffff:10.0.0.1' }, 'is not an IPv6 address'],
      [{ type: 'CNAME' }, 'CNAME data "10.0.0.1" is not a name: it is an IP address'],
      [{ type: 'CNAME', data: ['a.b', 'c.d'] }, 'documents[0].data: a name has one CNAME'],
      [{ type: 'MX', data: 'mail.example' }, 'MX data "mail.example" is not like 10 mail.example'],
      [{ type: 'MX', data: '65536 mail.example' }, 'numbers are whole, up to 65535'],
      [{ type: 'MX', data: '1 10.0.0.1' }, '"10.0.0.1" is not a name: it is an IP address'],
      [{ type: 'SRV', data: '0 5 web.example' }, 'is not like 0 5 443 web.example'],
      [{ type: 'SRV', data: '0 5 4x3 web.example' }, 'numbers are whole, up to 65535'],
      [{ type: 'TXT', data: 'x'.repeat(256) }, 'has 256 bytes of at most 255'],
      [{ type: 'TXT', data: 'ä'.repeat(128) }, 'has 256 bytes of at most 255'],
      [{ type: 'TXT', data: 'a\ud800' }, 'has half a character (a lone surrogate)'],
      [{ TTL: 5 }, 'unknown field "TTL"'],
    ] as const) {
      if (complaint === undefined) assert.equal(told(more), '');
      else assert.ok(told(more).includes(complaint), `${JSON.stringify(more)}: ${told(more)}`);
    }
  });

  test('what is canonical is read as it is', () => {
    fc.assert(
      fc.property(dnsRecord, (one) => {
        assert.deepEqual(parse(dnsRecordSpec, one), { ok: true, value: one });
      }),
    );
  });
});

function apply(snapshot: StateSnapshot, documents: readonly object[]): Decision {
  const parsed = parseDocuments(documents);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return decide(snapshot, { kind: 'apply', documents: parsed.value }, pools);
}

function after(...commands: readonly Command[]): StateSnapshot {
  let snapshot = EMPTY_SNAPSHOT;
  for (const command of commands) {
    const { changes, problems } = decide(snapshot, command, pools);
    assert.deepEqual(problems, []);
    snapshot = applyChanges(snapshot, changes).snapshot;
  }
  return snapshot;
}

function told({ problems, warnings }: Decision): string[] {
  return [...problems, ...warnings].map(
    (p) => `${p.code} ${p.path ?? '-'}: ${p.message}${p.hint === undefined ? '' : ` | ${p.hint}`}`,
  );
}

const put = (...of: Parameters<typeof record>): Command => ({
  kind: 'put-record',
  record: record(...of),
});
const add = (...of: Parameters<typeof record>): Command => ({
  kind: 'add-record',
  record: record(...of),
});
const web: Command = {
  kind: 'add-service',
  service: { name: 'web', ports: [{ name: 'http', port: 80, protocol: 'tcp' }] },
};

suite('commands about DNS records', () => {
  test('one is created, changed and removed, and its name told each time', () => {
    const steps: [Command, object[]][] = [
      [put('a.example', 'A', '10.0.0.1'), [{ action: 'create', name: 'a.example A' }]],
      [put('a.example', 'A', '10.0.0.2'), [{ action: 'update', name: 'a.example A' }]],
      [put('a.example', 'A', '10.0.0.2'), []],
      [add('a.example', 'A', '10.0.0.2'), []],
      [put('a.example', 'TXT', 'x'), [{ action: 'create', name: 'a.example TXT' }]],
      [
        { kind: 'remove-record', name: 'a.example' },
        [
          { action: 'remove', name: 'a.example A' },
          { action: 'remove', name: 'a.example TXT' },
        ],
      ],
    ];
    let snapshot = EMPTY_SNAPSHOT;
    for (const [command, expected] of steps) {
      const { changes, actions } = decide(snapshot, command, pools);
      assert.deepEqual(
        actions,
        expected.map((action) => ({ kind: 'record', ...action })),
      );
      const applied = applyChanges(snapshot, changes);
      assert.deepEqual([...applied.touchedRecords], expected.length === 0 ? [] : ['a.example']);
      assert.deepEqual([[...applied.touched], applied.aclsChanged], [[], false]);
      snapshot = applied.snapshot;
    }
    assert.equal(snapshot.records.size, 0);
  });

  test('what is added stands beside what is there, with its TTL unless another is given', () => {
    const first: DnsRecord = { name: 'a.example', type: 'A', ttl: 60, data: ['10.0.0.1'] };
    const snapshot = after(
      { kind: 'put-record', record: first },
      add('a.example', 'A', '10.0.0.2'),
    );
    const both = { ...first, data: ['10.0.0.1', '10.0.0.2'] };
    assert.deepEqual([...snapshot.records.values()], [both]);
    const command: Command = { kind: 'add-record', record: { ...first, ttl: 5 } };
    const { changes } = decide(snapshot, command, pools);
    assert.deepEqual(changes, [{ kind: 'put-record', record: { ...both, ttl: 5 } }]);
  });

  test('a name has one CNAME and at most 64 records of another type', () => {
    const data = Array.from({ length: 64 }, (_, i) => `10.0.0.${i}`);
    const full = after(put('a.example', 'A', ...data), put('b.example', 'CNAME', 'x.example'));
    const hint = '`zerohop dns record add --replace` puts others in the place of those it has';
    assert.deepEqual(told(decide(full, add('a.example', 'A', '10.0.1.1'), pools)), [
      `limit data: "a.example" would have 65 A records of at most 64 | ${hint}`,
    ]);
    assert.deepEqual(told(decide(full, add('b.example', 'CNAME', 'y.example'), pools)), [
      `conflict -: "b.example" has a CNAME already, to x.example: a name has one | ${hint}`,
    ]);
    assert.deepEqual(decide(full, put('b.example', 'CNAME', 'y.example'), pools).problems, []);
  });

  test('a CNAME stands alone, whichever comes first', () => {
    const cname = after(put('a.example', 'CNAME', 'b.example'));
    assert.deepEqual(told(decide(cname, put('a.example', 'TXT', 'x'), pools)), [
      'conflict name: "a.example" cannot have TXT beside CNAME: a CNAME stands alone | `zerohop dns record rm a.example CNAME` removes what is there',
    ]);
    const others = after(put('a.example', 'A', '10.0.0.1'), put('a.example', 'TXT', 'x'));
    assert.deepEqual(told(decide(others, put('a.example', 'CNAME', 'b.example'), pools)), [
      'conflict name: "a.example" cannot have CNAME beside A, TXT: a CNAME stands alone | `zerohop dns record rm a.example A` removes what is there',
    ]);
    const documents = [
      { kind: 'record', ...record('a.example', 'CNAME', 'b.example') },
      { kind: 'record', ...record('a.example', 'A', '10.0.0.1') },
    ];
    assert.deepEqual(
      apply(EMPTY_SNAPSHOT, documents).problems.map((p) => p.path),
      ['documents[0].name', 'documents[1].name'],
    );
  });

  test('where a service answers no record of the same kind is taken, others are', () => {
    const there = after(web);
    for (const [name, type, data, isTaken] of [
      ['web.zerohop.internal', 'A', '10.0.0.1', false],
      ['web.zerohop.internal', 'AAAA', 'fd00::1', false],
      ['web.zerohop.internal', 'CNAME', 'x.example', false],
      ['web.zerohop.internal', 'TXT', 'x', true],
      ['web.zerohop.internal', 'MX', '10 x.example', true],
      ['backends.web.zerohop.internal', 'A', '10.0.0.1', false],
      ['backends.web.zerohop.internal', 'TXT', 'x', true],
      ['_http._tcp.web.zerohop.internal', 'SRV', '0 0 1 x.example', false],
      ['_http._tcp.web.zerohop.internal', 'TXT', 'x', true],
      ['_http._udp.web.zerohop.internal', 'SRV', '0 0 1 x.example', true],
      ['_other._tcp.web.zerohop.internal', 'SRV', '0 0 1 x.example', true],
      ['www.web.zerohop.internal', 'A', '10.0.0.1', true],
      ['web.example', 'A', '10.0.0.1', true],
    ] as const) {
      const decision = decide(there, put(name, type, data), pools);
      const expected = `conflict name: "${name}" cannot have ${type} of its own: service "web" answers for that name | give the record another name, or rename the service`;
      assert.deepEqual(told(decision), isTaken ? [] : [expected], `${name} ${type}`);
      assert.equal(decision.changes.length, isTaken ? 1 : 0);
    }
    const other = decide(there, put('web.corp.example', 'A', '10.0.0.1'), pools, 'corp.example');
    assert.equal(other.problems.length, 1);
  });

  test('a service is refused where a name of its own has such a record', () => {
    for (const [name, type, data] of [
      ['web.zerohop.internal', 'A', '10.0.0.1'],
      ['backends.web.zerohop.internal', 'CNAME', 'x.example'],
      ['_http._tcp.web.zerohop.internal', 'SRV', '0 0 1 x.example'],
    ] as const) {
      assert.deepEqual(told(decide(after(put(name, type, data)), web, pools)), [
        `conflict -: service "web" would answer for "${name}", which has a record ${type} ${data} | \`zerohop dns record rm ${name} ${type}\` removes it`,
      ]);
    }
    // In one file: told once, at the record.
    const both = apply(EMPTY_SNAPSHOT, [
      { kind: 'record', ...record('web.zerohop.internal', 'A', '10.0.0.1') },
      { kind: 'service', name: 'web', ports: [{ port: 80 }] },
    ]);
    assert.deepEqual(
      both.problems.map((p) => p.path),
      ['documents[0].name'],
    );
  });

  test('what other hosts brought together stays as it is, and can be taken apart', () => {
    const both = applyChanges(after(web), [
      { kind: 'put-record', record: record('web.zerohop.internal', 'A', '10.0.0.1') },
    ]).snapshot;
    const drained: Command = {
      kind: 'put-service',
      service: { name: 'web', ports: [{ name: 'https', port: 443, protocol: 'tcp' }] },
    };
    assert.deepEqual(decide(both, drained, pools).problems, []);
    assert.deepEqual(apply(both, exportDocuments(both)).problems, []);
    const removal: Command = { kind: 'remove-record', name: 'web.zerohop.internal' };
    assert.equal(decide(both, removal, pools).changes.length, 1);
  });

  test('names that zerohop answers by itself are nobody else’s', () => {
    for (const [name, reason] of [
      ['ready.zerohop.internal', 'is answered by zerohop itself'],
      ['ns.zerohop.internal', 'is answered by zerohop itself'],
      ['h1.node.zerohop.internal', 'is below node.zerohop.internal, where hosts have theirs'],
      ['addr.zerohop.internal', 'is below addr.zerohop.internal, where hosts have theirs'],
    ] as const) {
      assert.deepEqual(told(decide(EMPTY_SNAPSHOT, put(name, 'TXT', 'x'), pools)), [
        `conflict name: "${name}" ${reason} | give the record another name`,
      ]);
    }
    const apex = (type: DnsType, data: string): string[] =>
      told(decide(EMPTY_SNAPSHOT, put('zerohop.internal', type, data), pools));
    assert.deepEqual(apex('MX', '10 a.example'), []);
    assert.match(apex('CNAME', 'a.example').join(), /is the zone itself, which has other records/);
  });

  test('a name of one label is taken, with a warning', () => {
    const decision = decide(EMPTY_SNAPSHOT, put('printer', 'A', '10.0.0.1'), pools);
    assert.equal(decision.changes.length, 1);
    assert.deepEqual(told(decision), [
      'invalid name: "printer" is taken as the whole name of the record | in the cluster\'s zone it would be printer.zerohop.internal',
    ]);
  });

  test('removing what is not there is refused with what may be meant', () => {
    const snapshot = after(put('mail.example', 'A', '10.0.0.1'));
    const remove = (name: string, type?: DnsType, from = snapshot): string[] =>
      told(decide(from, { kind: 'remove-record', name, type }, pools));
    assert.deepEqual(remove('mial.example'), [
      'not-found -: there is no record of "mial.example" | did you mean "mail.example"?',
    ]);
    assert.deepEqual(remove('mail.example', 'MX'), [
      'not-found -: there is no MX record of "mail.example" | it has A',
    ]);
    assert.match(remove('x', undefined, EMPTY_SNAPSHOT).join(), /there is none yet: `zerohop dns/);
  });

  test('a record described twice is a conflict', () => {
    const one = { kind: 'record', ...record('a.example', 'A', '10.0.0.1') };
    assert.deepEqual(told(apply(EMPTY_SNAPSHOT, [one, { ...one, data: '10.0.0.2' }])), [
      'conflict documents[1].name: record "a.example A" is described twice | first in documents[0]',
    ]);
  });

  test('the number of records has a limit, which what is there may have passed', () => {
    const many = Array.from({ length: DNS_RECORDS_MAX + 1 }, (_, i) => ({
      kind: 'put-record' as const,
      record: record(`n${i}.example`, 'A', '10.0.0.1'),
    }));
    const full = applyChanges(EMPTY_SNAPSHOT, many.slice(0, DNS_RECORDS_MAX)).snapshot;
    assert.deepEqual(told(decide(full, put('more.example', 'A', '10.0.0.1'), pools)), [
      'limit -: 10001 names and types have records: at most 10000 may | a zone of that size is for a name server of its own: `dns.forward` asks it',
    ]);
    assert.deepEqual(decide(full, put('n1.example', 'A', '10.0.0.2'), pools).problems, []);
    const over = applyChanges(EMPTY_SNAPSHOT, many).snapshot;
    assert.deepEqual(decide(over, put('n1.example', 'A', '10.0.0.2'), pools).problems, []);
  });

  test('records are exported last, in the order of names, and applied again change nothing', () => {
    const snapshot = after(
      web,
      put('b.example', 'A', '10.0.0.1'),
      put('a.example', 'TXT', 'x', 'y'),
      put('a.example', 'A', '10.0.0.1'),
    );
    const documents = exportDocuments(snapshot);
    assert.deepEqual(
      documents.map((one) => `${one.kind} ${one.name}${'type' in one ? ` ${one.type}` : ''}`),
      ['service web', 'record a.example A', 'record a.example TXT', 'record b.example A'],
    );
    assert.deepEqual(documents[2], { kind: 'record', ...record('a.example', 'TXT', 'x', 'y') });
    assert.deepEqual(apply(snapshot, documents).changes, []);
  });
});
