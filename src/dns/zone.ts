/**
 * What this node answers for by itself: the Catalog's services, the hosts that it
 * knows, the records of the state, by name. Immutable; made anew from the one before
 * at the cost of what was touched. Knows no question and no wire; see README.md.
 */
import type { Catalog } from '../catalog/catalog.ts';
import type { VipPools } from '../catalog/vips.ts';
import { BucketMap } from '../state/bucket-map.ts';
import type { NodeRecord } from '../state/replica/schema.ts';
import { addressOf, addressOfLabel, readReverse, reverseZoneLabels } from './address-name.ts';
import { differingKeys, sameJson } from './differences.ts';
import { Entry } from './entry.ts';
import { loopbackName } from './loopback.ts';
import { isWithin, nameToWire } from './names.ts';
import type { Member, UserRecord, ZoneBase } from './rows.ts';
import { makeSoa, type Soa } from './soa.ts';
import { wholePointer, ZoneEdit, type ShortPointer } from './zone-edit.ts';

export {
  plainAnswers,
  plainAnswer,
  zoneEntries,
  type PlainAnswer,
  type ZoneEntry,
} from './entries.ts';
export type { UserRecord } from './rows.ts';

/** What is answered of a host. */
export type NodeFacts = Pick<NodeRecord, 'name' | 'zone' | 'version' | 'addresses'>;

export interface ZoneSources {
  /** In lower case; of at most 100 bytes no name in it is too long. */
  readonly domain: string;
  /** In seconds. */
  readonly ttl: number;
  readonly negativeTtl: number;
  readonly catalog: Catalog;
  /** Taken for what `nodes` says of it; never unreachable. */
  readonly self: NodeFacts & { readonly id: string };
  /** By id. */
  readonly nodes: ReadonlyMap<string, NodeFacts>;
  /** Ids. */
  readonly unreachable: ReadonlySet<string>;
  /** By `NAME TYPE`. */
  readonly records: ReadonlyMap<string, UserRecord>;
  readonly pools: VipPools;
  /** Names below the domain, `invalid` or `onion` whose zones others have (dns.forward), but for what is there. */
  readonly elsewhere?: readonly string[];
  /** Whether it is what the agent serves: `ready.DOMAIN` fails before. */
  readonly isReady: boolean;
}

export interface Previous {
  readonly zone: Zone;
  /** Services that may differ from the zone's: `touched` of all Catalogs since. */
  readonly touched: Iterable<string>;
}

/** What a name is to this zone when nothing stands at it. */
export type Standing =
  /** Somebody else's. */
  | { readonly kind: 'foreign' }
  /** Ours: missing, or (isThere) on the way to others. `zoneLabels`: of the zone it is in, if not the domain. */
  | { readonly kind: 'ours'; readonly isThere: boolean; readonly zoneLabels?: number };

const FOREIGN: Standing = { kind: 'foreign' };
const MISSING: Standing = { kind: 'ours', isThere: false };

export class Zone implements ZoneBase {
  readonly sources: ZoneSources;
  readonly domain: string;
  readonly domainWire: Uint8Array;
  readonly ttl: number;
  readonly isReady: boolean;
  readonly serial: number;
  /** Names whose answers may differ from the previous zone's; without one it is `all`. */
  readonly touched: ReadonlySet<string> | 'all';
  readonly names: BucketMap<Entry>;
  /** By address. */
  readonly pointers: BucketMap<ShortPointer>;
  readonly members: ReadonlyMap<string, Member>;
  readonly #addressEnd: string;
  #soa: Soa | undefined;

  constructor(
    sources: ZoneSources,
    made: Pick<Zone, 'names' | 'pointers' | 'members' | 'touched'>,
  ) {
    this.sources = sources;
    this.domain = sources.domain;
    this.domainWire = nameToWire(sources.domain) ?? new Uint8Array(1);
    this.ttl = sources.ttl;
    this.isReady = sources.isReady;
    this.serial = sources.catalog.revision % 2 ** 32;
    this.touched = made.touched;
    this.names = made.names;
    this.pointers = made.pointers;
    this.members = made.members;
    this.#addressEnd = `.addr.${sources.domain}`;
  }

  /** Made when it is first asked for: a zone that follows many changes is asked for few. */
  get soa(): Soa {
    this.#soa ??= makeSoa(this, this.sources.negativeTtl, this.serial);
    return this.#soa;
  }

  /** Who is behind a name, as Query has it; also names that are only on the way to others. */
  lookup(name: string): Entry | undefined {
    const entry = this.names.get(name);
    if (name.endsWith('.arpa')) return this.#reverse(name, entry) ?? entry ?? this.#loopback(name);
    if (entry !== undefined) return entry;
    return name.endsWith(this.#addressEnd) ? this.#address(name) : this.#loopback(name);
  }

  #loopback(name: string): Entry | undefined {
    const records = loopbackName(name)?.records ?? [];
    if (records.length === 0 || isWithin(name, this.domain)) return undefined;
    const entry = new Entry(name, this);
    entry.write({ records });
    return entry;
  }

  #address(name: string): Entry | undefined {
    const address = addressOfLabel(name.slice(0, -this.#addressEnd.length));
    if (address === undefined) return undefined;
    const entry = new Entry(name, this);
    entry.write({ address });
    return entry;
  }

  /** With the records that stand at the name. */
  #reverse(name: string, there: Entry | undefined): Entry | undefined {
    const reverse = readReverse(name);
    const address = reverse === undefined ? undefined : addressOf(reverse);
    const pointer = address === undefined ? undefined : this.pointers.get(address);
    if (pointer === undefined) return undefined;
    const entry = new Entry(name, this);
    entry.write({ records: there?.records, pointer: wholePointer(pointer) });
    return entry;
  }

  /** Whether others are asked for it, unless something of ours stands there. */
  isElsewhere(name: string): boolean {
    return this.sources.elsewhere?.some((zone) => isWithin(name, zone)) === true;
  }

  /** Of names that lookup() does not know: whether it is for this zone to say so. */
  standing(name: string): Standing {
    if (isWithin(name, this.domain)) return this.isElsewhere(name) ? FOREIGN : MISSING;
    const loopback = loopbackName(name);
    if (loopback !== undefined)
      return this.isElsewhere(name) ? FOREIGN : { kind: 'ours', ...loopback };
    const reverse = name.endsWith('.arpa') ? readReverse(name) : undefined;
    if (reverse === undefined) return FOREIGN;
    const zoneLabels = reverseZoneLabels(reverse, this.sources.pools);
    if (zoneLabels === undefined) return FOREIGN;
    const isThere = reverse.bits < (reverse.family === 4 ? 32 : 128);
    return { kind: 'ours', isThere, zoneLabels };
  }
}

/** A name that a host can have in DNS; others are known by their id only. */
const HOST_NAME =
  /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

function membersOf({ domain, self, nodes, unreachable }: ZoneSources): Map<string, Member> {
  const members = new Map<string, Member>();
  for (const [id, { name, zone, version, addresses }] of [...nodes, [self.id, self] as const]) {
    const lower = name.toLowerCase();
    const label = HOST_NAME.test(lower) ? lower : id;
    members.set(id, {
      id,
      fullName: `${label}.node.${domain}`,
      zone,
      version,
      addresses: [...new Set(addresses)],
      isReachable: id === self.id || !unreachable.has(id),
    });
  }
  return members;
}

/** Without text being made of both, as they are compared at every change. */
function sameSelf(a: ZoneSources['self'], b: ZoneSources['self']): boolean {
  return (
    a.id === b.id &&
    a.name === b.name &&
    a.zone === b.zone &&
    a.version === b.version &&
    (a.addresses === b.addresses || sameJson(a.addresses, b.addresses))
  );
}

/** The members of before, where nothing is new of them. */
function nextMembers(sources: ZoneSources, zone: Zone | undefined): ReadonlyMap<string, Member> {
  if (zone === undefined) return membersOf(sources);
  const { nodes, self, unreachable } = zone.sources;
  const isSame =
    nodes === sources.nodes && unreachable === sources.unreachable && sameSelf(self, sources.self);
  if (isSame) return zone.members;
  const members = membersOf(sources);
  for (const [id, member] of members) {
    const before = zone.members.get(id);
    if (before !== undefined && sameJson(before, member)) members.set(id, before);
  }
  return members;
}

/** What a zone has before anything is in it. */
function putFixed(edit: ZoneEdit, domain: string): void {
  edit.fixed(domain, 'apex');
  edit.fixed(`ready.${domain}`, 'ready');
  edit.fixed(`ns.${domain}`, 'ns');
  edit.fixed(`node.${domain}`, 'top');
  edit.fixed(`addr.${domain}`, 'top');
}

/** The zone of these sources; with a previous one it costs what was touched. */
export function buildZone(sources: ZoneSources, previous?: Previous): Zone {
  const { domain, ttl, catalog } = sources;
  const before =
    previous?.zone.domain === domain && previous.zone.ttl === ttl ? previous.zone : undefined;
  const base: ZoneBase = { domain, ttl };
  const edit = new ZoneEdit(
    base,
    before?.names ?? new BucketMap(),
    before?.pointers ?? new BucketMap(),
  );
  if (before === undefined) putFixed(edit, domain);
  const touched = before === undefined ? catalog.services.keys() : (previous?.touched ?? []);
  for (const name of new Set(touched)) {
    const was = before?.names.get(`${name}.${domain}`)?.service;
    const is = catalog.services.get(name);
    if (was !== is) edit.service(was, is);
  }
  const members = nextMembers(sources, before);
  for (const id of differingKeys(before?.members ?? new Map<string, Member>(), members))
    edit.member(before?.members.get(id), members.get(id));
  const recordsBefore = before?.sources.records ?? new Map<string, UserRecord>();
  for (const key of differingKeys(recordsBefore, sources.records))
    edit.record(recordsBefore.get(key), sources.records.get(key));
  const { names, pointers } = edit.build();
  const isNew = before === undefined;
  return new Zone(sources, { names, pointers, members, touched: isNew ? 'all' : edit.touched });
}
