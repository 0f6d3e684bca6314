// How a guest gets at this machine's root file system: virtiofsd, on a read-only view of it. As root in a mount name
// space; as a plain user in a user name space too. Nothing in a guest can write here.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, openSync, closeSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const script = join(import.meta.dirname, 'share.sh');
/** QEMU's own in C until 7.x; from 8 on the one in Rust, a package of its own. */
const PROGRAMS = ['/usr/libexec/virtiofsd', '/usr/lib/qemu/virtiofsd'];
const START_MS = 20_000;

export type Way = 'root' | 'user';

const worksWith = (args: readonly string[]): boolean =>
  spawnSync('unshare', [...args, 'mount', '--make-rprivate', '/'], { stdio: 'ignore' }).status ===
  0;

const UNSHARE: Readonly<Record<Way, readonly string[]>> = {
  root: ['--mount'],
  user: ['--user', '--map-root-user', '--mount'],
};

/** The way that this machine and this user allow; undefined when neither does. */
export function wayToShare(): Way | undefined {
  if (process.getuid?.() === 0 && worksWith(UNSHARE.root)) return 'root';
  return worksWith(UNSHARE.user) ? 'user' : undefined;
}

export function virtiofsd(): string | undefined {
  return PROGRAMS.find((path) => existsSync(path));
}

function options(program: string, run: string): string[] {
  const rust = /--shared-dir/.test(
    spawnSync(program, ['--help'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .stdout,
  );
  const common = [`--socket-path=${run}/fs.s`, '--thread-pool-size=2'];
  return rust
    ? [...common, `--shared-dir=${run}/l`, '--cache=always', '--sandbox=chroot', '--xattr']
    : [...common, '-o', `source=${run}/l,cache=always,sandbox=chroot,xattr`, '--rlimit-nofile=0'];
}

/** What a plain user's virtiofsd needs besides: see plain-user.c. */
function preload(run: string): Record<string, string> {
  const library = `${run}/plain-user.so`;
  const source = join(import.meta.dirname, 'plain-user.c');
  const made = spawnSync('cc', ['-shared', '-fPIC', '-O2', '-o', library, source], {
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`cc does not work: ${made.stderr}`);
  return { LD_PRELOAD: library };
}

/** Starts virtiofsd in folder `run`; resolves when QEMU can connect to fs.s there. */
export async function share(run: string, way: Way, children: ChildProcess[]): Promise<void> {
  const program = virtiofsd();
  if (program === undefined) throw new Error('virtiofsd is missing');
  const log = openSync(`${run}/virtiofsd.log`, 'w');
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      'unshare',
      ...UNSHARE[way],
      script,
      run,
      program,
      ...options(program, run),
    ],
    {
      stdio: ['ignore', log, log],
      detached: true,
      env: way === 'user' ? { ...process.env, ...preload(run) } : process.env,
    },
  );
  closeSync(log);
  children.push(child);
  const start = performance.now();
  while (!existsSync(`${run}/fs.s`)) {
    if (
      child.exitCode !== null ||
      child.signalCode !== null ||
      performance.now() - start > START_MS
    )
      throw new Error(
        `virtiofsd did not start: ${readFileSync(`${run}/virtiofsd.log`, 'utf8').slice(-600)}`,
      );
    await pause(10);
  }
}
