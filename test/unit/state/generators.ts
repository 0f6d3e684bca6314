/** Random services, backends, changes and commands for the property tests of state. */
import fc from 'fast-check';
import type { VipPools } from '../../../src/catalog/vips.ts';
import { parseCidr, type Cidr } from '../../../src/net/cidr.ts';
import type { Command } from '../../../src/state/commands.ts';
import type {
  AclRecord,
  AclSelector,
  AclTarget,
  BackendRecord,
  Change,
  DnsRecord,
  ServicePort,
} from '../../../src/state/records.ts';

export function cidr(text: string): Cidr {
  const result = parseCidr(text);
  if (!result.ok) throw new Error(`${text} ${result.reason}`);
  return result.cidr;
}

export const pools: VipPools = { v4: cidr('240.0.0.0/4'), v6: cidr('fd7a:6572:6f68:6f70::/64') };

/** Plain objects, such as records are. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

/** Few names, so that commands meet. */
export const name = fc.constantFrom('web', 'api', 'dns', 'db.shop');
export const portNames = ['http', 'https', 'dns'] as const;

export const servicePorts: fc.Arbitrary<readonly ServicePort[]> = fc
  .uniqueArray(
    record({
      name: fc.constantFrom(...portNames),
      port: fc.constantFrom(80, 443, 53),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    }),
    { minLength: 1, maxLength: 3, selector: (port) => port.name },
  )
  .filter((ports) => new Set(ports.map((p) => `${p.port}/${p.protocol}`)).size === ports.length);

export const address = fc.constantFrom('10.0.0.1', '10.0.0.2', 'fd00::1', '127.0.0.1');

/** Any 16 bytes as canonical text, v4-mapped ones now and then. */
export const anyIp = fc
  .tuple(
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
    fc.boolean(),
    fc.uint8Array({ minLength: 0, maxLength: 14 }),
  )
  .map(([bytes, mapped, zeros]) => {
    const ip = Uint8Array.from(bytes);
    for (const index of zeros) ip[index % 16] = 0;
    if (mapped) ip.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    return ip;
  });

const owner = fc.option(
  record({
    pid: fc.constantFrom(100, 200),
    startTicks: fc.constant(7),
    bootId: fc.constant('boot'),
    command: fc.constant('python3'),
  }),
  { nil: undefined },
);

export const backendSpec = record({
  portName: fc.option(fc.constantFrom(...portNames), { nil: undefined }),
  address,
  port: fc.constantFrom(8080, 8081),
  weight: fc.constantFrom(0, 1, 5),
  state: fc.constantFrom('active' as const, 'draining' as const),
  owner,
}).map(({ owner: who, ...spec }) => (who === undefined ? spec : { ...spec, owner: who }));

const vips = fc.option(
  fc.constantFrom(['240.0.0.1'], ['240.0.0.2', 'fd00::80'], ['240.0.0.1', '240.0.0.2']),
  {
    nil: undefined,
  },
);

export const serviceSpec = record({
  name,
  vips,
  ports: servicePorts,
  backends: fc.option(fc.array(backendSpec, { maxLength: 4 }), { nil: undefined }),
});

const selector = record({
  service: name,
  portName: fc.option(fc.constantFrom(...portNames), { nil: undefined }),
  address,
  port: fc.constantFrom(8080, 8081),
});

const aclPorts = fc.uniqueArray(
  record({
    port: fc.constantFrom(53, 443, 8080),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  }),
  { minLength: 1, maxLength: 3, selector: ({ port, protocol }) => `${port}/${protocol}` },
);

const selectorOf = (kind: AclSelector['kind'], ...values: string[]): fc.Arbitrary<AclSelector> =>
  fc.constantFrom(...values).map((value) => ({ kind, value }));

const workload = fc.oneof(
  selectorOf('unit', 'web.service', 'getty@*.service'),
  selectorOf('cgroup', '/', '/batch/*', '/a/**/b'),
  selectorOf('user', 'deploy', '1000', '0'),
  selectorOf('group', 'ops', '100'),
);
const source = selectorOf('cidr', '192.0.2.0/24', 'fd00::/64', '0.0.0.0/0');

const aclTarget: fc.Arbitrary<AclTarget> = fc.oneof(
  fc
    .tuple(name, fc.option(fc.constantFrom(...portNames), { nil: undefined }))
    .map(([service, portName]): AclTarget => ({
      kind: 'service',
      service,
      ...(portName === undefined ? {} : { portName }),
    })),
  fc
    .tuple(
      fc.constantFrom('10.0.0.0/8', '::/0', 'fd00::1/128'),
      fc.option(aclPorts, { nil: undefined }),
    )
    .map(([block, ports = []]): AclTarget => ({ kind: 'cidr', cidr: block, ports })),
  aclPorts.map((ports): AclTarget => ({ kind: 'ports', ports })),
);

export const aclRecord: fc.Arbitrary<AclRecord> = aclTarget.chain((to) =>
  record({
    name: fc.constantFrom('only-web', 'no.mail', 'a'),
    to: fc.constant(to),
    from: fc.uniqueArray(to.kind === 'cidr' ? workload : fc.oneof(workload, source), {
      maxLength: 3,
      selector: ({ kind, value }) => `${kind} ${value}`,
    }),
    action: fc.constantFrom('allow' as const, 'deny' as const, 'audit' as const),
  }),
);

const dnsData = {
  A: ['10.0.0.1', '10.0.0.2', '192.0.2.1'],
  AAAA: ['fd00::1', 'fd00::2'],
  CNAME: ['web.zerohop.internal', 'other.example'],
  TXT: ['', 'v=spf1 -all', 'ä "b" \\'],
  SRV: ['0 5 443 web.example', '1 0 80 .'],
  MX: ['10 mail.example', '0 .'],
  PTR: ['web.example', 'b.example'],
} as const;

/** Few names, some of them those of services. */
const dnsName = fc.constantFrom('web.zerohop.internal', 'db.shop.zerohop.internal', 'a.example');

export const dnsRecord: fc.Arbitrary<DnsRecord> = fc
  .constantFrom(...(Object.keys(dnsData) as (keyof typeof dnsData)[]))
  .chain((type) =>
    record({
      name: dnsName,
      type: fc.constant(type),
      ttl: fc.option(fc.constantFrom(0, 60), { nil: undefined }),
      data: fc.uniqueArray(fc.constantFrom<string>(...dnsData[type]), {
        minLength: 1,
        maxLength: type === 'CNAME' ? 1 : 3,
      }),
    }),
  )
  .map(({ ttl, ...rest }) => (ttl === undefined ? rest : { ...rest, ttl }))
  // As schema.ts and dns-validate.ts make them: fields in one order.
  .map(({ name: one, type, data, ...rest }) => ({ name: one, type, ...rest, data }));

const document = fc.oneof(
  serviceSpec.map((spec) => ({ kind: 'service' as const, ...spec })),
  fc.tuple(name, backendSpec).map(([service, { portName, address: ip, port, weight, state }]) => ({
    kind: 'backend' as const,
    service,
    portName,
    address: ip,
    port,
    weight,
    state,
  })),
  aclRecord.map((acl) => ({ kind: 'acl' as const, ...acl })),
  dnsRecord.map((one) => ({ kind: 'record' as const, ...one })),
);

export const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 3,
    arbitrary: serviceSpec.map((service) => ({ kind: 'add-service' as const, service })),
  },
  {
    weight: 3,
    arbitrary: serviceSpec.map((service) => ({ kind: 'put-service' as const, service })),
  },
  { weight: 1, arbitrary: name.map((one) => ({ kind: 'remove-service' as const, name: one })) },
  {
    weight: 5,
    arbitrary: fc
      .tuple(name, backendSpec)
      .map(([service, backend]) => ({ kind: 'put-backend' as const, service, backend })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        selector,
        fc.constantFrom(undefined, 0, 9),
        fc.constantFrom(undefined, 'draining' as const),
      )
      .map(([backend, weight, state]) => ({
        kind: 'change-backend' as const,
        backend,
        weight,
        state,
      })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(selector, owner)
      .map(([backend, who]) => ({ kind: 'remove-backend' as const, backend, owner: who })),
  },
  {
    weight: 3,
    arbitrary: aclRecord.map((acl) => ({ kind: 'put-acl' as const, acl })),
  },
  {
    weight: 1,
    arbitrary: aclRecord.map((acl) => ({ kind: 'remove-acl' as const, name: acl.name })),
  },
  { weight: 3, arbitrary: dnsRecord.map((one) => ({ kind: 'put-record' as const, record: one })) },
  { weight: 3, arbitrary: dnsRecord.map((one) => ({ kind: 'add-record' as const, record: one })) },
  {
    weight: 1,
    arbitrary: fc.tuple(dnsRecord, fc.boolean()).map(([{ name: one, type }, isWhole]) => ({
      kind: 'remove-record' as const,
      name: one,
      type: isWhole ? undefined : type,
    })),
  },
  {
    weight: 2,
    arbitrary: fc
      .array(document, { maxLength: 4 })
      .map((documents) => ({ kind: 'apply' as const, documents })),
  },
);

export const backendRecord: fc.Arbitrary<BackendRecord> = record({
  service: name,
  portName: fc.constantFrom(...portNames),
  address,
  port: fc.constantFrom(8080, 8081),
  weight: fc.constantFrom(0, 1, 5),
  state: fc.constantFrom('active' as const, 'draining' as const),
  owner,
}).map(({ owner: who, ...record }) => (who === undefined ? record : { ...record, owner: who }));

export const change: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(name, servicePorts).map(([one, ports]) => ({
    kind: 'put-service' as const,
    service: { name: one, vips: ['240.0.0.1'], ports },
  })),
  name.map((one) => ({ kind: 'remove-service' as const, name: one })),
  backendRecord.map((backend) => ({ kind: 'put-backend' as const, backend })),
  aclRecord.map((acl) => ({ kind: 'put-acl' as const, acl })),
  aclRecord.map((acl) => ({ kind: 'remove-acl' as const, name: acl.name })),
  dnsRecord.map((one) => ({ kind: 'put-record' as const, record: one })),
  dnsRecord.map(({ name: one, type }) => ({ kind: 'remove-record' as const, name: one, type })),
  backendRecord.map(({ service, portName, address: ip, port }) => ({
    kind: 'remove-backend' as const,
    service,
    portName,
    address: ip,
    port,
  })),
);
