/** The cgroup2 tree of this machine, hybrid mounts included. */
import { readFileSync } from 'node:fs';

/** The mount point of cgroup2 (proc(5), mountinfo: field 5, then after the dash the file system type). */
export function cgroup2Root(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): string {
  for (const line of mountinfo.split('\n')) {
    const [mount, type] = line.split(' - ');
    if (type?.startsWith('cgroup2 ') === true) return mount?.split(' ')[4] ?? '';
  }
  throw new Error(
    'no cgroup2 is mounted here: the tests need one (mount -t cgroup2 none /sys/fs/cgroup/unified)',
  );
}
