/**
 * node test/bench/dns-fuzz.ts [--count N] [--only questions|replies|udp|tcp]… [--seed N]
 *
 * Mutated DNS messages: questions to the pure resolver and replies of a liar to the pure
 * forwarder, N of each in this process; then N questions to a real agent whose name server is
 * the liar, half over UDP and half over TCP. Each answer is looked at, memory is watched.
 * As root, after a build. Exit code 1 when anything is wrong; the seed brings it back.
 */
import { parseArgs } from 'node:util';
import { readQuery, type Query } from '../../src/dns/query.ts';
import { resolve } from '../../src/dns/resolver.ts';
import { faultOfAnswer } from '../harness/dns-judge.ts';
import { fuzz, fuzzHost, NAMES } from '../harness/dns-fuzzing.ts';
import { isPoisoned, liarNames, lies, victimAt, VICTIMS } from '../harness/dns-liar.ts';
import { Mutator, queryBytes } from '../harness/dns-mutations.ts';
import { ForwardWorld, settingsOf, type Behaviour } from '../harness/forward-world.ts';
import { Dice } from '../harness/random.ts';
import { OPTIONS, zoneOf } from '../unit/dns/zones.ts';
import { residentBytes } from './memory.ts';
import { mib } from './report.ts';

const PARTS = ['questions', 'replies', 'udp', 'tcp'] as const;
type Part = (typeof PARTS)[number];

const FAULTS_SHOWN = 10;
const UDP_SIZE_MAX = 1232;
const CACHE_BYTES = 2 ** 20;
/** What garbage not yet collected may make of it. A guess. */
const GROWTH_MAX = 1.25;
const GROWTH_BYTES = 32 * 2 ** 20;
const SAMPLE_EVERY = 5000;

interface Outcome {
  readonly told: string;
  readonly faults: readonly string[];
}

/** Resident bytes over a run: the second half may not need much more than the first. */
class Watch {
  readonly #pid: number;
  readonly #samples: number[] = [];

  constructor(pid: number) {
    this.#pid = pid;
  }

  sample(): void {
    this.#samples.push(residentBytes(this.#pid).now);
  }

  outcome(): Outcome {
    const half = this.#samples.length >> 1;
    const before = Math.max(...this.#samples.slice(0, half));
    const after = Math.max(...this.#samples.slice(half));
    const grows = this.#samples.length > 3 && after > before * GROWTH_MAX + GROWTH_BYTES;
    const told = `at most ${mib(before)} resident in the first half, ${mib(after)} in the second`;
    return { told, faults: grows ? [`memory grows: ${told}`] : [] };
  }
}

function zone(): ReturnType<typeof zoneOf> {
  const backends = Array.from({ length: 300 }, (_, i) => `http 10.9.${i >> 8}.${i & 255}:8080`);
  return zoneOf({
    services: {
      web: { vips: ['254.254.254.9', 'fd7a:6572:6f68:6f70::9'], ports: ['http=80/tcp'] },
      large: { vips: ['254.254.254.10'], ports: ['http=80/tcp'], backends },
    },
    records: ['alias.zerohop.internal CNAME web.zerohop.internal', 'outside.test TXT hello'],
  });
}

/** What the pure resolver says to a message; undefined: nothing, or it is for others. */
function said(
  of: ReturnType<typeof zone>,
  message: Uint8Array,
  dice: Dice,
): Uint8Array | undefined {
  const read = readQuery(message);
  if (!read.ok) return read.answer;
  const transport = dice.below(4) === 0 ? 'tcp' : 'udp';
  const random = (): number => dice.below(2 ** 30) / 2 ** 30;
  const options = { ...OPTIONS, transport, udpSizeMax: UDP_SIZE_MAX, random } as const;
  const answer = resolve(of, read.query, options);
  if (answer.kind === 'forward') return undefined;
  const size =
    read.query.edns === undefined ? 512 : Math.min(read.query.edns.udpSize, UDP_SIZE_MAX);
  const bytesMax = transport === 'tcp' ? 65_535 : Math.max(512, size);
  const fault = faultOfAnswer(message, answer.bytes, bytesMax);
  if (fault !== undefined) throw new Error(fault);
  return answer.bytes;
}

function questions(count: number, seed: number): Outcome {
  const dice = new Dice(seed);
  const mutator = new Mutator(dice, [...NAMES, ...liarNames(20)]);
  const of = zone();
  const watch = new Watch(process.pid);
  const faults: string[] = [];
  let answered = 0;
  for (let i = 0; i < count; i++) {
    if (i % SAMPLE_EVERY === 0) watch.sample();
    const message = mutator.message();
    try {
      const answer = said(of, message, dice);
      if (answer === undefined) continue;
      answered++;
      const fault = faultOfAnswer(message, answer, 65_535);
      if (fault !== undefined) throw new Error(fault);
    } catch (error) {
      faults.push(`${String(error)}: message ${i}, ${Buffer.from(message).toString('hex')}`);
    }
  }
  const memory = watch.outcome();
  return {
    told: `${count} questions, ${answered} answers; ${memory.told}`,
    faults: [...faults, ...memory.faults],
  };
}

function queryOf(name: string): { readonly bytes: Uint8Array; readonly query: Query } {
  const bytes = Uint8Array.from(queryBytes(name, 1));
  const read = readQuery(bytes);
  if (!read.ok) throw new Error(`no query for ${name}`);
  return { bytes, query: read.query };
}

function replies(count: number, seed: number): Outcome {
  const dice = new Dice(seed);
  const mutator = new Mutator(dice, liarNames(1));
  const world = new ForwardWorld(
    settingsOf(['10.0.0.1:53', '10.0.0.2:53'], { cacheBytes: CACHE_BYTES }),
    seed,
  );
  const faults: string[] = [];
  const open = new Map<number, { readonly bytes: Uint8Array; readonly isVictim: boolean }>();
  const seen = { lies: 0, answers: 0, victims: 0 };
  const liar: Behaviour = ({ bytes }) =>
    lies(bytes, mutator).map((reply) => {
      seen.lies++;
      return { afterMs: dice.below(40), bytes: reply };
    });
  world.upstreams.set('10.0.0.1:53', liar).set('10.0.0.2:53', liar);
  world.onAnswer = (ask, { asked }) => {
    const question = open.get(ask);
    open.delete(ask);
    if (question === undefined) return void faults.push(`an answer to nobody: ask ${ask}`);
    seen.answers++;
    const fault = faultOfAnswer(question.bytes, asked.bytes, UDP_SIZE_MAX);
    if (fault !== undefined) faults.push(`${fault}: ${Buffer.from(asked.bytes).toString('hex')}`);
    if (question.isVictim && isPoisoned(asked.bytes)) faults.push(`poisoned: ask ${ask}`);
  };
  const watch = new Watch(process.pid);
  for (let i = 0; seen.lies < count && faults.length < FAULTS_SHOWN; i++) {
    if (i % 500 === 0) watch.sample();
    const isVictim = i % 50 === 0;
    const name = isVictim ? victimAt(dice.below(VICTIMS)) : `x${i}.${liarNames(20)[i % 20] ?? ''}`;
    const { bytes, query } = queryOf(name);
    if (isVictim) seen.victims++;
    // Asks are numbered from 1 on; what the cache has is answered before ask() is back.
    open.set(i + 1, { bytes, isVictim });
    world.ask(query);
    world.pass(dice.below(12));
  }
  world.pass(10_000);
  const left = open.size;
  if (left > 0) faults.push(`${left} questions without an answer`);
  const { bytes } = world.machine.stats(world.nowMs).cache;
  if (bytes > CACHE_BYTES) faults.push(`the cache has ${bytes} bytes of ${CACHE_BYTES}`);
  const memory = watch.outcome();
  return {
    told: `${seen.lies} replies, ${seen.answers} answers, ${seen.victims} of victims; ${memory.told}`,
    faults: [...faults, ...memory.faults],
  };
}

/** A real agent; seconds for so many are a guess that is ten times too long. */
async function agent(transport: 'udp' | 'tcp', count: number, seed: number): Promise<Outcome> {
  await using host = await fuzzHost();
  const watch = new Watch(host.agent.pid);
  const sampling = setInterval(() => watch.sample(), 1000);
  try {
    const result = await fuzz(host, { transport, count, seed }, 120_000 + count * 5);
    const { sent, answered, lies: told, victims, poisoned, faults, faultCount } = result;
    const memory = watch.outcome();
    const problems = [...faults, ...memory.faults];
    if (poisoned > 0) problems.push(`${poisoned} of ${victims} victims poisoned`);
    if (!host.agent.running) problems.push(`the agent ended:\n${host.agent.output.slice(-2000)}`);
    for (const { level, msg } of host.agent.log())
      if (typeof level === 'number' && level >= 50) problems.push(`it logged: ${String(msg)}`);
    const rcodes = JSON.stringify(result.rcodes);
    return {
      told: `${sent} messages, ${answered} answers (${rcodes}), ${told} lies, ${victims} victims, ${faultCount} faults; ${memory.told}`,
      faults: problems,
    };
  } finally {
    clearInterval(sampling);
  }
}

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '10000000' },
    only: { type: 'string', multiple: true },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
  },
});
const count = Number(values.count);
const seed = Number(values.seed);
const only = values.only ?? PARTS;
const unknown = only.find((name) => !PARTS.some((part) => part === name));
if (
  !Number.isSafeInteger(count) ||
  count < 1 ||
  !Number.isSafeInteger(seed) ||
  unknown !== undefined
) {
  console.error(
    `dns-fuzz: --count and --seed are whole numbers, --only one of ${PARTS.join(', ')}`,
  );
  process.exit(2);
}

const runs: Readonly<Record<Part, () => Outcome | Promise<Outcome>>> = {
  questions: () => questions(count, seed),
  replies: () => replies(count, seed),
  udp: () => agent('udp', Math.ceil(count / 2), seed),
  tcp: () => agent('tcp', Math.ceil(count / 2), seed),
};
for (const part of PARTS) {
  if (!only.includes(part)) continue;
  const start = performance.now();
  const { told, faults } = await runs[part]();
  const took = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${part}: seed ${seed}, ${took} s: ${told}`);
  for (const fault of faults.slice(0, FAULTS_SHOWN)) console.log(`  FAULT ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
}
