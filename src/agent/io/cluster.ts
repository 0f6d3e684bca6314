/**
 * This host as a member of a cluster, or of none: founds, joins, leaves, and
 * comes back at a start. Ties the running membership to the pipeline; what is
 * said between hosts is in src/cluster.
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  ClusterAnswer,
  IssuedTokenAnswer,
  JoinBody,
  MemberAnswer,
  RouteAnswer,
  TokenAnswer,
  TokenBody,
} from '../../api/cluster-schemas.ts';
import type { ClusterEngine } from '../../api/engine.ts';
import { parseAddress } from '../../cluster/address.ts';
import { advertisedAddress, hostAddresses } from '../../cluster/advertise.ts';
import { systemClock } from '../../cluster/io/clock.ts';
import type { Identity } from '../../cluster/io/identity.ts';
import type { Member } from '../../cluster/io/member.ts';
import type { MemberSettings } from '../../cluster/io/member-options.ts';
import { Memory } from '../../cluster/io/memory.ts';
import { interfacesOfHost } from '../../cluster/io/self.ts';
import { Vault } from '../../cluster/io/vault.ts';
import { rememberedAbsence } from '../../cluster/remembered.ts';
import type { Revocation } from '../../cluster/revocation.ts';
import type { Config } from '../../config/schema.ts';
import type { Health } from '../../health/io/health.ts';
import type { Peer } from '../../hyparview-ts/index.ts';
import { formatCidr } from '../../net/cidr.ts';
import { LOCAL_NODE } from '../../state/io/state.ts';
import { ProblemError } from '../../state/problem.ts';
import type { Rebase } from '../../state/replica/rebase.ts';
import { SHARED, type Replica, type Write } from '../../state/replica/replica.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import { version } from '../../version.ts';
import { blankWrite, FULL_WRITE, isBlank, mayHaveState } from '../blank.ts';
import {
  failOpenOf,
  memberAnswerOf,
  ownRecordsText,
  routeAnswerOf,
  tokenAnswerOf,
} from './cluster-answers.ts';
import {
  enrolledAs,
  hasOthers,
  isWaitEnded,
  rememberedNodes,
  unfinishedJoin,
  withoutState,
} from './enrolment.ts';
import { ALL_REACHABLE, type Reachability } from '../context.ts';
import type { Pipeline } from './pipeline.ts';

const BLANK_LOOK_MS = 50;
const BLANK_LOOKS_TOLD = 200;
const BLANK =
  'this host has no state of its cluster: it waits for another member to get it from, and the kernel ' +
  'goes on as it is; if none that has it will come back, make the file `unless` (touch): this host begins ' +
  'without a state then, and so do others that wait as it does; one that comes back later brings its own';
const WAIT_ENDED =
  'somebody said that nobody has the state of this cluster any more: it begins without';
const STOPPING = 'the agent is stopping: this host did not join';
const STOPPING_HINT = 'start it and join with a new token; this one may be used up';
const NO_ADDRESS = 'this host has no address yet that other members could dial';
const ADDRESS_HINT = 'it is waited for; behind NAT set cluster.advertise';

export class Cluster implements ClusterEngine {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #pipeline: Pipeline;
  readonly #health: Health | undefined;
  #member: Member | undefined;
  /** Why a member does not run as one: no port, or no address yet. It is tried again. */
  #waitsFor: string | undefined;
  /** Came as a member, or came back, and has not yet what another one has: its state may have been set back. */
  #isBehind = false;
  /** Its state was lost, or it has joined and has none yet. */
  #isBlank = false;
  /** Ids of the members that were known before this run. */
  #remembered: readonly string[] = [];
  /** One joining, founding or leaving at a time. */
  #busy: string | undefined;
  #isStopping = false;

  constructor(config: Config, log: Logger, pipeline: Pipeline, health?: Health) {
    this.#config = config;
    this.#log = log;
    this.#pipeline = pipeline;
    this.#health = health;
  }

  /** Comes back as the member it was, now or when this host has an address and the port is free. */
  async start(): Promise<void> {
    const identity = enrolledAs(this.#config);
    const node = identity?.nodeId ?? LOCAL_NODE;
    const joining = unfinishedJoin(this.#config);
    // A state from before the join, put back without the directory `cluster`: the cluster's records win.
    const shared = identity === undefined ? 'keep' : (joining?.shared ?? 'oldest');
    if (this.#pipeline.state.node !== node) this.#rebase(node, shared);
    if (identity === undefined && joining !== undefined) this.#forgetJoin();
    this.#isBehind = hasOthers(this.#config, this.#log);
    this.#remembered = rememberedNodes(this.#config, this.#log);
    this.#isBlank = this.#isBehind && this.#hasNothing(joining !== undefined);
    if (this.#isBlank) this.#sayBlank(this.#remembered);
    if (identity !== undefined) await this.#return(identity);
    if (this.#member?.hasLeft === true) await this.leave();
  }

  /**
   * Where the state was lost, or this host died before it had any: resolves when it is as another
   * member has it, or nobody has any. Until then the kernel goes on with what it was told last.
   */
  async caughtUp(): Promise<void> {
    const unless = withoutState(this.#config);
    const sinceMs = Date.now();
    for (let look = 0; this.#isBlank && !this.#hasAll(); look++) {
      if (isWaitEnded(this.#config, sinceMs)) {
        this.#log.warn({ unless }, WAIT_ENDED);
        break;
      }
      if (look % BLANK_LOOKS_TOLD === 0)
        this.#log.warn({ waitsFor: this.#awaited(), unless }, BLANK);
      await sleep(BLANK_LOOK_MS);
      await this.refresh();
    }
    this.#sayFull();
  }

  /** The same for one that joined, which serves meanwhile: others are not to take it for full. */
  async #fillUp(): Promise<void> {
    while (this.#isBlank && !this.#isStopping && !this.#hasAll()) await sleep(BLANK_LOOK_MS);
    this.#sayFull();
  }

  #hasAll(): boolean {
    const level = this.#levelWith();
    const { replica } = this.#pipeline.state;
    if (level.some((id) => !isBlank(replica, id))) return true;
    return level.length > 0 && this.#awaited().length === 0;
  }

  /** Members that may have a state. */
  #awaited(): readonly string[] {
    const { replica } = this.#pipeline.state;
    const known = this.#member?.members().map(({ id }) => id) ?? [];
    return mayHaveState(replica, [replica.node, ...known]);
  }

  /** All others that were ever known here are gone for good. */
  #isLast(): boolean {
    const gone = this.#member?.gone() ?? new Map<string, unknown>();
    const others = this.#member?.members().filter(({ self }) => !self) ?? [];
    const isGone = (id: string): boolean => gone.has(id);
    return gone.size > 0 && others.length === 0 && this.#remembered.every(isGone);
  }

  /** Neighbours that have what this host has, and no more. */
  #levelWith(): readonly string[] {
    const { neighbours = [] } = this.#member?.status() ?? {};
    return neighbours.flatMap(({ id, behind }) => (behind === 0 ? [id] : []));
  }

  /**
   * A member has documents of others, or a word about who left; but for one that died while it waited
   * for them. What is shared may be its own from before the join.
   */
  #hasNothing(isJoining: boolean): boolean {
    const { replica } = this.#pipeline.state;
    if (isBlank(replica, replica.node)) return true;
    const isOthers = (id: string): boolean => id !== SHARED && id !== replica.own;
    if (replica.documents().some(isOthers)) return false;
    return isJoining || ![...replica.winners(SHARED)].length;
  }

  /** Before anybody can see its documents. */
  #sayBlank(known: readonly string[]): void {
    const { replica } = this.#pipeline.state;
    if (!isBlank(replica, replica.node)) this.#say(blankWrite(known));
  }

  #sayFull(): void {
    if (!this.#isBlank || this.#isStopping) return;
    this.#isBlank = false;
    this.#say(FULL_WRITE);
  }

  #say(write: Write): void {
    try {
      this.#pipeline.writeNow([write]);
    } catch (error) {
      this.#log.error({ error }, 'whether this host has a state cannot be written down for others');
    }
  }

  /** At a boot the agent is there before the network is. Services and rules do not wait for it. */
  async #return(identity: Identity): Promise<void> {
    try {
      if (this.#address() === undefined) throw problem('unavailable', NO_ADDRESS, ADDRESS_HINT);
      await this.#run(identity, unfinishedJoin(this.#config)?.seeds ?? [], []);
      this.#waitsFor = undefined;
      this.#joined();
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const isNews = this.#waitsFor !== error.message;
      if (this.#waitsFor === undefined) this.#tellRemembered(identity);
      this.#waitsFor = error.message;
      if (isNews)
        this.#log.error({ error }, 'a member, but not connected to the cluster: tried again');
    }
  }

  /** Until it runs as a member, who was dead when it ran last stays so. */
  #tellRemembered({ clusterId }: Identity): void {
    const { dataDir } = this.#config;
    const { absent } = new Memory(dataDir, clusterId, systemClock, this.#log).found;
    this.#tell(rememberedAbsence(this.#pipeline.state.replica, absent));
  }

  /** Of this host, for others to dial; undefined: it has none yet. */
  #address(): string | undefined {
    const { advertise, listen } = this.#config.cluster;
    return advertisedAddress(advertise, listen, interfacesOfHost());
  }

  /** Now and then: connects a member that could not be, and one whose address is another one now. */
  async refresh(): Promise<void> {
    if (this.#busy !== undefined) return;
    const member = this.#member;
    const address = this.#address();
    const isMoved = address !== undefined && member !== undefined && member.address !== address;
    if (member !== undefined ? !isMoved || this.#has(member.address) : this.#waitsFor === undefined)
      return;
    await this.#once('connecting to the cluster', async () => {
      if (member !== undefined) {
        this.#log.warn({ was: member.address, is: address }, 'this host has another address');
        await member.stop(false);
        this.#member = undefined;
        this.#health?.parted(); // before the next one can hear anything
      }
      const identity = enrolledAs(this.#config);
      if (identity !== undefined) await this.#return(identity);
    });
  }

  /** Whether one of several addresses was chosen at the start, and is still there. */
  #has(address: string): boolean {
    const { host } = parseAddress(address);
    const { advertise } = this.#config.cluster;
    return advertise !== undefined || hostAddresses(interfacesOfHost()).includes(host);
  }

  /** Ends as a member for now: with a goodbye others let go of this host's backends before it ends. */
  async stop(goodbye: boolean): Promise<void> {
    this.#isStopping = true;
    await this.#member?.stop(goodbye);
    this.#pipeline.spreadBy(undefined);
    this.#member = undefined;
  }

  status(): ClusterAnswer {
    const { state, catalog } = this.#pipeline;
    const cares = {
      conflicts: catalog.conflicts.map((conflict) => ({ ...conflict })),
      failOpen: failOpenOf(catalog),
      unsavedDocuments: state.unsaved,
      unreadable: state.view.unreadable().size,
    };
    const member = this.#member;
    if (member === undefined) {
      const waiting = this.#waitsFor;
      return { member: false, ...cares, ...(waiting === undefined ? {} : { waiting }) };
    }
    const { neighbours, problems, reachedAt, ...standing } = member.status();
    const lists = {
      neighbours: [...neighbours],
      problems: [...problems],
      reachedAt: [...reachedAt],
    };
    return { member: true, ...standing, ...lists, ...cares };
  }

  init(): Promise<ClusterAnswer> {
    return this.#alone('founding a cluster', async () => {
      const { foundCluster } = await import('../../cluster/io/founding.ts');
      const { authority, identity } = await foundCluster(systemClock);
      return this.#enter(() => 'keep', identity, authority.keyPem, [], []);
    });
  }

  join({ address, token, state }: JoinBody): Promise<ClusterAnswer> {
    return this.#alone('joining a cluster', async () => {
      if (state === undefined) this.#refuseOwnRecords();
      const { joinCluster } = await import('../../cluster/io/joining.ts');
      const joined = await joinCluster(address, token, systemClock);
      const { identity, caKeyPem, peers, revocations } = joined;
      // What was written while the other host was asked is nobody's to drop but who says so.
      const isDropped = (): boolean => state === 'discard' || this.#ownRecords() === undefined;
      const shared = (): 'oldest' | 'drop' => (isDropped() ? 'drop' : 'oldest');
      return this.#enter(shared, identity, caKeyPem, peers, revocations);
    });
  }

  leave(): Promise<ClusterAnswer> {
    return this.#once('leaving the cluster', async () => {
      if (enrolledAs(this.#config) === undefined) this.#required();
      const { told } = (await this.#member?.leave()) ?? { told: false };
      // A member that does not run as one yet has told nobody.
      if (this.#member === undefined) new Vault(this.#config.dataDir).forget();
      if (!told) {
        const problem = 'no other member could be told that this host left';
        this.#log.warn({}, `${problem}: run \`zerohop cluster revoke\` for it on one of them`);
      }
      return this.#pipeline.exclusive(() => {
        this.#member = undefined;
        this.#waitsFor = undefined;
        this.#isBehind = false;
        this.#isBlank = false;
        this.#pipeline.spreadBy(undefined);
        this.#rebase(LOCAL_NODE, 'keep');
        this.#pipeline.reachability(ALL_REACHABLE);
        this.#health?.left();
        this.#log.info({}, 'left the cluster; its services stay here as they were last known');
        return Promise.resolve(this.status());
      });
    });
  }

  tokens(): readonly TokenAnswer[] {
    return this.#required().tokens().map(tokenAnswerOf);
  }

  issueToken({ validForS, signer }: TokenBody): IssuedTokenAnswer {
    const member = this.#required();
    const { token, id, expiresAtMs } = member.issueToken(validForS * 1000, signer);
    const expiresAt = new Date(expiresAtMs).toISOString();
    return { token, id, expiresAt, signer, address: member.address };
  }

  withdrawToken(id: string): boolean {
    return this.#required().withdrawToken(id);
  }

  revoke({ node, reason }: { readonly node: string; readonly reason: string }): Promise<void> {
    return this.#pipeline.exclusive(() => Promise.resolve(this.#required().revoke(node, reason)));
  }

  members(): readonly MemberAnswer[] {
    return (this.#member?.members() ?? []).map(memberAnswerOf);
  }

  routes(): readonly RouteAnswer[] {
    return (this.#member?.routes() ?? []).map(routeAnswerOf);
  }

  /**
   * How many members that are alive have a smaller id, and are before this host in what one does for
   * all. undefined until it has what another one has, if there is any left: one that was set back may
   * begin an epoch anew that others have.
   */
  get rank(): number | undefined {
    const { replica } = this.#pipeline.state;
    this.#isBehind &&= !this.#levelWith().some((id) => !isBlank(replica, id)) && !this.#isLast();
    if (this.#isBehind) return undefined;
    return this.#member?.rank ?? 0;
  }

  /** What is counted, for the metrics; undefined in no cluster. */
  counters(): Member['metrics'] | undefined {
    return this.#member?.metrics;
  }

  #required(): Member {
    if (this.#member !== undefined) return this.#member;
    if (this.#waitsFor !== undefined) {
      throw problem('unavailable', `not connected to the cluster: ${this.#waitsFor}`, ADDRESS_HINT);
    }
    const hint = '`zerohop cluster init` founds one, `zerohop cluster join` joins one';
    throw problem('unavailable', 'this host is in no cluster', hint);
  }

  /** For a host that is in no cluster yet. */
  #alone<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.#once(what, async () => {
      // Also one that has no port or address yet.
      const { clusterId } = this.#member ?? enrolledAs(this.#config) ?? {};
      if (clusterId === undefined) return await work();
      const hint = '`zerohop cluster leave` leaves it';
      throw problem('conflict', `this host is in cluster ${clusterId} already`, hint);
    });
  }

  async #once<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy !== undefined) {
      throw problem('conflict', `this host is ${this.#busy} just now`, 'try again in a moment');
    }
    this.#busy = what;
    try {
      return await work();
    } finally {
      this.#busy = undefined;
    }
  }

  #ownRecords(): string | undefined {
    const { state } = this.#pipeline;
    return ownRecordsText(state.snapshot(), state.kv.all().length);
  }

  #refuseOwnRecords(): void {
    const records = this.#ownRecords();
    if (records === undefined) return;
    const message = `this host has ${records} of its own`;
    const hint =
      'with --merge they come along, and what the cluster has under the same name wins; with --discard they go';
    throw problem('conflict', message, hint);
  }

  /**
   * Where the identity is the host is a member: dying before it is saved leaves the host as it was,
   * and after it a start goes on with the join.
   */
  #enter(
    shared: () => Rebase['shared'],
    identity: Identity,
    caKeyPem: string | undefined,
    seeds: readonly Peer[],
    revocations: readonly Revocation[],
  ): Promise<ClusterAnswer> {
    return this.#pipeline.exclusive(async () => {
      if (this.#isStopping) throw problem('unavailable', STOPPING, STOPPING_HINT);
      const vault = new Vault(this.#config.dataDir);
      const { replica } = this.#pipeline.state;
      const how = shared();
      const isJoin = seeds.length > 0;
      try {
        vault.saveJoining({ shared: how, seeds });
        if (caKeyPem !== undefined) vault.saveAuthorityKey(caKeyPem);
        vault.saveIdentity(identity);
        this.#rebase(identity.nodeId, how);
        this.#remembered = seeds.map(({ id }) => id);
        if (isJoin) this.#sayBlank(this.#remembered);
        await this.#run(identity, seeds, revocations);
      } catch (error) {
        // Also what was to be dropped; before the identity goes, as that is the word for it.
        if (this.#pipeline.state.node !== LOCAL_NODE) this.#rebase(LOCAL_NODE, 'keep', replica);
        this.#takeBack(vault);
        throw error;
      }
      this.#joined();
      this.#isBehind = isJoin;
      this.#isBlank = isJoin;
      if (isJoin) void this.#fillUp();
      const { clusterId, nodeId } = identity;
      this.#log.info({ cluster: clusterId, node: nodeId }, 'a member of the cluster');
      return this.status();
    });
  }

  /** A join that failed; why it did is more than that its traces stay. */
  #takeBack(vault: Vault): void {
    try {
      vault.forget();
    } catch (error) {
      this.#log.error(
        { error, directory: vault.directory },
        'a join failed, and not all of it was removed: remove that directory before the next start; if ' +
          'this host takes itself for a member then, `zerohop cluster leave` takes it out',
      );
    }
  }

  /** Of a join or a leaving that this host died in, as a member of nothing. */
  #forgetJoin(): void {
    const vault = new Vault(this.#config.dataDir);
    try {
      vault.forget();
    } catch (error) {
      this.#log.warn(
        { error, directory: vault.directory },
        'what was left of a cluster that this host is not in was not removed: remove that directory; ' +
          'the next start tries again',
      );
    }
  }

  /** It runs as a member. What is left of the join does no harm: a start goes through the end of it again. */
  #joined(): void {
    try {
      new Vault(this.#config.dataDir).joined();
    } catch (error) {
      this.#log.warn(
        { error },
        'what was kept of a join that is over was not removed: the next start tries again',
      );
    }
  }

  #rebase(node: string, shared: Rebase['shared'], from?: Replica): void {
    this.#pipeline.rebase({ node, shared, nowMs: Date.now(), ...(from && { from }) });
  }

  async #run(
    identity: Identity,
    seeds: readonly Peer[],
    revocations: readonly Revocation[],
  ): Promise<void> {
    const pipeline = this.#pipeline;
    const { state } = pipeline;
    const { dataDir } = this.#config;
    const vault = new Vault(dataDir);
    // Overlay, replication and TLS: what a host in no cluster never loads.
    const { Member } = await import('../../cluster/io/member.ts');
    const { systemRandom } = await import('../../cluster/io/random.ts');
    const member = await Member.start({
      vault,
      identity,
      state: {
        replica: state.replica,
        keep: (updates, whole) => state.keep(updates, whole),
        write: (writes) => pipeline.writeNow(writes, 'nobody'),
        renew: () => state.renew(),
        forget: (node) => pipeline.forget(node),
      },
      settings: this.#settings(),
      dataDirectory: dataDir,
      software: version(),
      seeds,
      revocations,
      clock: systemClock,
      random: systemRandom(),
      log: this.#log,
      handlers: {
        changed: (changed) => pipeline.changed(changed),
        reachability: () => {
          if (this.#member !== undefined) this.#tellReachability(this.#member);
        },
        facts: (changed) => this.#health?.heard(changed),
      },
    });
    // The agent ended meanwhile: it comes back as a member.
    if (this.#isStopping) return await member.stop(false);
    this.#member = member;
    pipeline.spreadBy((written) => member.local(written));
    this.#tellReachability(member);
    this.#health?.joined((...said) => member.fact(...said));
  }

  #tellReachability(member: Member): void {
    this.#tell({ unreachable: member.unreachable(), gone: member.gone() });
  }

  #tell(known: Reachability): void {
    this.#pipeline.reachability(known);
    this.#health?.reach(known.unreachable);
  }

  #settings(): MemberSettings {
    const { vipCidr4, vipPrefix6 } = this.#config;
    const { listen, advertise, zone, name } = this.#config.cluster;
    const vips = [formatCidr(vipCidr4), formatCidr(vipPrefix6)];
    return { listen, advertise, zone, name: name ?? hostname(), vips };
  }
}

function problem(code: 'conflict' | 'unavailable', message: string, hint: string): ProblemError {
  return new ProblemError([{ code, message, hint }]);
}
