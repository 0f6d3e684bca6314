/**
 * DNS records as people write them, checked and made canonical: names in lower
 * case without the dot at the end, addresses as net/ip.ts prints them.
 * The form is judged here as in validate.ts; beside what is there, dns-commands.ts does.
 */
import * as z from 'zod';
import { canonicalIp } from '../net/ip.ts';
import { DNS_TYPES, type DnsRecord, type DnsType } from './records.ts';
import { checked, show, strict, text, wholeNumber } from './validate.ts';

/** A name is at most 255 bytes on the wire (RFC 1035, 2.3.4): as text, without the root's, two less. */
const DNS_NAME_BYTES_MAX = 253;
/** A character-string (RFC 1035, 3.3). */
const DNS_TEXT_BYTES_MAX = 255;
/** Of one type at one name: all of them fit into an answer over TCP. A guess. */
export const DNS_DATA_MAX = 64;
/** RFC 2181, 8. */
const DNS_TTL_MAX = 2 ** 31 - 1;

/** Why `name` is no name of a host or a service, or undefined if it is one. */
export function whyNoDnsName(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.length > DNS_NAME_BYTES_MAX) return `it is longer than ${DNS_NAME_BYTES_MAX} bytes`;
  for (const label of name.split('.')) {
    if (label === '*') return 'there are no wildcards: each name has its own record';
    if (label === '') return 'a label is empty';
    if (label.length > 63) return 'a label is longer than 63 bytes';
    // Letters, digits, hyphen (RFC 1123, 2.1), and the underscore of RFC 8552.
    if (!/^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/.test(label))
      return 'a label has a–z, 0–9, "_" and "-", and no "-" at its ends';
  }
  return canonicalIp(name) === undefined ? undefined : 'it is an IP address';
}

/** `Mail.Example.` is `mail.example`. */
function canonicalName(name: string): string {
  return name.toLowerCase().replace(/(?<=[^.])\.$/, '');
}

function dnsNameOf(what: string): z.ZodType<string, string> {
  return checked(text(what).overwrite(canonicalName), what, whyNoDnsName);
}

export const dnsName = dnsNameOf('name');

export const dnsType = text('type')
  .toUpperCase()
  .pipe(
    z.enum(DNS_TYPES, {
      error: (issue) => `type ${show(issue.input)} is none of ${DNS_TYPES.join(', ')}`,
    }),
  );

type Read = { readonly ok: true; readonly data: string } | { readonly ok: false; why: string };

function no(why: string): Read {
  return { ok: false, why };
}

function readAddress(data: string, isV6: boolean): Read {
  const address = canonicalIp(data);
  return address === undefined || address.includes(':') !== isV6
    ? no(`is not an ${isV6 ? 'IPv6' : 'IPv4'} address`)
    : { ok: true, data: address };
}

function readTarget(data: string): Read {
  const name = canonicalName(data);
  const why = whyNoDnsName(name);
  return why === undefined ? { ok: true, data: name } : no(`is not a name: ${why}`);
}

/** Whole numbers up to 65,535, then a name or the root. */
function readNumbered(data: string, like: string): Read {
  const parts = data.trim().split(/\s+/);
  const target = parts.pop() ?? '';
  const numbers = parts.map(Number);
  if (parts.length !== like.split(' ').length - 1) return no(`is not like ${like}`);
  if (!parts.every((part) => /^[0-9]{1,5}$/.test(part)) || numbers.some((one) => one > 65_535))
    return no(`is not like ${like}: numbers are whole, up to 65535`);
  const name: Read = target === '.' ? { ok: true, data: '.' } : readTarget(target);
  if (!name.ok) return no(`is not like ${like}: "${target}" ${name.why}`);
  return { ok: true, data: [...numbers, name.data].join(' ') };
}

function utf8Bytes(data: string): number {
  let bytes = 0;
  for (const character of data) {
    const point = character.codePointAt(0) ?? 0;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x1_00_00 ? 3 : 4;
  }
  return bytes;
}

function readText(data: string): Read {
  if (/\p{Surrogate}/u.test(data)) return no('has half a character (a lone surrogate)');
  const bytes = utf8Bytes(data);
  if (bytes > DNS_TEXT_BYTES_MAX) return no(`has ${bytes} bytes of at most ${DNS_TEXT_BYTES_MAX}`);
  return { ok: true, data };
}

/** One record's data in canonical form, or the end of a sentence that says why it is none. */
function readDnsData(type: DnsType, data: string): Read {
  switch (type) {
    case 'A':
      return readAddress(data, false);
    case 'AAAA':
      return readAddress(data, true);
    case 'CNAME':
    case 'PTR':
      return readTarget(data);
    case 'MX':
      return readNumbered(data, '10 mail.example');
    case 'SRV':
      return readNumbered(data, '0 5 443 web.example');
    case 'TXT':
      return readText(data);
  }
}

const oneOrMore = z.union(
  [
    text('data').transform((one) => [one]),
    z
      .array(text('data'))
      .min(1, { error: 'data is empty: a record has at least one' })
      .max(DNS_DATA_MAX, { error: `more than ${DNS_DATA_MAX} records of one type at one name` }),
  ],
  {
    error: (issue) =>
      issue.input === undefined
        ? 'data is missing'
        : `data is neither a text nor a list of 1–${DNS_DATA_MAX} texts`,
  },
);

/** Beside name and type. */
const dnsBodyFields = {
  ttl: wholeNumber('ttl', 0, DNS_TTL_MAX).optional(),
  data: oneOrMore,
};

interface RawRecord {
  readonly name: string;
  readonly type: DnsType;
  readonly ttl?: number | undefined;
  readonly data: readonly string[];
}

/** The record, with its data in canonical form. */
export function dnsRecord(raw: RawRecord, ctx: z.core.$RefinementCtx): DnsRecord {
  const { name, type, ttl } = raw;
  const data: string[] = [];
  for (const [index, given] of raw.data.entries()) {
    const read = readDnsData(type, given);
    const complain = (message: string): void => {
      ctx.addIssue({ code: 'custom', message, path: ['data', index] });
    };
    if (!read.ok) complain(`${type} data ${show(given)} ${read.why}`);
    else if (data.includes(read.data)) complain(`${type} data ${show(given)} is there twice`);
    else data.push(read.data);
  }
  if (type === 'CNAME' && raw.data.length > 1)
    ctx.addIssue({ code: 'custom', message: 'a name has one CNAME', path: ['data'] });
  return { name, type, ...(ttl === undefined ? {} : { ttl }), data };
}

export const dnsFields = { name: dnsName, type: dnsType, ...dnsBodyFields };
export const dnsRecordSpec = strict(dnsFields).transform(dnsRecord);
/** The body of PUT /v1/dns/records/NAME/TYPE, whose name and type are in the path. */
export const dnsRecordBody = strict(dnsBodyFields);
