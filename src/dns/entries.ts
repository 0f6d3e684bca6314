/**
 * A zone as a list: for people (`zerohop dns zone`), and as answers that are copied as they are: by
 * the kernel, from its map, and by the addon's thread.
 */
import { reverseName } from './address-name.ts';
import { Entry } from './entry.ts';
import { nameToWire } from './names.ts';
import { TYPE, ZONE_TYPES, type ZoneType } from './numbers.ts';
import { HEADER_BYTES, OPT_BYTES, UDP_BYTES_PLAIN } from './packet.ts';
import type { Row } from './rows.ts';
import type { Rrset } from './rrset.ts';
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

/** What is answered without a look at the zone: all records of one type at one name. NOERROR. */
export interface PlainAnswer {
  readonly name: string;
  readonly type: number;
  readonly count: number;
  /** The answer section; names of records are pointers to the question's, at 12. */
  readonly tail: Uint8Array;
  /** Bytes of one record if there are several, all of this length, to be given in turn; else 0. */
  readonly rotate: number;
}

const PLAIN_TYPES = [TYPE.A, TYPE.AAAA] as const;

function* entriesOf(
  entry: Entry,
  types: readonly number[] = PLAIN_TYPES,
  rrset = (type: number): Rrset | undefined => entry.rrsetOnce(type),
): Iterable<PlainAnswer> {
  // What `ready` and `ns` say hangs on more than the name.
  if (entry.own === 'ready' || entry.own === 'ns') return;
  const question = (nameToWire(entry.name)?.length ?? 0) + 4;
  for (const type of types) {
    const set = rrset(type);
    if (set === undefined) continue;
    const { count, bytes } = set;
    // So that nobody's answer needs to be truncated.
    if (HEADER_BYTES + question + bytes.length + OPT_BYTES > UDP_BYTES_PLAIN) continue;
    const rotate = set.isShuffled ? bytes.length / count : 0;
    yield { name: entry.name, type, count, tail: bytes, rotate };
  }
}

/**
 * Of all names, or of `names`: what somebody had of these and that is not here is gone.
 * Only addresses: most questions are for these, and others need more than copying.
 */
export function* plainAnswers(zone: Zone, names?: Iterable<string>): Iterable<PlainAnswer> {
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
export function plainAnswer(zone: Zone, name: string, type: number): PlainAnswer | undefined {
  const entry = PLAIN_TYPES.some((one) => one === type) ? zone.names.get(name) : undefined;
  if (entry === undefined) return undefined;
  const [found] = entriesOf(entry, [type], (one) => entry.rrset(one));
  return found;
}
