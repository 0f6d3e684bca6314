/** What the API answers and takes about the resolver; as schemas.ts. */
import * as z from 'zod';
import { reverseName } from '../dns/address-name.ts';
import { canonicalIp } from '../net/ip.ts';
import { dnsName, dnsType } from '../state/dns-validate.ts';
import { DNS_TYPES } from '../state/records.ts';
import { show, strict, text } from '../state/validate.ts';
import { count, textList } from './values.ts';

/** As a zone file has it (RFC 1035, 5.1): the name without the dot at its end. */
const entry = z.object({ name: z.string(), type: z.string(), ttl: count, data: z.string() });

export const dnsZoneAnswer = z.object({
  domain: z.string(),
  serial: count,
  /** Whether it is what the kernel has too; until then every name is answered with SERVFAIL. */
  ready: z.boolean(),
  /** In the order of names. */
  entries: z.array(
    entry.extend({
      /** What it was made from. */
      from: z.enum(['service', 'node', 'record', 'zone']),
      /** Why it is not given. */
      hidden: z.string().optional(),
    }),
  ),
});
export type DnsZoneAnswer = z.output<typeof dnsZoneAnswer>;

const dnsAttempt = z.object({
  /** `192.0.2.1:53`. */
  upstream: z.string(),
  transport: z.enum(['udp', 'tcp']),
  ms: z.number(),
  /** `good`, `servfail`, `timeout`, `pending`, … */
  result: z.string(),
});

export const dnsQueryAnswer = z.object({
  question: z.object({ name: z.string(), type: z.string() }),
  /** `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`, … */
  rcode: z.string(),
  from: z.enum(['zone', 'cache', 'stale', 'upstream', 'failure', 'refused']),
  authoritative: z.boolean(),
  ms: z.number(),
  answers: z.array(entry),
  authority: z.array(entry),
  additional: z.array(entry),
  /** Whose answer it is. */
  upstream: z.string().optional(),
  /** What upstreams were asked for it. */
  attempts: z.array(dnsAttempt),
});
export type DnsQueryAnswer = z.output<typeof dnsQueryAnswer>;

export const dnsStatusAnswer = z.object({
  enabled: z.boolean(),
  domain: z.string(),
  serial: count,
  ready: z.boolean(),
  /** Names in the zone. */
  names: count,
  listeners: z.array(
    z.object({
      /** `127.0.0.55:53`, UDP and TCP. */
      address: z.string(),
      listening: z.boolean(),
      /** Why it does not listen there, and who does. */
      problem: z.string().optional(),
    }),
  ),
  upstreams: z.array(
    z.object({
      address: z.string(),
      /** Zones that it is asked for; the empty one is everything else. */
      zones: z.array(z.string()),
      state: z.enum(['good', 'unsteady', 'failing', 'loop', 'unknown']),
      /** Smoothed; absent: it has not answered yet. */
      ms: z.number().optional(),
      sent: count,
      /** Attempts that ended, by how. */
      results: z.record(z.string(), count),
    }),
  ),
  cache: z.object({
    entries: count,
    bytes: count,
    bytesMax: count,
    hits: count,
    misses: count,
  }),
  kernel: z.object({
    /** active: answers by itself; off: by configuration; unavailable: this kernel cannot. */
    state: z.enum(['active', 'off', 'unavailable']),
    why: z.string().optional(),
    /** Names and types that it answers. */
    entries: count,
  }),
  counters: z.object({
    requests: count,
    /** By rcode: `NOERROR`, `NXDOMAIN`, … */
    rcodes: z.record(z.string(), count),
    /** By where the answer came from: `zone`, `cache`, `stale`, `upstream`, `kernel`, `refused`, `failure`. */
    from: z.record(z.string(), count),
    /** Not answered, by why. */
    dropped: z.record(z.string(), count),
  }),
  /** What somebody should do something about; those of listeners are there. */
  problems: textList.optional(),
});
export type DnsStatusAnswer = z.output<typeof dnsStatusAnswer>;

export const dnsFlushAnswer = z.object({
  /** Answers that are not kept any more. */
  flushed: count,
});
export type DnsFlushAnswer = z.output<typeof dnsFlushAnswer>;

/** Any name that can be asked; only those of records are restricted to letters, digits, `-` and `_`. */
const anyName = text('name').transform((given, ctx): string => {
  const name = given.toLowerCase().replace(/\.$/, '');
  const labels = name.split('.');
  if (name === '' && given === '.') return name;
  const reason =
    name === '' || labels.includes('')
      ? 'a label is empty'
      : name.length > 253
        ? 'it is longer than 253 bytes'
        : labels.some((label) => label.length > 63)
          ? 'a label is longer than 63 bytes'
          : /^[!-[\]-~]+$/.test(name)
            ? undefined
            : 'it has something else than visible ASCII, or a backslash';
  if (reason === undefined) return name;
  ctx.addIssue({ code: 'custom', message: `name ${show(given)} is malformed: ${reason}` });
  return z.NEVER;
});

/** What can be asked by name, in the order of their numbers; others as `TYPE65` (RFC 3597, 5). */
const QUERY_TYPES = [
  'A',
  'NS',
  'CNAME',
  'SOA',
  'PTR',
  'HINFO',
  'MX',
  'TXT',
  'AAAA',
  'SRV',
  'NAPTR',
  'DS',
  'SSHFP',
  'RRSIG',
  'DNSKEY',
  'TLSA',
  'SVCB',
  'HTTPS',
  'ANY',
  'CAA',
] as const;

const queryType = text('type')
  .toUpperCase()
  .superRefine((given, ctx) => {
    const number = /^TYPE([0-9]{1,5})$/.exec(given)?.[1];
    const isKnown =
      number === undefined
        ? QUERY_TYPES.some((type) => type === given)
        : Number(number) >= 1 && Number(number) <= 65_535;
    if (isKnown) return;
    const known = QUERY_TYPES.join(', ');
    const message = `type ${show(given)} is none of ${known}, nor a number like TYPE65`;
    ctx.addIssue({ code: 'custom', message });
  });

export const dnsQueryBody = strict({
  /** An address stands for its PTR name. */
  name: anyName,
  /** A, or PTR of an address. */
  type: queryType.optional(),
}).transform(({ name, type }) => {
  const address = canonicalIp(name);
  if (address === undefined || (type ?? 'PTR') !== 'PTR') return { name, type: type ?? 'A' };
  return { name: reverseName(address), type: 'PTR' };
});
export type DnsQuestion = z.output<typeof dnsQueryBody>;

export const dnsFlushBody = strict({
  /** This name and all below it; absent: everything. */
  name: anyName.optional(),
});

export const dnsZoneQuery = strict({
  /** This name and all below it. */
  name: anyName.optional(),
  type: queryType.optional(),
});

export const dnsNameParams = strict({ name: dnsName });
export const dnsRecordParams = strict({ name: dnsName, type: dnsType });

export const dnsRecordListAnswer = z.object({
  revision: count,
  /** In the order of names and types. */
  records: z.array(
    z.object({
      name: z.string(),
      type: z.enum(DNS_TYPES),
      /** Absent: that of the zone. */
      ttl: count.optional(),
      data: z.array(z.string()),
      /** Why it is not given by this host. */
      hidden: z.string().optional(),
    }),
  ),
});
export type DnsRecordListAnswer = z.output<typeof dnsRecordListAnswer>;
