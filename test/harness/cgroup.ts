/** The cgroup2 tree of this machine, hybrid mounts included. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './eventually.ts';

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

/** Of this cgroup and all below it. */
function pidsIn(cgroup: string): number[] {
  const below = readdirSync(cgroup, { recursive: true, encoding: 'utf8' });
  return ['cgroup.procs', ...below.filter((file) => file.endsWith('/cgroup.procs'))].flatMap(
    (file) => {
      try {
        return readFileSync(join(cgroup, file), 'utf8').split('\n').filter(Boolean).map(Number);
      } catch {
        return []; // removed meanwhile
      }
    },
  );
}

/** Kills everything in a cgroup at once, and waits until it is empty. */
export async function killCgroup(cgroup: string): Promise<void> {
  const kill = join(cgroup, 'cgroup.kill'); // Linux >= 5.14
  await eventually(`cgroup ${cgroup} to be empty`, () => {
    const pids = pidsIn(cgroup).filter((pid) => pid !== 0); // 0: in another pid namespace
    if (pids.length === 0) return true;
    if (existsSync(kill)) {
      writeFileSync(kill, '1');
      return false;
    }
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone meanwhile
      }
    }
    return false;
  });
}
