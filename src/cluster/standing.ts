/**
 * What an operator sees of a cluster: its members, the ways to them, and how this node stands in it.
 * Puts together what the overlay, the liveness and the documents say; finds out nothing itself.
 */
import type { Node, Peer } from '../hyparview-ts/index.ts';
import type { NodeRecord } from '../state/replica/schema.ts';
import type { Liveness } from './liveness.ts';
import { poolProblems } from './pools.ts';
import { TURNED_AWAY } from './turned-away.ts';

export type MemberState = 'alive' | 'suspect' | 'dead' | 'left' | 'unknown';

export interface MemberView {
  readonly id: string;
  /** The id where the node has told no name yet. */
  readonly name: string;
  readonly state: MemberState;
  readonly self: boolean;
  readonly neighbour: boolean;
  readonly zone: string;
  /** Empty where it is not known. */
  readonly address: string;
  readonly addresses: readonly string[];
  readonly rttMs?: number;
  readonly version?: string;
  readonly signer: boolean;
  /** When it came into this state, as seen from here (ISO 8601). */
  readonly since?: string;
}

export interface RouteView {
  readonly to: string;
  readonly name: string;
  readonly hops: number;
  /** From this node's neighbour to `to`. */
  readonly path: readonly string[];
}

export interface NeighbourView {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly zone: string;
  readonly suspect: boolean;
  readonly rttMs?: number;
  /** Documents known to differ; absent until it has told of all that it has. */
  readonly behind?: number;
  readonly queuedBytes: number;
}

export interface MemberStatus {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly name: string;
  readonly zone: string;
  readonly address: string;
  /** Where programs of this host are reached by others: one address of each family at most. */
  readonly reachedAt: readonly string[];
  readonly signer: boolean;
  readonly incarnation: number;
  readonly startedAt: string;
  /** ISO 8601. */
  readonly certificateUntil: string;
  readonly certificateRenewAt: string;
  /** What somebody should do something about, in sentences. */
  readonly problems: readonly string[];
  /** By state, this node included. */
  readonly members: Readonly<Record<MemberState, number>>;
  readonly neighbours: readonly NeighbourView[];
  readonly documents: number;
  /** Documents that differ from the neighbour that differs most, as far as is known. */
  readonly behind: number;
  readonly revocations: number;
  readonly messagesSent: number;
  readonly messagesReceived: number;
  readonly messagesDropped: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export interface Sources {
  readonly node: Node;
  readonly liveness: Liveness;
  readonly record: (id: string) => NodeRecord | undefined;
  /** Of nodes that are gone for good nothing is shown. */
  readonly isGone: (id: string) => boolean;
  /** Wall clock. */
  readonly startedAtMs: number;
  readonly iso: (wallMs: number) => string;
}

/** How this node stands; times are of the wall clock. */
export interface Standing {
  readonly clusterId: string;
  readonly name: string;
  readonly signer: boolean;
  /** Why the CA's key that is here cannot be used. */
  readonly keyProblem: string | undefined;
  /** Blocks that this node takes VIPs from. */
  readonly vips: readonly string[];
  readonly incarnation: number;
  readonly certificate: { readonly notAfterMs: number; readonly dueAtMs: number };
  readonly nowMs: number;
  /** undefined while it is a member. */
  readonly whyGone: string | undefined;
  readonly reachedAt: readonly string[];
  readonly turnedAwaySinceMs: number | undefined;
  readonly wasSetBack: boolean;
  /** undefined while it has a neighbour. */
  readonly aloneSinceMs: number | undefined;
  readonly documents: number;
  readonly revocations: number;
  readonly lag: ReadonlyMap<string, number | undefined>;
  readonly queuedBytes: (id: string) => number;
  readonly metrics: Readonly<Record<TotalOf, number>>;
}

type TotalOf =
  | `cluster_messages_${'sent' | 'received'}_total`
  | `cluster_messages_dropped_total.${'bulk' | 'lost' | 'unreachable'}`
  | `cluster_${'sent' | 'received'}_bytes_total`;

/** From then on the end of a certificate is worth a word: renewal has failed for a while. */
const CERTIFICATE_WORRY_MS = 7 * 86_400_000;
/** Of being alone: a start takes less, and so does a change of neighbours. A guess. */
const ALONE_WORRY_MS = 30_000;

/** This node first, then by name. */
export function membersOf(sources: Sources): MemberView[] {
  const { node, liveness, isGone } = sources;
  const { id: self } = node.self;
  const ids = new Set([...liveness.ids(), ...node.members.alive()]);
  ids.delete(self);
  const others = [...ids].filter((id) => !isGone(id)).map((id) => memberOf(id, sources));
  return [memberOf(self, sources), ...others.toSorted(byName)];
}

/** How many members that are alive have a smaller id than this node: they are before it in what one does for all. */
export function rankOf(sources: Sources): number {
  const { node, liveness, isGone } = sources;
  const isBefore = (id: string): boolean =>
    id < node.self.id && !isGone(id) && stateOf(id, sources) === 'alive';
  return liveness.ids().filter(isBefore).length;
}

function memberOf(id: string, sources: Sources): MemberView {
  const { node, liveness, record, startedAtMs, iso } = sources;
  const self = id === node.self.id;
  const said = record(id);
  const peer = self ? node.self : peerOf(node, id);
  const sinceMs = self ? startedAtMs : liveness.sinceMs(id);
  const rttMs = self ? undefined : node.detector.rttMs(id);
  return {
    id,
    name: said?.name ?? id,
    state: self ? 'alive' : stateOf(id, sources),
    self,
    neighbour: node.views.active.has(id),
    zone: peer?.zone ?? said?.zone ?? '',
    address: peer?.address ?? said?.address ?? '',
    addresses: said?.addresses ?? [],
    ...(rttMs !== undefined && { rttMs }),
    ...(said !== undefined && { version: said.version }),
    signer: said?.signer ?? false,
    ...(sinceMs !== undefined && { since: iso(sinceMs) }),
  };
}

function stateOf(id: string, { node, liveness }: Sources): MemberState {
  const standing = liveness.standing(id);
  const isThere = standing === 'alive' || standing === 'unknown';
  return isThere && node.detector.isSuspected(id) ? 'suspect' : standing;
}

/** As the node itself says in this life of the overlay. */
function peerOf(node: Node, id: string): Peer | undefined {
  return node.views.active.get(id) ?? node.members.states.get(id)?.state.origin;
}

function byName(a: MemberView, b: MemberView): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  return a.id < b.id ? -1 : 1;
}

/** To every member that there is a way to, the nearest first. */
export function routesOf({ node, record, isGone }: Sources): RouteView[] {
  const routes = node.members.alive().flatMap((to): RouteView[] => {
    const path = node.members.path(to);
    if (path.length === 0 || isGone(to)) return [];
    return [{ to, name: record(to)?.name ?? to, hops: path.length, path }];
  });
  return routes.sort((a, b) => a.hops - b.hops || (a.name < b.name ? -1 : 1));
}

function countsOf(members: readonly MemberView[]): Record<MemberState, number> {
  const counts = { alive: 0, suspect: 0, dead: 0, left: 0, unknown: 0 };
  for (const { state } of members) counts[state] += 1;
  return counts;
}

function neighboursOf({ node, record }: Sources, { lag, queuedBytes }: Standing): NeighbourView[] {
  return node.views.active.peers.map(({ id, address, zone }) => {
    const rttMs = node.detector.rttMs(id);
    const behind = lag.get(id);
    return {
      id,
      name: record(id)?.name ?? id,
      address,
      zone,
      suspect: node.detector.isSuspected(id),
      ...(rttMs !== undefined && { rttMs }),
      ...(behind !== undefined && { behind }),
      queuedBytes: queuedBytes(id),
    };
  });
}

export function statusOf(sources: Sources, standing: Standing): MemberStatus {
  const { node, startedAtMs, iso } = sources;
  const { clusterId, name, signer, incarnation, certificate, documents, revocations } = standing;
  const { metrics, lag } = standing;
  const { id, zone, address } = node.self;
  const list = membersOf(sources);
  const members = countsOf(list);
  const others = Object.values(members).reduce((sum, count) => sum + count, -1);
  return {
    clusterId,
    nodeId: id,
    name,
    zone,
    address,
    reachedAt: standing.reachedAt,
    signer,
    incarnation,
    startedAt: iso(startedAtMs),
    certificateUntil: iso(certificate.notAfterMs),
    certificateRenewAt: iso(certificate.dueAtMs),
    problems: [...problemsOf(standing, others, iso), ...poolsProblems(sources, standing, list)],
    members,
    neighbours: neighboursOf(sources, standing),
    documents,
    behind: Math.max(0, ...[...lag.values()].map((count) => count ?? 0)),
    revocations,
    messagesSent: metrics.cluster_messages_sent_total,
    messagesReceived: metrics.cluster_messages_received_total,
    messagesDropped:
      metrics['cluster_messages_dropped_total.bulk'] +
      metrics['cluster_messages_dropped_total.lost'] +
      metrics['cluster_messages_dropped_total.unreachable'],
    sentBytes: metrics.cluster_sent_bytes_total,
    receivedBytes: metrics.cluster_received_bytes_total,
  };
}

/** Of those that are there, and can be set right. */
function poolsProblems(
  { record }: Sources,
  { vips }: Standing,
  list: readonly MemberView[],
): string[] {
  const there = list.filter(
    ({ self, state }) => !self && (state === 'alive' || state === 'suspect'),
  );
  return poolProblems(
    vips,
    there.map(({ id, name }) => ({ id, name, vips: record(id)?.vips })),
  );
}

function problemsOf(
  {
    whyGone,
    wasSetBack,
    turnedAwaySinceMs,
    aloneSinceMs,
    keyProblem,
    certificate,
    nowMs,
  }: Standing,
  others: number,
  iso: (wallMs: number) => string,
): string[] {
  const problems: string[] = [];
  if (whyGone !== undefined)
    problems.push(
      `this host is out of the cluster (${whyGone}): leave it, and join with a new token`,
    );
  else if (turnedAwaySinceMs !== undefined)
    problems.push(`${TURNED_AWAY} (since ${iso(turnedAwaySinceMs)})`);
  else if (others > 0 && aloneSinceMs !== undefined && nowMs - aloneSinceMs >= ALONE_WORRY_MS)
    problems.push(
      `no other member can be reached since ${iso(aloneSinceMs)}: the network is cut, all others ` +
        'are down; see `zerohop members` on another host',
    );
  if (wasSetBack)
    problems.push(
      'others know writes of this host that its disk has not: its data directory was set back; ' +
        'leave the cluster and join again',
    );
  if (keyProblem !== undefined) problems.push(`this host cannot sign: ${keyProblem}`);
  const until = iso(certificate.notAfterMs);
  if (certificate.notAfterMs <= nowMs)
    problems.push(
      `the certificate has ended at ${until}: leave, and join with a new token, or put the clock right`,
    );
  else if (certificate.notAfterMs < nowMs + CERTIFICATE_WORRY_MS)
    problems.push(
      `the certificate ends at ${until} and could not be renewed: start a host that has the CA key`,
    );
  return problems;
}
