/**
 * Who listens where, read from the text of /proc/PID/net/{tcp,tcp6,udp,udp6}
 * (proc(5), Documentation/networking/proc_net_tcp.rst).
 */
import { formatIp } from '../net/ip.ts';
import type { Protocol } from '../state/records.ts';

export interface Listener {
  readonly protocol: Protocol;
  /** Canonical; `0.0.0.0` or `::` for all addresses. */
  readonly address: string;
  readonly port: number;
  readonly inode: string;
}

/** TCP_LISTEN, and what an unconnected UDP socket shows (TCP_CLOSE), in include/net/tcp_states.h. */
const LISTENING: Readonly<Record<Protocol, string>> = { tcp: '0A', udp: '07' };

/** 32-bit words in host order: little-endian on every machine that zerohop is built for. */
export function parseHexAddress(hex: string): string {
  const bytes = new Uint8Array(16);
  const start = hex.length === 8 ? 12 : 0;
  if (start === 12) bytes.fill(0xff, 10, 12);
  for (let index = 0; index * 2 < hex.length; index++) {
    const word = Math.floor(index / 4) * 4;
    bytes[start + word + (3 - (index % 4))] = Number.parseInt(
      hex.slice(index * 2, index * 2 + 2),
      16,
    );
  }
  return formatIp(bytes);
}

/** The listening sockets among those in `text` that are one of `inodes`. */
export function parseListeners(
  text: string,
  protocol: Protocol,
  inodes: ReadonlySet<string>,
): readonly Listener[] {
  const listeners: Listener[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
    if (state !== LISTENING[protocol] || !inodes.has(inode)) continue;
    const [address = '', port = ''] = local.split(':');
    listeners.push({
      protocol,
      address: parseHexAddress(address),
      port: Number.parseInt(port, 16),
      inode,
    });
  }
  return listeners;
}
