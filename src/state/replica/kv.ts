/**
 * The public key-value store on the shared document: registers, add-wins sets, enable-wins flags,
 * counters, and maps of these, as Lashup's store has them. A name may be there once of each type.
 *
 * Every type is made of entries that are put and removed by the rules of log-document.ts, under
 * keys that say the way to them: `kv/m:MAP/c:COUNTER/WRITER`, `kv/s:SET/ELEMENT`, `kv/r:REGISTER`,
 * `kv/f:FLAG`. README.md says what each does under concurrency.
 */
import { SHARED, WriteError, type Changed, type Replica, type Write } from './replica.ts';

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [name: string]: Json };

/** Names of maps, and last the name of what is in them. */
export type Path = readonly string[];

export type KvType = 'register' | 'set' | 'flag' | 'counter' | 'map';

export type KvOperation =
  | { readonly do: 'set'; readonly path: Path; readonly value: Json }
  | { readonly do: 'add' | 'remove'; readonly path: Path; readonly element: string }
  | { readonly do: 'enable' | 'disable'; readonly path: Path }
  | { readonly do: 'increment'; readonly path: Path; readonly by: number }
  /** All of it, as far as it is known here. */
  | { readonly do: 'delete'; readonly path: Path; readonly type: KvType };

export type KvValue =
  | { readonly type: 'register'; readonly value: Json }
  /** In order of their UTF-16 units. */
  | { readonly type: 'set'; readonly elements: readonly string[] }
  | { readonly type: 'flag'; readonly enabled: true }
  | { readonly type: 'counter'; readonly value: number }
  | { readonly type: 'map'; readonly fields: readonly KvField[] };

export interface KvField {
  readonly name: string;
  readonly value: KvValue;
}

/** One register, set, flag or counter that has another value than before. */
export interface KvChange {
  readonly path: Path;
  readonly type: Exclude<KvType, 'map'>;
  readonly before: KvValue | undefined;
  readonly after: KvValue | undefined;
}

const PREFIX = 'kv/';
const LETTERS = { register: 'r', set: 's', flag: 'f', counter: 'c', map: 'm' } as const;
const TYPES: ReadonlyMap<string, KvType> = new Map(
  Object.entries(LETTERS).map(([type, letter]) => [letter, type as KvType]),
);
/** One node's part of a counter: sums of 2,000 parts are still exact. */
const PART_MAX = 2 ** 42;
const DEPTH_MAX = 16;
/** Of lists and objects in a register: V8 reads more of them than it can write again. A guess. */
const LEVELS_MAX = 256;

function encode(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch {
    throw new WriteError('a name or element has half a character (a lone UTF-16 surrogate)');
  }
}

/** The key of what is at `path`; its parts, fields or elements are below it, after another slash. */
function keyOf(path: Path, type: KvType): string {
  if (path.length === 0 || path.length > DEPTH_MAX || path.includes(''))
    throw new WriteError(`a path has 1–${DEPTH_MAX} names, and none is empty`);
  const segments = path.map((name, i) => {
    const letter = i === path.length - 1 ? LETTERS[type] : LETTERS.map;
    return `${letter}:${encode(name)}`;
  });
  return PREFIX + segments.join('/');
}

interface Leaf {
  readonly path: Path;
  readonly type: Exclude<KvType, 'map'>;
  /** An element, or the writer of a part. */
  readonly member: string | undefined;
  /** The key of the register, set, flag or counter. */
  readonly at: string;
}

/** What a key says; undefined if a newer version or a stranger made it. */
function leafOf(key: string): Leaf | undefined {
  const path: string[] = [];
  const segments = key.slice(PREFIX.length).split('/');
  try {
    for (const [i, segment] of segments.entries()) {
      const type = segment[1] === ':' ? TYPES.get(segment[0] ?? '') : undefined;
      path.push(decodeURIComponent(segment.slice(2)));
      if (type === undefined) return undefined;
      if (type === 'map') continue;
      const hasMember = type === 'set' || type === 'counter';
      if (segments.length !== i + (hasMember ? 2 : 1)) return undefined;
      const member = hasMember ? decodeURIComponent(segments[i + 1] ?? '') : undefined;
      return { path, type, member, at: PREFIX + segments.slice(0, i + 1).join('/') };
    }
  } catch {
    // no text
  }
  return undefined;
}

function isWithin(value: Json, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return levels > 0 && Object.values(value).every((part) => isWithin(part, levels - 1));
}

/** undefined for what nobody here would have written. */
function parseJson(text: string): Json | undefined {
  try {
    const value = JSON.parse(text) as Json;
    return isWithin(value, LEVELS_MAX) ? value : undefined;
  } catch {
    return undefined;
  }
}

function partOf(text: string | undefined): number {
  const value = text === undefined ? 0 : parseJson(text);
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : 0;
}

export class Kv {
  readonly #replica: Replica;
  /** Keys below each first segment, `m:config`: what a read has to look at. */
  readonly #keys = new Map<string, Set<string>>();

  constructor(replica: Replica) {
    this.#replica = replica;
    for (const { key } of replica.winners(SHARED))
      if (key.startsWith(PREFIX)) this.#note(key, true);
    replica.subscribe(PREFIX, (changed) => {
      for (const { key, after } of changed) this.#note(key, after !== undefined);
    });
  }

  #note(key: string, isThere: boolean): void {
    const top = key.split('/', 2)[1] ?? '';
    const keys = this.#keys.get(top) ?? new Set();
    if (isThere) keys.add(key);
    else keys.delete(key);
    if (keys.size > 0) this.#keys.set(top, keys);
    else this.#keys.delete(top);
  }

  #below(at: string): readonly string[] {
    const keys = this.#keys.get(at.split('/', 2)[1] ?? '') ?? [];
    return [...keys].filter((key) => key === at || key.startsWith(`${at}/`));
  }

  /** The writes of operations, one after the other; throws WriteError. */
  writes(operations: readonly KvOperation[]): readonly Write[] {
    const written = new Map<string, string | undefined>();
    const get = (key: string): string | undefined =>
      written.has(key) ? written.get(key) : this.#replica.get(SHARED, key);
    for (const operation of operations) this.#perform(operation, written, get);
    // An add counts against a removal elsewhere, also of what was there already.
    return [...written].map(([key, value]) => ({ document: 'shared', key, value, always: true }));
  }

  #perform(
    operation: KvOperation,
    written: Map<string, string | undefined>,
    get: (key: string) => string | undefined,
  ): void {
    const { path } = operation;
    switch (operation.do) {
      case 'set':
        if (!isWithin(operation.value, LEVELS_MAX))
          throw new WriteError(`${path.join('/')}: a value has at most ${LEVELS_MAX} levels`);
        written.set(keyOf(path, 'register'), JSON.stringify(operation.value));
        return;
      case 'add':
      case 'remove': {
        const key = `${keyOf(path, 'set')}/${encode(operation.element)}`;
        written.set(key, operation.do === 'add' ? '1' : undefined);
        return;
      }
      case 'enable':
      case 'disable':
        written.set(keyOf(path, 'flag'), operation.do === 'enable' ? '1' : undefined);
        return;
      case 'increment': {
        const key = `${keyOf(path, 'counter')}/${this.#replica.writer.toString(36)}`;
        const part = partOf(get(key)) + operation.by;
        if (!Number.isSafeInteger(operation.by) || Math.abs(part) > PART_MAX)
          throw new WriteError(
            `${path.join('/')}: this host's part of the counter stays a whole number within ±2^42`,
          );
        written.set(key, String(part));
        return;
      }
      case 'delete': {
        const at = keyOf(path, operation.type);
        for (const key of [...this.#below(at), ...written.keys()])
          if (key === at || key.startsWith(`${at}/`)) written.set(key, undefined);
      }
    }
  }

  get(path: Path, type: KvType): KvValue | undefined {
    const at = keyOf(path, type);
    const keys = this.#below(at);
    if (type === 'map') {
      const depth = path.length;
      const fields = this.#fields(keys, depth);
      return fields.length === 0 ? undefined : { type, fields };
    }
    return this.#leaf(type, keys);
  }

  /** Everything, as if it were one map. */
  all(): readonly KvField[] {
    return this.#fields(
      [...this.#keys.values()].flatMap((keys) => [...keys]),
      0,
    );
  }

  #fields(keys: readonly string[], depth: number): readonly KvField[] {
    const groups = new Map<string, { name: string; type: KvType; keys: string[] }>();
    for (const key of keys) {
      const leaf = leafOf(key);
      const name = leaf?.path[depth];
      if (leaf === undefined || name === undefined) continue;
      const type = leaf.path.length === depth + 1 ? leaf.type : 'map';
      const group = groups.get(`${name} ${type}`);
      if (group === undefined) groups.set(`${name} ${type}`, { name, type, keys: [key] });
      else group.keys.push(key);
    }
    const sorted = [...groups].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return sorted.flatMap(([, { name, type, keys: inside }]) => {
      const value: KvValue | undefined =
        type === 'map'
          ? { type, fields: this.#fields(inside, depth + 1) }
          : this.#leaf(type, inside);
      return value === undefined ? [] : [{ name, value }];
    });
  }

  #leaf(type: Leaf['type'], keys: readonly string[]): KvValue | undefined {
    const texts = keys.map((key) => [leafOf(key)?.member, this.#replica.get(SHARED, key)] as const);
    return valueFrom(
      type,
      new Map(
        texts.flatMap(([member, text]) => (text === undefined ? [] : [[member ?? '', text]])),
      ),
    );
  }

  /** What a call of Replica changed, as old and new values; the parts of a counter are one. */
  changes(changed: readonly Changed[]): readonly KvChange[] {
    const leaves = new Map<string, { leaf: Leaf; members: Map<string, Changed> }>();
    for (const one of changed) {
      const leaf =
        one.document === SHARED && one.key.startsWith(PREFIX) ? leafOf(one.key) : undefined;
      if (leaf === undefined) continue;
      const group = leaves.get(leaf.at) ?? { leaf, members: new Map<string, Changed>() };
      group.members.set(leaf.member ?? '', one);
      leaves.set(leaf.at, group);
    }
    return [...leaves.values()].flatMap(({ leaf: { path, type, at }, members }) => {
      const now = this.#below(at).map((key) => [key, this.#replica.get(SHARED, key)] as const);
      const [was, is] = [new Map<string, string>(), new Map<string, string>()];
      for (const [key, text] of now) {
        const member = leafOf(key)?.member ?? '';
        if (text !== undefined) is.set(member, text);
        if (text !== undefined && !members.has(member)) was.set(member, text);
      }
      for (const [member, { before }] of members) if (before !== undefined) was.set(member, before);
      const [before, after] = [valueFrom(type, was), valueFrom(type, is)];
      return JSON.stringify(before) === JSON.stringify(after)
        ? []
        : [{ path, type, before, after }];
    });
  }
}

/** From the texts of all its members. */
function valueFrom(type: Leaf['type'], members: ReadonlyMap<string, string>): KvValue | undefined {
  if (members.size === 0) return undefined;
  switch (type) {
    case 'register': {
      const value = parseJson(members.get('') ?? '');
      return value === undefined ? undefined : { type, value };
    }
    case 'flag':
      return { type, enabled: true };
    case 'set':
      return { type, elements: [...members.keys()].toSorted() };
    case 'counter': {
      const value = [...members.values()].reduce((sum, text) => sum + partOf(text), 0);
      return { type, value };
    }
  }
}
