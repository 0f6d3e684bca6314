/**
 * A zone as a list: for people (`zerohop dns zone`) and for the kernel's map.
 */
import { reverseName } from './address-name.ts';
import { Entry } from './entry.ts';
import { nameToWire } from './names.ts';
import { TYPE, ZONE_TYPES, type ZoneType } from './numbers.ts';
import { HEADER_BYTES, OPT_BYTES, UDP_BYTES_PLAIN } from './packet.ts';
import type { Row } from './rows.ts';
import type { Zone } from './zone.ts';

export interface ZoneEntry extends Row {
  readonly name: string;
  readonly type: ZoneType;
}

/** By labels from the last one on, so that what belongs together stands together (RFC 4034, 6.1). */
function byLabels(names: Iterable<string>): string[] {
  const keyed = [...names].map((name) => [name.split('.').toReversed().join('\0'), name] as const);
  return keyed.sort(([a], [b]) => (a < b ? -1 : Number(a > b))).map(([, name]) => name);
}

/** With reverse names; the address forms below `addr` are without number and left out. */
export function* zoneEntries(zone: Zone): Iterable<ZoneEntry> {
  const reverse = [...zone.pointers.keys()].map(reverseName);
  for (const name of byLabels(new Set([...zone.names.keys(), ...reverse]))) {
    const entry = zone.lookup(name);
    if (entry === undefined) continue;
    if (entry.own === 'apex')
      yield { name, type: 'SOA', ttl: zone.ttl, data: zone.soa.text, from: 'zone' };
    for (const type of ZONE_TYPES) for (const row of entry.rows(type)) yield { name, type, ...row };
  }
}

/** What the kernel answers without asking: all records of one type at one name. */
export interface KernelEntry {
  readonly name: string;
  readonly type: number;
  readonly rcode: 0;
  readonly count: number;
  /** The answer section; names of records are pointers to the question's, at 12. */
  readonly tail: Uint8Array;
  /** Bytes of one record if there are several, all of this length, to be given in turn; else 0. */
  readonly rotate: number;
}

const KERNEL_TYPES = [TYPE.A, TYPE.AAAA] as const;

function* entriesOf(entry: Entry, types: readonly number[] = KERNEL_TYPES): Iterable<KernelEntry> {
  // What `ready` and `ns` say hangs on more than the name.
  if (entry.own === 'ready' || entry.own === 'ns') return;
  const question = (nameToWire(entry.name)?.length ?? 0) + 4;
  for (const type of types) {
    const set = entry.rrset(type);
    if (set === undefined) continue;
    const { count, bytes } = set;
    // So that nobody's answer needs to be truncated.
    if (HEADER_BYTES + question + bytes.length + OPT_BYTES > UDP_BYTES_PLAIN) continue;
    const rotate = set.isShuffled ? bytes.length / count : 0;
    yield { name: entry.name, type, rcode: 0, count, tail: bytes, rotate };
  }
}

/**
 * Of all names, or of `names`: those that the kernel had and that are not here are gone.
 * Only addresses: most questions are for these, and others need more than copying.
 */
export function* kernelEntries(zone: Zone, names?: Iterable<string>): Iterable<KernelEntry> {
  if (names === undefined) {
    for (const entry of zone.names.values()) yield* entriesOf(entry);
    return;
  }
  for (const name of names) {
    const entry = zone.names.get(name);
    if (entry !== undefined) yield* entriesOf(entry);
  }
}

/** The one of this name and type. */
export function kernelEntry(zone: Zone, name: string, type: number): KernelEntry | undefined {
  const entry = KERNEL_TYPES.some((one) => one === type) ? zone.names.get(name) : undefined;
  if (entry === undefined) return undefined;
  const [found] = entriesOf(entry, [type]);
  return found;
}
