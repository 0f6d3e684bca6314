/**
 * A zone made step by step is the zone made at once, whatever changes: names that
 * come and go with what stands at them or below them, who has which address, what each says.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { buildCatalog } from '../../../src/catalog/catalog.ts';
import { servicesBetween, type CatalogContext } from '../../../src/catalog/context.ts';
import { isWithin } from '../../../src/dns/names.ts';
import { buildZone, plainAnswers, zoneEntries, type NodeFacts } from '../../../src/dns/zone.ts';
import type { Zone, ZoneSources } from '../../../src/dns/zone.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type { Change, DnsRecord, StateSnapshot } from '../../../src/state/records.ts';
import { pools } from '../state/generators.ts';
import { DOMAIN } from './zones.ts';

/** Names that are each other's ends, and those that the zone has of its own. */
const SERVICES = ['web', 'a.web', 'b.a.web', 'backends.web', 'node', 'n1.node', 'ready', 'ns'];
const ODD_SERVICES = ['addr', '10-0-0-1.addr', 'x.10-0-0-1.addr', 'x.y.10-0-0-2.addr'];
const VIPS = ['240.0.0.1', '240.0.0.2', '198.51.100.1', 'fd7a:6572:6f68:6f70::1'];
const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3', 'fd00::1'];
const PORTS = [
  { name: 'http', port: 80, protocol: 'tcp' },
  { name: 'dns', port: 53, protocol: 'udp' },
  { name: 'dns', port: 53, protocol: 'tcp' },
] as const;
const NODES = ['n1', 'n2', 'me'];
const RECORD_NAMES = [
  DOMAIN,
  `web.${DOMAIN}`,
  `x.y.${DOMAIN}`,
  `y.${DOMAIN}`,
  `_http._tcp.web.${DOMAIN}`,
  `backends.web.${DOMAIN}`,
  `10-0-0-1.addr.${DOMAIN}`,
  `z.n1.node.${DOMAIN}`,
  'corp.example',
  'x.corp.example',
  '1.0.0.240.in-addr.arpa',
  '1.0.0.10.in-addr.arpa',
];

const service = fc.constantFrom(...SERVICES, ...ODD_SERVICES);
const portsOfOne = fc
  .subarray([...PORTS])
  .map((list) => list.filter((it, i) => list.findIndex(({ name }) => name === it.name) === i));

const serviceChange: fc.Arbitrary<Change> = fc.oneof(
  fc
    .tuple(service, fc.subarray(VIPS, { minLength: 1 }), portsOfOne)
    .map(([name, vips, ports]): Change => ({
      kind: 'put-service',
      service: { name, vips, ports },
    })),
  fc
    .tuple(service, fc.constantFrom(...PORTS), fc.constantFrom(...ADDRESSES), fc.constantFrom(0, 1))
    .map(([name, { name: portName }, address, weight]): Change => ({
      kind: 'put-backend',
      backend: { service: name, portName, address, port: 80, weight, state: 'active' },
    })),
  service.map((name): Change => ({ kind: 'remove-service', name })),
);

const recordChange: fc.Arbitrary<Change> = fc
  .tuple(
    fc.constantFrom(...RECORD_NAMES),
    fc.constantFrom('A 198.51.100.7', 'TXT hello', `CNAME web.${DOMAIN}`, 'PTR x.example'),
    fc.constantFrom(undefined, 3, 600),
    fc.boolean(),
  )
  .map(([name, words, ttl, isPut]): Change => {
    const [type = '', data = ''] = words.split(' ');
    const record = { name, type: type as DnsRecord['type'], data: [data] };
    if (!isPut) return { kind: 'remove-record', name, type: record.type };
    return { kind: 'put-record', record: ttl === undefined ? record : { ...record, ttl } };
  });

const node: fc.Arbitrary<NodeFacts> = fc
  .tuple(fc.constantFrom('n1', 'twin', 'Box.Example', 'no name'), fc.subarray(ADDRESSES))
  .map(([name, addresses]) => ({ name, zone: 'a', version: '1', addresses }));

interface Step {
  readonly changes: readonly Change[];
  /** Undefined: the hosts are as before. */
  readonly hosts:
    | {
        readonly nodes: readonly (readonly [string, NodeFacts])[];
        readonly gone: readonly string[];
      }
    | undefined;
  readonly selfName: string;
}

const step: fc.Arbitrary<Step> = fc.record(
  {
    changes: fc.array(fc.oneof(serviceChange, recordChange), { maxLength: 4 }),
    hosts: fc.option(
      fc.record({
        nodes: fc.array(fc.tuple(fc.constantFrom(...NODES), node), { maxLength: 3 }),
        gone: fc.subarray(NODES),
      }),
      { nil: undefined },
    ),
    selfName: fc.constantFrom('me', 'me', 'box'),
  },
  { noNullPrototype: true },
);

/** All that is to see of a zone. */
function picture(zone: Zone): unknown {
  const names = [...zone.names]
    .map(([name, entry]) => `${name} ${entry.children} ${entry.isInhabited}`)
    .toSorted();
  return {
    entries: [...zoneEntries(zone)],
    names,
    addresses: [...zone.pointers.keys()].toSorted(),
    kernel: kernelPicture(zone),
  };
}

function kernelPicture(zone: Zone): Map<string, string> {
  return new Map(
    [...plainAnswers(zone)]
      .map(
        ({ name, type, tail }) => [`${name} ${type}`, Buffer.from(tail).toString('hex')] as const,
      )
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

class World {
  snapshot: StateSnapshot = EMPTY_SNAPSHOT;
  context: CatalogContext = {
    pools,
    self: 'me',
    nodes: new Map(),
    unreachable: new Set(),
    unhealthy: new Set(),
  };
  nodes: ReadonlyMap<string, NodeFacts> = new Map();
  sources: ZoneSources | undefined;
  zone: Zone | undefined;

  /** As the agent's pipeline does: Catalog first, and what it touched to the zone. */
  take({ changes, hosts, selfName }: Step): { zone: Zone; fresh: Zone; before: Zone | undefined } {
    const { snapshot, touched } = applyChanges(this.snapshot, changes);
    const contextBefore = this.context;
    if (hosts !== undefined) {
      this.nodes = new Map(hosts.nodes);
      this.context = { ...this.context, nodes: this.nodes, unreachable: new Set(hosts.gone) };
    }
    const all = new Set([...touched, ...servicesBetween(snapshot, contextBefore, this.context)]);
    const previous = this.sources && { catalog: this.sources.catalog, touched: all };
    const catalog = buildCatalog(snapshot, this.context, previous);
    this.snapshot = snapshot;
    const sources: ZoneSources = {
      domain: DOMAIN,
      ttl: 5,
      negativeTtl: 1,
      catalog,
      self: { id: 'me', name: selfName, zone: '', version: '1', addresses: ['10.0.0.3'] },
      nodes: this.nodes,
      unreachable: this.context.unreachable,
      records: snapshot.records,
      pools,
      isReady: true,
    };
    const before = this.zone;
    const zone = buildZone(sources, before && { zone: before, touched: catalog.touched });
    this.sources = sources;
    this.zone = zone;
    return { zone, fresh: buildZone(sources), before };
  }
}

describe('a zone made step by step', () => {
  test('is the zone made at once', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
        const world = new World();
        for (const one of steps) {
          const { zone, fresh } = world.take(one);
          assert.deepEqual(picture(zone), picture(fresh));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('leaves the zone before it as it was', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 5 }), (steps) => {
        const world = new World();
        const pictures: (readonly [Zone, unknown])[] = [];
        for (const one of steps) {
          const { zone } = world.take(one);
          pictures.push([zone, picture(zone)]);
        }
        for (const [zone, was] of pictures) assert.deepEqual(picture(zone), was);
      }),
      { numRuns: 100 },
    );
  });

  test('names in `touched` whatever the kernel is to be told', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 6 }), (steps) => {
        const world = new World();
        for (const one of steps) {
          const { zone, before } = world.take(one);
          if (before === undefined) assert.equal(zone.touched, 'all');
          if (before === undefined || zone.touched === 'all') continue;
          const [was, is] = [kernelPicture(before), kernelPicture(zone)];
          for (const key of new Set([...was.keys(), ...is.keys()]))
            if (was.get(key) !== is.get(key))
              assert.ok(zone.touched.has(key.split(' ')[0] ?? ''), key);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('has a name exactly if something stands at it or below it', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), (steps) => {
        const world = new World();
        for (const one of steps) world.take(one);
        const { zone, sources } = world;
        assert.ok(zone !== undefined && sources !== undefined);
        const { catalog, records, nodes, self } = sources;
        const hosts = [...nodes, [self.id, self] as const].flatMap(([id, { name }]) => [id, name]);
        const put = [
          '',
          'ready',
          'ns',
          'node',
          'addr',
          ...[...catalog.services.values()].flatMap(({ name, ports }) => [
            name,
            `backends.${name}`,
            ...ports.map((port) => `_${port.name}._${port.protocol}.${name}`),
          ]),
          ...hosts.filter((it) => !it.includes(' ')).map((it) => `${it.toLowerCase()}.node`),
        ].map((name) => (name === '' ? DOMAIN : `${name}.${DOMAIN}`));
        // Of itself a host says the last word.
        const own = nodes.get(self.id)?.name.toLowerCase();
        const all = [...put, ...[...records.values()].map(({ name }) => name)];
        for (const candidate of new Set(all.flatMap(ends))) {
          if (own !== undefined && isWithin(`${own}.node.${DOMAIN}`, candidate)) continue;
          const isThere = all.some(
            (name) =>
              name === candidate || (isWithin(candidate, DOMAIN) && isWithin(name, candidate)),
          );
          assert.equal(zone.names.has(candidate), isThere, candidate);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('costs nothing where nothing was touched', () => {
    const world = new World();
    const put = (name: string): Change => ({
      kind: 'put-service',
      service: { name, vips: ['240.0.0.1'], ports: [] },
    });
    world.take({ changes: SERVICES.map(put), hosts: undefined, selfName: 'me' });
    const { zone, before } = world.take({ changes: [], hosts: undefined, selfName: 'me' });
    assert.equal(zone.names, before?.names);
    assert.equal(zone.pointers, before?.pointers);
    assert.equal(zone.members, before?.members);
    assert.ok(zone.touched !== 'all' && zone.touched.size === 0);
  });
});

/** A name and all that it ends in, but for the root. */
function ends(name: string): string[] {
  const labels = name.split('.');
  return labels.map((_, i) => labels.slice(i).join('.'));
}
