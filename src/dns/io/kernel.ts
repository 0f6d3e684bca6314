/**
 * DNS answered in the kernel (bpf/zerohop_dns.bpf.c): makes the link, loads the programs, keeps the
 * table of names, and leads local clients there, but only while a question of its own comes all
 * the way to the server and back: a firewall, or somebody who took the link away, costs speed and
 * no answer. A killed agent leaves all of it: known names are answered, others REFUSED at once.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { existsSync, renameSync, rmSync } from 'node:fs';
import {
  BpfError,
  BpfProgram,
  openObject,
  setTcProgram,
  tcProgramId,
  VerifierError,
} from '../../../addon/index.ts';
import type { LoadedObject, TcPlace } from '../../../addon/index.ts';
import { formatAddress, type HostPort } from '../../cluster/address.ts';
import { openCgroup, type Cgroup } from '../../datapath/io/cgroup.ts';
import { dnsMaps } from '../../datapath/hooks.ts';
import { Links } from '../../datapath/io/links.ts';
import { objectPath } from '../../datapath/io/object.ts';
import type { Pins } from '../../datapath/io/pins.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import {
  decodeDnsCounts,
  encodeDnsConfig,
  kernelPort,
  type KernelCounts,
  type KernelListen,
} from '../kernel-abi.ts';
import { dnsHooks } from '../kernel-hooks.ts';
import { KernelTable } from '../kernel-table.ts';
import type { PlainAnswer } from '../zone.ts';
import { closeSocket, probe, probeAnswer } from './kernel-probe.ts';
import {
  addressBytes,
  findLink,
  isLinkOutdated,
  linkAddresses,
  LOOPBACK_INDEX,
  openLink,
  removeLink,
  routeOnLoopback,
  whyLoopbackIsOpen,
  withIpv6,
  type DnsLink,
  type LinkAddresses,
} from './link.ts';

export interface KernelDnsOptions {
  /** Where clients ask: the first loopback address of each family is led to the link. */
  readonly listen: readonly HostPort[];
  /** Bytes of an answer over UDP, at most. */
  readonly udpSizeMax: number;
  /** Names and types in the table. */
  readonly entriesMax: number;
  readonly cgroup: Cgroup;
  readonly pins: Pins;
  /** Whether the server has this address (a loopback one of `listen`, or one of the link) and no other process has. */
  readonly isServed: (at: HostPort) => boolean;
  /** The server must listen there, beside its own addresses, and nowhere else: `listen`, when it changed. */
  readonly listenChanged: (listen: readonly HostPort[]) => Promise<void>;
  readonly log: Logger;
  readonly checkIntervalMs?: number;
  readonly probeTimeoutMs?: number;
}

export interface KernelDnsStatus {
  /** `active`: over one family at least. */
  readonly state: 'active' | 'unavailable';
  /** Why not, or over which family not. */
  readonly why?: string;
  /** Names and types that it answers, and names that had no room. */
  readonly entries: number;
  readonly left: number;
}

export interface Unavailable {
  readonly unavailable: string;
}

/** How long a link that somebody took away, or a new firewall, may swallow queries. A guess. */
const CHECK_INTERVAL_MS = 5000;
/** Longer than the server's longest turn. A guess. */
const PROBE_TIMEOUT_MS = 2000;

const ZERO = new Uint8Array(4);

type Family = 4 | 6;
type Families = { readonly [family in Family]: HostPort | undefined };
/** Why its clients are not led to the link; undefined: they are. */
type Whys = { readonly [family in Family]: string | undefined };

const FIREWALL =
  'queries do not get from zerohop0 to the agent: a firewall drops them? Allow what comes in there, as from lo';

export class KernelDns {
  readonly #options: KernelDnsOptions;
  readonly #object: LoadedObject;
  readonly #links: Links;
  readonly #table: KernelTable;
  readonly #clients: Families;
  readonly #addresses: LinkAddresses;
  #link: DnsLink;
  #ingress: number;
  /** Whether lo routes nothing of loopback when this agent does not want it (routeOnLoopback()). */
  #loopbackWasOff = false;
  #netns = 0n;
  /** Whether neighbours can send in the name of the link: then nothing from there is shown as from the server. */
  #isForgeable = false;
  #why: Whys = bothOf('not started yet');
  /** Whether the server was told to listen at the link's IPv6 address. */
  #isToldOf6: boolean;
  #timer: NodeJS.Timeout | undefined;
  /** At close(): what was counted does not become less. */
  #lastCounts: KernelCounts = decodeDnsCounts(new Uint8Array());
  readonly #closing = new AbortController();
  #checking: Promise<void> | undefined;

  private constructor(
    options: KernelDnsOptions,
    object: LoadedObject,
    addresses: LinkAddresses,
    seed: Uint8Array,
    link: DnsLink,
  ) {
    const { listen, pins, log } = options;
    this.#options = options;
    this.#object = object;
    this.#addresses = addresses;
    this.#link = link;
    this.#ingress = link.index;
    this.#table = new KernelTable(
      options.entriesMax,
      new DataView(seed.buffer, seed.byteOffset).getUint32(0, true),
    );
    this.#clients = loopbacks(listen);
    this.#isToldOf6 = this.#has6;
    this.#links = new Links({
      pins,
      object,
      notice: (message, details) => log.info(details, `DNS in the kernel: ${message}`),
      settingsPin: () => pins.settingsOf('dns'),
      together: true,
      lsmReattaches: true,
    });
  }

  /**
   * Makes the link and loads the programs; nothing is answered before enable(). What an agent that
   * was killed left there goes on until then. `unavailable` leaves nothing behind.
   */
  static start(options: KernelDnsOptions): KernelDns | Unavailable {
    try {
      const clients = loopbacks(options.listen);
      if (clients[4] === undefined && clients[6] === undefined) {
        throw new Error('dns.listen has no loopback address that local clients ask');
      }
      const open = whyLoopbackIsOpen();
      if (open !== undefined) throw new Error(`${open} (looked at again when the agent starts)`);
      if (isLinkOutdated()) removeKernelDns(options.pins);
      const addresses = linkAddresses();
      if (clients[4]?.host === addresses[4].here || clients[4]?.host === addresses[4].there) {
        throw new Error(`${clients[4].host} of dns.listen is an address of its own link`);
      }
      const link = openLink(clients[6] !== undefined, addresses);
      const seed = randomBytes(4);
      return new KernelDns(options, load(options, addresses, seed), addresses, seed, link);
    } catch (error) {
      removeKernelDns(options.pins);
      return { unavailable: whyUnavailable(error) };
    }
  }

  /** Where the server must listen too: what the kernel does not answer comes there. */
  get listen(): readonly HostPort[] {
    const { 4: ends4, 6: ends6 } = this.#addresses;
    const at4 = this.#clients[4] === undefined ? [] : [{ host: ends4.here, port: kernelPort }];
    return this.#has6 ? [...at4, { host: ends6.here, port: kernelPort }] : at4;
  }

  /** Whether it is from a local client over the link: only these have such an address. */
  isLocalClient(address: string): boolean {
    return address === this.#addresses[4].there || address === this.#addresses[6].there;
  }

  /** The answer to a question of check(), which nobody else asks; undefined for all others. */
  probeAnswer(message: Uint8Array, client: string): Uint8Array | undefined {
    return this.isLocalClient(client) ? probeAnswer(message) : undefined;
  }

  /** Where clients asked whose questions come in at `host`. */
  askedAt(host: string): string {
    if (host === this.#addresses[4].here) return this.#clients[4]?.host ?? host;
    return host === this.#addresses[6].here ? (this.#clients[6]?.host ?? host) : host;
  }

  /** Where clients ask who may be led to the link. */
  #clientsOf(family: Family): HostPort | undefined {
    return family === 6 && !this.#has6 ? undefined : this.#clients[family];
  }

  /** Of which clients ask at loopback. */
  get #families(): Family[] {
    return ([4, 6] as const).filter((family) => this.#clients[family] !== undefined);
  }

  #isLed(family: Family): boolean {
    return this.#clients[family] !== undefined && this.#why[family] === undefined;
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  get #has6(): boolean {
    return this.#clients[6] !== undefined && this.#link.without6 === undefined;
  }

  /**
   * Of `names` (absent: of all names) the kernel answers exactly `entries` when this returns. The
   * server must know them already: what goes away here is asked there.
   */
  apply(names: Iterable<string> | undefined, entries: Iterable<PlainAnswer>): void {
    if (this.#isClosed) return;
    const { deleted, keys, values } = this.#table.plan(names, entries);
    try {
      using map = this.#object.map('zh_dns_names');
      if (deleted.length > 0) map.deleteBatch(deleted);
      if (keys.length > 0) map.setBatch(keys, values);
    } catch (error) {
      // What it would answer is not known any more.
      this.#options.log.error({ error }, 'DNS is not answered in the kernel any more');
      this.close();
      this.#why = bothOf(`its table could not be written: ${whyUnavailable(error)}`);
    }
  }

  /** After the first apply(), with the server listening: puts the programs in place and checks. */
  async enable(): Promise<void> {
    const { checkIntervalMs = CHECK_INTERVAL_MS } = this.#options;
    await this.check();
    if (this.#isClosed) return;
    this.#timer = setInterval(() => void this.check(), checkIntervalMs).unref();
  }

  /** One look at everything; mends what it can. Never rejects. */
  async check(): Promise<void> {
    this.#checking ??= this.#check()
      .catch((error: unknown) => this.#redirect(bothOf(whyUnavailable(error))))
      .finally(() => (this.#checking = undefined));
    await this.#checking;
  }

  status(): KernelDnsStatus {
    const { used: entries, left } = this.#table;
    const why = this.#whyText();
    const reason = why === undefined ? {} : { why };
    if (this.#isClosed || !this.#families.some((family) => this.#isLed(family))) {
      return { state: 'unavailable', ...reason, entries: 0, left };
    }
    return { state: 'active', ...reason, entries, left };
  }

  #whyText(): string | undefined {
    const whys = this.#families.map((family) => ({ family, why: this.#why[family] }));
    const [first] = whys;
    if (first?.why !== undefined && whys.every(({ why }) => why === first.why)) return first.why;
    const texts = whys.flatMap(({ family, why }) =>
      why === undefined ? [] : [`not over IPv${family}: ${why}`],
    );
    return texts.length === 0 ? undefined : texts.join('; ');
  }

  counters(): KernelCounts {
    if (this.#isClosed) return this.#lastCounts;
    using map = this.#object.map('zh_dns_counts');
    return decodeDnsCounts(map.get(ZERO) ?? new Uint8Array());
  }

  /** Everything away: clients are at the server's own addresses again. */
  close(): void {
    if (this.#isClosed) return;
    this.#redirect(bothOf('closed'));
    this.#lastCounts = this.counters();
    this.#closing.abort();
    clearInterval(this.#timer);
    const { pins } = this.#options;
    this.#links.detach(dnsHooks);
    this.#links.close();
    this.#object.close();
    removeKernelDns(pins);
  }

  async #check(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#clients[6] !== undefined && !this.#has6) await this.#look6();
    if (this.#isClosed) return;
    if (this.#hasNobody()) return;
    const open = whyLoopbackIsOpen();
    this.#isForgeable = open !== undefined;
    if (open !== undefined) {
      this.#redirect(bothOf(open));
      return;
    }
    this.#install();
    await this.#tell();
    if (this.#isClosed) return;
    if (this.#netns === 0n) await this.#learnNetns();
    const through = await this.#tryOut();
    if (this.#isClosed) return;
    if (this.#has6 && !through.has(6)) await this.#look6();
    const whyOf = (family: Family): string | undefined =>
      this.#whyNot(family) ?? (through.has(family) ? undefined : FIREWALL);
    this.#redirect({ 4: whyOf(4), 6: whyOf(6) });
  }

  /** Whether IPv6 came or went: the link's address goes with it, and its program stays. */
  async #look6(): Promise<void> {
    this.#link = withIpv6(this.#link, this.#addresses);
    await this.#tell();
  }

  async #tell(): Promise<void> {
    if (this.#isClosed || this.#isToldOf6 === this.#has6) return;
    this.#isToldOf6 = this.#has6;
    await this.#options.listenChanged(this.listen);
  }

  /** Why clients of this family cannot be led to the link, before it is tried. */
  #whyNot(family: Family): string | undefined {
    const client = this.#clients[family];
    if (client === undefined) return undefined;
    if (family === 6 && this.#link.without6 !== undefined) return this.#link.without6;
    const { isServed } = this.#options;
    const end = { host: this.#addresses[family].here, port: kernelPort };
    const missing = [end, client].find((at) => !isServed(at));
    return missing && `the agent does not listen at ${formatAddress(missing)}`;
  }

  /** Whether there is nobody to lead; then it says so, and the link stays as it is. */
  #hasNobody(): boolean {
    const { isServed, pins } = this.#options;
    const missing = this.listen.find((at) => !isServed(at));
    // Another agent of this network namespace has the link: its clients are not ours to answer.
    if (missing !== undefined && egress(pins) === 'of another') {
      this.#redirect(bothOf(`the agent does not listen at ${formatAddress(missing)}`));
      return true;
    }
    if (this.#families.some((family) => this.#whyNot(family) === undefined)) return false;
    this.#redirect({ 4: this.#whyNot(4), 6: this.#whyNot(6) });
    return true;
  }

  /**
   * The families whose queries come through. They come in as if from the link, or from loopback,
   * which hardly any firewall closes: whatever lets most of them through. Nobody who is led there
   * is disturbed for those who are not.
   */
  async #tryOut(): Promise<ReadonlySet<Family>> {
    const asked = this.#families.filter((family) => this.#whyNot(family) === undefined);
    let best = { ingress: this.#link.index, through: new Set<Family>() };
    for (const ingress of new Set([this.#ingress, this.#link.index, LOOPBACK_INDEX])) {
      if (this.#isClosed) return new Set();
      this.#comeInOn(ingress);
      const through = await this.#through(asked);
      if (through.size > best.through.size) best = { ingress, through };
      const led = asked.filter((family) => this.#isLed(family));
      const isEnough = led.length > 0 && led.every((family) => through.has(family));
      if (through.size === asked.length || isEnough) break;
    }
    if (!this.#isClosed && best.ingress !== this.#ingress) this.#comeInOn(best.ingress);
    return best.through;
  }

  #comeInOn(ingress: number): void {
    this.#ingress = ingress;
    const isOnLoopback = ingress === LOOPBACK_INDEX;
    if (isOnLoopback) this.#loopbackWasOff = routeOnLoopback(true, this.#loopbackWasOff);
    this.#write();
    if (!isOnLoopback) this.#loopbackWasOff = routeOnLoopback(false, this.#loopbackWasOff);
  }

  /** The link, the program on it, the hooks: whatever is not there, or not ours. */
  #install(): void {
    const place = tcPlace(this.#link.index);
    using program = this.#object.program('zh_dns_egress');
    if (tcProgramId(place) !== program.info.id) {
      this.#link = openLink(this.#clients[6] !== undefined, this.#addresses);
      this.#ingress = this.#link.index;
      this.#write();
      setTcProgram(program, tcPlace(this.#link.index));
      const { pins } = this.#options;
      rmSync(pins.program(EGRESS_PIN), { force: true });
      program.pin(pins.program(EGRESS_PIN));
      this.#pinMaps();
    } else if (this.#families.some((one) => !this.#isLed(one) && this.#whyNot(one) === undefined)) {
      // Up and with its addresses, whoever took these.
      this.#link = openLink(this.#clients[6] !== undefined, this.#addresses);
    }
    const cgroup = openCgroup(this.#options.cgroup.path);
    if (!this.#links.attachments(dnsHooks, cgroup).every(({ effective }) => effective)) {
      this.#links.attach(dnsHooks, cgroup);
    }
  }

  /** For `zerohop maps`: nobody adopts them. */
  #pinMaps(): void {
    const { pins } = this.#options;
    for (const name of dnsMaps) {
      using map = this.#object.map(name);
      rmSync(pins.freshMap(name), { force: true });
      map.pin(pins.freshMap(name));
      renameSync(pins.freshMap(name), pins.map(name));
    }
  }

  /** No system call tells the cookie of the own namespace before Linux 5.14: the hook does, to who knows the nonce. */
  async #learnNetns(): Promise<void> {
    const [b = 0, c = 0, d = 0] = randomBytes(3);
    const nonce = { address: Uint8Array.of(127, b, c, d), port: randomInt(1024, 65_536) };
    this.#write(nonce);
    const socket = createSocket('udp4');
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.connect(nonce.port, `127.${b}.${c}.${d}`, resolve);
      });
    } finally {
      closeSocket(socket);
    }
    if (this.#isClosed) return;
    using map = this.#object.map('zh_dns_netns');
    const cookie = map.get(ZERO) ?? new Uint8Array(8);
    this.#netns = new DataView(cookie.buffer, cookie.byteOffset).getBigUint64(0, true);
    this.#write();
    if (this.#netns !== 0n) return;
    const { path } = this.#options.cgroup;
    throw new Error(`the agent is not in the cgroup ${path}: its network namespace is not known`);
  }

  async #through(asked: readonly Family[]): Promise<Set<Family>> {
    const { probeTimeoutMs = PROBE_TIMEOUT_MS } = this.#options;
    const answered = await Promise.all(
      asked.map((family) => probe(this.#addresses[family], probeTimeoutMs, this.#closing.signal)),
    );
    return new Set(asked.filter((_, i) => answered[i]));
  }

  /** Clients of a family that there is a reason for go to the server's own addresses. */
  #redirect(whys: Whys): void {
    if (this.#isClosed) return;
    const { log } = this.#options;
    const before = this.#whyText();
    this.#why = whys;
    this.#write();
    const why = this.#whyText();
    if (why === before || why === 'closed') return;
    const status = this.status();
    if (status.state === 'active') log.info({ ...status }, 'DNS is answered in the kernel');
    else log.warn({ why }, 'DNS is answered in user space alone');
  }

  #write(nonce?: { readonly address: Uint8Array; readonly port: number }): void {
    const { udpSizeMax } = this.#options;
    const listen = (family: Family): KernelListen | undefined => {
      const at = this.#clientsOf(family);
      if (at === undefined || this.#isForgeable) return undefined;
      const { host, port } = at;
      const isRedirecting = this.#isLed(family) && this.#options.isServed(at);
      return { address: addressBytes(host), port, isRedirecting };
    };
    using map = this.#object.map('zh_dns_config');
    map.set(
      ZERO,
      encodeDnsConfig({
        netns: this.#netns,
        ingress: this.#ingress,
        udpSizeMax,
        listen4: listen(4),
        listen6: listen(6),
        nonce,
      }),
    );
  }
}

/** The program on the link, by which an agent knows whether the link is its own. */
const EGRESS_PIN = 'dns_egress';

/** Id of the program that the agent of these pins put onto the link. */
function pinnedEgress(pins: Pins): number | undefined {
  if (!existsSync(pins.program(EGRESS_PIN))) return undefined;
  using program = BpfProgram.openPinned(pins.program(EGRESS_PIN));
  return program.info.id;
}

/** Whose program is on the link, if there is one: of the agent of these pins, or of another. */
function egress(pins: Pins): 'none' | 'of these' | 'of another' {
  const index = findLink();
  const running = index === undefined ? undefined : tcProgramId(tcPlace(index));
  if (running === undefined) return 'none';
  return running === pinnedEgress(pins) ? 'of these' : 'of another';
}

/** Whether the link has the program of these pins. */
export function isEgressInPlace(pins: Pins): boolean {
  return egress(pins) === 'of these';
}

/**
 * What the agent of these pins put there, killed or not: hooks first, so that nobody is led to a
 * link that is gone. A link that another agent uses stays.
 */
export function removeKernelDns(pins: Pins): void {
  for (const { name } of dnsHooks) {
    rmSync(pins.link(name), { force: true });
    rmSync(pins.program(name), { force: true });
  }
  rmSync(pins.settingsOf('dns'), { force: true });
  for (const name of dnsMaps) {
    rmSync(pins.map(name), { force: true });
    rmSync(pins.freshMap(name), { force: true });
  }
  try {
    if (egress(pins) !== 'of another') removeLink();
  } catch (error) {
    if (!(error instanceof BpfError)) throw error; // not allowed: then it is not ours either
  }
  rmSync(pins.program(EGRESS_PIN), { force: true });
}

const tcPlace = (interfaceIndex: number): TcPlace => ({
  interfaceIndex,
  direction: 'egress',
  handle: 1,
  priority: 1,
});

const bothOf = (why: string): Whys => ({ 4: why, 6: why });

function loopbacks(listen: readonly HostPort[]): Families {
  return {
    4: listen.find(({ host }) => host.startsWith('127.')),
    6: listen.find(({ host }) => host === '::1'),
  };
}

function load(options: KernelDnsOptions, addresses: LinkAddresses, seed: Uint8Array): LoadedObject {
  const object = openObject(objectPath('zerohop_dns'));
  try {
    object.setMaxEntries('zh_dns_names', options.entriesMax);
    object.setGlobal('zh_dns_seed', seed);
    for (const [family, { here, there }] of Object.entries(addresses)) {
      object.setGlobal(`zh_dns_here${family}`, addressBytes(here));
      object.setGlobal(`zh_dns_there${family}`, addressBytes(there));
    }
    return object.load();
  } catch (error) {
    object.close();
    throw error;
  }
}

export function whyUnavailable(error: unknown): string {
  if (error instanceof VerifierError) {
    return `this kernel rejects the program ${error.program} (${error.code}): ${error.line}`;
  }
  return error instanceof Error ? error.message : String(error);
}
