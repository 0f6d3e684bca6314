/** dns-ask.c on a server's host, pinned; and turns that servers take. */
import { eventually } from '../harness/eventually.ts';
import type { TestHost } from '../harness/host.ts';
import { dnsAskProgram } from './programs.ts';
import { Pinned } from './place.ts';
import { RESOLVER, type Server } from './dns-servers.ts';

export interface Turn {
  readonly ns: number;
  readonly right: number;
  readonly wrong: number;
  readonly failed: number;
  readonly lost: number;
  /** Nanoseconds of each query; none of a window. What is not right took the whole timeout. */
  readonly each: readonly number[];
}

export class Asker {
  readonly #program: Pinned;

  private constructor(program: Pinned) {
    this.#program = program;
  }

  /** `names`: a file, or `unique:SUFFIX`. */
  static async open(host: TestHost, names: string, timeoutMs: number, cpu: number): Promise<Asker> {
    const words = [await dnsAskProgram(), RESOLVER, '53', names, String(timeoutMs)];
    const program = new Pinned({ netns: host, cgroup: host }, words, cpu);
    await program.line(); // "ready"
    return new Asker(program);
  }

  /** `wait COUNT`, `window COUNT SIZE` or `pace COUNT RATE`. */
  async turn(words: string, timeoutMs = 120_000): Promise<Turn> {
    this.#program.say(words);
    const line = await this.#program.line(timeoutMs);
    const [ns = 0, right = 0, wrong = 0, failed = 0, lost = 0, ...each] = line
      .split(' ')
      .map(Number);
    return { ns, right, wrong, failed, lost, each };
  }

  async close(): Promise<void> {
    await this.#program.end();
  }
}

/** Waits until the server answers as it should. */
export async function answering({ name, host }: Server, names: string): Promise<void> {
  const asker = await Asker.open(host, names, 500, 0);
  await eventually(
    `right answers of ${name}`,
    async () => {
      const { wrong, failed, lost } = await asker.turn('wait 20');
      if (wrong + failed + lost > 0)
        throw new Error(`of 20 answers ${wrong} were wrong, ${failed} failed, ${lost} were lost`);
      return true;
    },
    { timeoutMs: 30_000, everyMs: 100 },
  );
  await asker.close();
}

/** What is added up of turns. */
export class Tally {
  right = 0;
  wrong = 0;
  failed = 0;
  lost = 0;
  readonly each: number[] = [];

  add(turn: Turn): void {
    this.right += turn.right;
    this.wrong += turn.wrong;
    this.failed += turn.failed;
    this.lost += turn.lost;
    for (const ns of turn.each) this.each.push(ns);
  }

  get bad(): string {
    return `${this.wrong} wrong, ${this.failed} failed, ${this.lost} lost`;
  }
}
