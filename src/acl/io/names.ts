/** Numbers of the kernel to names that people gave, for the log of verdicts. */
import type { Catalog } from '../../catalog/catalog.ts';
import type { EndpointName, EventNames } from '../event.ts';
import type { CgroupPaths } from './cgroups.ts';
import type { Enforcer } from './enforcer.ts';

/** Rules that are gone, for events that come after them; a guess. */
const oldRulesMax = 4096;

/** VIPs of all services, and the backends of those that rules name. */
function indexOf(
  { services }: Catalog,
  named: (service: string) => boolean,
): ReadonlyMap<string, EndpointName> {
  const index = new Map<string, EndpointName>();
  const put = (key: string, name: EndpointName): void => {
    if (!index.has(key)) index.set(key, name);
  };
  for (const { name, vips, ports } of services.values()) {
    for (const port of ports) {
      const at = { service: name, portName: port.name };
      for (const vip of vips) put(`${vip} ${port.port} ${port.protocol}`, at);
      if (!named(name)) continue;
      for (const backend of port.backends) {
        put(`${backend.address} ${backend.port} ${port.protocol}`, at);
        // What came from outside is known by its port alone.
        put(` ${backend.port} ${port.protocol}`, at);
      }
    }
  }
  return index;
}

export class Names implements EventNames {
  readonly #enforcer: Enforcer;
  readonly #catalog: () => Catalog;
  readonly #paths: CgroupPaths;
  readonly #oldRules = new Map<number, string>();
  #index: { readonly of: Catalog; readonly names: ReadonlyMap<string, EndpointName> } | undefined;

  constructor(enforcer: Enforcer, catalog: () => Catalog, paths: CgroupPaths) {
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

  endpoint(address: string, port: number, protocol: string): EndpointName | undefined {
    const catalog = this.#catalog();
    // Made when somebody asks, and not again before the services change.
    if (this.#index?.of !== catalog) {
      const { frame } = this.#enforcer.compiled;
      const names = indexOf(catalog, (service) => frame.services.has(service));
      this.#index = { of: catalog, names };
    }
    return this.#index?.names.get(`${address} ${port} ${protocol}`);
  }

  cgroup(id: bigint, pid: number): string | undefined {
    return this.#paths.pathOf(id, pid);
  }

  user(uid: number): string | undefined {
    return this.#enforcer.identities.nameOf('user', uid);
  }
}
