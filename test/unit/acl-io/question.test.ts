/** Where a call to a VIP would end, when several services have recorded it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileAcl, NO_NUMBERING } from '../../../src/acl/compile.ts';
import { Identities } from '../../../src/acl/io/identities.ts';
import { Names } from '../../../src/acl/io/names.ts';
import { answer } from '../../../src/acl/io/question.ts';
import { buildCatalog } from '../../../src/catalog/catalog.ts';
import { parseIp } from '../../../src/net/ip.ts';
import type { Protocol, ServicePort, ServiceRecord } from '../../../src/state/records.ts';
import { snapshotOf } from '../catalog/world.ts';

const VIP = '192.0.2.80';
const http = { name: 'http', port: 80, protocol: 'tcp' } as const;
const dns = { name: 'dns', port: 53, protocol: 'udp' } as const;

const service = (name: string, ...ports: ServicePort[]): ServiceRecord => {
  return { name, vips: [VIP], ports };
};

const services = [service('c', http, dns), service('b', http), service('a', dns)];
const backends = services.flatMap(({ name, ports }) =>
  ports.map((port) => ({
    service: name,
    portName: port.name,
    address: '10.0.0.1',
    port: port.port + 8000,
    weight: 1,
    state: 'active' as const,
  })),
);
const built = buildCatalog(snapshotOf(services, backends));
// In this order, so that who lost is met first.
const inOrder = services.map(({ name }) => [name, built.services.get(name)] as const);
const catalog = {
  ...built,
  services: new Map(inOrder.flatMap(([name, one]) => (one === undefined ? [] : [[name, one]]))),
};
const world = {
  rules: [],
  services: catalog.services,
  users: new Map(),
  groups: new Map(),
  localAddresses: [],
  defaultAction: 'allow',
} as const;
const compiled = compileAcl({
  ...world,
  numbering: NO_NUMBERING,
  limits: { aclRules: 64, aclEntries: 64, aclGlobs: 64 },
});

test('a VIP and port leads to the service that has it, for questions and in the log', async () => {
  const ip = parseIp(VIP);
  assert.ok(ip);
  const identities = new Identities();
  const around = {
    world,
    catalog,
    identities,
    cgroupRoot: '/nowhere',
    kernel: undefined,
    tables: compiled.tables,
  };
  const names = new Names({ compiled, identities }, () => catalog, { pathOf: () => undefined });
  const cases: readonly (readonly [number, Protocol, string])[] = [
    [80, 'tcp', 'b'],
    [53, 'udp', 'a'],
  ];
  for (const [port, protocol, owner] of cases) {
    const to = { endpoint: { address: VIP, port, ip }, protocol };
    const { targets, notes } = await answer({ from: { cidr: '192.0.2.9' }, to }, around);
    assert.deepEqual([targets.map((target) => target.service), notes], [[owner], []]);
    assert.equal(names.endpoint(VIP, port, protocol)?.service, owner);
  }
  const to = { endpoint: { address: VIP, port: 443, ip } };
  const { targets } = await answer({ from: { cidr: '192.0.2.9' }, to }, around);
  assert.deepEqual(targets, []);
});
