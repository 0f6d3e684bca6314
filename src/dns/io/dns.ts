/**
 * The agent's resolver: listeners, zone and forwarder as one thing that follows the Catalog. The
 * zone is made anew at the first question after a change, or in the next quiet moment: nobody's
 * change waits for it, and nobody is answered from an old one.
 */
import { networkInterfaces } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DnsQueryAnswer, DnsQuestion, DnsStatusAnswer } from '../../api/dns-schemas.ts';
import type { DnsEngine } from '../../api/engine.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { VipPools } from '../../catalog/vips.ts';
import { formatAddress, type HostPort } from '../../cluster/address.ts';
import type { DnsConfig, ForwardZone } from '../../config/dns-schema.ts';
import type { Cgroup } from '../../datapath/io/cgroup.ts';
import type { Pins } from '../../datapath/io/pins.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import { releaseMemorySoon } from '../../telemetry/io/memory.ts';
import { Allowed } from '../allow.ts';
import { answerText, questionOf, quoted, typeNumber } from '../answer-text.ts';
import type { Asker } from '../asker.ts';
import {
  DnsCounters,
  rcodeName,
  withKernel,
  withThread,
  type DnsCounts,
  type DnsReading,
} from '../counters.ts';
import type { ForwardSettings, ForwardStats } from '../forward/types.ts';
import { isNowhere } from '../loopback.ts';
import { isWithin } from '../names.ts';
import {
  buildZone,
  plainAnswers,
  plainAnswer,
  zoneEntries,
  type NodeFacts,
  type UserRecord,
  type Zone,
  type ZoneSources,
} from '../zone.ts';
import { Answering } from './answering.ts';
import { hostUpstreams, hostUpstreamsStamp, RESOLV_CONF } from './host-upstreams.ts';
import { installed } from './install.ts';
import { KernelDns } from './kernel.ts';
import { udpDrops } from './proc-net.ts';
import { DnsServer } from './server.ts';
import { Forwarder } from './upstreams.ts';

/** What the agent knows, whenever it is asked. */
export interface DnsWorld {
  readonly catalog: Catalog;
  readonly self: NodeFacts & { readonly id: string };
  /** By id. */
  readonly nodes: ReadonlyMap<string, NodeFacts>;
  /** Ids. */
  readonly unreachable: ReadonlySet<string>;
  readonly records: ReadonlyMap<string, UserRecord>;
  /** Whether the Catalog is in the kernel. */
  readonly isApplied: boolean;
}

export interface DnsOptions {
  readonly config: DnsConfig;
  readonly pools: VipPools;
  readonly log: Logger;
  readonly world: () => DnsWorld;
  readonly cgroup: Cgroup;
  readonly pins: Pins;
  /** Names and types that the kernel answers by itself, at most. */
  readonly kernelEntriesMax: number;
}

/** Some 10 ms of work each, on a slow machine. Guesses. */
const SERVICES_A_TURN = 200;
const NAMES_A_TURN = 100;

/** With more at once the kernel first forgets them, and has them a turn at a time: some 50 ms. A guess. */
const NAMES_AT_ONCE = 1000;

/** Of the API's own questions: as from a program of this host. */
const LOCAL_CLIENT = '127.0.0.1';

export class Dns implements DnsEngine {
  readonly #options: DnsOptions;
  readonly #server: DnsServer;
  readonly #forwarder: Forwarder;
  readonly #answering: Answering;
  readonly #allowed: Allowed;
  readonly #counters = new DnsCounters();
  #zone: Zone | undefined;
  /** Services that may differ from the zone's; undefined: it is as it should be. */
  #stale: Set<string> | 'all' | undefined = 'all';
  #isScheduled = false;
  #kernel: KernelDns | undefined;
  /** Names that the kernel leaves to us until it has what is true of them now. */
  readonly #unfilled = new Set<string>();
  #filling: Promise<void> | undefined;
  /** Why the kernel answers nothing. */
  #whyNoKernel: string | undefined;
  #warming: Promise<void> | undefined;
  #upstreams: readonly HostPort[] = [];
  #stamp = '';
  #isClosed = false;

  constructor(options: DnsOptions) {
    const { config, log } = options;
    const { udpSizeMax } = config;
    this.#options = options;
    this.#allowed = new Allowed(config.allow);
    // Before the forwarder, which asks it whose addresses those of dns.forward are.
    this.#server = new DnsServer({
      listen: config.listen,
      answer: (message, asker) =>
        this.#kernel?.probeAnswer(message, asker.client) ??
        this.#answering.answer(message, this.#asDirect(asker)),
      known: { udpSizeMax, lookup: (name, type) => plainAnswer(this.#current(), name, type) },
      log,
    });
    this.#forwarder = new Forwarder(this.#settings(), log);
    this.#answering = new Answering({
      udpSizeMax,
      zone: () => this.#current(),
      forwarder: this.#forwarder,
      timeoutMs: config.timeoutMs,
      allowed: this.#allowed,
      counters: this.#counters,
      log,
    });
    this.#server.udp.allow(this.#allowed.bytes);
  }

  /** When the Catalog is applied. Resolves when each address is listened at or is a problem. */
  async start(): Promise<void> {
    await this.#server.start();
    this.look();
    const { domain } = this.#options.config;
    const listening = this.#server.status().map(({ address }) => address);
    const upstreams = this.#upstreams.map(formatAddress);
    this.#options.log.info({ domain, listening, upstreams }, 'DNS is answered');
  }

  /**
   * When the agent has started: makes the zone, which who asks before has to wait for, and has the
   * kernel answer by itself where it can. In slices, so that everything else has its turn.
   */
  warm(): Promise<void> {
    this.#warming ??= this.#warm();
    return this.#warming;
  }

  /** These services changed, or (none) nodes or records did: the next answer is as it is now. */
  apply(touched: Iterable<string> | 'all'): void {
    if (touched === 'all' || this.#stale === 'all') this.#stale = 'all';
    else {
      this.#stale ??= new Set();
      for (const name of touched) this.#stale.add(name);
    }
    this.#server.udp.pause();
    // What the kernel answers is not asked of us.
    if (this.#kernel !== undefined) this.#currentOrLog();
    else this.#schedule();
  }

  /** Now and then: this host's addresses, and its name servers where the configuration has none. */
  look(): void {
    const addresses = Object.values(networkInterfaces()).flatMap((list = []) =>
      list.map(({ address }) => address),
    );
    if (this.#allowed.setOwn(addresses)) this.#server.udp.allow(this.#allowed.bytes);
    const { upstreams } = this.#options.config;
    const stamp = upstreams === undefined ? hostUpstreamsStamp() : 'configured';
    if (stamp === this.#stamp) return;
    const isFirst = this.#stamp === '';
    this.#stamp = stamp;
    this.#upstreams = upstreams ?? hostUpstreams((host, port) => this.#server.isOwn(host, port));
    this.#forwarder.update(this.#settings());
    if (isFirst) return;
    const now = this.#upstreams.map(formatAddress);
    this.#options.log.info({ upstreams: now }, 'the name servers of this host changed');
  }

  status(): DnsStatusAnswer {
    const { config, world } = this.#options;
    const { catalog, isApplied } = world();
    const forward = this.#forwarder.stats();
    const { requests, responses } = this.#counts();
    const sumsBy = (key: 'rcode' | 'from'): Record<string, number> => {
      const sums: Record<string, number> = {};
      for (const one of responses) sums[one[key]] = (sums[one[key]] ?? 0) + one.count;
      return sums;
    };
    return {
      enabled: true,
      domain: config.domain,
      serial: catalog.revision % 2 ** 32,
      ready: isApplied,
      names: this.#zone?.names.size ?? 0,
      listeners: this.#server.status().map((one) => ({ ...one })),
      upstreams: forward.upstreams.map(({ upstream, state, smoothedMs, sent, results }) => ({
        address: upstream,
        zones: this.#zonesOf(upstream),
        state,
        ...(smoothedMs === undefined ? {} : { ms: smoothedMs }),
        sent,
        results: { ...results },
      })),
      cache: cacheOf(forward),
      kernel: this.#kernelStatus(),
      counters: {
        requests: requests.reduce((sum, { count }) => sum + count, 0),
        rcodes: sumsBy('rcode'),
        from: sumsBy('from'),
        dropped: this.#dropped(forward),
      },
      problems: this.#problems(),
    };
  }

  read(): DnsReading {
    const forward = this.#forwarder.stats();
    return {
      counts: this.#counts(),
      upstreams: forward.upstreams,
      cache: cacheOf(forward),
      dropped: this.#dropped(forward),
      names: this.#zone?.names.size ?? 0,
      connections: this.#server.connections,
    };
  }

  zone(): ReturnType<DnsEngine['zone']> {
    const zone = this.#current();
    const { domain, serial, isReady: ready } = zone;
    return { domain, serial, ready, entries: withQuotes(zoneEntries(zone)) };
  }

  async query({ name, type }: DnsQuestion): Promise<DnsQueryAnswer> {
    const startMs = performance.now();
    const server = this.#options.config.listen[0]?.host ?? LOCAL_CLIENT;
    const { bytes, rcode, from, upstream, attempts } = await this.#answering.resolve(
      questionOf(name, typeNumber(type) ?? 0),
      { transport: 'tcp', server, client: LOCAL_CLIENT },
    );
    const text = answerText(bytes);
    return {
      question: { name, type },
      rcode: rcodeName(rcode),
      from,
      authoritative: text?.isAuthoritative ?? false,
      ms: performance.now() - startMs,
      answers: text?.answers ?? [],
      authority: text?.authority ?? [],
      additional: text?.additional ?? [],
      ...(upstream === undefined ? {} : { upstream }),
      attempts: (attempts ?? []).map((attempt) => ({ ...attempt })),
    };
  }

  flush(name?: string): number {
    return this.#forwarder.flush(name);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    // First: warming up waits for its questions, which an end makes pointless.
    this.#kernel?.close();
    await this.#warming;
    await this.#filling;
    await this.#server.close();
    this.#forwarder.close();
  }

  /** Whom the kernel led over its link, as if it had not. */
  #asDirect(asker: Asker): Asker {
    const kernel = this.#kernel;
    if (kernel?.isLocalClient(asker.client) !== true) return asker;
    return { ...asker, server: kernel.askedAt(asker.server), client: LOCAL_CLIENT };
  }

  /** Until the first question or warm() there is no zone to follow anything. */
  #schedule(): void {
    if (this.#isScheduled || this.#isClosed || this.#zone === undefined) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      if (!this.#isClosed) this.#currentOrLog();
    });
  }

  async #warm(): Promise<void> {
    try {
      await this.#makeZone();
      if (!this.#isClosed) await this.#startKernel();
    } catch (error) {
      this.#options.log.error({ error }, 'bug: DNS is slower than it could be');
      this.#whyNoKernel = String(error);
    }
  }

  /** As current() does, step by step; a question that comes meanwhile does the rest. */
  async #makeZone(): Promise<void> {
    if (this.#zone !== undefined) return;
    const sources = this.#sources();
    const { catalog } = sources;
    this.#zone = buildZone({ ...sources, catalog: { ...catalog, services: new Map() } });
    this.#stale = new Set(catalog.services.keys());
    while (this.#stale instanceof Set && this.#stale.size > SERVICES_A_TURN) {
      const touched = [...take(this.#stale, SERVICES_A_TURN)];
      this.#zone = buildZone(this.#sources(), { zone: this.#zone, touched });
      this.#server.udp.forget(this.#zone.touched);
      for (const name of touched) this.#stale.delete(name);
      await nextTurn();
      if (this.#isClosed) return;
    }
    this.#current();
  }

  async #startKernel(): Promise<void> {
    const { config, cgroup, pins, log, kernelEntriesMax } = this.#options;
    if (!config.kernel) return;
    const kernel = KernelDns.start({
      listen: config.listen,
      udpSizeMax: config.udpSizeMax,
      entriesMax: kernelEntriesMax,
      cgroup,
      pins,
      isServed: (at) => this.#server.hasUdp(at),
      listenChanged: (listen) => this.#server.also(listen),
      log,
    });
    if ('unavailable' in kernel) {
      this.#whyNoKernel = kernel.unavailable;
      log.warn({ why: kernel.unavailable }, 'DNS is answered in user space alone');
      return;
    }
    // From now on it hears of what changes.
    this.#kernel = kernel;
    await this.#server.also(kernel.listen);
    if (this.#isClosed) return;
    for (const name of this.#current().names.keys()) this.#unfilled.add(name);
    await this.#fillSoon(kernel);
    if (this.#isClosed) return;
    await kernel.enable();
  }

  /** With those that the thread and the kernel answered. */
  #counts(): DnsCounts {
    const own = this.#counters.read();
    const thread = this.#server.udp.counts();
    const counts = thread === undefined ? own : withThread(own, thread);
    return this.#kernel === undefined ? counts : withKernel(counts, this.#kernel.counters());
  }

  #kernelStatus(): DnsStatusAnswer['kernel'] {
    if (!this.#options.config.kernel) return { state: 'off', entries: 0 };
    const status = this.#kernel?.status();
    const why = status?.why ?? this.#whyNoKernel;
    const { state = 'unavailable', entries = 0 } = status ?? {};
    return { state, entries, ...(why === undefined ? {} : { why }) };
  }

  #currentOrLog(): void {
    try {
      this.#current();
    } catch (error) {
      this.#options.log.error({ error }, 'bug: the DNS zone could not be made');
    }
  }

  #current(): Zone {
    if (this.#zone !== undefined && this.#stale === undefined) return this.#zone;
    const touched = this.#stale;
    const previous =
      this.#zone === undefined || touched === undefined || touched === 'all'
        ? undefined
        : { zone: this.#zone, touched };
    const zone = buildZone(this.#sources(), previous);
    this.#zone = zone;
    this.#stale = undefined;
    this.#server.udp.changed(zone.touched);
    if (this.#kernel !== undefined) this.#tellKernel(this.#kernel, zone);
    return zone;
  }

  /** When this returns it answers nothing of the zone before. */
  #tellKernel(kernel: KernelDns, zone: Zone): void {
    const { touched, names } = zone;
    if (touched !== 'all' && touched.size <= NAMES_AT_ONCE) {
      kernel.apply(touched, plainAnswers(zone, touched));
      return;
    }
    kernel.apply(touched === 'all' ? undefined : touched, []);
    for (const name of touched === 'all' ? names.keys() : touched) this.#unfilled.add(name);
    void this.#fillSoon(kernel);
  }

  #fillSoon(kernel: KernelDns): Promise<void> {
    this.#filling ??= this.#fill(kernel)
      .catch((error: unknown) => {
        this.#options.log.error({ error }, 'bug: the kernel answers fewer names than it could');
      })
      .finally(() => (this.#filling = undefined));
    return this.#filling;
  }

  async #fill(kernel: KernelDns): Promise<void> {
    while (this.#unfilled.size > 0) {
      await nextTurn();
      if (this.#isClosed) return;
      const names = [...take(this.#unfilled, NAMES_A_TURN)];
      for (const name of names) this.#unfilled.delete(name);
      kernel.apply(names, plainAnswers(this.#current(), names));
      releaseMemorySoon(); // not before all is done
    }
  }

  #sources(): ZoneSources {
    const { config, pools, world } = this.#options;
    const { domain, ttl, negativeTtl, forward } = config;
    const { isApplied: isReady, ...known } = world();
    const elsewhere = [...forward.keys()].filter(
      (zone) => zone.endsWith(`.${domain}`) || (isNowhere(zone) && !isWithin(domain, zone)),
    );
    return { domain, ttl, negativeTtl, pools, elsewhere, isReady, ...known };
  }

  #settings(): ForwardSettings {
    const { config } = this.#options;
    const { timeoutMs, maxConcurrent, cacheBytes, staleSeconds } = config;
    const all = new Map<string, ForwardZone>([
      ['', { servers: this.#upstreams }],
      ...config.forward,
    ]);
    const inOrder = [...all].filter(([, { order = config.order }]) => order === 'strict');
    return {
      zones: new Map([...all].map(([zone, { servers }]) => [zone, servers])),
      strict: new Set(inOrder.map(([zone]) => zone)),
      timeoutMs,
      maxConcurrent,
      cacheBytes,
      staleSeconds,
      isOwn: (host, port) => this.#server.isOwn(host, port),
    };
  }

  #zonesOf(upstream: string): string[] {
    return [...this.#settings().zones].flatMap(([zone, list]) =>
      list.some((one) => formatAddress(one) === upstream) ? [zone] : [],
    );
  }

  #dropped({ dropped: late }: ForwardStats): Record<string, number> {
    const counts: Record<string, number> = {
      receive_buffer: udpDrops(this.#server.bound),
      silent: this.#answering.silent,
      queue_full: late['queue full'],
      too_late: late['too late'],
      too_many_asks: late['too many asks'],
    };
    for (const [why, count] of this.#server.dropped) counts[why] = count;
    return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
  }

  #problems(): string[] {
    const problems: string[] = [];
    const { upstreams } = this.#options.config;
    if (this.#upstreams.length === 0)
      problems.push(
        `${RESOLV_CONF} names no server but this agent: names of others fail; set dns.upstreams`,
      );
    const own = (upstreams ?? []).filter(({ host, port }) => this.#server.isOwn(host, port));
    if (own.length > 0)
      problems.push(
        `dns.upstreams has this agent's own address ${own.map(formatAddress).join(', ')}: it is left out`,
      );
    const left = this.#kernel?.status().left ?? 0;
    if (left > 0)
      problems.push(
        `${left} names have no room in the kernel and are answered more slowly: raise maps.dnsNames`,
      );
    const { problem } = installed();
    return problem === undefined ? problems : [...problems, problem];
  }
}

function* take<T>(all: Iterable<T>, count: number): Iterable<T> {
  let left = count;
  for (const one of all) {
    if (left-- === 0) return;
    yield one;
  }
}

function cacheOf({ cache }: ForwardStats): DnsStatusAnswer['cache'] {
  const { entries, bytes, bytesMax, hits, misses } = cache;
  return { entries, bytes, bytesMax, hits, misses };
}

/** Texts as zone files have them. */
function* withQuotes<E extends { readonly type: string; readonly data: string }>(
  entries: Iterable<E>,
): Iterable<E> {
  for (const entry of entries)
    yield entry.type === 'TXT' ? { ...entry, data: quoted(entry.data) } : entry;
}
