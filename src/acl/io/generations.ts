/**
 * Brings compiled policies into the kernel so that no call ever meets half of
 * one: a new generation is written whole beside the one in force, and comes into
 * force with one store; backends that come and go are written within it.
 *
 *   watch new cgroups → automaton → classes of all cgroups → rules, tables
 *     → attach what judges → flip → remove the old → detach what is not needed
 */
import type { AclPart } from '../../datapath/hooks.ts';
import { genFlag, aclLayoutVersion, type AclEntry } from '../abi.ts';
import type { Step } from '../plan.ts';
import type { AclTables } from '../tables.ts';
import { fillCgroups, repairCgroups, type Learn } from './classes.ts';
import { AclKernel, genTables, type GenTable } from './kernel.ts';

/** What attaches and detaches programs: the loader. */
export interface AclAttacher {
  /** Exactly what is missing is attached. */
  attachAcl(parts: readonly AclPart[]): void;
  detachAcl(parts: readonly AclPart[]): void;
}

export interface GenerationsOptions {
  readonly kernel: AclKernel;
  readonly attacher: AclAttacher;
  /** Whether BPF LSM judges, so that its programs are to be attached. */
  readonly lsm: boolean;
  /** Where cgroup2 is mounted. */
  readonly cgroupRoot: string;
  readonly agent: { readonly tgid: number; readonly startTicks: number };
  readonly learn: Learn;
}

/** Whether anything is to be judged at all. */
export function isPolicy(tables: AclTables): boolean {
  return tables.flags !== 0 || tables.rules.size > 0;
}

function sameEntry(a: object | number | undefined, b: object | number | undefined): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  const theirs = b as Readonly<Record<string, unknown>>;
  return Object.entries(a).every(([key, value]) => theirs[key] === value);
}

type AnyTable = ReadonlyMap<string | number, object | number>;

/** Keys that are missing, are too many, or have another value. */
function differences(held: AnyTable, wanted: AnyTable): number {
  let count = 0;
  for (const [key, entry] of wanted) if (!sameEntry(held.get(key), entry)) count++;
  for (const key of held.keys()) if (!wanted.has(key)) count++;
  return count;
}

const contents = ['dests', 'cidrs', 'matches', 'sources', 'rules'] as const;

/** Whether both say the same, so that nothing needs to be written. */
export function sameTables(a: AclTables, b: AclTables): boolean {
  return (
    a.flags === b.flags &&
    a.automaton === b.automaton &&
    contents.every((name) => a[name] === b[name] || differences(a[name], b[name]) === 0)
  );
}

export class Generations {
  readonly #kernel: AclKernel;
  readonly #options: GenerationsOptions;
  #header: AclEntry;
  #cgroups = 0;

  constructor(options: GenerationsOptions) {
    this.#options = options;
    this.#kernel = options.kernel;
    this.#header = options.kernel.header();
  }

  get number(): number {
    return this.#header.gen;
  }

  /** Classified ones, as of the last look at the tree. */
  get cgroups(): number {
    return this.#cgroups;
  }

  get #automaton(): number {
    return this.#kernel.generation(this.#header.gen)?.automaton ?? 0;
  }

  /** The programs that a policy needs. */
  parts(tables: AclTables): AclPart[] {
    if (!isPolicy(tables)) return [];
    return [
      'watch',
      ...(this.#options.lsm ? (['judge'] as const) : []),
      ...((tables.flags & genFlag.haveIngress) === 0 ? [] : (['ingress'] as const)),
    ];
  }

  /** What is wrong with what the kernel holds, one line a map; empty when it is this policy. */
  compare(tables: AclTables): string[] {
    const header = this.#kernel.header();
    if (header.layout !== aclLayoutVersion) return ['zh_acl: never written'];
    const gen = this.#kernel.generation(header.gen);
    if (gen === undefined) return [`zh_acl_gens: generation ${header.gen} is not there`];
    const reasons: string[] = [];
    if (gen.flags !== tables.flags) reasons.push('zh_acl_gens: other flags');
    const { tables: held, others } = this.#kernel.read(header.gen);
    for (const name of [...Object.keys(genTables), 'rules'] as (GenTable | 'rules')[]) {
      const count = differences(held[name], tables[name]);
      if (count > 0) reasons.push(`zh_acl_${name}: ${count} entries`);
    }
    if (others > 0) reasons.push(`${others} entries of other generations`);
    if (isPolicy(tables) && !this.#kernel.holdsAutomaton(gen.automaton, tables.automaton)) {
      reasons.push('zh_acl_globs, zh_acl_emits: another automaton');
    }
    return reasons;
  }

  /** Puts the classes of cgroups right; one line for each that was wrong. */
  repairCgroups(tables: AclTables): string[] {
    if (!isPolicy(tables)) return [];
    const { cgroupRoot, learn } = this.#options;
    const { automaton } = tables;
    const { found, reasons } = repairCgroups(
      this.#kernel,
      this.#automaton,
      automaton,
      cgroupRoot,
      learn,
    );
    this.#cgroups = found;
    return reasons;
  }

  /** This process is exempt from now on. */
  exemptAgent(): void {
    const { tgid, startTicks } = this.#options.agent;
    this.#write({ agentTgid: tgid, agentStart: BigInt(startTicks) });
  }

  /** Has exactly this policy enforced; `before` is what was applied last, if that is known to be so. */
  replace(tables: AclTables, before: AclTables | undefined): number {
    const { attacher } = this.#options;
    this.#header = this.#kernel.header();
    const old = this.#header.gen;
    const gen = (old + 1) >>> 0;
    // What a write that failed left of this generation would count as part of it.
    if (before === undefined) this.#kernel.deleteOtherGenerations(old);
    const parts = this.parts(tables);
    if (parts.length > 0) attacher.attachAcl(['watch']);
    const automaton = this.#automatonFor(tables, before);
    let writes = automaton.writes + this.#writeRules(tables);
    writes += this.#kernel.writeTables(gen, tables);
    this.#kernel.setGeneration({ gen, automaton: automaton.number, flags: tables.flags });
    attacher.attachAcl(parts);
    this.#write({ gen });
    writes += 2;
    this.#removeOld(old, before, tables);
    const { number } = automaton;
    this.#write({ automata: [parts.length > 0 ? number : 0, 0] });
    if (number !== automaton.old) writes += this.#kernel.deleteOtherAutomata(number);
    const rest = (['watch', 'judge', 'ingress'] as const).filter((part) => !parts.includes(part));
    attacher.detachAcl(rest);
    return writes;
  }

  /** Within the generation in force: see plan.ts. */
  write(steps: readonly Step[]): void {
    const { gen } = this.#header;
    for (const step of steps) {
      if ('set' in step) this.#kernel.setEntries(step.table, gen, step.set);
      else this.#kernel.deleteEntries(step.table, gen, step.drop);
    }
  }

  /** The number of the automaton, made known and with every cgroup classified. */
  #automatonFor(
    tables: AclTables,
    before: AclTables | undefined,
  ): { number: number; old: number; writes: number } {
    const { cgroupRoot, learn } = this.#options;
    const old = this.#automaton;
    if (!isPolicy(tables)) return { number: 0, old, writes: 0 };
    if (old !== 0 && before?.automaton === tables.automaton) return { number: old, old, writes: 0 };
    const number = (Math.max(old, ...this.#header.automata) % 0xffff_fffe) + 1;
    // Of an earlier try that failed.
    this.#write({ automata: [old, 0] });
    this.#kernel.deleteOtherAutomata(old);
    let writes = this.#kernel.setAutomaton(number, tables.automaton);
    this.#write({ automata: [old, number] });
    this.#cgroups = fillCgroups(this.#kernel, number, tables.automaton, cgroupRoot, learn);
    writes += this.#cgroups;
    return { number, old, writes };
  }

  /** Names of numbers come before anything counts under them. */
  #writeRules(tables: AclTables): number {
    const held = this.#kernel.rules();
    const fresh = new Map(
      [...tables.rules].filter(([number, rule]) => !sameEntry(held.get(number), rule)),
    );
    for (const [number, rule] of fresh) {
      if (held.get(number)?.name !== rule.name) this.#kernel.clearStats(number);
    }
    return this.#kernel.setRules(fresh);
  }

  #removeOld(gen: number, before: AclTables | undefined, tables: AclTables): void {
    if (before === undefined) {
      this.#kernel.deleteOtherGenerations(this.#header.gen);
    } else {
      for (const name of ['cidrs', 'dests', 'sources', 'matches'] as const) {
        this.#kernel.deleteEntries(name, gen, before[name].keys());
      }
    }
    const held = before?.rules ?? this.#kernel.rules();
    this.#kernel.deleteRules([...held.keys()].filter((number) => !tables.rules.has(number)));
  }

  #write(change: Partial<AclEntry>): void {
    this.#kernel.setHeader(change);
    this.#header = this.#kernel.header();
  }
}
