/**
 * What a command would change, or everything that is wrong with it.
 *
 * Pure: a snapshot and a command in, changes or problems out. If there is one
 * problem there are no changes: nothing is ever half done. Values in commands
 * are already well-formed and canonical (validate.ts).
 */
import { DEFAULT_DNS_DOMAIN } from '../config/defaults.ts';
import { allocateVip, inPools, type VipPools } from '../catalog/vips.ts';
import { formatEndpoint } from '../net/ip.ts';
import { AclCommands } from './acl-commands.ts';
import { backendKey } from './changes.ts';
import { DnsCommands } from './dns-commands.ts';
import type { Document } from './documents.ts';
import { backendName, Draft, sameOwner, type Action } from './draft.ts';
import type { Problem } from './problem.ts';
import type {
  AclRecord,
  BackendOwner,
  BackendRecord,
  BackendState,
  Change,
  DnsRecord,
  DnsType,
  ServicePort,
  ServiceRecord,
  StateSnapshot,
} from './records.ts';
import { didYouMean } from './suggest.ts';
import type { BackendSpec, ServiceSpec } from './validate.ts';

/** Names backends of a service: those at this endpoint, on one port or on all. */
export interface BackendSelector {
  readonly service: string;
  readonly portName?: string | undefined;
  readonly address: string;
  readonly port: number;
}

export type Command =
  /** A new service; one that exists is a conflict. */
  | { readonly kind: 'add-service'; readonly service: ServiceSpec }
  /** Exactly this service, new or not. Without vips it keeps those it has. */
  | { readonly kind: 'put-service'; readonly service: ServiceSpec }
  | { readonly kind: 'remove-service'; readonly name: string }
  /** Exactly this backend, new or not. */
  | { readonly kind: 'put-backend'; readonly service: string; readonly backend: BackendSpec }
  | {
      readonly kind: 'change-backend';
      readonly backend: BackendSelector;
      readonly weight?: number | undefined;
      readonly state?: BackendState | undefined;
    }
  | {
      readonly kind: 'remove-backend';
      readonly backend: BackendSelector;
      /** Only if it still belongs to this process; silently nothing otherwise. */
      readonly owner?: BackendOwner | undefined;
    }
  /** Exactly this rule, new or not. */
  | { readonly kind: 'put-acl'; readonly acl: AclRecord }
  | { readonly kind: 'remove-acl'; readonly name: string }
  /** Exactly these records of a name and type, new or not. */
  | { readonly kind: 'put-record'; readonly record: DnsRecord }
  /** These beside those it has. */
  | { readonly kind: 'add-record'; readonly record: DnsRecord }
  /** Of one type, or all that the name has. */
  | { readonly kind: 'remove-record'; readonly name: string; readonly type?: DnsType | undefined }
  /** Every document as if put, all or none. What no document names stays as it is. */
  | { readonly kind: 'apply'; readonly documents: readonly Document[] };

export interface Decision {
  readonly changes: readonly Change[];
  readonly actions: readonly Action[];
  /** Why not; if there is any, nothing changes. */
  readonly problems: readonly Problem[];
  /** Done all the same, but probably not what was meant. */
  readonly warnings: readonly Problem[];
}

interface Work {
  readonly draft: Draft;
  readonly pools: VipPools;
  readonly problems: Problem[];
  readonly warnings: Problem[];
  readonly acls: AclCommands;
  readonly dns: DnsCommands;
  /** Services that still need VIPs, and where they were asked for. */
  readonly needVips: Map<string, string>;
  /** Services whose VIPs were given, and where. */
  readonly givenVips: Map<string, string>;
}

/** `domain`: what the names of services end in. */
export function decide(
  snapshot: StateSnapshot,
  command: Command,
  pools: VipPools,
  domain: string = DEFAULT_DNS_DOMAIN,
): Decision {
  const draft = new Draft(snapshot);
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  const work: Work = {
    draft,
    pools,
    problems,
    warnings,
    acls: new AclCommands({ draft, pools, problems, warnings }),
    dns: new DnsCommands({ draft, domain, problems, warnings }),
    needVips: new Map(),
    givenVips: new Map(),
  };
  perform(work, command);
  settleVips(work);
  work.acls.warnOfMissingServices(snapshot);
  work.dns.check(snapshot);
  if (work.problems.length > 0)
    return { changes: [], actions: [], problems: work.problems, warnings: [] };
  const diff = work.draft.diff();
  if (diff.changes.length > 0) warnIfNothingIsLeft(work, snapshot);
  return { ...diff, problems: [], warnings: work.warnings };
}

function perform(work: Work, command: Command): void {
  switch (command.kind) {
    case 'add-service':
      return addService(work, command.service);
    case 'put-service':
      return putService(work, command.service, '');
    case 'remove-service':
      if (findService(work, command.name, '') !== undefined) work.draft.removeService(command.name);
      return;
    case 'put-backend':
      return putBackend(work, command.service, command.backend, '');
    case 'change-backend':
      for (const backend of findBackends(work, command.backend)) {
        const { weight = backend.weight, state = backend.state } = command;
        work.draft.putBackend({ ...backend, weight, state });
      }
      return;
    case 'remove-backend':
      return removeBackend(work, command.backend, command.owner);
    case 'put-acl':
      return work.acls.put(command.acl, '');
    case 'remove-acl':
      return work.acls.remove(command.name);
    case 'put-record':
      return work.dns.put(command.record, '');
    case 'add-record':
      return work.dns.add(command.record);
    case 'remove-record':
      return work.dns.remove(command.name, command.type);
    case 'apply':
      return applyDocuments(work, command.documents);
  }
}

/** `ports` under `documents[2]` is `documents[2].ports`. */
function at(prefix: string, path: string): string {
  if (prefix === '') return path;
  return path === '' ? prefix : `${prefix}.${path}`;
}

function refuse(
  work: Work,
  code: Problem['code'],
  path: string,
  message: string,
  hint?: string,
): void {
  work.problems.push({
    code,
    message,
    ...(path === '' ? {} : { path }),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** That there is no such service, and which one may have been meant. */
export function unknownService(names: Iterable<string>, name: string, path = ''): Problem {
  const known = [...names];
  const otherwise =
    known.length === 0
      ? 'there is none yet: `zerohop service add` adds one'
      : '`zerohop service ls` shows them';
  return {
    code: 'not-found',
    message: `there is no service "${name}"`,
    ...(path === '' ? {} : { path }),
    hint: didYouMean(name, known, otherwise),
  };
}

function findService(work: Work, name: string, path: string): ServiceRecord | undefined {
  const service = work.draft.service(name);
  if (service === undefined) {
    const names = [...work.draft.services()].map((known) => known.name);
    work.problems.push(unknownService(names, name, path));
  }
  return service;
}

function addService(work: Work, spec: ServiceSpec): void {
  if (work.draft.service(spec.name) !== undefined) {
    const hint = `\`zerohop service show ${spec.name}\` shows it; \`zerohop apply\` changes it`;
    refuse(work, 'conflict', 'name', `there is a service "${spec.name}" already`, hint);
  }
  putService(work, spec, '');
}

function putService(work: Work, spec: ServiceSpec, path: string): void {
  checkPorts(work, spec.ports, path);
  const before = work.draft.service(spec.name);
  if (spec.vips !== undefined) {
    checkRepeatedVips(work, spec.vips, path);
    work.givenVips.set(spec.name, path);
  } else if (before === undefined) {
    work.needVips.set(spec.name, path);
  }
  const vips = spec.vips ?? before?.vips ?? [];
  const service: ServiceRecord = { name: spec.name, vips, ports: spec.ports };
  work.draft.putService(service);

  const portNames = new Set(spec.ports.map((port) => port.name));
  for (const backend of work.draft.backends(spec.name).values()) {
    if (!portNames.has(backend.portName)) work.draft.removeBackend(backend);
  }
  if (spec.backends !== undefined) replaceBackends(work, service, spec.backends, path);
}

function checkPorts(work: Work, ports: readonly ServicePort[], path: string): void {
  const numbers = new Set<string>();
  const names = new Set<string>();
  for (const [index, { name, port, protocol }] of ports.entries()) {
    const here = at(path, `ports[${index}]`);
    const number = `${port}/${protocol}`;
    if (numbers.has(number))
      refuse(work, 'conflict', `${here}.port`, `port ${number} is there twice`);
    else if (names.has(name))
      refuse(work, 'conflict', `${here}.name`, `port name "${name}" is there twice`);
    numbers.add(number);
    names.add(name);
  }
}

function checkRepeatedVips(work: Work, vips: readonly string[], path: string): void {
  for (const [index, vip] of vips.entries()) {
    if (vips.indexOf(vip) < index)
      refuse(work, 'conflict', at(path, 'vips'), `VIP ${vip} is there twice`);
  }
}

/** The listed backends and no others, but for those that live with a process of their own. */
function replaceBackends(
  work: Work,
  service: ServiceRecord,
  specs: readonly BackendSpec[],
  path: string,
): void {
  const seen = new Map<string, number>();
  for (const [index, spec] of specs.entries()) {
    const here = at(path, `backends[${index}]`);
    const portName = resolvePort(work, service, spec.portName, here);
    if (portName === undefined) continue;
    const key = backendKey({ ...spec, portName });
    if (seen.has(key)) {
      const endpoint = formatEndpoint(spec.address, spec.port);
      refuse(work, 'conflict', here, `backend ${endpoint} is there twice on port "${portName}"`);
    } else {
      seen.set(key, index);
      putResolved(work, service, { ...spec, portName }, here);
    }
  }
  for (const [key, backend] of work.draft.backends(service.name)) {
    if (!seen.has(key) && backend.owner === undefined) work.draft.removeBackend(backend);
  }
}

function putBackend(work: Work, serviceName: string, spec: BackendSpec, path: string): void {
  const service = findService(work, serviceName, at(path, path === '' ? '' : 'service'));
  if (service === undefined) return;
  const portName = resolvePort(work, service, spec.portName, path);
  if (portName !== undefined) putResolved(work, service, { ...spec, portName }, path);
}

function putResolved(
  work: Work,
  service: ServiceRecord,
  spec: BackendSpec & { readonly portName: string },
  path: string,
): void {
  const { address, port, weight, state } = spec;
  if (inPools(work.pools, address)) {
    const hint = 'name the address that the server listens on';
    refuse(
      work,
      'invalid',
      at(path, 'address'),
      `${address} cannot be a backend: VIPs come from that block, and no packet can be sent there`,
      hint,
    );
    return;
  }
  const before = work.draft.backends(service.name).get(backendKey(spec));
  // A document says nothing of owners, so it does not take a backend away from its process.
  const owner = spec.owner ?? before?.owner;
  // The strings of the service are shared by its backends: memory for 100,000 of them.
  const portName =
    service.ports.find((known) => known.name === spec.portName)?.name ?? spec.portName;
  const record = { service: service.name, portName, address, port, weight, state };
  work.draft.putBackend(owner === undefined ? record : { ...record, owner });
  warnOfFamily(work, service, address, port, path);
}

function warnOfFamily(
  work: Work,
  service: ServiceRecord,
  address: string,
  port: number,
  path: string,
): void {
  if (service.vips.length === 0) return; // it gets one of each
  const isV6 = address.includes(':');
  if (service.vips.some((vip) => vip.includes(':') === isV6)) return;
  const family = isV6 ? 'IPv6' : 'IPv4';
  work.warnings.push({
    code: 'invalid',
    message: `backend ${formatEndpoint(address, port)} gets no connections: "${service.name}" has no ${family} VIP`,
    path: at(path, 'address'),
    hint: `give it an ${family} VIP, or use a backend of the other family`,
  });
}

function resolvePort(
  work: Work,
  service: ServiceRecord,
  wanted: string | undefined,
  path: string,
): string | undefined {
  const names = service.ports.map((port) => port.name);
  const list = names.join(', ');
  if (wanted === undefined) {
    if (names.length === 1) return names[0];
    refuse(
      work,
      'invalid',
      at(path, 'portName'),
      `"${service.name}" has ${names.length} ports: say which one the backend serves`,
      `portName (SERVICE:PORTNAME on the command line) is one of ${list}`,
    );
    return undefined;
  }
  if (names.includes(wanted)) return wanted;
  refuse(
    work,
    'not-found',
    at(path, 'portName'),
    `"${service.name}" has no port "${wanted}"`,
    didYouMean(wanted, names, `it has ${list}`),
  );
  return undefined;
}

function findBackends(work: Work, selector: BackendSelector): readonly BackendRecord[] {
  const service = findService(work, selector.service, '');
  if (service === undefined) return [];
  const { address, port, portName } = selector;
  if (portName !== undefined && resolvePort(work, service, portName, '') === undefined) return [];
  const all = [...work.draft.backends(service.name).values()];
  const found = all.filter(
    (b) => b.address === address && b.port === port && (portName ?? b.portName) === b.portName,
  );
  if (found.length === 0) {
    const endpoint = formatEndpoint(address, port);
    const known = all.map((backend) => formatEndpoint(backend.address, backend.port));
    const where =
      portName === undefined ? `"${service.name}"` : `port "${portName}" of "${service.name}"`;
    refuse(
      work,
      'not-found',
      '',
      `${where} has no backend ${endpoint}`,
      didYouMean(endpoint, known, `\`zerohop backend ls ${service.name}\` shows them`),
    );
  }
  return found;
}

function removeBackend(
  work: Work,
  selector: BackendSelector,
  owner: BackendOwner | undefined,
): void {
  if (owner === undefined) {
    for (const backend of findBackends(work, selector)) work.draft.removeBackend(backend);
    return;
  }
  for (const backend of work.draft.backends(selector.service).values()) {
    const { address, port, portName } = selector;
    const named =
      backend.address === address &&
      backend.port === port &&
      (portName ?? backend.portName) === backend.portName;
    if (named && sameOwner(backend.owner, owner)) work.draft.removeBackend(backend);
  }
}

function applyDocuments(work: Work, documents: readonly Document[]): void {
  const services = new Map<string, number>();
  const backends = new Map<string, number>();
  for (const [index, document] of documents.entries()) {
    if (document.kind !== 'service') continue;
    const path = `documents[${index}]`;
    const first = services.get(document.name);
    if (first !== undefined) {
      refuse(
        work,
        'conflict',
        at(path, 'name'),
        `service "${document.name}" is described twice`,
        `first in documents[${first}]`,
      );
      continue;
    }
    services.set(document.name, index);
    putService(work, document, path);
  }
  for (const [index, document] of documents.entries()) {
    if (document.kind !== 'backend') continue;
    const path = `documents[${index}]`;
    const portName =
      document.portName ?? work.draft.service(document.service)?.ports[0]?.name ?? '';
    const name = backendName({ ...document, portName });
    const first = backends.get(name);
    if (first !== undefined) {
      refuse(
        work,
        'conflict',
        path,
        `backend ${name} is described twice`,
        `first in documents[${first}]`,
      );
      continue;
    }
    backends.set(name, index);
    putBackend(work, document.service, document, path);
  }
  work.acls.apply(documents);
  work.dns.apply(documents);
}

/** The service that has `vip`, other than `except`. */
type FindOwner = (vip: string, except: string) => string | undefined;

/** Above so many VIPs to look up an index pays; a guess between 4 and 10,000. */
const SCANNED_SERVICES_MAX = 4;

function ownerFinder(work: Work): FindOwner {
  const { draft } = work;
  if (work.needVips.size + work.givenVips.size <= SCANNED_SERVICES_MAX) {
    return (vip, except) => {
      for (const { name, vips } of draft.services())
        if (name !== except && vips.includes(vip)) return name;
      return undefined;
    };
  }
  const owners = new Map<string, string>();
  for (const { name, vips } of draft.services()) {
    for (const vip of vips) if (!owners.has(vip)) owners.set(vip, name);
  }
  return (vip, except) => {
    const owner = owners.get(vip);
    return owner === except ? undefined : owner;
  };
}

/** Gives VIPs to the services that have none, and refuses any VIP with two owners. */
function settleVips(work: Work): void {
  if (work.needVips.size === 0 && work.givenVips.size === 0) return;
  const ownerOf = ownerFinder(work);
  for (const [name, path] of work.givenVips) {
    for (const vip of work.draft.service(name)?.vips ?? []) {
      const other = ownerOf(vip, name);
      if (other !== undefined) refuseSharedVip(work, vip, name, other, path);
    }
  }
  const allocated = new Set<string>();
  for (const [name, path] of work.needVips) {
    const taken = (vip: string): boolean => allocated.has(vip) || ownerOf(vip, name) !== undefined;
    const vips = ([4, 6] as const).flatMap((family) => {
      const allocation = allocateVip(name, family, work.pools, taken);
      if (allocation.ok) return allocation.vip;
      const knob = family === 4 ? 'vipCidr4' : 'vipPrefix6';
      const hint = `widen ${knob} in the configuration, or fix one with --vip`;
      refuse(work, 'limit', at(path, 'vips'), allocation.reason, hint);
      return [];
    });
    for (const vip of vips) allocated.add(vip);
    const record = work.draft.service(name);
    if (record !== undefined) work.draft.putService({ ...record, vips });
  }
}

function refuseSharedVip(work: Work, vip: string, name: string, other: string, path: string): void {
  const message = `VIP ${vip} of "${name}" belongs to service "${other}"`;
  const hint = 'a VIP belongs to one service: give it another, or a port to the other service';
  refuse(work, 'conflict', at(path, 'vips'), message, hint);
}

/** A port that had a usable backend and has none now refuses every connection. */
function warnIfNothingIsLeft(work: Work, before: StateSnapshot): void {
  for (const name of work.draft.touched()) {
    const service = work.draft.service(name);
    if (service === undefined || !before.services.has(name)) continue;
    const usable = (backends: Iterable<BackendRecord>): Set<string> =>
      new Set(
        [...backends].filter((b) => b.state === 'active' && b.weight > 0).map((b) => b.portName),
      );
    const now = usable(work.draft.backends(name).values());
    for (const portName of usable(before.backends.get(name) ?? [])) {
      if (now.has(portName) || !service.ports.some((port) => port.name === portName)) continue;
      work.warnings.push({
        code: 'unavailable',
        message: `port "${portName}" of "${name}" has no usable backend left: connects are refused`,
        hint: `\`zerohop backend add ${name}${service.ports.length > 1 ? `:${portName}` : ''} ADDR:PORT\` adds one`,
      });
    }
  }
}
