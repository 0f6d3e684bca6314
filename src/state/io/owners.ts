/** Asks /proc whether the processes that own backends still run. */
import { readFileSync } from 'node:fs';
import { removalsOfDead, startTicksOf } from '../owners.ts';
import type { BackendOwner, Change, StateSnapshot } from '../records.ts';

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function startTicks(pid: number): number | undefined {
  try {
    return startTicksOf(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return undefined; // gone
  }
}

/** This process, as the owner of what it registers. */
export function ownerOfSelf(command: string): BackendOwner {
  return { pid: process.pid, startTicks: startTicks(process.pid) ?? 0, bootId: bootId(), command };
}

/** Removals for backends whose process has exited, or ran before this boot. */
export function deadOwners(snapshot: StateSnapshot): readonly Change[] {
  const boot = bootId();
  return removalsOfDead(
    snapshot,
    (owner) => owner.bootId === boot && startTicks(owner.pid) === owner.startTicks,
  );
}
