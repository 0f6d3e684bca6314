/** How often, and for how long, the programs of a host ran: the kernel's own count. */
import { run } from '../harness/child.ts';
import type { TestHost } from '../harness/host.ts';
import { linkIds } from '../harness/maps.ts';

export interface Runs {
  readonly count: number;
  readonly ns: number;
}

interface ProgramInfo {
  readonly id: number;
  readonly run_cnt?: number;
  readonly run_time_ns?: number;
}

/** By hook. Zero where the kernel keeps no statistics. */
export async function runsOf(host: TestHost): Promise<ReadonlyMap<string, Runs>> {
  const links = await linkIds(host);
  const programs = JSON.parse(await run(['bpftool', '-j', 'prog', 'show'])) as ProgramInfo[];
  const byId = new Map(programs.map((program) => [program.id, program]));
  return new Map(
    [...links].map(([hook, { prog_id }]) => {
      const program = byId.get(prog_id);
      if (program === undefined) throw new Error(`the program of ${hook} is not there`);
      return [hook, { count: program.run_cnt ?? 0, ns: program.run_time_ns ?? 0 }];
    }),
  );
}

/** What was added between the two. */
export function runsBetween(
  before: ReadonlyMap<string, Runs>,
  after: ReadonlyMap<string, Runs>,
): ReadonlyMap<string, Runs> {
  return new Map(
    [...after].map(([hook, { count, ns }]) => {
      const was = before.get(hook) ?? { count: 0, ns: 0 };
      return [hook, { count: count - was.count, ns: ns - was.ns }];
    }),
  );
}

export function totalRuns(runs: ReadonlyMap<string, Runs>): number {
  let total = 0;
  for (const { count } of runs.values()) total += count;
  return total;
}
