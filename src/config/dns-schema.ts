/**
 * Knobs of the resolver (src/dns): where it listens, what it answers by itself,
 * whom it asks for everything else.
 */
import * as z from 'zod';
import type { HostPort } from '../cluster/address.ts';
import type { Cidr } from '../net/cidr.ts';
import { whyNoDnsName } from '../state/dns-validate.ts';
import { show, strict } from '../state/validate.ts';
import { DEFAULT_DNS_DOMAIN } from './defaults.ts';
import { cidr, count, ipPort, parsedCidr, yesOrNo } from './values.ts';

const DNS_PORT = 53;
/** Guesses: as many as somebody writes by hand. */
const LISTENERS_MAX = 64;
const ZONES_MAX = 256;
const UPSTREAMS_MAX = 16;
const BLOCKS_MAX = 256;

/** IP[:PORT]; without a port it is 53. */
function server(what: string): z.ZodType<HostPort, string> {
  return ipPort(what).transform(({ host, port }) => ({ host, port: port ?? DNS_PORT }));
}

function servers(what: string): z.ZodType<readonly HostPort[], string[]> {
  return z
    .array(server(what), { error: `${what} is not a list` })
    .min(1, { error: `${what} is empty` })
    .max(UPSTREAMS_MAX, { error: `${what} has more than ${UPSTREAMS_MAX} servers` });
}

function order(what: string): z.ZodType<'fastest' | 'strict', 'fastest' | 'strict'> {
  return z.enum(['fastest', 'strict'], {
    error: (issue) => `${what} ${show(issue.input)} is neither fastest nor strict`,
  });
}

/** Lower case, without the dot at the end. */
function zone(what: string, bytesMax: number): z.ZodType<string, string> {
  return z
    .string({ error: (issue) => `${what} ${show(issue.input)} is not text` })
    .transform((given, ctx): string => {
      const name = given.toLowerCase().replace(/\.$/, '');
      const reason =
        name.length > bytesMax ? `it is longer than ${bytesMax} bytes` : whyNoDnsName(name);
      if (reason === undefined) return name;
      ctx.addIssue({
        code: 'custom',
        message: `${what} ${show(given)} is no domain name: ${reason}`,
      });
      return z.NEVER;
    });
}

/** So that `_PORTNAME._tcp.SERVICE.DOMAIN` is a name, however long the service's is: 253 - (1 + 15 + 6 + 127 + 1), rounded. */
const DOMAIN_BYTES_MAX = 100;

export interface ForwardZone {
  readonly servers: readonly HostPort[];
  /** Absent: as dns.order says. */
  readonly order?: 'fastest' | 'strict' | undefined;
}

type ForwardInput =
  | readonly string[]
  | { readonly servers: readonly string[]; readonly order?: 'fastest' | 'strict' };

/** A list of servers, or an object that has it beside their order. */
function forwardZone(what: string, given: unknown): z.ZodSafeParseResult<ForwardZone> {
  const isPlain = typeof given !== 'object' || given === null || Array.isArray(given);
  if (isPlain)
    return servers(what)
      .transform((list) => ({ servers: list }))
      .safeParse(given);
  const shape = { servers: servers(`${what}: servers`), order: order(`${what}: order`).optional() };
  return strict(shape).safeParse(given);
}

/** A map, and no z.record(), as a zone may be called `__proto__`. */
const forward = z
  .custom<Readonly<Record<string, unknown>>>(
    (given) => typeof given === 'object' && given !== null && !Array.isArray(given),
    { error: 'dns.forward is not a map of zones' },
  )
  .transform((given, ctx): ReadonlyMap<string, ForwardZone> => {
    const zones = new Map<string, ForwardZone>();
    const complain = (message: string, name: string): void => {
      ctx.addIssue({ code: 'custom', message, path: [name] });
    };
    if (Object.keys(given).length > ZONES_MAX)
      ctx.addIssue({ code: 'custom', message: `dns.forward has more than ${ZONES_MAX} zones` });
    for (const [name, list] of Object.entries(given)) {
      const read = zone('zone', 253).safeParse(name);
      const to = forwardZone(`dns.forward of ${name}`, list);
      for (const { message } of read.error?.issues ?? []) complain(message, name);
      for (const issue of to.error?.issues ?? [])
        ctx.addIssue({ ...issue, path: [name, ...issue.path] });
      if (!read.success || !to.success) continue;
      if (zones.has(read.data)) complain(`zone ${read.data} is there twice`, name);
      zones.set(read.data, to.data);
    }
    return zones;
  }) as z.ZodType<ReadonlyMap<string, ForwardZone>, Record<string, ForwardInput>>;

/** Of this host itself; its other addresses may always ask too. */
const LOCAL: readonly Cidr[] = [parsedCidr('127.0.0.0/8'), parsedCidr('::1/128')];

export const dnsSchema = strict({
  enabled: yesOrNo('dns.enabled').default(true),
  /**
   * IP[:PORT], UDP and TCP. 127.0.0.55 is none that others take: systemd-resolved has .53 and .54,
   * Debian's own host name .1.1. Where an address cannot be bound it is tried again and told of.
   */
  listen: z
    .array(server('dns.listen'), { error: 'dns.listen is not a list' })
    .min(1, { error: 'dns.listen is empty: `enabled: false` turns the resolver off' })
    .max(LISTENERS_MAX, { error: `dns.listen has more than ${LISTENERS_MAX} addresses` })
    .default([{ host: '127.0.0.55', port: DNS_PORT }]),
  /** What names of services end in; the same on every host of a cluster. */
  domain: zone('dns.domain', DOMAIN_BYTES_MAX).default(DEFAULT_DNS_DOMAIN),
  /** Seconds that others may keep an answer from the zone; as Consul's and mesos-dns' users chose: short, as hosts answer by themselves. A guess. */
  ttl: count('dns.ttl', 0, 86_400).default(5),
  /** Seconds that others may keep that there is no such name (RFC 2308, 5): a service that comes is found a second later. */
  negativeTtl: count('dns.negativeTtl', 0, 86_400).default(1),
  /** Bytes of an answer over UDP, at most: fits into every path without fragments (DNS flag day 2020). */
  udpSizeMax: count('dns.udpSizeMax', 512, 4096).default(1232),
  /** Whom everything else is asked; absent: the name servers that this host has, without itself. */
  upstreams: servers('dns.upstreams').optional(),
  /** Zones that other servers answer for; the longest name that fits counts. */
  forward: forward.default(() => new Map()),
  /**
   * Whether the best of several servers are raced, or they are asked as listed: the next one when the
   * one before is late or fails (dnsmasq: strict-order). A zone of dns.forward may have its own.
   */
  order: order('dns.order').default('fastest'),
  /** Milliseconds until a client has an answer or SERVFAIL; glibc waits 5 s (resolv.conf(5)). */
  timeoutMs: count('dns.timeoutMs', 100, 10_000).default(2000),
  /** Queries that wait for upstreams at once; more, and the oldest are dropped. Unbound has 1024 for each thread. */
  maxConcurrent: count('dns.maxConcurrent', 1, 65_536).default(1000),
  /** Bytes of answers that are kept. About 50,000 of them. */
  cacheBytes: count('dns.cacheBytes', 0, 1024 ** 3).default(16 * 1024 * 1024),
  /** Seconds that an answer may be over its time and still be given while no upstream answers; RFC 8767, 5: one to three days. 0: never. */
  staleSeconds: count('dns.staleSeconds', 0, 7 * 86_400).default(86_400),
  /** Who may ask for names of others, beside this host: a resolver that is open to all is used for attacks (RFC 5358). */
  allow: z
    .array(
      cidr('dns.allow', () => undefined),
      { error: 'dns.allow is not a list' },
    )
    .max(BLOCKS_MAX, { error: `dns.allow has more than ${BLOCKS_MAX} blocks` })
    .default([...LOCAL]),
  /** Whether the kernel answers by itself where it can. */
  kernel: yesOrNo('dns.kernel').default(true),
});

export type DnsConfig = z.output<typeof dnsSchema>;
