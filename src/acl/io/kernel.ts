/**
 * The maps of access control: writes generations and differences, reads
 * everything back. Knows bytes and order, not what rules mean.
 */
import type { BpfMap } from '../../../addon/index.ts';
import { bytesToKey, decodeU32, encodeU32, keyToBytes } from '../../datapath/abi.ts';
import { KernelError } from '../../datapath/io/kernel.ts';
import * as abi from '../abi.ts';
import type { AclTables, Automaton, DestEntry, MatchEntry, RuleEntry } from '../tables.ts';

/** Maps whose keys carry a generation: where in the key, and their values. */
interface Table<Entry> {
  readonly map: string;
  readonly genAt: number;
  readonly encode: (entry: Entry) => Uint8Array;
  readonly decode: (bytes: Uint8Array) => Entry;
}

const dests: Table<DestEntry> = {
  map: 'zh_acl_dests',
  genAt: 0,
  encode: abi.encodeDest,
  decode: abi.decodeDest,
};
const cidrs: Table<number> = {
  map: 'zh_acl_cidrs',
  genAt: 4,
  encode: encodeU32,
  decode: decodeU32,
};
const matches: Table<MatchEntry> = {
  map: 'zh_acl_matches',
  genAt: 0,
  encode: abi.encodeMatch,
  decode: abi.decodeMatch,
};
const sources: Table<MatchEntry> = {
  map: 'zh_acl_sources',
  genAt: 4,
  encode: abi.encodeMatch,
  decode: abi.decodeMatch,
};

/** In the order of writing: what is pointed at comes before what points. */
export const genTables = { matches, sources, dests, cidrs } as const;
export type GenTable = keyof typeof genTables;
const tableNames: readonly GenTable[] = ['matches', 'sources', 'dests', 'cidrs'];

type Held = Omit<AclTables, 'automaton'>;

export interface HeldCgroup {
  readonly key: abi.CgroupKey;
  readonly value: abi.CgroupValue;
}

function withGen(key: string, genAt: number, gen: number): Uint8Array {
  const bytes = keyToBytes(key);
  new DataView(bytes.buffer).setUint32(genAt, gen, true);
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export class AclKernel {
  readonly #open: (name: string) => BpfMap;
  readonly #maps = new Map<string, BpfMap>();

  /** `open` gives a handle of its own, which close() closes. */
  constructor(open: (name: string) => BpfMap) {
    this.#open = open;
  }

  close(): void {
    for (const map of this.#maps.values()) map.close();
    this.#maps.clear();
  }

  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined) {
      map = this.#open(name);
      this.#maps.set(name, map);
    }
    return map;
  }

  header(): abi.AclEntry {
    return abi.decodeAcl(this.map('zh_acl').get(encodeU32(0)) ?? new Uint8Array(32));
  }

  /** One store in the kernel for each aligned word: `gen` changes at once. */
  setHeader(change: Partial<abi.AclEntry>): void {
    const header = { ...this.header(), ...change, layout: abi.aclLayoutVersion };
    this.#set('zh_acl', encodeU32(0), abi.encodeAcl(header));
  }

  /** What zh_acl_gens says of the generation; undefined when it is of another. */
  generation(gen: number): abi.GenEntry | undefined {
    const bytes = this.map('zh_acl_gens').get(encodeU32(gen & 1));
    const entry = bytes === undefined ? undefined : abi.decodeGen(bytes);
    return entry?.gen === gen ? entry : undefined;
  }

  setGeneration(entry: abi.GenEntry): void {
    this.#set('zh_acl_gens', encodeU32(entry.gen & 1), abi.encodeGen(entry));
  }

  /** Writes all entries of a generation; none of them counts before the flip. */
  writeTables(gen: number, tables: AclTables): number {
    let writes = 0;
    for (const name of tableNames) writes += this.setEntries(name, gen, tables[name]);
    return writes;
  }

  setEntries(
    name: GenTable,
    gen: number,
    entries: ReadonlyMap<string, DestEntry | MatchEntry | number>,
  ): number {
    if (entries.size === 0) return 0;
    const { map, genAt, encode } = genTables[name] as Table<unknown>;
    const keys = joined([...entries.keys()].map((key) => withGen(key, genAt, gen)));
    this.#setBatch(map, keys, joined([...entries.values()].map(encode)));
    return entries.size;
  }

  deleteEntries(name: GenTable, gen: number, keys: Iterable<string>): number {
    const { map, genAt } = genTables[name];
    const list = Array.from(keys, (key) => withGen(key, genAt, gen));
    return this.#deleteBatch(map, list);
  }

  /** Removes every entry of any generation but this one; how many there were. */
  deleteOtherGenerations(gen: number): number {
    let count = 0;
    for (const name of tableNames.toReversed()) {
      const { map, genAt } = genTables[name];
      const others: Uint8Array[] = [];
      for (const [key] of this.map(map).entries()) {
        const view = new DataView(key.buffer, key.byteOffset);
        if (view.getUint32(genAt, true) !== gen) others.push(key.slice());
      }
      count += this.#deleteBatch(map, others);
    }
    return count;
  }

  /** The entries of one generation, as AclTables has them, and how many others there are. */
  read(gen: number): { tables: Held; others: number } {
    const all = {
      matches: new Map<string, MatchEntry>(),
      sources: new Map<string, MatchEntry>(),
      dests: new Map<string, DestEntry>(),
      cidrs: new Map<string, number>(),
    };
    let others = 0;
    for (const name of tableNames) {
      const { map, genAt, decode } = genTables[name] as Table<unknown>;
      const into = all[name] as Map<string, unknown>;
      for (const [bytes, value] of this.map(map).entries()) {
        const key = bytes.slice();
        const view = new DataView(key.buffer);
        if (view.getUint32(genAt, true) === gen) {
          view.setUint32(genAt, 0, true);
          into.set(bytesToKey(key), decode(value));
        } else {
          others++;
        }
      }
    }
    const { flags = 0 } = this.generation(gen) ?? {};
    return { tables: { flags, ...all, rules: this.rules() }, others };
  }

  rules(): Map<number, RuleEntry> {
    const rules = new Map<number, RuleEntry>();
    for (const [key, value] of this.map('zh_acl_rules').entries()) {
      rules.set(decodeU32(key), abi.decodeRule(value));
    }
    return rules;
  }

  setRules(rules: ReadonlyMap<number, RuleEntry>): number {
    if (rules.size === 0) return 0;
    const keys = joined([...rules.keys()].map(encodeU32));
    this.#setBatch('zh_acl_rules', keys, joined([...rules.values()].map(abi.encodeRule)));
    return rules.size;
  }

  deleteRules(numbers: Iterable<number>): number {
    return this.#deleteBatch('zh_acl_rules', [...numbers].map(encodeU32));
  }

  /** A number that another rule had counts from zero. */
  clearStats(number: number): void {
    const map = this.map('zh_acl_stats');
    this.#set('zh_acl_stats', encodeU32(number), new Uint8Array(map.info.valueBytes));
  }

  stats(number: number): abi.StatsEntry {
    const map = this.map('zh_acl_stats');
    return abi.decodeStats(map.get(encodeU32(number)) ?? new Uint8Array(0));
  }

  counts(): abi.CountsEntry {
    return abi.decodeCounts(this.map('zh_acl_counts').get(encodeU32(0)) ?? new Uint8Array(0));
  }

  /** Whether the automaton of that number is this one. */
  holdsAutomaton(number: number, automaton: Automaton): boolean {
    let globs = 0;
    for (const [bytes, value] of this.map('zh_acl_globs').entries()) {
      const key = abi.decodeGlobKey(bytes);
      if (key.automaton !== number) continue;
      if (automaton.globs.get(`${key.state} ${key.byte}`) !== decodeU32(value)) return false;
      globs++;
    }
    let emits = 0;
    for (const [bytes, value] of this.map('zh_acl_emits').entries()) {
      const key = abi.decodeEmitKey(bytes);
      if (key.automaton !== number) continue;
      const tags = automaton.emits.get(key.state);
      if (tags === undefined || bytesToKey(abi.encodeEmit(tags)) !== bytesToKey(value))
        return false;
      emits++;
    }
    return globs === automaton.globs.size && emits === automaton.emits.size;
  }

  setAutomaton(number: number, automaton: Automaton): number {
    const globs = [...automaton.globs].map(([key, next]) => {
      const [state = 0, byte = 0] = key.split(' ').map(Number);
      return [abi.encodeGlobKey({ automaton: number, state, byte }), encodeU32(next)] as const;
    });
    const emits = [...automaton.emits].map(
      ([state, tags]) =>
        [abi.encodeEmitKey({ automaton: number, state }), abi.encodeEmit(tags)] as const,
    );
    // What a state emits before anything leads to it.
    for (const [map, pairs] of [
      ['zh_acl_emits', emits],
      ['zh_acl_globs', globs],
    ] as const) {
      if (pairs.length === 0) continue;
      this.#setBatch(map, joined(pairs.map(([key]) => key)), joined(pairs.map(([, v]) => v)));
    }
    return globs.length + emits.length;
  }

  /** Forgets every automaton but this one, and what cgroups were in it. */
  deleteOtherAutomata(number: number): number {
    let count = 0;
    for (const [map, at] of [
      ['zh_acl_cgroups', 8],
      ['zh_acl_globs', 0],
      ['zh_acl_emits', 0],
    ] as const) {
      const others: Uint8Array[] = [];
      for (const [key] of this.map(map).entries()) {
        const view = new DataView(key.buffer, key.byteOffset);
        if (view.getUint32(at, true) !== number) others.push(key.slice());
      }
      count += this.#deleteBatch(map, others);
    }
    return count;
  }

  cgroups(): HeldCgroup[] {
    const held: HeldCgroup[] = [];
    for (const [key, value] of this.map('zh_acl_cgroups').entries()) {
      held.push({ key: abi.decodeCgroupKey(key), value: abi.decodeCgroup(value) });
    }
    return held;
  }

  cgroup(key: abi.CgroupKey): abi.CgroupValue | undefined {
    const value = this.map('zh_acl_cgroups').get(abi.encodeCgroupKey(key));
    return value === undefined ? undefined : abi.decodeCgroup(value);
  }

  /** Where a cgroup is, or was a moment ago. */
  place(id: bigint): abi.PlaceValue | undefined {
    const value = this.map('zh_acl_places').get(abi.encodePlaceKey(id));
    return value === undefined ? undefined : abi.decodePlace(value);
  }

  setCgroups(list: readonly HeldCgroup[]): number {
    if (list.length === 0) return 0;
    const keys = joined(list.map(({ key }) => abi.encodeCgroupKey(key)));
    this.#setBatch(
      'zh_acl_cgroups',
      keys,
      joined(list.map(({ value }) => abi.encodeCgroup(value))),
    );
    return list.length;
  }

  deleteCgroups(keys: readonly abi.CgroupKey[]): number {
    return this.#deleteBatch('zh_acl_cgroups', keys.map(abi.encodeCgroupKey));
  }

  #set(map: string, key: Uint8Array, value: Uint8Array): void {
    try {
      this.map(map).set(key, value);
    } catch (error) {
      throw new KernelError(map, error);
    }
  }

  #setBatch(map: string, keys: Uint8Array, values: Uint8Array): void {
    try {
      this.map(map).setBatch(keys, values);
    } catch (error) {
      throw new KernelError(map, error);
    }
  }

  #deleteBatch(map: string, keys: readonly Uint8Array[]): number {
    if (keys.length === 0) return 0;
    try {
      return this.map(map).deleteBatch(joined(keys));
    } catch (error) {
      throw new KernelError(map, error);
    }
  }
}
