/** The paths of the cluster: founding, joining, leaving, tokens, who is in it; as routes.ts. */
import { ProblemError } from '../state/problem.ts';
import { findMember, isLastSigner } from './cluster-names.ts';
import * as c from './cluster-schemas.ts';
import type { ClusterEngine, Engine } from './engine.ts';
import { route, type Route } from './route.ts';
import * as s from './schemas.ts';

/** Throws ProblemError outside a cluster. */
function membershipOf(engine: Engine): ClusterEngine {
  const { cluster } = engine;
  if (cluster.status().member) return cluster;
  const hint = '`zerohop cluster init` founds one, `zerohop cluster join` joins one';
  throw new ProblemError([{ code: 'conflict', message: 'this host is in no cluster', hint }]);
}

/** Also a member that has no port or address yet. */
function leavableOf(engine: Engine): ClusterEngine {
  const status = engine.cluster.status();
  return !status.member && status.waiting !== undefined ? engine.cluster : membershipOf(engine);
}

/** For what makes a member of this host. */
function outsiderOf(engine: Engine): ClusterEngine {
  const { cluster } = engine;
  const status = cluster.status();
  if (!status.member) return cluster;
  const message = `this host is in the cluster ${status.clusterId} already`;
  const hint = '`zerohop members` shows who else is; `zerohop cluster leave` takes it out';
  throw new ProblemError([{ code: 'conflict', message, hint }]);
}

function withdraw(cluster: ClusterEngine, id: string): c.WithdrawnTokenAnswer {
  const token = cluster.tokens().find((one) => one.id === id);
  if (token?.used !== undefined) {
    const message = `the token ${id} was used by node ${token.used.node}: it cannot be withdrawn`;
    const hint = '`zerohop cluster revoke` puts a node out';
    throw new ProblemError([{ code: 'conflict', message, hint }]);
  }
  if (token === undefined || !cluster.withdrawToken(id)) {
    const message = `this host has made no token ${id}`;
    const hint = '`zerohop cluster tokens` shows those of this host; others are at theirs';
    throw new ProblemError([{ code: 'not-found', message, hint }]);
  }
  return { id };
}

async function leave(cluster: ClusterEngine, force: boolean): Promise<c.ClusterAnswer> {
  if (!force && isLastSigner(cluster.members())) {
    const message = 'this host is the last with the CA key: without it nobody can join any more';
    const hint =
      'let a host join with a token of `zerohop cluster token --signer` first, or say --force (?force=true)';
    throw new ProblemError([{ code: 'conflict', message, hint }]);
  }
  return await cluster.leave();
}

async function revoke(cluster: ClusterEngine, body: c.RevocationBody): Promise<c.RevocationAnswer> {
  const { id, name, signer } = findMember(cluster.members(), body.node);
  const status = cluster.status();
  if (status.member && status.nodeId === id) {
    const message = 'that is this host: it does not put itself out';
    const hint = '`zerohop cluster leave` takes it out; to revoke it, do so on another member';
    throw new ProblemError([{ code: 'conflict', message, path: 'node', hint }]);
  }
  await cluster.revoke({ node: id, reason: body.reason });
  return { id, name, reason: body.reason, ...(signer !== undefined && { signer }) };
}

const MEMBERSHIP: readonly Route[] = [
  route('GET', '/v1/cluster', {
    summary: 'Whether this host is in a cluster, and how it stands there',
    params: s.noParams,
    query: s.noQuery,
    answer: c.clusterAnswer,
    handle: (engine) => engine.cluster.status(),
  }),
  route('POST', '/v1/cluster', {
    summary: 'Found a cluster with this host as its first member',
    status: 201,
    params: s.noParams,
    query: s.noQuery,
    answer: c.clusterAnswer,
    handle: (engine) => outsiderOf(engine).init(),
  }),
  route('DELETE', '/v1/cluster', {
    summary:
      'Leave: others let go of this host at once, its certificate is forgotten, its state stays here. The last member with the CA key needs force=true',
    params: s.noParams,
    query: c.leaveQuery,
    answer: c.clusterAnswer,
    handle: (engine, { query }) => leave(leavableOf(engine), query.force),
  }),
  route('POST', '/v1/cluster/join', {
    summary:
      "Join with a token of the node at address. A host with services, rules, DNS records or keys of its own needs state: merge adds them where the cluster has none, discard drops them. The cluster's state may come after the answer: see neighbours[].behind",
    params: s.noParams,
    query: s.noQuery,
    body: c.joinBody,
    answer: c.clusterAnswer,
    handle: (engine, { body }) => outsiderOf(engine).join(body),
  }),
  route('POST', '/v1/cluster/revocations', {
    summary: 'Put a node out for good, by id or unique name: every member cuts it off',
    status: 201,
    params: s.noParams,
    query: s.noQuery,
    body: c.revocationBody,
    answer: c.revocationAnswer,
    handle: (engine, { body }) => revoke(membershipOf(engine), body),
  }),
];

const TOKENS: readonly Route[] = [
  route('GET', '/v1/cluster/tokens', {
    summary:
      'Join tokens that this host made, without the words themselves; none outside a cluster',
    params: s.noParams,
    query: s.noQuery,
    answer: c.tokenListAnswer,
    handle: (engine): c.TokenListAnswer => {
      const { cluster } = engine;
      return { tokens: cluster.status().member ? [...cluster.tokens()] : [] };
    },
  }),
  route('POST', '/v1/cluster/tokens', {
    summary:
      'Make a join token: good once, at this host, until it expires. With signer the new member gets the CA key',
    status: 201,
    params: s.noParams,
    query: s.noQuery,
    body: c.tokenBody,
    answer: c.issuedTokenAnswer,
    handle: (engine, { body }) => membershipOf(engine).issueToken(body),
  }),
  route('DELETE', '/v1/cluster/tokens/{id}', {
    summary: 'Withdraw a token of this host that nobody used',
    params: c.tokenParams,
    query: s.noQuery,
    answer: c.withdrawnTokenAnswer,
    handle: (engine, { params }) => withdraw(membershipOf(engine), params.id),
  }),
];

export const CLUSTER: readonly Route[] = [
  ...MEMBERSHIP,
  ...TOKENS,
  route('GET', '/v1/members', {
    summary: 'Everybody in the cluster as seen from this host; nobody outside one',
    params: s.noParams,
    query: s.noQuery,
    answer: c.memberListAnswer,
    handle: (engine): c.MemberListAnswer => ({ members: [...engine.cluster.members()] }),
  }),
  route('GET', '/v1/routes', {
    summary: 'Over which members this host reaches each of the others; nobody outside a cluster',
    params: s.noParams,
    query: s.noQuery,
    answer: c.routeListAnswer,
    handle: (engine): c.RouteListAnswer => ({ routes: [...engine.cluster.routes()] }),
  }),
];
