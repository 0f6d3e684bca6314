/** What the log calls an endpoint: the service whose rules judged it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileAcl, NO_NUMBERING, type Compiled } from '../../../src/acl/compile.ts';
import { Identities } from '../../../src/acl/io/identities.ts';
import { Names } from '../../../src/acl/io/names.ts';
import { buildCatalog, type Catalog, type CatalogService } from '../../../src/catalog/catalog.ts';
import { EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type { AclRecord, Protocol } from '../../../src/state/records.ts';

function service(
  name: string,
  address: string,
  port: number,
  protocol: Protocol = 'tcp',
): CatalogService {
  const backends = [{ address, port, weight: 1, state: 'active' as const }];
  return { name, vips: ['240.0.0.1'], ports: [{ name: 'main', port: 80, protocol, backends }] };
}

const services = [
  service('far', '10.9.9.9', 6379),
  service('redis', '127.0.0.1', 6379),
  service('inner', '192.0.2.1', 7000),
  service('mdns', '::1', 5353, 'udp'),
  service('unruled', '127.0.0.1', 9000),
];

function compiled(named: readonly string[]): Compiled {
  const rules = named.map((name): AclRecord => {
    const to = { kind: 'service' as const, service: name };
    return { name: `r-${name}`, to, from: [], action: 'deny' };
  });
  return compileAcl({
    rules,
    services: new Map(services.map((one) => [one.name, one])),
    users: new Map(),
    groups: new Map(),
    localAddresses: ['192.0.2.1', 'fd00::1', '255.255.255.255', '198.51.100.0/24'],
    defaultAction: 'allow',
    numbering: NO_NUMBERING,
    limits: { aclRules: 64, aclEntries: 1024, aclGlobs: 64 },
  });
}

const catalog: Catalog = {
  ...buildCatalog(EMPTY_SNAPSHOT),
  services: new Map(services.map((one) => [one.name, one])),
};

test('a backend on this host has its name under every address that leads to it', () => {
  const enforcer = {
    compiled: compiled(['far', 'redis', 'inner', 'mdns']),
    identities: new Identities(),
  };
  const names = new Names(enforcer, () => catalog, { pathOf: () => undefined });
  const cases: readonly (readonly [string, number, Protocol, string | undefined])[] = [
    ['127.0.0.1', 6379, 'tcp', 'redis'],
    ['127.0.0.9', 6379, 'tcp', 'redis'],
    ['192.0.2.1', 6379, 'tcp', 'redis'],
    ['198.51.100.77', 6379, 'tcp', 'redis'],
    ['fd00::1', 6379, 'tcp', 'redis'],
    ['::1', 6379, 'tcp', 'redis'],
    // From outside: a port of this host, so not the backend elsewhere.
    ['', 6379, 'tcp', 'redis'],
    ['10.9.9.9', 6379, 'tcp', 'far'],
    ['10.9.9.8', 6379, 'tcp', undefined],
    ['127.0.0.9', 6379, 'udp', undefined],
    ['127.0.0.9', 7000, 'tcp', 'inner'],
    ['', 7000, 'tcp', 'inner'],
    ['127.0.0.1', 5353, 'udp', 'mdns'],
    ['255.255.255.255', 5353, 'udp', 'mdns'],
    ['224.0.0.251', 5353, 'udp', 'mdns'],
    ['ff02::fb', 5353, 'udp', 'mdns'],
    ['224.0.0.251', 6379, 'tcp', undefined],
    ['127.0.0.1', 9000, 'tcp', undefined],
    ['240.0.0.1', 80, 'tcp', 'far'],
  ];
  for (const [address, port, protocol, name] of cases) {
    assert.equal(names.endpoint(address, port, protocol)?.service, name, `${address} ${port}`);
  }
});

test('a service has its name as soon as a rule names it, and no longer than one does', () => {
  const enforcer = { compiled: compiled(['redis']), identities: new Identities() };
  const names = new Names(enforcer, () => catalog, { pathOf: () => undefined });
  assert.equal(names.endpoint('127.0.0.1', 9000, 'tcp'), undefined);
  enforcer.compiled = compiled(['redis', 'unruled']);
  assert.deepEqual(names.endpoint('127.0.0.1', 9000, 'tcp'), {
    service: 'unruled',
    portName: 'main',
  });
  enforcer.compiled = compiled([]);
  assert.equal(names.endpoint('127.0.0.1', 9000, 'tcp'), undefined);
});
