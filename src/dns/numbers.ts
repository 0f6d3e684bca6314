/**
 * The numbers of DNS that are used by name (IANA, Domain Name System Parameters).
 */

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  TKEY: 249,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

export const CLASS_IN = 1;

export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** Of EDNS (RFC 6891, 9): its upper bits are in the OPT record. */
  BADVERS: 16,
} as const;

/** Types that a zone has records of. */
export type ZoneType = 'A' | 'AAAA' | 'CNAME' | 'MX' | 'NS' | 'PTR' | 'SOA' | 'SRV' | 'TXT';

export const ZONE_TYPES: readonly ZoneType[] = [
  'A',
  'AAAA',
  'CNAME',
  'MX',
  'NS',
  'PTR',
  'SOA',
  'SRV',
  'TXT',
];

const BY_NUMBER: ReadonlyMap<number, ZoneType> = new Map(
  ZONE_TYPES.map((name) => [TYPE[name], name]),
);

/** Undefined: nothing in a zone is of this type. */
export function zoneTypeOf(type: number): ZoneType | undefined {
  return BY_NUMBER.get(type);
}
