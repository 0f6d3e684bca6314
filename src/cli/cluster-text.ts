/** How the commands of the cluster tell how it stands. */
import type { ClusterAnswer, ConflictAnswer, MembershipAnswer } from '../api/cluster-schemas.ts';
import { counted } from './output.ts';

type Neighbour = MembershipAnswer['neighbours'][number];

/** How far a neighbour is ahead of this host, as far as it has told. */
export function lagText({ behind }: Pick<Neighbour, 'behind'>): string {
  if (behind === undefined) return 'not compared yet';
  return behind === 0
    ? 'in step'
    : `${counted(behind, 'document')} differ${behind === 1 ? 's' : ''}`;
}

export function rttText(rttMs: number | undefined): string {
  return rttMs === undefined ? '' : `${rttMs.toFixed(rttMs < 10 ? 2 : 0)} ms`;
}

/** Whether nothing is known to differ, and somebody was compared with. */
export function isInStep({ neighbours }: MembershipAnswer): boolean {
  const told = neighbours.filter((one) => one.behind !== undefined);
  return told.length > 0 && told.every((one) => one.behind === 0);
}

function stepText(membership: MembershipAnswer): string {
  const [furthest] = membership.neighbours.toSorted((a, b) => (b.behind ?? 0) - (a.behind ?? 0));
  if (furthest === undefined || isInStep(membership)) return 'in step';
  return (furthest.behind ?? 0) === 0
    ? lagText({})
    : `behind: ${lagText(furthest)} from ${furthest.name}`;
}

/** `4 of 5`: those that left do not count. */
export function aliveText({ members }: MembershipAnswer): string {
  const { alive, suspect, dead, unknown } = members;
  return `${alive} of ${counted(alive + suspect + dead + unknown, 'member')} alive`;
}

function isAlone({ members, neighbours }: MembershipAnswer): boolean {
  const { alive, suspect, dead, unknown } = members;
  return neighbours.length === 0 && alive + suspect + dead + unknown <= 1;
}

/** `3 neighbours, in step` */
export function linksText(membership: MembershipAnswer): string {
  const { length } = membership.neighbours;
  if (length > 0) return `${counted(length, 'neighbour')}, ${stepText(membership)}`;
  return isAlone(membership) ? 'nobody else is in it' : 'NO neighbour: cut off from all others';
}

/** `4 of 5 members alive, 3 neighbours, in step` */
export function standingText(cluster: ClusterAnswer): string {
  if (!cluster.member)
    return cluster.waiting === undefined ? 'in no cluster' : 'a member, but not connected yet';
  if (isAlone(cluster)) return 'this host is its only member';
  return `${aliveText(cluster)}, ${linksText(cluster)}`;
}

export function conflictText({ vip, kind, services, port, protocol, now }: ConflictAnswer): string {
  const [winner, loser] = services;
  const where = kind === 'port' ? `${vip} port ${port ?? '?'}/${protocol ?? '?'}` : vip;
  const instead =
    kind === 'port'
      ? `${loser} is not reached there`
      : now === undefined
        ? `${loser} has no VIP instead: the pool is full`
        : `${loser} has ${now} instead`;
  return `${winner} and ${loser} both claim ${where}: ${winner} keeps it, ${instead}`;
}

/** One line for each thing that somebody may have to look after. */
export function caresOf(cluster: ClusterAnswer): string[] {
  const { conflicts = [], failOpen = [], unsavedDocuments = 0, unreadable = 0 } = cluster;
  const waiting = cluster.member ? undefined : cluster.waiting;
  const problems = cluster.member ? cluster.problems : waiting === undefined ? [] : [waiting];
  return [
    ...problems.map((problem) => `problem: ${problem}`),
    ...conflicts.map((conflict) => `conflict: ${conflictText(conflict)}`),
    ...failOpen.map(
      (port) => `fail open: no host with a backend of ${port} is reachable, so all stay in use`,
    ),
    ...(unsavedDocuments > 0
      ? [
          `not saved: the disk refused ${counted(unsavedDocuments, 'document')} of other hosts; tried again`,
        ]
      : []),
    ...(unreadable > 0
      ? [
          `left out: ${counted(unreadable, 'record')} that this version cannot read: is another member newer?`,
        ]
      : []),
  ];
}
