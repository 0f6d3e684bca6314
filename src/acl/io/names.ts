/** Numbers of the kernel to names that people gave, for the log of verdicts. */
import type { Catalog } from '../../catalog/catalog.ts';
import { isServed } from '../../catalog/conflicts.ts';
import { addressClass } from '../../net/classes.ts';
import { parseIp } from '../../net/ip.ts';
import type { EndpointName, EventNames } from '../event.ts';
import { placeOf, type Frame } from '../frame.ts';
import type { CgroupPaths } from './cgroups.ts';
import type { Enforcer } from './enforcer.ts';

/** Rules that are gone, for events that come after them; a guess. */
const oldRulesMax = 4096;

/** Stands for every address of this host. */
const HERE = '';

/**
 * VIPs of all services, and the backends of those that rules name; by address,
 * and for those on this host, which rules guard under all its addresses, by
 * port alone.
 */
function indexOf({ services }: Catalog, frame: Frame): ReadonlyMap<string, EndpointName> {
  const index = new Map<string, EndpointName>();
  const put = (key: string, name: EndpointName): void => {
    if (!index.has(key)) index.set(key, name);
  };
  for (const service of services.values()) {
    const { name, vips, ports } = service;
    for (const port of ports) {
      const at = { service: name, portName: port.name };
      for (const vip of vips)
        if (isServed(service, vip, port)) put(`${vip} ${port.port} ${port.protocol}`, at);
      if (!frame.services.has(name)) continue;
      for (const backend of port.backends) {
        const where = `${backend.port} ${port.protocol}`;
        put(`${backend.address} ${where}`, at);
        if (placeOf(frame, backend.address) !== 'elsewhere') put(`${HERE} ${where}`, at);
      }
    }
  }
  return index;
}

/** Whether what is sent there reaches this host; groups, by datagram (../README.md). */
function leadsHere(frame: Frame, address: string, protocol: string): boolean {
  if (address === HERE || placeOf(frame, address) !== 'elsewhere') return true;
  const ip = protocol === 'udp' ? parseIp(address) : undefined;
  return ip !== undefined && addressClass(ip) === 'multicast';
}

interface Index {
  readonly catalog: Catalog;
  readonly frame: Frame;
  readonly names: ReadonlyMap<string, EndpointName>;
}

export class Names implements EventNames {
  readonly #enforcer: Pick<Enforcer, 'compiled' | 'identities'>;
  readonly #catalog: () => Catalog;
  readonly #paths: Pick<CgroupPaths, 'pathOf'>;
  readonly #oldRules = new Map<number, string>();
  #index: Index | undefined;

  constructor(
    enforcer: Pick<Enforcer, 'compiled' | 'identities'>,
    catalog: () => Catalog,
    paths: Pick<CgroupPaths, 'pathOf'>,
  ) {
    this.#enforcer = enforcer;
    this.#catalog = catalog;
    this.#paths = paths;
  }

  rule(number: number): string | undefined {
    const name = this.#enforcer.compiled.tables.rules.get(number)?.name;
    if (name === undefined) return this.#oldRules.get(number);
    if (this.#oldRules.size < oldRulesMax) this.#oldRules.set(number, name);
    return name;
  }

  /** Of what came from outside only the port is known: `address` is empty. */
  endpoint(address: string, port: number, protocol: string): EndpointName | undefined {
    const { frame } = this.#enforcer.compiled;
    const names = this.#namesOf(this.#catalog(), frame);
    const where = `${port} ${protocol}`;
    const exact = names.get(`${address} ${where}`);
    if (exact !== undefined || !leadsHere(frame, address, protocol)) return exact;
    return names.get(`${HERE} ${where}`);
  }

  /** Made when somebody asks, and not again before services, rules or addresses change. */
  #namesOf(catalog: Catalog, frame: Frame): ReadonlyMap<string, EndpointName> {
    if (this.#index?.catalog !== catalog || this.#index.frame !== frame) {
      this.#index = { catalog, frame, names: indexOf(catalog, frame) };
    }
    return this.#index.names;
  }

  cgroup(id: bigint, pid: number): string | undefined {
    return this.#paths.pathOf(id, pid);
  }

  user(uid: number): string | undefined {
    return this.#enforcer.identities.nameOf('user', uid);
  }
}
