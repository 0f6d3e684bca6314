/**
 * What the LSM programs cost everybody. They run at each connect and each send
 * of the machine, under rules or not, so that no lane beside them is without.
 * Hence one race with the programs of four agents, one with those of one, and
 * one without; each is compared with socket() and close(), where none runs.
 */
import { whyNoLsm } from '../../src/acl/io/enforcement.ts';
import { type AclStage, LARGEST, rules, SIZES } from './acl-stage.ts';
import type { AclEffort } from './acl.ts';
import { targets } from './acl-rules.ts';
import { type Kind, type LaneResult, type LaneSpec, race } from './lanes.ts';
import { laneHeaders, laneRow, type Section } from './report.ts';
import { ports } from './stage.ts';

const KINDS = [
  ['UDP connect', 'connect-udp', ports.datagrams],
  ['TCP connect, accept, close', 'connect-tcp', ports.close],
  ['TCP echo', 'echo-tcp', ports.echo],
  ['UDP echo, connected', 'echo-udp', ports.datagrams],
  ['UDP echo, unconnected', 'sendto-udp', ports.datagrams],
] as const satisfies readonly (readonly [string, Kind, number])[];

interface Turn {
  readonly what: string;
  readonly results: readonly LaneResult[];
}

function lanes(stage: AclStage): LaneSpec[] {
  const at = { place: stage.plain, address: targets.backend };
  const alone: LaneSpec = {
    ...at,
    name: 'socket, close',
    kind: 'socket-udp',
    port: ports.datagrams,
  };
  return [alone, ...KINDS.map(([name, kind, port]) => ({ ...at, name, kind, port }))];
}

/** As a lane's result, but compared with the same lane of another race by what both make of the first. */
function against(without: Turn, turn: Turn, at: number): LaneResult | undefined {
  const [base, result] = [without.results[at], turn.results[at]];
  const scale = without.results[0]?.ns ?? Number.NaN;
  if (base === undefined || result === undefined) return undefined;
  return {
    ...result,
    name: `${result.name}: ${turn.what}`,
    ratio: result.ratio / base.ratio,
    ratioMin: result.ratioMin / base.ratio,
    ratioMax: result.ratioMax / base.ratio,
    extraNs: (result.ratio - base.ratio) * scale,
  };
}

/** Ends the stage's policies: to be the last of it. */
export async function aclEverybody(stage: AclStage, effort: AclEffort): Promise<Section> {
  const title = 'Rules: what BPF LSM costs those who are under none';
  if (stage.judging !== 'lsm') {
    const why = whyNoLsm() ?? 'measured where BPF LSM judges';
    return {
      name: 'acl-lsm',
      title,
      headers: [''],
      rows: [],
      notes: [`Not measured: ${why}`],
      data: why,
      wanted: [],
    };
  }
  const turns: Turn[] = [];
  const measure = async (what: string): Promise<void> => {
    turns.push({ what, results: await race(lanes(stage), effort.udp) });
  };
  await measure('four agents with rules'); // 10, 1,000, 10,000, and those for outside
  for (const size of [...SIZES, 'ingress'] as const) if (size !== LARGEST) stage.end(size);
  await measure(`one agent, ${rules(LARGEST)}`);
  stage.end(LARGEST);
  await measure('none');
  const without = turns.at(-1);
  const rows = [...turns].toReversed().flatMap((turn) =>
    turn.results.slice(1).flatMap((_, lane) => {
      const result = without === undefined ? undefined : against(without, turn, lane + 1);
      return result === undefined ? [] : [laneRow(result)];
    }),
  );
  return {
    name: 'acl-lsm',
    title,
    headers: laneHeaders,
    rows,
    notes: [
      'Three races one after the other, each measured by socket() and close(), which no rule concerns.',
    ],
    data: turns,
    wanted: [],
  };
}
