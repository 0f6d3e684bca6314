// npm run sim:report: runs the experiments and writes REPORT.md with its plots next to this file. What was measured is
// kept in report/*.json, step by step: what is there for the same options is not run again, so that a run that was
// stopped goes on where it was. (--help)
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { oneOf, runCommand, wholeNumber } from './arguments.ts';
import * as experiments from './experiments.ts';
import type { Options, Step } from './experiments.ts';
import { plots, text } from './report-text.ts';
import type { Measured, Results } from './report-text.ts';

const FOLDER = new URL('./report/', import.meta.url);

interface Experiment {
  readonly defaults: Partial<Options>;
  steps(options: Options): readonly Step<unknown>[];
}

const EXPERIMENTS: Record<keyof Results, Experiment> = {
  shape: { defaults: {}, steps: experiments.shape },
  failures: { defaults: {}, steps: experiments.failures },
  trees: { defaults: { broadcasts: 100 }, steps: experiments.trees },
  storm: { defaults: {}, steps: experiments.storm },
  detection: { defaults: { nodes: 1000 }, steps: experiments.detection },
  costs: { defaults: {}, steps: experiments.costs },
  alone: { defaults: {}, steps: experiments.alone },
  badDay: { defaults: { nodes: 100 }, steps: experiments.badDays },
};
const NAMES = Object.keys(EXPERIMENTS) as (keyof Results)[];

const USAGE = `usage: npm run sim:report                                 all, as in the papers: hours on one core
       npm run sim:report -- --only shape --nodes 1000    one of them, smaller
       npm run sim:report -- --only failures --step '50 %'
       npm run sim:report -- --only shape --again         anew, whatever is there
       npm run sim:report -- --text                       writes the text again from what was measured

experiments: ${NAMES.join(', ')}
sizes: --nodes N --broadcasts N --hours N --runs N --seed N
10,000 nodes need NODE_OPTIONS=--max-old-space-size=7800`;

function path(name: string): URL {
  return new URL(name, FOLDER);
}

function read(name: keyof Results): Measured<unknown> | undefined {
  const file = path(`${name}.json`);
  if (!existsSync(file)) return undefined;
  return JSON.parse(readFileSync(file, 'utf8')) as Measured<unknown>;
}

/** Lists of numbers on one line. */
function json(measured: Measured<unknown>): string {
  const lines = JSON.stringify(measured, undefined, 1);
  return `${lines.replace(/\[[-\d.,\se]+\]/g, (list) => list.replace(/\s+/g, ' '))}\n`;
}

/** Whole or not at all: a run may be stopped at any time. */
function write(url: URL, content: string): void {
  const draft = new URL(`${url.href}.draft`);
  writeFileSync(draft, content);
  renameSync(draft, url);
}

function writeReport(): void {
  const results: Record<string, unknown> = {};
  for (const name of NAMES) results[name] = read(name);
  write(new URL('./REPORT.md', import.meta.url), text(results));
  for (const [name, svg] of plots(results)) write(path(`${name}.svg`), svg);
}

function optionsOf(name: keyof Results, given: Partial<Options>): Options {
  const all = { nodes: 10_000, broadcasts: 1000, hours: 24, runs: 30, seed: 1 };
  return { ...all, ...EXPERIMENTS[name].defaults, ...given };
}

function run(
  name: keyof Results,
  options: Options,
  only: string | undefined,
  again: boolean,
): void {
  const before = read(name);
  const isSame = JSON.stringify(before?.options) === JSON.stringify(options);
  const kept = isSame && before !== undefined ? before : { options, steps: {}, cpuSeconds: {} };
  const measured = { options, steps: { ...kept.steps }, cpuSeconds: { ...kept.cpuSeconds } };
  const steps = EXPERIMENTS[name].steps(options);
  if (only !== undefined) oneOf(`step of ${name}`, steps, only);
  for (const step of steps) {
    if (only !== undefined && step.name !== only) continue;
    if (!again && step.name in measured.steps) {
      console.log(`${name}, ${step.name}: kept`);
      continue;
    }
    const start = process.cpuUsage().user;
    measured.steps[step.name] = step.run();
    const cpuSeconds = Math.round((process.cpuUsage().user - start) / 1e6);
    measured.cpuSeconds[step.name] = cpuSeconds;
    // in the order of the experiment, whatever ran first
    const ran = steps.filter(({ name: of }) => of in measured.steps);
    measured.steps = Object.fromEntries(ran.map(({ name: of }) => [of, measured.steps[of]]));
    write(path(`${name}.json`), json(measured));
    writeReport();
    console.log(`${name}, ${step.name}: ${cpuSeconds} s of CPU`);
  }
}

const KNOBS = ['nodes', 'broadcasts', 'hours', 'runs', 'seed'] as const;

process.exitCode = runCommand({
  name: 'sim:report',
  usage: USAGE,
  options: {
    only: { type: 'string' },
    step: { type: 'string' },
    again: { type: 'boolean', default: false },
    text: { type: 'boolean', default: false },
    nodes: { type: 'string' },
    broadcasts: { type: 'string' },
    hours: { type: 'string' },
    runs: { type: 'string' },
    seed: { type: 'string' },
  },
  run: (values) => {
    const given: Partial<Record<(typeof KNOBS)[number], number>> = {};
    for (const knob of KNOBS) {
      const size = values[knob];
      if (size !== undefined) given[knob] = wholeNumber(knob, size);
    }
    const all = NAMES.map((name) => ({ name }));
    const chosen = values.only === undefined ? all : [oneOf('experiment', all, values.only)];
    mkdirSync(FOLDER, { recursive: true });
    if (values.text) writeReport();
    else {
      for (const { name } of chosen) run(name, optionsOf(name, given), values.step, values.again);
    }
    return 0;
  },
});
