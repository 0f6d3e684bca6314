/** What is answered, name by name; dns-packet reads the answers. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, brief, resolved, zoneOf, type Words } from './zones.ts';

const WORLD: Words = {
  services: {
    web: {
      vips: ['240.0.0.1', 'fd7a:6572:6f68:6f70::1'],
      ports: ['http=80/tcp', 'dns=53/udp'],
      backends: [
        'http 10.0.0.1:8080',
        'http 10.0.0.2:8081 weight=5',
        'http 10.0.0.3:8080 draining',
        'http 10.0.0.4:8080 weight=0',
        'http [fd00::5]:8080',
        'dns 10.0.0.2:53',
      ],
    },
    'db.shop': { vips: ['240.0.0.2'], ports: ['pg=5432/tcp'], backends: ['pg 10.0.0.9:5432'] },
    many: { vips: ['240.0.0.4', '240.0.0.3'] },
  },
  nodes: {
    n1: { name: 'alpha', zone: 'a', addresses: ['192.0.2.1', '2001:db8::1'] },
    n2: { name: 'Twin', addresses: ['192.0.2.2'] },
    n3: { name: 'twin', addresses: ['192.0.2.3'] },
    n4: { name: 'gone', addresses: ['192.0.2.4'] },
    n5: { name: 'no name', addresses: ['192.0.2.5'] },
  },
  unreachable: ['n3', 'n4'],
  self: { name: 'box.example', addresses: ['192.0.2.9'] },
  records: [
    'web.zerohop.internal TXT said by people',
    'plain.zerohop.internal A 198.51.100.1',
    'deep.x.y.zerohop.internal A 198.51.100.2',
    'mail.corp.example MX 10 mx.corp.example',
    'here.zerohop.internal CNAME web.zerohop.internal',
    'there.zerohop.internal CNAME www.example.com',
    'first.zerohop.internal CNAME here.zerohop.internal',
    'astray.zerohop.internal CNAME nobody.zerohop.internal',
    'round.zerohop.internal CNAME about.zerohop.internal',
    'about.zerohop.internal CNAME round.zerohop.internal',
    'out.corp.example CNAME plain.zerohop.internal',
    'reverse.zerohop.internal CNAME 0.240.in-addr.arpa',
    'top.zerohop.internal CNAME zerohop.internal',
    'soon.zerohop.internal CNAME ready.zerohop.internal',
    'other.localhost A 198.51.100.3',
    'kept.onion A 198.51.100.4',
    '_sip._udp.corp.example SRV 0 5 5060 web.zerohop.internal',
    '7.100.51.198.in-addr.arpa PTR seven.corp.example',
    '1.0.0.240.in-addr.arpa PTR liar.example',
  ],
};
const zone = zoneOf(WORLD);

const SAYS: readonly (readonly [name: string, type: string, says: string])[] = [
  ['web.zerohop.internal', 'A', 'A 240.0.0.1'],
  ['web.zerohop.internal', 'AAAA', 'AAAA fd7a:6572:6f68:6f70::1'],
  ['web.zerohop.internal', 'MX', 'nothing (zerohop.internal)'],
  ['db.shop.zerohop.internal', 'A', 'A 240.0.0.2'],
  ['db.shop.zerohop.internal', 'AAAA', 'nothing (zerohop.internal)'],
  ['many.zerohop.internal', 'A', 'A 240.0.0.4, A 240.0.0.3'],
  // Names that are only on the way to others are there (RFC 8020, 2).
  ['shop.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['_tcp.web.zerohop.internal', 'SRV', 'nothing (zerohop.internal)'],
  ['x.y.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['y.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['node.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['addr.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['nobody.zerohop.internal', 'A', 'NXDOMAIN (zerohop.internal)'],
  ['z.y.zerohop.internal', 'A', 'NXDOMAIN (zerohop.internal)'],
  ['x.web.zerohop.internal', 'A', 'NXDOMAIN (zerohop.internal)'],
  // Backends themselves.
  [
    '_http._tcp.web.zerohop.internal',
    'SRV',
    'SRV 0 1 8080 10-0-0-1.addr.zerohop.internal, SRV 0 5 8081 10-0-0-2.addr.zerohop.internal, SRV 0 1 8080 fd00--5.addr.zerohop.internal',
  ],
  ['_dns._udp.web.zerohop.internal', 'SRV', 'SRV 0 1 53 10-0-0-2.addr.zerohop.internal'],
  ['_dns._tcp.web.zerohop.internal', 'SRV', 'NXDOMAIN (zerohop.internal)'],
  ['_http._tcp.web.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['backends.web.zerohop.internal', 'A', 'A 10.0.0.1, A 10.0.0.2'],
  ['backends.web.zerohop.internal', 'AAAA', 'AAAA fd00::5'],
  ['backends.many.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['10-0-0-1.addr.zerohop.internal', 'A', 'A 10.0.0.1'],
  ['10-0-0-1.addr.zerohop.internal', 'AAAA', 'nothing (zerohop.internal)'],
  ['fd00--5.addr.zerohop.internal', 'AAAA', 'AAAA fd00::5'],
  ['0--1.addr.zerohop.internal', 'AAAA', 'AAAA ::1'],
  ['fd00--0.addr.zerohop.internal', 'AAAA', 'AAAA fd00::'],
  ['10-0-0-256.addr.zerohop.internal', 'A', 'NXDOMAIN (zerohop.internal)'],
  ['64-ff9b--1.2.3.4.addr.zerohop.internal', 'AAAA', 'NXDOMAIN (zerohop.internal)'],
  ['x.10-0-0-1.addr.zerohop.internal', 'A', 'NXDOMAIN (zerohop.internal)'],
  // Hosts.
  ['alpha.node.zerohop.internal', 'A', 'A 192.0.2.1'],
  ['n1.node.zerohop.internal', 'AAAA', 'AAAA 2001:db8::1'],
  ['twin.node.zerohop.internal', 'A', 'A 192.0.2.2'],
  ['n3.node.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['gone.node.zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['n5.node.zerohop.internal', 'A', 'A 192.0.2.5'],
  ['box.example.node.zerohop.internal', 'A', 'A 192.0.2.9'],
  ['me.node.zerohop.internal', 'A', 'A 192.0.2.9'],
  ['alpha.node.zerohop.internal', 'TXT', 'TXT id=n1, TXT version=0.1.0, TXT zone=a'],
  // What is there to see.
  [
    'web.zerohop.internal',
    'TXT',
    'TXT http=80/tcp backends=3/5, TXT dns=53/udp backends=1/1, TXT said by people',
  ],
  ['web.zerohop.internal', 'ANY', 'HINFO RFC8482 '],
  ['shop.zerohop.internal', 'ANY', 'nothing (zerohop.internal)'],
  ['here.zerohop.internal', 'ANY', 'CNAME web.zerohop.internal'],
  ['nobody.zerohop.internal', 'ANY', 'NXDOMAIN (zerohop.internal)'],
  ['ready.zerohop.internal', 'A', 'A 127.0.0.1'],
  ['ready.zerohop.internal', 'AAAA', 'AAAA ::1'],
  ['ready.zerohop.internal', 'TXT', 'TXT ready'],
  ['zerohop.internal', 'NS', 'NS ns.zerohop.internal'],
  [
    'zerohop.internal',
    'SOA',
    'SOA ns.zerohop.internal hostmaster.zerohop.internal 1 86400 7200 3600000 1',
  ],
  ['zerohop.internal', 'A', 'nothing (zerohop.internal)'],
  ['ns.zerohop.internal', 'A', 'A 127.0.0.55'],
  ['ns.zerohop.internal', 'AAAA', 'nothing (zerohop.internal)'],
  // Records, and where they lead.
  ['plain.zerohop.internal', 'A', 'A 198.51.100.1'],
  ['here.zerohop.internal', 'CNAME', 'CNAME web.zerohop.internal'],
  ['here.zerohop.internal', 'A', 'CNAME web.zerohop.internal, A 240.0.0.1'],
  [
    'first.zerohop.internal',
    'AAAA',
    'CNAME here.zerohop.internal, CNAME web.zerohop.internal, AAAA fd7a:6572:6f68:6f70::1',
  ],
  ['astray.zerohop.internal', 'A', 'NXDOMAIN CNAME nobody.zerohop.internal'],
  ['there.zerohop.internal', 'A', 'CNAME www.example.com'],
  ['reverse.zerohop.internal', 'PTR', 'CNAME 0.240.in-addr.arpa'],
  [
    'top.zerohop.internal',
    'SOA',
    'CNAME zerohop.internal, SOA ns.zerohop.internal hostmaster.zerohop.internal 1 86400 7200 3600000 1',
  ],
  ['round.zerohop.internal', 'A', 'SERVFAIL'],
  ['out.corp.example', 'A', 'CNAME plain.zerohop.internal, A 198.51.100.1'],
  ['mail.corp.example', 'MX', 'MX 10 mx.corp.example'],
  ['mail.corp.example', 'A', 'nothing (mail.corp.example)'],
  ['_sip._udp.corp.example', 'SRV', 'SRV 0 5 5060 web.zerohop.internal'],
  // This host to itself: nobody else is asked (RFC 6761 6.3, RFC 6303).
  ['localhost', 'A', 'A 127.0.0.1'],
  ['LocalHost', 'AAAA', 'AAAA ::1'],
  ['any.app.localhost', 'A', 'A 127.0.0.1'],
  ['any.localhost', 'MX', 'nothing (localhost)'],
  ['other.localhost', 'A', 'A 198.51.100.3'],
  ['notlocalhost', 'A', 'forwarded'],
  ['localhost.example', 'A', 'forwarded'],
  ['1.0.0.127.in-addr.arpa', 'PTR', 'PTR localhost'],
  ['1.0.0.127.in-addr.arpa', 'A', 'nothing (127.in-addr.arpa)'],
  ['0.127.in-addr.arpa', 'PTR', 'nothing (127.in-addr.arpa)'],
  ['2.0.0.127.in-addr.arpa', 'PTR', 'NXDOMAIN (127.in-addr.arpa)'],
  [`1.${'0.'.repeat(31)}ip6.arpa`, 'PTR', 'PTR localhost'],
  [`x.1.${'0.'.repeat(31)}ip6.arpa`, 'PTR', `NXDOMAIN (1.${'0.'.repeat(31)}ip6.arpa)`],
  [`2.${'0.'.repeat(31)}ip6.arpa`, 'PTR', 'forwarded'],
  // Nowhere in DNS, and nobody is told who wanted it (RFC 6761 6.4, RFC 7686).
  ['x.duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion', 'A', 'NXDOMAIN (onion)'],
  ['Onion', 'AAAA', 'NXDOMAIN (Onion)'],
  ['www.invalid', 'MX', 'NXDOMAIN (invalid)'],
  ['notonion', 'A', 'forwarded'],
  ['onion.example', 'A', 'forwarded'],
  ['kept.onion', 'A', 'A 198.51.100.4'],
  // Names of addresses.
  ['1.0.0.240.in-addr.arpa', 'PTR', 'PTR web.zerohop.internal'],
  ['1.0.0.240.in-addr.arpa', 'A', 'nothing (240.in-addr.arpa)'],
  [
    '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.f.6.8.6.f.6.2.7.5.6.a.7.d.f.ip6.arpa',
    'PTR',
    'PTR web.zerohop.internal',
  ],
  ['1.2.0.192.in-addr.arpa', 'PTR', 'PTR alpha.node.zerohop.internal'],
  ['4.2.0.192.in-addr.arpa', 'PTR', 'PTR gone.node.zerohop.internal'],
  ['5.2.0.192.in-addr.arpa', 'PTR', 'PTR n5.node.zerohop.internal'],
  ['7.100.51.198.in-addr.arpa', 'PTR', 'PTR seven.corp.example'],
  ['9.9.9.240.in-addr.arpa', 'PTR', 'NXDOMAIN (240.in-addr.arpa)'],
  ['9.9.255.in-addr.arpa', 'PTR', 'nothing (255.in-addr.arpa)'],
  ['x.9.9.9.240.in-addr.arpa', 'PTR', 'NXDOMAIN (240.in-addr.arpa)'],
  [
    '240.in-addr.arpa',
    'SOA',
    'SOA ns.zerohop.internal hostmaster.zerohop.internal 1 86400 7200 3600000 1',
  ],
  [
    '9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.f.6.8.6.f.6.2.7.5.6.a.7.d.f.ip6.arpa',
    'PTR',
    'NXDOMAIN (0.7.f.6.8.6.f.6.2.7.5.6.a.7.d.f.ip6.arpa)',
  ],
  // Others'.
  ['8.8.8.8.in-addr.arpa', 'PTR', 'forwarded'],
  ['in-addr.arpa', 'NS', 'forwarded'],
  ['example.com', 'A', 'forwarded'],
  ['internal', 'A', 'forwarded'],
  ['notzerohop.internal', 'A', 'forwarded'],
  ['x.mail.corp.example', 'A', 'forwarded'],
  ['corp.example', 'A', 'forwarded'],
  ['.', 'NS', 'forwarded'],
];

describe('resolve()', () => {
  for (const [name, type, says] of SAYS)
    test(`${name} ${type}: ${says}`, () => {
      assert.equal(brief(zone, name, type), says);
    });

  test('a negative answer counts as long as negativeTtl says', () => {
    assert.deepEqual(ask(zone, 'nobody.zerohop.internal', 'A').authorities, [
      'zerohop.internal 1 SOA ns.zerohop.internal hostmaster.zerohop.internal 1 86400 7200 3600000 1',
    ]);
    assert.deepEqual(ask(zone, 'zerohop.internal', 'SOA').answers, [
      'zerohop.internal 5 SOA ns.zerohop.internal hostmaster.zerohop.internal 1 86400 7200 3600000 1',
    ]);
  });

  test('a CNAME that leads to nothing comes with the SOA of the zone it ended in', () => {
    const astray = ask(zone, 'astray.zerohop.internal', 'A');
    assert.match(astray.authorities.join(), /^zerohop\.internal 1 SOA /);
    const out = ask(zone, 'out.corp.example', 'MX');
    assert.equal(out.rcode, 'NOERROR');
    assert.match(out.authorities.join(), /^zerohop\.internal 1 SOA ns\.zerohop\.internal /);
  });

  test('each record of a chain has the name that led to it', () => {
    assert.deepEqual(ask(zone, 'FIRST.zerohop.internal', 'A').answers, [
      'FIRST.zerohop.internal 5 CNAME here.zerohop.internal',
      'here.zerohop.internal 5 CNAME web.zerohop.internal',
      'web.zerohop.internal 5 A 240.0.0.1',
    ]);
    const many = zoneOf({ ...WORLD, records: ['x.example CNAME many.zerohop.internal'] });
    assert.deepEqual(ask(many, 'x.example', 'A').answers, [
      'x.example 5 CNAME many.zerohop.internal',
      'many.zerohop.internal 5 A 240.0.0.4',
      'many.zerohop.internal 5 A 240.0.0.3',
    ]);
  });

  test('a CNAME to others says where to go on', () => {
    const answer = resolved(zone, 'there.zerohop.internal', 'A');
    assert.equal(answer.kind === 'answer' && answer.target, 'www.example.com');
    const inside = resolved(zone, 'here.zerohop.internal', 'A');
    assert.equal(inside.kind === 'answer' && inside.target, undefined);
  });

  test('a chain of eight CNAMEs is followed, one of nine fails', () => {
    const chain = (count: number): string =>
      brief(
        zoneOf({
          records: [
            ...Array.from({ length: count }, (_, i) => `c${i}.x.example CNAME c${i + 1}.x.example`),
            `c${count}.x.example A 198.51.100.9`,
          ],
        }),
        'c0.x.example',
        'A',
      );
    assert.match(chain(8), /A 198\.51\.100\.9$/);
    assert.equal(chain(9), 'SERVFAIL');
  });

  test('SRV comes with each target once', () => {
    assert.deepEqual(ask(zone, '_http._tcp.web.zerohop.internal', 'SRV').additionals, [
      '10-0-0-1.addr.zerohop.internal 5 A 10.0.0.1',
      '10-0-0-2.addr.zerohop.internal 5 A 10.0.0.2',
      'fd00--5.addr.zerohop.internal 5 AAAA fd00::5',
    ]);
    const shared = zoneOf({
      services: {
        web: {
          ports: ['http=80/tcp'],
          backends: ['http 10.0.0.1:1', 'http 10.0.0.1:2', 'http 10.0.0.2:1'],
        },
      },
    });
    const told = ask(shared, '_http._tcp.web.zerohop.internal', 'SRV');
    assert.equal(told.answers.length, 3);
    assert.deepEqual(told.additionals, [
      '10-0-0-1.addr.zerohop.internal 5 A 10.0.0.1',
      '10-0-0-2.addr.zerohop.internal 5 A 10.0.0.2',
    ]);
  });

  test('the name server is the address that was asked', () => {
    const asked = { server: '192.0.2.53' };
    assert.deepEqual(ask(zone, 'ns.zerohop.internal', 'A', asked).answers, [
      'ns.zerohop.internal 5 A 192.0.2.53',
    ]);
    assert.deepEqual(ask(zone, 'zerohop.internal', 'NS', asked).additionals, [
      'ns.zerohop.internal 5 A 192.0.2.53',
    ]);
    assert.deepEqual(ask(zone, 'zerohop.internal', 'NS', { server: '::1' }).additionals, [
      'ns.zerohop.internal 5 AAAA ::1',
    ]);
  });

  test('ready fails until the zone is what the agent serves, other names do not', () => {
    const early = zoneOf({ ...WORLD, isReady: false });
    assert.equal(brief(early, 'ready.zerohop.internal', 'A'), 'SERVFAIL');
    assert.equal(brief(early, 'ready.zerohop.internal', 'TXT'), 'SERVFAIL');
    assert.equal(brief(early, 'soon.zerohop.internal', 'A'), 'SERVFAIL');
    assert.equal(brief(early, 'web.zerohop.internal', 'A'), 'A 240.0.0.1');
  });

  test('a host never takes itself for unreachable, and knows itself better than others do', () => {
    const words = { self: { name: 'box', addresses: ['192.0.2.9'] }, unreachable: ['me'] };
    const alone = zoneOf({ ...words, nodes: { me: { name: 'old', addresses: ['192.0.2.8'] } } });
    assert.equal(brief(alone, 'box.node.zerohop.internal', 'A'), 'A 192.0.2.9');
    assert.equal(brief(alone, 'me.node.zerohop.internal', 'A'), 'A 192.0.2.9');
    assert.equal(brief(alone, 'old.node.zerohop.internal', 'A'), 'NXDOMAIN (zerohop.internal)');
  });

  test('unreachable and unhealthy backends are not given, all of them are if there is no other', () => {
    const services = {
      web: {
        ports: ['http=80/tcp'],
        backends: ['http 192.0.2.1:80', 'http 192.0.2.2:80'],
      },
    };
    const nodes = { n1: { addresses: ['192.0.2.1'] }, n2: { addresses: ['192.0.2.2'] } };
    const of = (words: Words): string =>
      brief(zoneOf({ services, nodes, ...words }), 'backends.web.zerohop.internal', 'A');
    assert.equal(of({}), 'A 192.0.2.1, A 192.0.2.2');
    assert.equal(of({ unreachable: ['n1'] }), 'A 192.0.2.2');
    assert.equal(of({ unhealthy: ['192.0.2.2 80 tcp'] }), 'A 192.0.2.1');
    assert.equal(of({ unreachable: ['n1', 'n2'] }), 'A 192.0.2.1, A 192.0.2.2');
  });

  test('a VIP that another service has is not given', () => {
    const lost = zoneOf({
      services: {
        one: { vips: ['198.51.100.1'], ports: ['http=80/tcp'] },
        two: { vips: ['198.51.100.1'], ports: ['http=80/tcp'] },
        three: { vips: ['198.51.100.1'], ports: ['http=80/tcp', 'https=443/tcp'] },
      },
    });
    assert.equal(brief(lost, 'one.zerohop.internal', 'A'), 'A 198.51.100.1');
    assert.equal(brief(lost, 'two.zerohop.internal', 'A'), 'nothing (zerohop.internal)');
    assert.equal(brief(lost, 'three.zerohop.internal', 'A'), 'A 198.51.100.1');
    assert.equal(
      brief(lost, '1.100.51.198.in-addr.arpa', 'PTR'),
      'PTR one.zerohop.internal, PTR three.zerohop.internal',
    );
  });

  test('each order of several answers comes as often as the others', () => {
    const three = zoneOf({ services: { web: { vips: ['240.0.0.1', '240.0.0.2', '240.0.0.3'] } } });
    const orders = new Map<string, number>();
    for (let i = 0; i < 6; i++) {
      // All that two choices among three and two can be.
      const choices = [(i % 3) / 3, (i >= 3 ? 1 : 0) / 2, 0];
      const random = (): number => choices.shift() ?? 0;
      const said = ask(three, 'web.zerohop.internal', 'A', { random }).answers.join();
      orders.set(said, (orders.get(said) ?? 0) + 1);
    }
    assert.deepEqual([...orders.values()], [1, 1, 1, 1, 1, 1]);
  });

  test('another domain is served as this one is', () => {
    const other = zoneOf({ ...WORLD, domain: 'svc.corp.example', records: [] });
    assert.equal(brief(other, 'web.svc.corp.example', 'A'), 'A 240.0.0.1');
    assert.equal(brief(other, 'x.svc.corp.example', 'A'), 'NXDOMAIN (svc.corp.example)');
    assert.equal(brief(other, 'corp.example', 'A'), 'forwarded');
    assert.equal(brief(other, 'web.zerohop.internal', 'A'), 'forwarded');
  });
});

test('names below onion or invalid that others have are theirs, but for user records', () => {
  const elsewhere = ['onion', 'a.invalid'];
  const parted = zoneOf({
    ...WORLD,
    elsewhere,
    records: ['kept.onion A 198.51.100.4', 'to.zerohop.internal CNAME x.onion'],
  });
  const says = (name: string): string => brief(parted, name, 'A');
  for (const name of ['onion', 'x.ONION', 'below.kept.onion', 'a.invalid', 'x.a.invalid'])
    assert.equal(says(name), 'forwarded', name);
  assert.equal(says('kept.onion'), 'A 198.51.100.4');
  assert.equal(says('b.invalid'), 'NXDOMAIN (invalid)');
  const to = resolved(parted, 'to.zerohop.internal', 'A');
  assert.equal(to.kind === 'answer' && to.target, 'x.onion');
});

test('a zone below the domain that others have is theirs, but for the names of ours in it', () => {
  const elsewhere = ['shop.zerohop.internal', 'sub.zerohop.internal'];
  const parted = zoneOf({
    ...WORLD,
    elsewhere,
    records: [
      'into.zerohop.internal CNAME www.sub.zerohop.internal',
      'above.zerohop.internal CNAME d.sub.zerohop.internal',
      'c.d.sub.zerohop.internal A 198.51.100.7',
      'ours.zerohop.internal CNAME c.d.sub.zerohop.internal',
    ],
  });
  const says = (name: string, type = 'A'): string => brief(parted, name, type);
  for (const name of ['sub', 'www.sub', 'a.b.SUB', 'shop', 'other.shop', 'x.db.shop', '_tcp.shop'])
    assert.equal(says(`${name}.zerohop.internal`), 'forwarded', name);
  assert.equal(says('sub.zerohop.internal', 'SOA'), 'forwarded');
  assert.equal(says('db.shop.zerohop.internal'), 'A 240.0.0.2');
  assert.equal(says('db.shop.zerohop.internal', 'MX'), 'nothing (zerohop.internal)');
  assert.match(says('notsub.zerohop.internal'), /^NXDOMAIN/);
  assert.match(says('zerohop.internal', 'SOA'), /^SOA/);
  const into = resolved(parted, 'into.zerohop.internal', 'A');
  assert.equal(into.kind === 'answer' && into.target, 'www.sub.zerohop.internal');
  assert.equal(says('d.sub.zerohop.internal'), 'forwarded');
  const above = resolved(parted, 'above.zerohop.internal', 'A');
  assert.equal(
    above.kind === 'answer' && above.target,
    'd.sub.zerohop.internal',
    'as if asked for',
  );
  assert.match(says('ours.zerohop.internal'), /A 198\.51\.100\.7$/);
});
