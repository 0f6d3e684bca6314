/**
 * What the resolver's own link costs those who talk over `lo`: nothing, as nothing of it is there.
 * Three network namespaces of their own, the same servers in each; the client is in the agent's cgroup.
 */
import { withoutHealth } from '../harness/config.ts';
import { TestHost } from '../harness/host.ts';
import { namedAt, startServer } from './dns-servers.ts';
import { race, type Effort, type Kind, type LaneResult } from './lanes.ts';
import { laneHeaders, laneRow, type Section } from './report.ts';
import { ports, serve } from './stage.ts';

export interface LoopbackEffort {
  readonly connect: Effort;
  readonly echo: Effort;
  readonly bulk: Effort;
}

interface Variant {
  readonly name: string;
  readonly host: TestHost;
}

const WITH_LINK = 'answered in the kernel';

/** The first is the one that the others are compared with. */
async function variants(hosts: AsyncDisposableStack): Promise<readonly Variant[]> {
  const made = async (name: string, start: (host: TestHost) => Promise<unknown>) => {
    const host = hosts.use(await TestHost.create());
    // no cgroup of an agent: only the link could make a difference there
    const others = hosts.use(await TestHost.create());
    await start(host);
    await serve({ netns: host, cgroup: others }, '0.0.0.0', ports.close);
    return { name, host };
  };
  const names = { kind: 'names', names: [namedAt(1)], file: '' } as const;
  return [
    await made('user space alone', (host) => startServer('zerohop', host, names)),
    await made(WITH_LINK, (host) => startServer('zerohop-kernel', host, names)),
    await made('without DNS', (host) => {
      const config = host.writeConfig({ ...withoutHealth, dns: { enabled: false } });
      return host.agent.start({ config });
    }),
  ];
}

export async function loopback(effort: LoopbackEffort): Promise<Section> {
  await using hosts = new AsyncDisposableStack();
  const all = await variants(hosts);
  const compare = (kind: Kind, port: number, how: Effort): Promise<readonly LaneResult[]> =>
    race(
      all.map(({ name, host }) => {
        const place = { netns: host, cgroup: host };
        return { name, place, kind, address: '127.0.0.1', port };
      }),
      how,
    );
  const results = {
    connect: await compare('connect-tcp', ports.close, effort.connect),
    echo: await compare('echo-tcp', ports.echo, effort.echo),
    bulk: await compare('bulk-tcp', ports.sink, effort.bulk),
  };
  const titles = { connect: 'connect, close', echo: '64 bytes echoed', bulk: '64 KiB written' };
  const kinds = ['connect', 'echo', 'bulk'] as const;
  return {
    name: 'loopback',
    title: 'TCP over lo, with and without the link of the resolver',
    headers: laneHeaders,
    rows: kinds.flatMap((kind) =>
      results[kind].map((result) =>
        laneRow({ ...result, name: `${titles[kind]}: ${result.name}` }),
      ),
    ),
    notes: [],
    data: results,
    wanted: kinds.map((kind) => {
      const ratio = results[kind].find(({ name }) => name === WITH_LINK)?.ratio ?? Number.NaN;
      return {
        what: `${titles[kind]}: at most 1 % slower`,
        figure: ratio.toFixed(3),
        met: ratio <= 1.01,
      };
    }),
  };
}
