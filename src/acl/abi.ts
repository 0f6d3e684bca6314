/**
 * The bytes of bpf/acl_abi.h, on this side. test/bpf/abi.test.ts compares every
 * offset here with the BTF of the built object.
 *
 * Byte order as in src/datapath/abi.ts: addresses and ports in network order,
 * everything else in host order.
 */
import type { Layout } from '../datapath/abi.ts';

/** ZH_ACL_LAYOUT */
export const aclLayoutVersion = 1;

/** ZH_ACL_TAGS: selectors that one cgroup may match. */
export const cgroupTagsMax = 12;
/** A rule's name, without its NUL. */
export const ruleNameBytesMax = 63;
/** ZH_ACL_ANY_BYTE: every byte but `/` that has no entry. */
export const anyByte = 256;
/** ZH_ACL_START: state of the cgroup root. 0: nothing below can match. */
export const startState = 1;

/** enum zh_acl_gen_flags */
export const genFlag = { defaultDeny: 1, haveDests: 2, haveCidrs: 4, haveIngress: 8 } as const;

/** enum zh_acl_policy_flags */
export const policyFlag = {
  restricted: 1,
  hasAny: 2,
  hasTags: 4,
  hasUsers: 8,
  hasGroups: 16,
  tagsDeny: 32,
  groupsDeny: 64,
} as const;

/** enum zh_acl_kind */
export const matchKind = { any: 0, tag: 1, user: 2, group: 3 } as const;
export type MatchKind = keyof typeof matchKind;

/** enum zh_acl_verdict */
export const verdictNumber = { allow: 0, deny: 1, audit: 2 } as const;

/** enum zh_acl_hook */
export const aclHook = {
  lsmConnect: 1,
  lsmSendmsg: 2,
  cgroupConnect: 3,
  cgroupSendmsg: 4,
  ingress: 5,
} as const;

/** Bits of a key before its address: prefixlen = this + the prefix as for IPv6. */
export const cidrKeyBits = 32;
export const sourceKeyBits = 64;

export const aclLayouts = {
  acl: {
    struct: 'zh_acl',
    bytes: 32,
    fields: {
      gen: [0, 4],
      layout: [4, 4],
      automata: [8, 8],
      agent_tgid: [16, 4],
      pad: [20, 4],
      agent_start: [24, 8],
    },
  },
  gen: {
    struct: 'zh_acl_gen',
    bytes: 16,
    fields: { gen: [0, 4], automaton: [4, 4], flags: [8, 4], pad: [12, 4] },
  },
  destKey: {
    struct: 'zh_acl_dest_key',
    bytes: 28,
    fields: {
      gen: [0, 4],
      region: [4, 4],
      addr: [8, 16],
      port: [24, 2],
      protocol: [26, 1],
      ingress: [27, 1],
    },
  },
  dest: {
    struct: 'zh_acl_dest',
    bytes: 12,
    fields: { policy: [0, 4], flags: [4, 4], rule: [8, 4] },
  },
  cidrKey: {
    struct: 'zh_acl_cidr_key',
    bytes: 24,
    fields: { prefixlen: [0, 4], gen: [4, 4], addr: [8, 16] },
  },
  sourceKey: {
    struct: 'zh_acl_source_key',
    bytes: 28,
    fields: { prefixlen: [0, 4], gen: [4, 4], policy: [8, 4], addr: [12, 16] },
  },
  matchKey: {
    struct: 'zh_acl_match_key',
    bytes: 16,
    fields: { gen: [0, 4], policy: [4, 4], kind: [8, 4], value: [12, 4] },
  },
  match: {
    struct: 'zh_acl_match',
    bytes: 12,
    fields: { deny: [0, 4], allow: [4, 4], audit: [8, 4] },
  },
  cgroupKey: {
    struct: 'zh_acl_cgroup_key',
    bytes: 16,
    fields: { id: [0, 8], automaton: [8, 4], pad: [12, 4] },
  },
  cgroup: {
    struct: 'zh_acl_cgroup',
    bytes: 56,
    fields: { state: [0, 4], count: [4, 2], overflow: [6, 2], tags: [8, 48] },
  },
  globKey: {
    struct: 'zh_acl_glob_key',
    bytes: 12,
    fields: { automaton: [0, 4], state: [4, 4], byte: [8, 4] },
  },
  emitKey: { struct: 'zh_acl_emit_key', bytes: 8, fields: { automaton: [0, 4], state: [4, 4] } },
  emit: { struct: 'zh_acl_emit', bytes: 52, fields: { count: [0, 4], tags: [4, 48] } },
  place: { struct: 'zh_acl_place', bytes: 264, fields: { parent: [0, 8], name: [8, 256] } },
  rule: {
    struct: 'zh_acl_rule',
    bytes: 72,
    fields: { name: [0, 64], action: [64, 4], pad: [68, 4] },
  },
  stats: {
    struct: 'zh_acl_stats',
    bytes: 24,
    fields: { denied: [0, 8], allowed: [8, 8], audited: [16, 8] },
  },
  counts: {
    struct: 'zh_acl_counts',
    bytes: 32,
    fields: { dropped: [0, 8], unknown: [8, 8], unclassed: [16, 8], pad: [24, 8] },
  },
  event: {
    struct: 'zh_acl_event',
    bytes: 88,
    fields: {
      boot_ns: [0, 8],
      cgroup_id: [8, 8],
      rule: [16, 4],
      pid: [20, 4],
      uid: [24, 4],
      gid: [28, 4],
      addr: [32, 16],
      vip: [48, 16],
      port: [64, 2],
      vip_port: [66, 2],
      protocol: [68, 1],
      verdict: [69, 1],
      hook: [70, 1],
      unknown: [71, 1],
      comm: [72, 16],
    },
  },
} as const satisfies Record<string, Layout>;

export interface AclEntry {
  readonly gen: number;
  readonly layout: number;
  readonly automata: readonly [number, number];
  readonly agentTgid: number;
  /** Clock ticks since boot: proc(5), stat, field 22. */
  readonly agentStart: bigint;
}

export interface GenEntry {
  readonly gen: number;
  readonly automaton: number;
  readonly flags: number;
}

export interface DestKey {
  readonly gen: number;
  /** 0: an exact endpoint, or ingress. */
  readonly region: number;
  /** 16 bytes, network order; absent: zero. */
  readonly addr?: Uint8Array;
  readonly port: number;
  /** IP protocol number; 0 with port 0: every one. */
  readonly protocol: number;
  readonly ingress?: boolean;
}

export interface DestValue {
  readonly policy: number;
  readonly flags: number;
  readonly rule: number;
}

export interface CidrKey {
  readonly gen: number;
  /** As for IPv6: an IPv4 prefix plus 96. */
  readonly bits: number;
  readonly addr: Uint8Array;
}

export interface SourceKey extends CidrKey {
  readonly policy: number;
}

export interface MatchKey {
  readonly gen: number;
  readonly policy: number;
  readonly kind: number;
  readonly value: number;
}

export interface MatchValue {
  readonly deny: number;
  readonly allow: number;
  readonly audit: number;
}

export interface CgroupKey {
  readonly id: bigint;
  readonly automaton: number;
}

export interface CgroupValue {
  readonly state: number;
  readonly tags: readonly number[];
  /** More tags than fit: those that fit are in `tags`. */
  readonly overflow: boolean;
}

export interface GlobKey {
  readonly automaton: number;
  readonly state: number;
  readonly byte: number;
}

export interface EmitKey {
  readonly automaton: number;
  readonly state: number;
}

export interface PlaceValue {
  /** Id of the cgroup above. */
  readonly parent: bigint;
  readonly name: string;
}

export interface RuleValue {
  readonly name: string;
  readonly action: 'allow' | 'deny' | 'audit';
}

export interface StatsEntry {
  readonly denied: bigint;
  readonly allowed: bigint;
  readonly audited: bigint;
}

export interface CountsEntry {
  readonly dropped: bigint;
  readonly unknown: bigint;
  readonly unclassed: bigint;
}

export interface AclEvent {
  readonly bootNs: bigint;
  readonly cgroupId: bigint;
  readonly rule: number;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly addr: Uint8Array;
  readonly vip: Uint8Array;
  readonly port: number;
  readonly vipPort: number;
  readonly protocol: number;
  readonly verdict: number;
  readonly hook: number;
  readonly unknown: boolean;
  readonly comm: Uint8Array;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** u32 words in host order. */
function words(bytes: number, ...values: readonly number[]): Uint8Array {
  const out = new Uint8Array(bytes);
  const view = viewOf(out);
  values.forEach((value, i) => view.setUint32(i * 4, value, true));
  return out;
}

const wordAt = (bytes: Uint8Array, at: number): number => viewOf(bytes).getUint32(at, true);

export function encodeAcl(entry: AclEntry): Uint8Array {
  const { gen, layout, automata, agentTgid, agentStart } = entry;
  const bytes = words(aclLayouts.acl.bytes, gen, layout, automata[0], automata[1], agentTgid);
  viewOf(bytes).setBigUint64(24, agentStart, true);
  return bytes;
}

export function decodeAcl(bytes: Uint8Array): AclEntry {
  return {
    gen: wordAt(bytes, 0),
    layout: wordAt(bytes, 4),
    automata: [wordAt(bytes, 8), wordAt(bytes, 12)],
    agentTgid: wordAt(bytes, 16),
    agentStart: viewOf(bytes).getBigUint64(24, true),
  };
}

export function encodeGen(entry: GenEntry): Uint8Array {
  return words(aclLayouts.gen.bytes, entry.gen, entry.automaton, entry.flags);
}

export function decodeGen(bytes: Uint8Array): GenEntry {
  return { gen: wordAt(bytes, 0), automaton: wordAt(bytes, 4), flags: wordAt(bytes, 8) };
}

export function encodeDestKey(key: DestKey): Uint8Array {
  const bytes = words(aclLayouts.destKey.bytes, key.gen, key.region);
  if (key.addr !== undefined) bytes.set(key.addr, 8);
  viewOf(bytes).setUint16(24, key.port);
  bytes[26] = key.protocol;
  bytes[27] = key.ingress === true ? 1 : 0;
  return bytes;
}

export function decodeDestKey(bytes: Uint8Array): Required<DestKey> {
  return {
    gen: wordAt(bytes, 0),
    region: wordAt(bytes, 4),
    addr: bytes.slice(8, 24),
    port: viewOf(bytes).getUint16(24),
    protocol: bytes[26] ?? 0,
    ingress: bytes[27] === 1,
  };
}

export function encodeDest(value: DestValue): Uint8Array {
  return words(aclLayouts.dest.bytes, value.policy, value.flags, value.rule);
}

export function decodeDest(bytes: Uint8Array): DestValue {
  return { policy: wordAt(bytes, 0), flags: wordAt(bytes, 4), rule: wordAt(bytes, 8) };
}

export function encodeCidrKey(key: CidrKey): Uint8Array {
  const bytes = words(aclLayouts.cidrKey.bytes, cidrKeyBits + key.bits, key.gen);
  bytes.set(key.addr, 8);
  return bytes;
}

export function decodeCidrKey(bytes: Uint8Array): CidrKey {
  const bits = wordAt(bytes, 0) - cidrKeyBits;
  return { gen: wordAt(bytes, 4), bits, addr: bytes.slice(8, 24) };
}

export function encodeSourceKey(key: SourceKey): Uint8Array {
  const bits = sourceKeyBits + key.bits;
  const bytes = words(aclLayouts.sourceKey.bytes, bits, key.gen, key.policy);
  bytes.set(key.addr, 12);
  return bytes;
}

export function decodeSourceKey(bytes: Uint8Array): SourceKey {
  return {
    gen: wordAt(bytes, 4),
    policy: wordAt(bytes, 8),
    bits: wordAt(bytes, 0) - sourceKeyBits,
    addr: bytes.slice(12, 28),
  };
}

export function encodeMatchKey(key: MatchKey): Uint8Array {
  return words(aclLayouts.matchKey.bytes, key.gen, key.policy, key.kind, key.value);
}

export function decodeMatchKey(bytes: Uint8Array): MatchKey {
  return {
    gen: wordAt(bytes, 0),
    policy: wordAt(bytes, 4),
    kind: wordAt(bytes, 8),
    value: wordAt(bytes, 12),
  };
}

export function encodeMatch(value: MatchValue): Uint8Array {
  return words(aclLayouts.match.bytes, value.deny, value.allow, value.audit);
}

export function decodeMatch(bytes: Uint8Array): MatchValue {
  return { deny: wordAt(bytes, 0), allow: wordAt(bytes, 4), audit: wordAt(bytes, 8) };
}

export function encodeCgroupKey(key: CgroupKey): Uint8Array {
  const bytes = new Uint8Array(aclLayouts.cgroupKey.bytes);
  viewOf(bytes).setBigUint64(0, key.id, true);
  viewOf(bytes).setUint32(8, key.automaton, true);
  return bytes;
}

export function decodeCgroupKey(bytes: Uint8Array): CgroupKey {
  return { id: viewOf(bytes).getBigUint64(0, true), automaton: wordAt(bytes, 8) };
}

/** Tags that do not fit are left out: the caller sets `overflow`. */
export function encodeCgroup(value: CgroupValue): Uint8Array {
  const tags = value.tags.slice(0, cgroupTagsMax);
  const bytes = words(aclLayouts.cgroup.bytes, value.state, 0, ...tags);
  viewOf(bytes).setUint16(4, tags.length, true);
  viewOf(bytes).setUint16(6, value.overflow ? 1 : 0, true);
  return bytes;
}

export function decodeCgroup(bytes: Uint8Array): CgroupValue {
  const count = Math.min(viewOf(bytes).getUint16(4, true), cgroupTagsMax);
  return {
    state: wordAt(bytes, 0),
    tags: Array.from({ length: count }, (_, i) => wordAt(bytes, 8 + i * 4)),
    overflow: viewOf(bytes).getUint16(6, true) !== 0,
  };
}

export function encodeGlobKey(key: GlobKey): Uint8Array {
  return words(aclLayouts.globKey.bytes, key.automaton, key.state, key.byte);
}

export function decodeGlobKey(bytes: Uint8Array): GlobKey {
  return { automaton: wordAt(bytes, 0), state: wordAt(bytes, 4), byte: wordAt(bytes, 8) };
}

export function encodeEmitKey(key: EmitKey): Uint8Array {
  return words(aclLayouts.emitKey.bytes, key.automaton, key.state);
}

export function decodeEmitKey(bytes: Uint8Array): EmitKey {
  return { automaton: wordAt(bytes, 0), state: wordAt(bytes, 4) };
}

/** More than cgroupTagsMax: the count says so, and the kernel treats such a cgroup as unknown. */
export function encodeEmit(tags: readonly number[]): Uint8Array {
  return words(aclLayouts.emit.bytes, tags.length, ...tags.slice(0, cgroupTagsMax));
}

/** `count` may exceed the tags that fit. */
export function decodeEmit(bytes: Uint8Array): { count: number; tags: readonly number[] } {
  const count = wordAt(bytes, 0);
  const held = Math.min(count, cgroupTagsMax);
  return { count, tags: Array.from({ length: held }, (_, i) => wordAt(bytes, 4 + i * 4)) };
}

export function encodePlaceKey(id: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, id, true);
  return bytes;
}

export function decodePlaceKey(bytes: Uint8Array): bigint {
  return viewOf(bytes).getBigUint64(0, true);
}

/** UTF-8, or a character a byte where it is none; the pure part of the tree has no TextDecoder. */
function textOf(bytes: Uint8Array): string {
  const escaped = Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, '0')}`);
  try {
    return decodeURIComponent(escaped.join(''));
  } catch {
    return String.fromCharCode(...bytes);
  }
}

export function decodePlace(bytes: Uint8Array): PlaceValue {
  const name = bytes.subarray(8);
  const end = name.indexOf(0);
  return {
    parent: viewOf(bytes).getBigUint64(0, true),
    name: textOf(end < 0 ? name : name.subarray(0, end)),
  };
}

/** Names are ASCII (validated where they enter), NUL-padded. */
export function encodeRule(value: RuleValue): Uint8Array {
  const bytes = new Uint8Array(aclLayouts.rule.bytes);
  const length = Math.min(value.name.length, ruleNameBytesMax);
  for (let i = 0; i < length; i++) bytes[i] = value.name.charCodeAt(i) & 0x7f;
  viewOf(bytes).setUint32(64, verdictNumber[value.action], true);
  return bytes;
}

export function decodeRule(bytes: Uint8Array): RuleValue {
  const end = bytes.subarray(0, 64).indexOf(0);
  const name = String.fromCharCode(...bytes.subarray(0, end < 0 ? 64 : end));
  const action = wordAt(bytes, 64);
  return { name, action: action === 1 ? 'deny' : action === 2 ? 'audit' : 'allow' };
}

/** The value of a per-CPU map: one struct after another. */
function sumPerCpu(bytes: Uint8Array, structBytes: number): bigint[] {
  const view = viewOf(bytes);
  const sums = Array.from({ length: structBytes / 8 }, () => 0n);
  for (let at = 0; at + 8 <= bytes.byteLength; at += 8) {
    const field = (at % structBytes) / 8;
    sums[field] = (sums[field] ?? 0n) + view.getBigUint64(at, true);
  }
  return sums;
}

/** All CPUs together. */
export function decodeStats(bytes: Uint8Array): StatsEntry {
  const [denied = 0n, allowed = 0n, audited = 0n] = sumPerCpu(bytes, aclLayouts.stats.bytes);
  return { denied, allowed, audited };
}

/** All CPUs together. */
export function decodeCounts(bytes: Uint8Array): CountsEntry {
  const [dropped = 0n, unknown = 0n, unclassed = 0n] = sumPerCpu(bytes, aclLayouts.counts.bytes);
  return { dropped, unknown, unclassed };
}

export function decodeEvent(bytes: Uint8Array): AclEvent {
  const view = viewOf(bytes);
  return {
    bootNs: view.getBigUint64(0, true),
    cgroupId: view.getBigUint64(8, true),
    rule: wordAt(bytes, 16),
    pid: wordAt(bytes, 20),
    uid: wordAt(bytes, 24),
    gid: wordAt(bytes, 28),
    addr: bytes.slice(32, 48),
    vip: bytes.slice(48, 64),
    port: view.getUint16(64),
    vipPort: view.getUint16(66),
    protocol: bytes[68] ?? 0,
    verdict: bytes[69] ?? 0,
    hook: bytes[70] ?? 0,
    unknown: bytes[71] === 1,
    comm: bytes.slice(72, 88),
  };
}
