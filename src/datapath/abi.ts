/**
 * The bytes of bpf/abi.h, on this side. test/bpf/abi.test.ts compares every
 * offset here with the BTF of the built object.
 *
 * Multi-byte integers are in host order, which is little endian on every
 * machine that Linux's BPF JIT, Node and this project share; addresses and
 * ports are in network order.
 */

/** ZH_LAYOUT and ZH_MAGIC of bpf/abi.h. */
export const layoutVersion = 1;
export const layoutMagic = 0x7a65686f;

/** ZH_NO_SUCH_PORT: the value of zh_vips for {VIP, port 0, protocol 0}. */
export const noSuchPort = 0xffffffff;

export const serviceNameBytesMax = 127;
export const portNameBytesMax = 15;

export const protocolNumber = { tcp: 6, udp: 17 } as const;

/** enum zh_backend_state */
export const backendState = { free: 0, active: 1, draining: 2, down: 3 } as const;

type Field = readonly [offset: number, bytes: number];
export interface Layout {
  readonly struct: string;
  readonly bytes: number;
  readonly fields: Readonly<Record<string, Field>>;
}

/** Struct name, size and the offset and size of each field, as BTF has them. */
export const layouts = {
  vipKey: {
    struct: 'zh_vip_key',
    bytes: 20,
    fields: { addr: [0, 16], port: [16, 2], protocol: [18, 1], pad: [19, 1] },
  },
  set: { struct: 'zh_set', bytes: 8, fields: { base: [0, 4], count: [4, 2], gen: [6, 2] } },
  service: { struct: 'zh_service', bytes: 32, fields: { key: [0, 20], members: [20, 4] } },
  slot: {
    struct: 'zh_slot',
    bytes: 16,
    fields: { backend: [0, 4], alias: [4, 4], threshold: [8, 4], gen: [12, 2], weight: [14, 2] },
  },
  backend: {
    struct: 'zh_backend',
    bytes: 32,
    fields: {
      addr: [0, 16],
      port: [16, 2],
      state: [18, 2],
      service: [20, 4],
      incarnation: [24, 4],
      pad: [28, 4],
    },
  },
  name: { struct: 'zh_name', bytes: 144, fields: { service: [0, 128], port: [128, 16] } },
  pair: {
    struct: 'zh_pair',
    bytes: 48,
    fields: {
      vip: [0, 16],
      addr: [16, 16],
      vip_port: [32, 2],
      port: [34, 2],
      service: [36, 4],
      backend: [40, 4],
      incarnation: [44, 4],
    },
  },
  sock: {
    struct: 'zh_sock',
    bytes: 64,
    fields: { cookie: [0, 8], lock: [8, 4], spilled: [12, 4], pair: [16, 48] },
  },
  serviceStats: {
    struct: 'zh_service_stats',
    bytes: 16,
    fields: { refused: [0, 8], retries: [8, 8] },
  },
  backendStats: {
    struct: 'zh_backend_stats',
    bytes: 16,
    fields: { connects: [0, 8], sends: [8, 8] },
  },
  counters: {
    struct: 'zh_counters',
    bytes: 32,
    fields: {
      spilled: [0, 8],
      untracked: [8, 8],
      flows_evicted: [16, 8],
      no_such_port: [24, 8],
    },
  },
  meta: {
    struct: 'zh_meta',
    bytes: 16,
    fields: { magic: [0, 4], layout: [4, 4], revision: [8, 8] },
  },
} as const satisfies Record<string, Layout>;

export interface VipKey {
  /** 16 bytes, network order. */
  readonly addr: Uint8Array;
  readonly port: number;
  /** IP protocol number. */
  readonly protocol: number;
}

export interface ServiceEntry {
  readonly key: VipKey;
  readonly members: number;
  readonly base: number;
  readonly count: number;
  readonly gen: number;
}

export interface SlotEntry {
  readonly backend: number;
  readonly alias: number;
  readonly threshold: number;
  readonly gen: number;
  readonly weight: number;
}

export interface BackendEntry {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly state: number;
  readonly service: number;
  readonly incarnation: number;
}

export interface NameEntry {
  readonly service: string;
  readonly port: string;
}

// By hand where it is done 100,000 times: a DataView costs more than all that is read through it.
function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  putU16(bytes, at, value);
  putU16(bytes, at + 2, value >>> 16);
}

/** In network order, as all ports are. */
function putPort(bytes: Uint8Array, at: number, port: number): void {
  bytes[at] = port >>> 8;
  bytes[at + 1] = port;
}

const byteAt = (bytes: Uint8Array, at: number): number => bytes[at] ?? 0;
const u16At = (bytes: Uint8Array, at: number): number =>
  byteAt(bytes, at) | (byteAt(bytes, at + 1) << 8);
export const u32At = (bytes: Uint8Array, at: number): number =>
  (u16At(bytes, at) | (u16At(bytes, at + 2) << 16)) >>> 0;
const portAt = (bytes: Uint8Array, at: number): number =>
  (byteAt(bytes, at) << 8) | byteAt(bytes, at + 1);

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function encodeVipKey(
  key: VipKey,
  into: Uint8Array = new Uint8Array(layouts.vipKey.bytes),
): Uint8Array {
  into.set(key.addr, 0);
  putPort(into, 16, key.port);
  into[18] = key.protocol;
  into[19] = 0;
  return into;
}

export function decodeVipKey(bytes: Uint8Array): VipKey {
  return {
    addr: bytes.slice(0, 16),
    port: portAt(bytes, 16),
    protocol: bytes[18] ?? 0,
  };
}

export function encodeService(
  entry: ServiceEntry,
  into: Uint8Array = new Uint8Array(layouts.service.bytes),
): Uint8Array {
  encodeVipKey(entry.key, into);
  putU32(into, 20, entry.members);
  putU32(into, 24, entry.base);
  putU16(into, 28, entry.count);
  putU16(into, 30, entry.gen);
  return into;
}

export function decodeService(bytes: Uint8Array): ServiceEntry {
  return {
    key: decodeVipKey(bytes),
    members: u32At(bytes, 20),
    base: u32At(bytes, 24),
    count: u16At(bytes, 28),
    gen: u16At(bytes, 30),
  };
}

export function encodeSlot(
  entry: SlotEntry,
  into: Uint8Array = new Uint8Array(layouts.slot.bytes),
): Uint8Array {
  putU32(into, 0, entry.backend);
  putU32(into, 4, entry.alias);
  putU32(into, 8, entry.threshold);
  putU16(into, 12, entry.gen);
  putU16(into, 14, entry.weight);
  return into;
}

export function decodeSlot(bytes: Uint8Array): SlotEntry {
  return {
    backend: u32At(bytes, 0),
    alias: u32At(bytes, 4),
    threshold: u32At(bytes, 8),
    gen: u16At(bytes, 12),
    weight: u16At(bytes, 14),
  };
}

export function encodeBackend(
  entry: BackendEntry,
  into: Uint8Array = new Uint8Array(layouts.backend.bytes),
): Uint8Array {
  into.set(entry.addr, 0);
  putPort(into, 16, entry.port);
  putU16(into, 18, entry.state);
  putU32(into, 20, entry.service);
  putU32(into, 24, entry.incarnation);
  return into;
}

export function decodeBackend(bytes: Uint8Array): BackendEntry {
  return {
    addr: bytes.slice(0, 16),
    port: portAt(bytes, 16),
    state: u16At(bytes, 18),
    service: u32At(bytes, 20),
    incarnation: u32At(bytes, 24),
  };
}

/** Names are ASCII (validated where they enter), NUL-padded; `into` is zero. */
export function encodeName(
  entry: NameEntry,
  into: Uint8Array = new Uint8Array(layouts.name.bytes),
): Uint8Array {
  const put = (text: string, at: number, max: number): void => {
    for (let i = 0; i < Math.min(text.length, max); i++) into[at + i] = text.charCodeAt(i) & 0x7f;
  };
  put(entry.service, 0, serviceNameBytesMax);
  put(entry.port, 128, portNameBytesMax);
  return into;
}

export function decodeName(bytes: Uint8Array): NameEntry {
  const text = (from: number, max: number): string => {
    let out = '';
    for (let i = from; i < from + max; i++) {
      const byte = bytes[i] ?? 0;
      if (byte === 0) break;
      out += String.fromCharCode(byte);
    }
    return out;
  };
  return { service: text(0, 128), port: text(128, 16) };
}

/** A u32 map key or value. */
export function encodeU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  putU32(bytes, 0, value);
  return bytes;
}

export function decodeU32(bytes: Uint8Array): number {
  return u32At(bytes, 0);
}

/** u64 counters, in the order of the struct's fields. */
export function decodeU64s(bytes: Uint8Array): bigint[] {
  const view = viewOf(bytes);
  return Array.from({ length: bytes.byteLength / 8 }, (_, i) => view.getBigUint64(i * 8, true));
}

export interface PairEntry {
  readonly vip: Uint8Array;
  readonly vipPort: number;
  readonly addr: Uint8Array;
  readonly port: number;
  readonly service: number;
  readonly backend: number;
  readonly incarnation: number;
}

export function decodePair(bytes: Uint8Array): PairEntry {
  const view = viewOf(bytes);
  return {
    vip: bytes.slice(0, 16),
    addr: bytes.slice(16, 32),
    vipPort: view.getUint16(32),
    port: view.getUint16(34),
    service: view.getUint32(36, true),
    backend: view.getUint32(40, true),
    incarnation: view.getUint32(44, true),
  };
}

export interface SockEntry {
  readonly cookie: bigint;
  readonly spilled: number;
  readonly pair: PairEntry;
}

export function decodeSock(bytes: Uint8Array): SockEntry {
  const view = viewOf(bytes);
  return {
    cookie: view.getBigUint64(0, true),
    spilled: view.getUint32(12, true),
    pair: decodePair(bytes.subarray(16)),
  };
}

export interface MetaEntry {
  readonly magic: number;
  readonly layout: number;
  readonly revision: number;
}

export function encodeMeta(
  entry: MetaEntry,
  into: Uint8Array = new Uint8Array(layouts.meta.bytes),
): Uint8Array {
  const view = viewOf(into);
  view.setUint32(0, entry.magic, true);
  view.setUint32(4, entry.layout, true);
  view.setBigUint64(8, BigInt(entry.revision), true);
  return into;
}

export function decodeMeta(bytes: Uint8Array): MetaEntry {
  const view = viewOf(bytes);
  return {
    magic: view.getUint32(0, true),
    layout: view.getUint32(4, true),
    revision: Number(view.getBigUint64(8, true)),
  };
}

/** Bytes as a string of the same length, one character a byte: a Map key. At most some hundred bytes. */
export function bytesToKey(bytes: Uint8Array): string {
  // Twice as fast as spreading: it shows with 100,000 keys.
  return String.fromCharCode.apply(null, bytes as unknown as number[]);
}

export function keyToBytes(key: string): Uint8Array {
  const bytes = new Uint8Array(key.length);
  putKey(bytes, key);
  return bytes;
}

export function putKey(bytes: Uint8Array, key: string, at = 0): void {
  for (let i = 0; i < key.length; i++) bytes[at + i] = key.charCodeAt(i);
}
