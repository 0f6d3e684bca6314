/**
 * The verdict that the kernel gives, from the tables it was given: bpf/acl.h in
 * TypeScript, look-up by look-up. `acl test` asks it beside evaluate.ts, which
 * asks the rules; the property test compares the two.
 */
import { bytesToKey } from '../datapath/abi.ts';
import { familyOf, parseIp, type IpBytes } from '../net/ip.ts';
import {
  cidrKeyBits,
  encodeCidrKey,
  encodeDestKey,
  encodeMatchKey,
  encodeSourceKey,
  genFlag,
  matchKind,
  policyFlag,
  sourceKeyBits,
  type CgroupValue,
  type MatchKind,
} from './abi.ts';
import type { AclTables, DestEntry, MatchEntry } from './tables.ts';

/** ZH_GROUPS_MAX: supplementary groups that the kernel looks at. */
const GROUPS_MAX = 64;

export interface JudgedTask {
  /** Of zh_acl_cgroups; undefined: there is none. */
  readonly cgroup: CgroupValue | undefined;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary ones, in ascending order as the kernel has them. */
  readonly groups: readonly number[];
}

export interface JudgedEndpoint {
  readonly ip: IpBytes;
  readonly port: number;
  /** IP protocol number. */
  readonly protocol: number;
}

/** struct zh_finding */
export interface Finding {
  readonly verdict: 'allow' | 'deny' | 'audit';
  /** Whose verdict it is; 0: defaultAction's, or nobody's. */
  readonly rule: number;
  /** The allow rule that matched; 0: none. */
  readonly allow: number;
  readonly unknown: boolean;
}

const NO_MATCH: MatchEntry = { deny: 0, allow: 0, audit: 0 };
const PASSED: Finding = { verdict: 'allow', rule: 0, allow: 0, unknown: false };
const TCP = 6;
const UDP = 17;

const lengthsOf = new WeakMap<ReadonlyMap<string, unknown>, readonly number[]>();

/** Prefix lengths that occur in a trie's keys, longest first. */
function prefixLengths(table: ReadonlyMap<string, unknown>, keyBits: number): readonly number[] {
  let lengths = lengthsOf.get(table);
  if (lengths === undefined) {
    const found = new Set<number>();
    for (const key of table.keys())
      found.add(key.charCodeAt(0) + key.charCodeAt(1) * 256 - keyBits);
    lengths = [...found].toSorted((a, b) => b - a);
    lengthsOf.set(table, lengths);
  }
  return lengths;
}

/** The value of the longest prefix of an address, as BPF_MAP_TYPE_LPM_TRIE finds it. */
function longest<V>(
  table: ReadonlyMap<string, V>,
  keyBits: number,
  ip: IpBytes,
  keyOf: (bits: number, addr: IpBytes) => Uint8Array,
): V | undefined {
  for (const bits of prefixLengths(table, keyBits)) {
    const addr = ip.map((byte, index) => {
      const kept = Math.min(8, Math.max(0, bits - index * 8));
      return byte & (0xff00 >> kept) & 0xff;
    });
    const value = table.get(bytesToKey(keyOf(bits, addr)));
    if (value !== undefined) return value;
  }
  return undefined;
}

/** connect() takes the unspecified address for this host. */
function reached(ip: IpBytes): IpBytes {
  const host = familyOf(ip) === 4 ? ip.subarray(12) : ip;
  if (host.some((byte) => byte !== 0)) return ip;
  return parseIp(familyOf(ip) === 4 ? '127.0.0.1' : '::1') ?? ip;
}

/** zh_is_group(): of IPv4 or IPv6. */
function isGroup(ip: IpBytes): boolean {
  const [first = 0] = familyOf(ip) === 4 ? ip.subarray(12) : ip;
  return familyOf(ip) === 4 ? (first & 0xf0) === 0xe0 : first === 0xff;
}

type Flagged = Pick<AclTables, 'flags' | 'dests' | 'cidrs' | 'matches'>;

function findDest(tables: Flagged, { ip, port, protocol }: JudgedEndpoint): DestEntry | undefined {
  const dest = (key: Parameters<typeof encodeDestKey>[0]): DestEntry | undefined =>
    tables.dests.get(bytesToKey(encodeDestKey(key)));
  const hasPorts = protocol === TCP || protocol === UDP;
  if (hasPorts && (tables.flags & genFlag.haveDests) !== 0) {
    const exact = dest({ gen: 0, region: 0, addr: ip, port, protocol });
    if (exact !== undefined) return exact;
  }
  if ((tables.flags & genFlag.haveCidrs) === 0) return undefined;
  const region = longest(tables.cidrs, cidrKeyBits, ip, (bits, addr) =>
    encodeCidrKey({ gen: 0, bits, addr }),
  );
  if (region === undefined) return undefined;
  const one = hasPorts ? dest({ gen: 0, region, port, protocol }) : undefined;
  return one ?? dest({ gen: 0, region, port: 0, protocol: 0 });
}

/** `blind`: a deny rule may select the task by what could not be told. */
function conclude(dest: DestEntry, sum: MatchEntry, unknown = false, blind = false): Finding {
  const common = { allow: sum.allow, unknown };
  if (sum.deny !== 0) return { ...common, verdict: 'deny', rule: sum.deny };
  if (blind) return { ...common, verdict: 'deny', rule: dest.rule };
  if (sum.allow === 0 && (dest.flags & policyFlag.restricted) !== 0)
    return { ...common, verdict: 'deny', rule: dest.rule };
  if (sum.audit !== 0) return { ...common, verdict: 'audit', rule: sum.audit };
  return { ...common, verdict: 'allow', rule: 0 };
}

/** What a program of this host may do: zh_acl_denies(). */
export function judge(tables: AclTables, task: JudgedTask, to: JudgedEndpoint): Finding {
  const found = find(tables, task, { ...to, ip: reached(to.ip) });
  if (to.protocol !== UDP || !isGroup(to.ip) || found.verdict === 'deny') return found;
  // ZH_ACL_HERE: only entries of endpoints count.
  const here = { ...tables, flags: tables.flags & genFlag.haveDests };
  const asHere = find(here, task, { ...to, ip: reached(new Uint8Array(16)) });
  return asHere.verdict === 'deny' ? asHere : found;
}

/** zh_acl_find(), and what it calls. */
function find(tables: Flagged, task: JudgedTask, to: JudgedEndpoint): Finding {
  if (tables.flags === 0) return PASSED;
  const dest = findDest(tables, to);
  if (dest === undefined) {
    return (tables.flags & genFlag.defaultDeny) === 0 ? PASSED : { ...PASSED, verdict: 'deny' };
  }
  const { policy, flags } = dest;
  let sum = NO_MATCH;
  const probe = (kind: MatchKind, value: number): void => {
    const key = encodeMatchKey({ gen: 0, policy, kind: matchKind[kind], value });
    const match = tables.matches.get(bytesToKey(key)) ?? NO_MATCH;
    sum = {
      deny: sum.deny || match.deny,
      allow: sum.allow || match.allow,
      audit: sum.audit || match.audit,
    };
  };
  let unknown = false;
  if ((flags & policyFlag.hasAny) !== 0) probe('any', 0);
  if ((flags & policyFlag.hasTags) !== 0) {
    unknown = task.cgroup === undefined || task.cgroup.overflow;
    if (!unknown) for (const tag of task.cgroup?.tags ?? []) probe('tag', tag);
  }
  if ((flags & policyFlag.hasUsers) !== 0) probe('user', task.uid);
  if ((flags & policyFlag.hasGroups) !== 0) {
    probe('group', task.gid);
    for (const group of task.groups.slice(0, GROUPS_MAX)) probe('group', group);
  }
  const blind =
    (unknown && (flags & policyFlag.tagsDeny) !== 0) ||
    (task.groups.length > GROUPS_MAX && (flags & policyFlag.groupsDeny) !== 0);
  return conclude(dest, sum, unknown, blind);
}

/** Whether a packet from outside reaches a listener or socket on the port. */
export function judgeIngress(
  tables: AclTables,
  from: IpBytes,
  to: Omit<JudgedEndpoint, 'ip'>,
): Finding {
  if ((tables.flags & genFlag.haveIngress) === 0) return PASSED;
  const key = encodeDestKey({ gen: 0, region: 0, ...to, ingress: true });
  const dest = tables.dests.get(bytesToKey(key));
  if (dest === undefined) return PASSED;
  const { policy } = dest;
  const sum = longest(tables.sources, sourceKeyBits, from, (bits, addr) =>
    encodeSourceKey({ gen: 0, policy, bits, addr }),
  );
  return conclude(dest, sum ?? NO_MATCH);
}
