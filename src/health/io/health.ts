/**
 * Looks now and then who listens at the backends of this host, tells the other hosts, and hears
 * them. What comes of it is one set of endpoints that are down; what to do with it is the Catalog's.
 */
import { networkInterfaces } from 'node:os';
import { hostAddresses } from '../../cluster/advertise.ts';
import type { FactChanged } from '../../cluster/ephemeral.ts';
import type { Priority } from '../../hyparview-ts/index.ts';
import { EMPTY_SNAPSHOT } from '../../state/changes.ts';
import type { StateSnapshot } from '../../state/records.ts';
import type { NodeRecord } from '../../state/replica/schema.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import { endpointsOf, isListenedAt, type Endpoint } from '../endpoints.ts';
import { Hearsay } from '../hearsay.ts';
import { endpointOfKey, FACT_FOR_MS, Teller } from '../teller.ts';
import { Watch, type Answer } from '../watch.ts';
import { probe } from './probe.ts';
import { ListeningTables } from './listening.ts';

/** In one line of the log. */
const NAMED_MAX = 10;

export interface HealthOptions {
  readonly settings: { readonly listening: boolean; readonly intervalMs: number };
  readonly log: Logger;
  /** What there is now. */
  readonly world: () => {
    readonly self: string;
    readonly snapshot: StateSnapshot;
    readonly nodes: ReadonlyMap<string, NodeRecord>;
  };
  /** Another set than before, as endpointText(). */
  readonly changed: (unhealthy: ReadonlySet<string>) => void;
}

/** As Member.fact(). */
export type Tell = (
  key: string,
  value: Uint8Array | undefined,
  forMs: number,
  priority: Priority,
) => void;

export class Health {
  readonly #options: HealthOptions;
  readonly #tables = new ListeningTables();
  readonly #watch = new Watch();
  readonly #hearsay = new Hearsay();
  #teller = new Teller();
  #tell: Tell | undefined;
  #unreachable: ReadonlySet<string> = new Set();
  #addresses: ReadonlySet<string> = new Set();
  #endpoints: {
    readonly of: StateSnapshot;
    readonly key: string;
    readonly all: ReadonlyMap<string, Endpoint>;
  } = {
    of: { ...EMPTY_SNAPSHOT, revision: -1 },
    key: '',
    all: new Map(),
  };
  /** Of this host. */
  #down: ReadonlySet<string> = new Set();
  #unhealthy: ReadonlySet<string> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** Resolves after the first look. Never rejects. */
  async start(): Promise<void> {
    await this.#look();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** A member of a cluster from now on: says everything anew. */
  joined(tell: Tell): void {
    this.#tell = tell;
    this.#say();
  }

  /** In no cluster any more: what others said is forgotten. */
  left(): void {
    this.#teller = new Teller();
    this.#unreachable = new Set();
    this.parted();
  }

  /** Not a member for now: what others take back meanwhile is never heard, so what they said is forgotten. */
  parted(): void {
    this.#tell = undefined;
    this.#hearsay.clear();
    this.#settle();
  }

  /** Facts of others; of this host's own id those of an earlier life. */
  heard(changed: readonly FactChanged[]): void {
    const { self } = this.#options.world();
    for (const { origin, key, value } of changed) {
      const endpoint = endpointOfKey(key);
      if (endpoint === undefined) continue;
      if (origin !== self) this.#hearsay.hear(origin, endpoint, value !== undefined);
      else if (value !== undefined) this.#teller.remind(endpoint);
    }
    this.#settle();
  }

  reach(unreachable: ReadonlySet<string>): void {
    this.#unreachable = unreachable;
    this.#settle();
  }

  async #look(): Promise<void> {
    const { intervalMs, listening } = this.#options.settings;
    const nextAt = performance.now() + intervalMs;
    try {
      this.#addresses = new Set(addressesOfHost());
      if (listening) await this.#lookAtAll();
    } catch (error) {
      this.#options.log.error({ error }, 'whether backends of this host listen could not be seen');
    }
    if (this.#isClosed) return;
    this.#say();
    this.#settle();
    const inMs = Math.max(0, nextAt - performance.now());
    this.#timer = setTimeout(() => void this.#look(), inMs);
  }

  async #lookAtAll(): Promise<void> {
    const endpoints = this.#endpointsNow();
    const listening = this.#tables.read(endpoints.values());
    const asked = this.#watch.begin(
      [...endpoints.values()].map((one) => [one.key, isListenedAt(one, listening)]),
    );
    const answers = new Map<string, Answer>();
    const ask = async (key: string): Promise<void> => {
      const endpoint = endpoints.get(key);
      if (endpoint !== undefined) answers.set(key, await probe(endpoint.address, endpoint.port));
    };
    await Promise.all(asked.map(ask));
    this.#watch.end(answers);
    const before = this.#down;
    this.#down = this.#watch.down();
    const { log } = this.#options;
    note(
      log,
      [...this.#down].filter((one) => !before.has(one)),
      'nobody listens at backends of this host',
    );
    note(
      log,
      [...before].filter((one) => !this.#down.has(one)),
      'backends of this host that nobody listened at are back, or gone',
    );
  }

  /** Made anew when records or addresses are others. */
  #endpointsNow(): ReadonlyMap<string, Endpoint> {
    const { snapshot, self } = this.#options.world();
    const key = [self, ...this.#addresses].join(' ');
    if (this.#endpoints.of !== snapshot || this.#endpoints.key !== key) {
      const all = endpointsOf(snapshot, self, this.#addresses);
      this.#endpoints = { of: snapshot, key, all };
    }
    return this.#endpoints.all;
  }

  #say(): void {
    const tell = this.#tell;
    if (tell === undefined) return;
    const { all } = this.#endpoints;
    const down = new Set([...this.#down].filter((key) => all.get(key)?.isForAll === true));
    for (const { key, value, priority } of this.#teller.due(down, performance.now()))
      tell(key, value, FACT_FOR_MS, priority);
  }

  /** Tells when the set is another one. */
  #settle(): void {
    const [unreachable, addresses] = [this.#unreachable, this.#addresses];
    const believed = this.#hearsay.believed({ ...this.#options.world(), unreachable, addresses });
    const unhealthy = new Set([...this.#down, ...believed]);
    const before = this.#unhealthy;
    if (unhealthy.size === before.size && [...unhealthy].every((one) => before.has(one))) return;
    this.#unhealthy = unhealthy;
    this.#options.changed(unhealthy);
  }
}

function note(log: Logger, endpoints: readonly string[], words: string): void {
  if (endpoints.length === 0) return;
  log.info({ count: endpoints.length, endpoints: endpoints.slice(0, NAMED_MAX) }, words);
}

function addressesOfHost(): string[] {
  return hostAddresses(
    Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
      addresses.map(({ address, internal }) => ({ name, address, internal })),
    ),
  );
}
