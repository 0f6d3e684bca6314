/**
 * Finds the cgroup v2 hierarchy, hybrid mounts included: on such hosts it is
 * not /sys/fs/cgroup (proc(5), /proc/PID/mountinfo).
 */
import { readFileSync, statfsSync, statSync } from 'node:fs';
import { ProblemError } from '../../state/problem.ts';

const CGROUP2_SUPER_MAGIC = 0x63677270;

export interface Mount {
  readonly root: string;
  readonly path: string;
  readonly type: string;
}

/** Mounts of this process's mount namespace; octal escapes resolved. */
export function mounts(): Mount[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const [, , , root, path] = left.split(' ');
    const [type] = right.split(' ');
    if (root === undefined || path === undefined || type === undefined) return [];
    return [{ root: unescape(root), path: unescape(path), type }];
  });
}

function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** Where cgroup2 is mounted, or undefined. A mount of its true root wins over partial ones. */
export function findCgroup2(): string | undefined {
  const found = mounts().filter((mount) => mount.type === 'cgroup2');
  return (found.find((mount) => mount.root === '/') ?? found[0])?.path;
}

export interface Cgroup {
  readonly path: string;
  /** Inode of the directory, which is the id that links report. */
  readonly id: bigint;
}

/** The cgroup to attach to: the configured path, else the root. Throws ProblemError. */
export function openCgroup(configured: string | undefined): Cgroup {
  const path = configured ?? findCgroup2();
  if (path === undefined) {
    throw problem(
      'no cgroup2 hierarchy is mounted',
      'mount one: mount -t cgroup2 none /sys/fs/cgroup (hybrid hosts: another empty folder), or boot with systemd.unified_cgroup_hierarchy=1',
    );
  }
  try {
    if (statfsSync(path).type !== CGROUP2_SUPER_MAGIC) {
      throw problem(
        `${path} is not on a cgroup2 file system`,
        `the cgroup2 hierarchy of this host is ${findCgroup2() ?? 'not mounted'}; set cgroupPath (--cgroup) to a folder there`,
      );
    }
    return { path, id: statSync(path, { bigint: true }).ino };
  } catch (error) {
    if (error instanceof ProblemError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw problem(
      `the cgroup ${path} cannot be used: ${why}`,
      'set cgroupPath (--cgroup) to an existing cgroup2 folder',
    );
  }
}

function problem(message: string, hint: string): ProblemError {
  return new ProblemError([{ code: 'unavailable', message, path: 'cgroupPath', hint }]);
}
