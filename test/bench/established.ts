/** What an established connection costs: nothing of ours may be in its way. */
import { type Effort, type Kind, Lane, type LaneSpec, race } from './lanes.ts';
import { withStatistics } from './kernelstats.ts';
import { laneHeaders, laneRow, type Section, type Wanted } from './report.ts';
import { runsBetween, runsOf, totalRuns } from './runcounts.ts';
import { ports, type Stage, type Way } from './stage.ts';

export interface EstablishedEffort {
  readonly echo: Effort;
  readonly bulk: Effort;
  /** Messages, both directions counted, that must run no program. */
  readonly messages: number;
}

const CHUNK_BYTES = 65_536;

function lane(stage: Stage, way: Way, kind: Kind, port: number): LaneSpec {
  return { ...stage.route(way, port), kind };
}

export async function established(stage: Stage, effort: EstablishedEffort): Promise<Section> {
  const ways: readonly Way[] = ['direct', 'vip', 'dnat', 'haproxy'];
  const echo = await race(
    ways.map((way) => lane(stage, way, 'echo-tcp', ports.echo)),
    effort.echo,
  );
  const datagrams = await race(
    (['direct', 'vip', 'dnat'] as const).map((way) =>
      lane(stage, way, 'echo-udp', ports.datagrams),
    ),
    effort.echo,
  );
  const bulk = await race(
    ways.map((way) => lane(stage, way, 'bulk-tcp', ports.sink)),
    effort.bulk,
  );
  const names = await race(
    (['direct', 'attached', 'vip'] as const).map((way) =>
      lane(stage, way, 'peername-tcp', ports.echo),
    ),
    effort.echo,
  );
  const speed = (ns: number): string => `${(CHUNK_BYTES / ns).toFixed(2)} GB/s`;
  const named = (what: string, results: typeof echo, show?: typeof speed): Section['rows'] =>
    results.map((result) => laneRow({ ...result, name: `${what}: ${result.name}` }, show));
  const equal = (what: string, results: typeof echo): Wanted => {
    const vip = results.find(({ name }) => name === 'zerohop VIP');
    const ratio = vip?.ratio ?? Number.NaN;
    return {
      what: `${what} by VIP equal to direct (within 1 %)`,
      figure: ratio.toFixed(3),
      met: Math.abs(ratio - 1) <= 0.01,
    };
  };
  return {
    name: 'established',
    title: 'Established: 64 bytes there and back; 64 KiB writes; getpeername()',
    headers: laneHeaders,
    rows: [
      ...named('TCP echo', echo),
      ...named('UDP echo', datagrams),
      ...named('TCP bulk', bulk, speed),
      ...named('getpeername', names),
    ],
    notes: ['Ratios of times: above 1 is slower, for bulk too.'],
    data: { echo, datagrams, bulk, names },
    wanted: [equal('TCP echo', echo), equal('UDP echo', datagrams), equal('TCP bulk', bulk)],
  };
}

/** The exact proof: the programs' run counts while messages pass. */
export async function runCounts(stage: Stage, effort: EstablishedEffort): Promise<Section> {
  const { messages } = effort;
  const rows: { what: string; moved: number; control: number }[] = [];
  await withStatistics(async () => {
    for (const [what, kind, port] of [
      ['TCP', 'echo-tcp', ports.echo],
      ['connected UDP', 'echo-udp', ports.datagrams],
    ] as const) {
      const start = await runsOf(stage.host);
      const program = await Lane.open(lane(stage, 'vip', kind, port));
      await program.turn(1);
      const before = await runsOf(stage.host);
      await program.turn(messages / 2, 600_000);
      const after = await runsOf(stage.host);
      await program.close();
      rows.push({
        what: `${what}: ${messages.toLocaleString('en')} messages`,
        moved: totalRuns(runsBetween(before, after)),
        control: totalRuns(runsBetween(start, before)),
      });
    }
  });
  return {
    name: 'run-counts',
    title: 'Runs of all programs while messages pass an established VIP connection',
    headers: ['', 'runs', 'of connect + getpeername before'],
    rows: rows.map(({ what, moved, control }) => ({
      what,
      cells: [String(moved), String(control)],
    })),
    notes: ['The last column shows that the counters count: two calls before the messages.'],
    data: rows,
    wanted: rows.map(({ what, moved, control }) => ({
      what: `no program runs, ${what}`,
      figure: `${moved} runs`,
      met: moved === 0 && control > 0,
    })),
  };
}
