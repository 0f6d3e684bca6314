/** Random records and contexts in which names, VIPs and addresses meet all the time. */
import fc from 'fast-check';
import { ALONE, type CatalogContext } from '../../../src/catalog/context.ts';
import { allocateVip, type VipPools } from '../../../src/catalog/vips.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type {
  BackendRecord,
  Change,
  ServicePort,
  ServiceRecord,
  StateSnapshot,
} from '../../../src/state/records.ts';
import { cidr, pools as widePools } from '../state/generators.ts';

export const names = ['api', 'db', 'mail', 'search', 'web'] as const;

/** Room for fewer than there are names, so that candidates collide and the pool gets full. */
export const tightPools: VipPools = { ...widePools, v4: cidr('240.0.0.0/29') };

/** The first candidates of every name: what they would have without conflicts. */
function candidates(pools: VipPools): string[] {
  const found = new Set<string>();
  for (const name of names) {
    for (const family of [4, 6] as const) {
      const taken = new Set<string>();
      for (let attempt = 0; attempt < 3; attempt++) {
        const allocation = allocateVip(name, family, pools, (vip) => taken.has(vip));
        if (!allocation.ok) continue;
        found.add(allocation.vip);
        taken.add(allocation.vip);
      }
    }
  }
  return [...found];
}

export const strangeVips = ['192.0.2.1', '192.0.2.2', 'fd00::1:1'] as const;
export const contestedVips = [...new Set([widePools, tightPools].flatMap(candidates))];

/** So that a VIP is contested more often than not; the pools of both kinds have some. */
const favourites = contestedVips.slice(0, 4);

const ports: readonly ServicePort[] = [
  { name: 'http', port: 80, protocol: 'tcp' },
  { name: 'dns', port: 53, protocol: 'udp' },
  { name: 'dns-tcp', port: 53, protocol: 'tcp' },
];

const name = fc.constantFrom(...names);

export const serviceRecord: fc.Arbitrary<ServiceRecord> = fc
  .tuple(
    name,
    fc.uniqueArray(
      fc.oneof(
        { weight: 2, arbitrary: fc.constantFrom('240.0.0.1', '240.0.0.2', ...favourites) },
        fc.constantFrom(...contestedVips, ...strangeVips),
      ),
      { minLength: 1, maxLength: 3 },
    ),
    fc.uniqueArray(fc.constantFrom(...ports), { minLength: 1, maxLength: 3 }),
  )
  .map(([own, vips, some]) => ({ name: own, vips, ports: some }));

export const nodeIds = ['me', 'n1', 'n2', 'n3'] as const;

export const backendRecord: fc.Arbitrary<BackendRecord> = fc
  .tuple(
    name,
    fc.constantFrom(...ports),
    fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3', 'fd00::2', 'fd00::3', '127.0.0.1', '::1'),
    fc.constantFrom(8080, 8081),
    fc.constantFrom(0, 1, 5),
    fc.constantFrom('active' as const, 'active' as const, 'draining' as const),
    fc.constantFrom(undefined, undefined, ...nodeIds),
  )
  .map(([service, { name: portName }, address, port, weight, state, node]) => {
    const record = { service, portName, address, port, weight, state };
    return node === undefined ? record : { ...record, node };
  });

const change: fc.Arbitrary<Change> = fc.oneof(
  serviceRecord.map((service): Change => ({ kind: 'put-service', service })),
  backendRecord.map((backend): Change => ({ kind: 'put-backend', backend })),
  backendRecord.map((backend): Change => ({ kind: 'put-backend', backend })),
  name.map((one): Change => ({ kind: 'remove-service', name: one })),
  backendRecord.map(({ service, portName, address, port }): Change => {
    return { kind: 'remove-backend', service, portName, address, port };
  }),
);
export const changes = fc.array(change, { minLength: 1, maxLength: 6 });

const addresses = fc.uniqueArray(fc.constantFrom('10.0.0.1', '10.0.0.2', 'fd00::2'), {
  maxLength: 2,
});
const unhealthy = fc.uniqueArray(
  fc.constantFrom(
    '10.0.0.1 8080 tcp',
    '10.0.0.2 8080 tcp',
    '10.0.0.2 8081 udp',
    '10.0.0.3 8080 udp',
    'fd00::2 8080 tcp',
    '127.0.0.1 8080 tcp',
  ),
);

/** Contexts of one node that keeps its pools. */
export const contextIn = (pools: VipPools): fc.Arbitrary<CatalogContext> =>
  fc
    .tuple(
      fc.array(fc.tuple(fc.constantFrom(...nodeIds), addresses), { maxLength: 4 }),
      fc.subarray([...nodeIds]),
      unhealthy,
    )
    .map(([nodes, gone, broken]) => ({
      pools,
      self: 'me',
      nodes: new Map(nodes.map(([id, list]) => [id, { addresses: list }])),
      unreachable: new Set<string>(gone),
      unhealthy: new Set<string>(broken),
    }));

export const anyPools = fc.constantFrom(widePools, tightPools);
export const inPools = (pools: VipPools): CatalogContext => ({ ...ALONE, pools });

export const snapshots: fc.Arbitrary<StateSnapshot> = fc
  .tuple(fc.array(serviceRecord, { maxLength: 8 }), fc.array(backendRecord, { maxLength: 20 }))
  .map(([services, backends]) => snapshotOf(services, backends));

export function snapshotOf(
  services: readonly ServiceRecord[],
  backends: readonly BackendRecord[] = [],
): StateSnapshot {
  const all: Change[] = [
    ...services.map((service): Change => ({ kind: 'put-service', service })),
    ...backends.map((backend): Change => ({ kind: 'put-backend', backend })),
  ];
  return applyChanges(EMPTY_SNAPSHOT, all).snapshot;
}
