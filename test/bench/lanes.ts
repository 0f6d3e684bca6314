/**
 * Lanes are the variants of one measurement. They take turns, a few
 * milliseconds each, so that whatever else happens on the machine happens to
 * all of them; what is compared are turns next to each other.
 */
import { laneProgram } from './programs.ts';
import { Pinned, type Place } from './place.ts';
import { median } from './statistics.ts';

export type Kind =
  | 'connect-tcp'
  | 'connect-udp'
  | 'ask-udp'
  | 'echo-tcp'
  | 'echo-udp'
  | 'bulk-tcp'
  | 'peername-tcp'
  | 'socket-udp'
  | 'sendto-udp'
  | 'denied-tcp'
  | 'denied-udp'
  | 'denied-sendto'
  | 'new-cgroup';

export interface LaneSpec {
  readonly name: string;
  readonly place: Place;
  readonly kind: Kind;
  readonly address: string;
  readonly port: number;
  /** Number of addresses from `address` on, one drawn for each connect. */
  readonly spread?: number;
  /** Of new-cgroup: below which. */
  readonly path?: string;
}

export class Lane {
  readonly #program: Pinned;
  wrongPeers = 0;

  private constructor(program: Pinned) {
    this.#program = program;
  }

  static async open(spec: LaneSpec): Promise<Lane> {
    const { place, kind, address, port, spread = 1, path } = spec;
    const words = [await laneProgram(), kind, address, String(port), String(spread)];
    if (path !== undefined) words.push(path);
    const program = new Pinned(place, words);
    await program.line(); // "ready"
    return new Lane(program);
  }

  /** Does `count` operations; nanoseconds for each. */
  async turn(count: number, timeoutMs = 60_000): Promise<number> {
    this.#program.say(String(count));
    const [took = '', wrong = ''] = (await this.#program.line(timeoutMs)).split(' ');
    this.wrongPeers += Number(wrong);
    return Number(took) / count;
  }

  async close(): Promise<void> {
    await this.#program.end();
  }
}

export interface Effort {
  /** Rounds, each with new processes. */
  readonly rounds: number;
  /** Turns of each lane in a round. */
  readonly turns: number;
  /** Operations in a turn. */
  readonly count: number;
}

export interface LaneResult {
  readonly name: string;
  /** Nanoseconds per operation: the median of the rounds' medians. */
  readonly ns: number;
  /** To the first lane, turn by turn: the median of a round, of all rounds, and its extremes. */
  readonly ratio: number;
  readonly ratioMin: number;
  readonly ratioMax: number;
  /** As `ratio`, in nanoseconds: what this lane costs more than the first. */
  readonly extraNs: number;
  readonly operations: number;
  /** Of 16 untimed connects a turn, how many had another getpeername() than they asked for. */
  readonly wrongPeers: number;
}

/** Runs the lanes in turns and compares each with the first. */
export async function race(
  specs: readonly LaneSpec[],
  effort: Effort,
): Promise<readonly LaneResult[]> {
  const rounds = specs.map(() => ({
    ns: [] as number[],
    ratio: [] as number[],
    extra: [] as number[],
    wrong: 0,
  }));
  for (let round = 0; round < effort.rounds; round++) {
    const { times, wrong } = await raceOnce(specs, effort, round);
    const first = times[0] ?? [];
    for (const [lane, turns] of times.entries()) {
      const kept = rounds[lane];
      kept?.ns.push(median(turns));
      kept?.ratio.push(median(turns.map((ns, turn) => ns / (first[turn] ?? Number.NaN))));
      kept?.extra.push(median(turns.map((ns, turn) => ns - (first[turn] ?? Number.NaN))));
      if (kept !== undefined) kept.wrong += wrong[lane] ?? 0;
    }
  }
  return specs.map(({ name }, lane) => {
    const { ns, ratio, extra, wrong } = rounds[lane] ?? { ns: [], ratio: [], extra: [], wrong: 0 };
    return {
      name,
      ns: median(ns),
      ratio: median(ratio),
      ratioMin: Math.min(...ratio),
      ratioMax: Math.max(...ratio),
      extraNs: median(extra),
      operations: effort.rounds * effort.turns * effort.count,
      wrongPeers: wrong,
    };
  });
}

async function raceOnce(
  specs: readonly LaneSpec[],
  { turns, count }: Effort,
  round: number,
): Promise<{ readonly times: number[][]; readonly wrong: number[] }> {
  const lanes: Lane[] = [];
  for (const spec of specs) lanes.push(await Lane.open(spec));
  try {
    for (const lane of lanes) await lane.turn(count); // warms up
    const times = lanes.map((): number[] => []);
    for (let turn = 0; turn < turns; turn++) {
      for (let i = 0; i < lanes.length; i++) {
        const at = (i + turn + round) % lanes.length;
        times[at]?.push((await lanes[at]?.turn(count)) ?? Number.NaN);
      }
    }
    return { times, wrong: lanes.map((lane) => lane.wrongPeers) };
  } finally {
    for (const lane of lanes) await lane.close();
  }
}
