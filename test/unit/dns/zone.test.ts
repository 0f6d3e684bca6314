/** Whose a name is, what is hidden, and what the kernel is given. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TYPE } from '../../../src/dns/numbers.ts';
import { plainAnswers, zoneEntries, type Zone } from '../../../src/dns/zone.ts';
import { ask, brief, queryOf, question, resolved, zoneOf, type Words } from './zones.ts';

/** `NAME TYPE DATA`, `… (hidden: WHY)`, of names that end in `.NAME.zerohop.internal` or are it. */
function listed(zone: Zone, name: string): string[] {
  const full = `${name}.zerohop.internal`;
  return [...zoneEntries(zone)]
    .filter((entry) => entry.name === full || entry.name.endsWith(`.${full}`))
    .map(({ name: own, type, data, from, hidden }) => {
      const short = own.slice(0, -'.zerohop.internal'.length);
      return `${short} ${type} ${data} ${from}${hidden === undefined ? '' : ` (${hidden})`}`;
    });
}

const of = (words: Words, name: string): string[] => listed(zoneOf(words), name);

describe('zoneEntries()', () => {
  test('lists what an empty host answers', () => {
    const zone = zoneOf({ self: { name: 'box', zone: 'a', addresses: ['192.0.2.1'] } });
    assert.deepEqual(
      [...zoneEntries(zone)].map(({ name, type, ttl, data, from }) =>
        [name, ttl, type, data, from].join(' '),
      ),
      [
        '1.2.0.192.in-addr.arpa 5 PTR box.node.zerohop.internal node',
        'zerohop.internal 5 SOA ns.zerohop.internal hostmaster.zerohop.internal 0 86400 7200 3600000 1 zone',
        'zerohop.internal 5 NS ns.zerohop.internal zone',
        'box.node.zerohop.internal 5 A 192.0.2.1 node',
        'box.node.zerohop.internal 5 TXT id=me node',
        'box.node.zerohop.internal 5 TXT version=0.1.0 node',
        'box.node.zerohop.internal 5 TXT zone=a node',
        'me.node.zerohop.internal 5 A 192.0.2.1 node',
        'me.node.zerohop.internal 5 TXT id=me node',
        'me.node.zerohop.internal 5 TXT version=0.1.0 node',
        'me.node.zerohop.internal 5 TXT zone=a node',
        'ns.zerohop.internal 5 A 127.0.0.55 zone',
        'ready.zerohop.internal 5 A 127.0.0.1 zone',
        'ready.zerohop.internal 5 AAAA ::1 zone',
        'ready.zerohop.internal 5 TXT ready zone',
      ],
    );
  });

  test('a service has its addresses for itself, and takes other types beside them', () => {
    const words = {
      services: { web: {} },
      records: [
        'web.zerohop.internal A 198.51.100.1',
        'web.zerohop.internal AAAA 2001:db8::1',
        'web.zerohop.internal CNAME www.example.com',
        'web.zerohop.internal MX 10 mx.example',
        'web.zerohop.internal TXT hello',
      ],
    };
    assert.deepEqual(of(words, 'web'), [
      'web A 240.0.0.1 service',
      'web A 198.51.100.1 record (service web has the A of this name)',
      'web AAAA 2001:db8::1 record (service web has the AAAA of this name)',
      'web CNAME www.example.com record (a CNAME stands alone, and service web has this name)',
      'web MX 10 mx.example record',
      'web TXT hello record',
    ]);
    assert.equal(
      brief(zoneOf(words), 'web.zerohop.internal', 'AAAA'),
      'nothing (zerohop.internal)',
    );
  });

  test('services have the names that the zone would have of its own', () => {
    const services = {
      ready: { vips: ['240.0.0.1'] },
      ns: { vips: ['240.0.0.2'] },
      node: { vips: ['240.0.0.3'] },
      addr: { vips: ['240.0.0.4'] },
      'n1.node': { vips: ['240.0.0.5'] },
      'backends.web': { vips: ['240.0.0.6'] },
      web: { vips: ['240.0.0.7'], ports: ['http=80/tcp'], backends: ['http 10.0.0.1:80'] },
      '10-0-0-1.addr': { vips: ['240.0.0.8'] },
      'x.10-0-0-2.addr': { vips: ['240.0.0.9'] },
    };
    const zone = zoneOf({ services, nodes: { n1: { name: 'n1', addresses: ['192.0.2.1'] } } });
    const a = (name: string): string => brief(zone, `${name}.zerohop.internal`, 'A');
    assert.equal(a('ready'), 'A 240.0.0.1');
    assert.equal(brief(zone, 'ready.zerohop.internal', 'AAAA'), 'nothing (zerohop.internal)');
    assert.equal(a('ns'), 'A 240.0.0.2');
    assert.deepEqual(ask(zone, 'zerohop.internal', 'NS').additionals, [
      'ns.zerohop.internal 5 A 240.0.0.2',
    ]);
    assert.equal(a('node'), 'A 240.0.0.3');
    assert.equal(a('addr'), 'A 240.0.0.4');
    assert.equal(a('n1.node'), 'A 240.0.0.5');
    assert.equal(a('backends.web'), 'A 240.0.0.6');
    assert.equal(a('10-0-0-1.addr'), 'A 240.0.0.8');
    // Only on the way to a service: still the address.
    assert.equal(a('10-0-0-2.addr'), 'A 10.0.0.2');
    assert.deepEqual(listed(zone, 'backends.web'), [
      'backends.web A 240.0.0.6 service',
      'backends.web A 10.0.0.1 service (service backends.web has this name)',
    ]);
    assert.deepEqual(listed(zone, 'n1.node'), [
      'n1.node A 240.0.0.5 service',
      'n1.node A 192.0.2.1 node (service n1.node has this name)',
      'n1.node TXT id=n1 node (service n1.node has this name)',
      'n1.node TXT version=0.1.0 node (service n1.node has this name)',
    ]);
    const early = zoneOf({ services, isReady: false });
    assert.equal(brief(early, 'ready.zerohop.internal', 'A'), 'A 240.0.0.1');
  });

  test('a record goes before a host and an address, not before what a service or the zone says', () => {
    const words: Words = {
      services: { web: { ports: ['http=80/tcp'], backends: ['http 10.0.0.1:80'] } },
      nodes: { n1: { addresses: ['192.0.2.1'] } },
      records: [
        'n1.node.zerohop.internal A 198.51.100.1',
        'n1.node.zerohop.internal TXT hello',
        '10-0-0-1.addr.zerohop.internal A 198.51.100.2',
        'backends.web.zerohop.internal A 198.51.100.3',
        '_http._tcp.web.zerohop.internal SRV 0 0 1 x.example',
        'ready.zerohop.internal A 198.51.100.4',
        'zerohop.internal A 198.51.100.5',
        'zerohop.internal CNAME x.example',
        '1.0.0.240.in-addr.arpa PTR x.example',
        '1.2.0.192.in-addr.arpa PTR x.example',
      ],
    };
    const zone = zoneOf(words);
    const says = (name: string, type: string): string =>
      brief(zone, name.endsWith('.arpa') ? name : `${name}zerohop.internal`, type);
    assert.equal(says('n1.node.', 'A'), 'A 198.51.100.1');
    assert.equal(says('n1.node.', 'TXT'), 'TXT id=n1, TXT version=0.1.0, TXT hello');
    assert.equal(says('10-0-0-1.addr.', 'A'), 'A 198.51.100.2');
    assert.equal(says('backends.web.', 'A'), 'A 10.0.0.1');
    assert.equal(says('_http._tcp.web.', 'SRV'), 'SRV 0 1 80 10-0-0-1.addr.zerohop.internal');
    assert.equal(says('ready.', 'A'), 'A 127.0.0.1');
    assert.equal(says('', 'A'), 'A 198.51.100.5');
    assert.equal(says('', 'NS'), 'NS ns.zerohop.internal');
    assert.equal(says('1.0.0.240.in-addr.arpa', 'PTR'), 'PTR web.zerohop.internal');
    assert.equal(says('1.2.0.192.in-addr.arpa', 'PTR'), 'PTR x.example');
    assert.deepEqual(
      [...zoneEntries(zone)].filter((entry) => entry.hidden).map((e) => `${e.data}: ${e.hidden}`),
      [
        'n1.node.zerohop.internal: a record has the PTR of this name',
        'x.example: service web has the PTR of this name',
        "x.example: a CNAME stands alone, and the zone's own zerohop.internal has this name",
        '10.0.0.1: a record has the A of this name',
        '192.0.2.1: a record has the A of this name',
        "198.51.100.4: the zone's own ready has the A of this name",
        '0 0 1 x.example: service web has the SRV of this name',
        '198.51.100.3: service web has the A of this name',
      ],
    );
  });

  test('a CNAME beside other records is hidden', () => {
    const words = {
      records: ['x.example CNAME y.example', 'x.example A 198.51.100.1', 'x.example TXT t'],
    };
    assert.equal(brief(zoneOf(words), 'x.example', 'CNAME'), 'nothing (x.example)');
    assert.equal(brief(zoneOf(words), 'x.example', 'A'), 'A 198.51.100.1');
    const [hidden] = [...zoneEntries(zoneOf(words))].filter((entry) => entry.hidden !== undefined);
    assert.equal(hidden?.hidden, 'a CNAME stands alone, and there is A, TXT');
  });

  test('what is no data of its type is shown and not answered', () => {
    const zone = zoneOf({ records: ['x.example A 1.2.3', 'x.example A 198.51.100.1'] });
    assert.deepEqual(ask(zone, 'x.example', 'A').answers, ['x.example 5 A 198.51.100.1']);
    const [bad] = [...zoneEntries(zone)];
    assert.deepEqual([bad?.data, bad?.hidden], ['1.2.3', 'no A data']);
  });

  test('records of one set have the smallest TTL', () => {
    const zone = zoneOf({
      services: { web: { ports: ['http=80/tcp'] } },
      records: ['web.zerohop.internal TXT ttl=3 hello', 'x.example A ttl=600 198.51.100.1'],
    });
    assert.deepEqual(ask(zone, 'web.zerohop.internal', 'TXT').answers, [
      'web.zerohop.internal 3 TXT http=80/tcp backends=0/0',
      'web.zerohop.internal 3 TXT hello',
    ]);
    assert.deepEqual(ask(zone, 'x.example', 'A').answers, ['x.example 600 A 198.51.100.1']);
  });
});

describe('plainAnswers()', () => {
  const zone = zoneOf({
    services: {
      web: {
        vips: ['240.0.0.1', 'fd7a:6572:6f68:6f70::1', '240.0.0.2'],
        ports: ['http=80/tcp'],
        backends: ['http 10.0.0.1:80', 'http 10.0.0.2:80'],
      },
      large: {
        vips: ['240.0.0.3'],
        ports: ['http=80/tcp'],
        backends: Array.from({ length: 40 }, (_, i) => `http 10.0.1.${i}:80`),
      },
    },
    self: { name: 'box', addresses: ['192.0.2.1'] },
    records: ['x.example A 198.51.100.1', 'y.example CNAME x.example'],
  });

  test('are the addresses that fit into any answer', () => {
    const said = [...plainAnswers(zone)].map(
      ({ name, type, count, rotate }) =>
        `${name} ${type === TYPE.A ? 'A' : 'AAAA'} ${count} ${rotate}`,
    );
    assert.deepEqual(said.toSorted(), [
      'backends.web.zerohop.internal A 2 16',
      'box.node.zerohop.internal A 1 0',
      'large.zerohop.internal A 1 0',
      'me.node.zerohop.internal A 1 0',
      'web.zerohop.internal A 2 16',
      'web.zerohop.internal AAAA 1 0',
      'x.example A 1 0',
    ]);
  });

  test('have the bytes that the resolver answers with', () => {
    for (const entry of plainAnswers(zone)) {
      const type = entry.type === TYPE.A ? 'A' : 'AAAA';
      const answer = resolved(zone, entry.name, type);
      assert.ok(answer.kind === 'answer');
      const start = 12 + queryOf(question(entry.name, type)).question.length;
      const tail = Buffer.from(answer.bytes.subarray(start)).toString('hex');
      assert.equal(Buffer.from(entry.tail).toString('hex'), tail);
      assert.equal(entry.tail.length, entry.count * (entry.rotate || entry.tail.length));
    }
  });

  test('can be asked for by name', () => {
    const names = ['web.zerohop.internal', 'nobody.zerohop.internal', 'ready.zerohop.internal'];
    assert.deepEqual(
      [...plainAnswers(zone, names)].map(({ name, type }) => `${name} ${type}`),
      ['web.zerohop.internal 1', 'web.zerohop.internal 28'],
    );
  });
});
