/** The maps of DNS in the kernel in words that people know: for `zerohop maps dump`. */
import type { Row } from '../datapath/dump.ts';
import type { DnsMapName } from '../datapath/hooks.ts';
import { formatEndpoint, formatIp } from '../net/ip.ts';
import { decodeDnsAnswer, decodeDnsCounts, decodeDnsKey, dnsLayouts } from './kernel-abi.ts';
import { zoneTypeOf } from './numbers.ts';
import { RECORD_HEADER_BYTES } from './rrset.ts';

export const dnsMapPurpose: Readonly<Record<DnsMapName, string>> = {
  zh_dns_names: 'name and type → the answer that the kernel gives',
  zh_dns_config: 'whom the kernel answers, and where answers come in',
  zh_dns_netns: 'cookie of the resolver’s network namespace',
  zh_dns_counts: 'packets on the resolver’s link, by what became of them',
};

const hex = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** Addresses as text, all else in hexadecimal. */
function dataText(data: Uint8Array): string {
  if (data.length === 16) return formatIp(data);
  if (data.length !== 4) return hex(data);
  return [...data].join('.');
}

/** Owners are pointers of two bytes. */
function recordsText(tail: Uint8Array, count: number): string {
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  const records: string[] = [];
  for (let at = 0; records.length < count && at + RECORD_HEADER_BYTES <= tail.length;) {
    const end = at + RECORD_HEADER_BYTES + view.getUint16(at + 10);
    records.push(dataText(tail.subarray(at + RECORD_HEADER_BYTES, end)));
    at = end;
  }
  return records.join(' ');
}

function configRow(value: Uint8Array): Row {
  const { fields } = dnsLayouts.config;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const [at4, at6] = [fields.listen4[0], fields.listen6[0]];
  const port4 = view.getUint16(fields.listen_port4[0]);
  const port6 = view.getUint16(fields.listen_port6[0]);
  return {
    netns: String(view.getBigUint64(fields.netns[0], true)),
    ingress: view.getUint32(fields.ingress[0], true),
    udpSizeMax: view.getUint16(fields.udp_size_max[0], true),
    listen4: port4 === 0 ? '' : formatEndpoint(dataText(value.slice(at4, at4 + 4)), port4),
    redirecting4: view.getUint8(fields.is_redirecting4[0]) === 1,
    listen6: port6 === 0 ? '' : formatEndpoint(formatIp(value.slice(at6, at6 + 16)), port6),
    redirecting6: view.getUint8(fields.is_redirecting6[0]) === 1,
  };
}

type Decoder = (key: Uint8Array, value: Uint8Array) => Row | undefined;

export const dnsDecoders: Readonly<Record<DnsMapName, Decoder>> = {
  zh_dns_names: (key, value) => {
    const { name, type } = decodeDnsKey(key);
    const { count, rotate, tail } = decodeDnsAnswer(value);
    const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
    return {
      name,
      type: zoneTypeOf(type) ?? type,
      ttl: tail.length < RECORD_HEADER_BYTES ? 0 : view.getUint32(6),
      data: recordsText(tail, count),
      inTurn: rotate > 0,
    };
  },
  zh_dns_config: (_, value) => configRow(value),
  zh_dns_netns: (_, value) => ({
    cookie: String(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)),
  }),
  zh_dns_counts: (_, value) => ({ ...decodeDnsCounts(value) }),
};
