/**
 * A cgroup for one program: `<agent's cgroup>/zerohop-run/<service>-<pid>`, so
 * that its sockets and children can be told from everybody else's.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ProblemError } from '../../state/problem.ts';

const PARENT = 'zerohop-run';

function tryRemove(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Not empty, or gone already.
  }
}

/** Cgroups whose `run` was killed stay behind; empty ones can go. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = /-([0-9]+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) tryRemove(join(parent, name));
  }
}

export interface RunCgroup {
  readonly path: string;
  /** Every process in it, those in cgroups below included. */
  pids(): readonly number[];
  kill(signal: NodeJS.Signals): void;
  remove(): void;
}

function pidsBelow(path: string): number[] {
  try {
    const own = readFileSync(join(path, 'cgroup.procs'), 'latin1')
      .split('\n')
      .filter(Boolean)
      .map(Number);
    const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...own, ...below.flatMap((entry) => pidsBelow(join(path, entry.name)))];
  } catch {
    return []; // removed while being read
  }
}

function killAll(path: string, signal: NodeJS.Signals): void {
  if (signal === 'SIGKILL') {
    try {
      writeFileSync(join(path, 'cgroup.kill'), '1'); // since Linux 5.14; misses no fork
      return;
    } catch {
      // older
    }
  }
  for (const pid of pidsBelow(path)) {
    try {
      process.kill(pid, signal);
    } catch {
      // gone already
    }
  }
}

export function createRunCgroup(agentCgroup: string, service: string): RunCgroup {
  const parent = join(agentCgroup, PARENT);
  const path = join(parent, `${service}-${process.pid}`);
  try {
    mkdirSync(parent, { recursive: true });
    sweep(parent);
    mkdirSync(path, { recursive: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ProblemError(
      [
        {
          code: 'kernel',
          message: `no cgroup for the program: ${reason}`,
          path,
          hint: '`zerohop run` needs root, on the host where the agent runs',
        },
      ],
      { cause: error },
    );
  }
  return {
    path,
    pids: () => pidsBelow(path),
    kill: (signal) => killAll(path, signal),
    remove: () => {
      tryRemove(path);
      tryRemove(parent);
    },
  };
}
