/** What the API says of a cluster, from what a member and the state know. */
import type { MemberAnswer, RouteAnswer, TokenAnswer } from '../../api/cluster-schemas.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { MemberView, RouteView } from '../../cluster/standing.ts';
import type { StateSnapshot } from '../../state/records.ts';

interface Token {
  readonly id: string;
  readonly expiresAtMs: number;
  readonly signer: boolean;
  readonly used?: { readonly atMs: number; readonly nodeId: string };
}

const iso = (ms: number): string => new Date(ms).toISOString();

export function tokenAnswerOf({ id, expiresAtMs, signer, used }: Token): TokenAnswer {
  return {
    id,
    expiresAt: iso(expiresAtMs),
    signer,
    ...(used === undefined ? {} : { used: { at: iso(used.atMs), node: used.nodeId } }),
  };
}

export function memberAnswerOf(member: MemberView): MemberAnswer {
  return { ...member, addresses: [...member.addresses] };
}

export function routeAnswerOf(route: RouteView): RouteAnswer {
  return { ...route, path: [...route.path] };
}

/** Ports of which no backend could be reached, so that all of them stay in use. */
export function failOpenOf({ services }: Catalog): string[] {
  return [...services.values()].flatMap(({ name, ports }) =>
    ports.flatMap((port) => (port.failOpen === true ? [`${name}:${port.name}`] : [])),
  );
}

/** What a host has of its own, in words; undefined: nothing. */
export function ownRecordsText(
  { services, acls, records }: StateSnapshot,
  keys: number,
): string | undefined {
  if (services.size + acls.size + records.size + keys === 0) return undefined;
  const names = records.size === 0 ? '' : `, ${records.size} DNS records`;
  return `${services.size} services, ${acls.size} rules${names} and ${keys} keys`;
}
