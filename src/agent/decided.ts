/** Changes that were decided here. */
import type { Catalog } from '../catalog/catalog.ts';
import type { Command } from '../state/commands.ts';
import type { Change, StateSnapshot } from '../state/records.ts';
import type { Changed } from '../state/replica/replica.ts';
import { serviceKey } from '../state/replica/schema.ts';

/** Makes nothing that was not there. */
export function takesAway({ kind }: Change): boolean {
  return kind.startsWith('remove-');
}

/** Whether the documents say what was decided: lists in any order, and nothing of others among it. */
export function isSame(a: readonly Change[], b: readonly Change[]): boolean {
  if (a.length !== b.length) return false;
  const texts = new Set(a.map((change) => JSON.stringify(change)));
  return b.every((change) => texts.has(JSON.stringify(change)));
}

/** Where backends were put that live with no process of a node; also where all was as it is said again. */
export function placesOf(command: Command, changes: readonly Change[]): ReadonlySet<string> {
  const places = new Set<string>();
  if (command.kind === 'put-backend' && command.backend.owner === undefined)
    places.add(command.backend.address);
  for (const change of changes)
    if (change.kind === 'put-backend' && change.backend.owner === undefined)
      places.add(change.backend.address);
  return places;
}

/** Others wrote one of the services that are put, and the snapshot does not show it yet. */
export function isOvertaken(changes: readonly Change[], pending: readonly Changed[]): boolean {
  const keys = new Set(
    changes.flatMap((change) =>
      change.kind === 'put-service' ? [serviceKey(change.service.name)] : [],
    ),
  );
  return pending.some(({ key }) => keys.has(key));
}

/** Services whose own VIPs another one has, with those that the Catalog gave them. */
export function vipsToSettle(
  { conflicts, services }: Catalog,
  snapshot: StateSnapshot,
): readonly Change[] {
  const losers = new Set(
    conflicts.flatMap(({ kind, services: [, loser] }) => (kind === 'reassigned' ? [loser] : [])),
  );
  return [...losers].flatMap((name): Change[] => {
    const record = snapshot.services.get(name);
    const vips = services.get(name)?.vips ?? [];
    if (record === undefined || vips.length === 0) return [];
    return [{ kind: 'put-service', service: { ...record, vips } }];
  });
}
