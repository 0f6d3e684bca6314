/**
 * Where the agent's DNS listens: UDP and TCP at each address of the configuration. An address that
 * cannot be had stops nobody: it is told of, with who has it, and tried again. Knows nothing of
 * what is asked; that is dns.ts.
 */
import { networkInterfaces } from 'node:os';
import { formatAddress, type HostPort } from '../../cluster/address.ts';
import { DNS_LINK } from '../../net/own-link.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import type { Asker } from '../asker.ts';
import { serverAddress } from '../resolv-conf.ts';
import {
  SERVER_LIMITS,
  type Answerer,
  type Drop,
  type Listener,
  type ListenerHooks,
  type ServerLimits,
} from './listener.ts';
import { portOwner } from './proc-net.ts';
import { listenTcp, type TcpListener } from './tcp.ts';
import { UdpServer, type UdpOptions } from './udp.ts';

export interface ServerOptions {
  /** `0.0.0.0` and `::` are every address that this host has, each with sockets of its own. */
  readonly listen: readonly HostPort[];
  readonly answer: Answerer;
  readonly log: Logger;
  readonly limits?: Partial<ServerLimits>;
  /** What may be answered without asking `answer`; absent: nothing. */
  readonly known?: UdpOptions;
  /** Of this host; tests have others. */
  readonly addresses?: () => readonly string[];
}

export interface ListenerStatus {
  /** IP:PORT. */
  readonly address: string;
  /** UDP and TCP. */
  readonly listening: boolean;
  /** In words, with what to do. */
  readonly problem?: string;
}

type Transport = Asker['transport'];

/** One address, wanted. */
interface Place {
  readonly at: HostPort;
  readonly listeners: { udp?: Listener | undefined; tcp?: TcpListener | undefined };
  readonly problems: Map<Transport, string>;
}

const NOTHING_KNOWN: UdpOptions = { udpSizeMax: 512, lookup: () => undefined };

const WILDCARDS = new Set(['0.0.0.0', '::']);

export class DnsServer {
  readonly #options: ServerOptions;
  readonly #limits: ServerLimits;
  readonly #places = new Map<string, Place>();
  readonly #dropped = new Map<Drop, number>();
  readonly udp: UdpServer;
  #more: readonly HostPort[] = [];
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;
  #turn: Promise<void> = Promise.resolve();

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#limits = { ...SERVER_LIMITS, ...options.limits };
    this.udp = new UdpServer(options.known ?? NOTHING_KNOWN);
  }

  /** Resolves when each address is listened at or is a problem. */
  async start(): Promise<void> {
    await this.refresh();
    this.#retry = setInterval(() => void this.refresh(), this.#limits.retryMs).unref();
  }

  /** Listens at these too from now on; there, `answer` is asked everything. */
  also(listen: readonly HostPort[]): Promise<void> {
    this.#more = listen;
    return this.refresh();
  }

  /** Tries what failed, and follows the host's addresses where all of them are wanted. Never rejects. */
  refresh(): Promise<void> {
    this.#turn = this.#turn
      .then(() => this.#refresh())
      .catch((error: unknown) => {
        // The host's addresses cannot be read where there is no free file descriptor.
        this.#options.log.error({ error }, 'DNS cannot look where to listen; tried again');
      });
    return this.#turn;
  }

  /** Where it listens, whatever the port was asked for. */
  get bound(): readonly HostPort[] {
    return [...this.#places.values()].flatMap(({ at, listeners: { udp, tcp } }) => {
      const port = udp?.port ?? tcp?.port;
      return port === undefined ? [] : [{ host: at.host, port }];
    });
  }

  hasUdp({ host, port }: HostPort): boolean {
    return this.#places.get(formatAddress({ host, port }))?.listeners.udp !== undefined;
  }

  /** Whether this is one of its own addresses, listened at or only wanted. */
  isOwn(host: string, port: number): boolean {
    const address = serverAddress(host) ?? host;
    const has = (at: HostPort): boolean =>
      at.port === port && (serverAddress(at.host) ?? at.host) === address;
    return [...this.#places.values()].some(({ at }) => has(at)) || this.bound.some(has);
  }

  /** Of what was asked for in the beginning. */
  status(): readonly ListenerStatus[] {
    const more = new Set(this.#more.map(formatAddress));
    const places = [...this.#places].flatMap(([key, place]) => (more.has(key) ? [] : [place]));
    return places.map(({ at, listeners: { udp, tcp }, problems }) => {
      const address = formatAddress({ host: at.host, port: udp?.port ?? tcp?.port ?? at.port });
      const problem = [...new Set(problems.values())].join('; ');
      const listening = udp !== undefined && tcp !== undefined;
      return { address, listening, ...(problem === '' ? {} : { problem }) };
    });
  }

  get dropped(): ReadonlyMap<Drop, number> {
    const all = new Map(this.#dropped);
    for (const [why, count] of this.udp.dropped) all.set(why, (all.get(why) ?? 0) + count);
    return all;
  }

  get connections(): number {
    let sum = 0;
    for (const { listeners } of this.#places.values()) sum += listeners.tcp?.connections ?? 0;
    return sum;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#retry);
    await this.#turn;
    const places = [...this.#places.values()];
    this.#places.clear();
    await Promise.all(places.map(closed));
    this.udp.close();
  }

  async #refresh(): Promise<void> {
    if (this.#isClosed) return;
    const wanted = new Map(this.#wanted().map((at) => [formatAddress(at), at]));
    for (const [key, place] of this.#places) {
      if (wanted.has(key)) continue;
      this.#places.delete(key);
      await closed(place);
    }
    for (const [key, at] of wanted) {
      const place = this.#places.get(key) ?? { at, listeners: {}, problems: new Map() };
      this.#places.set(key, place);
      await this.#bind(place);
    }
  }

  #wanted(): HostPort[] {
    const own = this.#options.addresses ?? hostAddresses;
    return [...this.#options.listen, ...this.#more].flatMap(({ host, port }) => {
      if (!WILDCARDS.has(host)) return [{ host, port }];
      const family = host.includes(':');
      return own()
        .filter((address) => address.includes(':') === family)
        .map((address) => ({ host: address, port }));
    });
  }

  async #bind(place: Place): Promise<void> {
    const { listeners } = place;
    const isDirect = !this.#more.some(
      ({ host, port }) => host === place.at.host && port === place.at.port,
    );
    listeners.udp ??= await this.#try(place, 'udp', (at, limits, hooks) =>
      this.udp.listen(at, isDirect, limits, hooks),
    );
    // Port 0: both have the one that the kernel chose for the first.
    const port = place.at.port === 0 ? (listeners.udp?.port ?? 0) : place.at.port;
    listeners.tcp ??= await this.#try({ ...place, at: { ...place.at, port } }, 'tcp', listenTcp);
  }

  async #try<T>(
    place: Place,
    transport: Transport,
    listen: (at: HostPort, limits: ServerLimits, hooks: ListenerHooks) => T | Promise<T>,
  ): Promise<T | undefined> {
    const { at, listeners, problems } = place;
    const { log, answer } = this.#options;
    const address = formatAddress(at);
    try {
      const listener = await listen(at, this.#limits, {
        answer,
        dropped: (why) => this.#dropped.set(why, (this.#dropped.get(why) ?? 0) + 1),
        failed: (error) => {
          log.error({ error, address, transport }, 'a DNS listener failed: tried again');
          delete listeners[transport];
          problems.set(transport, `${transport.toUpperCase()} ${address}: ${error.message}`);
        },
      });
      if (problems.delete(transport)) log.info({ address, transport }, 'DNS listens here now');
      return listener;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      if (problems.has(transport)) return undefined;
      const problem = whyNot(error, at, transport);
      problems.set(transport, problem);
      log.error({ problem }, 'DNS cannot listen; tried again');
      return undefined;
    }
  }
}

async function closed({ listeners: { udp, tcp } }: Place): Promise<void> {
  await Promise.all([udp?.close(), tcp?.close()]);
}

/** Without the resolver's own link, which also() is for: an agent that was killed may have left it. */
function hostAddresses(): string[] {
  const { [DNS_LINK]: _, ...interfaces } = networkInterfaces();
  return Object.entries(interfaces).flatMap(([name, addresses = []]) =>
    addresses.map(({ address, family, scopeid }) =>
      family === 'IPv6' && scopeid !== 0 ? `${address}%${name}` : address,
    ),
  );
}

function whyNot(error: NodeJS.ErrnoException, at: HostPort, transport: Transport): string {
  const where = `${transport.toUpperCase()} ${formatAddress(at)}`;
  if (error.code === 'EADDRINUSE') {
    const owner = portOwner(transport, at);
    const who = owner === undefined ? 'another process' : `${owner.name} (pid ${owner.pid})`;
    return `${where} is taken by ${who}: stop it, or give another address in dns.listen`;
  }
  if (error.code === 'EADDRNOTAVAIL')
    return `${where}: no interface has this address yet; add it, or give another one in dns.listen`;
  if (error.code === 'EACCES')
    return `${where}: this process may not bind ports below 1024; it needs CAP_NET_BIND_SERVICE, as the systemd unit gives it`;
  return `${where}: ${error.message}`;
}
