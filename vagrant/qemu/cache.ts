// Where kernels are kept between runs, and locks that end with the process that holds them.
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** Kernels prepared by another version of this code are prepared anew. */
export const FORMAT = 4;

export function cacheFolder(): string {
  const path =
    process.env['ZEROHOP_VM_CACHE'] ??
    join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'zerohop/vm');
  mkdirSync(path, { recursive: true });
  return path;
}

/** A kernel ready to boot. */
export interface Kernel {
  readonly label: string;
  readonly version: string;
  /** Debian's package, with its version. */
  readonly package: string;
  readonly vmlinux: string;
  readonly initrd: string;
  /** What is /lib/modules/VERSION in the guest. */
  readonly modules: string;
}

export interface KernelNote {
  readonly format: number;
  readonly version: string;
  readonly package: string;
}

/** The newest of a series in the cache. */
export function cachedKernel(label: string): Kernel | undefined {
  const folder = join(cacheFolder(), label);
  if (!existsSync(folder)) return undefined;
  const found = readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((path) => existsSync(`${path}/kernel.json`))
    .map((path) => ({ path, note: noteIn(path), time: statSync(`${path}/kernel.json`).mtimeMs }))
    .filter(({ note }) => note.format === FORMAT)
    .sort((a, b) => b.time - a.time)[0];
  if (found === undefined) return undefined;
  const { path, note } = found;
  return {
    label,
    version: note.version,
    package: note.package,
    vmlinux: `${path}/vmlinux`,
    initrd: `${path}/initrd`,
    modules: `${path}/modules`,
  };
}

const noteIn = (path: string): KernelNote =>
  JSON.parse(readFileSync(`${path}/kernel.json`, 'utf8')) as KernelNote;

export interface Lock {
  release(): void;
}

/** One of `names`, or undefined when others hold them all. flock(1) locks the open file, which is ours. */
function tryLock(names: readonly string[]): Lock | undefined {
  for (const name of names) {
    const fd = openSync(join(cacheFolder(), `${name}.lock`), 'a');
    const { status, error } = spawnSync('flock', ['-n', '3'], {
      stdio: ['ignore', 'ignore', 'inherit', fd],
    });
    if (error !== undefined) throw error;
    if (status === 0) return { release: () => closeSync(fd) };
    closeSync(fd);
  }
  return undefined;
}

/** Waits until one of `names` is free; `waiting` is called once if it is not at once. */
export async function lock(names: readonly string[], waiting: () => void): Promise<Lock> {
  for (let tries = 0; ; tries++) {
    const got = tryLock(names);
    if (got !== undefined) return got;
    if (tries === 0) waiting();
    await pause(500);
  }
}
