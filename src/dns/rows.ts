/**
 * What is said at one name, as text: who is behind the name, and which of them is heard.
 *
 * One holder of a name, in this order: a service, its port, its backends, the zone's own
 * names, hosts, an address. User records may add types to it; README.md has the rules.
 */
import { takersOf, type CatalogPort, type CatalogService } from '../catalog/catalog.ts';
import { isServed } from '../catalog/conflicts.ts';
import { addressLabel } from './address-name.ts';
import type { ZoneType } from './numbers.ts';
import { encodeData } from './rdata.ts';

/** What the whole zone has in common. */
export interface ZoneBase {
  readonly domain: string;
  /** In seconds. */
  readonly ttl: number;
}

/** A host that can be named. */
export interface Member {
  readonly id: string;
  /** Its name in DNS: ends in `.node.DOMAIN`. */
  readonly fullName: string;
  readonly zone: string;
  readonly version: string;
  readonly addresses: readonly string[];
  readonly isReachable: boolean;
}

/** As src/state/records.ts has it; types that this version does not know are nobody's. */
export interface UserRecord {
  readonly name: string;
  readonly type: string;
  readonly ttl?: number;
  readonly data: readonly string[];
}

/** Who has an address, for its reverse name. */
export interface Pointer {
  /** Names of services whose VIP it is. */
  readonly services: readonly string[];
  readonly members: readonly Member[];
}

/** `top` is there without anything at it. */
export type Fixed = 'apex' | 'ready' | 'ns' | 'top';

/** Who is behind a name. */
export interface Facts {
  readonly service: CatalogService | undefined;
  readonly port: { readonly service: CatalogService; readonly port: CatalogPort } | undefined;
  readonly backendsOf: CatalogService | undefined;
  readonly fixed: Fixed | undefined;
  readonly members: readonly Member[] | undefined;
  readonly address: string | undefined;
  readonly pointer: Pointer | undefined;
  readonly records: readonly UserRecord[] | undefined;
}

export interface Row {
  readonly ttl: number;
  readonly data: string;
  readonly from: 'service' | 'node' | 'record' | 'zone';
  /** Why it is not answered. */
  readonly hidden?: string;
}

/** One of those behind a name. */
interface Claim {
  readonly from: Row['from'];
  /** For people. */
  readonly who: string;
  /** Types that no user record may have here, whether the claim has some of them or not. */
  readonly owns: readonly ZoneType[];
  dataOf(type: ZoneType): readonly string[];
}

const NOTHING: readonly string[] = [];
const ADDRESSES: readonly ZoneType[] = ['A', 'AAAA'];

const isOf = (type: ZoneType, address: string): boolean =>
  type === (address.includes(':') ? 'AAAA' : 'A');

function vipsOf(service: CatalogService, type: ZoneType): readonly string[] {
  const { vips, ports } = service;
  return vips.filter(
    (vip) =>
      isOf(type, vip) && (ports.length === 0 || ports.some((port) => isServed(service, vip, port))),
  );
}

/** Of a service none of whose VIPs is lost wholly these are its VIPs. */
export function heldVips(service: CatalogService): readonly string[] {
  return [...vipsOf(service, 'A'), ...vipsOf(service, 'AAAA')];
}

function serviceClaim(service: CatalogService): Claim {
  return {
    from: 'service',
    who: `service ${service.name}`,
    owns: ADDRESSES,
    dataOf: (type) => {
      if (type !== 'TXT') return vipsOf(service, type);
      return service.ports.map((port) => {
        const share = `${takersOf(service, port).length}/${port.backends.length}`;
        return `${port.name}=${port.port}/${port.protocol} backends=${share}`;
      });
    },
  };
}

function portClaim(service: CatalogService, port: CatalogPort, base: ZoneBase): Claim {
  return {
    from: 'service',
    who: `service ${service.name}`,
    owns: ['SRV'],
    dataOf: (type) =>
      type !== 'SRV'
        ? NOTHING
        : takersOf(service, port).map(
            (one) => `0 ${one.weight} ${one.port} ${addressLabel(one.address)}.addr.${base.domain}`,
          ),
  };
}

function backendsClaim(service: CatalogService): Claim {
  return {
    from: 'service',
    who: `service ${service.name}`,
    owns: ADDRESSES,
    dataOf: (type) => {
      if (type !== 'A' && type !== 'AAAA') return NOTHING;
      const takers = service.ports.flatMap((port) => takersOf(service, port));
      return [...new Set(takers.map(({ address }) => address))].filter((one) => isOf(type, one));
    },
  };
}

const FIXED: Readonly<
  Record<Exclude<Fixed, 'top' | 'apex'>, Readonly<Partial<Record<ZoneType, string>>>>
> = {
  ready: { A: '127.0.0.1', AAAA: '::1', TXT: 'ready' },
  ns: { A: '127.0.0.55' },
};

function fixedClaim(fixed: Exclude<Fixed, 'top'>, base: ZoneBase): Claim {
  const { domain } = base;
  const has: Readonly<Partial<Record<ZoneType, string>>> =
    fixed === 'apex' ? { NS: `ns.${domain}` } : FIXED[fixed];
  return {
    from: 'zone',
    who: `the zone's own ${fixed === 'apex' ? domain : fixed}`,
    owns: { apex: ['SOA', 'NS'], ready: ['A', 'AAAA', 'TXT'], ns: ADDRESSES }[
      fixed
    ] as readonly ZoneType[],
    dataOf: (type) => {
      const data = has[type];
      return data === undefined ? NOTHING : [data];
    },
  };
}

/** Sorted, each once. */
function distinct(texts: Iterable<string>): readonly string[] {
  return [...new Set(texts)].sort();
}

function membersClaim(members: readonly Member[]): Claim {
  return {
    from: 'node',
    who: `host ${distinct(members.map(({ id }) => id)).join(', ')}`,
    owns: [],
    dataOf: (type) => {
      if (type === 'A' || type === 'AAAA') {
        const reachable = members.filter((member) => member.isReachable);
        return distinct(reachable.flatMap((one) => one.addresses.filter((it) => isOf(type, it))));
      }
      if (type !== 'TXT') return NOTHING;
      return distinct(
        members.flatMap(({ id, zone, version }) =>
          [`id=${id}`, `zone=${zone}`, `version=${version}`].filter((text) => !text.endsWith('=')),
        ),
      );
    },
  };
}

function addressClaim(address: string): Claim {
  const dataOf = (type: ZoneType): readonly string[] => (isOf(type, address) ? [address] : NOTHING);
  return { from: 'zone', who: `address ${address}`, owns: [], dataOf };
}

function pointerClaims({ services, members }: Pointer, base: ZoneBase): Claim[] {
  const names = distinct(services.map((name) => `${name}.${base.domain}`));
  const hosts = distinct(members.map(({ fullName }) => fullName));
  const claims: Claim[] = [];
  if (names.length > 0)
    claims.push({
      from: 'service',
      who: `service ${distinct(services).join(', ')}`,
      owns: ['PTR'],
      dataOf: (type) => (type === 'PTR' ? names : NOTHING),
    });
  if (hosts.length > 0)
    claims.push({
      from: 'node',
      who: `host ${distinct(members.map(({ id }) => id)).join(', ')}`,
      owns: [],
      dataOf: (type) => (type === 'PTR' ? hosts : NOTHING),
    });
  return claims;
}

/** The first is the holder. */
function claimsOf(facts: Facts, base: ZoneBase): Claim[] {
  const { service, port, backendsOf, fixed, members, address, pointer } = facts;
  const claims: Claim[] = [];
  if (service !== undefined) claims.push(serviceClaim(service));
  if (port !== undefined) claims.push(portClaim(port.service, port.port, base));
  if (backendsOf !== undefined) claims.push(backendsClaim(backendsOf));
  if (fixed !== undefined && fixed !== 'top') claims.push(fixedClaim(fixed, base));
  if (members !== undefined) claims.push(membersClaim(members));
  if (address !== undefined) claims.push(addressClaim(address));
  if (pointer !== undefined) claims.push(...pointerClaims(pointer, base));
  return claims;
}

function whyRecordHidden(
  facts: Facts,
  type: ZoneType,
  holder: Claim | undefined,
): string | undefined {
  if (holder?.owns.includes(type) === true) return `${holder.who} has the ${type} of this name`;
  if (type !== 'CNAME') return undefined;
  if (holder !== undefined) return `a CNAME stands alone, and ${holder.who} has this name`;
  const others = (facts.records ?? []).filter((record) => record.type !== 'CNAME');
  return others.length === 0
    ? undefined
    : `a CNAME stands alone, and there is ${distinct(others.map((one) => one.type)).join(', ')}`;
}

function recordRows(
  facts: Facts,
  type: ZoneType,
  holder: Claim | undefined,
  base: ZoneBase,
): Row[] {
  const rows: Row[] = [];
  for (const record of facts.records ?? []) {
    if (record.type !== type) continue;
    const why = whyRecordHidden(facts, type, holder);
    for (const data of record.data) {
      const hidden = why ?? (encodeData(type, data) === undefined ? `no ${type} data` : undefined);
      const row: Row = { ttl: record.ttl ?? base.ttl, data, from: 'record' };
      rows.push(hidden === undefined ? row : { ...row, hidden });
    }
  }
  return rows;
}

/** Records of one type at one name, in the order in which they are answered; the hidden ones with the reason. */
export function rowsOf(facts: Facts, type: ZoneType, base: ZoneBase): Row[] {
  const claims = claimsOf(facts, base);
  const [holder] = claims;
  const records = recordRows(facts, type, holder, base);
  const isSaid = records.some((row) => row.hidden === undefined);
  const rows: Row[] = [];
  for (const claim of claims) {
    // Where no type is the holder's for good, a record's goes before.
    const loses = isSaid && type !== 'TXT' && claim.owns.length === 0;
    const hidden =
      claim !== holder
        ? `${holder?.who} has this name`
        : loses
          ? `a record has the ${type} of this name`
          : undefined;
    for (const data of claim.dataOf(type)) {
      const row: Row = { ttl: base.ttl, data, from: claim.from };
      rows.push(hidden === undefined ? row : { ...row, hidden });
    }
  }
  return [...rows, ...records];
}

/** Whether something stands at the name: it is more than a way to longer names. */
export function isInhabited(facts: Facts): boolean {
  const { service, port, backendsOf, fixed, members, address, pointer, records } = facts;
  return (
    service !== undefined ||
    port !== undefined ||
    backendsOf !== undefined ||
    (fixed !== undefined && fixed !== 'top') ||
    members !== undefined ||
    address !== undefined ||
    pointer !== undefined ||
    records !== undefined
  );
}
