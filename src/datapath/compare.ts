/** A frontend's set in the tables against the one that is wanted. */
import { aliasTable } from './alias.ts';
import { backendState, bytesToKey } from './abi.ts';
import type { Frontend, Target } from './desired.ts';
import type { Member } from './tables.ts';
import { backendText } from './text.ts';

export const stateNumber = (target: Target): number => backendState[target.state];

export const endpointKey = (address: string, port: number): string => `${address}${port}`;

export const columnsOf = (targets: readonly Target[]): ReturnType<typeof aliasTable> =>
  aliasTable(targets.map((t) => (t.state === 'active' ? t.weight : 0)));

/** What is wrong with a frontend's set in the tables, or undefined. */
export function differs(
  frontend: Frontend,
  entry: { members: number; count: number; gen: number },
  members: readonly Member[],
): string | undefined {
  const wanted = new Map(frontend.targets.map((t) => [endpointKey(t.address, t.port), t]));
  if (members.length !== entry.members) return 'its slots are damaged';
  const targets: Target[] = [];
  for (const { backend, slot } of members) {
    const where = endpointKey(bytesToKey(backend.addr), backend.port);
    const target = wanted.get(where);
    const text = (): string => backendText(bytesToKey(backend.addr), backend.port);
    if (target === undefined) return `backend ${text()} is not wanted`;
    wanted.delete(where);
    if (backend.state !== stateNumber(target)) return `backend ${text()} is in the wrong state`;
    if (slot.weight !== target.weight) {
      return `backend ${text()} has weight ${slot.weight} instead of ${target.weight}`;
    }
    targets.push(target);
  }
  for (const { address, port } of wanted.values()) {
    return `backend ${backendText(address, port)} is missing`;
  }
  const columns = columnsOf(targets);
  if (entry.count !== columns.length) return 'the wrong number of usable slots';
  for (const [i, { slot }] of members.entries()) {
    const column = columns[i] ?? { threshold: 0, alias: i };
    if (slot.gen !== entry.gen) return 'a slot of another set';
    if (slot.threshold !== column.threshold || slot.alias !== members[column.alias]?.id) {
      return `slot ${i} draws other backends than it should`;
    }
  }
  return undefined;
}
