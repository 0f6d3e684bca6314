/**
 * The bytes of bpf/dns_abi.h, on this side. test/bpf/dns-abi.test.ts compares every offset here
 * with the BTF of the built object, and the constants with the header.
 */
import type { Layout } from '../datapath/abi.ts';
import { nameFromWire, nameToWire } from './names.ts';
import type { PlainAnswer } from './zone.ts';

/** ZH_DNS_NAME_BYTES, ZH_DNS_TAIL_BYTES, ZH_DNS_PORT, ZH_DNS_MIX */
export const kernelNameBytesMax = 128;
export const kernelTailBytesMax = 512;
export const kernelPort = 53;
export const kernelMix = 2246822507;

export const dnsLayouts = {
  key: {
    struct: 'zh_dns_key',
    bytes: 132,
    fields: { type: [0, 2], length: [2, 2], name: [4, 128] },
  },
  answer: {
    struct: 'zh_dns_answer',
    bytes: 528,
    fields: {
      count: [0, 2],
      length: [2, 2],
      rotate: [4, 2],
      sum: [6, 2],
      check: [8, 4],
      pad: [12, 4],
      tail: [16, 512],
    },
  },
  config: {
    struct: 'zh_dns_config',
    bytes: 48,
    fields: {
      netns: [0, 8],
      ingress: [8, 4],
      udp_size_max: [12, 2],
      is_redirecting4: [14, 1],
      is_redirecting6: [15, 1],
      listen4: [16, 4],
      listen_port4: [20, 2],
      listen_port6: [22, 2],
      listen6: [24, 16],
      nonce_addr: [40, 4],
      nonce_port: [44, 2],
      pad: [46, 2],
    },
  },
  counts: {
    struct: 'zh_dns_counts',
    bytes: 80,
    fields: {
      answered4: [0, 8],
      answered6: [8, 8],
      unknown: [16, 8],
      unfit: [24, 8],
      too_big: [32, 8],
      others: [40, 8],
      torn: [48, 8],
      strangers: [56, 8],
      refused4: [64, 8],
      refused6: [72, 8],
    },
  },
} as const satisfies Record<string, Layout>;

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Undefined where the name is too long for the kernel's table. `into`: zeros. */
export function encodeDnsKey(
  name: string,
  type: number,
  into?: Uint8Array,
): Uint8Array | undefined {
  const wire = nameToWire(name);
  if (wire === undefined || wire.length > kernelNameBytesMax) return undefined;
  const { bytes, fields } = dnsLayouts.key;
  const key = into ?? new Uint8Array(bytes);
  const view = viewOf(key);
  view.setUint16(fields.type[0], type, true);
  view.setUint16(fields.length[0], wire.length, true);
  key.set(wire, fields.name[0]);
  return key;
}

export function decodeDnsKey(key: Uint8Array): { name: string; type: number } {
  const { fields } = dnsLayouts.key;
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  return {
    name: nameFromWire(key.slice(fields.name[0]), 0),
    type: view.getUint16(fields.type[0], true),
  };
}

/** The sum of the 16-bit words of the Internet checksum (RFC 1071), not inverted. */
export function sumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2)
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** `length` bytes and the zeros behind them, mixed into the check of bpf/dns_abi.h. */
function mix(before: number, bytes: Uint8Array, length: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let check = before;
  for (let at = 0; at < ((length + 7) >>> 3) << 3; at += 4) {
    // A key ends at a multiple of 4.
    const word = at < bytes.length ? view.getUint32(at, true) : 0;
    check = Math.imul(check ^ word, kernelMix);
    check ^= check >>> 15;
  }
  return check;
}

/** By which the kernel knows that an answer is whole and is the key's. `seed` is zh_dns_seed. */
export function checkOf(seed: number, key: Uint8Array, value: Uint8Array): number {
  const { name, length: nameLength } = dnsLayouts.key.fields;
  const { length, check, tail } = dnsLayouts.answer.fields;
  const lengthIn = (bytes: Uint8Array, at: number): number =>
    new DataView(bytes.buffer, bytes.byteOffset).getUint16(at, true);
  const ofKey = mix(seed, key, name[0] + lengthIn(key, nameLength[0]));
  const ofHead = mix(ofKey, value, check[0]);
  return mix(ofHead, value.subarray(tail[0]), lengthIn(value, length[0])) >>> 0;
}

/** One record has no turns. */
const rotateOf = ({ count, rotate }: PlainAnswer): number => (count > 1 ? rotate : 0);

/** Whether the kernel can hold it, and give its records in turn; else user space answers. */
export function isForKernel(entry: PlainAnswer): boolean {
  const { name, count, tail } = entry;
  const rotate = rotateOf(entry);
  if (tail.length === 0 || tail.length > kernelTailBytesMax) return false;
  if (rotate % 2 !== 0 || (rotate !== 0 && rotate * count !== tail.length)) return false;
  return (nameToWire(name)?.length ?? Infinity) <= kernelNameBytesMax;
}

/** Of what isForKernel(). `into`: zeros. */
export function encodeDnsAnswer(
  entry: PlainAnswer,
  key: Uint8Array,
  seed: number,
  into?: Uint8Array,
): Uint8Array {
  const { count, tail } = entry;
  const rotate = rotateOf(entry);
  const { bytes, fields } = dnsLayouts.answer;
  const value = into ?? new Uint8Array(bytes);
  const view = viewOf(value);
  view.setUint16(fields.count[0], count, true);
  view.setUint16(fields.length[0], tail.length, true);
  view.setUint16(fields.rotate[0], rotate, true);
  view.setUint16(fields.sum[0], sumOf(tail), true);
  value.set(tail, fields.tail[0]);
  view.setUint32(fields.check[0], checkOf(seed, key, value), true);
  return value;
}

export function decodeDnsAnswer(value: Uint8Array): {
  count: number;
  rotate: number;
  tail: Uint8Array;
} {
  const { fields } = dnsLayouts.answer;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const length = view.getUint16(fields.length[0], true);
  return {
    count: view.getUint16(fields.count[0], true),
    rotate: view.getUint16(fields.rotate[0], true),
    tail: value.slice(fields.tail[0], fields.tail[0] + length),
  };
}

/** What clients are led away from, to the link. */
export interface KernelListen {
  /** 4 or 16 bytes in network order. */
  readonly address: Uint8Array;
  readonly port: number;
  readonly isRedirecting: boolean;
}

export interface KernelConfig {
  readonly netns: bigint;
  readonly ingress: number;
  readonly udpSizeMax: number;
  readonly listen4: KernelListen | undefined;
  readonly listen6: KernelListen | undefined;
  readonly nonce: { readonly address: Uint8Array; readonly port: number } | undefined;
}

export function encodeDnsConfig(config: KernelConfig): Uint8Array {
  const { bytes, fields } = dnsLayouts.config;
  const value = new Uint8Array(bytes);
  const view = new DataView(value.buffer);
  const { listen4, listen6, nonce } = config;
  view.setBigUint64(fields.netns[0], config.netns, true);
  view.setUint32(fields.ingress[0], config.ingress, true);
  view.setUint16(fields.udp_size_max[0], config.udpSizeMax, true);
  view.setUint8(fields.is_redirecting4[0], Number(listen4?.isRedirecting ?? false));
  view.setUint8(fields.is_redirecting6[0], Number(listen6?.isRedirecting ?? false));
  view.setUint16(fields.listen_port4[0], listen4?.port ?? 0);
  view.setUint16(fields.listen_port6[0], listen6?.port ?? 0);
  view.setUint16(fields.nonce_port[0], nonce?.port ?? 0);
  if (listen4 !== undefined) value.set(listen4.address, fields.listen4[0]);
  if (listen6 !== undefined) value.set(listen6.address, fields.listen6[0]);
  if (nonce !== undefined) value.set(nonce.address, fields.nonce_addr[0]);
  return value;
}

export interface KernelCounts {
  readonly answered4: number;
  readonly answered6: number;
  /** Queries that went on to user space: names or types that are not here. */
  readonly unknown: number;
  /** Not plain: several records behind the question, another version of EDNS, … */
  readonly unfit: number;
  readonly tooBig: number;
  /** Answers of user space, TCP, ICMP. */
  readonly others: number;
  /** Answers that were being replaced: queries that went on to user space. */
  readonly torn: number;
  /** Dropped: not between the link's two addresses. */
  readonly strangers: number;
  /** Queries for user space when nobody was there; counted as unknown, unfit, … too. */
  readonly refused4: number;
  readonly refused6: number;
}

/** The values of all CPUs, one behind the other. */
export function decodeDnsCounts(value: Uint8Array): KernelCounts {
  const { bytes, fields } = dnsLayouts.counts;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const sum = ([offset]: readonly [number, number]): number => {
    let total = 0;
    for (let at = offset; at < value.length; at += bytes) {
      total += Number(view.getBigUint64(at, true));
    }
    return total;
  };
  return {
    answered4: sum(fields.answered4),
    answered6: sum(fields.answered6),
    unknown: sum(fields.unknown),
    unfit: sum(fields.unfit),
    tooBig: sum(fields.too_big),
    others: sum(fields.others),
    torn: sum(fields.torn),
    strangers: sum(fields.strangers),
    refused4: sum(fields.refused4),
    refused6: sum(fields.refused6),
  };
}
