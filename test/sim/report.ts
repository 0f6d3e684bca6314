// npm run sim:report: runs the experiments and writes REPORT.md with its plots next to this file. What was measured is
// kept in report/*.json, so that one experiment can be run again without the others:
//   npm run sim:report                                          all, as in the papers: hours on one core
//   npm run sim:report -- --only shape --nodes 1000             one of them, smaller
//   npm run sim:report -- --text                                writes the text again from what was measured
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import * as experiments from './experiments.ts';
import type { Options } from './experiments.ts';
import { plots, text } from './report-text.ts';
import type { Results } from './report-text.ts';

const PARTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
const FOLDER = new URL('./report/', import.meta.url);

const RUNS: {
  [K in keyof Results]-?: { defaults: Partial<Options>; run: (o: Options) => Results[K] };
} = {
  shape: { defaults: {}, run: experiments.shape },
  failures: { defaults: {}, run: (o) => experiments.failures(o, PARTS) },
  trees: { defaults: { broadcasts: 100 }, run: experiments.trees },
  storm: { defaults: {}, run: experiments.storm },
  detection: { defaults: { nodes: 1000, runs: 30 }, run: experiments.detection },
  badDay: { defaults: { nodes: 100 }, run: experiments.badDays },
  costs: { defaults: {}, run: (o) => experiments.costs(o, [10, 100, 1000], true) },
  costsViewsOnly: {
    defaults: {},
    run: (o) => experiments.costs(o, [10, 100, 1000, o.nodes], false),
  },
  torture: { defaults: { runs: 1000 }, run: experiments.torture },
};

function path(name: string): URL {
  return new URL(name, FOLDER);
}

function load(): Results {
  const results: Record<string, unknown> = {};
  for (const name of Object.keys(RUNS)) {
    const file = path(`${name}.json`);
    if (existsSync(file)) results[name] = JSON.parse(readFileSync(file, 'utf8'));
  }
  return results;
}

function write(): void {
  const results = load();
  writeFileSync(new URL('./REPORT.md', import.meta.url), text(results));
  for (const [name, svg] of plots(results)) writeFileSync(path(`${name}.svg`), svg);
}

function main(): number {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      text: { type: 'boolean', default: false },
      nodes: { type: 'string' },
      broadcasts: { type: 'string' },
      hours: { type: 'string' },
      runs: { type: 'string' },
      seed: { type: 'string', default: '1' },
    },
  });
  mkdirSync(FOLDER, { recursive: true });
  const names = Object.keys(RUNS) as (keyof Results)[];
  const chosen = values.text
    ? []
    : names.filter((name) => values.only === undefined || name === values.only);
  if (chosen.length === 0 && !values.text) {
    console.error(`sim:report: no experiment ${values.only}; there are ${names.join(', ')}`);
    return 2;
  }
  for (const name of chosen) {
    const { defaults, run } = RUNS[name];
    const given = Object.entries(values).filter(([key]) => !['only', 'text'].includes(key));
    const options: Options = {
      nodes: 10_000,
      broadcasts: 1000,
      hours: 24,
      runs: 30,
      seed: 1,
      ...defaults,
      ...Object.fromEntries(given.map(([key, value]) => [key, Number(value)])),
    };
    const start = process.cpuUsage().user;
    const result = run(options);
    const cpuSeconds = Math.round((process.cpuUsage().user - start) / 1e6);
    writeFileSync(path(`${name}.json`), `${JSON.stringify(result, undefined, 1)}\n`);
    console.log(`${name}: ${cpuSeconds} s of CPU`);
    write();
  }
  if (values.text) write();
  return 0;
}

process.exitCode = main();
