/**
 * node test/bench/cluster.ts [--only propagation|cost|large|deaths|partitions]… [--hosts N] [--sizes 3,10,25]
 *   [--samples N] [--deaths N] [--stops N] [--cuts N] [--minutes N] [--write-ms N] [--seed N]
 *   [--json FILE]
 *
 * Real agents on hosts of test/harness, joined by one bridge; needs root and a
 * build. Prints tables, and says which of the wanted figures are there. All
 * hosts share this machine's CPUs: on a busy one the figures prove nothing.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Dice } from '../harness/random.ts';
import { cost } from './cluster-cost.ts';
import { deaths } from './cluster-deaths.ts';
import { large } from './cluster-large.ts';
import { partitions } from './cluster-partitions.ts';
import { propagation } from './cluster-propagation.ts';
import { machine, machineLine, type Section, sectionText } from './report.ts';

const NAMES = ['propagation', 'cost', 'large', 'deaths', 'partitions'] as const;

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    hosts: { type: 'string', default: '25' },
    sizes: { type: 'string', default: '3,10,25' },
    samples: { type: 'string', default: '200' },
    deaths: { type: 'string', default: '20' },
    stops: { type: 'string', default: '10' },
    cuts: { type: 'string', default: '10' },
    minutes: { type: 'string', default: '5' },
    'write-ms': { type: 'string', default: '1500' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    json: { type: 'string' },
  },
});

function count(
  name: 'hosts' | 'samples' | 'deaths' | 'stops' | 'cuts' | 'write-ms' | 'seed',
  text = values[name],
): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new Error(`--${name} ${text} is not a whole number`);
}

const only = values.only ?? NAMES;
const unknown = only.find((name) => !NAMES.some((known) => known === name));
if (unknown !== undefined) throw new Error(`--only ${unknown} is none of ${NAMES.join(', ')}`);
const dice = new Dice(count('seed'));
const hosts = count('hosts');

const measures: Record<(typeof NAMES)[number], () => Promise<Section>> = {
  propagation: () =>
    propagation(
      {
        sizes: values.sizes.split(',').map(Number),
        samples: count('samples'),
        restSeconds: 15,
      },
      dice,
    ),
  cost: () => cost({ hosts, restSeconds: 30, changes: 100 }, dice),
  large: () => large({ services: 10_000, backendsEach: 10, samples: 30 }),
  deaths: () =>
    deaths({ hosts, deaths: count('deaths'), stops: count('stops'), cuts: count('cuts') }, dice),
  partitions: () =>
    partitions(
      { hosts, seconds: Number(values.minutes) * 60, writeEveryMs: count('write-ms') },
      dice,
    ),
};

const at = machine();
console.log(`${machineLine(at)}; seed ${dice.seed}\n`);
const sections: Section[] = [];
for (const name of NAMES) {
  if (!only.includes(name)) continue;
  const section = await measures[name]();
  sections.push(section);
  console.log(sectionText(section));
  if (values.json !== undefined)
    writeFileSync(values.json, JSON.stringify({ machine: at, seed: dice.seed, sections }, null, 1));
}
