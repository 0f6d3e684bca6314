/** A ClusterEngine without a network: remembers what it was told, and has the members that a test gave it. */
import type {
  ClusterAnswer,
  IssuedTokenAnswer,
  JoinBody,
  MemberAnswer,
  MembershipAnswer,
  RouteAnswer,
  TokenAnswer,
  TokenBody,
} from '../../../src/api/cluster-schemas.ts';
import type { Metrics } from '../../../src/cluster/io/metrics.ts';
import type { ClusterEngine } from '../../../src/api/engine.ts';

/** 26 letters, as ids have. */
export const nodeId = (letter: string): string => letter.repeat(25).concat('a');

export const WORD = `zh1_${'a'.repeat(128)}`;
const LATER = '2026-01-01T01:00:00.000Z';

export function member(
  letter: string,
  name: string,
  more: Partial<MemberAnswer> = {},
): MemberAnswer {
  const host = letter.charCodeAt(0) - 'a'.charCodeAt(0) + 1;
  return {
    id: nodeId(letter),
    name,
    state: 'alive',
    self: false,
    neighbour: true,
    zone: 'east',
    address: `10.0.0.${host}:7946`,
    addresses: [`10.0.0.${host}`],
    version: '0.1.0',
    signer: false,
    since: '2026-01-01T00:00:00.000Z',
    ...more,
  };
}

export const SELF = member('a', 'web1', { self: true, neighbour: false, signer: true });

export class FakeCluster implements ClusterEngine {
  list: readonly MemberAnswer[] = [];
  issued: readonly TokenAnswer[] = [];
  /** What the transport counted. */
  seen: Metrics | undefined;
  /** Laid over what status() says of a member. */
  told: Partial<MembershipAnswer> = {};
  ways: readonly RouteAnswer[] = [];
  /** What this host finds when it joins; each later status() takes the next one of these. */
  behind: (number | undefined)[] = [];
  readonly calls: (readonly [string, ...unknown[]])[] = [];
  /** Thrown by the next call that changes something. */
  failure: Error | undefined;

  #called(name: string, ...details: readonly unknown[]): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    this.calls.push([name, ...details]);
  }

  status(): ClusterAnswer {
    const self = this.list.find((one) => one.self);
    if (self === undefined) return { member: false };
    const { id, name, zone, address, signer } = self;
    const counts = { alive: 0, suspect: 0, dead: 0, left: 0, unknown: 0 };
    for (const { state } of this.list) counts[state]++;
    const behind = this.behind.length > 1 ? this.behind.shift() : this.behind[0];
    const neighbours = this.list
      .filter((one) => one.neighbour)
      .map((one) => ({
        id: one.id,
        name: one.name,
        ...(one.rttMs !== undefined && { rttMs: one.rttMs }),
        ...(behind !== undefined && { behind }),
      }));
    return {
      member: true,
      clusterId: 'b'.repeat(16),
      nodeId: id,
      name,
      zone,
      address,
      reachedAt: [address.replace(/:\d+$/, '')],
      signer,
      certificateUntil: '2026-01-31T00:00:00.000Z',
      certificateRenewAt: '2026-01-20T00:00:00.000Z',
      startedAt: '2026-01-01T00:00:00.000Z',
      incarnation: 1,
      problems: [],
      members: counts,
      neighbours,
      documents: 1 + this.list.length,
      behind: behind ?? 0,
      revocations: 0,
      messagesSent: 0,
      messagesReceived: 0,
      messagesDropped: 0,
      sentBytes: 0,
      receivedBytes: 0,
      conflicts: [],
      failOpen: [],
      unsavedDocuments: 0,
      unreadable: 0,
      ...this.told,
    };
  }

  async init(): Promise<ClusterAnswer> {
    this.#called('init');
    this.list = [SELF];
    return await Promise.resolve(this.status());
  }

  async join(how: JoinBody): Promise<ClusterAnswer> {
    this.#called('join', how);
    this.list = [{ ...SELF, signer: false }, member('b', 'web2', { rttMs: 0.42 })];
    return await Promise.resolve(this.status());
  }

  async leave(): Promise<ClusterAnswer> {
    this.#called('leave');
    this.list = [];
    return await Promise.resolve(this.status());
  }

  tokens(): readonly TokenAnswer[] {
    return this.issued;
  }

  issueToken({ validForS, signer }: TokenBody): IssuedTokenAnswer {
    this.#called('token', validForS, signer);
    const id = '00112233445566aa';
    this.issued = [...this.issued, { id, expiresAt: LATER, signer }];
    return { token: WORD, id, expiresAt: LATER, signer, address: SELF.address };
  }

  withdrawToken(id: string): boolean {
    this.#called('withdraw', id);
    const before = this.issued.length;
    this.issued = this.issued.filter((one) => one.id !== id);
    return this.issued.length < before;
  }

  async revoke(who: { readonly node: string; readonly reason: string }): Promise<void> {
    this.#called('revoke', who.node, who.reason);
    await Promise.resolve();
  }

  counters(): Readonly<Metrics> | undefined {
    return this.seen;
  }

  members(): readonly MemberAnswer[] {
    return this.list;
  }

  routes(): readonly RouteAnswer[] {
    return this.ways;
  }
}
