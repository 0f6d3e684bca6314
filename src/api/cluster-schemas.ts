/** What the API answers and takes about the cluster: members, tokens, who is out; as schemas.ts. */
import * as z from 'zod';
import { parseAddress } from '../cluster/address.ts';
import { ProblemError } from '../state/problem.ts';
import { show, strict, text, wholeNumber } from '../state/validate.ts';
import { count, flag, textList } from './values.ts';

/** Two services with one VIP, given out while hosts did not see each other (catalog/conflicts.ts). */
const conflictAnswer = z.object({
  vip: z.string(),
  /** `reassigned`: the loser has another VIP. `port`: it is not reached at this VIP and port. */
  kind: z.enum(['reassigned', 'port']),
  /** Who has it, and who has not: the smaller name wins, on every host. */
  services: z.tuple([z.string(), z.string()]).readonly(),
  port: z.int().optional(),
  protocol: z.enum(['tcp', 'udp']).optional(),
  /** What the loser has instead; absent where the pool is full. */
  now: z.string().optional(),
});
export type ConflictAnswer = z.output<typeof conflictAnswer>;

/** What one may have to look after; of the state, so it may outlast the membership. */
const cares = {
  conflicts: z.array(conflictAnswer),
  /** `service:port` of which no host with a backend is reachable: all of them stay in use. */
  failOpen: textList,
  /** Documents of other hosts that the disk refused: in memory, and tried again. */
  unsavedDocuments: count,
  /** Records that this version cannot read: left out and left alone. */
  unreadable: count,
};

const neighbourAnswer = z.object({
  id: z.string(),
  name: z.string(),
  rttMs: z.number().min(0).optional(),
  /** Documents that differ from this neighbour's; absent until it has told what it has. */
  behind: count.optional(),
  address: z.string().optional(),
  zone: z.string().optional(),
  suspect: z.boolean().optional(),
  /** Not sent yet. */
  queuedBytes: count.optional(),
});

const outside = z.object({
  member: z.literal(false),
  /** Why a member is not connected to its cluster yet. */
  waiting: z.string().optional(),
  ...z.object(cares).partial().shape,
});

const inside = z.object({
  member: z.literal(true),
  clusterId: z.string(),
  nodeId: z.string(),
  name: z.string(),
  zone: z.string(),
  /** IP:PORT that other members dial. */
  address: z.string(),
  /** Where programs of this host are reached by others: one IP of each family at most. */
  reachedAt: textList,
  /** Whether this host has the CA's key: it makes tokens and renews certificates. */
  signer: z.boolean(),
  certificateUntil: z.string(),
  /** When the next one is asked for. */
  certificateRenewAt: z.string(),
  /** As a member; counts the starts of this node. */
  startedAt: z.string(),
  incarnation: count,
  /** What somebody should do something about, in sentences. */
  problems: textList,
  /** By state, this host included. */
  members: z.object({ alive: count, suspect: count, dead: count, left: count, unknown: count }),
  neighbours: z.array(neighbourAnswer),
  /** Of the replicated state: the shared one, and one for each node. */
  documents: count,
  /** Documents that differ from the neighbour that differs most, as far as is known. */
  behind: count,
  revocations: count,
  /** Since this start. */
  messagesSent: count,
  messagesReceived: count,
  messagesDropped: count,
  sentBytes: count,
  receivedBytes: count,
  ...cares,
});

export const clusterAnswer = z.discriminatedUnion('member', [outside, inside]);
export type ClusterAnswer = z.output<typeof clusterAnswer>;
export type MembershipAnswer = z.output<typeof inside>;

export const memberAnswer = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(['alive', 'suspect', 'dead', 'left', 'unknown']),
  /** This host. */
  self: z.boolean(),
  /** Whether there is an overlay link to it. */
  neighbour: z.boolean(),
  zone: z.string(),
  address: z.string(),
  /** Of the host: a shared backend on one of them is this member's. */
  addresses: textList,
  rttMs: z.number().min(0).optional(),
  version: z.string().optional(),
  signer: z.boolean(),
  /** When it came into this state, as seen from here. */
  since: z.string().optional(),
});
export type MemberAnswer = z.output<typeof memberAnswer>;

export const memberListAnswer = z.object({ members: z.array(memberAnswer) });
export type MemberListAnswer = z.output<typeof memberListAnswer>;

export const routeAnswer = z.object({
  /** Node id. */
  to: z.string(),
  name: z.string(),
  hops: count,
  /** Node ids from this host's neighbour to `to`. */
  path: textList,
});
export type RouteAnswer = z.output<typeof routeAnswer>;

export const routeListAnswer = z.object({ routes: z.array(routeAnswer) });
export type RouteListAnswer = z.output<typeof routeListAnswer>;

export const tokenAnswer = z.object({
  id: z.string(),
  expiresAt: z.string(),
  /** Whether the new member gets the CA's key too. */
  signer: z.boolean(),
  used: z.object({ at: z.string(), node: z.string() }).optional(),
});
export type TokenAnswer = z.output<typeof tokenAnswer>;

export const tokenListAnswer = z.object({ tokens: z.array(tokenAnswer) });
export type TokenListAnswer = z.output<typeof tokenListAnswer>;

export const issuedTokenAnswer = z.object({
  /** The word that joins: shown this once, and not kept. */
  token: z.string(),
  id: z.string(),
  expiresAt: z.string(),
  signer: z.boolean(),
  /** Where it must be used: IP:PORT of this host. */
  address: z.string(),
});
export type IssuedTokenAnswer = z.output<typeof issuedTokenAnswer>;

export const withdrawnTokenAnswer = z.object({ id: z.string() });
export type WithdrawnTokenAnswer = z.output<typeof withdrawnTokenAnswer>;

export const revocationAnswer = z.object({
  id: z.string(),
  /** Empty for a member that is forgotten here. */
  name: z.string(),
  reason: z.string(),
  /** Whether it had the CA's key, which cannot be taken back; absent where that is not known. */
  signer: z.boolean().optional(),
});
export type RevocationAnswer = z.output<typeof revocationAnswer>;

/** HOST:PORT as `cluster join` takes it; a name is looked up by whoever dials. */
const address = text('address').transform((value, ctx): string => {
  try {
    parseAddress(value);
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    const [problem] = error.problems;
    const message = [problem?.message, problem?.hint].filter((part) => part !== undefined);
    ctx.addIssue({ code: 'custom', message: message.join(': ') });
  }
  return value;
});

export const joinBody = strict({
  address,
  token: text('token').min(1, { error: 'token is empty' }).max(512, { error: 'token is too long' }),
  /** What becomes of this host's own services, rules and keys; without it, having some is refused. */
  state: z
    .enum(['merge', 'discard'], {
      error: (issue) => `state ${show(issue.input)} is neither merge nor discard`,
    })
    .optional(),
});
export type JoinBody = z.output<typeof joinBody>;

/** An hour: time to walk to the other host, and not to forget the word in a file. A guess. */
export const TOKEN_VALID_S = 3600;
/** 30 days, as long as a certificate: a word that opens the cluster should not outlive one. */
export const TOKEN_VALID_S_MAX = 30 * 86_400;

export const tokenBody = strict({
  validForS: wholeNumber('validForS', 1, TOKEN_VALID_S_MAX).default(TOKEN_VALID_S),
  signer: z
    .boolean({ error: (issue) => `signer ${show(issue.input)} is neither true nor false` })
    .default(false),
});
export type TokenBody = z.output<typeof tokenBody>;

/** Enough for a sentence and a ticket. */
const REASON_CHARS_MAX = 200;

export const revocationBody = strict({
  /** A node id, or a name that only one member has. */
  node: text('node').min(1, { error: 'node is empty' }).max(253, { error: 'node is too long' }),
  reason: text('reason')
    .trim()
    .min(1, { error: 'reason is empty: say why, for those who look later' })
    .max(REASON_CHARS_MAX, { error: `reason is longer than ${REASON_CHARS_MAX} characters` }),
});
export type RevocationBody = z.output<typeof revocationBody>;

export const tokenParams = strict({
  id: text('token id')
    .toLowerCase()
    .regex(/^[0-9a-f]{16}$/, {
      error: (issue) => `${show(issue.input)} is no token id: it has 16 digits of 0–9 and a–f`,
    }),
});

export const leaveQuery = strict({
  /** Leaves also as the last member with the CA's key, after which nobody can join. */
  force: flag.default(false),
});
