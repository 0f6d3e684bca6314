// Prints why this process may not do here what the tests and the demo do (load BPF programs, make cgroups and network
// name spaces); nothing when it may. Finds out by trying, and leaves nothing behind. Needs the built addon.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { cgroup2Mount } from './cgroup.ts';

async function obstacle(): Promise<string> {
  if (process.getuid?.() !== 0) return 'loading BPF programs needs root';
  try {
    const { probe } = await import('../addon/index.ts');
    if (!probe.programType('BPF_PROG_TYPE_CGROUP_SOCK_ADDR'))
      return `the kernel refuses to load BPF programs${lockdown()}`;
  } catch (error) {
    return `the kernel refuses BPF (${(error as Error).message})`;
  }
  try {
    const cgroup = `${cgroup2Mount()}/zerohop-try-${process.pid}`;
    mkdirSync(cgroup);
    rmdirSync(cgroup);
  } catch (error) {
    return `no cgroup can be made (${(error as Error).message})`;
  }
  const made = spawnSync('unshare', [
    '--mount',
    '--net',
    '--ipc',
    '--cgroup',
    'mount',
    '-t',
    'bpf',
    'bpf',
    '/sys/fs/bpf',
  ]);
  if (made.status !== 0) return `no name spaces can be made (${made.stderr.toString().trim()})`;
  return '';
}

function lockdown(): string {
  const file = '/sys/kernel/security/lockdown';
  const mode = existsSync(file) ? /\[(\w+)\]/.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
  return mode === undefined || mode === 'none' ? '' : ` (lockdown: ${mode})`;
}

console.log(await obstacle());
