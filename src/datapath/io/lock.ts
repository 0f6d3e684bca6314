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

/** Who wants the lock: what the refused one is told depends on it. */
export type Taker = 'agent' | 'detach';

interface LockOptions {
  readonly taker?: Taker;
  readonly runDir?: string;
}

/** Takes the lock for what lies behind `pinDir`; throws ProblemError naming the holder. */
export function lockPins(
  pinDir: string,
  { taker = 'agent', runDir = '/run/zerohop' }: LockOptions = {},
): Lock {
  mkdirSync(runDir, { recursive: true, mode: 0o755 });
  // Not the path: it may be another bpffs in another mount namespace, and a bpffs may have several.
  const { dev, ino } = statSync(pinDir);
  const identity = `${dev}:${ino}`;
  const name = createHash('sha256').update(identity).digest('hex').slice(0, 16);
  const file = join(runDir, `pins-${name}.lock`);
  for (let tries = 0; tries < 3; tries++) {
    const held = tryLock(file, (cause) => taken(file, pinDir, taker, cause));
    if (held === undefined) continue;
    writeFileSync(`${file}.pid`, `${process.pid}\n`);
    return { release: () => release(file, held) };
  }
  throw taken(file, pinDir, taker);
}

interface Held {
  readonly db: DatabaseSync;
  /**
   * Of the file. Open as long as the lock is held: the inode cannot come back as
   * another file's, and closing any descriptor of a file drops all POSIX locks
   * that the process has on it, SQLite's too (fcntl_locking(2)).
   */
  readonly fd: number;
}

/** The lock; undefined if the file was removed by its last holder while we took it. */
function tryLock(file: string, refusal: (cause: Error) => ProblemError): Held | undefined {
  const fd = openSync(file, 'a', 0o600);
  const db = new DatabaseSync(file);
  let held = false;
  try {
    db.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    held = existsSync(file) && statSync(file).ino === fstatSync(fd).ino;
    return held ? { db, fd } : undefined;
  } catch (error) {
    // SQLITE_BUSY is somebody; anything else (a full or read-only disk) is not.
    if (error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === 5)
      throw refusal(error);
    throw broken(file, error);
  } finally {
    if (!held) {
      db.close();
      closeSync(fd);
    }
  }
}

function release(file: string, { db, fd }: Held): void {
  rmSync(`${file}.pid`, { force: true });
  rmSync(file, { force: true });
  db.close();
  closeSync(fd);
}

function broken(file: string, cause: unknown): ProblemError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message = `the lock ${file} cannot be taken: ${why}`;
  return new ProblemError([{ code: 'unavailable', message, path: 'pinDir' }], { cause });
}

function taken(file: string, pinDir: string, taker: Taker, cause?: unknown): ProblemError {
  const pid = holder(file);
  const who = pid === undefined ? '' : ` (pid ${pid})`;
  const where = `is running on the pins in ${pinDir}`;
  const kill = pid === undefined ? 'end its process' : `kill ${pid}`;
  const problem = {
    agent: {
      message: `another agent${who} ${where}`,
      path: 'pinDir',
      hint: 'stop it first, or give this one a pinDir (--pin) of its own',
    },
    detach: {
      message: `an agent${who} ${where}, and would put back what is taken out`,
      hint: `stop it first (systemctl stop zerohop; without systemd: ${kill}), then detach`,
    },
  }[taker];
  return new ProblemError([{ code: 'conflict', ...problem }], { cause });
}

function holder(file: string): string | undefined {
  try {
    return readFileSync(`${file}.pid`, 'utf8').trim();
  } catch {
    return undefined;
  }
}
