/**
 * Backends that live and die with a process (`zerohop run`): which of them have
 * lost it. Usually `run` removes its backends itself; this is for kill -9.
 */
import { removalOf } from './draft.ts';
import type { BackendOwner, Change, StateSnapshot } from './records.ts';

export function ownerKey(owner: BackendOwner): string {
  return `${owner.bootId} ${owner.pid} ${owner.startTicks}`;
}

/** Backends of a process are of the document of its node. */
export function ofNode(change: Change, node: string): Change {
  if (change.kind !== 'put-backend' || change.backend.owner === undefined) return change;
  if (change.backend.node !== undefined) return change;
  return { ...change, backend: { ...change.backend, node } };
}

/** Removals for every backend of `node` whose owner is not alive; asks once per owner. */
export function removalsOfDead(
  snapshot: StateSnapshot,
  node: string,
  isAlive: (owner: BackendOwner) => boolean,
): readonly Change[] {
  const verdicts = new Map<string, boolean>();
  const changes: Change[] = [];
  for (const backends of snapshot.backends.values()) {
    for (const backend of backends) {
      if (backend.owner === undefined || backend.node !== node) continue;
      const key = ownerKey(backend.owner);
      const alive = verdicts.get(key) ?? isAlive(backend.owner);
      verdicts.set(key, alive);
      if (!alive) changes.push(removalOf(backend));
    }
  }
  return changes;
}

/** Field 22 of /proc/PID/stat (proc(5)); the command in field 2 may hold spaces and brackets. */
export function startTicksOf(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[19]);
  // A zombie has exited: nobody listens on its sockets any more.
  return fields[0] === 'Z' || fields[0] === 'X' || !Number.isSafeInteger(ticks) ? undefined : ticks;
}
