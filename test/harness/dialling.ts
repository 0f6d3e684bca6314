/** Clients that keep connecting at a steady pace, and what they saw; see test/system/clients/steady.c. */
import type { Child } from './child.ts';
import { patience } from './eventually.ts';
import type { TestHost } from './host.ts';
import { steadyClient } from './programs.ts';

/** An attempt that failed. Times are of CLOCK_MONOTONIC, as process.hrtime.bigint() has it. */
export interface Failure {
  readonly fromNs: bigint;
  readonly toNs: bigint;
  /** What failed, and how: `connect ETIMEDOUT`. */
  readonly error: string;
  /** Whom it was talking to, VIPs resolved; empty when the kernel had closed the socket. */
  readonly backend: string;
}

export interface Answers {
  readonly count: number;
  /** When the first and the last of these attempts began. */
  readonly firstNs: bigint;
  readonly lastNs: bigint;
}

export interface Dialled {
  readonly attempts: number;
  /** Not tried, as too many hung. */
  readonly skipped: number;
  readonly failures: readonly Failure[];
  /** By backend name. */
  readonly answers: ReadonlyMap<string, Answers>;
}

export interface Pace {
  readonly everyMs?: number;
  /** An attempt without an answer for so long has failed. */
  readonly waitMs?: number;
  /** Of the VIP, IPv4: where many connects may fail, looking them up is too slow without. */
  readonly backends?: readonly string[];
}

interface FailureLine {
  readonly from: number;
  readonly to: number;
  readonly error: string;
  readonly backend: string;
}

interface LastLine {
  readonly attempts: number;
  readonly skipped: number;
  readonly unlisted: number;
  readonly answers: Readonly<Record<string, { count: number; firstNs: number; lastNs: number }>>;
}

/** Nanoseconds since the machine's start are exact as numbers for 104 days (2^53). */
const ns = (value: number): bigint => BigInt(value);

function failureOf(line: string): Failure {
  const { from, to, error, backend } = JSON.parse(line) as FailureLine;
  return { fromNs: ns(from), toNs: ns(to), error, backend };
}

export class Dialler {
  readonly host: TestHost;
  readonly #client: Child;

  private constructor(host: TestHost, client: Child) {
    this.host = host;
    this.#client = client;
  }

  static async start(
    host: TestHost,
    addr: string,
    port: number,
    { everyMs = 10, waitMs = 2000 * patience, backends = [] }: Pace = {},
  ): Promise<Dialler> {
    const words = [addr, port, Math.round(everyMs * 1000), waitMs, ...backends].map(String);
    const client = host.spawn([await steadyClient(), ...words]);
    await client.says(/^started$/m);
    return new Dialler(host, client);
  }

  /** Those so far. */
  failures(): Failure[] {
    const lines = this.#client.stdout.split('\n').slice(1, -1);
    return lines.filter((line) => line.startsWith('{"from"')).map(failureOf);
  }

  /** Waits until each of these backends has answered. */
  async hears(...names: readonly string[]): Promise<void> {
    for (const name of names) await this.#client.says(new RegExp(`^{"answered":"${name}"}$`, 'm'));
  }

  /** Lets it end, those under way included. */
  async end(): Promise<Dialled> {
    this.#client.endInput();
    const { code, stdout, stderr } = await this.#client.result(60_000);
    if (code !== 0) throw new Error(`steady on ${this.host.name}: exit code ${code}: ${stderr}`);
    const last = JSON.parse(stdout.trimEnd().split('\n').pop() ?? '') as LastLine;
    if (last.unlisted > 0) throw new Error(`${last.unlisted} failures more than are listed`);
    const answers = Object.entries(last.answers).map(
      ([name, { count, firstNs, lastNs }]): [string, Answers] => [
        name,
        { count, firstNs: ns(firstNs), lastNs: ns(lastNs) },
      ],
    );
    return {
      attempts: last.attempts,
      skipped: last.skipped,
      failures: this.failures(),
      answers: new Map(answers),
    };
  }
}
