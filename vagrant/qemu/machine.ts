// What this machine has for guests: the programs they need, KVM or not, and how many may run at once.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { cacheFolder, type Lock, lock } from './cache.ts';
import type { Accel } from './guest.ts';
import type { Say } from './fetch.ts';
import { virtiofsd, wayToShare, type Way } from './share.ts';

/** Beside its memory, what QEMU and virtiofsd take. */
const OVERHEAD_MB = 400;
const GUESTS_MAX = 2; // more do not get more done on the machines seen so far

/** A mistake of whoever called, or of the machine: said without a stack. */
export class Complaint extends Error {}

const PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['depmod', 'kmod'],
  ['xz', 'xz-utils'],
  ['lz4', 'lz4'],
  ['flock', 'util-linux'],
];

const onPath = (program: string): boolean =>
  [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'].some((dir) =>
    existsSync(join(dir, program)),
  );

function staticBusybox(): boolean {
  if (!existsSync('/bin/busybox')) return false;
  return spawnSync('ldd', ['/bin/busybox'], { stdio: 'ignore' }).status !== 0;
}

/** Debian packages without which no guest runs. */
export function missingPackages(): string[] {
  const missing = PROGRAMS.filter(([program]) => !onPath(program)).map(([, name]) => name);
  if (!staticBusybox()) missing.push('busybox-static');
  // A qemu that is there without it is of the newer kind, where it is a package of its own.
  if (virtiofsd() === undefined && !missing.includes('qemu-system-x86')) missing.push('virtiofsd');
  return missing;
}

/** Throws with one line to paste when something is missing. */
export function needMachine(): Way {
  if (process.arch !== 'x64') throw new Complaint('guests are x86-64 only, this machine is not');
  const missing = missingPackages();
  if (missing.length > 0) {
    const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
    throw new Complaint(
      `packages are missing; paste: ${sudo}apt-get install -y --no-install-recommends ${missing.join(' ')}`,
    );
  }
  const way = wayToShare();
  if (way === undefined)
    throw new Complaint(
      'neither mount name spaces (root) nor user name spaces (anybody) are allowed here, so no file system can be shared with a guest: run this as root outside the container, or allow user name spaces',
    );
  return way;
}

const kvmNote = (): string => join(cacheFolder(), 'kvm');
/** The verdict holds for this boot of this machine. */
const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** Whether KVM is worth a try: not when it failed before. */
export function kvmVerdict(): 'yes' | 'no' | 'unknown' {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'no';
  }
  if (!existsSync(kvmNote())) return 'unknown';
  const [id, verdict] = readFileSync(kvmNote(), 'utf8').trim().split(' ');
  return id === bootId() && (verdict === 'yes' || verdict === 'no') ? verdict : 'unknown';
}

export function noteKvm(works: boolean): void {
  writeFileSync(kvmNote(), `${bootId()} ${works ? 'yes' : 'no'}\n`);
}

export const accelNow = (): Accel => (kvmVerdict() === 'yes' ? 'kvm' : 'tcg');

function availableMb(): number {
  const found = /^MemAvailable: +(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  return Number(found ?? 0) / 1024;
}

/** How many guests may run at once here, by cores and memory. */
export function guestsAtOnce(memoryMb: number): number {
  const asked = Number(
    process.env['ZEROHOP_VM_JOBS'] ?? Math.min(GUESTS_MAX, availableParallelism()),
  );
  const fit = Math.floor(availableMb() / (memoryMb + OVERHEAD_MB));
  return Math.max(1, Math.min(asked, fit));
}

/** A place for one guest; all callers on this machine that share the cache share the places. */
export async function place(memoryMb: number, say: Say): Promise<Lock> {
  const names = Array.from({ length: guestsAtOnce(memoryMb) }, (_, index) => `guest-${index}`);
  return await lock(names, () => say(`${names.length} guests are running, waiting`));
}
