/**
 * The listening TCP sockets of this network namespace, from /proc. Reads no further than until all
 * that are asked for are found: beyond the last listener the kernel walks its table of connections,
 * some milliseconds of CPU on a machine with much memory, however few connections there are.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { Missing, type Endpoint } from '../endpoints.ts';
import { Listening, TableReader } from '../listening.ts';

/** A line of /proc/net/tcp (TMPSZ in net/ipv4/tcp_ipv4.c): the kernel looks no further than for what is asked. */
const PIECE_BYTES = 150;

export class ListeningTables {
  /** The one that was enough the last time first. */
  #files = ['/proc/self/net/tcp', '/proc/self/net/tcp6'];

  /** Those of the listeners that tell of each of `endpoints` whether it has one. */
  read(endpoints: Iterable<Endpoint>): Listening {
    const listening = new Listening();
    const missing = new Missing(endpoints, listening);
    if (missing.isNone) return listening;
    const [first = '', second = ''] = this.#files;
    readInto(first, listening, missing);
    if (missing.isNone) return listening;
    readInto(second, listening, missing);
    this.#files = [second, first];
    return listening;
  }
}

/** What cannot be read is left out, as tcp6 in a kernel without IPv6: then a connection decides. */
function readInto(file: string, listening: Listening, missing: Missing): void {
  try {
    const fd = openSync(file, 'r');
    try {
      const reader = new TableReader(listening);
      const buffer = Buffer.alloc(PIECE_BYTES);
      while (!missing.isNone) {
        const length = readSync(fd, buffer, 0, buffer.length, null);
        if (length === 0 || !reader.feed(buffer.toString('latin1', 0, length))) return;
      }
    } finally {
      closeSync(fd);
    }
  } catch {
    // See above.
  }
}
