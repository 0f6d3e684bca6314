/**
 * Makes sure that no test host outlives this process. At a normal end, a
 * failure, an uncaught exception, SIGINT, SIGTERM or SIGHUP this process takes
 * its hosts away itself; after kill -9 a small shell that reads our pipe does.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

export interface HostTraces {
  readonly cgroup: string;
  readonly netns: string;
  /** Its data, sockets and mounts. */
  readonly dir: string;
}

const script = fileURLToPath(new URL('undo.sh', import.meta.url));
const hosts = new Set<HostTraces>();
let reaper: ChildProcess | undefined;

const words = (host: HostTraces): string[] => [host.cgroup, host.netns, host.dir];

function startReaper(): ChildProcess {
  // In a session of its own, so that Ctrl-C does not reach it.
  const child = spawn('sh', [script, 'reap'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  child.unref();
  (child.stdin as Socket).unref();
  child.stdin.on('error', () => {});
  process.on('exit', () => {
    for (const host of hosts) tryUndo(host);
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => process.exit(128 + constants.signals[signal]));
  return child;
}

/** To be called before the first trace of the host is made. */
export function willUndo(host: HostTraces): void {
  reaper ??= startReaper();
  hosts.add(host);
  reaper.stdin?.write(`+ ${words(host).join(' ')}\n`);
}

/** Takes the host away, processes included. Throws when something stays. */
export function undo(host: HostTraces): void {
  if (!hosts.has(host)) return;
  execFileSync('sh', [script, 'now', ...words(host)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 20_000,
  });
  hosts.delete(host);
  reaper?.stdin?.write(`- ${words(host).join(' ')}\n`);
}

function tryUndo(host: HostTraces): void {
  try {
    undo(host);
  } catch (error) {
    process.stderr.write(`test host ${host.netns} could not be taken away: ${String(error)}\n`);
  }
}
