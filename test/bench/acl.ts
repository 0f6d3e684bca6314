/** What rules cost those who connect and send, and what they cost a message. */
import {
  aclStatus,
  type AclSetup,
  type AclStage,
  LARGEST,
  OUTSIDE,
  outsidePorts,
  type OutsideWay,
  rules,
  type Size,
  SIZES,
} from './acl-stage.ts';
import { BACKENDS, targets } from './acl-rules.ts';
import { withStatistics } from './kernelstats.ts';
import { type Effort, type Kind, Lane, type LaneResult, type LaneSpec, race } from './lanes.ts';
import { laneHeaders, laneRow, type Row, type Section, type Wanted } from './report.ts';
import { type Runs, runsBetween, runsOf } from './runcounts.ts';
import { ports } from './stage.ts';

export interface AclEffort {
  readonly setup: AclSetup;
  readonly tcp: Effort;
  readonly udp: Effort;
  readonly echo: Effort;
  readonly bulk: Effort;
  /** New cgroups, each with a first connect. */
  readonly cgroups: number;
}

const names: Readonly<Record<AclStage['judging'], string>> = {
  cgroup: 'judged by the cgroup hooks',
  lsm: 'judged by BPF LSM, VIPs by the cgroup hooks',
};

const number = (n: number): string => n.toLocaleString('en');

interface Target {
  readonly what: string;
  readonly address: string;
  readonly spread?: number;
}

const BACKEND: Target = { what: 'backend', address: targets.backend };
const VIP: Target = { what: 'VIP', address: targets.vip };
const STRANGER: Target = { what: 'named by no rule', address: targets.stranger };

/** The last two find the tables in no cache. */
function targetsOf({ setup: { services } }: AclStage): Target[] {
  const backends = services * BACKENDS;
  return [
    BACKEND,
    VIP,
    STRANGER,
    { what: 'backend on this host', address: targets.local },
    { what: `one of ${number(backends)} backends`, address: targets.backends, spread: backends },
    { what: `one of ${number(services)} VIPs`, address: targets.vips, spread: services },
  ];
}

/** In mode lsm no lane is without its programs: those of all agents run at each call (acl-lsm.ts). */
const EVERYBODY =
  'The LSM programs of all four agents with rules run at each call, of which one judges at most: acl-lsm says what the rest cost.';

const notesOf = ({ judging }: AclStage): string[] => (judging === 'lsm' ? [EVERYBODY] : []);

const portOf = (kind: Kind): number =>
  kind.endsWith('-tcp') ? (kind === 'echo-tcp' ? ports.echo : ports.close) : ports.datagrams;

function lane(stage: AclStage, size: Size, kind: Kind, target: Target): LaneSpec {
  const { address, spread = 1 } = target;
  return { name: rules(size), place: stage.place(size), kind, address, port: portOf(kind), spread };
}

interface Raced {
  readonly what: string;
  readonly results: readonly LaneResult[];
}

const rowsOf = (raced: readonly Raced[]): Row[] =>
  raced.flatMap(({ what, results }) =>
    results.map((result) => laneRow({ ...result, name: `${what}: ${result.name}` })),
  );

/** The ratio farthest from 1 of all with rules. */
function flat(what: string, raced: readonly Raced[]): Wanted {
  const ratios = raced.flatMap(({ results }) => results.slice(1).map(({ ratio }) => ratio));
  const most = ratios.reduce((far, ratio) =>
    Math.abs(ratio - 1) > Math.abs(far - 1) ? ratio : far,
  );
  return { what, figure: most.toFixed(3), met: Math.abs(most - 1) <= 0.05 };
}

/** From ten rules on. */
function flatFromTen(what: string, raced: readonly Raced[]): Wanted {
  const relative = raced.map(({ what: name, results }) => {
    const ten = results[1]?.ratio ?? Number.NaN;
    return {
      what: name,
      results: results.slice(1).map((at) => ({ ...at, ratio: at.ratio / ten })),
    };
  });
  return flat(what, relative);
}

function exact(raced: readonly Raced[]): Wanted {
  const wrong = raced
    .flatMap(({ results }) => results)
    .reduce((sum, { wrongPeers }) => sum + wrongPeers, 0);
  return { what: 'getpeername() is what was dialled', figure: `${wrong} wrong`, met: wrong === 0 };
}

async function sizes(
  stage: AclStage,
  kind: Kind,
  effort: Effort,
  list: readonly Target[],
): Promise<Raced[]> {
  const raced: Raced[] = [];
  for (const target of list) {
    const lanes = SIZES.map((size) => lane(stage, size, kind, target));
    raced.push({ what: target.what, results: await race(lanes, effort) });
  }
  return raced;
}

export async function aclTcp(stage: AclStage, effort: AclEffort): Promise<Section> {
  const raced = await sizes(stage, 'connect-tcp', effort.tcp, targetsOf(stage));
  return {
    name: 'acl-tcp',
    title: `Rules: TCP connect, accept, close at both ends, ${names[stage.judging]}`,
    headers: laneHeaders,
    rows: rowsOf(raced),
    notes: notesOf(stage),
    data: raced,
    wanted: [
      flat('TCP connect within 5 % from 0 to 10,000 rules, most of all rows', raced),
      exact(raced),
    ],
  };
}

export async function aclUdp(stage: AclStage, effort: AclEffort): Promise<Section> {
  const raced = await sizes(stage, 'connect-udp', effort.udp, targetsOf(stage));
  const sent = await sizes(stage, 'sendto-udp', effort.echo, [BACKEND, VIP, STRANGER]);
  const sends = sent.map(({ what, results }) => ({ what: `sendto, ${what}`, results }));
  return {
    name: 'acl-udp',
    title: `Rules: UDP socket, connect, close; unconnected, 64 bytes there and back, ${names[stage.judging]}`,
    headers: laneHeaders,
    rows: rowsOf([...raced, ...sends]),
    notes: [
      'connect() on UDP sends nothing: the hooks are a larger part of it than of anything else.',
      ...notesOf(stage),
    ],
    data: { connect: raced, sendto: sent },
    wanted: [
      flat('UDP connect within 5 % from 0 to 10,000 rules, most of all rows', raced),
      flatFromTen('UDP connect within 5 % from 10 to 10,000 rules', raced),
      flat('UDP sendto within 5 % from 0 to 10,000 rules', sent),
      exact(raced),
    ],
  };
}

/** Calls that are refused against the same calls that are not. */
export async function aclDenied(stage: AclStage, effort: AclEffort): Promise<Section> {
  const host = stage.host(LARGEST);
  const config = `${host.dir}/zerohop.yaml`;
  await host.agent.start({ config }); // reads what is reported
  const before = (await aclStatus(host)).counters.eventsDropped;
  const closed: Target = { what: 'closed', address: targets.closed };
  const raced: Raced[] = [];
  let calls = 0;
  for (const [what, allowed, denied, most] of [
    ['TCP', 'connect-tcp', 'denied-tcp', effort.tcp],
    ['UDP', 'connect-udp', 'denied-udp', effort.udp],
    ['UDP sendto', 'sendto-udp', 'denied-sendto', effort.echo],
  ] as const) {
    const of = (name: string, size: Size, kind: Kind, target: Target): LaneSpec => ({
      ...lane(stage, size, kind, target),
      name,
      port: portOf(allowed),
    });
    const lanes = [
      of('allowed', LARGEST, allowed, BACKEND),
      of('denied', LARGEST, denied, closed),
      of('no rules', 0, allowed, BACKEND),
    ];
    raced.push({ what, results: await race(lanes, most) });
    calls += most.rounds * (most.turns + 1) * most.count;
  }
  const dropped = (await aclStatus(host)).counters.eventsDropped - before;
  await host.agent.stop();
  return {
    name: 'acl-denied',
    title: `Rules: denied against allowed, with ${rules(LARGEST)}, ${names[stage.judging]}`,
    headers: laneHeaders,
    rows: rowsOf(raced),
    notes: [
      `Of ${calls.toLocaleString('en')} denials ${dropped.toLocaleString('en')} found the ring buffer full; the rest are reported in it.`,
    ],
    data: { raced, calls, dropped },
    wanted: raced.map(({ what, results }) => {
      const ratio = results[1]?.ratio ?? Number.NaN;
      return {
        what: `denied is cheaper than allowed, ${what}`,
        figure: ratio.toFixed(3),
        met: ratio < 1,
      };
    }),
  };
}

const outsideNames = ({ setup }: AclStage): Readonly<Record<OutsideWay, string>> => ({
  direct: 'no programs',
  none: rules(0),
  largest: rules(LARGEST),
  ingress: `${rules(setup.outside)} and 100 for outside`,
});

/** A connection that stands: its caller is under rules; its server is, and asked from outside. */
export async function aclEcho(stage: AclStage, effort: AclEffort): Promise<Section> {
  const callers = async (kind: Kind, most: Effort, target: Target): Promise<LaneResult[]> => {
    const first = { ...lane(stage, 0, kind, target), name: 'no programs', place: stage.plain };
    const lanes = ([0, LARGEST] as const).map((size) => lane(stage, size, kind, target));
    return [...(await race([first, ...lanes], most))];
  };
  const servers = async (kind: Kind, most: Effort, offset: number): Promise<LaneResult[]> => {
    const lanes = (Object.keys(outsidePorts) as OutsideWay[]).map((way) => ({
      name: outsideNames(stage)[way],
      place: stage.outside,
      kind,
      address: OUTSIDE,
      port: outsidePorts[way] + offset,
    }));
    return [...(await race(lanes, most))];
  };
  const [echo, sink, datagrams] = [ports.echo, ports.sink, ports.datagrams].map(
    (port) => port - ports.close,
  );
  const raced: Raced[] = [
    { what: 'TCP echo, caller', results: await callers('echo-tcp', effort.echo, BACKEND) },
    { what: 'UDP echo, caller', results: await callers('echo-udp', effort.echo, BACKEND) },
    { what: 'TCP echo, server', results: await servers('echo-tcp', effort.echo, echo ?? 0) },
    { what: 'TCP bulk, server', results: await servers('bulk-tcp', effort.bulk, sink ?? 0) },
    { what: 'TCP connect, server', results: await servers('connect-tcp', effort.tcp, 0) },
    { what: 'UDP echo, server', results: await servers('echo-udp', effort.echo, datagrams ?? 0) },
  ];
  const ratioOf = (at: number): number => raced[at]?.results.at(-1)?.ratio ?? Number.NaN;
  const equal = (what: string, at: number): Wanted => ({
    what: `${what} (within 1 %)`,
    figure: ratioOf(at).toFixed(3),
    met: Math.abs(ratioOf(at) - 1) <= 0.01,
  });
  return {
    name: 'acl-echo',
    title: `Rules: established connections, ${names[stage.judging]}`,
    headers: laneHeaders,
    rows: rowsOf(raced),
    notes: [
      'caller: who sends is under rules, over loopback. server: who answers is, over a veth pair; there the',
      'program for rules about outside sees each packet that a socket of the cgroup gets, and each datagram is judged.',
    ],
    data: raced,
    wanted: [
      equal('TCP echo of a caller under rules', 0),
      equal('TCP echo of a server with rules for outside', 2),
    ],
  };
}

/** Which programs one kind of call runs, and for how long. */
export async function aclPrograms(stage: AclStage, effort: AclEffort): Promise<Section> {
  const { count, turns } = effort.udp;
  const rows: Row[] = [];
  const all: { what: string; hook: string; ns: number; runs: number }[] = [];
  const keep = (what: string, runs: ReadonlyMap<string, Runs>, least: number): void => {
    for (const [hook, { count: times, ns }] of runs) {
      if (times < least) continue;
      all.push({ what, hook, ns: ns / times, runs: times });
      rows.push({ what: `${what}: ${hook}`, cells: [(ns / times).toFixed(0), String(times)] });
    }
  };
  await withStatistics(async () => {
    for (const target of [BACKEND, VIP, STRANGER])
      for (const size of SIZES) {
        const host = stage.host(size);
        const program = await Lane.open(lane(stage, size, 'connect-udp', target));
        await program.turn(count);
        const before = await runsOf(host);
        await program.turn(count * turns);
        keep(
          `${target.what}, ${rules(size)}`,
          runsBetween(before, await runsOf(host)),
          count * turns,
        );
        await program.close();
      }
    for (const [what, size, place, kind, address, port] of [
      [
        'an echo from outside',
        'ingress',
        stage.outside,
        'echo-tcp',
        OUTSIDE,
        outsidePorts.ingress + 1,
      ],
      [
        'a datagram from outside',
        'ingress',
        stage.outside,
        'echo-udp',
        OUTSIDE,
        outsidePorts.ingress + 3,
      ],
      [
        'a connect of somebody else',
        LARGEST,
        stage.plain,
        'connect-udp',
        targets.backend,
        ports.datagrams,
      ],
      ['an echo of somebody else', LARGEST, stage.plain, 'echo-tcp', targets.backend, ports.echo],
    ] as const) {
      const host = stage.host(size);
      const program = await Lane.open({ name: what, place, kind, address, port });
      const before = await runsOf(host);
      await program.turn(count * turns);
      keep(what, runsBetween(before, await runsOf(host)), count);
      await program.close();
    }
  });
  return {
    name: 'acl-programs',
    title: `Rules: the programs alone (ns a run, by the kernel’s statistics, their clock included), ${names[stage.judging]}`,
    headers: ['', 'ns', 'runs'],
    rows,
    notes: [],
    data: all,
    wanted: [],
  };
}

/** The first call in a cgroup that was just made. */
export async function aclCgroups(stage: AclStage, effort: AclEffort): Promise<Section> {
  const host = stage.host(LARGEST);
  const spec = lane(stage, LARGEST, 'new-cgroup', BACKEND);
  const measured = await withStatistics(async () => {
    const program = await Lane.open({ ...spec, path: host.cgroup });
    const before = await runsOf(host);
    const mkdirNs = await program.turn(effort.cgroups, 600_000);
    const runs = runsBetween(before, await runsOf(host)).get('cgroup_mkdir') ?? { count: 0, ns: 0 };
    await program.close();
    return { mkdirNs, runs, wrong: program.wrongPeers };
  });
  const { mkdirNs, runs, wrong } = measured;
  return {
    name: 'acl-cgroups',
    title: `Rules: new cgroups, with ${rules(LARGEST)}, ${names[stage.judging]}`,
    headers: ['', ''],
    rows: [
      { what: 'mkdir of a cgroup', cells: [`${(mkdirNs / 1000).toFixed(2)} µs`] },
      { what: 'of that: the program', cells: [`${(runs.ns / runs.count / 1000).toFixed(2)} µs`] },
      { what: 'cgroups made and entered', cells: [effort.cgroups.toLocaleString('en')] },
      { what: 'first connects judged wrongly', cells: [String(wrong)] },
    ],
    notes: [
      'Every other one is denied by its name; nothing waits between mkdir, entering and connect.',
    ],
    data: measured,
    wanted: [
      {
        what: 'a new cgroup is matched at its first connect',
        figure: `${wrong} of ${effort.cgroups} wrong`,
        met: wrong === 0 && runs.count >= effort.cgroups,
      },
    ],
  };
}
