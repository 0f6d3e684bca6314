/**
 * What this node answers for by itself.
 */
import type { Catalog } from '../catalog/catalog.ts';
import type { VipPools } from '../catalog/vips.ts';
import type { NodeRecord } from '../state/replica/schema.ts';
import type { ZoneType } from './numbers.ts';

/** What is answered of a host. */
export type NodeFacts = Pick<NodeRecord, 'name' | 'zone' | 'version' | 'addresses'>;

/** As src/state/records.ts has it. */
export interface UserRecord {
  readonly name: string;
  readonly type: string;
  readonly ttl?: number;
  readonly data: readonly string[];
}

export interface ZoneSources {
  /** Of at most 100 bytes: no name in it is too long then. */
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
  /** Whether it is what the agent serves: `ready.DOMAIN` fails before. */
  readonly isReady: boolean;
}

export interface Previous {
  readonly zone: Zone;
  /** Services that may differ from the zone's: `touched` of all Catalogs since. */
  readonly touched: Iterable<string>;
}

export interface Zone {
  readonly domain: string;
  readonly serial: number;
  /** Names whose answers may differ from the previous zone's; all of them if there was none. */
  readonly touched: ReadonlySet<string>;
}

export interface ZoneEntry {
  readonly name: string;
  readonly type: ZoneType;
  readonly ttl: number;
  readonly data: string;
  readonly from: 'service' | 'node' | 'record' | 'zone';
  /** Why it is not answered. */
  readonly hidden?: string;
}

/** What the kernel answers without asking: all records of one type at one name. */
export interface KernelEntry {
  readonly name: string;
  readonly type: number;
  readonly rcode: 0;
  readonly count: number;
  /** The answer section; names of records are pointers to the question's, at 12. */
  readonly tail: Uint8Array;
  /** Bytes of one record if there are several, which are of one length: to be given in turn. Or 0. */
  readonly rotate: number;
}

/** The zone of these sources; with a previous one it costs what was touched. */
export function buildZone(_sources: ZoneSources, _previous?: Previous): Zone {
  throw new Error('not made yet');
}

/** Ordered by name and type: what is answered, and what is not as something else has its place. */
export function zoneEntries(_zone: Zone): Iterable<ZoneEntry> {
  throw new Error('not made yet');
}

/** Of all names, or of `names`: those that the kernel had and that are not here are gone. */
export function kernelEntries(_zone: Zone, _names?: Iterable<string>): Iterable<KernelEntry> {
  throw new Error('not made yet');
}
