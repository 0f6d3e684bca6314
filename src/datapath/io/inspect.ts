/** Reads pinned maps without an agent, and without changing anything. */
import { existsSync } from 'node:fs';
import { BpfError, BpfMap } from '../../../addon/index.ts';
import { ProblemError } from '../../state/problem.ts';
import { decodeU64s, encodeU32, layoutMagic, layoutVersion } from '../abi.ts';
import { decodeEntry, dumpFrontends, isListed } from '../dump.ts';
import type { DumpFrontend, ListedMap, Row } from '../dump.ts';
import { aclMaps, dnsMaps, socketMaps, tableMaps } from '../hooks.ts';
import type { MapName } from '../hooks.ts';
import { KernelTables, readPinnedMeta } from './kernel.ts';
import type { Pins } from './pins.ts';

export const mapNames: readonly MapName[] = [...tableMaps, ...socketMaps, ...aclMaps, ...dnsMaps];

export interface MapSummary {
  readonly name: MapName;
  readonly id: number;
  readonly type: string;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Entries that hold something; undefined where the kernel cannot list them. */
  readonly used: number | undefined;
  readonly max: number;
}

function explained<T>(pins: Pins, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    const denied = error.code === 'EPERM' || error.code === 'EACCES';
    throw new ProblemError(
      [
        {
          code: denied ? 'unavailable' : 'kernel',
          message: denied ? 'reading BPF maps is not permitted' : error.message,
          path: pins.dir,
          ...(denied ? { hint: 'run as root (sudo)' } : {}),
        },
      ],
      { cause: error },
    );
  }
}

/** Throws ProblemError when nothing of ours is pinned there. */
function checkLayout(pins: Pins): void {
  const meta = pins.exist ? readPinnedMeta(pins.map('zh_meta')) : undefined;
  if (meta === undefined) {
    throw new ProblemError([
      {
        code: 'not-found',
        message: `no maps are pinned in ${pins.dir}`,
        hint: 'start the agent once (zerohop agent), or name its pin folder with --pin',
      },
    ]);
  }
  if (meta.magic !== layoutMagic || meta.layout !== layoutVersion) {
    throw new ProblemError([
      {
        code: 'kernel',
        message: `the maps in ${pins.dir} have layout ${meta.layout}; this program reads layout ${layoutVersion}`,
        hint: 'use the zerohop of the agent that made them, or start this one’s agent: it replaces them',
      },
    ]);
  }
}

export function openPinnedMap(pins: Pins, name: MapName): BpfMap {
  return explained(pins, () => {
    checkLayout(pins);
    if (!existsSync(pins.map(name))) {
      const isDns = dnsMaps.some((map) => map === name);
      throw new ProblemError([
        {
          code: 'not-found',
          message: `${name} is not pinned in ${pins.dir}`,
          hint: isDns
            ? 'the agent answers no DNS in the kernel: `zerohop dns status` says why'
            : 'an agent from before access control made these maps: start this one’s agent',
        },
      ]);
    }
    return BpfMap.openPinned(pins.map(name));
  });
}

/** Everything in a map, `visit`ed with each entry's bytes. */
export function eachEntry(map: BpfMap, visit: (key: Uint8Array, value: Uint8Array) => void): void {
  // Of per-CPU maps: the values of all CPUs, one after the other.
  const { keySize, valueBytes } = map.info;
  const { keys, values, count } = map.dump();
  for (let at = 0; at < count; at++) {
    visit(
      keys.subarray(at * keySize, (at + 1) * keySize),
      values.subarray(at * valueBytes, (at + 1) * valueBytes),
    );
  }
}

export function readRows(pins: Pins, name: ListedMap): Row[] {
  using map = openPinnedMap(pins, name);
  const rows: Row[] = [];
  eachEntry(map, (key, value) => {
    const row = decodeEntry(name, key, value);
    if (row !== undefined) rows.push(row);
  });
  return rows;
}

export function readFrontends(pins: Pins): DumpFrontend[] {
  return explained(pins, () => {
    checkLayout(pins);
    const kernel = new KernelTables((name) => BpfMap.openPinned(pins.map(name)));
    using services = BpfMap.openPinned(pins.map('zh_svc_stats'));
    using backends = BpfMap.openPinned(pins.map('zh_bk_stats'));
    try {
      return dumpFrontends(kernel.read(), (map, index) => {
        const value = (map === 'zh_svc_stats' ? services : backends).get(encodeU32(index));
        return value === undefined ? [] : decodeU64s(value);
      });
    } finally {
      kernel.close();
    }
  });
}

function usedOf(map: BpfMap, name: MapName): number | undefined {
  if (!isListed(name)) return undefined;
  let used = 0;
  eachEntry(map, (key, value) => {
    if (decodeEntry(name, key, value) !== undefined) used++;
  });
  return used;
}

export function summarize(pins: Pins): MapSummary[] {
  return explained(pins, () => {
    checkLayout(pins);
    return mapNames
      .filter((name) => existsSync(pins.map(name)))
      .map((name) => {
        using map = BpfMap.openPinned(pins.map(name));
        const { id, type, keySize, valueSize, maxEntries } = map.info;
        const used = usedOf(map, name);
        return { name, id, type, keyBytes: keySize, valueBytes: valueSize, used, max: maxEntries };
      });
  });
}
