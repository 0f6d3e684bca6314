/**
 * `acl test`: who asks and for what, found out on this host; then what the rules
 * say (evaluate.ts), and whether the kernel's own tables say the same (judge.ts).
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { AclTestAnswer, AclTestBody } from '../../api/acl-schemas.ts';
import type { Catalog, CatalogService } from '../../catalog/catalog.ts';
import { isServed } from '../../catalog/conflicts.ts';
import { protocolNumber } from '../../datapath/abi.ts';
import { canonicalIp, formatEndpoint, parseIp } from '../../net/ip.ts';
import { unknownService } from '../../state/commands.ts';
import { ProblemError } from '../../state/problem.ts';
import type { Protocol } from '../../state/records.ts';
import { classifyPath } from '../automaton.ts';
import {
  evaluate,
  evaluateIngress,
  type Evaluation,
  type Subject,
  type World,
} from '../evaluate.ts';
import { defaultRule, unitOf } from '../event.ts';
import { judge, judgeIngress, type Finding } from '../judge.ts';
import type { AclTables } from '../tables.ts';
import { cgroupIdAt, walkCgroups } from './cgroups.ts';
import type { Identities } from './identities.ts';
import type { AclKernel } from './kernel.ts';

/** (uid_t)-1 is nobody's (setreuid(2)): no rule can name it. */
const NO_ID = 2 ** 32 - 1;

/** Of a service with more backends the first ones stand for all. A guess. */
const TARGETS_MAX = 256;

export interface Surroundings {
  readonly world: World;
  readonly catalog: Catalog;
  readonly identities: Identities;
  readonly cgroupRoot: string;
  /** undefined where nothing is enforced. */
  readonly kernel: AclKernel | undefined;
  /** As compiled: for the classes of cgroups that are not there. */
  readonly tables: AclTables;
}

type Target = AclTestAnswer['targets'][number];

interface Place {
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly service?: string;
  readonly portName?: string;
  readonly via?: string;
}

function refuse(message: string, path: string, hint?: string): never {
  throw new ProblemError([
    { code: 'invalid', message, path, ...(hint === undefined ? {} : { hint }) },
  ]);
}

/** The ids of the account's groups, its own first; undefined when there is no such account. */
function groupsOf(user: string): Promise<number[] | undefined> {
  return new Promise((resolve) => {
    execFile('id', ['-G', '--', user], { timeout: 5000 }, (error, stdout) => {
      resolve(error === null ? stdout.trim().split(/\s+/).map(Number) : undefined);
    });
  });
}

interface Asking {
  readonly subject: Subject;
  readonly shown: AclTestAnswer['subject'];
  readonly notes: readonly string[];
}

/** The numbers in one line of /proc/PID/status; `Groups:` may be empty. */
export function numbersOf(field: string, status: string): number[] {
  const line = status.split('\n').find((text) => text.startsWith(`${field}:`)) ?? '';
  return (line.slice(field.length + 1).match(/[0-9]+/g) ?? []).map(Number);
}

function processOf(pid: number): Asking {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const cgroup = /^0::(\/.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
    const [uid = NO_ID] = numbersOf('Uid', status);
    const [gid = NO_ID] = numbersOf('Gid', status);
    const groups = numbersOf('Groups', status);
    const unit = cgroup === undefined ? undefined : unitOf(cgroup);
    const place = {
      ...(cgroup === undefined ? {} : { cgroup }),
      ...(unit === undefined ? {} : { unit }),
    };
    return {
      subject: { cgroup, uid, gids: [gid, ...groups] },
      shown: { pid, ...place, uid, gid, groups },
      notes: [],
    };
  } catch {
    return refuse(`there is no process ${pid}, or it may not be looked at`, 'from.pid');
  }
}

/** Where the unit runs; where systemd would put it if it does not. */
function cgroupOfUnit(unit: string, root: string): string {
  for (const { path } of walkCgroups(root)) {
    if (path.endsWith(unit) && unitOf(path) === unit) return path;
  }
  const name = unit.startsWith('_') ? `_${unit}` : unit;
  return unit.endsWith('.slice') ? `/${name}` : `/system.slice/${name}`;
}

async function accountOf(
  { user, group }: AclTestBody['from'],
  identities: Identities,
): Promise<{ uid: number; gids: number[] }> {
  const gids: number[] = [];
  let uid = NO_ID;
  if (user !== undefined) {
    const name = String(user);
    const id = /^[0-9]+$/.test(name) ? Number(name) : await identities.lookUp('user', name);
    if (id === undefined) refuse(`this host knows no user "${name}"`, 'from.user');
    uid = id;
    gids.push(...((await groupsOf(name)) ?? []));
  }
  if (group !== undefined) {
    const name = String(group);
    const id = /^[0-9]+$/.test(name) ? Number(name) : await identities.lookUp('group', name);
    if (id === undefined) refuse(`this host knows no group "${name}"`, 'from.group');
    gids.push(id);
  }
  return { uid, gids };
}

async function whoAsks(from: AclTestBody['from'], around: Surroundings): Promise<Asking> {
  const { unit, cgroup, user, group, pid } = from;
  const others = [unit, cgroup, user, group].filter((part) => part !== undefined).length;
  if (pid !== undefined) {
    if (others > 0) refuse('a process has its cgroup, user and groups: give pid alone', 'from.pid');
    return processOf(pid);
  }
  if (unit !== undefined && cgroup !== undefined) {
    refuse('unit and cgroup are both given: a program is in one cgroup', 'from.cgroup');
  }
  if (cgroup !== undefined && !cgroup.startsWith('/')) {
    refuse(`cgroup "${cgroup}" does not begin with "/"`, 'from.cgroup');
  }
  if (others === 0) refuse('nobody asks: from is empty', 'from');
  const path = unit === undefined ? cgroup : cgroupOfUnit(unit, around.cgroupRoot);
  const { uid, gids } = await accountOf(from, around.identities);
  return {
    subject: { cgroup: path ?? '/', uid, gids },
    shown: {
      ...(path === undefined ? {} : { cgroup: path }),
      ...(user === undefined ? {} : { user, uid }),
      ...(gids.length === 0 ? {} : { groups: gids }),
    },
    notes: path === undefined ? ['without unit or cgroup: as if it ran in no unit'] : [],
  };
}

function portsOf(
  service: CatalogService,
  wanted: string | number | undefined,
): CatalogService['ports'] {
  if (wanted === undefined) return service.ports;
  const ports = service.ports.filter(
    ({ name, port }) => name === wanted || String(port) === String(wanted),
  );
  if (ports.length > 0) return ports;
  const known = service.ports.map(({ name, port }) => `${name} (${port})`).join(', ');
  return refuse(
    `service "${service.name}" has no port "${wanted}"`,
    'to.port',
    `its ports: ${known}`,
  );
}

function placesOfService(
  service: CatalogService,
  ports: CatalogService['ports'],
  via?: string,
): Place[] {
  return ports.flatMap(({ name, protocol, backends }) =>
    backends.map(({ address, port }) => ({
      address,
      port,
      protocol,
      service: service.name,
      portName: name,
      ...(via === undefined ? {} : { via }),
    })),
  );
}

/** Where a call would end: the backends of a service or VIP, or the address itself. */
function placesOf(to: AclTestBody['to'], catalog: Catalog): { places: Place[]; notes: string[] } {
  if (to.service !== undefined) {
    if (to.endpoint !== undefined || to.protocol !== undefined) {
      refuse('a service and an endpoint are both given: ask for one', 'to');
    }
    const service = catalog.services.get(to.service);
    if (service === undefined) {
      throw new ProblemError([unknownService(catalog.services.keys(), to.service, 'to.service')]);
    }
    const places = placesOfService(service, portsOf(service, to.port));
    return {
      places,
      notes: places.length === 0 ? [`${to.service} has no backend: connect() is refused`] : [],
    };
  }
  if (to.endpoint === undefined) return refuse('to names neither a service nor an endpoint', 'to');
  const { address, port } = to.endpoint;
  const protocol = to.protocol ?? 'tcp';
  const holders = [...catalog.services.values()].filter(({ vips }) => vips.includes(address));
  const portsAt = (service: CatalogService): CatalogService['ports'] =>
    service.ports.filter(
      (one) => one.port === port && one.protocol === protocol && isServed(service, address, one),
    );
  const service = holders.find((one) => portsAt(one).length > 0) ?? holders[0];
  if (service === undefined) return { places: [{ address, port, protocol }], notes: [] };
  const via = formatEndpoint(address, port);
  const places = placesOfService(service, portsAt(service), via).filter(
    (place) => place.address.includes(':') === address.includes(':'),
  );
  if (places.length > 0) return { places, notes: [] };
  return {
    places: [],
    notes: [`${via}/${protocol} is a VIP of ${service.name} with no backend: connect() is refused`],
  };
}

function answerOf(
  place: Place,
  evaluation: Evaluation,
  kernel: Target['kernel'],
  address: string,
): Target {
  const { protocol, service, portName, via } = place;
  return {
    address,
    protocol,
    ...(service === undefined ? {} : { service }),
    ...(portName === undefined ? {} : { portName }),
    ...(via === undefined ? {} : { via }),
    verdict: evaluation.verdict === 'deny' ? 'deny' : 'allow',
    rule: evaluation.decidedBy[0] ?? defaultRule,
    audit: evaluation.verdict === 'audit' ? [...evaluation.decidedBy] : [],
    why: evaluation.why,
    rules: evaluation.rules.map(({ rule, action, selects, why }) => ({
      rule,
      action,
      applies: selects,
      why,
    })),
    ...(kernel === undefined ? {} : { kernel }),
  };
}

class KernelView {
  readonly tables: AclTables;
  readonly #kernel: AclKernel;
  readonly #around: Surroundings;

  constructor(kernel: AclKernel, around: Surroundings) {
    this.#kernel = kernel;
    this.#around = around;
    const { automaton } = around.tables;
    this.tables = { ...kernel.read(kernel.header().gen).tables, automaton };
  }

  compare(evaluation: Evaluation, found: Finding): Target['kernel'] {
    const rule = found.rule === 0 ? undefined : this.tables.rules.get(found.rule)?.name;
    const { verdict, decidedBy } = evaluation;
    const sameRule =
      verdict === 'allow' ||
      (rule === undefined ? decidedBy.length === 0 : decidedBy.includes(rule));
    return {
      same: found.verdict === verdict && sameRule,
      verdict: found.verdict,
      rule: rule ?? defaultRule,
    };
  }

  task({ cgroup, uid, gids }: Subject): Parameters<typeof judge>[1] {
    const [gid = NO_ID, ...groups] = gids;
    return {
      cgroup: this.#classOf(cgroup ?? '/'),
      uid,
      gid,
      groups: groups.toSorted((a, b) => a - b),
    };
  }

  #classOf(path: string): Parameters<typeof judge>[1]['cgroup'] {
    const id = cgroupIdAt(this.#around.cgroupRoot, path);
    // One that is not there yet would get this.
    if (id === undefined) return classifyPath(this.#around.tables.automaton, path);
    const { automaton = 0 } = this.#kernel.generation(this.#kernel.header().gen) ?? {};
    return this.#kernel.cgroup({ id, automaton });
  }
}

function viewOf(around: Surroundings): KernelView | undefined {
  return around.kernel === undefined ? undefined : new KernelView(around.kernel, around);
}

function fromOutside(source: string, places: readonly Place[], around: Surroundings): Target[] {
  const address = canonicalIp(source.replace(/\/[0-9]+$/, ''));
  const ip = address === undefined ? undefined : parseIp(address);
  if (address === undefined || ip === undefined) {
    return refuse(`"${source}" is no address`, 'from.cidr', 'for example 192.0.2.1');
  }
  const view = viewOf(around);
  const ports = new Map(places.map((place) => [`${place.port}/${place.protocol}`, place]));
  return [...ports.values()].map((place) => {
    const evaluation = evaluateIngress(around.world, address, place);
    const at = { port: place.port, protocol: protocolNumber[place.protocol] };
    const kernel = view?.compare(evaluation, judgeIngress(view.tables, ip, at));
    return answerOf(place, evaluation, kernel, `port ${place.port}`);
  });
}

function fromInside(subject: Subject, places: readonly Place[], around: Surroundings): Target[] {
  const view = viewOf(around);
  const task = view?.task(subject);
  return places.map((place) => {
    const { address, port, protocol } = place;
    const evaluation = evaluate(around.world, subject, place);
    const endpoint = {
      ip: parseIp(address) ?? new Uint8Array(16),
      port,
      protocol: protocolNumber[protocol],
    };
    const kernel =
      view === undefined || task === undefined
        ? undefined
        : view.compare(evaluation, judge(view.tables, task, endpoint));
    return answerOf(place, evaluation, kernel, formatEndpoint(address, port));
  });
}

/** Rejects with ProblemError when the question makes no sense. */
export async function answer(
  { from, to }: AclTestBody,
  around: Surroundings,
): Promise<AclTestAnswer> {
  const { places: all, notes } = placesOf(to, around.catalog);
  const places = all.slice(0, TARGETS_MAX);
  if (all.length > places.length)
    notes.push(`these are the first ${places.length} of ${all.length} backends`);
  const { cidr, ...inside } = from;
  let targets: Target[];
  let shown: AclTestAnswer['subject'];
  if (cidr === undefined) {
    const asking = await whoAsks(inside, around);
    notes.push(...asking.notes);
    shown = asking.shown;
    targets = fromInside(asking.subject, places, around);
  } else {
    if (Object.values(inside).some((part) => part !== undefined)) {
      refuse(
        'cidr is an address outside; unit, cgroup, user, group and pid are programs here',
        'from.cidr',
      );
    }
    shown = { source: cidr };
    targets = fromOutside(cidr, places, around);
  }
  const allowed = targets.length > 0 && targets.every(({ verdict }) => verdict === 'allow');
  return { allowed, subject: shown, targets, notes };
}
