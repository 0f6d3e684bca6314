/**
 * Files of the host that others write too: read whole, written whole or not at all, through symlinks
 * and over mounts as they are. Says in words what stands in the way.
 */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { syncDirectory } from '../../state/io/sync-directory.ts';
import { ProblemError } from '../../state/problem.ts';

const MODE = 0o644;

/** undefined: it is not there. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw refused(error, path, 'read');
  }
}

export function isSymlink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/** Where it leads, and whether that is there or not. */
export function targetOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return path;
    throw refused(error, path);
  }
}

/** Of a file the very same one, under another name too, where both are in one file system. */
export function copyOf(path: string, copy: string, what: 'the file' | 'the symlink'): void {
  try {
    if (what === 'the symlink') return symlinkSync(readlinkSync(path), copy);
    if (isSymlink(path)) return copyFileSync(path, copy);
    try {
      linkSync(path, copy);
    } catch (error) {
      if (codeOf(error) !== 'EXDEV' && codeOf(error) !== 'EPERM') throw error;
      copyFileSync(path, copy);
    }
  } catch (error) {
    throw refused(error, copy);
  }
}

/** In the place of what is there; a symlink stays one, and what it leads to is written. */
export function writeText(path: string, text: string): void {
  replaceWith(targetOf(path), text);
}

/** In the place of what is there, a symlink too. */
export function replaceWith(path: string, text: string): void {
  const fresh = `${path}.zerohop-new`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const before = lstatSync(path, { throwIfNoEntry: false });
    writeFileSync(fresh, text, { mode: MODE, flush: true });
    // Of what a symlink leads to nothing is taken over: it may belong to another user.
    if (before?.isFile() === true) {
      chmodSync(fresh, before.mode & 0o7777);
      chownSync(fresh, before.uid, before.gid);
    } else chmodSync(fresh, MODE);
    moveTo(fresh, path);
    syncDirectory(dirname(path));
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error instanceof ProblemError ? error : refused(error, path);
  }
}

/**
 * `from` takes the place of `to`; where that is a mount of its own (containers), its text does, or
 * `to` is as it was.
 */
export function moveTo(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (codeOf(error) !== 'EBUSY') throw refused(error, to);
    overwrite(to, readFileSync(from));
    rmSync(from, { force: true });
  }
}

function overwrite(path: string, text: Uint8Array): void {
  const before = readFileSync(path);
  try {
    writeFileSync(path, text);
  } catch (error) {
    try {
      writeFileSync(path, before); // there was room for it
    } catch {
      // the first error says why
    }
    throw refused(error, path);
  }
}

export function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw refused(error, path);
  }
}

/** A directory that has something in it stays. */
export function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (!['ENOTEMPTY', 'ENOENT', 'EBUSY'].includes(codeOf(error) ?? ''))
      throw refused(error, directory);
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

const HINTS: Readonly<Record<string, string>> = {
  EACCES: 'run it as root',
  EPERM:
    'run it as root; for root it is immutable, and somebody wants it so: `chattr -i` lets it be written',
  ENOSPC: 'make room on its disk and do it again',
  EROFS: 'the file system is read-only: what makes the image of this host has to write it',
};

function refused(error: unknown, path: string, what: 'read' | 'changed' = 'changed'): ProblemError {
  const message = `${path} cannot be ${what}: ${error instanceof Error ? error.message : String(error)}`;
  const hint = HINTS[codeOf(error) ?? ''] ?? 'see to that and do it again';
  return new ProblemError([{ code: 'unavailable', message, hint }], {
    cause: error,
  });
}
