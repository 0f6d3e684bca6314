/**
 * What /proc/net says of ports: who has one (/proc/PID/fd says whose a socket is), and what was dropped
 * at ours. Only for people, so that what cannot be read is just not known. Other network namespaces
 * are not seen.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { HostPort } from '../../cluster/address.ts';
import { parseIp } from '../../net/ip.ts';

export interface PortOwner {
  readonly pid: number;
  /** As `ps` and `ss` have it: at most 15 letters. */
  readonly name: string;
}

/** /proc/net/tcp: of a socket that listens. */
const TCP_LISTEN = '0A';

export function portOwner(transport: 'udp' | 'tcp', at: HostPort): PortOwner | undefined {
  const inodes = inodesAt(transport, at);
  return inodes.size === 0 ? undefined : ownerOf(inodes);
}

/** Sockets at this port and address, or at every address. */
function inodesAt(transport: 'udp' | 'tcp', { host, port }: HostPort): Set<string> {
  const inodes = new Set<string>();
  const wanted = hexOf(host);
  for (const file of [transport, `${transport}6`])
    for (const line of linesOf(`/proc/net/${file}`).slice(1)) {
      const [, local = '', , state, , , , , , inode = '0'] = line.trim().split(/\s+/);
      const [address = '', itsPort] = local.split(':');
      if (itsPort !== hexPort(port) || (transport === 'tcp' && state !== TCP_LISTEN)) continue;
      if (inode !== '0' && (/^0+$/.test(address) || wanted.has(address))) inodes.add(inode);
    }
  return inodes;
}

/** Datagrams that the kernel dropped before these sockets, as they were not read in time. */
export function udpDrops(bound: readonly HostPort[]): number {
  const wanted = new Set(
    bound.flatMap(({ host, port }) => [...hexOf(host)].map((hex) => `${hex}:${hexPort(port)}`)),
  );
  let sum = 0;
  for (const file of ['udp', 'udp6'])
    for (const line of linesOf(`/proc/net/${file}`).slice(1)) {
      const words = line.trim().split(/\s+/);
      if (wanted.has(words[1] ?? '')) sum += Number(words.at(-1) ?? 0);
    }
  return sum;
}

function hexPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}

/** As /proc/net has them: words of four bytes in the machine's order, and IPv4 also as v4-mapped IPv6. */
function hexOf(host: string): Set<string> {
  const ip = parseIp(host);
  if (ip === undefined) return new Set();
  const words = new Uint32Array(Uint8Array.from(ip).buffer);
  const text = [...words].map((word) => word.toString(16).toUpperCase().padStart(8, '0'));
  return new Set([text.join(''), ...(host.includes(':') ? [] : [text[3] ?? ''])]);
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch {
    return [];
  }
}

function ownerOf(inodes: ReadonlySet<string>): PortOwner | undefined {
  for (const pid of namesIn('/proc').filter((name) => /^[0-9]+$/.test(name)))
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[([0-9]+)\]$/.exec(targetOf(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode === undefined || !inodes.has(inode)) continue;
      const name = linesOf(`/proc/${pid}/comm`)[0] ?? '';
      return { pid: Number(pid), name };
    }
  return undefined;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // gone, or not ours to see
  }
}

function targetOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
