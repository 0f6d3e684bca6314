/**
 * Several test hosts joined by one bridge (switch.ts), and their agents as one
 * cluster. Host 0 is h1 at 10.77.0.1 and fd77::1, and so on. No way leads out.
 *
 *   await using cluster = await TestCluster.create(3);
 *   await cluster.start();
 *   await cluster.form();
 *   await cluster.partition([[0], [1, 2]]);
 *   await cluster.heal();
 *   await cluster.settled('the same maps', () => cluster.sameMaps());
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MemberAnswer } from '../../src/api/cluster-schemas.ts';
import type { AgentOptions } from './agent.ts';
import { differences, type Frontend } from './alike.ts';
import { smallMaps } from './config.ts';
import { type Bound, eventually } from './eventually.ts';
import { found, joinCluster, type JoinOptions } from './forming.ts';
import { TestHost } from './host.ts';
import { backendsOf, readMaps } from './readings.ts';
import { addressesOf, type Obstacle, Switch } from './switch.ts';
import { lonely, lossy, muted, partitioned, type Place } from './wires.ts';

export interface ClusterOptions {
  /** What the configuration files of all hosts have besides; `maps` is small by default. */
  readonly config?: object;
}

/** Where agents listen for each other. */
const PORT = 7946;
/** As many as start at once: more do not start sooner on two CPUs, and each has its bound. */
const STARTS_AT_ONCE = 4;
/** Bounds grow with the hosts: they share this machine's CPUs. */
const SETTLE_MS = 20_000;
const SETTLE_MS_EACH = 1000;

export class TestCluster implements AsyncDisposable {
  readonly hosts: readonly TestHost[];
  readonly #switch: Switch;
  readonly #config: object;
  /** Hosts that were killed, and not revived. */
  readonly #dead = new Set<Place>();

  private constructor(hosts: readonly TestHost[], bridge: Switch, config: object) {
    this.hosts = hosts;
    this.#switch = bridge;
    this.#config = config;
  }

  static async create(size: number, options: ClusterOptions = {}): Promise<TestCluster> {
    const hosts: TestHost[] = [];
    try {
      for (let made = 0; made < size; made++) hosts.push(await TestHost.create());
      const bridge = await Switch.join(hosts);
      return new TestCluster(hosts, bridge, { maps: smallMaps, ...options.config });
    } catch (error) {
      await disposeAll(hosts);
      throw error;
    }
  }

  /** Created, started and formed. */
  static async formed(size: number, options: ClusterOptions = {}): Promise<TestCluster> {
    const cluster = await TestCluster.create(size, options);
    try {
      await cluster.start();
      await cluster.form();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#keepLogs();
    await disposeAll([...this.hosts, this.#switch]);
  }

  /** For who looks for a fault: what each agent said since its last start. */
  #keepLogs(): void {
    const folder = process.env['ZEROHOP_TEST_LOGS'];
    if (folder === undefined) return;
    for (const at of this.places) {
      const { agent, name } = this.host(at);
      writeFileSync(join(folder, `${name}-${this.nameOf(at)}.log`), agent.output);
    }
  }

  host(at: Place): TestHost {
    const host = this.hosts[at];
    if (host === undefined) throw new Error(`no host ${at} in a cluster of ${this.hosts.length}`);
    return host;
  }

  get places(): Place[] {
    return [...this.hosts.keys()];
  }

  /** Those whose agent should run: not killed. */
  get living(): Place[] {
    return this.places.filter((at) => !this.#dead.has(at));
  }

  nameOf(at: Place): string {
    return `h${at + 1}`;
  }

  addressOf(at: Place, family: 4 | 6 = 4): string {
    return family === 4 ? addressesOf(at).four : addressesOf(at).six;
  }

  /** ADDR:PORT of its agent for other agents. */
  listenOf(at: Place): string {
    return `${this.addressOf(at)}:${PORT}`;
  }

  /** Writes the host's configuration file, and answers its path. */
  configure(at: Place): string {
    const cluster = { listen: this.listenOf(at), name: this.nameOf(at) };
    const given = this.#config as { readonly cluster?: object };
    return this.host(at).writeConfig({ ...given, cluster: { ...cluster, ...given.cluster } });
  }

  /** Starts agents: all that live, or these. */
  async start(places = this.living, options: Omit<AgentOptions, 'config'> = {}): Promise<void> {
    await pooled(places, STARTS_AT_ONCE, async (at) => {
      await this.host(at).agent.start({ ...options, config: this.configure(at) });
    });
  }

  /** One cluster of all hosts: the first founds it, the others join it. Waits until each sees all. */
  async form(options: JoinOptions = {}): Promise<void> {
    const [first = 0, ...others] = this.living;
    await found(this.host(first), options);
    await pooled(others, STARTS_AT_ONCE, async (at) => {
      await joinCluster(this.host(first), this.listenOf(first), this.host(at), options);
    });
    await this.allAlive();
  }

  /** Waits until every living host sees exactly the living ones as alive. */
  async allAlive(): Promise<void> {
    const wanted = this.living.map((at) => this.nameOf(at)).toSorted();
    await this.settled('to see all living members', async (host) => {
      const seen = (await this.membersOf(host)).filter(({ state }) => state === 'alive');
      const names = seen.map(({ name }) => name).toSorted();
      if (names.join() === wanted.join()) return true;
      throw new Error(`${names.length} of ${wanted.length} alive: ${names.join(' ')}`);
    });
  }

  /** Only hosts of one group hear each other: `[[0, 1], [2]]`. Ends all earlier cuts. Open connections hang. */
  async partition(groups: readonly (readonly Place[])[]): Promise<void> {
    await this.#switch.rewire((wires) => partitioned(wires, this.hosts.length, groups));
  }

  /** Nothing that `from` sends reaches `to`; the other way stays. */
  async oneWay(from: Place, to: Place): Promise<void> {
    await this.#switch.rewire((wires) => muted(wires, from, to));
  }

  /** The host hears nobody, and nobody hears it; its link stays up. */
  async cut(at: Place): Promise<void> {
    await this.#switch.rewire((wires) => lonely(wires, this.hosts.length, at));
  }

  /** Ends partitions and cuts; not loss, delay or death. */
  async heal(): Promise<void> {
    await this.#switch.rewire((wires) => ({ ...wires, cut: new Set() }));
  }

  /** Loses this share of the packets from and to the host. 0 ends it. */
  async drop(at: Place, percent: number): Promise<void> {
    await this.#switch.rewire((wires) => lossy(wires, at, percent));
  }

  /** Why delay() cannot work on this machine, for t.skip(). */
  async obstacleToDelay(): Promise<Obstacle> {
    return await this.#switch.obstacleToDelay();
  }

  /** Each packet from and to the host takes this much longer. 0 ends it. */
  async delay(at: Place, ms: number): Promise<void> {
    await this.#switch.delay(at, ms);
  }

  /** The host dies without a word. Answers when, in nanoseconds of CLOCK_MONOTONIC: not later than that. */
  async kill(at: Place): Promise<bigint> {
    const when = process.hrtime.bigint();
    // The link first: the kernel would say goodbye for the processes.
    await this.#switch.plug(at, 'out');
    await this.host(at).killAll();
    this.#dead.add(at);
    return when;
  }

  /**
   * Plugs a killed host in again, without what its processes had left in the
   * kernel. Starts no agent; `first` is done before the others see it.
   */
  async revive(at: Place, first: () => Promise<unknown> = async () => {}): Promise<void> {
    await this.host(at).output(['ss', '--no-header', '--kill', '--all', '--tcp']);
    await first();
    await this.#switch.plug(at, 'in');
    this.#dead.delete(at);
  }

  /** Stops the agent as systemctl does. */
  async stop(at: Place): Promise<void> {
    await this.host(at).agent.stop();
  }

  /** On all hosts at once, or on these. */
  async everywhere<T>(
    work: (host: TestHost, at: Place) => Promise<T>,
    places = this.living,
  ): Promise<T[]> {
    return await Promise.all(places.map((at) => work(this.host(at), at)));
  }

  /** Waits until `check` answers true on every host at some time, all in the same bound. */
  async settled(
    what: string,
    check: (host: TestHost, at: Place) => boolean | Promise<boolean>,
    places = this.living,
    bound: Bound = {},
  ): Promise<void> {
    const timeoutMs = SETTLE_MS + SETTLE_MS_EACH * this.hosts.length;
    await this.everywhere(async (host, at) => {
      await eventually(`${this.nameOf(at)} ${what}`, () => check(host, at), {
        timeoutMs,
        everyMs: 20,
        ...bound,
      });
    }, places);
  }

  async membersOf(host: TestHost): Promise<MemberSeen[]> {
    const answer = await host.api('GET', '/v1/members');
    if (answer.status !== 200) throw new Error(`members: ${answer.status} ${answer.text}`);
    return (answer.json() as { members: MemberSeen[] }).members;
  }

  /** Services and backends as its agent knows them, without what each host counts for itself. */
  async catalogOf(host: TestHost): Promise<unknown> {
    const answer = await host.api('GET', '/v1/export');
    if (answer.status !== 200) throw new Error(`export: ${answer.status} ${answer.text}`);
    return (answer.json() as { documents: unknown }).documents;
  }

  /** Services and backends as its kernel has them. */
  mapsOf(at: Place): Frontend[] {
    return readMaps(this.host(at));
  }

  /** Where its kernel sends IPv4 connects to this service: ADDR:PORT, sorted. */
  backendsOn(at: Place, service: string): string[] {
    return backendsOf(this.mapsOf(at), service, 4);
  }

  /** Waits until the kernels of these hosts send connects to exactly these backends; ADDR:PORT, sorted. */
  async backendsBecome(
    service: string,
    wanted: readonly string[],
    places = this.living,
  ): Promise<void> {
    const check = (_: TestHost, at: Place): true => {
      const seen = this.backendsOn(at, service).join(' ');
      if (seen === wanted.join(' ')) return true;
      throw new Error(`has ${seen || 'none'}`);
    };
    await this.settled(`to send ${service} to ${wanted.join(' ') || 'nobody'}`, check, places);
  }

  /** In words, what the kernels of these hosts do not agree on; none when they are equal. */
  mapDifferences(places = this.living): string[] {
    return differences(new Map(places.map((at) => [this.nameOf(at), this.mapsOf(at)])));
  }

  /** Waits until the maps of these hosts are equal. */
  async sameMaps(places = this.living): Promise<void> {
    const timeoutMs = SETTLE_MS + SETTLE_MS_EACH * this.hosts.length;
    const same = (): true => {
      const told = this.mapDifferences(places);
      if (told.length === 0) return true;
      throw new Error(`${told.length} differ:\n${told.slice(0, 10).join('\n')}`);
    };
    await eventually('the same maps on all hosts', same, { timeoutMs, everyMs: 50 });
  }
}

/** What GET /v1/members says of one. */
export type MemberSeen = MemberAnswer;

/** All of them, also when some fail; then throws the first failure. */
async function disposeAll(list: readonly AsyncDisposable[]): Promise<void> {
  const ends = await Promise.allSettled(list.map((one) => one[Symbol.asyncDispose]()));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** Works on all, so many at once. */
export async function pooled<T>(
  list: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = [...list];
  const worker = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
