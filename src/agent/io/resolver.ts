/**
 * The resolver as a part of this host's agent: what it knows of the cluster, and when it is told. Where
 * the configuration turns it off nothing of it is loaded.
 */
import { hostname } from 'node:os';
import type { DnsEngine } from '../../api/engine.ts';
import { hostAddresses } from '../../cluster/advertise.ts';
import { interfacesOfHost } from '../../cluster/io/self.ts';
import type { Config } from '../../config/schema.ts';
import type { Cgroup } from '../../datapath/io/cgroup.ts';
import type { Pins } from '../../datapath/io/pins.ts';
import type { Dns, DnsWorld } from '../../dns/io/dns.ts';
import { removeKernelDns } from '../../dns/io/kernel.ts';
import { dnsOff } from '../../dns/off.ts';
import type { State } from '../../state/io/state.ts';
import type { Logger } from '../../telemetry/io/log.ts';
import { version } from '../../version.ts';
import type { Pipeline } from './pipeline.ts';

export interface ResolverOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly cgroup: Cgroup;
  readonly pins: Pins;
  readonly state: State;
  readonly pipeline: Pipeline;
}

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #off: DnsEngine;
  #dns: Dns | undefined;
  #addresses: readonly string[] = [];

  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#off = dnsOff(options.config.dns.domain);
  }

  get engine(): DnsEngine {
    return this.#dns ?? this.#off;
  }

  /** When the pipeline has started: what is answered is what the kernel has. */
  async start(): Promise<void> {
    const { config, log, cgroup, pins, pipeline } = this.#options;
    // What an agent that was killed may have left there.
    if (!config.dns.enabled || !config.dns.kernel) removeKernelDns(pins);
    if (!config.dns.enabled) return;
    const { Dns } = await import('../../dns/io/dns.ts');
    this.#look();
    const { vipCidr4: v4, vipPrefix6: v6 } = config;
    const dns = new Dns({
      config: config.dns,
      pools: { v4, v6 },
      log,
      cgroup,
      pins,
      world: () => this.#world(),
      kernelEntriesMax: config.maps.dnsNames,
    });
    this.#dns = dns;
    pipeline.whenApplied((touched) => dns.apply(touched));
    await dns.start();
  }

  /** When all else has started: what is made now nobody has to wait for later. */
  warm(): void {
    void this.#dns?.warm();
  }

  /** Now and then: addresses of this host, and the name servers that it has. */
  look(): void {
    if (this.#dns === undefined) return;
    if (this.#look()) this.#dns.apply([]);
    this.#dns.look();
  }

  async close(): Promise<void> {
    await this.#dns?.close();
  }

  /** Whether this host has other addresses than before. */
  #look(): boolean {
    const addresses = hostAddresses(interfacesOfHost());
    if (addresses.join() === this.#addresses.join()) return false;
    this.#addresses = addresses;
    return true;
  }

  #world(): DnsWorld {
    const { config, state, pipeline } = this.#options;
    const { name = hostname(), zone } = config.cluster;
    const { revision, records } = state.snapshot();
    return {
      catalog: { ...pipeline.catalog, revision },
      self: { id: state.node, name, zone, version: version(), addresses: this.#addresses },
      nodes: state.view.nodes(),
      unreachable: pipeline.unreachable,
      records,
      isApplied: pipeline.isApplied,
    };
  }
}
