/**
 * The listening sockets of some processes, from /proc: those of this network
 * namespace, since the addresses of another mean nothing here.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import type { Protocol } from '../../state/records.ts';
import type { SeenListener } from '../place.ts';
import { parseListeners, type Listener } from '../sockets.ts';

const TABLES: readonly (readonly [file: string, protocol: Protocol])[] = [
  ['tcp', 'tcp'],
  ['tcp6', 'tcp'],
  ['udp', 'udp'],
  ['udp6', 'udp'],
];

function socketInodes(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory).flatMap((fd) => {
      try {
        return /^socket:\[([0-9]+)\]$/.exec(readlinkSync(`${directory}/${fd}`))?.[1] ?? [];
      } catch {
        return []; // closed meanwhile
      }
    });
  } catch {
    return []; // exited meanwhile
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // no IPv6 in this kernel, or the process is gone
  }
}

function sameNetwork(pid: number, namespace: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`) === namespace;
  } catch {
    return false;
  }
}

/** A guess: loopback answers at once or not at all. */
const PROBE_TIMEOUT_MS = 200;

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const answer = (yes: boolean): void => {
      socket.destroy();
      resolve(yes);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => answer(false));
    socket.once('connect', () => answer(true));
    socket.once('error', () => answer(false));
  });
}

/** Looks again and again at the same program; remembers what it found out about a socket. */
export class ListenerWatch {
  readonly #namespace = readlinkSync('/proc/self/ns/net');
  readonly #takesV4 = new Map<string, boolean>();

  async look(pids: readonly number[]): Promise<readonly SeenListener[]> {
    const here = pids.filter((pid) => sameNetwork(pid, this.#namespace));
    const [first] = here;
    if (first === undefined) return [];
    const inodes = new Set(here.flatMap(socketInodes));
    if (inodes.size === 0) return [];
    const listeners = TABLES.flatMap(([file, protocol]) =>
      parseListeners(read(`/proc/${first}/net/${file}`), protocol, inodes),
    );
    return await Promise.all(
      listeners.map(async (one) => ({ ...one, takesV4: await this.#dualStack(one) })),
    );
  }

  /**
   * /proc does not show IPV6_V6ONLY. For TCP a connection to 127.0.0.1 tells,
   * once per socket; for UDP the system's default must do.
   */
  async #dualStack(listener: Listener): Promise<boolean> {
    if (listener.address !== '::') return false;
    const known = this.#takesV4.get(listener.inode);
    if (known !== undefined) return known;
    const takes =
      listener.protocol === 'tcp'
        ? await canConnect('127.0.0.1', listener.port)
        : read('/proc/sys/net/ipv6/bindv6only').trim() !== '1';
    this.#takesV4.set(listener.inode, takes);
    return takes;
  }
}
