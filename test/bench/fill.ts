/**
 * Catalogs of any size, and tables filled with them by the agent's own loader
 * and reconciler, in this process: what the datapath costs without state,
 * store and API.
 */
import { buildCatalog } from '../../src/catalog/catalog.ts';
import type { Catalog, CatalogBackend, CatalogService } from '../../src/catalog/catalog.ts';
import { configSchema } from '../../src/config/schema.ts';
import { keyToBytes } from '../../src/datapath/abi.ts';
import { aclMode, chooseEnforcement } from '../../src/acl/io/enforcement.ts';
import type { MapSizes } from '../../src/datapath/hooks.ts';
import { openCgroup } from '../../src/datapath/io/cgroup.ts';
import { KernelTables } from '../../src/datapath/io/kernel.ts';
import { Datapath } from '../../src/datapath/io/loader.ts';
import { Pins } from '../../src/datapath/io/pins.ts';
import { Reconciler } from '../../src/datapath/io/reconciler.ts';
import { cidrContains } from '../../src/net/cidr.ts';
import { EMPTY_SNAPSHOT } from '../../src/state/changes.ts';
import type { TestHost } from '../harness/host.ts';

export const FIRST_VIP = '240.0.0.0';

/** The n-th address from 240.0.0.0 on. */
export function vipAt(n: number): string {
  return `240.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
}

export const serviceAt = (n: number): string => `s${String(n).padStart(6, '0')}`;

/** Services with one TCP and one UDP port, each with its own backends at 127.0.0.1, .2, … */
export function catalogOf(
  services: number,
  backends: number,
  ports: { readonly tcp: number; readonly udp: number },
): Catalog {
  const targets = (port: number): CatalogBackend[] =>
    Array.from({ length: backends }, (_, i) => ({
      address: `127.0.0.${i + 1}`,
      port,
      weight: 1,
      state: 'active',
    }));
  const [tcp, udp] = [targets(ports.tcp), targets(ports.udp)];
  const all = new Map<string, CatalogService>();
  for (let n = 0; n < services; n++) {
    const name = serviceAt(n);
    all.set(name, {
      name,
      vips: [vipAt(n)],
      ports: [
        { name: 't', port: ports.tcp, protocol: 'tcp', backends: tcp },
        { name: 'u', port: ports.udp, protocol: 'udp', backends: udp },
      ],
    });
  }
  return { ...buildCatalog(EMPTY_SNAPSHOT), revision: 1, services: all };
}

/** The smallest limits that hold a catalog of two ports a service; slots in blocks of a power of two. */
export function sizesFor(services: number, backends: number): MapSizes {
  const frontends = services * 2;
  const block = 2 ** Math.ceil(Math.log2(backends));
  return {
    ...configSchema.parse({}).maps,
    services: Math.max(frontends, 16) * 2,
    backends: Math.max(frontends * backends, 16) * 2,
    slots: Math.max(frontends * block * 2, 64),
  };
}

export interface FillTimes {
  readonly loadMs: number;
  readonly planMs: number;
  readonly writeMs: number;
  readonly writes: number;
}

export class Filled {
  readonly times: FillTimes;
  readonly reconciler: Reconciler;
  readonly #datapath: Datapath;
  readonly #kernel: KernelTables;

  private constructor(
    datapath: Datapath,
    kernel: KernelTables,
    reconciler: Reconciler,
    times: FillTimes,
  ) {
    this.#datapath = datapath;
    this.#kernel = kernel;
    this.reconciler = reconciler;
    this.times = times;
  }

  /** Programs and maps on the cgroup and bpffs of a host that has no agent. */
  static fill(host: TestHost, catalog: Catalog, sizes: MapSizes): Filled {
    const { vipCidr4, vipPrefix6 } = configSchema.parse({});
    const start = performance.now();
    const pins = new Pins(host.pinDir);
    pins.prepare();
    const cgroup = openCgroup(host.cgroup);
    const datapath = Datapath.load({
      pins,
      cgroup,
      sizes,
      vipCidr4,
      vipPrefix6,
      aclMode: aclMode[chooseEnforcement('auto').name],
      notice: () => {},
    });
    const kernel = new KernelTables((name) => datapath.map(name as 'zh_vips'));
    const inVipRange = (address: string): boolean => cidrContains(vipCidr4, keyToBytes(address));
    const options = { limits: sizes, inVipRange };
    const reconciler = new Reconciler(kernel, options, () => performance.now());
    const loaded = performance.now();
    const prepared = reconciler.prepareWhole(catalog);
    const planned = performance.now();
    prepared.apply();
    const written = performance.now();
    datapath.activate();
    return new Filled(datapath, kernel, reconciler, {
      loadMs: loaded - start,
      planMs: planned - loaded,
      writeMs: written - planned,
      writes: prepared.writes,
    });
  }

  close(): void {
    this.#kernel.close();
    this.#datapath.close();
  }
}
