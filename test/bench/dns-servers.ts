/**
 * The resolvers that are compared, each on a test host of its own, at the same
 * address, with the same names or the same upstreams. Each is set up as its
 * manual says for this: one thread, nothing logged, nothing checked but what
 * has to be.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, type Child } from '../harness/child.ts';
import { withoutHealth } from '../harness/config.ts';
import { eventually } from '../harness/eventually.ts';
import { checkout, type TestHost } from '../harness/host.ts';

export const RESOLVER = '127.0.0.55';
const PORT = 53;
export const DOMAIN = 'zerohop.internal';
const TTL = 5;

export interface Named {
  readonly name: string;
  readonly address: string;
}

export type Work =
  | { readonly kind: 'names'; readonly names: readonly Named[]; readonly file: string }
  | { readonly kind: 'forward'; readonly upstreams: readonly string[] };

export interface Server {
  readonly name: string;
  readonly host: TestHost;
  readonly pid: number;
  stop(): Promise<void>;
}

export type ServerKind = 'zerohop' | 'zerohop-kernel' | 'unbound' | 'dnsmasq' | 'dnsdist' | 'naive';

/** What is not there on this machine, and why. */
export class NotHere extends Error {}

/** The n-th name and its address: where services are hardly ever given theirs. */
export function namedAt(n: number): Named {
  return {
    name: `s${String(n).padStart(6, '0')}.${DOMAIN}`,
    address: `254.200.${n >> 8}.${n & 255}`,
  };
}

/** Starts it and waits until it listens. Who asks first may have to wait longer: see Asker.ready(). */
export async function startServer(kind: ServerKind, host: TestHost, work: Work): Promise<Server> {
  if (kind === 'zerohop' || kind === 'zerohop-kernel') return await zerohop(kind, host, work);
  const child = host.spawn(commandOf(kind, host, work));
  await eventually(
    `${kind} at port ${PORT}`,
    async () => {
      if (!child.running) return 'ended';
      return (await host.output(['ss', '-Hlun', `src ${RESOLVER}:${PORT}`])) !== '';
    },
    { timeoutMs: 20_000 },
  );
  if (!child.running) throw new Error(`${kind} ended at once:\n${child.stderr}${child.stdout}`);
  return { name: kind, host, pid: child.pid, stop: () => stopped(child) };
}

async function stopped(child: Child): Promise<void> {
  child.kill();
  await child.result();
}

function commandOf(
  kind: Exclude<ServerKind, 'zerohop' | 'zerohop-kernel'>,
  host: TestHost,
  work: Work,
): string[] {
  const config = join(host.dir, `${kind}.conf`);
  switch (kind) {
    case 'unbound':
      writeFileSync(config, unbound(host, work));
      return ['unbound', '-d', '-c', config];
    case 'dnsmasq':
      writeFileSync(config, dnsmasq(host, work));
      return ['dnsmasq', '-k', '-C', config];
    case 'dnsdist':
      writeFileSync(config, dnsdist(work));
      return ['dnsdist', '--supervised', '--disable-syslog', '-C', config];
    case 'naive': {
      if (work.kind !== 'names') throw new Error('the naive server does not forward');
      const script = join(checkout, 'test/bench/dns-naive.ts');
      return [process.execPath, script, work.file, RESOLVER, String(PORT)];
    }
  }
}

function unbound({ dir }: TestHost, work: Work): string {
  const names =
    work.kind === 'names'
      ? [
          `  local-zone: "${DOMAIN}." static`,
          ...work.names.map(
            ({ name, address }) => `  local-data: "${name}. ${TTL} IN A ${address}"`,
          ),
        ]
      : [];
  const forward =
    work.kind === 'forward'
      ? ['forward-zone:', '  name: "."', ...work.upstreams.map((at) => `  forward-addr: ${at}`)]
      : [];
  return `${[
    'server:',
    `  directory: "${dir}"`,
    '  username: ""',
    '  chroot: ""',
    '  pidfile: ""',
    '  do-daemonize: no',
    '  use-syslog: no',
    '  verbosity: 0',
    '  num-threads: 1',
    '  module-config: "iterator"',
    `  interface: ${RESOLVER}`,
    `  port: ${PORT}`,
    '  access-control: 127.0.0.0/8 allow',
    '  so-rcvbuf: 4m',
    '  so-sndbuf: 4m',
    '  outgoing-range: 8192',
    '  num-queries-per-thread: 4096',
    ...names,
    ...forward,
  ].join('\n')}\n`;
}

function dnsmasq({ dir }: TestHost, work: Work): string {
  const own = [
    'no-hosts',
    'no-resolv',
    'bind-interfaces',
    'user=root',
    'pid-file',
    'log-facility=-',
  ];
  const lines = [...own, `listen-address=${RESOLVER}`, `port=${PORT}`];
  if (work.kind === 'names') {
    const hosts = join(dir, 'hosts');
    const text = work.names.map(({ name, address }) => `${address} ${name}\n`).join('');
    writeFileSync(hosts, text);
    lines.push(`addn-hosts=${hosts}`, `local-ttl=${TTL}`, `local=/${DOMAIN}/`);
  } else {
    lines.push('all-servers', 'cache-size=0', 'no-negcache', 'dns-forward-max=10000');
    lines.push(...work.upstreams.map((at) => `server=${at}`));
  }
  return `${lines.join('\n')}\n`;
}

function dnsdist(work: Work): string {
  if (work.kind !== 'forward') throw new Error('dnsdist has no names of its own');
  return `${[
    `setLocal("${RESOLVER}:${PORT}")`,
    'setACL("127.0.0.0/8")',
    'setSecurityPollSuffix("")',
    'setServerPolicy(firstAvailable)',
    ...work.upstreams.map((at, order) => `newServer({address="${at}:53", order=${order + 1}})`),
  ].join('\n')}\n`;
}

async function zerohop(
  kind: 'zerohop' | 'zerohop-kernel',
  host: TestHost,
  work: Work,
): Promise<Server> {
  const kernel = kind === 'zerohop-kernel';
  const listen = [`${RESOLVER}:${PORT}`];
  const upstreams = work.kind === 'forward' ? work.upstreams.map((at) => `${at}:53`) : [];
  const dns = { listen, domain: DOMAIN, ttl: TTL, kernel, upstreams };
  const { upstreams: _none, ...withoutUpstreams } = dns;
  const config = host.writeConfig({
    ...withoutHealth,
    dns: work.kind === 'forward' ? dns : withoutUpstreams,
  });
  await host.agent.start({ config });
  if (work.kind === 'names') await applyNames(host, work.names);
  if (kernel) {
    const answer = await host.api('GET', '/v1/dns/status');
    const status = answer.json() as { kernel?: { state: string; why?: string } };
    if (status.kernel?.state !== 'active')
      throw new NotHere(
        `the kernel does not answer: ${status.kernel?.why ?? status.kernel?.state ?? answer.text}`,
      );
  }
  const { pid } = host.agent;
  return { name: kind, host, pid, stop: async () => void (await host.agent.kill('SIGTERM')) };
}

async function applyNames(host: TestHost, names: readonly Named[]): Promise<void> {
  const documents = names.map(({ name, address }, n) => ({
    kind: 'service',
    name: name.slice(0, -DOMAIN.length - 1),
    vip: address,
    ports: [{ port: 80, name: 'http' }],
    backends: [{ address: `10.${n >> 8}.${n & 255}.1`, port: 8080 }],
  }));
  const answer = await host.api('POST', '/v1/apply', { documents });
  if (answer.status !== 200) throw new Error(`apply: ${answer.status} ${answer.text}`);
}

/**
 * All its threads to one CPU. Not under SCHED_FIFO as the clients: there a thread that collects
 * garbage keeps the one that answers waiting until it is done.
 */
export async function pin({ pid }: Server, cpu: number): Promise<void> {
  await run(['taskset', '-apc', String(cpu), String(pid)]);
}
