/** Random rules, services and connections: few names and addresses, so that they meet. */
import type { CatalogPort, CatalogService } from '../../../src/catalog/catalog.ts';
import type { Destination, Subject, World } from '../../../src/acl/evaluate.ts';
import { compareBackends } from '../../../src/state/changes.ts';
import type {
  AclPort,
  AclRecord,
  AclSelector,
  AclTarget,
  Protocol,
} from '../../../src/state/records.ts';
import type { Dice } from '../../harness/random.ts';

/** Of interfaces, remote, loopback, neighbours of each other, both families. */
const ADDRESSES = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.1.1',
  '192.0.2.7',
  '127.0.0.1',
  '127.0.0.9',
  '127.1.0.1',
  '::1',
  'fd00::1',
  'fd00::2',
  'fd00:1::1',
];
const GROUPS_JOINED = ['224.0.0.1', 'ff02::1'];
const LOCAL_SETS = [
  [],
  ['10.0.0.1'],
  ['10.0.0.1', 'fd00::1', '127.0.0.1', '::1', ...GROUPS_JOINED],
  ['10.0.1.1', '192.0.2.7', 'fd00:1::1'],
  // Blocks that a route makes local.
  ['10.0.0.0/24', '10.0.0.1', 'fd00::/64', '192.0.2.7'],
  ['192.0.2.0/28', '127.0.0.0/24', '10.0.0.0/31', '::/1'],
  ['0.0.0.0/0'],
];
const TARGETS = [
  ...ADDRESSES,
  '0.0.0.0',
  '::',
  '::ffff:10.0.0.1',
  '11.0.0.1',
  '2001:db8::1',
  ...GROUPS_JOINED,
  // Other groups, and their neighbours.
  '224.0.0.5',
  '239.255.255.255',
  '240.0.0.1',
  'ff02::fb',
  'fe80::1',
];
const BLOCKS = [
  '0.0.0.0/0',
  '::/0',
  '::/1',
  '10.0.0.0/8',
  '10.0.0.0/24',
  '10.0.0.1/32',
  '10.0.0.0/31',
  '127.0.0.0/8',
  '127.0.0.0/24',
  '127.0.0.9/32',
  '128.0.0.0/1',
  '126.0.0.0/7',
  '192.0.2.0/28',
  '224.0.0.0/4',
  'fd00::/16',
  'ff00::/8',
  'fd00::/64',
  'fd00::1/128',
  '::1/128',
];
const PORTS = [53, 80, 6379];
const UNITS = [
  'web.service',
  'w*.service',
  '?eb.service',
  'app.slice',
  '*.scope',
  'x@*.service',
  'io.service',
];
const CGROUPS = ['/', '/batch', '/batch/*', '/batch/**', '/**/b', '/b?tch/*/b', '/*/*/b', '/é*'];
const USERS = ['deploy', 'nobody-here', '1000', '0'];
const GROUPS = ['ops', 'gone', '100', '7'];
const SERVICES = ['redis', 'web', 'dns'];
const PORT_NAMES = ['main', 'other'];
const NAMES = [
  'app.slice',
  'system.slice',
  'web.service',
  'wab.service',
  'x@1.service',
  'a.scope',
  'batch',
  'b',
  'élan',
  'user@0.service',
  '_io.service',
];

export const users = new Map<string, number | undefined>([
  ['deploy', 1000],
  ['nobody-here', undefined],
]);
export const groups = new Map<string, number | undefined>([['ops', 100]]);

function some<T>(dice: Dice, max: number, make: () => T): T[] {
  return Array.from({ length: dice.below(max + 1) }, make);
}

function unique<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  return [...new Map(items.map((item) => [keyOf(item), item])).values()];
}

const protocol = (dice: Dice): Protocol => dice.pick(['tcp', 'tcp', 'udp'] as const);

function ports(dice: Dice): AclPort[] {
  const list = [0, ...some(dice, 1, () => 0)].map(() => ({
    port: dice.pick(PORTS),
    protocol: protocol(dice),
  }));
  return unique(list, ({ port, protocol: of }) => `${port}/${of}`);
}

function target(dice: Dice): AclTarget {
  const kind = dice.below(8);
  if (kind === 0) return { kind: 'ports', ports: ports(dice) };
  if (kind < 4)
    return { kind: 'cidr', cidr: dice.pick(BLOCKS), ports: dice.below(2) === 0 ? [] : ports(dice) };
  const service = dice.pick(SERVICES);
  if (dice.below(3) > 0) return { kind: 'service', service };
  return { kind: 'service', service, portName: dice.pick(PORT_NAMES) };
}

function selector(dice: Dice, to: AclTarget): AclSelector {
  switch (dice.below(to.kind === 'cidr' ? 5 : 7)) {
    case 0:
    case 1:
      return { kind: 'unit', value: dice.pick(UNITS) };
    case 2:
      return { kind: 'cgroup', value: dice.pick(CGROUPS) };
    case 3:
      return { kind: 'user', value: dice.pick(USERS) };
    case 4:
      return { kind: 'group', value: dice.pick(GROUPS) };
    default:
      return { kind: 'cidr', value: dice.pick(BLOCKS) };
  }
}

/** All of them select every cgroup but the root: as many as an entry holds, or one or two more. */
function manySelectors(dice: Dice): AclSelector[] {
  const first = ['/', '/*', '/?*', '/*?', '/**/*', '/**/?*', '/**/*?'];
  const more = ['/?*/**', '/*/**', '/*?*', '/**/*?*', '/**', '/*?/**', '/**/**'];
  const values = [...first, ...more].slice(0, 12 + dice.below(3));
  return values.map((value) => ({ kind: 'cgroup' as const, value }));
}

function rule(dice: Dice, name: string): AclRecord {
  const to = target(dice);
  // Now and then more of them match a cgroup than its entry holds.
  const from =
    dice.below(200) === 0 ? manySelectors(dice) : some(dice, 3, () => selector(dice, to));
  return {
    name,
    to,
    from: unique(from, ({ kind, value }) => `${kind} ${value}`),
    action: dice.pick(['allow', 'allow', 'deny', 'audit'] as const),
  };
}

export function randomPort(dice: Dice, name: string): CatalogPort {
  const backends = some(dice, 3, () => ({
    portName: name,
    address: dice.pick(ADDRESSES),
    port: dice.pick(PORTS),
    weight: dice.below(2),
    state: 'active' as const,
  }));
  return {
    name,
    port: 1 + PORT_NAMES.indexOf(name),
    protocol: protocol(dice),
    backends: unique(backends, (b) => `${b.address} ${b.port}`).toSorted(compareBackends),
  };
}

export function randomService(dice: Dice, name: string): CatalogService {
  const names = dice.below(3) === 0 ? PORT_NAMES : [dice.pick(PORT_NAMES)];
  return { name, vips: ['240.0.0.1'], ports: names.map((port) => randomPort(dice, port)) };
}

export function randomServices(dice: Dice): Map<string, CatalogService> {
  const names = SERVICES.filter(() => dice.below(4) > 0);
  return new Map(names.map((name) => [name, randomService(dice, name)]));
}

/** The same services after a change of some, and which. */
export function changedServices(
  dice: Dice,
  before: ReadonlyMap<string, CatalogService>,
): { services: Map<string, CatalogService>; touched: string[] } {
  const services = new Map(before);
  const touched = SERVICES.filter(() => dice.below(2) === 0);
  for (const name of touched) {
    const was = services.get(name);
    const kind = dice.below(4);
    if (kind === 0) services.delete(name);
    else if (kind === 1 || was === undefined) services.set(name, randomService(dice, name));
    else {
      const at = dice.below(was.ports.length);
      const changed = was.ports.map((port, index) =>
        index === at ? { ...randomPort(dice, port.name), protocol: port.protocol } : port,
      );
      services.set(name, { ...was, ports: changed });
    }
  }
  return { services, touched };
}

export function randomWorld(dice: Dice): World & { services: Map<string, CatalogService> } {
  return {
    rules: Array.from({ length: 1 + dice.below(5) }, (_, i) => rule(dice, `rule-${i}`)),
    services: randomServices(dice),
    users,
    groups,
    localAddresses: dice.pick(LOCAL_SETS),
    defaultAction: dice.below(4) === 0 ? 'deny' : 'allow',
  };
}

export function randomSubject(dice: Dice): Subject {
  const path = some(dice, 4, () => dice.pick(NAMES)).join('/');
  // More than the kernel's programs read, some of those that rules name among them; sorted, as in the kernel.
  const many =
    dice.below(10) === 0 ? Array.from({ length: 60 + dice.below(10) }, (_, i) => 8 + i) : [];
  const others = [...some(dice, 2, () => dice.pick([7, 100, 200])), ...many].toSorted(
    (a, b) => a - b,
  );
  return {
    cgroup: dice.below(20) === 0 ? undefined : `/${path}`,
    uid: dice.pick([0, 1000, 1001]),
    gids: [dice.pick([0, 100, 7, 5]), ...others],
  };
}

/** Half of them where a backend is, or where it can be reached as well. */
export function randomDestination(
  dice: Dice,
  services: ReadonlyMap<string, CatalogService>,
): Destination {
  const backends = [...services.values()].flatMap(({ ports }) =>
    ports.flatMap(({ protocol, backends }) => backends.map((at) => ({ ...at, protocol }))),
  );
  if (backends.length > 0 && dice.below(2) === 0) {
    const { address, port, protocol } = dice.pick(backends);
    return { address: dice.below(3) === 0 ? dice.pick(TARGETS) : address, port, protocol };
  }
  const kind = dice.below(12) === 0 ? 'other' : protocol(dice);
  return {
    address: dice.pick(TARGETS),
    port: kind === 'other' ? 0 : dice.pick(PORTS),
    protocol: kind,
  };
}

export function randomSource(dice: Dice): string {
  return dice.pick(TARGETS);
}
