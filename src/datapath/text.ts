/** Keys and addresses of the maps in words, for `maps dump` and the log. */
import { formatEndpoint, formatIp } from '../net/ip.ts';
import { decodeVipKey, keyToBytes } from './abi.ts';
import type { VipKey } from './abi.ts';

const protocolNames: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp' };
export const protocolName = (protocol: number): string => protocolNames[protocol] ?? `${protocol}`;

/** `240.0.0.1:80/tcp` */
export function vipText(key: VipKey): string {
  if (key.port === 0 && key.protocol === 0) return `${formatIp(key.addr)} (any other port)`;
  return `${formatEndpoint(formatIp(key.addr), key.port)}/${protocolName(key.protocol)}`;
}

export const backendText = (key: string, port: number): string =>
  formatEndpoint(formatIp(keyToBytes(key)), port);

/** Why a plan writes something; put into words only when somebody asks. */
export interface Reason {
  /** Of zh_vips, as in Tables; undefined for what no VIP leads to. */
  readonly key: string | undefined;
  readonly who: string;
  readonly what: string;
}

/** `240.0.0.1:80/tcp (web:http): not in the maps` */
export const reasonText = ({ key, who, what }: Reason): string =>
  key === undefined
    ? `${who}: ${what}`
    : `${vipText(decodeVipKey(keyToBytes(key)))} (${who}): ${what}`;
