/**
 * One network namespace for servers and lanes; agents that have 0, 10, 1,000
 * and 10,000 rules in force, each on a cgroup of its own. A lane chooses by its
 * cgroup whose rules judge it, so that all take turns.
 *
 *   lane, cgroup of "1,000 rules" ─► 10.9.0.1, 240.0.0.0, … ─► server, cgroup without programs
 *   lane, other namespace ─ veth ─► 192.0.2.1 ─► server, cgroup of "… and 100 for outside"
 *
 * The agents have ended: their policies stay, and nothing of them disturbs. In
 * mode lsm the programs of every agent run at each call of the whole machine,
 * and leave at once where it is not their cgroup's.
 */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { run } from '../harness/child.ts';
import { TestHost } from '../harness/host.ts';
import type { EnforcementName } from '../../src/acl/io/enforcement.ts';
import { type Document, ingressDocuments, ruleDocuments, serviceDocuments } from './acl-rules.ts';
import type { Place } from './place.ts';
import { ports, serve } from './stage.ts';

export type Judging = Exclude<EnforcementName, 'none'>;

export const SIZES = [0, 10, 1000, 10_000] as const;
export type Size = (typeof SIZES)[number];
export const LARGEST = 10_000;

/** Servers that outside asks: without programs, with the agent's, with rules for outside. */
export const outsidePorts = { direct: 7000, none: 7200, largest: 7300, ingress: 7400 } as const;
export type OutsideWay = keyof typeof outsidePorts;
/** The server's end of the wire. */
export const OUTSIDE = '192.0.2.1';

export const rules = (size: number): string => `${size.toLocaleString('en')} rules`;

export interface AclSetup {
  readonly services: number;
  /** Beside which the rules for outside stand. */
  readonly outside: Size;
  /** Limits of the maps; the defaults are slow to make in an emulated guest. */
  readonly maps: Readonly<Record<string, number>>;
}

export class AclStage implements AsyncDisposable {
  readonly judging: Judging;
  readonly setup: AclSetup;
  readonly #scope = new AsyncDisposableStack();
  readonly #hosts = new Map<Size | 'ingress', TestHost>();
  readonly #world: TestHost;
  /** The other end of the wire. */
  readonly #far: TestHost;

  private constructor(judging: Judging, setup: AclSetup, world: TestHost, far: TestHost) {
    this.judging = judging;
    this.setup = setup;
    this.#world = this.#scope.use(world);
    this.#far = this.#scope.use(far);
  }

  static async create(judging: Judging, setup: AclSetup): Promise<AclStage> {
    const [world, far] = [await TestHost.create(), await TestHost.create()];
    const stage = new AclStage(judging, setup, world, far);
    try {
      await stage.#network();
      for (const size of [...SIZES, 'ingress'] as const) await stage.#rules(size);
      await stage.#servers();
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.disposeAsync();
  }

  host(size: Size | 'ingress'): TestHost {
    const host = this.#hosts.get(size);
    if (host === undefined) throw new Error(`bug: no host with ${size} rules`);
    return host;
  }

  /** Judged by this many rules. */
  place(size: Size): Place {
    return { netns: this.#world, cgroup: this.host(size) };
  }

  /** In no agent's cgroup. */
  get plain(): Place {
    return { netns: this.#world, cgroup: this.#world };
  }

  /** A lane at the other end of the wire. */
  get outside(): Place {
    return { netns: this.#far, cgroup: this.#far };
  }

  /** Its policy ends, and its programs go. */
  end(size: Size | 'ingress'): void {
    rmSync(this.host(size).pinDir, { recursive: true });
  }

  async #network(): Promise<void> {
    const [world, far] = [this.#world, this.#far];
    // Every address there is one of this namespace's, and of no agent's.
    await world.ip('route', 'add', 'local', '10.0.0.0/8', 'dev', 'lo');
    await world.ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v0', 'netns', far.name);
    for (const [host, address] of [
      [world, `${OUTSIDE}/24`],
      [far, '192.0.2.2/24'],
    ] as const) {
      await host.ip('addr', 'add', address, 'dev', 'v0');
      await host.ip('link', 'set', 'v0', 'up');
    }
  }

  async #rules(size: Size | 'ingress'): Promise<void> {
    const host = this.#scope.use(await TestHost.create());
    this.#hosts.set(size, host);
    const { services, outside, maps } = this.setup;
    const config = host.writeConfig({ acl: { enforcement: this.judging }, maps });
    await host.agent.start({ config });
    await apply(host, serviceDocuments(services));
    const count = size === 'ingress' ? outside : size;
    await apply(host, ruleDocuments(count, services, lanesOf(host)));
    if (size === 'ingress') await apply(host, ingressDocuments(openPorts, 100));
    await expectInForce(host, this.judging, size);
    await host.agent.stop();
  }

  async #servers(): Promise<void> {
    const servers = this.#scope.use(await TestHost.create()); // stage.ts says why
    const at = (cgroup: TestHost): Place => ({ netns: this.#world, cgroup });
    await serve(at(servers), '0.0.0.0', outsidePorts.direct);
    await serve(at(this.host(0)), '0.0.0.0', outsidePorts.none);
    await serve(at(this.host(LARGEST)), '0.0.0.0', outsidePorts.largest);
    await serve(at(this.host('ingress')), '0.0.0.0', outsidePorts.ingress);
  }
}

/** All servers that are under rules for outside. */
const openPorts = Object.values(ports).map((port) => {
  const protocol = port === ports.datagrams ? 'udp' : 'tcp';
  return `${port - ports.close + outsidePorts.ingress}/${protocol}`;
});

/** The host's cgroup as rules write it. */
export function lanesOf(host: TestHost): string {
  return host.cgroup.slice(dirname(host.cgroup).length);
}

export async function apply(host: TestHost, documents: readonly Document[]): Promise<void> {
  const answer = await host.api('POST', '/v1/apply', { documents });
  if (answer.status !== 200) throw new Error(`apply: ${answer.status} ${answer.text}`);
}

interface Status {
  readonly acl: {
    readonly enforcement: string;
    readonly state: string;
    readonly counters: { readonly eventsDropped: number };
  };
}

export async function aclStatus(host: TestHost): Promise<Status['acl']> {
  return ((await host.api('GET', '/v1/status')).json() as Status).acl;
}

/** A figure for rules that nothing judges by would be a lie. */
async function expectInForce(
  host: TestHost,
  judging: Judging,
  size: Size | 'ingress',
): Promise<void> {
  const { enforcement, state } = await aclStatus(host);
  const wanted = size === 0 ? 'idle' : 'active';
  if (enforcement !== judging || state !== wanted)
    throw new Error(`${size} rules are ${state} by ${enforcement}, not ${wanted} by ${judging}`);
  const links = await run(['ls', `${host.pinDir}/links`]);
  const attached = { judge: /lsm_connect/.test(links), ingress: /ingress/.test(links) };
  if (
    attached.judge !== (judging === 'lsm' && size !== 0) ||
    attached.ingress !== (size === 'ingress')
  )
    throw new Error(
      `${size} rules by ${judging} have other programs: ${links.replaceAll('\n', ' ')}`,
    );
}
