/**
 * The part of a compilation that backends have no say in: the rules with their
 * numbers, whom they select, and the blocks they name. Endpoints are hung into
 * it by compile.ts.
 */
import { cidrContains, parseCidr, type Cidr } from '../net/cidr.ts';
import { formatIp, parseIp, type IpBytes } from '../net/ip.ts';
import type { Problem } from '../state/problem.ts';
import type { AclPort, AclRecord, AclSelector } from '../state/records.ts';
import { buildAutomaton, NO_AUTOMATON, type CgroupPattern } from './automaton.ts';
import { bitsOf, Blocks, EVERY_V4, EVERY_V6, type Block } from './blocks.ts';
import { Policies, RuleSets, type PreparedRule, type RuleSet, type Workload } from './policies.ts';
import type { Automaton } from './tables.ts';

/** Names and numbers of rules, as the kernel's counters and events know them. */
export interface Numbering {
  readonly numbers: ReadonlyMap<string, number>;
  /** Where to look for a free one: numbers rest before they are used again. */
  readonly next: number;
}

export const NO_NUMBERING: Numbering = { numbers: new Map(), next: 1 };

export interface AclLimits {
  readonly aclRules: number;
  readonly aclEntries: number;
  readonly aclGlobs: number;
}

/** What rules are compiled against, beside the services. */
export interface AclHost {
  /** Ids of the names in rules; a name that is missing or undefined selects nobody. */
  readonly users: ReadonlyMap<string, number | undefined>;
  readonly groups: ReadonlyMap<string, number | undefined>;
  /** All that leads to this host, in any text form; blocks like 198.51.100.0/24 too. */
  readonly localAddresses: Iterable<string>;
  readonly defaultAction: 'allow' | 'deny';
}

export interface CompileProblem extends Problem {
  /** Whose; absent: of all rules together. */
  readonly rule?: string;
  /** The tables are not fit for use. */
  readonly fatal: boolean;
}

/** `6379/tcp` */
export type PortKey = string;

export function portKey({ port, protocol }: AclPort): PortKey {
  return `${port}/${protocol}`;
}

interface BlockRules {
  /** For every port and protocol, with those of the blocks around. */
  readonly everything: RuleSet;
  /** For single ports, with all that holds for everything. */
  readonly ports: ReadonlyMap<PortKey, RuleSet>;
}

export interface Frame {
  readonly sets: RuleSets;
  readonly policies: Policies;
  readonly rules: readonly PreparedRule[];
  readonly blocks: Blocks;
  /** By block number. */
  readonly blockRules: ReadonlyMap<number, BlockRules>;
  readonly services: ServiceRules;
  /** By port: rules for what comes from outside to any port of that number. */
  readonly openPorts: ReadonlyMap<PortKey, RuleSet>;
  /** By canonical text: single addresses that lead to this host, ::1 among them. */
  readonly local: ReadonlyMap<string, IpBytes>;
  /** 127.0.0.0/8, and others that a routing table makes local as a whole. */
  readonly localBlocks: readonly Cidr[];
  readonly automaton: Automaton;
  readonly automatonKey: string;
  readonly numbering: Numbering;
  readonly limits: AclLimits;
  readonly defaultDeny: boolean;
  readonly problems: readonly CompileProblem[];
}

const LOOPBACK_V4: Cidr = {
  family: 4,
  first: Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 0]),
  prefixLength: 8,
};

/** `interface`: one of this host's addresses; `block`: in one of its blocks, as 127.0.0.1 is. */
export type Place = 'block' | 'interface' | 'elsewhere';

/** Takes canonical text. */
export function placeOf({ local, localBlocks }: Frame, address: string): Place {
  if (address.startsWith('127.')) return 'block';
  if (local.has(address)) return 'interface';
  if (localBlocks.length === 1) return 'elsewhere';
  const ip = parseIp(address);
  const isIn = ip !== undefined && localBlocks.some((block) => cidrContains(block, ip));
  return isIn ? 'block' : 'elsewhere';
}

/** Whether all of the block leads to this host. */
export function isLocalBlock({ localBlocks }: Frame, { cidr, bits }: Block): boolean {
  return localBlocks.some((local) => bits >= bitsOf(local) && cidrContains(local, cidr.first));
}

function mustParse(text: string): Cidr {
  const result = parseCidr(text);
  if (!result.ok) throw new Error(`bug: the block ${text} ${result.reason}`);
  return result.cidr;
}

function localPlaces(texts: Iterable<string>): Pick<Frame, 'local' | 'localBlocks'> {
  const local = new Map<string, IpBytes>();
  const all = ['::1', ...texts];
  const localBlocks = [
    LOOPBACK_V4,
    ...all.filter((text) => text.includes('/')).map((text) => mustParse(text)),
  ];
  for (const text of all.filter((one) => !one.includes('/'))) {
    const ip = parseIp(text);
    if (ip === undefined) throw new Error(`bug: local address ${text}`);
    if (!cidrContains(LOOPBACK_V4, ip)) local.set(formatIp(ip), ip);
  }
  return { local, localBlocks };
}

export function assignNumbers(
  names: readonly string[],
  before: Numbering,
  numbersEnd: number,
): Numbering {
  const numbers = new Map<string, number>();
  const taken = new Set<number>();
  for (const name of names) {
    const number = before.numbers.get(name);
    if (number === undefined || number < 1 || number >= numbersEnd || taken.has(number)) continue;
    numbers.set(name, number);
    taken.add(number);
  }
  let next = before.next;
  for (const name of names) {
    if (numbers.has(name) || taken.size >= numbersEnd - 1) continue;
    for (;;) {
      if (next < 1 || next >= numbersEnd) next = 1;
      if (!taken.has(next)) break;
      next += 1;
    }
    numbers.set(name, next);
    taken.add(next);
    next += 1;
  }
  return { numbers, next };
}

function tagText({ kind, value }: AclSelector): string {
  return `${kind}:${value}`;
}

/** Tags are told by the selectors alone, so that equal ones make an equal automaton. */
function tagsOf(records: readonly AclRecord[]): Map<string, number> {
  const texts = new Set<string>();
  for (const { from } of records) {
    for (const item of from)
      if (item.kind === 'unit' || item.kind === 'cgroup') texts.add(tagText(item));
  }
  return new Map([...texts].toSorted().map((text, index) => [text, index + 1]));
}

function patternsOf(tags: ReadonlyMap<string, number>): CgroupPattern[] {
  return [...tags].map(([text, tag]) => {
    const colon = text.indexOf(':');
    return {
      tag,
      kind: text.slice(0, colon) === 'unit' ? ('unit' as const) : ('cgroup' as const),
      value: text.slice(colon + 1),
    };
  });
}

class Preparation {
  readonly problems: CompileProblem[] = [];
  readonly tags: ReadonlyMap<string, number>;
  readonly #host: AclHost;

  constructor(host: AclHost, records: readonly AclRecord[]) {
    this.#host = host;
    this.tags = tagsOf(records);
  }

  rule(record: AclRecord, number: number): PreparedRule {
    const { name, action, from } = record;
    const inside = from.filter(({ kind }) => kind !== 'cidr');
    const everyone: readonly Workload[] = from.length === 0 ? [{ kind: 'any', value: 0 }] : [];
    return {
      number,
      name,
      action,
      egress: from.length === 0 || inside.length > 0,
      workloads: [...everyone, ...inside.flatMap((item) => this.#workload(name, item))],
      sources: from.filter(({ kind }) => kind === 'cidr').map(({ value }) => mustParse(value)),
    };
  }

  #workload(rule: string, selector: AclSelector): Workload[] {
    const { kind, value } = selector;
    if (kind === 'cidr') return [];
    if (kind === 'unit' || kind === 'cgroup')
      return [{ kind: 'tag', value: this.tags.get(tagText(selector)) ?? 0 }];
    const ids = kind === 'user' ? this.#host.users : this.#host.groups;
    const id = /^[0-9]+$/.test(value) ? Number(value) : ids.get(value);
    if (id !== undefined) return [{ kind, value: id }];
    this.problems.push({
      code: 'not-found',
      rule,
      fatal: false,
      message: `rule "${rule}" names ${kind} "${value}", and this host knows none: it selects nobody`,
      hint: `\`getent ${kind === 'user' ? 'passwd' : 'group'} ${value}\` shows it once it is there`,
    });
    return [];
  }
}

/** The blocks that a rule for this host's programs names. */
function blocksOf({ to }: AclRecord, localBlocks: readonly Cidr[]): readonly Cidr[] {
  switch (to.kind) {
    case 'service':
      // Backends on local addresses are protected on all of these.
      return localBlocks;
    case 'cidr':
      return [mustParse(to.cidr)];
    case 'ports':
      return [EVERY_V4, EVERY_V6];
  }
}

function rulesOfBlocks(
  blocks: Blocks,
  sets: RuleSets,
  rules: readonly PreparedRule[],
  records: readonly AclRecord[],
): Map<number, BlockRules> {
  const own = new Map<number, { everything: number[]; ports: Map<PortKey, number[]> }>();
  for (const [index, { to }] of records.entries()) {
    const record = records[index];
    if (to.kind === 'service' || record === undefined || rules[index]?.egress !== true) continue;
    for (const cidr of blocksOf(record, [])) {
      const number = blocks.get(cidr)?.number ?? 0;
      const at = own.get(number) ?? { everything: [], ports: new Map<PortKey, number[]>() };
      own.set(number, at);
      if (to.ports.length === 0) at.everything.push(index);
      for (const port of to.ports) {
        const key = portKey(port);
        at.ports.set(key, [...(at.ports.get(key) ?? []), index]);
      }
    }
  }
  const all = new Map<number, BlockRules>();
  for (const block of blocks.all) all.set(block.number, chained(block, all, own, sets));
  return all;
}

function chained(
  { number, parent }: Block,
  done: ReadonlyMap<number, BlockRules>,
  own: ReadonlyMap<number, { everything: readonly number[]; ports: Map<PortKey, number[]> }>,
  sets: RuleSets,
): BlockRules {
  const around = parent === undefined ? undefined : done.get(parent.number);
  const mine = own.get(number);
  const added = sets.of(mine?.everything ?? []);
  const aroundAll = around?.everything ?? sets.empty;
  const everything = sets.union(aroundAll, added);
  if (mine === undefined && around !== undefined) return around;
  const ports = new Map<PortKey, RuleSet>();
  for (const key of new Set([...(around?.ports.keys() ?? []), ...(mine?.ports.keys() ?? [])])) {
    const inherited = around?.ports.get(key) ?? aroundAll;
    const named = sets.of(mine?.ports.get(key) ?? []);
    ports.set(key, sets.union(sets.union(inherited, added), named));
  }
  return { everything, ports };
}

/** What the rules that name a service say of the backends of one of its ports. */
interface ServiceSets {
  readonly egress: RuleSet;
  readonly ingress: RuleSet;
}

export class ServiceRules {
  readonly #rules: readonly PreparedRule[];
  readonly #sets: RuleSets;
  readonly #services = new Map<string, { index: number; portName: string | undefined }[]>();
  readonly #made = new Map<string, ServiceSets>();

  constructor(records: readonly AclRecord[], rules: readonly PreparedRule[], sets: RuleSets) {
    this.#rules = rules;
    this.#sets = sets;
    for (const [index, { to }] of records.entries()) {
      if (to.kind !== 'service') continue;
      const item = { index, portName: to.portName };
      const all = this.#services.get(to.service);
      if (all === undefined) this.#services.set(to.service, [item]);
      else all.push(item);
    }
  }

  has(service: string): boolean {
    return this.#services.has(service);
  }

  /** `port`: service and name of the port, with a space between. */
  of(port: string): ServiceSets {
    let made = this.#made.get(port);
    if (made === undefined) {
      made = this.#make(port);
      this.#made.set(port, made);
    }
    return made;
  }

  #make(port: string): ServiceSets {
    const [service = '', name] = port.split(' ');
    const indexes = (this.#services.get(service) ?? [])
      .filter(({ portName }) => portName === undefined || portName === name)
      .map(({ index }) => index);
    return {
      egress: this.#sets.of(indexes.filter((index) => this.#rules[index]?.egress === true)),
      ingress: this.#sets.of(indexes.filter((index) => this.#rules[index]?.sources.length !== 0)),
    };
  }
}

function openPortsOf(
  records: readonly AclRecord[],
  rules: readonly PreparedRule[],
  sets: RuleSets,
): Map<PortKey, RuleSet> {
  const ports = new Map<PortKey, number[]>();
  for (const [index, { to }] of records.entries()) {
    if (to.kind !== 'ports' || (rules[index]?.sources.length ?? 0) === 0) continue;
    for (const port of to.ports)
      ports.set(portKey(port), [...(ports.get(portKey(port)) ?? []), index]);
  }
  return new Map([...ports].map(([key, indexes]) => [key, sets.of(indexes)]));
}

export interface FrameInput extends AclHost {
  readonly rules: Iterable<AclRecord>;
  readonly numbering: Numbering;
  readonly limits: AclLimits;
}

function automatonOf(
  tags: ReadonlyMap<string, number>,
  limits: AclLimits,
  previous: Frame | undefined,
): { automaton: Automaton; key: string; problem?: CompileProblem } {
  const key = JSON.stringify([...tags.keys()]);
  if (previous?.automatonKey === key && previous.limits.aclGlobs === limits.aclGlobs)
    return { automaton: previous.automaton, key };
  const automaton = buildAutomaton(patternsOf(tags), limits.aclGlobs);
  if (automaton !== undefined) return { automaton, key };
  const problem: CompileProblem = {
    code: 'limit',
    fatal: true,
    message: `the units and cgroups that rules name take more than ${limits.aclGlobs} steps`,
    hint: 'use fewer wildcards, or raise maps.aclGlobs in the configuration and restart the agent',
  };
  return { automaton: NO_AUTOMATON, key: '', problem };
}

export function makeFrame(input: FrameInput, previous?: Frame): Frame {
  const records = [...input.rules].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const { limits } = input;
  const names = records.map(({ name }) => name);
  const numbering = assignNumbers(names, input.numbering, limits.aclRules);
  const preparation = new Preparation(input, records);
  const { problems, tags } = preparation;
  if (records.length >= limits.aclRules)
    problems.push({
      code: 'limit',
      fatal: true,
      message: `there are ${records.length} rules, and room for ${limits.aclRules - 1}`,
      hint: 'raise maps.aclRules in the configuration and restart the agent',
    });
  const rules = records.map((record) =>
    preparation.rule(record, numbering.numbers.get(record.name) ?? 0),
  );
  const machine = automatonOf(tags, limits, previous);
  if (machine.problem !== undefined) problems.push(machine.problem);
  const sets = new RuleSets();
  const defaultDeny = input.defaultAction === 'deny';
  const places = localPlaces(input.localAddresses);
  const blocks = new Blocks(
    records.flatMap((record, index) =>
      rules[index]?.egress === true ? blocksOf(record, places.localBlocks) : [],
    ),
  );
  return {
    sets,
    policies: new Policies(rules, defaultDeny),
    rules,
    blocks,
    blockRules: rulesOfBlocks(blocks, sets, rules, records),
    services: new ServiceRules(records, rules, sets),
    openPorts: openPortsOf(records, rules, sets),
    ...places,
    automaton: machine.automaton,
    automatonKey: machine.key,
    numbering,
    limits,
    defaultDeny,
    problems,
  };
}
