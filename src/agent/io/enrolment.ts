/** What DATA/cluster says of this host. Never makes the directory where there is none. */
import { existsSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../cluster/io/clock.ts';
import type { Identity } from '../../cluster/io/identity.ts';
import { Memory } from '../../cluster/io/memory.ts';
import { Vault, type Joining } from '../../cluster/io/vault.ts';
import type { Config } from '../../config/schema.ts';
import type { Logger } from '../../telemetry/io/log.ts';

type Place = Pick<Config, 'dataDir'>;

function vaultOf({ dataDir }: Place): Vault | undefined {
  return existsSync(join(dataDir, 'cluster')) ? new Vault(dataDir) : undefined;
}

/** undefined: in no cluster. Throws ProblemError where that cannot be read. */
export function enrolledAs(place: Place): Identity | undefined {
  return vaultOf(place)?.identity();
}

/** Of an agent that died between founding, joining or leaving and the end of it. */
export function unfinishedJoin(place: Place): Joining | undefined {
  return vaultOf(place)?.joining();
}

/** Whether there is anybody to get a lost state from: who founded the cluster, or other members that this one remembers. */
export function hasOthers(place: Place, log: Logger): boolean {
  const vault = vaultOf(place);
  const clusterId = vault?.identity()?.clusterId;
  if (vault === undefined || clusterId === undefined) return false;
  if (vault.authority() === undefined) return true; // somebody else founded it
  if ((vault.joining()?.seeds ?? []).length > 0) return true;
  return new Memory(place.dataDir, clusterId, systemClock, log).found.known.length > 0;
}

/** Made by hand, it ends the wait for a state that nobody will bring back. */
export function withoutState({ dataDir }: Place): string {
  return join(dataDir, 'cluster', 'without-state');
}

/** Whether somebody has made that file since then; one from an earlier wait does not count. */
export function isWaitEnded(place: Place, sinceMs: number): boolean {
  const file = withoutState(place);
  const made = statSync(file, { throwIfNoEntry: false });
  if (made === undefined || made.mtimeMs < sinceMs) return false;
  try {
    rmSync(file);
  } catch {
    // It is older than the next wait.
  }
  return true;
}

/** Ids of the other members that this one remembers, there or not. */
export function rememberedNodes(place: Place, log: Logger): readonly string[] {
  const vault = vaultOf(place);
  const clusterId = vault?.identity()?.clusterId;
  if (vault === undefined || clusterId === undefined) return [];
  const { known, absent } = new Memory(place.dataDir, clusterId, systemClock, log).found;
  const { seeds = [] } = vault.joining() ?? {};
  return [...known, ...absent, ...seeds].map(({ id }) => id);
}
