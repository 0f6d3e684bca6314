/**
 * The service tables in the kernel: applies plans, reads everything back.
 */
import { BpfError, BpfMap } from '../../../addon/index.ts';
import {
  bytesToKey,
  decodeMeta,
  decodeName,
  decodeU32,
  encodeU32,
  layoutMagic,
  layouts,
  layoutVersion,
} from '../abi.ts';
import { Tables, keyBytes, noRevision, valueBytes } from '../tables.ts';
import type { ByteTable, TableName, WriteGroup } from '../tables.ts';

/** Writing a table failed; what of the plan is in the kernel is not known. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly table: string;

  constructor(table: string, cause: unknown) {
    super(
      `writing the map ${table} failed: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
    this.table = table;
  }
}

export class KernelTables {
  readonly #maps: Readonly<Record<TableName, BpfMap>>;

  constructor(map: (name: string) => BpfMap) {
    this.#maps = {
      vips: map('zh_vips'),
      services: map('zh_services'),
      slots: map('zh_slots'),
      backends: map('zh_backends'),
      names: map('zh_names'),
      svc_stats: map('zh_svc_stats'),
      bk_stats: map('zh_bk_stats'),
      meta: map('zh_meta'),
    };
  }

  /** In the plan's order, each group in one crossing. */
  apply(groups: readonly WriteGroup[]): void {
    for (const group of groups) {
      const map = this.#maps[group.table];
      try {
        if (group.kind === 'delete') map.deleteBatch(group.keys);
        else map.setBatch(group.keys, group.values);
      } catch (error) {
        throw new KernelError(`zh_${group.table}`, error);
      }
    }
  }

  /**
   * Everything the kernel holds. With `known`, the arrays are read only as far
   * as that goes: what lies beyond is referred to by nobody.
   */
  read(known?: Tables): Tables {
    const tables = new Tables();
    each(this.#maps.vips, 'vips', (key, value) =>
      tables.vips.set(bytesToKey(key), decodeU32(value)),
    );
    each(this.#maps.names, 'names', (key, value) => {
      tables.names.set(decodeU32(key), decodeName(value));
    });
    for (const name of ['services', 'slots', 'backends'] as const) {
      fill(tables[name], this.#maps[name], known?.[name].high);
    }
    tables.revision = this.revision();
    return tables;
  }

  /** The one that was applied last. */
  revision(): number {
    const meta = decodeMeta(
      this.#maps.meta.get(encodeU32(0)) ?? new Uint8Array(layouts.meta.bytes),
    );
    const marked = meta.magic === layoutMagic && meta.layout === layoutVersion;
    return marked ? meta.revision : noRevision;
  }

  /**
   * Whether the kernel holds `known`, and what is applied to both meanwhile, a chunk in each step.
   * Of a hash map entries may be met twice, or not at all, when others come and go between two steps.
   */
  *compare(known: Tables): Generator<void, boolean, undefined> {
    const { vips, names } = this.#maps;
    const isVip = (key: Uint8Array, value: Uint8Array): boolean =>
      known.vips.get(bytesToKey(key)) === decodeU32(value);
    const isName = (key: Uint8Array, value: Uint8Array): boolean => {
      const [there, name] = [known.names.get(decodeU32(key)), decodeName(value)];
      return there?.service === name.service && there.port === name.port;
    };
    if ((yield* countEach(vips, 'vips', isVip)) !== known.vips.size) return false;
    if ((yield* countEach(names, 'names', isName)) !== known.names.size) return false;
    for (const name of ['services', 'slots', 'backends'] as const) {
      let read = 0;
      for (const { values, count } of this.#maps[name].chunks()) {
        if (!known[name].holds(read, values)) return false;
        read += count;
        yield;
        if (read >= known[name].high) break;
      }
    }
    return true;
  }

  close(): void {
    for (const map of Object.values(this.#maps)) map.close();
  }
}

function each(
  map: BpfMap,
  table: TableName,
  visit: (key: Uint8Array, value: Uint8Array) => void,
): void {
  const { keys, values, count } = map.dump();
  for (let at = 0; at < count; at++) {
    visit(
      keys.subarray(at * keyBytes[table], (at + 1) * keyBytes[table]),
      values.subarray(at * valueBytes[table], (at + 1) * valueBytes[table]),
    );
  }
}

/** How many entries there are; none if one is not as it `is` to be. */
function* countEach(
  map: BpfMap,
  table: TableName,
  is: (key: Uint8Array, value: Uint8Array) => boolean,
): Generator<void, number | undefined, undefined> {
  const [keySize, valueSize] = [keyBytes[table], valueBytes[table]];
  let seen = 0;
  for (const { keys, values, count } of map.chunks()) {
    for (let at = 0; at < count; at++) {
      const key = keys.subarray(at * keySize, (at + 1) * keySize);
      if (!is(key, values.subarray(at * valueSize, (at + 1) * valueSize))) return undefined;
    }
    seen += count;
    yield;
  }
  return seen;
}

/** An ARRAY map's entries up to the last one that is not zero; chunks come in index order. */
function fill(table: ByteTable, map: BpfMap, entries?: number): void {
  const chunks: { readonly at: number; readonly values: Uint8Array }[] = [];
  let zeros = Buffer.alloc(0);
  let read = 0;
  let used = 0;
  for (const { values, count } of map.chunks(entries)) {
    if (zeros.length < values.length) zeros = Buffer.alloc(values.length);
    // Chunks of nothing are dropped as they come: an empty map costs no memory.
    if (zeros.compare(values, 0, values.length, 0, values.length) !== 0) {
      chunks.push({ at: read * table.valueBytes, values });
      let last = values.length - 1;
      while (values[last] === 0) last--;
      used = read + Math.floor(last / table.valueBytes) + 1;
    }
    read += count;
    if (entries !== undefined && read >= entries) break;
  }
  const bytes = new Uint8Array(used * table.valueBytes);
  for (const { at, values } of chunks) bytes.set(values.subarray(0, bytes.length - at), at);
  table.load(bytes);
}

/** What was pinned here by some agent, or undefined when nothing readable is. */
export function readPinnedMeta(path: string): { layout: number; magic: number } | undefined {
  let map: BpfMap;
  try {
    map = BpfMap.openPinned(path);
  } catch (error) {
    if (error instanceof BpfError && error.code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    if (map.info.valueSize !== layouts.meta.bytes) return { layout: -1, magic: 0 };
    const meta = map.get(encodeU32(0));
    return meta === undefined ? undefined : decodeMeta(meta);
  } finally {
    map.close();
  }
}
