/** What connect() costs at 1, 1,000 and 100,000 services, each connect to a VIP drawn at random. */
import { TestHost } from '../harness/host.ts';
import { catalogOf, FIRST_VIP, Filled, sizesFor } from './fill.ts';
import { type Effort, type Kind, type LaneResult, type LaneSpec, race } from './lanes.ts';
import { serveProgram } from './programs.ts';
import { Pinned } from './place.ts';
import { laneHeaders, laneRow, ms, type Section } from './report.ts';
import { ports } from './stage.ts';

export interface ScaleEffort {
  /** Services of two ports each, backends of each port. */
  readonly sizes: readonly (readonly [services: number, backends: number])[];
  readonly tcp: Effort;
  readonly udp: Effort;
}

interface Scaled {
  readonly host: TestHost;
  readonly filled: Filled;
  readonly services: number;
  readonly backends: number;
}

const count = (n: number): string => n.toLocaleString('en');

export async function scale(effort: ScaleEffort): Promise<Section> {
  await using plain = await TestHost.create();
  await using servers = await TestHost.create(); // stage.ts says why
  const scaled: Scaled[] = [];
  try {
    const server = new Pinned({ netns: plain, cgroup: servers }, [
      await serveProgram(),
      '0.0.0.0',
      String(ports.close),
    ]);
    await server.line();
    for (const [services, backends] of effort.sizes) {
      const host = await TestHost.create();
      const catalog = catalogOf(services, backends, { tcp: ports.close, udp: ports.datagrams });
      const filled = Filled.fill(host, catalog, sizesFor(services, backends));
      scaled.push({ host, filled, services, backends });
    }
    return await compare(plain, scaled, effort);
  } finally {
    for (const { host, filled } of scaled) {
      filled.close();
      await host[Symbol.asyncDispose]();
    }
  }
}

const title = ({ services, backends }: Scaled): string =>
  `${count(services)} services, ${count(services * backends * 2)} backends`;

async function compare(
  plain: TestHost,
  scaled: readonly Scaled[],
  effort: ScaleEffort,
): Promise<Section> {
  const lanes = (kind: Kind, port: number): LaneSpec[] => [
    ...scaled.map((at) => ({
      name: title(at),
      place: { netns: plain, cgroup: at.host },
      kind,
      address: FIRST_VIP,
      port,
      spread: at.services,
    })),
    ...scaled.slice(-1).map((at) => ({
      name: `direct, with ${title(at)}`,
      place: { netns: plain, cgroup: at.host },
      kind,
      address: '127.0.0.1',
      port,
      spread: at.backends,
    })),
    {
      name: 'direct, no programs',
      place: { netns: plain, cgroup: plain },
      kind,
      address: '127.0.0.1',
      port,
      spread: scaled[0]?.backends ?? 1,
    },
  ];
  const tcp = await race(lanes('connect-tcp', ports.close), effort.tcp);
  const udp = await race(lanes('connect-udp', ports.datagrams), effort.udp);
  const largest = (results: readonly LaneResult[]): LaneResult | undefined =>
    results[scaled.length - 1];
  const wrong = [...tcp, ...udp].reduce((sum, { wrongPeers }) => sum + wrongPeers, 0);
  const flat = largest(tcp)?.ratio ?? Number.NaN;
  const named = (what: string, results: readonly LaneResult[]): Section['rows'] =>
    results.map((result) => laneRow({ ...result, name: `${what}: ${result.name}` }));
  return {
    name: 'scale',
    title: 'connect() by the number of services, VIPs at random; ratios to one service',
    headers: laneHeaders,
    rows: [...named('TCP', tcp), ...named('UDP', udp)],
    notes: scaled.map((at) => {
      const { loadMs, planMs, writeMs, writes } = at.filled.times;
      const filled = `maps loaded in ${ms(loadMs)}, plan ${ms(planMs)}, written ${ms(writeMs)}`;
      return `${title(at)}: ${filled} (${count(writes)} writes)`;
    }),
    data: { tcp, udp, fill: scaled.map((at) => ({ title: title(at), ...at.filled.times })) },
    wanted: [
      {
        what: 'TCP connect within 5 % from the fewest to the most services',
        figure: flat.toFixed(3),
        met: flat <= 1.05,
      },
      {
        what: 'getpeername() is the VIP that was dialled, at every size',
        figure: `${wrong} wrong`,
        met: wrong === 0,
      },
    ],
  };
}
