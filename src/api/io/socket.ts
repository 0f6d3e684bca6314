/**
 * The agent's Unix socket file: who may use it, whether someone listens on it,
 * and what to do with one that a killed agent left.
 */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { ProblemError } from '../../state/problem.ts';

/** Members may use the agent without being root. */
const GROUP = 'zerohop';
const SOCKET_MODE = 0o660;
/** A guess: a live agent accepts at once; one that is stopped (SIGSTOP) still has a backlog and counts as live. */
const PROBE_TIMEOUT_MS = 2000;

function refuse(
  code: 'conflict' | 'invalid',
  message: string,
  path: string,
  hint: string,
  cause?: unknown,
): never {
  throw new ProblemError([{ code, message, path, hint }], { cause });
}

function isLive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.setTimeout(PROBE_TIMEOUT_MS);
    const answer = (live: boolean): void => {
      socket.destroy();
      resolve(live);
    };
    socket.once('connect', () => answer(true));
    // Nobody could accept in time, but somebody holds the socket.
    socket.once('timeout', () => answer(true));
    // EAGAIN: its backlog is full. ECONNREFUSED and ENOENT: nobody is there.
    socket.once('error', (error: NodeJS.ErrnoException) => answer(error.code === 'EAGAIN'));
  });
}

/** Refuses if an agent listens on `path`; removes the file that a dead one left. */
export async function claimSocketPath(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    refuse(
      'invalid',
      `${path} is there, but is not a socket`,
      path,
      'choose another path with --socket, or move that file away',
    );
  }
  if (await isLive(path)) {
    refuse(
      'conflict',
      `another agent listens on ${path}`,
      path,
      'stop it first, or give this one its own --socket, --data and --pin',
    );
  }
  unlinkSync(path);
}

/** The id of the group in /etc/group, or undefined if there is none. */
function groupId(name: string): number | undefined {
  try {
    const line = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`));
    const id = line?.split(':')[2];
    return id === undefined ? undefined : Number(id);
  } catch {
    return undefined;
  }
}

function makeDirectory(directory: string): void {
  if (statSync(directory, { throwIfNoEntry: false }) === undefined)
    mkdirSync(directory, { mode: 0o755 });
}

/** Binds and listens; the file never has more rights than it ends up with. */
export async function listenOn(server: Server, path: string): Promise<void> {
  try {
    makeDirectory(dirname(path));
    await claimSocketPath(path);
    await bind(server, path);
    const gid = process.getuid?.() === 0 ? groupId(GROUP) : undefined;
    if (gid !== undefined) chownSync(path, 0, gid);
    chmodSync(path, SOCKET_MODE);
  } catch (error) {
    if (error instanceof ProblemError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    refuse(
      'invalid',
      `the agent cannot listen on ${path}: ${reason}`,
      path,
      'create its directory, or choose another path with --socket',
      error,
    );
  }
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // bind(2) takes the mode from the umask, and libuv binds within listen().
    const umask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}
