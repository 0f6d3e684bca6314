/**
 * Every knob of the agent: what it is, its unit, where its default comes from.
 * Unknown fields are errors. Read from YAML by load.ts; options of `zerohop
 * agent` and their environment variables win over the file.
 */
import * as z from 'zod';
import { DEFAULT_PORT, formatAddress, type HostPort } from '../cluster/address.ts';
import { whyNoBackend } from '../net/classes.ts';
import { parseIp } from '../net/ip.ts';
import { show, strict } from '../state/validate.ts';
import {
  DEFAULT_DATA_DIR,
  DEFAULT_METRICS_PORT,
  DEFAULT_PIN_DIR,
  DEFAULT_SOCKET_PATH,
} from './defaults.ts';
import { dnsSchema } from './dns-schema.ts';
import { absolutePath, cidr, count, ipPort, label, parsedCidr, yesOrNo } from './values.ts';

/** Bounds a typing slip: 2^24 backends would be 600 MB of kernel memory. */
const ENTRIES_MAX = 2 ** 24;

const mapsSchema = strict({
  /** Entries: VIPs × ports, all families (a service with two VIPs and two ports takes four). A guess: 20 × the largest fleet we test. 32 bytes each. */
  services: count('maps.services', 16, ENTRIES_MAX).default(65_536),
  /** Entries: backends × VIPs of their family. 2 × services. 40 bytes each. */
  backends: count('maps.backends', 16, ENTRIES_MAX).default(131_072),
  /**
   * Slots of alias tables, one per backend of a set. 4 × backends: the old and
   * the new set of a service exist side by side while it changes (2 ×), and
   * freed runs fragment (2 ×, a guess from buddy allocation). 16 bytes each.
   */
  slots: count('maps.slots', 64, ENTRIES_MAX).default(524_288),
  /**
   * Sockets remembered for getpeername() in the direct-mapped table; a power of
   * two, since the slot is the socket cookie modulo this. KERNEL.md measured
   * the design. About 80 bytes each, allocated at load.
   */
  sockets: count('maps.sockets', 64, ENTRIES_MAX)
    .refine((value) => Number.isInteger(Math.log2(value)), {
      error: 'maps.sockets is not a power of two',
    })
    .default(65_536),
  /** Sockets that met a taken slot and live in a hash table. sockets ÷ 4, a guess. */
  socketsSpilled: count('maps.socketsSpilled', 16, ENTRIES_MAX).default(16_384),
  /** Access rules, with counters per CPU. A guess: far above any hand-written policy. 72 bytes each, and 24 for each CPU. */
  aclRules: count('maps.aclRules', 16, 2 ** 20).default(16_384),
  /**
   * Entries that one policy may take in each of four maps: endpoints, blocks,
   * matches and sources. 2 × backends, as a backend on a local address is
   * protected on all of them. Two policies fit while one replaces the other; 40
   * to 60 bytes for each entry in use.
   */
  aclEntries: count('maps.aclEntries', 64, ENTRIES_MAX).default(262_144),
  /** Cgroups whose programs are told apart by rules. A guess: busy hosts have 1,000. Two sets fit; 150 bytes each. */
  aclCgroups: count('maps.aclCgroups', 64, 2 ** 20).default(8192),
  /** Steps of the automaton that all units and cgroups of rules make together: about 4 for each letter of a pattern. Two fit; 60 bytes each. */
  aclGlobs: count('maps.aclGlobs', 64, 2 ** 20).default(32_768),
  /** Names and types that the kernel answers by itself (dns.kernel); others are answered by the agent. A service has two, and two for its backends: 4,000 services. 1 kB for each in use. */
  dnsNames: count('maps.dnsNames', 16, 2 ** 20).default(16_384),
});

const aclSchema = strict({
  /**
   * What judges: auto takes BPF LSM where the kernel has it, else the cgroup
   * hooks. cgroup leaves BPF LSM alone; lsm refuses to start without it.
   */
  enforcement: z
    .enum(['auto', 'lsm', 'cgroup'], {
      error: (issue) => `acl.enforcement ${show(issue.input)} is none of auto, lsm, cgroup`,
    })
    .default('auto'),
  /** What happens to a connection that no rule allows or denies: `deny` closes every destination to this host's programs. What comes from outside is closed by rules only. */
  defaultAction: z
    .enum(['allow', 'deny'], {
      error: (issue) => `acl.defaultAction ${show(issue.input)} is neither allow nor deny`,
    })
    .default('allow'),
});

/** Where the cluster's port is; a host that is in no cluster listens to nobody. */
const clusterSchema = strict({
  /**
   * IP:PORT for other members, everything mutual TLS. `[::]` is every address, IPv4 too. The port
   * is Serf's, which gossip is mostly looked for at; Docker Swarm takes it too: give another there.
   */
  listen: ipPort('cluster.listen').default({ host: '::', port: undefined }),
  /** IP[:PORT] that others dial; without a port that of `listen`. Default: the IP of `listen`, or one of this host's where that is every address; behind NAT no default can be right. */
  advertise: ipPort('cluster.advertise')
    .superRefine(({ host }, ctx) => {
      const ip = parseIp(host);
      const reason = ip === undefined ? undefined : whyNoBackend(ip);
      if (reason === undefined) return;
      ctx.addIssue({ code: 'custom', message: `cluster.advertise ${host}: ${reason}` });
    })
    .optional(),
  /** Where this host is: a room, a data centre. Members prefer neighbours of their own zone. 32 is the overlay's limit (src/hyparview-ts/config.ts). */
  zone: label('cluster.zone', 0, 32).default(''),
  /** What people call this member; need not be unique. Default: the host name, which has at most 64 letters (HOST_NAME_MAX). */
  name: label('cluster.name', 1, 64).optional(),
}).transform(({ listen, advertise, ...rest }) => {
  const bound: HostPort = { host: listen.host, port: listen.port ?? DEFAULT_PORT };
  const told = advertise && { host: advertise.host, port: advertise.port ?? bound.port };
  return { ...rest, listen: bound, advertise: told && formatAddress(told) };
});

const metricsSchema = strict({
  /**
   * IP[:PORT] where GET /metrics is answered to everybody who can connect; absent: only on the
   * agent's socket. Off by default, as a TCP port has no owner and no group, and the text tells names
   * of hosts and how full and how old things are. The port is one of the 9100–9999 that exporters
   * have; all of these are given out by now, so that some rare exporter has it too.
   */
  listen: ipPort('metrics.listen').optional(),
}).transform(({ listen }): { listen?: HostPort } =>
  listen === undefined
    ? {}
    : { listen: { host: listen.host, port: listen.port ?? DEFAULT_METRICS_PORT } },
);

const healthSchema = strict({
  /** Whether this host looks if somebody listens at its own TCP backends; those that nobody listens at get no connections, on any host. */
  listening: yesOrNo('health.listening').default(true),
  /** Milliseconds between looks; two in a row must fail. A guess: a server that is restarted within it is not missed. */
  intervalMs: count('health.intervalMs', 100, 60_000).default(1000),
});

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const configSchema = strict({
  /** Where the API listens (Unix socket, mode 0660, group zerohop if there is one). */
  socketPath: absolutePath('socketPath')
    .max(107, { error: 'socketPath is longer than the 107 bytes of sun_path (unix(7))' })
    .default(DEFAULT_SOCKET_PATH),
  /** Where state is kept. */
  dataDir: absolutePath('dataDir').default(DEFAULT_DATA_DIR),
  /** Where maps and links are pinned: a directory below a bpffs mount. */
  pinDir: absolutePath('pinDir').default(DEFAULT_PIN_DIR),
  /** The cgroup whose sockets see the VIPs; default: the root of cgroup2, found in /proc/self/mountinfo. */
  cgroupPath: absolutePath('cgroupPath').optional(),
  /** Documents applied at start and on SIGHUP; default: services.d beside the configuration file. */
  servicesDir: absolutePath('servicesDir').optional(),
  /**
   * Where IPv4 VIPs come from. 240.0.0.0/4 is reserved (RFC 1112, 4) and no
   * packet ever carries one; Consul and Istio choose it too.
   */
  vipCidr4: cidr('vipCidr4', (c) =>
    c.family !== 4
      ? 'is not an IPv4 block'
      : c.prefixLength > 30
        ? 'is smaller than /30'
        : undefined,
  ).default(parsedCidr('240.0.0.0/4')),
  /**
   * Where IPv6 VIPs come from: a ULA /64 (RFC 4193), "fd" + "zerohop" in ASCII.
   * Fixed rather than random, so that all nodes agree; no packet carries one.
   */
  vipPrefix6: cidr('vipPrefix6', (c) =>
    c.family !== 6 || c.prefixLength !== 64 ? 'is not an IPv6 /64' : undefined,
  ).default(parsedCidr('fd7a:6572:6f68:6f70::/64')),
  acl: aclSchema.default(() => aclSchema.parse({})),
  cluster: clusterSchema.default(() => clusterSchema.parse({})),
  dns: dnsSchema.default(() => dnsSchema.parse({})),
  health: healthSchema.default(() => healthSchema.parse({})),
  metrics: metricsSchema.default(() => metricsSchema.parse({})),
  maps: mapsSchema.default(() => mapsSchema.parse({})),
  /** Milliseconds between full comparisons with the kernel's maps. A guess; it reads every entry once. */
  fullCheckIntervalMs: count('fullCheckIntervalMs', 100, 86_400_000).default(30_000),
  /** Milliseconds between looks at the processes that own backends (`zerohop run`). A guess: how long a killed one may linger. */
  ownerCheckIntervalMs: count('ownerCheckIntervalMs', 100, 3_600_000).default(1000),
  logLevel: z
    .enum(LOG_LEVELS, {
      error: (issue) => `logLevel ${show(issue.input)} is none of ${LOG_LEVELS.join(', ')}`,
    })
    .default('info'),
});

export type Config = z.output<typeof configSchema>;
/** As written in the file and on the command line. */
export type ConfigInput = z.input<typeof configSchema>;
