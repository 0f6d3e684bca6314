/**
 * From rules and services to what the kernel should hold. frame.ts knows the
 * rules; here the endpoints of the services that they name are hung into it,
 * all at once or as backends come and go.
 *
 *   an endpoint's rules = those of every service it is a backend of
 *                       + if its address is this host's: those of any backend
 *                         on an address of this host with the same port
 *                       + those of every block around its address
 *
 * Immutable from outside: updateEndpoints() makes new tables and leaves the old
 * ones as they were, sharing what is equal.
 */
import type { CatalogBackend, CatalogPort, CatalogService } from '../catalog/catalog.ts';
import { bytesToKey, protocolNumber } from '../datapath/abi.ts';
import { parseIp, type IpBytes } from '../net/ip.ts';
import { BucketMap, type BucketMapEdit } from '../state/bucket-map.ts';
import type { Protocol } from '../state/records.ts';
import { encodeCidrKey, encodeDestKey, genFlag } from './abi.ts';
import type { Block } from './blocks.ts';
import {
  isLocalBlock,
  makeFrame,
  placeOf,
  portKey,
  type CompileProblem,
  type Frame,
  type FrameInput,
  type Numbering,
  type Place,
  type PortKey,
} from './frame.ts';
import type { Policy, RuleSet } from './policies.ts';
import type { AclTables, DestEntry, MatchEntry, RuleEntry } from './tables.ts';

export { NO_NUMBERING } from './frame.ts';
export type { AclHost, AclLimits, CompileProblem, Numbering } from './frame.ts';

export interface CompileInput extends FrameInput {
  readonly services: ReadonlyMap<string, CatalogService>;
  /** Of the same agent: an automaton for the same selectors is taken over as it is. */
  readonly previous?: Compiled | undefined;
}

/** Backends on this host's addresses that have one port. */
interface LocalBackends {
  /** Of how many backends: by service and port, as ServiceRules.of() takes them. */
  readonly names: ReadonlyMap<string, number>;
  /** Those in local blocks that have entries of their own, by key (bytesToKey). */
  readonly inBlocks: BucketMap<{ readonly ip: IpBytes; readonly count: number }>;
}

interface Endpoints {
  /** Services that rules name, as they were hung in. */
  readonly services: BucketMap<CatalogService>;
  /** By key of zh_acl_dests: the service ports with a backend there, in order. */
  readonly backends: BucketMap<readonly string[]>;
  readonly local: BucketMap<LocalBackends>;
  /** By number: how many entries of dests have the policy. */
  readonly uses: BucketMap<{ readonly policy: Policy; readonly count: number }>;
}

export interface Compiled {
  readonly tables: AclTables;
  readonly numbering: Numbering;
  /** If any is fatal the tables must not be used. */
  readonly problems: readonly CompileProblem[];
  readonly frame: Frame;
  readonly endpoints: Endpoints;
}

/** Reads what was written since the base. */
class Overlay<V> {
  readonly #base: BucketMap<V>;
  readonly #edit: BucketMapEdit<V>;
  readonly #written = new Map<string, V | undefined>();

  constructor(base: BucketMap<V>) {
    this.#base = base;
    this.#edit = base.edit();
  }

  get(key: string): V | undefined {
    return this.#written.has(key) ? this.#written.get(key) : this.#base.get(key);
  }

  set(key: string, value: V | undefined): void {
    this.#written.set(key, value);
  }

  build(): BucketMap<V> {
    for (const [key, value] of this.#written) {
      if (value === undefined) this.#edit.delete(key);
      else this.#edit.set(key, value);
    }
    return this.#edit.build();
  }
}

interface Port {
  readonly port: number;
  readonly protocol: Protocol;
}

interface Endpoint extends Port {
  readonly ip: IpBytes;
  readonly place: Place;
}

function endpointKey({ ip, port, protocol }: Omit<Endpoint, 'place'>): string {
  return bytesToKey(
    encodeDestKey({ gen: 0, region: 0, addr: ip, port, protocol: protocolNumber[protocol] }),
  );
}

function blockKey(block: Block, at: Port | undefined): string {
  const port = at?.port ?? 0;
  const protocol = at === undefined ? 0 : protocolNumber[at.protocol];
  return bytesToKey(encodeDestKey({ gen: 0, region: block.number, port, protocol }));
}

function ingressKey({ port, protocol }: Port): string {
  const key = { gen: 0, region: 0, port, protocol: protocolNumber[protocol], ingress: true };
  return bytesToKey(encodeDestKey(key));
}

function portOf(key: PortKey): Port {
  const [port, protocol] = key.split('/');
  return { port: Number(port), protocol: protocol as Protocol };
}

type Direction = 'egress' | 'ingress';

/** LocalBackends while they change. */
class LocalWork {
  readonly names: Map<string, number>;
  readonly #inBlocks: Overlay<{ readonly ip: IpBytes; readonly count: number }>;
  /** The rules of all of them, once they are known. */
  egress: RuleSet | undefined;
  ingress: RuleSet | undefined;

  constructor(before: LocalBackends | undefined) {
    this.names = new Map(before?.names);
    this.#inBlocks = new Overlay(before?.inBlocks ?? new BucketMap());
  }

  countName(name: string, by: 1 | -1): void {
    const names = (this.names.get(name) ?? 0) + by;
    if (names === 0) this.names.delete(name);
    else this.names.set(name, names);
  }

  countInBlock(ip: IpBytes, by: 1 | -1): void {
    const key = bytesToKey(ip);
    const count = (this.#inBlocks.get(key)?.count ?? 0) + by;
    this.#inBlocks.set(key, count === 0 ? undefined : { ip, count });
  }

  inBlocks(): IpBytes[] {
    return [...this.#inBlocks.build().values()].map(({ ip }) => ip);
  }

  build(): LocalBackends {
    return { names: this.names, inBlocks: this.#inBlocks.build() };
  }
}

class Work {
  readonly #frame: Frame;
  readonly #services: Overlay<CatalogService>;
  readonly #backends: Overlay<readonly string[]>;
  readonly #local: BucketMap<LocalBackends>;
  /** Those that change, as they change. */
  readonly #localPorts = new Map<PortKey, LocalWork>();
  readonly #uses: Overlay<{ readonly policy: Policy; readonly count: number }>;
  readonly #dests: Overlay<DestEntry>;
  readonly #matches: Overlay<MatchEntry>;
  readonly #sources: Overlay<MatchEntry>;
  /** What is to be computed anew, by key of zh_acl_dests. */
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #localBlocks: readonly Block[];

  constructor(frame: Frame, before?: Compiled) {
    this.#frame = frame;
    const { services, backends, local, uses } = before?.endpoints ?? {};
    const { dests, matches, sources } = before?.tables ?? {};
    this.#services = new Overlay(services ?? new BucketMap());
    this.#backends = new Overlay(backends ?? new BucketMap());
    this.#local = local ?? new BucketMap();
    this.#uses = new Overlay(uses ?? new BucketMap());
    this.#dests = new Overlay(BucketMap.from(dests ?? new BucketMap()));
    this.#matches = new Overlay(BucketMap.from(matches ?? new BucketMap()));
    this.#sources = new Overlay(BucketMap.from(sources ?? new BucketMap()));
    this.#localBlocks = frame.blocks.all.filter((block) => isLocalBlock(frame, block));
  }

  /** What does not depend on any service. */
  fill(): void {
    for (const block of this.#frame.blocks.all) {
      this.#computeBlock(block, undefined);
      const named = this.#frame.blockRules.get(block.number)?.ports.keys() ?? [];
      for (const key of named) this.#computeBlock(block, portOf(key));
    }
    for (const key of this.#frame.openPorts.keys()) this.#computeIngress(key);
  }

  /**
   * Makes the service's backends those of `after`, undefined: it is gone; or
   * only adds them, when `keep` says so.
   */
  putService(name: string, after: CatalogService | undefined, keep = false): void {
    if (!this.#frame.services.has(name)) return;
    const before = this.#services.get(name);
    if (before === after) return;
    this.#services.set(name, after);
    const old = new Map((before?.ports ?? []).map((port) => [port.name, port]));
    for (const port of after?.ports ?? []) {
      const was = old.get(port.name);
      if (was?.protocol === port.protocol) old.delete(port.name);
      const { gone, come } = difference(
        was?.protocol === port.protocol ? was.backends : [],
        port.backends,
      );
      if (!keep) for (const backend of gone) this.#count(name, port, backend, false);
      for (const backend of come) this.#count(name, port, backend, true);
    }
    if (keep) return;
    for (const port of old.values()) {
      for (const backend of port.backends) this.#count(name, port, backend, false);
    }
  }

  #count(service: string, port: CatalogPort, backend: CatalogBackend, comes: boolean): void {
    const name = `${service} ${port.name}`;
    const { egress, ingress } = this.#frame.services.of(name);
    if (egress.rules.length + ingress.rules.length === 0) return;
    const ip = parseIp(backend.address);
    if (ip === undefined) throw new Error(`bug: backend address ${backend.address}`);
    const place = placeOf(this.#frame, backend.address);
    const endpoint = { ip, port: backend.port, protocol: port.protocol, place };
    const key = endpointKey(endpoint);
    if (egress.rules.length > 0) {
      const others = (this.#backends.get(key) ?? []).filter((other) => other !== name);
      const all = comes ? [...others, name].toSorted() : others;
      this.#backends.set(key, all.length === 0 ? undefined : all);
      this.#endpoints.set(key, endpoint);
    }
    if (place === 'elsewhere') return;
    const by = comes ? 1 : -1;
    const local = this.#localPort(portKey(endpoint));
    local.countName(name, by);
    if (place === 'block' && egress.rules.length > 0) local.countInBlock(ip, by);
  }

  #localPort(key: PortKey): LocalWork {
    let port = this.#localPorts.get(key);
    if (port === undefined) {
      port = new LocalWork(this.#local.get(key));
      this.#localPorts.set(key, port);
    }
    return port;
  }

  /** Computes what changed. */
  settle(): void {
    for (const [key, work] of this.#localPorts) this.#settleLocal(key, work);
    for (const [key, endpoint] of this.#endpoints) this.#computeEndpoint(key, endpoint);
  }

  /** With the rules for a port of this host those of all its addresses change. */
  #settleLocal(key: PortKey, work: LocalWork): void {
    const before = this.#local.get(key)?.names ?? new Map<string, number>();
    const rules = (names: ReadonlyMap<string, number>, direction: Direction): RuleSet =>
      this.#rulesOfNames(names.keys(), direction);
    work.egress = rules(work.names, 'egress');
    work.ingress = rules(work.names, 'ingress');
    if (rules(before, 'ingress') !== work.ingress) this.#computeIngress(key);
    if (rules(before, 'egress') === work.egress) return;
    const port = portOf(key);
    const add = (ip: IpBytes, place: Place): void => {
      const endpoint = { ...port, ip, place };
      this.#endpoints.set(endpointKey(endpoint), endpoint);
    };
    for (const ip of this.#frame.local.values()) add(ip, 'interface');
    for (const ip of work.inBlocks()) add(ip, 'block');
    for (const block of this.#localBlocks) this.#computeBlock(block, port);
  }

  #rulesOfNames(names: Iterable<string>, direction: Direction): RuleSet {
    const { sets, services } = this.#frame;
    let all = sets.empty;
    for (const name of names) all = sets.union(all, services.of(name)[direction]);
    return all;
  }

  #localRules(key: PortKey, direction: Direction): RuleSet {
    const work = this.#localPorts.get(key);
    if (work !== undefined) return work[direction] ?? this.#frame.sets.empty;
    return this.#rulesOfNames(this.#local.get(key)?.names.keys() ?? [], direction);
  }

  #builtLocal(): BucketMap<LocalBackends> {
    const edit = this.#local.edit();
    for (const [key, work] of this.#localPorts) {
      if (work.names.size === 0) edit.delete(key);
      else edit.set(key, work.build());
    }
    return edit.build();
  }

  #blockRules(block: Block | undefined, key: PortKey): RuleSet {
    const rules = this.#frame.blockRules.get(block?.number ?? 0);
    return rules?.ports.get(key) ?? rules?.everything ?? this.#frame.sets.empty;
  }

  #computeEndpoint(key: string, endpoint: Endpoint): void {
    const { sets, blocks } = this.#frame;
    const port = portKey(endpoint);
    const backends = this.#backends.get(key) ?? [];
    const own = this.#rulesOfNames(backends, 'egress');
    const { place } = endpoint;
    const local =
      place === 'interface' || (place === 'block' && own !== sets.empty)
        ? this.#localRules(port, 'egress')
        : sets.empty;
    const named = sets.union(own, local);
    // Where no service is named, the entry of the block says it all.
    if (named === sets.empty) return this.#put(key, undefined);
    const all = sets.union(named, this.#blockRules(blocks.find(endpoint.ip), port));
    this.#put(key, this.#frame.policies.egress(all));
  }

  #computeBlock(block: Block, port: Port | undefined): void {
    const { sets, blockRules, policies } = this.#frame;
    const rules = blockRules.get(block.number);
    let set = rules?.everything ?? sets.empty;
    if (port !== undefined) {
      const key = portKey(port);
      const local = this.#localBlocks.includes(block)
        ? this.#localRules(key, 'egress')
        : sets.empty;
      const named = rules?.ports.get(key);
      // The entry for all ports says it all.
      if (named === undefined && local === sets.empty) set = sets.empty;
      else set = sets.union(named ?? set, local);
    }
    this.#put(blockKey(block, port), set === sets.empty ? undefined : policies.egress(set));
  }

  #computeIngress(key: PortKey): void {
    const { sets, openPorts, policies } = this.#frame;
    const set = sets.union(openPorts.get(key) ?? sets.empty, this.#localRules(key, 'ingress'));
    this.#put(ingressKey(portOf(key)), set === sets.empty ? undefined : policies.ingress(set));
  }

  #put(key: string, policy: Policy | undefined): void {
    const before = this.#dests.get(key);
    if (before?.policy === policy?.dest.policy) return;
    this.#dests.set(key, policy?.dest);
    if (policy !== undefined) this.#use(policy);
    if (before !== undefined) this.#drop(before.policy);
  }

  #use(policy: Policy): void {
    const number = String(policy.dest.policy);
    const count = this.#uses.get(number)?.count ?? 0;
    this.#uses.set(number, { policy, count: count + 1 });
    if (count > 0) return;
    for (const [key, match] of policy.matches) this.#matches.set(key, match);
    for (const [key, match] of policy.sources) this.#sources.set(key, match);
  }

  #drop(number: number): void {
    const use = this.#uses.get(String(number));
    if (use === undefined) return;
    const left = use.count - 1;
    this.#uses.set(String(number), left === 0 ? undefined : { ...use, count: left });
    if (left > 0) return;
    for (const key of use.policy.matches.keys()) this.#matches.set(key, undefined);
    for (const key of use.policy.sources.keys()) this.#sources.set(key, undefined);
  }

  build(fixed: Pick<AclTables, 'flags' | 'cidrs' | 'rules'>): Compiled {
    const tables: AclTables = {
      ...fixed,
      dests: this.#dests.build(),
      matches: this.#matches.build(),
      sources: this.#sources.build(),
      automaton: this.#frame.automaton,
    };
    return {
      tables,
      numbering: this.#frame.numbering,
      problems: [...this.#frame.problems, ...problemsOfSize(tables, this.#frame.limits.aclEntries)],
      frame: this.#frame,
      endpoints: {
        services: this.#services.build(),
        backends: this.#backends.build(),
        local: this.#builtLocal(),
        uses: this.#uses.build(),
      },
    };
  }
}

/** Both lists are in the order of state, and most of one change is equal at both ends. */
function difference(
  before: readonly CatalogBackend[],
  after: readonly CatalogBackend[],
): { gone: readonly CatalogBackend[]; come: readonly CatalogBackend[] } {
  const same = (a: CatalogBackend | undefined, b: CatalogBackend | undefined): boolean =>
    a !== undefined && a.address === b?.address && a.port === b.port;
  let start = 0;
  while (start < before.length && same(before[start], after[start])) start += 1;
  let end = 0;
  while (
    end < Math.min(before.length, after.length) - start &&
    same(before[before.length - 1 - end], after[after.length - 1 - end])
  )
    end += 1;
  const old = before.slice(start, before.length - end);
  const now = after.slice(start, after.length - end);
  const text = ({ address, port }: CatalogBackend): string => `${address} ${port}`;
  const oldKeys = new Set(old.map(text));
  const nowKeys = new Set(now.map(text));
  return {
    gone: old.filter((backend) => !nowKeys.has(text(backend))),
    come: now.filter((backend) => !oldKeys.has(text(backend))),
  };
}

function problemsOfSize(tables: AclTables, max: number): CompileProblem[] {
  const sizes = [
    ['endpoints and ports', tables.dests],
    ['blocks', tables.cidrs],
    ['users, groups and cgroups of policies', tables.matches],
    ['sources of policies', tables.sources],
  ] as const;
  return sizes
    .filter(([, table]) => table.size > max)
    .map(([what, table]) => ({
      code: 'limit',
      fatal: true,
      message: `the rules take ${table.size} entries for ${what}, and there is room for ${max}`,
      hint: 'raise maps.aclEntries in the configuration and restart the agent',
    }));
}

/** They depend on rules alone, so that backends come and go within a generation. */
function flagsOf({ defaultDeny, rules, blocks }: Frame, namesService: boolean): number {
  return (
    (defaultDeny ? genFlag.defaultDeny : 0) |
    (namesService ? genFlag.haveDests : 0) |
    (blocks.all.length > 0 ? genFlag.haveCidrs : 0) |
    (rules.some(({ sources }) => sources.length > 0) ? genFlag.haveIngress : 0)
  );
}

function rulesOf({ rules }: Frame): Map<number, RuleEntry> {
  return new Map(rules.map(({ number, name, action }) => [number, { name, action }]));
}

export function compileAcl(input: CompileInput): Compiled {
  const frame = makeFrame(input, input.previous?.frame);
  const work = new Work(frame);
  work.fill();
  for (const [name, service] of input.services) work.putService(name, service);
  work.settle();
  const cidrs = frame.blocks.all.map(({ bits, cidr, number }): [string, number] => [
    bytesToKey(encodeCidrKey({ gen: 0, bits, addr: cidr.first })),
    number,
  ]);
  const flags = flagsOf(
    frame,
    frame.localBlocks.some((cidr) => frame.blocks.get(cidr) !== undefined),
  );
  return work.build({ flags, cidrs: new Map(cidrs), rules: rulesOf(frame) });
}

/** After a change of services: `touched` names those that may differ from the ones compiled. */
export function updateEndpoints(
  previous: Compiled,
  services: ReadonlyMap<string, CatalogService>,
  touched: Iterable<string>,
): Compiled {
  const work = new Work(previous.frame, previous);
  for (const name of touched) work.putService(name, services.get(name));
  work.settle();
  return work.build(previous.tables);
}

/**
 * What protects old and new backends alike: in force while a change of services
 * goes into the kernel, before the tables of updateEndpoints() are.
 */
export function tablesBetween(
  previous: Compiled,
  services: ReadonlyMap<string, CatalogService>,
  touched: Iterable<string>,
): AclTables {
  const work = new Work(previous.frame, previous);
  for (const name of touched) work.putService(name, services.get(name), true);
  work.settle();
  return work.build(previous.tables).tables;
}

/** What numbers the kernel's rules have, for an agent that takes over its maps. */
export function numberingOf(rules: ReadonlyMap<number, RuleEntry>): Numbering {
  const numbers = new Map([...rules].map(([number, { name }]) => [name, number]));
  return { numbers, next: Math.max(0, ...rules.keys()) + 1 };
}
