/**
 * Map bytes in words that people know: for `zerohop maps dump`. Shows what the
 * kernel holds, damaged entries included, and never what should be there.
 */
import {
  decodeBackend,
  decodeMeta,
  decodeName,
  decodePair,
  decodeService,
  decodeSlot,
  decodeSock,
  decodeU32,
  decodeU64s,
  decodeVipKey,
  keyToBytes,
  layouts,
  noSuchPort,
} from './abi.ts';
import type { PairEntry } from './abi.ts';
import { aclDecoders, aclMapPurpose } from '../acl/dump.ts';
import { dnsDecoders, dnsMapPurpose } from '../dns/dump.ts';
import { isAnyPort } from './desired.ts';
import type { MapName } from './hooks.ts';
import { formatEndpoint, formatIp } from '../net/ip.ts';
import type { Tables } from './tables.ts';
import { protocolName, vipText } from './text.ts';
import { viewOf } from './view.ts';

export type Cell = string | number | boolean;
/** One entry: column → value, in the order of the columns. */
export type Row = Readonly<Record<string, Cell>>;

export const mapPurpose: Readonly<Record<MapName, string>> = {
  zh_vips: 'VIP, port and protocol → service index',
  zh_services: 'service index → where its set of slots is',
  zh_slots: 'alias tables: one column a backend',
  zh_backends: 'backend index → address',
  zh_names: 'service index → name',
  zh_svc_stats: 'counters by service index',
  zh_bk_stats: 'counters by backend index',
  zh_meta: 'layout and applied revision',
  zh_socks: 'what connected sockets asked for, by cookie',
  zh_socks_more: 'connected sockets that met a taken slot',
  zh_flows: 'what unconnected UDP sockets talk to (kept with each socket; cannot be listed)',
  zh_counters: 'events of the programs',
  ...aclMapPurpose,
  ...dnsMapPurpose,
};

/** Maps whose entries the kernel does not list. */
export type UnlistedMap = 'zh_flows' | 'zh_acl_events';
export type ListedMap = Exclude<MapName, UnlistedMap>;

export function isListed(map: MapName): map is ListedMap {
  return map !== 'zh_flows' && map !== 'zh_acl_events';
}

const stateNames = ['free', 'active', 'draining', 'down'];
export const stateName = (state: number): string => stateNames[state] ?? `unknown ${state}`;

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

function pairCells(pair: PairEntry): Row {
  return {
    vip: formatEndpoint(formatIp(pair.vip), pair.vipPort),
    backend: formatEndpoint(formatIp(pair.addr), pair.port),
    service: pair.service,
    backendIndex: pair.backend,
    incarnation: pair.incarnation,
  };
}

function counters(layout: { readonly fields: object }, value: Uint8Array): Row {
  const numbers = decodeU64s(value);
  return Object.fromEntries(
    Object.keys(layout.fields).map((name, i) => [name, Number(numbers[i] ?? 0n)]),
  );
}

type Decoder = (key: Uint8Array, value: Uint8Array) => Row | undefined;

/** undefined for entries that hold nothing: never used, or free. */
const decoders: Readonly<Record<ListedMap, Decoder>> = {
  ...aclDecoders,
  ...dnsDecoders,
  zh_vips: (key, value) => {
    const index = decodeU32(value);
    return { vip: vipText(decodeVipKey(key)), service: index === noSuchPort ? 'refused' : index };
  },
  zh_services: (key, value) => {
    const entry = decodeService(value);
    if (isZero(value.subarray(0, 20))) return undefined;
    const { base, count, gen, members } = entry;
    return { index: decodeU32(key), vip: vipText(entry.key), base, slots: count, members, gen };
  },
  zh_slots: (key, value) => {
    if (isZero(value)) return undefined;
    const { backend, alias, threshold, gen, weight } = decodeSlot(value);
    const own = `${((threshold / 2 ** 32) * 100).toFixed(2)} %`;
    return { slot: decodeU32(key), backend, own, alias, gen, weight };
  },
  zh_backends: (key, value) => {
    const entry = decodeBackend(value);
    if (isZero(value)) return undefined;
    return {
      index: decodeU32(key),
      address: formatEndpoint(formatIp(entry.addr), entry.port),
      state: stateName(entry.state),
      service: entry.service,
      incarnation: entry.incarnation,
    };
  },
  zh_names: (key, value) => ({ index: decodeU32(key), ...decodeName(value) }),
  zh_svc_stats: (key, value) =>
    isZero(value) ? undefined : { index: decodeU32(key), ...counters(layouts.serviceStats, value) },
  zh_bk_stats: (key, value) =>
    isZero(value) ? undefined : { index: decodeU32(key), ...counters(layouts.backendStats, value) },
  zh_counters: (_, value) => counters(layouts.counters, value),
  zh_meta: (_, value) => {
    const { layout, revision } = decodeMeta(value);
    return { layout, revision };
  },
  zh_socks: (key, value) => {
    const { cookie, spilled, pair } = decodeSock(value);
    if (cookie === 0n && spilled === 0) return undefined;
    return { slot: decodeU32(key), cookie: cookie.toString(), ...pairCells(pair), spilled };
  },
  zh_socks_more: (key, value) => ({
    cookie: decodeU64s(key)[0]?.toString() ?? '',
    ...pairCells(decodePair(value)),
  }),
};

export function decodeEntry(map: ListedMap, key: Uint8Array, value: Uint8Array): Row | undefined {
  return decoders[map](key, value);
}

export interface DumpBackend {
  readonly index: number;
  readonly address: string;
  readonly weight: number;
  readonly state: string;
  /** Of new connections, in percent. */
  readonly sharePercent: number;
  readonly connects: number;
  readonly sends: number;
}

export interface DumpFrontend {
  readonly service: string;
  readonly port: string;
  readonly vip: string;
  readonly protocol: string;
  readonly index: number;
  /** damaged: connects are refused until the agent puts it right. */
  readonly state: 'serving' | 'no usable backend' | 'damaged';
  readonly connects: number;
  readonly sends: number;
  readonly refused: number;
  readonly backends: readonly DumpBackend[];
}

/** Reads a counter of an index: `[connects, sends, …]`. */
export type ReadStats = (map: 'zh_svc_stats' | 'zh_bk_stats', index: number) => readonly bigint[];

function frontend(tables: Tables, key: string, stats: ReadStats): DumpFrontend | undefined {
  const view = viewOf(tables, key);
  if (view.kind === 'pass' || view.kind === 'no-such-port') return undefined;
  const at = decodeVipKey(keyToBytes(key));
  const name = tables.names.get(view.index);
  const [refused = 0n] = stats('zh_svc_stats', view.index);
  const members = view.kind === 'service' ? view.members : [];
  const backends = members.map((member): DumpBackend => {
    const [c = 0n, s = 0n] = stats('zh_bk_stats', member.id);
    return {
      index: member.id,
      address: formatEndpoint(formatIp(member.addr), member.port),
      weight: member.weight,
      state: stateName(member.state),
      sharePercent: Number((member.share * 100).toFixed(2)),
      connects: Number(c),
      sends: Number(s),
    };
  });
  const usable = members.some((member) => member.share > 0);
  return {
    service: name?.service ?? '(no name)',
    port: name?.port ?? '',
    vip: formatEndpoint(formatIp(at.addr), at.port),
    protocol: protocolName(at.protocol),
    index: view.index,
    state: view.kind === 'torn' ? 'damaged' : usable ? 'serving' : 'no usable backend',
    connects: backends.reduce((sum, backend) => sum + backend.connects, 0),
    sends: backends.reduce((sum, backend) => sum + backend.sends, 0),
    refused: Number(refused),
    backends,
  };
}

/** Every VIP with its backends, joined over all maps, by service name. */
export function dumpFrontends(tables: Tables, stats: ReadStats): DumpFrontend[] {
  const out: DumpFrontend[] = [];
  for (const key of tables.vips.keys()) {
    if (isAnyPort(key)) continue;
    const one = frontend(tables, key, stats);
    if (one !== undefined) out.push(one);
  }
  const order = (f: DumpFrontend): string => `${f.service} ${f.port} ${f.vip}`;
  return out.toSorted((a, b) => (order(a) < order(b) ? -1 : 1));
}
