/**
 * npm run bench [-- --quick | --emulated] [--only NAME]… [--judging WAY] [--json FILE]
 *
 * Measures what README.md lists, prints tables, and says which of the wanted
 * figures are there. Exit code 0 also when some are missed: a benchmark on a
 * busy machine proves nothing; 1 when it could not run, 2 for wrong usage.
 * --emulated is for guests of scripts/vm, and builds nothing: build before.
 */
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { whyNoLsm } from '../../src/acl/io/enforcement.ts';
import { run } from '../harness/child.ts';
import { checkout } from '../harness/host.ts';
import {
  aclCgroups,
  aclDenied,
  aclEcho,
  type AclEffort,
  aclPrograms,
  aclTcp,
  aclUdp,
} from './acl.ts';
import { aclAgent, type AclAgentEffort } from './acl-agent.ts';
import { aclEverybody } from './acl-lsm.ts';
import { type AclSetup, AclStage, type Judging, LARGEST } from './acl-stage.ts';
import { agentSize, type AgentEffort } from './agent.ts';
import { connectTcp, connectUdp, programTimes, type ConnectEffort } from './connect.ts';
import { established, runCounts, type EstablishedEffort } from './established.ts';
import { checkPackages } from './programs.ts';
import {
  jsonText,
  machine,
  machineLine,
  orFail,
  type Section,
  sectionText,
  tellWanted,
} from './report.ts';
import { scale, type ScaleEffort } from './scale.ts';
import { Stage } from './stage.ts';

interface Efforts {
  readonly connect: ConnectEffort;
  readonly established: EstablishedEffort;
  readonly scale: ScaleEffort;
  readonly agent: AgentEffort;
  readonly acl: AclEffort;
  readonly aclAgent: AclAgentEffort;
}

const SETUP: AclSetup = { services: 1000, outside: LARGEST, maps: {} };

/** A turn takes 5–10 ms: shorter than a scheduler's tick or two, longer than a process switch. */
const FULL: Efforts = {
  connect: {
    tcp: { rounds: 9, turns: 100, count: 200 },
    udp: { rounds: 9, turns: 60, count: 600 },
    ask: { rounds: 9, turns: 60, count: 300 },
  },
  established: {
    echo: { rounds: 9, turns: 60, count: 400 },
    bulk: { rounds: 9, turns: 60, count: 400 },
    messages: 1_000_000,
  },
  scale: {
    sizes: [
      [1, 5],
      [1000, 5],
      [100_000, 5],
    ],
    tcp: { rounds: 9, turns: 100, count: 200 },
    udp: { rounds: 9, turns: 60, count: 600 },
  },
  agent: { services: 10_000, backends: 10, repeats: 3, changes: 200 },
  acl: {
    setup: SETUP,
    tcp: { rounds: 9, turns: 60, count: 200 },
    udp: { rounds: 9, turns: 60, count: 600 },
    echo: { rounds: 9, turns: 60, count: 400 },
    bulk: { rounds: 9, turns: 60, count: 400 },
    cgroups: 1000,
  },
  aclAgent: { services: 1000, sizes: [0, 10_000], repeats: 2, changes: 10 },
};

const QUICK: Efforts = {
  connect: {
    tcp: { rounds: 3, turns: 30, count: 200 },
    udp: { rounds: 3, turns: 30, count: 600 },
    ask: { rounds: 3, turns: 30, count: 300 },
  },
  established: {
    echo: { rounds: 3, turns: 30, count: 400 },
    bulk: { rounds: 3, turns: 20, count: 400 },
    messages: 1_000_000,
  },
  scale: {
    sizes: [
      [1, 5],
      [1000, 5],
      [100_000, 5],
    ],
    tcp: { rounds: 3, turns: 30, count: 200 },
    udp: { rounds: 3, turns: 30, count: 600 },
  },
  agent: { services: 10_000, backends: 10, repeats: 1, changes: 200 },
  acl: {
    setup: SETUP,
    tcp: { rounds: 3, turns: 30, count: 200 },
    udp: { rounds: 3, turns: 30, count: 600 },
    echo: { rounds: 3, turns: 30, count: 400 },
    bulk: { rounds: 3, turns: 20, count: 400 },
    cgroups: 200,
  },
  aclAgent: { services: 1000, sizes: [0, 10_000], repeats: 1, changes: 10 },
};

/** Without a hypervisor each operation takes ten to thirty times as long: a turn is to last the same. */
const EMULATED: Efforts = {
  ...QUICK,
  acl: {
    setup: {
      services: 200,
      outside: 10,
      maps: {
        services: 2048,
        backends: 8192,
        slots: 16_384,
        sockets: 4096,
        socketsSpilled: 1024,
        aclEntries: 65_536,
        aclCgroups: 256,
        aclGlobs: 8192,
      },
    },
    tcp: { rounds: 3, turns: 40, count: 12 },
    udp: { rounds: 3, turns: 40, count: 40 },
    echo: { rounds: 3, turns: 40, count: 25 },
    bulk: { rounds: 3, turns: 20, count: 20 },
    cgroups: 100,
  },
};

/** In the order they run; those of the first group share one stage. */
const ON_STAGE = {
  'connect-tcp': (stage, efforts) => connectTcp(stage, efforts.connect),
  'connect-udp': (stage, efforts) => connectUdp(stage, efforts.connect),
  programs: (stage, efforts) => programTimes(stage, efforts.connect),
  established: (stage, efforts) => established(stage, efforts.established),
  'run-counts': (stage, efforts) => runCounts(stage, efforts.established),
} satisfies Readonly<Record<string, (stage: Stage, efforts: Efforts) => Promise<Section>>>;

/** These share a stage for each way to judge that this kernel has; the last takes it down. */
const ON_RULES = {
  'acl-tcp': (stage, efforts) => aclTcp(stage, efforts.acl),
  'acl-udp': (stage, efforts) => aclUdp(stage, efforts.acl),
  'acl-denied': (stage, efforts) => aclDenied(stage, efforts.acl),
  'acl-echo': (stage, efforts) => aclEcho(stage, efforts.acl),
  'acl-programs': (stage, efforts) => aclPrograms(stage, efforts.acl),
  'acl-cgroups': (stage, efforts) => aclCgroups(stage, efforts.acl),
  'acl-lsm': (stage, efforts) => aclEverybody(stage, efforts.acl),
} satisfies Readonly<Record<string, (stage: AclStage, efforts: Efforts) => Promise<Section>>>;

const ALONE = {
  scale: (efforts) => scale(efforts.scale),
  agent: (efforts) => agentSize(efforts.agent),
  'acl-agent': (efforts) => aclAgent(efforts.aclAgent),
} satisfies Readonly<Record<string, (efforts: Efforts) => Promise<Section>>>;

const NAMES = [...Object.keys(ON_STAGE), ...Object.keys(ON_RULES), ...Object.keys(ALONE)];

interface Options {
  readonly chosen: (name: string) => boolean;
  readonly effort: 'full' | 'quick' | 'emulated';
  /** Of the ways to judge that this kernel has. */
  readonly judging: readonly Judging[];
  readonly json: string | undefined;
}

/** `acl` is all that begin with it. */
function options(): Options {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true, default: [] },
      quick: { type: 'boolean', default: false },
      emulated: { type: 'boolean', default: false },
      judging: { type: 'string' },
      json: { type: 'string' },
    },
  });
  const { only, quick, emulated, judging, json } = values;
  const names = (wanted: string, name: string): boolean =>
    name === wanted || name.startsWith(`${wanted}-`);
  const why = whyNoLsm();
  const all: readonly Judging[] = why === undefined ? ['cgroup', 'lsm'] : ['cgroup'];
  const ways = all.filter((way) => judging === undefined || way === judging);
  if (ways.length === 0) throw new Error(`nothing judges by ${judging}; ${why ?? 'cgroup or lsm'}`);
  const unknown = only.filter((wanted) => !NAMES.some((name) => names(wanted, name)));
  if (unknown.length > 0)
    throw new Error(`no benchmark ${unknown.join(', ')}: there are ${NAMES.join(', ')}`);
  return {
    chosen: (name) => only.length === 0 || only.some((wanted) => names(wanted, name)),
    effort: emulated ? 'emulated' : quick ? 'quick' : 'full',
    judging: ways,
    json,
  };
}

async function measure(
  efforts: Efforts,
  { chosen, judging }: Options,
  done: (section: Section) => void,
): Promise<void> {
  const onStage = Object.entries(ON_STAGE).filter(([name]) => chosen(name));
  if (onStage.length > 0) {
    await using stage = await Stage.create();
    for (const [, work] of onStage) done(await work(stage, efforts));
  }
  const onRules = Object.entries(ON_RULES).filter(([name]) => chosen(name));
  for (const way of onRules.length > 0 ? judging : []) {
    await using stage = await AclStage.create(way, efforts.acl.setup);
    for (const [, work] of onRules) done(await work(stage, efforts));
  }
  for (const [name, work] of Object.entries(ALONE)) if (chosen(name)) done(await work(efforts));
}

async function main(): Promise<void> {
  let asked: Options;
  try {
    asked = options();
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    process.exitCode = 2;
    return;
  }
  setPriority(-15); // inherited by agent and CLI: other work on the machine shall not count
  await checkPackages();
  // A guest has a copy of what was built outside.
  if (asked.effort !== 'emulated') await run([join(checkout, 'scripts/build')]);
  const at = machine();
  const started = new Date();
  console.log(`${machineLine(at)}\n`);
  const sections: Section[] = [];
  await measure(
    { full: FULL, quick: QUICK, emulated: EMULATED }[asked.effort],
    asked,
    (section) => {
      sections.push(section);
      console.log(sectionText(section));
    },
  );
  tellWanted(sections);
  if (asked.json !== undefined)
    writeFileSync(asked.json, jsonText(at, started, asked.effort, sections));
}

await orFail(main);
