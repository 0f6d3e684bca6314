import { closeSync, fsyncSync, openSync } from 'node:fs';

/** A new or removed name in a directory is on the disk only after this (fsync(2)). */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
