/**
 * From sets of rules to policies: what the kernel asks once it knows which
 * rules name a destination. The same set gives the same policy everywhere, and
 * the same number whenever it is compiled, so that two compilations of one
 * state are equal byte for byte.
 */
import { fnv1a64 } from '../catalog/vips.ts';
import { bytesToKey } from '../datapath/abi.ts';
import type { Cidr } from '../net/cidr.ts';
import type { AclAction } from '../state/records.ts';
import { encodeMatchKey, encodeSourceKey, matchKind, policyFlag, type MatchKind } from './abi.ts';
import { Blocks } from './blocks.ts';
import type { DestEntry, MatchEntry } from './tables.ts';

/** Whom a rule selects among the programs of this host, in the kernel's terms. */
export interface Workload {
  readonly kind: MatchKind;
  readonly value: number;
}

export interface PreparedRule {
  /** Of the kernel: ≥ 1, stays with the name. */
  readonly number: number;
  readonly name: string;
  readonly action: AclAction;
  /** Whether it speaks of this host's programs at all; those it selects may be none. */
  readonly egress: boolean;
  readonly workloads: readonly Workload[];
  readonly sources: readonly Cidr[];
}

/** Rules by their place in the order of names. Equal sets are one object. */
export interface RuleSet {
  readonly key: string;
  readonly rules: readonly number[];
}

export class RuleSets {
  readonly empty: RuleSet = { key: '', rules: [] };
  readonly #sets = new Map<string, RuleSet>([['', this.empty]]);
  readonly #unions = new Map<RuleSet, Map<RuleSet, RuleSet>>();

  of(rules: Iterable<number>): RuleSet {
    const sorted = [...new Set(rules)].toSorted((a, b) => a - b);
    const key = sorted.join(' ');
    let set = this.#sets.get(key);
    if (set === undefined) {
      set = { key, rules: sorted };
      this.#sets.set(key, set);
    }
    return set;
  }

  union(a: RuleSet, b: RuleSet): RuleSet {
    if (a === b || b === this.empty) return a;
    if (a === this.empty) return b;
    let known = this.#unions.get(a);
    if (known === undefined) {
      known = new Map();
      this.#unions.set(a, known);
    }
    let set = known.get(b);
    if (set === undefined) {
      set = this.of([...a.rules, ...b.rules]);
      known.set(b, set);
    }
    return set;
  }
}

/** What a policy puts into the tables. */
export interface Policy {
  readonly dest: DestEntry;
  readonly matches: ReadonlyMap<string, MatchEntry>;
  readonly sources: ReadonlyMap<string, MatchEntry>;
}

const NO_MATCH: MatchEntry = { deny: 0, allow: 0, audit: 0 };

const flagOfKind: Readonly<Record<MatchKind, number>> = {
  any: policyFlag.hasAny,
  tag: policyFlag.hasTags,
  user: policyFlag.hasUsers,
  group: policyFlag.hasGroups,
};

/** The first of each action stays. */
function withRule(match: MatchEntry, { action, number }: PreparedRule): MatchEntry {
  return match[action] === 0 ? { ...match, [action]: number } : match;
}

/** FNV-1a folded to 31 bits; ≥ 1. */
function hash(text: string): number {
  const wide = fnv1a64(text);
  return Number((wide ^ (wide >> 32n)) & 0x7fffffffn) || 1;
}

export class Policies {
  readonly #rules: readonly PreparedRule[];
  readonly #defaultDeny: boolean;
  readonly #hash: (text: string) => number;
  readonly #numbers = new Map<number, string>();
  readonly #egress = new Map<RuleSet, Policy>();
  readonly #ingress = new Map<RuleSet, Policy>();
  #names: ReadonlyMap<number, string> | undefined;

  /** `hashOf` is for the test of collisions alone. */
  constructor(rules: readonly PreparedRule[], defaultDeny: boolean, hashOf = hash) {
    this.#rules = rules;
    this.#defaultDeny = defaultDeny;
    this.#hash = hashOf;
  }

  /** For the programs of this host. */
  egress(set: RuleSet): Policy {
    let policy = this.#egress.get(set);
    if (policy === undefined) {
      policy = this.#makeEgress(set);
      this.#egress.set(set, policy);
    }
    return policy;
  }

  /** For what comes from outside. */
  ingress(set: RuleSet): Policy {
    let policy = this.#ingress.get(set);
    if (policy === undefined) {
      policy = this.#makeIngress(set);
      this.#ingress.set(set, policy);
    }
    return policy;
  }

  #rulesOf(set: RuleSet): readonly PreparedRule[] {
    return set.rules.map((index) => this.#rules[index] as PreparedRule);
  }

  /** A hash of what it says; the next free number where two meet. */
  #number(direction: string, rules: readonly PreparedRule[]): number {
    const text = `${direction} ${rules.map((rule) => rule.number).join(' ')}`;
    let number = this.#hash(text);
    while ((this.#numbers.get(number) ?? text) !== text) number = (number % 0x7fffffff) + 1;
    this.#numbers.set(number, text);
    return number;
  }

  #makeEgress(set: RuleSet): Policy {
    const rules = this.#rulesOf(set);
    const policy = this.#number('egress', rules);
    const matches = new Map<string, MatchEntry>();
    const closing = rules.find(({ action }) => action === 'allow')?.number;
    let flags = closing !== undefined || this.#defaultDeny ? policyFlag.restricted : 0;
    for (const rule of rules) {
      for (const { kind, value } of rule.workloads) {
        flags |= flagOfKind[kind];
        if (kind === 'tag' && rule.action === 'deny') flags |= policyFlag.tagsDeny;
        if (kind === 'group' && rule.action === 'deny') flags |= policyFlag.groupsDeny;
        const key = bytesToKey(encodeMatchKey({ gen: 0, policy, kind: matchKind[kind], value }));
        matches.set(key, withRule(matches.get(key) ?? NO_MATCH, rule));
      }
    }
    return { dest: { policy, flags, rule: closing ?? 0 }, matches, sources: new Map() };
  }

  #makeIngress(set: RuleSet): Policy {
    const rules = this.#rulesOf(set);
    const policy = this.#number('ingress', rules);
    const closing = rules.find(({ action }) => action === 'allow')?.number;
    const blocks = new Blocks(rules.flatMap((rule) => rule.sources));
    const own = new Map<number, Set<PreparedRule>>();
    for (const rule of rules) {
      for (const cidr of rule.sources) {
        const number = blocks.get(cidr)?.number ?? 0;
        own.set(number, (own.get(number) ?? new Set()).add(rule));
      }
    }
    const held = new Map<number, MatchEntry>();
    const sources = new Map<string, MatchEntry>();
    for (const { number, parent, bits, cidr } of blocks.all) {
      const match = this.#chained(own.get(number) ?? [], held.get(parent?.number ?? 0));
      held.set(number, match);
      sources.set(bytesToKey(encodeSourceKey({ gen: 0, policy, bits, addr: cidr.first })), match);
    }
    const flags = closing === undefined ? 0 : policyFlag.restricted;
    return { dest: { policy, flags, rule: closing ?? 0 }, matches: new Map(), sources };
  }

  /** A block's own rules and those of the blocks around it; of each action the first by name. */
  #chained(own: Iterable<PreparedRule>, around: MatchEntry = NO_MATCH): MatchEntry {
    let match = NO_MATCH;
    for (const rule of own) match = withRule(match, rule);
    const first = (a: number, b: number): number =>
      a === 0 || b === 0 ? a || b : this.#nameOf(a) < this.#nameOf(b) ? a : b;
    return {
      deny: first(match.deny, around.deny),
      allow: first(match.allow, around.allow),
      audit: first(match.audit, around.audit),
    };
  }

  #nameOf(number: number): string {
    this.#names ??= new Map(this.#rules.map((rule) => [rule.number, rule.name]));
    return this.#names.get(number) ?? '';
  }
}
