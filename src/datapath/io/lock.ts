/**
 * One agent per pin folder. bpffs takes no lock files and Node has no flock,
 * so SQLite does it: an exclusive transaction on a small file, which the
 * kernel releases whenever the process ends, however it ends.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ProblemError } from '../../state/problem.ts';

export interface Lock {
  release(): void;
}

/** Takes the lock for what lies behind `pinDir`; throws ProblemError naming the holder. */
export function lockPins(pinDir: string, runDir = '/run/zerohop'): Lock {
  mkdirSync(runDir, { recursive: true, mode: 0o755 });
  // The same path may be another bpffs in another mount namespace.
  const { dev, ino } = statSync(pinDir);
  const identity = `${dev}:${ino}:${realpathSync(pinDir)}`;
  const name = createHash('sha256').update(identity).digest('hex').slice(0, 16);
  const file = join(runDir, `pins-${name}.lock`);
  for (let tries = 0; tries < 3; tries++) {
    const db = tryLock(file, pinDir);
    if (db === undefined) continue;
    writeFileSync(`${file}.pid`, `${process.pid}\n`);
    return { release: () => release(file, db) };
  }
  throw taken(file, pinDir);
}

/** The lock; undefined if the file was removed by its last holder while we took it. */
function tryLock(file: string, pinDir: string): DatabaseSync | undefined {
  // Held open meanwhile, so that its inode cannot come back as another file's.
  const fd = openSync(file, 'a', 0o600);
  const db = new DatabaseSync(file);
  try {
    db.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    if (existsSync(file) && statSync(file).ino === fstatSync(fd).ino) return db;
    db.close();
    return undefined;
  } catch (error) {
    db.close();
    throw taken(file, pinDir, error);
  } finally {
    closeSync(fd);
  }
}

function release(file: string, db: DatabaseSync): void {
  rmSync(`${file}.pid`, { force: true });
  rmSync(file, { force: true });
  db.close();
}

function taken(file: string, pinDir: string, cause?: unknown): ProblemError {
  return new ProblemError(
    [
      {
        code: 'conflict',
        message: `another agent${holder(file)} is running on the pins in ${pinDir}`,
        path: 'pinDir',
        hint: 'stop it first, or give this one a pinDir (--pin) of its own',
      },
    ],
    { cause },
  );
}

function holder(file: string): string {
  try {
    return ` (pid ${readFileSync(`${file}.pid`, 'utf8').trim()})`;
  } catch {
    return '';
  }
}
