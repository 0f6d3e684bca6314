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
    const meta = decodeMeta(
      this.#maps.meta.get(encodeU32(0)) ?? new Uint8Array(layouts.meta.bytes),
    );
    const marked = meta.magic === layoutMagic && meta.layout === layoutVersion;
    tables.revision = marked ? meta.revision : noRevision;
    return tables;
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
