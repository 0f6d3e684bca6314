/**
 * One agent per pin folder. bpffs takes no lock files and Node has no flock,
 * so SQLite does it: an exclusive transaction on a small file, which the
 * kernel releases whenever the process ends, however it ends.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
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
  const identity = `${statSync(pinDir).dev}:${statSync(pinDir).ino}:${realpathSync(pinDir)}`;
  const name = createHash('sha256').update(identity).digest('hex').slice(0, 16);
  const file = join(runDir, `pins-${name}.lock`);
  const db = new DatabaseSync(file);
  try {
    db.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    throw new ProblemError(
      [
        {
          code: 'conflict',
          message: `another agent${holder(file)} is running on the pins in ${pinDir}`,
          path: 'pinDir',
          hint: 'stop it first, or give this one a pinDir (--pin) of its own',
        },
      ],
      { cause: error },
    );
  }
  writeFileSync(`${file}.pid`, `${process.pid}\n`);
  return { release: () => db.close() };
}

function holder(file: string): string {
  try {
    return ` (pid ${readFileSync(`${file}.pid`, 'utf8').trim()})`;
  } catch {
    return '';
  }
}
