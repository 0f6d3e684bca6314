/**
 * Records as entries of documents: which key, and what JSON. Where a record is:
 *
 *     shared     service/NAME  acl/NAME  backend/SERVICE/PORTNAME/ADDRESS/PORT  kv/…  dns/…
 *     node:NODE  backend/…  (those that live with a process of that node)  node/…
 *
 * A record is one entry, as its fields were decided on together: halves of two writes might be
 * something that nobody wrote. Fields that this version does not know are kept when it writes.
 * What is read was written by others: a record that this version would not have written is
 * unreadable, left out and left alone.
 */
import { canonicalIp } from '../../net/ip.ts';
import { aclSpec } from '../acl-validate.ts';
import { aclDocument } from '../export.ts';
import type { AclRecord, BackendRecord, ServicePort, ServiceRecord } from '../records.ts';
import {
  backendOwner,
  PORTS_PER_SERVICE_MAX,
  VIPS_PER_SERVICE_MAX,
  whyNoPortName,
  whyNoServiceName,
} from '../validate.ts';

/** A backend with the node that registered it; without one if an operator did, for all. */
export interface ReplicatedBackend extends BackendRecord {
  readonly node?: string;
}

type Fields = Readonly<Record<string, unknown>>;

export const serviceKey = (name: string): string => `service/${name}`;
export const aclKey = (name: string): string => `acl/${name}`;
export const backendPrefix = (service: string): string => `backend/${service}/`;

export function backendKeyOf(
  backend: Pick<BackendRecord, 'service' | 'portName' | 'address' | 'port'>,
): string {
  const { service, portName, address, port } = backend;
  return `backend/${service}/${portName}/${address}/${port}`;
}

/** What a key is about: the first part, and the service or rule that the second one names. */
export function subjectOf(key: string): { readonly kind: string; readonly name: string } {
  const [kind = '', name = ''] = key.split('/', 2);
  return { kind, name };
}

function fieldsOf(json: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Fields)
      : undefined;
  } catch {
    return undefined;
  }
}

function isWhole(value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
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
    typeof vip === 'string' && canonicalIp(vip) === vip;
  const ports = raw.map(portOf).filter((port) => port !== undefined);
  if (!vips.every(isVip) || ports.length < raw.length) return undefined;
  const isSound =
    isDistinct(vips) &&
    isDistinct(ports.map((port) => port.name)) &&
    isDistinct(ports.map(({ port, protocol }) => `${port}/${protocol}`));
  return isSound ? { name, vips, ports } : undefined;
}

const CANONICAL_V4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?=.)|$)){4}$/;

/** The short way for what most addresses are. */
function isAddress(address: string): boolean {
  return CANONICAL_V4.test(address) || canonicalIp(address) === address;
}

export function readBackend(
  key: string,
  json: string,
  node: string | undefined,
): ReplicatedBackend | undefined {
  const [, service = '', portName = '', address = '', portText = '', ...rest] = key.split('/');
  const fields = json === '{}' ? {} : fieldsOf(json);
  const port = Number(portText);
  if (fields === undefined || rest.length > 0 || String(port) !== portText) return undefined;
  if (whyNoServiceName(service) !== undefined || whyNoPortName(portName) !== undefined)
    return undefined;
  if (!isAddress(address)) return undefined;
  const { weight = 1, state = 'active', owner } = fields;
  if (!isWhole(port, 1, 65_535) || !isWhole(weight, 0, 65_535)) return undefined;
  if (state !== 'active' && state !== 'draining') return undefined;
  const process = owner === undefined ? undefined : backendOwner.safeParse(owner);
  if (process?.success === false) return undefined;
  return {
    service,
    portName,
    address,
    port,
    weight,
    state,
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
