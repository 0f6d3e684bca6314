/**
 * The scenario files of test/scenarios/acl (see its README), in every
 * enforcement that this machine has: what judges changes no verdict.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { type Mode, modes, Stage, type StageOptions, type Who } from './attacks/stage.ts';

interface Scenario {
  readonly title: string;
  readonly config?: StageOptions;
  readonly servers: Readonly<Record<string, string>>;
  readonly who: Readonly<Record<string, Who>>;
  readonly steps: readonly {
    readonly remove?: readonly string[];
    readonly apply?: readonly object[];
    readonly attempts?: string;
  }[];
}

/** `[::1]:80` as attack.c and witness.py take it: `::1,80`. */
const comma = (endpoint: string): string =>
  endpoint.replace(/:(\d+)$/, ',$1').replace(/^\[(.*)\]/, '$1');

interface Attempt {
  readonly who: string;
  readonly text: string;
  readonly verdict: string;
}

function parseAttempt(line: string): Attempt {
  const words = /^(\S+)\s+(\S+)\s+(\S+)\s+(?:\((\S+)\)\s+)?(\S+)$/.exec(line);
  assert.ok(words !== null, `not an attempt: ${line}`);
  const [, who = '', how = '', to = '', other, verdict = ''] = words;
  const second = other === undefined ? '' : `,${comma(other)}`;
  return { who, text: `${how}=${comma(to)}${second}`, verdict };
}

/** Runs of attempts by the same one: one process each. */
function turns(text: string): Attempt[][] {
  const list: Attempt[][] = [];
  for (const raw of text.split('\n')) {
    const line = raw.replace(/(^|\s)#.*$/, '').trim();
    if (line === '') continue;
    const attempt = parseAttempt(line);
    const last = list.at(-1);
    if (last?.[0]?.who === attempt.who) last.push(attempt);
    else list.push([attempt]);
  }
  return list;
}

/** One for all scenarios of a kind: they start and end without rules. */
const stages = new Map<string, Stage>();

after(async () => {
  for (const stage of stages.values()) await stage[Symbol.asyncDispose]();
});

async function stageFor(mode: Mode, config: StageOptions): Promise<Stage> {
  const key = JSON.stringify({ mode, config });
  const stage = stages.get(key) ?? (await Stage.create(mode, config));
  stages.set(key, stage);
  await stage.clear();
  return stage;
}

async function play(t: TestContext, scenario: Scenario, mode: Mode): Promise<void> {
  const stage = await stageFor(mode, scenario.config ?? {});
  const servers = Object.entries(scenario.servers).map(([name, server]) => {
    const [kind = '', at = ''] = server.split(' ');
    return `${name}=${kind},${comma(at)}`;
  });
  assert.deepEqual(await stage.witnesses(...servers), [], 'servers that this kernel cannot have');
  for (const [i, step] of scenario.steps.entries()) {
    for (const name of step.remove ?? []) await stage.removeAcl(name);
    if (step.apply !== undefined) await stage.apply(...step.apply);
    for (const turn of turns(step.attempts ?? '')) {
      const name = turn[0]?.who ?? '';
      const who = scenario.who[name];
      assert.ok(who !== undefined, `nobody is called ${name}`);
      const expected = Object.fromEntries(turn.map(({ text, verdict }) => [text, verdict]));
      assert.equal(Object.keys(expected).length, turn.length, 'an attempt is written twice');
      try {
        await stage.expect(who, expected);
      } catch (error) {
        throw new Error(`step ${i + 1}, ${name}: ${(error as Error).message}`, { cause: error });
      }
    }
  }
  for (const [attempt, why] of stage.missing) t.diagnostic(`${attempt}: ${why}`);
}

const folder = fileURLToPath(new URL('../scenarios/acl/', import.meta.url));

for (const file of readdirSync(folder).filter((name) => name.endsWith('.yaml'))) {
  const scenario = parse(readFileSync(`${folder}${file}`, 'utf8')) as Scenario;
  for (const { mode, options } of modes())
    test(`${file}, judged by ${mode}: ${scenario.title}`, options, async (t) => {
      await play(t, scenario, mode);
    });
}
