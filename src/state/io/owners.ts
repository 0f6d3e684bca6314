/** Asks /proc whether the processes that own backends still run. */
import { readFileSync } from 'node:fs';
import { removalsOfDead, startTicksOf } from '../owners.ts';
import type { Replica, Write } from '../replica/replica.ts';
import { readBackend } from '../replica/schema.ts';
import type { BackendOwner, Change, StateSnapshot } from '../records.ts';

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** undefined if the process has ended; throws if it cannot be read. */
function startTicks(pid: number): number | undefined {
  return startTicksOf(readFileSync(`/proc/${pid}/stat`, 'latin1'));
}

/** This process, as the owner of what it registers. */
export function ownerOfSelf(command: string): BackendOwner {
  return { pid: process.pid, startTicks: startTicks(process.pid) ?? 0, bootId: bootId(), command };
}

/** Whether there is such a process; under hidepid (proc(5)) that is all one can learn of another user's. */
function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function runs(owner: BackendOwner): boolean {
  try {
    return startTicks(owner.pid) === owner.startTicks;
  } catch {
    return exists(owner.pid);
  }
}

/** Those of `writes` (StateView.orphans()) that take away backends whose process is gone. */
export function deadOrphans(writes: readonly Write[], replica: Replica): readonly Write[] {
  const boot = bootId();
  return writes.filter(({ key }) => {
    const [, service = ''] = key.split('/');
    const owner = readBackend(key, replica.get(replica.own, key) ?? '{}', service)?.owner;
    return owner === undefined || owner.bootId !== boot || !runs(owner);
  });
}

/** Removals for backends of this node whose process has exited, or ran before this boot. */
export function deadOwners(snapshot: StateSnapshot, node: string): readonly Change[] {
  const boot = bootId();
  return removalsOfDead(snapshot, node, (owner) => owner.bootId === boot && runs(owner));
}
