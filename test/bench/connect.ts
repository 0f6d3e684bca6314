/** What a connection costs until it is there: direct, by VIP, DNAT and HAProxy. */
import { type Effort, type Kind, type LaneResult, type LaneSpec, race } from './lanes.ts';
import { laneHeaders, laneRow, type Section, us, type Wanted } from './report.ts';
import { runsBetween, runsOf, type Runs } from './runcounts.ts';
import { Lane } from './lanes.ts';
import { withStatistics } from './kernelstats.ts';
import { ports, type Stage, type Way } from './stage.ts';

export interface ConnectEffort {
  readonly tcp: Effort;
  readonly udp: Effort;
  readonly ask: Effort;
}

function lane(stage: Stage, way: Way, kind: Kind, port: number, family: 4 | 6 = 4): LaneSpec {
  return { ...stage.route(way, port, family), kind };
}

const byName = (results: readonly LaneResult[], name: string): LaneResult | undefined =>
  results.find((result) => result.name === name);

function exact(results: readonly LaneResult[]): boolean {
  return results.every(({ wrongPeers }) => wrongPeers === 0);
}

function within(results: readonly LaneResult[], name: string, what: string, most: number): Wanted {
  const ratio = byName(results, name)?.ratio ?? Number.NaN;
  return { what, figure: ratio.toFixed(3), met: ratio <= most };
}

export async function connectTcp(stage: Stage, effort: ConnectEffort): Promise<Section> {
  const ways: readonly Way[] = ['direct', 'attached', 'vip', 'dnat', 'haproxy'];
  const kind = 'connect-tcp';
  const four = await race(
    ways.map((way) => lane(stage, way, kind, ports.close)),
    effort.tcp,
  );
  const six = await race(
    (['direct', 'attached', 'vip'] as const).map((way) => lane(stage, way, kind, ports.close, 6)),
    effort.tcp,
  );
  // The agent has the server's sockets too, as on a host whose root cgroup it has.
  const both = await race(
    (['direct-both', 'vip-both'] as const).map((way) => lane(stage, way, kind, ports.close)),
    effort.tcp,
  );
  const [vip, dnat] = [byName(four, 'zerohop VIP'), byName(four, 'nftables DNAT')];
  const peers: string[] = [];
  for (const way of ['direct', 'vip', 'dnat', 'haproxy'] as const) {
    const { peer, local, seen } = await stage.who(way);
    const { name, address, port } = stage.route(way, ports.who);
    const client = seen === local ? 'sees the client' : 'does not see the client';
    peers.push(`${name}: dials ${address}:${port}, getpeername() ${peer}; the server ${client}`);
  }
  return {
    name: 'connect-tcp',
    title: 'TCP: connect, accept, close at both ends (µs each)',
    headers: laneHeaders,
    rows: [
      ...four.map((result) => laneRow(result)),
      ...six.map((r) => sixRow(r)),
      ...both.map((result) => laneRow(result)),
    ],
    notes: peers,
    data: { ipv4: four, ipv6: six, both },
    wanted: [
      within(four, 'zerohop VIP', 'TCP connect by VIP within 1 % of direct', 1.01),
      within(six, 'zerohop VIP', 'the same with IPv6', 1.01),
      within(both, 'zerohop VIP, one cgroup', 'the same with the server under the agent', 1.01),
      {
        what: 'cheaper than DNAT',
        figure: `${us(vip?.ns ?? 0)} against ${us(dnat?.ns ?? 0)}`,
        met: (vip?.ns ?? Number.NaN) < (dnat?.ns ?? 0),
      },
      {
        what: 'getpeername() is what was dialled',
        figure: `${wrongs([...four, ...six, ...both])} wrong`,
        met: exact([...four, ...six, ...both]),
      },
    ],
  };
}

const sixRow = (result: LaneResult): Section['rows'][number] =>
  laneRow({ ...result, name: `${result.name}, IPv6` });

const wrongs = (results: readonly LaneResult[]): number =>
  results.reduce((sum, { wrongPeers }) => sum + wrongPeers, 0);

export async function connectUdp(stage: Stage, effort: ConnectEffort): Promise<Section> {
  const port = ports.datagrams;
  const connects = await race(
    (['direct', 'attached', 'vip'] as const).map((way) => lane(stage, way, 'connect-udp', port)),
    effort.udp,
  );
  const asks = await race(
    (['direct', 'attached', 'vip', 'dnat'] as const).map((way) =>
      lane(stage, way, 'ask-udp', port),
    ),
    effort.ask,
  );
  const named = (what: string, results: readonly LaneResult[]): Section['rows'] =>
    results.map((result) => laneRow({ ...result, name: `${what}: ${result.name}` }));
  return {
    name: 'connect-udp',
    title: 'UDP: socket, connect, close; and with one question answered (µs each)',
    headers: laneHeaders,
    rows: [...named('connect', connects), ...named('ask', asks)],
    notes: ['connect() on UDP sends nothing, so DNAT starts with the first datagram.'],
    data: { connect: connects, ask: asks },
    wanted: [
      {
        what: 'getpeername() is what was dialled, UDP',
        figure: `${wrongs([...connects, ...asks])} wrong`,
        met: exact([...connects, ...asks]),
      },
    ],
  };
}

/** The programs alone, by the kernel's clock. */
export async function programTimes(stage: Stage, effort: ConnectEffort): Promise<Section> {
  const { count, turns } = effort.udp;
  const measured = await withStatistics(async () => {
    const all: { readonly what: string; readonly runs: ReadonlyMap<string, Runs> }[] = [];
    for (const [what, way, kind, port] of [
      ['direct', 'attached', 'connect-udp', ports.datagrams],
      ['VIP', 'vip', 'connect-udp', ports.datagrams],
      ['direct', 'attached', 'connect-tcp', ports.close],
      ['VIP', 'vip', 'connect-tcp', ports.close],
      ['VIP', 'vip', 'peername-tcp', ports.echo],
    ] as const) {
      const program = await Lane.open(lane(stage, way, kind, port));
      const before = await runsOf(stage.host);
      await program.turn(count * turns);
      const after = await runsOf(stage.host);
      await program.close();
      all.push({ what: `${kind}, ${what}`, runs: runsBetween(before, after) });
    }
    return all;
  });
  const rows = measured.flatMap(({ what, runs }) =>
    [...runs]
      .filter(([, { count: times }]) => times > count)
      .map(([hook, { count: times, ns }]) => ({
        what: `${what}: ${hook}`,
        cells: [(ns / times).toFixed(0), String(times)],
      })),
  );
  return {
    name: 'programs',
    title: 'The programs alone (ns a run, by the kernel’s statistics, their clock included)',
    headers: ['', 'ns', 'runs'],
    rows,
    notes: [],
    data: rows,
    wanted: [],
  };
}
