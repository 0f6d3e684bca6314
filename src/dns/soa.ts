/**
 * The zone's SOA record (RFC 1035 3.3.13), prebuilt. Within the domain its names end in
 * pointers to the domain's in the question; elsewhere they are whole. The owner is
 * a pointer in both, written when it is known where to.
 */
import { nameToWire } from './names.ts';
import { TYPE } from './numbers.ts';
import { encodeData } from './rdata.ts';
import type { ZoneBase } from './rows.ts';
import { RECORD_HEADER_BYTES, recordBytes } from './rrset.ts';

export interface Soa {
  readonly inside: Uint8Array;
  /** Where pointers to the domain are in `inside`, the owner's with them. */
  readonly pointersAt: readonly number[];
  readonly outside: Uint8Array;
  readonly text: string;
  readonly ttl: number;
  readonly negativeTtl: number;
}

/** In seconds, for secondaries, of which there are none: RIPE-203 recommends these. */
const REFRESH = 86_400;
const RETRY = 7_200;
const EXPIRE = 3_600_000;

const label = (text: string): Uint8Array => (nameToWire(text) ?? new Uint8Array(1)).slice(0, -1);

export function makeSoa({ domain, ttl }: ZoneBase, negativeTtl: number, serial: number): Soa {
  const text = `ns.${domain} hostmaster.${domain} ${serial} ${REFRESH} ${RETRY} ${EXPIRE} ${negativeTtl}`;
  const whole = encodeData('SOA', text) ?? new Uint8Array();
  const [ns, hostmaster] = [label('ns'), label('hostmaster')];
  const data = Uint8Array.from([...ns, 0xc0, 0, ...hostmaster, 0xc0, 0, ...whole.slice(-20)]);
  const afterNs = RECORD_HEADER_BYTES + ns.length;
  return {
    inside: recordBytes(TYPE.SOA, ttl, data),
    pointersAt: [0, afterNs, afterNs + 2 + hostmaster.length],
    outside: recordBytes(TYPE.SOA, ttl, whole),
    text,
    ttl,
    negativeTtl: Math.min(ttl, negativeTtl),
  };
}
