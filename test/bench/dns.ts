/**
 * node test/bench/dns.ts [--only local|forward|loopback]… [--servers NAME,…] [--quick] [--json FILE]
 *
 * Names that the resolver has, and names of others, against unbound, dnsmasq,
 * dnsdist and a server of 30 lines. As root, after `scripts/setup --bench`. Says
 * which of the wanted figures are there; exit code 0 also when some are missed,
 * 1 when it could not run, 2 for wrong usage. Everything is in namespaces of its
 * own: the machine's resolver is neither asked nor changed.
 */
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../harness/child.ts';
import { checkout } from '../harness/host.ts';
import { Dice } from '../harness/random.ts';
import { FORWARD_KINDS, type ForwardEffort, forwarding } from './dns-forward.ts';
import { LOCAL_KINDS } from './dns-contest.ts';
import { localNames, type LocalEffort } from './dns-local.ts';
import { loopback, type LoopbackEffort } from './dns-loopback.ts';
import { checkPackages, DNS_NEEDED } from './programs.ts';
import {
  jsonText,
  machine,
  machineLine,
  orFail,
  type Section,
  sectionText,
  tellWanted,
} from './report.ts';

interface Efforts {
  readonly local: LocalEffort;
  readonly forward: ForwardEffort;
  readonly loopback: LoopbackEffort;
}

const FULL: Efforts = {
  local: {
    names: 10_000,
    rounds: 7,
    turns: 40,
    wait: 500,
    window: 4000,
    windowSize: 128,
    load: { rounds: 5, seconds: 3, rampSeconds: 10 },
  },
  forward: { rounds: 5, count: 4000, warmUp: 4000, rate: 1000, lookups: 20 },
  loopback: {
    connect: { rounds: 9, turns: 60, count: 200 },
    echo: { rounds: 9, turns: 60, count: 400 },
    bulk: { rounds: 9, turns: 60, count: 400 },
  },
};

const QUICK: Efforts = {
  local: {
    names: 10_000,
    rounds: 2,
    turns: 10,
    wait: 300,
    window: 2000,
    windowSize: 128,
    load: { rounds: 1, seconds: 1, rampSeconds: 0 },
  },
  forward: { rounds: 1, count: 1000, warmUp: 2000, rate: 500, lookups: 10 },
  loopback: {
    connect: { rounds: 3, turns: 30, count: 200 },
    echo: { rounds: 3, turns: 30, count: 400 },
    bulk: { rounds: 3, turns: 20, count: 400 },
  },
};

const PARTS = ['local', 'forward', 'loopback'] as const;

function options() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      servers: { type: 'string' },
      quick: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      json: { type: 'string' },
    },
  });
  const only = values.only ?? PARTS;
  const unknown = only.find((name) => !PARTS.some((part) => part === name));
  if (unknown !== undefined) throw new Error(`--only ${unknown} is none of ${PARTS.join(', ')}`);
  const names = values.servers?.split(',');
  const all = new Set<string>([...LOCAL_KINDS, ...FORWARD_KINDS]);
  const stranger = names?.find((name) => !all.has(name));
  if (stranger !== undefined)
    throw new Error(`--servers ${stranger} is none of ${[...all].join(', ')}`);
  if (!/^\d+$/.test(values.seed)) throw new Error(`--seed ${values.seed} is not a whole number`);
  return {
    isChosen: (part: (typeof PARTS)[number]) => only.includes(part),
    isServer: (name: string) => names === undefined || names.includes(name),
    effort: values.quick ? QUICK : FULL,
    dice: new Dice(Number(values.seed)),
    json: values.json,
  };
}

async function* sectionsOf(asked: ReturnType<typeof options>): AsyncGenerator<Section> {
  const { effort, isServer, dice } = asked;
  const local = LOCAL_KINDS.filter(isServer);
  const forward = FORWARD_KINDS.filter(isServer);
  if (asked.isChosen('local') && local.length > 0) yield* localNames(effort.local, local, dice);
  if (asked.isChosen('forward') && forward.length > 0) yield forwarding(effort.forward, forward);
  if (asked.isChosen('loopback')) yield await loopback(effort.loopback);
}

async function main(): Promise<void> {
  let asked: ReturnType<typeof options>;
  try {
    asked = options();
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    process.exitCode = 2;
    return;
  }
  setPriority(-15);
  await checkPackages(DNS_NEEDED, 'scripts/setup --bench');
  await run([join(checkout, 'scripts/build')]);
  const at = machine();
  const started = new Date();
  console.log(`${machineLine(at)}\n`);
  const sections: Section[] = [];
  for await (const section of sectionsOf(asked)) {
    sections.push(section);
    console.log(sectionText(section));
  }
  tellWanted(sections);
  if (asked.json !== undefined)
    writeFileSync(asked.json, jsonText(at, started, asked.effort, sections));
}

await orFail(main);
