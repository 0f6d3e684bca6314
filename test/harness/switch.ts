/**
 * The bridge that joins the hosts of a test cluster, in a namespace of its own.
 * Nothing leads out of it. What is cut or lost is decided here, where the hosts
 * do not see it.
 */
import { run } from './child.ts';
import { TestHost } from './host.ts';
import { type Place, rules, type Wires, whole } from './wires.ts';

/** Why packets cannot be delayed here; undefined where they can. */
export type Obstacle = string | undefined;

const portOf = (place: Place): string => `h${place + 1}`;

/** 10.77.0.0/16 and fd77::/64; the first host is 1. */
export function addressesOf(place: Place): { readonly four: string; readonly six: string } {
  const n = place + 1;
  return { four: `10.77.${n >> 8}.${n & 255}`, six: `fd77::${n.toString(16)}` };
}

/** Of the hosts' end of the wire. */
const DEVICE = 'eth0';

/** 02: made up here (IEEE 802, locally administered). */
const macOf = (place: Place): string =>
  `02:77:00:00:${[place >> 8, place & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;

/**
 * Everybody else's MAC address, for good: what is sent to a host that is gone
 * vanishes, as behind a router, and is not called unreachable by ARP.
 */
const neighboursOf = (place: Place, hosts: number): string[] =>
  Array.from({ length: hosts }, (_, at) => at)
    .filter((at) => at !== place)
    .flatMap((at) => {
      const { four, six } = addressesOf(at);
      return [four, six].map(
        (ip) => `neigh replace ${ip} lladdr ${macOf(at)} dev ${DEVICE} nud permanent`,
      );
    });

export class Switch implements AsyncDisposable {
  /** Nothing but its namespace is used; so it is undone as hosts are. */
  readonly #place: TestHost;
  readonly #hosts: readonly TestHost[];
  #wires = whole;

  private constructor(place: TestHost, hosts: readonly TestHost[]) {
    this.#place = place;
    this.#hosts = hosts;
  }

  static async join(hosts: readonly TestHost[]): Promise<Switch> {
    const place = await TestHost.create();
    const bridge = new Switch(place, hosts);
    try {
      // No spanning tree and no snooping: a wire works at once, and so does neighbour discovery.
      const add = ['link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0'];
      for (const [at, host] of hosts.entries()) {
        add.push(
          `link add ${portOf(at)} type veth peer name ${DEVICE} address ${macOf(at)} netns ${host.name}`,
        );
        add.push(`link set ${portOf(at)} master br0 up`);
      }
      await ipBatch(place, [...add, 'link set br0 up']);
      await Promise.all(
        hosts.map((host, at) => {
          const { four, six } = addressesOf(at);
          return ipBatch(host, [
            `addr add ${four}/16 dev ${DEVICE}`,
            `addr add ${six}/64 dev ${DEVICE} nodad`,
            `link set ${DEVICE} up`,
            ...neighboursOf(at, hosts.length),
          ]);
        }),
      );
      return bridge;
    } catch (error) {
      await place[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#place[Symbol.asyncDispose]();
  }

  /** Makes the wires so, all in one step. */
  async rewire(change: (wires: Wires) => Wires): Promise<void> {
    const wires = change(this.#wires);
    await this.#inside(['nft', '-f', '-'], rules(wires, portOf));
    this.#wires = wires;
  }

  /** Pulls the host's plug, or puts it back: both ends see no carrier. */
  async plug(at: Place, how: 'in' | 'out'): Promise<void> {
    await this.#inside(['ip', 'link', 'set', portOf(at), how === 'in' ? 'up' : 'down']);
  }

  /** Tried once; netem is a module that not every kernel has. */
  async obstacleToDelay(): Promise<Obstacle> {
    const trial = ['tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '0ms'];
    const { code, stderr } = await this.#place.exec(trial);
    if (code !== 0) return `delay needs netem (sch_netem): ${stderr.trim()}`;
    await this.#inside(['tc', 'qdisc', 'del', 'dev', 'lo', 'root']);
    return undefined;
  }

  /** Each packet from and to this host takes `ms` longer: the round trip twice that. */
  async delay(at: Place, ms: number): Promise<void> {
    const obstacle = await this.obstacleToDelay();
    if (obstacle !== undefined) throw new Error(obstacle);
    const ends = [
      [this.#place, portOf(at)],
      [this.#hosts[at], DEVICE],
    ] as const;
    for (const [where, device] of ends) {
      // limit: packets held; netem's 1,000 would lose some at speed
      const how = ['root', 'netem', 'delay', `${ms}ms`, 'limit', '100000'];
      await where?.output(['tc', 'qdisc', 'replace', 'dev', device, ...how]);
    }
  }

  /** Before all others: a cut comes at once, however busy the machine is, or nobody could tell when it came. */
  async #inside(command: readonly string[], input = ''): Promise<string> {
    return await this.#place.output(['chrt', '--fifo', '1', ...command], { input });
  }
}

async function ipBatch(host: TestHost, lines: readonly string[]): Promise<void> {
  await run(['ip', '-n', host.name, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
