/**
 * What the addon's tests stand on: compiled fixtures, a bpffs and a cgroup of their own.
 * Everything lives in one temporary directory per test file and is taken away by clean().
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BpfError } from '../../addon/index.ts';

export const fixtures = ['kit', 'rejected', 'other'] as const;
export type Fixture = (typeof fixtures)[number];

export class Bench {
  readonly dir = mkdtempSync(join(tmpdir(), 'zerohop-addon-'));
  #bpffs: string | undefined;
  readonly #cgroups: string[] = [];

  /** The object file of a fixture, compiled on first use. */
  object(name: Fixture): string {
    const out = join(this.dir, `${name}.bpf.o`);
    if (!readdirSync(this.dir).includes(`${name}.bpf.o`)) {
      const source = fileURLToPath(new URL(`fixtures/${name}.bpf.c`, import.meta.url));
      const include = execFileSync('cc', ['-print-multiarch'], { encoding: 'utf8' }).trim();
      execFileSync('clang', [
        '-O2',
        '-g',
        '-target',
        'bpf',
        `-I/usr/include/${include}`,
        '-c',
        source,
        '-o',
        out,
      ]);
    }
    return out;
  }

  /** A path for a pin on a bpffs that nobody else sees. */
  pin(name: string): string {
    if (this.#bpffs === undefined) {
      const dir = join(this.dir, 'bpffs');
      mkdirSync(dir);
      execFileSync('mount', ['-t', 'bpf', 'bpf', dir]);
      this.#bpffs = dir;
    }
    return join(this.#bpffs, name);
  }

  /** A new cgroup, never the root. */
  cgroup(name: string): string {
    const path = join(cgroup2(), `zerohop-addon-${process.pid}-${name}`);
    mkdirSync(path);
    this.#cgroups.push(path);
    return path;
  }

  clean(): void {
    if (this.#bpffs !== undefined) execFileSync('umount', [this.#bpffs]);
    for (const path of this.#cgroups) {
      try {
        rmdirSync(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    rmSync(this.dir, { recursive: true });
  }
}

export function cgroup2(): string {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [mount = '', rest = ''] = line.split(' - ');
    if (rest.startsWith('cgroup2 ')) return mount.split(' ')[4] ?? '';
  }
  throw new Error('this host has no cgroup2 mount');
}

/**
 * What a shell in the cgroup hears when it connects to a closed port: `refused` or `not
 * permitted`.
 */
export function connectIn(cgroup: string): string {
  const script = `echo $$ > "$1/cgroup.procs"; exec 3<>/dev/tcp/127.0.0.1/1`;
  const { stderr } = spawnSync('bash', ['-c', script, 'connect', cgroup], { encoding: 'utf8' });
  if (stderr.includes('Connection refused')) return 'refused';
  return stderr.includes('Operation not permitted') ? 'not permitted' : stderr;
}

/** For assert.throws: a BpfError with this code and, if given, this in its message. */
export function failsWith(code: string, message = /./): (error: unknown) => boolean {
  return (error) => {
    if (!(error instanceof BpfError)) throw error;
    if (error.code !== code || !message.test(error.message)) {
      throw new Error(`expected ${code} ${message}, got: ${error.message}`, { cause: error });
    }
    return true;
  };
}

export function u32(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export function u64(...values: number[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values, BigInt).buffer);
}

export function readU32(bytes: Uint8Array | undefined): number {
  if (bytes === undefined) throw new Error('no value');
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

export function readU64(bytes: Uint8Array | undefined): number {
  if (bytes === undefined) throw new Error('no value');
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
}

/** Runs a script of this folder in a process of its own. */
export function runChild(
  script: string,
  args: readonly string[] = [],
  flags: readonly string[] = [],
): { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string } {
  const path = fileURLToPath(new URL(script, import.meta.url));
  return spawnSync(process.execPath, [...flags, path, ...args], {
    encoding: 'utf8',
    timeout: 300_000,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
}
