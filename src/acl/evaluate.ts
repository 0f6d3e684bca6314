/**
 * What the rules say, read as README.md does: rule by rule, with reasons, for
 * `acl test`. Slow and plain on purpose, and shares nothing with the compiler
 * but the reading of addresses: the property test holds the two against each
 * other.
 */
import type { CatalogService } from '../catalog/catalog.ts';
import { cidrContains, parseCidr } from '../net/cidr.ts';
import { addressClass } from '../net/classes.ts';
import { formatEndpoint, parseIp, type IpBytes } from '../net/ip.ts';
import type { AclAction, AclRecord, AclSelector, Protocol } from '../state/records.ts';

export interface World {
  readonly rules: Iterable<AclRecord>;
  readonly services: ReadonlyMap<string, CatalogService>;
  readonly users: ReadonlyMap<string, number | undefined>;
  readonly groups: ReadonlyMap<string, number | undefined>;
  readonly localAddresses: Iterable<string>;
  readonly defaultAction: 'allow' | 'deny';
}

export interface Subject {
  /** From the mount's root; undefined: not known. */
  readonly cgroup: string | undefined;
  readonly uid: number;
  /** The real group's id and the supplementary ones. */
  readonly gids: readonly number[];
}

export interface Destination {
  readonly address: string;
  /** Of protocols without ports: 0. */
  readonly port: number;
  /** Any but tcp and udp: only rules without ports and services count. */
  readonly protocol: Protocol | 'other';
}

export interface RuleReason {
  readonly rule: string;
  readonly action: AclAction;
  /** Whether it selects who asks. */
  readonly selects: boolean;
  /** Why it names the destination, and whom it selects or not. */
  readonly why: string;
}

export interface Evaluation {
  readonly verdict: 'allow' | 'deny' | 'audit';
  /** What decided, in words. */
  readonly why: string;
  /** Any of these may be told as the one that decided; empty: defaultAction, or nothing. */
  readonly decidedBy: readonly string[];
  /** All that name the destination, by name. */
  readonly rules: readonly RuleReason[];
}

/** More selectors than this, and a cgroup counts as unknown (README.md). */
const SELECTORS_OF_CGROUP_MAX = 12;

/** Supplementary groups that the kernel's programs read, in ascending order (bpf/README.md). */
const GROUPS_READ_MAX = 64;

/** `*` any text and `?` any byte, within one name; both as bytes in latin1. */
function nameMatches(pattern: string, name: string): boolean {
  let at = 0;
  let star = -1;
  let starAt = 0;
  for (let i = 0; i < name.length;) {
    if (pattern[at] === '*') {
      star = at++;
      starAt = i;
    } else if (pattern[at] === '?' || pattern[at] === name[i]) {
      at++;
      i++;
    } else if (star >= 0) {
      // The last * takes one byte more.
      at = star + 1;
      i = ++starAt;
    } else {
      return false;
    }
  }
  return /^\**$/.test(pattern.slice(at));
}

/** systemd puts `_` before some names: see automaton.ts. */
function unitMatches(pattern: string, name: string): boolean {
  if (nameMatches(`_${pattern}`, name)) return true;
  return !pattern.startsWith('_') && nameMatches(pattern, name);
}

function namesMatch(patterns: readonly string[], names: readonly string[]): boolean {
  const [pattern] = patterns;
  if (pattern === undefined) return names.length === 0;
  if (pattern === '**') {
    if (namesMatch(patterns.slice(1), names)) return true;
    return names.length > 0 && namesMatch(patterns, names.slice(1));
  }
  const [name] = names;
  if (name === undefined) return false;
  return nameMatches(pattern, name) && namesMatch(patterns.slice(1), names.slice(1));
}

/** UTF-8 as one character a byte: the kernel knows bytes only. */
function bytesOf(text: string): string {
  if (/^[\w/.@*?-]*$/.test(text)) return text;
  return encodeURIComponent(text).replaceAll(/%([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}

/** The path, or the one above it that the selector names; undefined if none. */
function matchedPath(selector: AclSelector, path: string): string | undefined {
  const names = namesOf(path);
  const value = bytesOf(selector.value);
  for (let depth = 0; depth <= names.length; depth++) {
    const upTo = names.slice(0, depth).map(bytesOf);
    const last = upTo.at(-1);
    const matches =
      selector.kind === 'unit'
        ? last !== undefined &&
          unitMatches(value, last) &&
          upTo.slice(0, -1).every((name) => name.endsWith('.slice'))
        : namesMatch(namesOf(value), upTo);
    if (matches) return `/${names.slice(0, depth).join('/')}`;
  }
  return undefined;
}

function isCgroupKind({ kind }: AclSelector): boolean {
  return kind === 'unit' || kind === 'cgroup';
}

/** Whether the kernel cannot tell what the subject's cgroup matches. */
function cgroupIsUnknown(rules: readonly AclRecord[], { cgroup }: Subject): boolean {
  if (cgroup === undefined) return true;
  const all = new Map<string, AclSelector>();
  for (const item of rules.flatMap(({ from }) => from))
    if (isCgroupKind(item)) all.set(`${item.kind} ${item.value}`, item);
  const matching = [...all.values()].filter((item) => matchedPath(item, cgroup) !== undefined);
  return matching.length > SELECTORS_OF_CGROUP_MAX;
}

function idOf(selector: AclSelector, world: World): number | undefined {
  if (/^[0-9]+$/.test(selector.value)) return Number(selector.value);
  return (selector.kind === 'user' ? world.users : world.groups).get(selector.value);
}

function groupsRead({ gids: [real, ...others] }: Subject): (number | undefined)[] {
  return [real, ...others.toSorted((a, b) => a - b).slice(0, GROUPS_READ_MAX)];
}

/** Why the selector selects the subject; undefined if it does not. */
function selectsSubject(
  selector: AclSelector,
  subject: Subject,
  unknown: boolean,
  world: World,
): string | undefined {
  const { kind, value } = selector;
  if (kind === 'cidr') return undefined;
  if (kind === 'unit' || kind === 'cgroup') {
    const path = unknown ? undefined : matchedPath(selector, subject.cgroup ?? '/');
    return path === undefined ? undefined : `${kind} ${value} is ${path}`;
  }
  const id = idOf(selector, world);
  if (id === undefined) return undefined;
  const has = kind === 'user' ? subject.uid === id : groupsRead(subject).includes(id);
  return has ? `${kind} ${value}` : undefined;
}

function textOf({ kind, value }: AclSelector): string {
  return `${kind} ${value}`;
}

function contains(cidr: string, ip: IpBytes): boolean {
  const result = parseCidr(cidr);
  return result.ok && cidrContains(result.cidr, ip);
}

/** All addresses that lead to this host, as those of `localAddresses`. */
function isThisHost(ip: IpBytes, world: World): boolean {
  if (contains('127.0.0.0/8', ip) || contains('::1/128', ip)) return true;
  return [...world.localAddresses].some((text) =>
    text.includes('/') ? contains(text, ip) : sameIp(parseIp(text), ip),
  );
}

function sameIp(a: IpBytes | undefined, b: IpBytes): boolean {
  return a !== undefined && b.every((byte, index) => a[index] === byte);
}

/** The backend because of which a service stands for the endpoint. */
function backendAt(
  service: CatalogService,
  portName: string | undefined,
  to: Destination,
  ip: IpBytes | undefined,
  world: World,
): string | undefined {
  for (const port of service.ports) {
    if (portName !== undefined && port.name !== portName) continue;
    if (port.protocol !== to.protocol) continue;
    for (const backend of port.backends) {
      const at = parseIp(backend.address);
      if (at === undefined || backend.port !== to.port) continue;
      const isHere = isThisHost(at, world) && (ip === undefined || isThisHost(ip, world));
      if (isHere || (ip !== undefined && sameIp(at, ip)))
        return formatEndpoint(backend.address, backend.port);
    }
  }
  return undefined;
}

/**
 * Why a rule names the endpoint; undefined if it does not. Without `ip` it is a
 * port of this host as it is reached from outside.
 */
function names(
  { to }: AclRecord,
  endpoint: Destination,
  ip: IpBytes | undefined,
  world: World,
): string | undefined {
  const hasPort = (ports: readonly { port: number; protocol: Protocol }[]): boolean =>
    ports.some(({ port, protocol }) => port === endpoint.port && protocol === endpoint.protocol);
  switch (to.kind) {
    case 'service': {
      const service = world.services.get(to.service);
      const at =
        service === undefined ? undefined : backendAt(service, to.portName, endpoint, ip, world);
      return at === undefined ? undefined : `${at} is a backend of ${to.service}`;
    }
    case 'cidr':
      if (ip === undefined || !contains(to.cidr, ip)) return undefined;
      return to.ports.length === 0 || hasPort(to.ports) ? `it is in ${to.cidr}` : undefined;
    case 'ports':
      return hasPort(to.ports) ? `port ${endpoint.port}/${endpoint.protocol}` : undefined;
  }
}

interface Considered {
  readonly record: AclRecord;
  readonly reason: RuleReason;
}

function sortedRules(world: World): AclRecord[] {
  return [...world.rules].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** Deny, then whoever is not allowed, then defaultAction, then audit. */
function conclude(
  considered: readonly Considered[],
  defaultAction: 'allow' | 'deny',
  blind: string | undefined,
): Evaluation {
  const rules = considered.map(({ reason }) => reason);
  const of = (action: AclAction, selecting: boolean): string[] =>
    rules
      .filter((rule) => rule.action === action && (rule.selects || !selecting))
      .map(({ rule }) => rule);
  const denying = of('deny', true);
  const closing = of('allow', false);
  const allowing = of('allow', true);
  const auditing = of('audit', true);
  const answer = (
    verdict: Evaluation['verdict'],
    why: string,
    decidedBy: readonly string[],
  ): Evaluation => ({ verdict, why, decidedBy, rules });
  if (denying.length > 0) return answer('deny', `denied by ${denying.join(', ')}`, denying);
  if (blind !== undefined) return answer('deny', blind, closing.slice(0, 1));
  if (closing.length > 0 && allowing.length === 0)
    return answer('deny', `only those allowed get in: ${closing.join(', ')}`, closing.slice(0, 1));
  if (closing.length === 0 && defaultAction === 'deny')
    return answer('deny', 'no rule allows it, and acl.defaultAction is deny', []);
  const because =
    allowing.length > 0
      ? `allowed by ${allowing.join(', ')}`
      : 'no rule closes it, and acl.defaultAction is allow';
  if (auditing.length === 0) return answer('allow', because, []);
  return answer('audit', `${because}; reported by ${auditing.join(', ')}`, auditing);
}

/** A program of this host calls connect() or sends. */
export function evaluate(world: World, subject: Subject, to: Destination): Evaluation {
  const said = evaluateEndpoint(world, subject, to);
  if (said.verdict === 'deny' || to.protocol !== 'udp' || !isGroup(to.address)) return said;
  // Whoever listens on all addresses hears a group that anybody joins: rules for
  // services on this host count for datagrams to groups as well.
  const here = evaluateEndpoint(world, subject, { ...to, address: '::1' });
  const isNamed = here.rules.some(({ rule }) =>
    [...world.rules].some(({ name, to: { kind } }) => name === rule && kind === 'service'),
  );
  if (here.verdict !== 'deny' || !isNamed) return said;
  return { ...here, why: `${here.why} (a datagram to a group is one to this host as well)` };
}

function isGroup(address: string): boolean {
  const ip = parseIp(address);
  return ip !== undefined && addressClass(ip) === 'multicast';
}

function evaluateEndpoint(world: World, subject: Subject, to: Destination): Evaluation {
  const asked = parseIp(to.address);
  if (asked === undefined) throw new Error(`${to.address} is no address`);
  // Linux takes the unspecified address for this host.
  const unspecified = { '0.0.0.0': '127.0.0.1', '::': '::1' } as const;
  const ip = (['0.0.0.0', '::'] as const).reduce(
    (at, text) => (sameIp(parseIp(text), asked) ? (parseIp(unspecified[text]) ?? at) : at),
    asked,
  );
  const all = sortedRules(world);
  const unknown = cgroupIsUnknown(all, subject);
  const considered: Considered[] = [];
  for (const record of all) {
    const inside = record.from.filter(({ kind }) => kind !== 'cidr');
    if (record.from.length > 0 && inside.length === 0) continue;
    const naming = names(record, to, ip, world);
    if (naming === undefined) continue;
    const selecting =
      record.from.length === 0
        ? 'everyone'
        : inside
            .map((item) => selectsSubject(item, subject, unknown, world))
            .find((why) => why !== undefined);
    const whom = selecting ?? `none of ${inside.map(textOf).join(', ')}`;
    considered.push({ record, reason: reasonOf(record, selecting !== undefined, naming, whom) });
  }
  const denies = (is: (item: AclSelector) => boolean): boolean =>
    considered.some(({ record: { action, from } }) => action === 'deny' && from.some(is));
  const isGroupKnown = (item: AclSelector): boolean =>
    item.kind === 'group' && idOf(item, world) !== undefined;
  const blind =
    unknown && denies(isCgroupKind)
      ? 'its cgroup is unknown, and a deny rule selects by cgroup'
      : subject.gids.length - 1 > GROUPS_READ_MAX && denies(isGroupKnown)
        ? `it has more than ${GROUPS_READ_MAX} groups, and a deny rule selects by group`
        : undefined;
  return conclude(considered, world.defaultAction, blind);
}

function reasonOf(
  { name, action }: AclRecord,
  selects: boolean,
  naming: string,
  whom: string,
): RuleReason {
  return { rule: name, action, selects, why: `${naming}; ${whom}` };
}

/** A packet from outside meets a port of this host. defaultAction does not close those. */
export function evaluateIngress(
  world: World,
  source: string,
  to: { readonly port: number; readonly protocol: Protocol },
): Evaluation {
  const from = parseIp(source);
  if (from === undefined) throw new Error(`${source} is no address`);
  const considered: Considered[] = [];
  for (const record of sortedRules(world)) {
    const outside = record.from.filter(({ kind }) => kind === 'cidr');
    if (outside.length === 0) continue;
    const naming = names(record, { address: '', ...to }, undefined, world);
    if (naming === undefined) continue;
    const block = outside.find(({ value }) => contains(value, from));
    const whom = block?.value ?? `none of ${outside.map(({ value }) => value).join(', ')}`;
    considered.push({ record, reason: reasonOf(record, block !== undefined, naming, whom) });
  }
  return conclude(considered, 'allow', undefined);
}
