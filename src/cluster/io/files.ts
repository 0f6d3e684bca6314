/**
 * Small secret files: 0600, replaced as a whole or not at all, and with a line
 * at the end that tells a whole file from a torn one. The line is a comment to
 * OpenSSL, so `openssl x509 -in` still reads them.
 *
 * Never reads a file that others may read or write, and never repairs one.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { syncDirectory } from '../../state/io/sync-directory.ts';
import { ProblemError } from '../../state/problem.ts';

const FILE_BYTES_MAX = 4 * 1024 * 1024;
const UNFINISHED = /\.[0-9a-f]{12}\.new$/;
const TRAILER = /^# zerohop sha256 ([0-9a-f]{64})\n$/;
const TRAILER_LENGTH = '# zerohop sha256 '.length + 64 + 1;

/** Makes the directory where there is none; refuses one that others may look into. */
export function secretDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700, recursive: true });
  } catch (error) {
    throw problem(path, `cannot be made: ${text(error)}`, 'choose another --data', error);
  }
  const stat = lstatSync(path);
  if (!stat.isDirectory()) throw problem(path, 'is no directory', 'move it away');
  checkOwner(path, stat.uid, stat.mode, '700');
}

/** Returns when the content is on the disk under its name. */
export function writeSecret(path: string, content: string): void {
  const fresh = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    const fd = openSync(fresh, 'wx', 0o600);
    try {
      writeFileSync(fd, content + trailerOf(content));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, path);
    syncDirectory(dirname(path));
  } catch (error) {
    rmSync(fresh, { force: true });
    const hint = 'the old file is as it was; make room or mend the disk, and do it again';
    throw problem(path, `cannot be written: ${text(error)}`, hint, error);
  }
}

/** What a write left behind that was killed: it may be a key. Writes are synchronous: none is under way here. */
export function removeUnfinished(directory: string): void {
  const left = readdirSync(directory).filter((name) => UNFINISHED.test(name));
  for (const name of left) rmSync(join(directory, name), { force: true });
  if (left.length > 0) syncDirectory(directory);
}

/** undefined when there is no such file. */
export function readSecret(path: string): string | undefined {
  let fd: number;
  try {
    // No link is followed: the check below must be of the file that is read.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    const hint = 'it must be a plain file that belongs to the user zerohop runs as';
    throw problem(path, `cannot be opened: ${text(error)}`, hint, error);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw problem(path, 'is no plain file', 'move it away');
    checkOwner(path, stat.uid, stat.mode, '600');
    if (stat.size > FILE_BYTES_MAX) throw torn(path, 'is too large to be ours');
    return withoutTrailer(path, readFileSync(fd, 'utf8'));
  } finally {
    closeSync(fd);
  }
}

export function removeSecret(path: string): void {
  rmSync(path, { force: true });
  syncDirectory(dirname(path));
}

function trailerOf(content: string): string {
  return `# zerohop sha256 ${createHash('sha256').update(content).digest('hex')}\n`;
}

function withoutTrailer(path: string, whole: string): string {
  const content = whole.slice(0, -TRAILER_LENGTH);
  const trailer = whole.slice(-TRAILER_LENGTH);
  if (!TRAILER.test(trailer)) throw torn(path, 'is cut off, or was edited');
  if (trailer !== trailerOf(content)) throw torn(path, 'is damaged, or was edited');
  return content;
}

function checkOwner(path: string, uid: number, mode: number, wanted: string): void {
  const me = process.geteuid?.();
  if (me !== undefined && uid !== me) {
    throw problem(path, `belongs to user ${uid}, not to ${me}`, `chown ${me} ${path}`);
  }
  const others = mode & 0o077;
  if (others === 0) return;
  const has = (mode & 0o777).toString(8);
  const what = `is open to others (mode ${has}): its keys may be known to them`;
  throw problem(path, what, `chmod ${wanted} ${path}; if others could read it, join anew`);
}

function torn(path: string, what: string): ProblemError {
  return problem(path, what, 'put it back from a backup, or move it away and join again');
}

function problem(path: string, what: string, hint: string, cause?: unknown): ProblemError {
  const message = `${path} ${what}`;
  return new ProblemError([{ code: 'store', message, path, hint }], { cause });
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
