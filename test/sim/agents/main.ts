// npm run sim:agents: whole agents over fake maps in the simulator. (--help)
import { oneOf, runCommand, wholeNumber } from '../arguments.ts';
import { departures, propagation } from './measure.ts';
import type { MeasureOptions, Spread } from './measure.ts';
import { MUTATIONS, SEEDS_MAX, tryMutation } from './mutations.ts';
import { commitNow, keepMeasured, keepMutation, keepTorture } from './results.ts';
import { torture } from './torture.ts';

const USAGE = `usage: npm run sim:agents -- --torture [--seed N --count N] [--hosts N --seconds N]
       npm run sim:agents -- --measure NAME [--hosts N --zones N --count N --seed N]
       npm run sim:agents -- --mutations                breaks an agent in known ways; each must be found

Tortures: 25 hosts, 300 s; a failing one prints its seed and its last events. Measurements: 100 hosts in 4 zones.
A thousand hosts take some 10 GB: NODE_OPTIONS=--max-old-space-size=14000
--keep writes what was seen to test/sim/report/agents.json and test/sim/AGENTS.md.

measurements: added, churn, dead, killed, goodbye`;

interface Measurement {
  readonly name: string;
  readonly what: string;
  readonly count: number;
  run(seed: number, options: MeasureOptions): Spread;
}

const MEASUREMENTS: readonly Measurement[] = [
  {
    name: 'added',
    what: 'added, at rest',
    count: 200,
    run: (seed, options) => propagation(seed, { ...options, churn: false }),
  },
  {
    name: 'churn',
    what: 'added, under churn',
    count: 200,
    run: (seed, options) => propagation(seed, { ...options, churn: true }),
  },
  {
    name: 'dead',
    what: 'dead',
    count: 8,
    run: (seed, options) => departures(seed, { ...options, how: 'silently' }),
  },
  {
    name: 'killed',
    what: 'killed',
    count: 8,
    run: (seed, options) => departures(seed, { ...options, how: 'reset' }),
  },
  {
    name: 'goodbye',
    what: 'goodbye',
    count: 8,
    run: (seed, options) => departures(seed, { ...options, how: 'goodbye' }),
  },
];

interface Size {
  readonly hosts: number;
  readonly seconds: number;
  readonly seed: number;
  readonly count: number;
}

const SUMS = [
  'acknowledged',
  'judged',
  'wild',
  'kills',
  'partitions',
  'gone',
  'epochs',
  'conflicts',
  'events',
] as const;

function runTortures({ hosts, seconds, seed, count }: Size, keep: boolean): number {
  const failed: number[] = [];
  const equalAfterMs: number[] = [];
  const sums: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    try {
      const result = torture(seed + i, { hosts, forMs: seconds * 1000 });
      equalAfterMs.push(result.equalAfterMs);
      for (const name of SUMS) sums[name] = (sums[name] ?? 0) + result[name];
      console.log(JSON.stringify(result));
    } catch (error) {
      failed.push(seed + i);
      console.error((error as Error).message, (error as Error).cause);
    }
  }
  console.log(
    `${count} tortures from seed ${seed}, ${failed.length} failed ${JSON.stringify(sums)}`,
  );
  if (keep)
    keepTorture({ hosts, seconds, seed, count, commit: commitNow(), failed, sums, equalAfterMs });
  return failed.length === 0 ? 0 : 1;
}

function runMutations(keep: boolean): number {
  let survived = 0;
  for (const mutation of MUTATIONS) {
    const verdict = tryMutation(mutation, SEEDS_MAX);
    const { what, seed, violation } = verdict;
    if (seed === undefined) survived += 1;
    if (keep) keepMutation(verdict);
    console.log(`${what}\n  ${seed === undefined ? '' : `seed ${seed}: `}${violation}`);
  }
  return survived === 0 ? 0 : 1;
}

process.exitCode = runCommand({
  name: 'sim:agents',
  usage: USAGE,
  options: {
    torture: { type: 'boolean', default: false },
    measure: { type: 'string' },
    mutations: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    count: { type: 'string' },
    hosts: { type: 'string' },
    zones: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '300' },
  },
  run: (values) => {
    const seed = wholeNumber('seed', values.seed);
    const count = values.count === undefined ? undefined : wholeNumber('count', values.count);
    const hosts = values.hosts === undefined ? undefined : wholeNumber('hosts', values.hosts);
    if (values.mutations) return runMutations(values.keep);
    if (values.measure !== undefined) {
      const measurement = oneOf('measurement', MEASUREMENTS, values.measure);
      const zones = wholeNumber('zones', values.zones);
      const options = { hosts: hosts ?? 100, zones, count: count ?? measurement.count };
      const spread = measurement.run(seed, options);
      console.log(JSON.stringify({ what: measurement.what, ...options, seed, ...spread }));
      if (values.keep)
        keepMeasured({
          what: measurement.what,
          ...options,
          seeds: [seed],
          commit: commitNow(),
          ...spread,
        });
      return 0;
    }
    if (!values.torture) {
      console.error(USAGE);
      return 2;
    }
    const seconds = wholeNumber('seconds', values.seconds);
    return runTortures({ hosts: hosts ?? 25, seconds, seed, count: count ?? 1 }, values.keep);
  },
});
