/**
 * What the kernel should hold for access control, without generations: the
 * compiler makes it (compile.ts), judge.ts reads it as bpf/acl.h does, and
 * plan.ts turns the difference between two into writes.
 *
 * Keys are strings, so that tables can be compared and diffed as Maps.
 */

/** Of an egress endpoint or block, or an ingress port; struct zh_acl_dest. */
export interface DestEntry {
  /** ≥ 1, private to one AclTables. */
  readonly policy: number;
  /** enum zh_acl_policy_flags */
  readonly flags: number;
  /** Number of the allow rule that closes it; 0: none. */
  readonly rule: number;
}

/** Rule numbers; 0: none. struct zh_acl_match. */
export interface MatchEntry {
  readonly deny: number;
  readonly allow: number;
  readonly audit: number;
}

/** struct zh_acl_rule */
export interface RuleEntry {
  readonly name: string;
  readonly action: 'allow' | 'deny' | 'audit';
}

/** A transducer over cgroup paths; see automaton.ts. */
export interface Automaton {
  /** `state byte` → next state; byte 256: any but `/` without an entry. */
  readonly globs: ReadonlyMap<string, number>;
  /** State → tags of a path that ends there. */
  readonly emits: ReadonlyMap<number, readonly number[]>;
}

export interface AclTables {
  /** enum zh_acl_gen_flags */
  readonly flags: number;
  /** By struct zh_acl_dest_key with gen 0, as a string (datapath/abi.ts, bytesToKey). */
  readonly dests: ReadonlyMap<string, DestEntry>;
  /** By struct zh_acl_cidr_key with gen 0, as a string → region ≥ 1. */
  readonly cidrs: ReadonlyMap<string, number>;
  /** By struct zh_acl_match_key with gen 0, as a string. */
  readonly matches: ReadonlyMap<string, MatchEntry>;
  /** By struct zh_acl_source_key with gen 0, as a string. */
  readonly sources: ReadonlyMap<string, MatchEntry>;
  /** By rule number. */
  readonly rules: ReadonlyMap<number, RuleEntry>;
  /** Changes only when the selectors of cgroups do; compared by identity. */
  readonly automaton: Automaton;
}
