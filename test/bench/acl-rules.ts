/**
 * Services and any number of rules, as a host might have them: for services,
 * blocks and a port everywhere; from units, cgroups, users and groups.
 *
 * The first ones are what is measured, so that ten rules are enough for it; the
 * rest are the crowd. None of these selects a lane but by its cgroup.
 */
import { FIRST_VIP, serviceAt, vipAt } from './fill.ts';
import { ports } from './stage.ts';

/** Of each service. */
export const BACKENDS = 5;

/** Where the lanes go. All of 10.0.0.0/8 is local to them, and to no agent. */
export const targets = {
  /** Guarded by an allow for the lane's cgroup, its VIP too. */
  backend: '10.9.0.1',
  vip: FIRST_VIP,
  /** One of all services' backends, one of all VIPs: the first of them. */
  backends: '10.9.0.1',
  vips: FIRST_VIP,
  /** Guarded by an allow for somebody else. */
  closed: '10.9.255.1',
  /** As `backend`, but on an address of this host. */
  local: '127.0.0.1',
  /** No rule names it: but one names a port of every address. */
  stranger: '10.8.0.1',
} as const;

export interface Document {
  readonly kind: 'service' | 'acl';
  readonly name: string;
  readonly [field: string]: unknown;
}

const servicePorts = [
  { name: 'close', port: ports.close, protocol: 'tcp' },
  { name: 'echo', port: ports.echo, protocol: 'tcp' },
  { name: 'datagrams', port: ports.datagrams, protocol: 'udp' },
] as const;

function service(name: string, vip: string, addresses: readonly string[]): Document {
  return {
    kind: 'service',
    name,
    vips: [vip],
    ports: servicePorts,
    backends: addresses.flatMap((address) =>
      servicePorts.map(({ name: portName, port }) => ({ portName, address, port })),
    ),
  };
}

export function serviceDocuments(services: number): Document[] {
  const all: Document[] = [];
  for (let n = 0; n < services; n++) {
    const backends = Array.from({ length: BACKENDS }, (_, i) => {
      const at = n * BACKENDS + i + 1;
      return `10.9.${at >> 8}.${at & 255}`;
    });
    all.push(service(serviceAt(n), vipAt(n), backends));
  }
  all.push(service('closed', '240.1.0.1', [targets.closed]));
  all.push(service('local', '240.1.0.2', [targets.local]));
  return all;
}

type From = Readonly<Record<string, string | number>>;

function acl(name: string, to: object, from: readonly From[], action: string): Document {
  return { kind: 'acl', name, to, ...(from.length === 0 ? {} : { from }), action };
}

const unit = (n: number): From => ({ unit: `app-${String(n % 200).padStart(3, '0')}.service` });
const batch = (n: number): From => ({ cgroup: `/batch/queue-${n % 60}/*` });
const user = (n: number): From => ({ user: 20_000 + (n % 500) });
const group = (n: number): From => ({ group: 30_000 + (n % 50) });

/** What is measured. `lanes`: the cgroup of the lanes, from the mount's root. */
function measured(lanes: string): Document[] {
  return [
    acl('backend', { service: serviceAt(0) }, [{ cgroup: lanes }, unit(0)], 'allow'),
    acl('closed', { service: 'closed' }, [unit(1), user(1)], 'allow'),
    acl('local', { service: 'local' }, [{ cgroup: lanes }, unit(2)], 'allow'),
    acl('mail', { ports: ['25/tcp'] }, [unit(3)], 'allow'),
    acl('fresh', { service: serviceAt(0) }, [{ cgroup: `${lanes}/denied-*` }], 'deny'),
  ];
}

/** The n-th rule of the crowd: two of three for services, one for a block. */
function crowd(n: number, services: number, lanes: string): Document {
  const name = `rule-${String(n).padStart(5, '0')}`;
  if (n % 3 === 2) {
    const at = Math.trunc(n / 3);
    const prefix = 16 + (at % 3) * 4; // one within the other here and there
    const cidr = `${11 + (at % 100)}.${(at * 7) % 256}.${prefix === 16 ? 0 : ((at * 13) % 16) * 16}.0/${prefix}`;
    const to = at % 2 === 0 ? { cidr } : { cidr, ports: ['443/tcp', '53/udp'] };
    return acl(name, to, [unit(n), user(n)], ['allow', 'deny', 'audit'][at % 3] ?? '');
  }
  const at = n - Math.trunc((n + 1) / 3);
  const to = { service: serviceAt(1 + (at % (services - 1))) };
  switch (Math.trunc(at / (services - 1)) % 4) {
    case 0:
      return acl(name, to, [{ cgroup: lanes }, unit(n)], 'allow');
    case 1:
      return acl(name, to, [user(n), group(n), batch(n)], 'allow');
    case 2:
      return acl(name, to, [user(n + 1)], 'deny');
    default:
      return acl(name, to, [unit(n), user(n)], 'audit');
  }
}

/** `count` rules: none, or those that are measured and a crowd. */
export function ruleDocuments(count: number, services: number, lanes: string): Document[] {
  const all = count === 0 ? [] : measured(lanes);
  for (let n = 0; all.length < count; n++) all.push(crowd(n, services, lanes));
  return all;
}

/** Rules for what comes from outside: some ports, each open to a hundred blocks. */
export function ingressDocuments(open: readonly string[], count: number): Document[] {
  const blocks = Array.from({ length: 100 }, (_, n) => ({ cidr: `198.${18 + (n % 2)}.${n}.0/24` }));
  return Array.from({ length: count }, (_, n) => {
    const port = open[n] ?? `${20_000 + n}/tcp`;
    const from = n < open.length ? [{ cidr: '192.0.2.0/24' }, ...blocks] : blocks;
    return acl(`outside-${n}`, { ports: [port] }, from, 'allow');
  });
}
