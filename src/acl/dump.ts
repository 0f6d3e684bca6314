/** The maps of access control in words, for `maps dump`: what the kernel holds, whoever wrote it. */
import { decodeU32 } from '../datapath/abi.ts';
import type { AclMapName } from '../datapath/hooks.ts';
import { protocolName } from '../datapath/text.ts';
import { familyOf, formatEndpoint, formatIp, type IpBytes } from '../net/ip.ts';
import * as abi from './abi.ts';

type Cell = string | number | boolean;
type Row = Readonly<Record<string, Cell>>;
type Decoder = (key: Uint8Array, value: Uint8Array) => Row | undefined;

/** A ring buffer has no entries to list. */
export type ListedAclMap = Exclude<AclMapName, 'zh_acl_events'>;

export const aclMapPurpose: Readonly<Record<AclMapName, string>> = {
  zh_acl: 'generation in force, automata of new cgroups, the exempt agent',
  zh_acl_gens: 'what a generation is',
  zh_acl_dests: 'endpoint, block or port → policy',
  zh_acl_cidrs: 'addresses → their most specific block',
  zh_acl_matches: 'policy and who calls → rules',
  zh_acl_sources: 'policy and source address → rules',
  zh_acl_cgroups: 'cgroup → selectors that it matches',
  zh_acl_globs: 'automaton of the selectors: steps',
  zh_acl_emits: 'automaton of the selectors: what they match',
  zh_acl_places: 'cgroup → its name and parent, for `acl log`',
  zh_acl_rules: 'rule number → name',
  zh_acl_stats: 'counters by rule number',
  zh_acl_counts: 'what the programs could not tell',
  zh_acl_events: 'verdicts for `acl log` (a ring buffer; cannot be listed)',
};

function flagNames(flags: number, names: Readonly<Record<string, number>>): string {
  return Object.entries(names)
    .filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name)
    .join(' ');
}

/** `bits` as for IPv6. */
function cidrText(addr: IpBytes, bits: number): string {
  const v4 = bits >= 96 && familyOf(addr) === 4;
  return `${formatIp(addr)}/${v4 ? bits - 96 : bits}`;
}

/** `10.0.0.1:6379/tcp`, `block 3, 443/tcp`, `from outside to 80/tcp` */
export function destText(key: Required<abi.DestKey>): string {
  const port = `${key.port}/${protocolName(key.protocol)}`;
  if (key.ingress) return `from outside to ${port}`;
  if (key.region === 0) {
    return `${formatEndpoint(formatIp(key.addr), key.port)}/${protocolName(key.protocol)}`;
  }
  return `block ${key.region}, ${key.port === 0 && key.protocol === 0 ? 'everything else' : port}`;
}

const kindNames = ['anyone', 'selector', 'user', 'group'];

function whoText({ kind, value }: abi.MatchKey): string {
  return kind === 0 ? 'anyone' : `${kindNames[kind] ?? `kind ${kind}`} ${value}`;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

function numbers(entry: Readonly<Record<string, bigint>>): Row {
  return Object.fromEntries(Object.entries(entry).map(([name, value]) => [name, Number(value)]));
}

export const aclDecoders: Readonly<Record<ListedAclMap, Decoder>> = {
  zh_acl: (_, value) => {
    const { gen, layout, automata, agentTgid } = abi.decodeAcl(value);
    return { generation: gen, layout, automata: automata.join(' '), agentPid: agentTgid };
  },
  zh_acl_gens: (_, value) => {
    if (isZero(value)) return undefined;
    const { gen, automaton, flags } = abi.decodeGen(value);
    return { generation: gen, automaton, flags: flagNames(flags, abi.genFlag) };
  },
  zh_acl_dests: (bytes, value) => {
    const key = abi.decodeDestKey(bytes);
    const { policy, flags, rule } = abi.decodeDest(value);
    const names = flagNames(flags, abi.policyFlag);
    return { generation: key.gen, to: destText(key), policy, closedBy: rule, flags: names };
  },
  zh_acl_cidrs: (bytes, value) => {
    const { gen, addr, bits } = abi.decodeCidrKey(bytes);
    return { generation: gen, addresses: cidrText(addr, bits), block: decodeU32(value) };
  },
  zh_acl_matches: (bytes, value) => {
    const key = abi.decodeMatchKey(bytes);
    const { gen, policy } = key;
    return { generation: gen, policy, who: whoText(key), ...abi.decodeMatch(value) };
  },
  zh_acl_sources: (bytes, value) => {
    const { gen, policy, addr, bits } = abi.decodeSourceKey(bytes);
    const source = cidrText(addr, bits);
    return { generation: gen, policy, source, ...abi.decodeMatch(value) };
  },
  zh_acl_cgroups: (bytes, value) => {
    const { id, automaton } = abi.decodeCgroupKey(bytes);
    const { state, tags, overflow } = abi.decodeCgroup(value);
    return { cgroup: id.toString(), automaton, state, selectors: tags.join(' '), overflow };
  },
  zh_acl_globs: (bytes, value) => {
    const { automaton, state, byte } = abi.decodeGlobKey(bytes);
    const text = byte === abi.anyByte ? 'any but /' : String.fromCharCode(byte);
    return { automaton, state, byte: text, next: decodeU32(value) };
  },
  zh_acl_emits: (bytes, value) => ({
    ...abi.decodeEmitKey(bytes),
    selectors: abi.decodeEmit(value).tags.join(' '),
  }),
  zh_acl_places: (bytes, value) => {
    const { parent, name } = abi.decodePlace(value);
    return { cgroup: abi.decodePlaceKey(bytes).toString(), name, parent: parent.toString() };
  },
  zh_acl_rules: (key, value) => ({ number: decodeU32(key), ...abi.decodeRule(value) }),
  zh_acl_stats: (key, value) =>
    isZero(value) ? undefined : { rule: decodeU32(key), ...numbers({ ...abi.decodeStats(value) }) },
  zh_acl_counts: (_, value) => numbers({ ...abi.decodeCounts(value) }),
};
