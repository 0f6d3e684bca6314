// npm run sim: runs scenarios and compares what they measure with baseline.json. (--help)
import { readFileSync, writeFileSync } from 'node:fs';
import { oneOf, runCommand, wholeNumber } from './arguments.ts';
import { chaos } from './chaos.ts';
import type { ChaosResult } from './chaos.ts';
import { GOALS, runGoal } from './goals.ts';
import { MUTATIONS, SEEDS_MAX, tryMutation } from './mutations.ts';
import { SCENARIOS } from './scenarios.ts';
import type { Metrics, Scenario } from './scenarios.ts';

const USAGE = `usage: npm run sim                                        all scenarios, against the baseline
       npm run sim -- --scenario S --seed N                one run again, to the last event
       npm run sim -- --scenario chaos --seed 1 --count 100000
       npm run sim -- --goal NAME [--seed N --count N]     what must hold (GOALS.md), as long as it takes
       npm run sim -- --update                             writes the baseline anew
       npm run sim -- --mutations                          breaks the protocol in known ways; each must be found

scenarios: ${SCENARIOS.map(({ name }) => name).join(', ')}
goals: ${GOALS.map(({ name }) => name).join(', ')}`;

const BASELINE = new URL('./baseline.json', import.meta.url);
const BASELINE_SEED = 1;
/** Worse than the baseline by more than this part fails. */
const TOLERANCE = 0.05;

function compare(scenario: Scenario, was: Metrics, is: Metrics): string[] {
  const worse: string[] = [];
  for (const [name, value] of Object.entries(is)) {
    const before = was[name];
    const better = scenario.better[name];
    const slack = TOLERANCE * Math.abs(before ?? 0);
    const isWorse =
      before === undefined ||
      (better === 'less' && value > before + slack) ||
      (better === 'more' && value < before - slack) ||
      (better === undefined && scenario.name !== 'chaos' && value > before + slack);
    const change = before === value ? 'as before' : `was ${round(before ?? NaN)}`;
    console.log(
      `  ${isWorse ? '!' : ' '} ${name.padEnd(24)} ${String(round(value)).padStart(12)}  ${change}`,
    );
    if (isWorse) worse.push(`${scenario.name}.${name}`);
  }
  return worse;
}

function round(value: number): number {
  return Number(value.toPrecision(5));
}

function runAll(update: boolean): number {
  const baseline = JSON.parse(readFileSync(BASELINE, 'utf8')) as Record<string, Metrics>;
  const measured: Record<string, Metrics> = {};
  const worse: string[] = [];
  for (const scenario of SCENARIOS) {
    console.log(`${scenario.name}: ${scenario.what}`);
    const metrics = scenario.run(BASELINE_SEED);
    measured[scenario.name] = metrics;
    worse.push(...compare(scenario, baseline[scenario.name] ?? {}, metrics));
  }
  if (update) {
    writeFileSync(BASELINE, `${JSON.stringify(measured, undefined, 2)}\n`);
    return 0;
  }
  if (worse.length === 0) return 0;
  console.error(
    `sim: worse than test/sim/baseline.json (seed ${BASELINE_SEED}): ${worse.join(', ')}`,
  );
  return 1;
}

function runMany(seed: number, count: number): number {
  let events = 0;
  let failed = 0;
  const longest: { seed: number; settleMs: number }[] = [];
  for (let i = 0; i < count; i++) {
    let result: ChaosResult;
    try {
      result = chaos(seed + i);
    } catch (error) {
      failed += 1;
      console.error(String(error), String((error as Error).cause));
      continue;
    }
    events += result.events;
    longest.push({ seed: result.seed, settleMs: result.settleMs });
    longest.sort((a, b) => b.settleMs - a.settleMs);
    longest.length = Math.min(longest.length, 10);
    if ((i + 1) % 1000 === 0) console.log(`${i + 1} scenarios, ${events} events, ${failed} failed`);
  }
  const slow = longest.map(({ seed: s, settleMs }) => `${s} (${settleMs} ms)`).join(', ');
  console.log(`${count} scenarios from seed ${seed}, ${events} events, ${failed} failed`);
  console.log(`longest to settle: ${slow}`);
  return failed === 0 ? 0 : 1;
}

function runMutations(): number {
  let survived = 0;
  for (const mutation of MUTATIONS) {
    const { seed, violation } = tryMutation(mutation, SEEDS_MAX);
    if (seed === undefined) survived += 1;
    console.log(`${mutation.what}\n  ${seed === undefined ? '' : `seed ${seed}: `}${violation}`);
  }
  return survived === 0 ? 0 : 1;
}

function runOne(scenario: Scenario, seed: number): number {
  console.log(`${scenario.name}, seed ${seed}: ${scenario.what}`);
  for (const [name, value] of Object.entries(scenario.run(seed))) {
    console.log(`    ${name.padEnd(24)} ${round(value)}`);
  }
  return 0;
}

process.exitCode = runCommand({
  name: 'sim',
  usage: USAGE,
  options: {
    scenario: { type: 'string' },
    seed: { type: 'string', default: String(BASELINE_SEED) },
    count: { type: 'string' },
    goal: { type: 'string' },
    update: { type: 'boolean', default: false },
    mutations: { type: 'boolean', default: false },
  },
  run: (values) => {
    const seed = wholeNumber('seed', values.seed);
    const count = values.count === undefined ? undefined : wholeNumber('count', values.count);
    if (values.mutations) return runMutations();
    if (values.goal !== undefined) return runGoal(oneOf('goal', GOALS, values.goal), seed, count);
    if (values.scenario === undefined) return runAll(values.update);
    const scenario = oneOf('scenario', SCENARIOS, values.scenario);
    if (scenario.name === 'chaos' && count !== undefined && count > 1) return runMany(seed, count);
    return runOne(scenario, seed);
  },
});
