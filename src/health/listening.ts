/**
 * Which TCP ports somebody listens at, from the text of /proc/net/tcp and tcp6 (proc(5)). It comes in
 * pieces, and is not read to its end: the kernel lists all listening sockets before the first
 * connection (tcp_seek_last_pos() in net/ipv4/tcp_ipv4.c), so 100,000 connections need not be read.
 */
import { parseHexAddress } from '../run/sockets.ts';

/** TCP_LISTEN in include/net/tcp_states.h. */
const LISTENING = '0A';

export class Listening {
  /** By port. */
  readonly #addresses = new Map<number, Set<string>>();

  add(address: string, port: number): void {
    const addresses = this.#addresses.get(port);
    if (addresses === undefined) this.#addresses.set(port, new Set([address]));
    else addresses.add(address);
  }

  /**
   * Whether a connection to this address of this host finds a listener. `::` counts for IPv4 too:
   * /proc does not show IPV6_V6ONLY.
   */
  serves(address: string, port: number): boolean {
    const addresses = this.#addresses.get(port);
    if (addresses === undefined) return false;
    if (addresses.has(address) || addresses.has('::')) return true;
    return !address.includes(':') && addresses.has('0.0.0.0');
  }

  /** Whether somebody listens at this port at any address. */
  isTaken(port: number): boolean {
    return this.#addresses.has(port);
  }
}

/** Takes one of the two files into `listening`, piece by piece. */
export class TableReader {
  readonly #listening: Listening;
  #rest = '';
  #isHeader = true;

  constructor(listening: Listening) {
    this.#listening = listening;
  }

  /** False when no listener can come any more. */
  feed(piece: string): boolean {
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.every((line) => this.#take(line));
  }

  #take(line: string): boolean {
    if (this.#isHeader) {
      this.#isHeader = false;
      return true;
    }
    const [, local = '', , state] = line.trim().split(/\s+/, 4);
    if (state !== LISTENING) return false;
    const [address = '', port = ''] = local.split(':');
    this.#listening.add(parseHexAddress(address), Number.parseInt(port, 16));
    return true;
  }
}
