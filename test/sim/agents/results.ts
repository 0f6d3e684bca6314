/**
 * What whole agents were seen to do: report/agents.json, and AGENTS.md written from it. Tortures are
 * kept as slices that add up, measurements one for each size and kind, mutations one for each.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { Spread } from './measure.ts';
import type { Verdict } from './mutations.ts';

const RESULTS = new URL('../report/agents.json', import.meta.url);
const TEXT = new URL('../AGENTS.md', import.meta.url);

export interface Measured extends Spread {
  readonly what: string;
  readonly hosts: number;
  readonly zones: number;
  readonly count: number;
  readonly seeds: readonly number[];
  readonly commit: string;
}

/** So many tortures of one kind, from this seed. */
export interface TortureSlice {
  readonly hosts: number;
  readonly seconds: number;
  readonly seed: number;
  readonly count: number;
  readonly commit: string;
  readonly failed: readonly number[];
  /** Sums over the runs. */
  readonly sums: Readonly<Record<string, number>>;
  readonly equalAfterMs: readonly number[];
}

export interface Results {
  readonly measured: readonly Measured[];
  readonly tortures: readonly TortureSlice[];
  readonly mutations: readonly (Verdict & { readonly commit: string })[];
}

export function commitNow(): string {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--', 'src', 'test/sim');
  return git('rev-parse', '--short', 'HEAD') + (changed === '' ? '' : '+');
}

function read(): Results {
  if (!existsSync(RESULTS)) return { measured: [], tortures: [], mutations: [] };
  return JSON.parse(readFileSync(RESULTS, 'utf8')) as Results;
}

function write(results: Results): void {
  writeFileSync(RESULTS, `${JSON.stringify(results, undefined, 2)}\n`);
  writeFileSync(TEXT, textOf(results));
}

export function keepMeasured(measured: Measured): void {
  const results = read();
  const isOther = (one: Measured): boolean =>
    one.what !== measured.what || one.hosts !== measured.hosts || one.zones !== measured.zones;
  const all = [...results.measured.filter(isOther), measured];
  write({
    ...results,
    measured: all.toSorted(
      (a, b) =>
        (a.what < b.what ? -1 : Number(a.what > b.what)) || a.hosts - b.hosts || a.zones - b.zones,
    ),
  });
}

export function keepTorture(slice: TortureSlice): void {
  const results = read();
  const others = results.tortures.filter(
    (one) => one.hosts !== slice.hosts || one.seconds !== slice.seconds || one.seed !== slice.seed,
  );
  write({ ...results, tortures: [...others, slice] });
}

export function keepMutation(verdict: Verdict): void {
  const results = read();
  const others = results.mutations.filter(({ what }) => what !== verdict.what);
  write({ ...results, mutations: [...others, { ...verdict, commit: commitNow() }] });
}

const ASKED = { sizes: [25, 100, 1000], tortures: { hosts: 25, seconds: 300, runs: 200 } };

/** What issue 5 asks for, and was not run yet. */
function lacking({ measured, tortures }: Results): string {
  const what = [...new Set(measured.map((one) => one.what))];
  const sizes = ASKED.sizes.flatMap((hosts) => {
    const missing = what.filter(
      (name) => !measured.some((one) => one.what === name && one.hosts === hosts),
    );
    return missing.length === 0 ? [] : [`${hosts} hosts (${missing.join('; ')})`];
  });
  const { hosts, seconds, runs } = ASKED.tortures;
  const done = tortures
    .filter((one) => one.hosts === hosts && one.seconds === seconds)
    .reduce((sum, { count }) => sum + count, 0);
  const rest =
    done >= runs ? [] : [`tortures of ${hosts} hosts and ${seconds} s: ${done} of ${runs}`];
  const all = [...sizes, ...rest];
  return all.length === 0 ? '' : `\nLess than asked for: ${all.join('; ')}.\n`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function textOf(results: Results): string {
  const { measured, tortures, mutations } = results;
  return `# Whole agents over fake maps

Each simulated host is an agent as it ships, but for its sockets, its disk and its kernel: overlay (hyparview-ts), replication, replica, view, liveness, catalog, frontends. They are joined in \`agents/agent.ts\` in the order of \`src/cluster/io\`. The disk is a list: own writes and epochs take 0.2 to 2 ms, in which the agent stands still, what others wrote is written without waiting. A kill -9 leaves the list, a power cut takes the last of what was not waited for. The map of a host has, for each frontend, the endpoints that take new connections. A message that is lost is lost: there is no TCP below that sends it again. Computing takes no time here: CPU and scheduling come on top.

Written by \`npm run sim:agents\` (\`-- --help\`); figures are in \`report/agents.json\`. Equal seeds give equal runs at equal commits, to the last byte.
${lacking(results)}
## Until it is in every other host's map

1 ms one way within a zone and 20 ms between zones, up to 20 % more at random; hosts spread over the zones in turn. *added*: \`service add\` on a random host and, once that is acknowledged, \`backend add\` there; from the first command to the backend in the map of another host. Churn: 1 % of the hosts a minute die without a word and come back 5 s later. *dead*: a host is gone without a word; *killed*: its agent is, and the kernel closes the connections; *goodbye*: it stops cleanly. From then to its backends being out of another host's map. Half of the backends live with a process of their host, half are operators' and belong to the host by its address.

ms over all pairs of an event and a host, and until the last host had it:

${table(
  [
    'what',
    'hosts',
    'zones',
    'events',
    'pairs',
    'p50',
    'p99',
    'longest',
    'all, p50',
    'all, p99',
    'seeds (commit)',
  ],
  measured.map((one) => [
    one.what,
    String(one.hosts),
    String(one.zones),
    String(one.count * one.seeds.length),
    String(one.samples),
    String(one.p50Ms),
    String(one.p99Ms),
    String(one.maxMs),
    String(one.allP50Ms),
    String(one.allP99Ms),
    `${one.seeds.join(', ')} (${one.commit})`,
  ]),
)}

## Torture

Random partitions (two or three sides, now and then one way only), kills and restarts from disk, some in the middle of a write, half of them power cuts, epochs begun by anybody, clocks up to 5 minutes apart that jump, in every third run up to 10 % of all messages lost, in every third a disk that takes 5 to 60 ms, hosts that leave or are gone for ever with others in their place; all the while services, backends and keys are written on all hosts, some of the same names, with so few VIPs that the halves of a partition give out the same ones. Then quiet. At the end: all hosts have the same documents; every host's map is the same, and is what is made afresh from its disk and from who lives; every acknowledged write of which that can be said is there, in memory and on disk, on every host (*judged*; those that raced with another are not); of hosts that are gone for good no document is left.

${table(
  [
    'hosts',
    'seconds',
    'runs',
    'failed',
    'acknowledged',
    'entries judged',
    'kills',
    'partitions',
    'gone',
    'epochs taken over',
    'VIP conflicts at the end',
    'equal after, longest',
  ],
  tortureRows(tortures),
)}

Seeds: ${tortures.map(({ hosts, seconds, seed, count, commit }) => `${hosts} hosts, ${seconds} s: ${seed} × ${count} (${commit})`).join('; ') || 'none'}.

## Is it found when an agent is broken?

Each is one change to a copy of the sources, run through short tortures of 8 hosts and a minute.

${table(
  ['broken', 'found with seed', 'by', 'commit'],
  mutations.map(({ what, seed, violation, commit }) => [
    what,
    seed === undefined ? 'none' : String(seed),
    violation.replaceAll('|', '/').slice(0, 110),
    commit,
  ]),
)}
`;
}

function tortureRows(tortures: readonly TortureSlice[]): string[][] {
  const kinds = new Map<string, TortureSlice[]>();
  for (const slice of tortures) {
    const kind = `${slice.hosts} ${slice.seconds}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), slice]);
  }
  return [...kinds.values()].map((slices) => {
    const sum = (of: (slice: TortureSlice) => number): string =>
      String(slices.reduce((total, slice) => total + of(slice), 0));
    const [first] = slices;
    const all = (name: string): string => sum(({ sums }) => sums[name] ?? 0);
    return [
      String(first?.hosts),
      String(first?.seconds),
      sum(({ count }) => count),
      sum(({ failed }) => failed.length),
      ...['acknowledged', 'judged', 'kills', 'partitions', 'gone', 'epochs', 'conflicts'].map(all),
      `${Math.max(0, ...slices.flatMap(({ equalAfterMs }) => equalAfterMs))} ms`,
    ];
  });
}
