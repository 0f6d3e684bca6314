/**
 * The four ways to a server, side by side:
 *
 *   direct    client ──────────────────────────► server
 *   VIP       client ─ connect() rewritten ────► server    agent on the client's cgroup
 *   DNAT      client ─ nf_tables, conntrack ───► server    a netns of its own, since conntrack
 *   HAProxy   client ──► haproxy ──────────────► server    would cost all that share it
 *
 * Nothing but loopback; every process on one CPU. Client and server are in
 * different cgroups on every way, so that switching between them costs the same.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../harness/child.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { putService, VIP4, VIP6 } from '../harness/services.ts';
import { laneProgram, serveProgram } from './programs.ts';
import { Pinned, type Place } from './place.ts';

/** The five servers of serve.c. */
export const ports = { close: 7000, echo: 7001, sink: 7002, datagrams: 7003, who: 7004 } as const;
/** The same servers inside the agent's cgroup. */
const OWN_PORTS = 7100;
const HAPROXY_PORTS = 8000;
/** Any address that is not local: kube-proxy's default block. */
const DNAT_ADDRESS = '10.96.0.1';

export type Way = 'direct' | 'attached' | 'vip' | 'dnat' | 'haproxy' | 'direct-both' | 'vip-both';

export interface Route {
  readonly name: string;
  readonly place: Place;
  readonly address: string;
  readonly port: number;
}

export class Stage implements AsyncDisposable {
  readonly host: TestHost;
  /** No agent here; its netns does DNAT. */
  readonly plain: TestHost;
  /** No agent here either. */
  readonly servers: TestHost;

  private constructor(host: TestHost, plain: TestHost, servers: TestHost) {
    this.host = host;
    this.plain = plain;
    this.servers = servers;
  }

  static async create(): Promise<Stage> {
    const create = (): Promise<TestHost> => TestHost.create();
    const stage = new Stage(await create(), await create(), await create());
    const { host, plain, servers } = stage;
    const outside = { netns: host, cgroup: servers };
    await serve(outside, '0.0.0.0', ports.close);
    await serve(outside, '::1', ports.close);
    await serve({ netns: host, cgroup: host }, '0.0.0.0', OWN_PORTS);
    await serve({ netns: plain, cgroup: servers }, '0.0.0.0', ports.close);
    await host.agent.start();
    await addServices(host);
    await dnat(plain);
    await haproxy(outside);
    return stage;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
    await this.plain[Symbol.asyncDispose]();
    await this.servers[Symbol.asyncDispose]();
  }

  /** How a lane goes this way to one of the servers. */
  route(way: Way, port: number, family: 4 | 6 = 4): Route {
    const { host, plain, servers } = this;
    const loopback = family === 4 ? '127.0.0.1' : '::1';
    const vip = family === 4 ? VIP4 : VIP6;
    const outside = { netns: host, cgroup: plain };
    const inside = { netns: host, cgroup: host };
    switch (way) {
      case 'direct':
        return { name: 'direct', place: outside, address: loopback, port };
      case 'attached':
        return { name: 'direct, agent there', place: inside, address: loopback, port };
      case 'vip':
        return { name: 'zerohop VIP', place: inside, address: vip, port };
      case 'direct-both': {
        const place = { netns: host, cgroup: servers };
        return { name: 'direct, one cgroup', place, address: loopback, port };
      }
      case 'vip-both': {
        const own = port - ports.close + OWN_PORTS;
        return { name: 'zerohop VIP, one cgroup', place: inside, address: vip, port: own };
      }
      case 'dnat': {
        const place = { netns: plain, cgroup: plain };
        return { name: 'nftables DNAT', place, address: DNAT_ADDRESS, port };
      }
      case 'haproxy': {
        const front = port - ports.close + HAPROXY_PORTS;
        return { name: 'HAProxy', place: outside, address: loopback, port: front };
      }
    }
  }

  /** What both ends of a TCP connection see. */
  async who(way: Way): Promise<{ readonly peer: string; local: string; seen: string }> {
    const { place, address, port } = this.route(way, ports.who);
    const client = new Pinned(place, [await laneProgram(), 'who', address, String(port)]);
    const answer = await client.line();
    return JSON.parse(answer) as { peer: string; local: string; seen: string };
  }
}

/** The servers of serve.c, from this port on. */
export async function serve(place: Place, address: string, port: number): Promise<void> {
  const server = new Pinned(place, [await serveProgram(), address, String(port)]);
  await server.line(); // "ready"
}

async function addServices(host: TestHost): Promise<void> {
  const bases = [
    { base: ports.close, addresses: ['127.0.0.1', '::1'] },
    { base: OWN_PORTS, addresses: ['127.0.0.1'] },
  ];
  const list = bases.flatMap(({ base, addresses }) =>
    Object.entries(ports).map(([name, port]) => ({
      port: { name: `${name}${base}`, port: port - ports.close + base },
      protocol: name === 'datagrams' ? ('udp' as const) : ('tcp' as const),
      addresses,
    })),
  );
  await putService(host, 'bench', {
    vips: [VIP4, VIP6],
    ports: list.map(({ port, protocol }) => ({ ...port, protocol })),
    backends: list.flatMap(({ port, addresses }) =>
      addresses.map((address) => ({ portName: port.name, address, port: port.port })),
    ),
  });
}

/** One rule a port, the least that DNAT can cost; short memory, so that 10⁵ connections fit. */
async function dnat(host: TestHost): Promise<void> {
  await host.ip('route', 'add', `${DNAT_ADDRESS}/32`, 'dev', 'lo', 'src', '127.0.0.1');
  const rules = Object.values(ports).map((port) => {
    const protocol = port === ports.datagrams ? 'udp' : 'tcp';
    return `ip daddr ${DNAT_ADDRESS} ${protocol} dport ${port} dnat to 127.0.0.1:${port}`;
  });
  const chain = ['type nat hook output priority -100', ...rules].join('\n');
  const inside = ['nsenter', `--net=/run/netns/${host.name}`];
  await run([...inside, 'nft', '-f', '-'], {
    input: `table ip bench {\nchain out {\n${chain}\n}\n}\n`,
  });
  for (const knob of ['tcp_timeout_close', 'udp_timeout', 'udp_timeout_stream']) {
    const path = `/proc/sys/net/netfilter/nf_conntrack_${knob}`;
    await run([...inside, 'sh', '-c', `echo 1 >${path}`]);
  }
}

async function haproxy(place: Place): Promise<void> {
  const { netns } = place;
  const listens = Object.values(ports)
    .filter((port) => port !== ports.datagrams)
    .map((port) => {
      const front = port - ports.close + HAPROXY_PORTS;
      return `listen p${port}\n  bind 127.0.0.1:${front}\n  server s 127.0.0.1:${port}\n`;
    });
  const config = join(netns.dir, 'haproxy.cfg');
  writeFileSync(
    config,
    `global
  maxconn 4000
  nbthread 1
defaults
  mode tcp
  option nolinger
  timeout connect 5s
  timeout client 300s
  timeout server 300s
${listens.join('')}`,
  );
  const proxy = new Pinned(place, ['haproxy', '-db', '-f', config]);
  await eventually('haproxy', async () => {
    if (proxy.ended !== undefined) throw proxy.ended;
    const { stdout } = await netns.exec(['ss', '-Hltn', `sport = :${HAPROXY_PORTS}`]);
    return stdout !== '';
  });
}
