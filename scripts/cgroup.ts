// The cgroup a test run lives in: made at the cgroup2 root, killed and removed as a whole. Only for scripts/.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';

const PREFIX = 'zerohop-test-';
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Mount point of the first cgroup2 mount; on hybrid machines that is not /sys/fs/cgroup. */
export function cgroup2Mount(): string {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const fields = line.split(' ');
    const point = fields[4];
    if (point !== undefined && fields[fields.indexOf('-') + 1] === 'cgroup2') return point;
  }
  throw new Error('no cgroup2 mount in /proc/self/mountinfo: mount -t cgroup2 none /sys/fs/cgroup');
}

export function makeTestCgroup(): string {
  const path = `${cgroup2Mount()}/${PREFIX}${process.pid}`;
  mkdirSync(path);
  return path;
}

/** What a run that was killed with -9 left: cgroups named after a process that is gone. */
export function removeStaleTestCgroups(): void {
  const mount = cgroup2Mount();
  for (const name of readdirSync(mount)) {
    if (!name.startsWith(PREFIX) || existsSync(`/proc/${name.slice(PREFIX.length)}`)) continue;
    removeCgroup(`${mount}/${name}`);
  }
}

/** The cgroup and those below it, deepest first. */
export function cgroupsBelow(path: string): string[] {
  const inner = readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => cgroupsBelow(`${path}/${entry.name}`));
  return [...inner, path];
}

export function processesIn(path: string): number[] {
  return cgroupsBelow(path).flatMap((cgroup) =>
    readFileSync(`${cgroup}/cgroup.procs`, 'utf8').split('\n').filter(Boolean).map(Number),
  );
}

/** Kills everything in the cgroup and removes it; does nothing when it is gone. */
export function removeCgroup(path: string): void {
  const deadline = performance.now() + 5000;
  while (existsSync(path)) {
    try {
      kill(path);
      for (const cgroup of cgroupsBelow(path)) rmdirSync(cgroup);
    } catch (error) {
      if (performance.now() > deadline) throw error;
      Atomics.wait(pause, 0, 0, 20); // EBUSY until the killed processes are reaped
    }
  }
}

function kill(path: string): void {
  if (existsSync(`${path}/cgroup.kill`)) {
    writeFileSync(`${path}/cgroup.kill`, '1');
    return;
  }
  for (const pid of processesIn(path)) process.kill(pid, 'SIGKILL'); // Linux < 5.14
}
