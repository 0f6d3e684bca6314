/**
 * Runs one program in its cgroup from start to end: registers what it listens
 * on, passes signals on, drains before it stops, removes after it has stopped.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { placeListeners, type Wish } from '../place.ts';
import type { RunCgroup } from './cgroup.ts';
import type { HostWatch } from './host.ts';
import { ListenerWatch } from './listeners.ts';
import type { Registration } from './registration.ts';

/** Quick until the program listens, then slow: each look reads /proc. Guesses. */
const FIRST_LOOK_INTERVAL_MS = 50;
const LOOK_INTERVAL_MS = 1000;
/** A program that has not listened by now is looked at slowly too. */
const QUICK_LOOKS_MAX = 600;
/** How long the agent may take to drain before the signal is passed on all the same. */
const DRAIN_TIMEOUT_MS = 1000;
/** What is left when the program fails gets this long to end by itself. */
const LEFTOVER_TIMEOUT_MS = 3000;

const FORWARDED: readonly NodeJS.Signals[] = [
  'SIGTERM',
  'SIGINT',
  'SIGQUIT',
  'SIGHUP',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
  'SIGCONT',
];
const STOPPING: ReadonlySet<NodeJS.Signals> = new Set(['SIGTERM', 'SIGINT', 'SIGQUIT']);
/** A terminal sends these to the program itself, which is in its foreground group like us. */
const FROM_TERMINAL: ReadonlySet<NodeJS.Signals> = new Set(['SIGINT', 'SIGQUIT', 'SIGWINCH']);

export interface Supervision {
  readonly command: readonly string[];
  readonly cgroup: RunCgroup;
  readonly registration: Registration;
  readonly wish: Omit<Wish, 'hostAddresses'>;
  readonly host: HostWatch;
}

/** The shell moves itself into the cgroup and becomes the program, so that no socket is made outside. */
const ENTER = 'echo 0 >"$1/cgroup.procs" || exit 125; shift; exec "$@"';

function start(run: Supervision): ChildProcess {
  return spawn('/bin/sh', ['-c', ENTER, 'zerohop-run', run.cgroup.path, ...run.command], {
    stdio: 'inherit',
  });
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

function forwardSignals(run: Supervision, child: ChildProcess): () => void {
  let stopping = false;
  const pass = (signal: NodeJS.Signals): void => {
    if (FROM_TERMINAL.has(signal) && process.stdin.isTTY) return;
    // The program may have forked itself into the background and be gone.
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    else run.cgroup.kill(signal);
  };
  const handle = (signal: NodeJS.Signals): void => {
    if (!STOPPING.has(signal) || stopping) {
      pass(signal);
      return;
    }
    stopping = true;
    const late = sleep(DRAIN_TIMEOUT_MS, undefined, { ref: false });
    void Promise.race([run.registration.drain(), late]).then(() => pass(signal));
  };
  for (const signal of FORWARDED) process.on(signal, handle);
  return () => {
    for (const signal of FORWARDED) process.off(signal, handle);
  };
}

async function look(run: Supervision, watch: ListenerWatch): Promise<void> {
  const listeners = await watch.look(run.cgroup.pids());
  const hostAddresses = await run.host.look();
  const { placements, notices } = placeListeners(listeners, { ...run.wish, hostAddresses });
  for (const notice of notices) run.registration.tellOnce(notice);
  await run.registration.update(placements);
}

/** Looks until `stop` says so; resolves when nothing of it is under way any more. */
async function watchListeners(run: Supervision, stop: AbortSignal): Promise<void> {
  const watch = new ListenerWatch();
  for (let looks = 0; !stop.aborted; looks++) {
    await look(run, watch);
    const quick = run.registration.size === 0 && looks < QUICK_LOOKS_MAX;
    const wait = quick ? FIRST_LOOK_INTERVAL_MS : LOOK_INTERVAL_MS;
    await sleep(wait, undefined, { signal: stop }).catch(() => undefined);
  }
}

/**
 * A program that ended well and left processes has gone into the background:
 * stay with them. One that failed takes them with it.
 */
async function settleLeftovers(run: Supervision, code: number): Promise<void> {
  if (code === 0) {
    while (run.cgroup.pids().length > 0) await sleep(FIRST_LOOK_INTERVAL_MS);
  }
  if (run.cgroup.pids().length === 0) return;
  run.cgroup.kill('SIGTERM');
  for (
    let waited = 0;
    waited < LEFTOVER_TIMEOUT_MS && run.cgroup.pids().length > 0;
    waited += FIRST_LOOK_INTERVAL_MS
  ) {
    await sleep(FIRST_LOOK_INTERVAL_MS);
  }
  run.cgroup.kill('SIGKILL');
  while (run.cgroup.pids().length > 0) await sleep(FIRST_LOOK_INTERVAL_MS);
}

/** Runs the program to its end; resolves with its exit code (128 + n for signal n). */
export async function supervise(run: Supervision): Promise<number> {
  const child = start(run);
  const unhook = forwardSignals(run, child);
  const stop = new AbortController();
  const watching = watchListeners(run, stop.signal);
  try {
    const code = await exitOf(child);
    await settleLeftovers(run, code);
    return code;
  } finally {
    stop.abort();
    await watching;
    await run.registration.removeAll();
    unhook();
    run.cgroup.remove();
  }
}
