/** The listening TCP sockets of this network namespace, from /proc. */
import { closeSync, openSync, readSync } from 'node:fs';
import { Listening, TableReader } from '../listening.ts';

/** The kernel gives a page or so at a time, however much is asked for. */
const PIECE_BYTES = 16_384;

const FILES = ['/proc/self/net/tcp', '/proc/self/net/tcp6'];

/** What cannot be read is left out: then a connection decides. */
export function readListening(): Listening {
  const listening = new Listening();
  for (const file of FILES) {
    try {
      readInto(file, listening);
    } catch {
      // A kernel without IPv6 has no tcp6.
    }
  }
  return listening;
}

function readInto(file: string, listening: Listening): void {
  const reader = new TableReader(listening);
  const buffer = Buffer.alloc(PIECE_BYTES);
  const fd = openSync(file, 'r');
  try {
    for (;;) {
      const length = readSync(fd, buffer, 0, buffer.length, null);
      if (length === 0 || !reader.feed(buffer.toString('latin1', 0, length))) return;
    }
  } finally {
    closeSync(fd);
  }
}
