/**
 * Records as entries of documents: which key, and what JSON. Where a record is:
 *
 *     shared     service/NAME  acl/NAME  backend/SERVICE/PORTNAME/ADDRESS/PORT  kv/…  dns/NAME/TYPE
 *     node:NODE  backend/…  (those that live with a process of that node)  node/…
 *
 * A record is one entry, as its fields were decided on together: halves of two writes might be
 * something that nobody wrote. Fields that this version does not know are kept when it writes.
 * What is read was written by others: a record that this version would not have written is
 * unreadable, left out and left alone.
 */
import { formatCidr, parseCidr } from '../../net/cidr.ts';
import { addressClass, whyNoBackend, whyNoVip } from '../../net/classes.ts';
import { canonicalIp, formatEndpoint, parseEndpoint, parseIp, type IpBytes } from '../../net/ip.ts';
import { aclSpec } from '../acl-validate.ts';
import { dnsRecordSpec } from '../dns-validate.ts';
import { aclDocument } from '../export.ts';
import type {
  AclRecord,
  BackendRecord,
  DnsRecord,
  ServicePort,
  ServiceRecord,
} from '../records.ts';
import {
  backendOwner,
  PORTS_PER_SERVICE_MAX,
  VIPS_PER_SERVICE_MAX,
  whyNoPortName,
  whyNoServiceName,
} from '../validate.ts';
import { WRITER_MAX } from './cell.ts';

/** As BackendRecord was called here before it had a node. */
export type ReplicatedBackend = BackendRecord;

/** What a node says of itself, in its own document. */
export interface NodeRecord {
  /** For people; not unique. */
  readonly name: string;
  readonly zone: string;
  /** Of its zerohop. */
  readonly version: string;
  /** Where the cluster's port is: `10.0.0.7:7946`, `[fd00::7]:7946`. */
  readonly address: string;
  /** Canonical, all that it can be reached at by others. */
  readonly addresses: readonly string[];
  /** It has the key of the cluster's CA. */
  readonly signer: boolean;
  /** Blocks that it takes VIPs from; the first versions did not tell. */
  readonly vips?: readonly string[];
}

export const NODE_KEY = 'node/info';
/** gone/NODE: a node that is out for good (src/cluster/departures.ts). */
export const GONE_PREFIX = 'gone/';
/** Writer ids of one node: each snapshot that was put back has made another. A guess. */
export const GONE_WRITERS_MAX = 64;
/** So long after a node went, a host that has not heard of it is out itself (EXPIRED_AFTER_MS in src/cluster). */
const FORGOTTEN_AFTER_MS = 50 * 86_400_000;
/** Of one node; a guess with room for a host with a network for each of its containers. */
const NODE_ADDRESSES_MAX = 256;
/** One for each family; a guess of what may come. */
const NODE_POOLS_MAX = 16;
/** A host name is at most 253 bytes long (RFC 1035, 2.3.4); zones and versions are shorter. */
const NODE_TEXT_CHARS_MAX = 253;

/** Of lists and objects in a record, as in kv.ts: V8 reads more of them than it can write again. A guess. */
const LEVELS_MAX = 256;

type Fields = Readonly<Record<string, unknown>>;

const NO_FIELDS: Fields = {};

export const serviceKey = (name: string): string => `service/${name}`;
export const aclKey = (name: string): string => `acl/${name}`;
export const dnsKey = ({ name, type }: Pick<DnsRecord, 'name' | 'type'>): string =>
  `dns/${name}/${type}`;
export const backendPrefix = (service: string): string => `backend/${service}/`;

export function backendKeyOf(
  backend: Pick<BackendRecord, 'service' | 'portName' | 'address' | 'port'>,
): string {
  const { service, portName, address, port } = backend;
  return `backend/${service}/${portName}/${address}/${port}`;
}

/** What a key is about: the first part, and the service, rule or DNS name that the second one is. */
export function subjectOf(key: string): { readonly kind: string; readonly name: string } {
  const slash = key.indexOf('/');
  if (slash < 0) return { kind: key, name: '' };
  const end = key.indexOf('/', slash + 1);
  return { kind: key.slice(0, slash), name: key.slice(slash + 1, end < 0 ? undefined : end) };
}

function isWithin(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return levels > 0 && Object.values(value).every((part) => isWithin(part, levels - 1));
}

function fieldsOf(json: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(json);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    // Each level is two characters at least.
    if (!isObject || (json.length > 2 * LEVELS_MAX && !isWithin(value, LEVELS_MAX)))
      return undefined;
    return value as Fields;
  } catch {
    return undefined;
  }
}

function isWhole(value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
}

/**
 * Under which writer ids a node wrote that is gone for good, and so long that its logs need no place
 * in an epoch any more. The first versions did not tell.
 */
export function forgottenWriters(json: string, nowMs: number): readonly number[] {
  const { atMs, writers: told } = fieldsOf(json) ?? {};
  const isLong = typeof atMs === 'number' && atMs + FORGOTTEN_AFTER_MS <= nowMs;
  if (!isLong || !Array.isArray(told)) return [];
  const isWriter = (one: unknown): one is number => isWhole(one, 1, WRITER_MAX);
  return (told as readonly unknown[]).slice(0, GONE_WRITERS_MAX).filter(isWriter);
}

function portOf(value: unknown): ServicePort | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { name, port, protocol } = value as Fields;
  if (typeof name !== 'string' || whyNoPortName(name) !== undefined) return undefined;
  if (!isWhole(port, 1, 65_535) || (protocol !== 'tcp' && protocol !== 'udp')) return undefined;
  return { name, port, protocol };
}

function isList(value: unknown, max: number): value is readonly unknown[] {
  return Array.isArray(value) && value.length > 0 && value.length <= max;
}

function isDistinct(texts: readonly string[]): boolean {
  return new Set(texts).size === texts.length;
}

export function readService(key: string, json: string): ServiceRecord | undefined {
  const name = key.slice(serviceKey('').length);
  const { vips, ports: raw } = fieldsOf(json) ?? {};
  if (whyNoServiceName(name) !== undefined) return undefined;
  if (!isList(vips, VIPS_PER_SERVICE_MAX) || !isList(raw, PORTS_PER_SERVICE_MAX)) return undefined;
  const isVip = (vip: unknown): vip is string =>
    typeof vip === 'string' && isCanonical(vip, (ip) => whyNoVip(ip) === undefined);
  const ports = raw.map(portOf);
  const isPort = (port: ServicePort | undefined): port is ServicePort => port !== undefined;
  if (!vips.every(isVip) || !ports.every(isPort)) return undefined;
  const isSound =
    isDistinct(vips) &&
    isDistinct(ports.map((port) => port.name)) &&
    isDistinct(ports.map(({ port, protocol }) => `${port}/${protocol}`));
  return isSound ? { name, vips, ports } : undefined;
}

function isCanonical(address: string, isFit: (ip: IpBytes) => boolean): boolean {
  const ip = canonicalIp(address) === address ? parseIp(address) : undefined;
  return ip !== undefined && isFit(ip);
}

/** Canonical IPv4, but for those that start with 0, 169 and 224–255. */
const ORDINARY_V4 =
  /^(?!0\.|169\.|22[4-9]\.|2[3-5]\d\.)(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?=.)|$)){4}$/;

/** The short way for what most addresses are: a tenth of the time. */
function isBackend(address: string): boolean {
  return ORDINARY_V4.test(address) || isCanonical(address, (ip) => whyNoBackend(ip) === undefined);
}

export function readBackend(
  key: string,
  json: string,
  node: string | undefined,
): BackendRecord | undefined {
  const [, service = '', portName = '', address = '', portText = '', ...rest] = key.split('/');
  const fields = json === '{}' ? NO_FIELDS : fieldsOf(json);
  const port = Number(portText);
  if (fields === undefined || rest.length > 0 || String(port) !== portText) return undefined;
  if (whyNoServiceName(service) !== undefined || whyNoPortName(portName) !== undefined)
    return undefined;
  if (!isBackend(address)) return undefined;
  const { weight = 1, state = 'active', owner } = fields;
  if (!isWhole(port, 1, 65_535) || !isWhole(weight, 0, 65_535)) return undefined;
  if (state !== 'active' && state !== 'draining') return undefined;
  const process = owner === undefined ? undefined : backendOwner.safeParse(owner);
  if (process?.success === false) return undefined;
  const record = { service, portName, address, port, weight, state } as const;
  if (process === undefined && node === undefined) return record;
  return {
    ...record,
    ...(process === undefined ? {} : { owner: process.data }),
    ...(node === undefined ? {} : { node }),
  };
}

export function readAcl(key: string, json: string): AclRecord | undefined {
  const name = key.slice(aclKey('').length);
  const { to, from, action } = fieldsOf(json) ?? {};
  const record = { name, to, from, action } as AclRecord;
  try {
    // Through the very checks that the API has: a rule with a part that is not understood is no rule.
    const { kind: _kind, ...document } = aclDocument(record);
    const parsed = aclSpec.safeParse(document);
    return parsed.success && isEqual(parsed.data, record) ? parsed.data : undefined;
  } catch {
    return undefined; // no document can be made of it
  }
}

export function readDns(key: string, json: string): DnsRecord | undefined {
  const [, name, type, ...rest] = key.split('/');
  const { ttl, data } = fieldsOf(json) ?? {};
  if (rest.length > 0) return undefined;
  const record = { name, type, ...(ttl === undefined ? {} : { ttl }), data } as DnsRecord;
  const parsed = dnsRecordSpec.safeParse(record);
  return parsed.success && isEqual(parsed.data, record) ? parsed.data : undefined;
}

function isText(value: unknown, min: number): value is string {
  if (typeof value !== 'string' || value.length < min || value.length > NODE_TEXT_CHARS_MAX)
    return false;
  // Goes to terminals and logs.
  return !/\p{C}/u.test(value);
}

function isPool(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  const parsed = parseCidr(value);
  return parsed.ok && formatCidr(parsed.cidr) === value;
}

export function readNode(json: string): NodeRecord | undefined {
  const { name, zone, version, address, addresses, signer, vips } = fieldsOf(json) ?? {};
  if (!isText(name, 1) || !isText(zone, 0) || !isText(version, 0)) return undefined;
  if (typeof address !== 'string' || typeof signer !== 'boolean') return undefined;
  const endpoint = parseEndpoint(address);
  if (endpoint === undefined || formatEndpoint(endpoint.address, endpoint.port) !== address)
    return undefined;
  if (!Array.isArray(addresses) || addresses.length > NODE_ADDRESSES_MAX) return undefined;
  // Of a node that claims loopback, every host's own server there would share the fate.
  const isAddress = (one: unknown): one is string =>
    typeof one === 'string' && isCanonical(one, (ip) => addressClass(ip) === 'unicast');
  if (!addresses.every(isAddress) || !isDistinct(addresses)) return undefined;
  const record = { name, zone, version, address, addresses, signer };
  if (vips === undefined) return record;
  if (!isList(vips, NODE_POOLS_MAX) || !vips.every(isPool)) return undefined;
  return { ...record, vips };
}

/** Of plain JSON; the order of fields does not count. */
function isEqual(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  const [left, right] = [a as Fields, b as Fields];
  const names = Object.keys(left);
  return (
    Array.isArray(a) === Array.isArray(b) &&
    names.length === Object.keys(right).length &&
    names.every((name) => Object.hasOwn(right, name) && isEqual(left[name], right[name]))
  );
}

/** The JSON of a record, with what `before` holds beside the fields that are known. */
function textOf(known: Fields, names: readonly string[], before: string | undefined): string {
  const old = before === undefined ? undefined : fieldsOf(before);
  const unknown = Object.entries(old ?? {}).filter(([name]) => !names.includes(name));
  return JSON.stringify({ ...known, ...Object.fromEntries(unknown) });
}

export function writeService({ vips, ports }: ServiceRecord, before: string | undefined): string {
  return textOf({ vips, ports }, ['vips', 'ports'], before);
}

export function writeAcl({ to, from, action }: AclRecord, before: string | undefined): string {
  return textOf({ to, from, action }, ['to', 'from', 'action'], before);
}

export function writeDns({ ttl, data }: DnsRecord, before: string | undefined): string {
  return textOf({ ...(ttl === undefined ? {} : { ttl }), data }, ['ttl', 'data'], before);
}

/** Defaults are left out: there may be 100,000 of these. */
export function writeBackend(backend: BackendRecord, before: string | undefined): string {
  const { weight, state, owner } = backend;
  const known = {
    ...(weight === 1 ? {} : { weight }),
    ...(state === 'active' ? {} : { state }),
    ...(owner === undefined ? {} : { owner }),
  };
  return textOf(known, ['weight', 'state', 'owner'], before);
}

export function writeNode(node: NodeRecord, before: string | undefined): string {
  const { name, zone, version, address, addresses, signer, vips } = node;
  const known = { name, zone, version, address, addresses, signer, vips };
  return textOf(known, Object.keys(known), before);
}
