/** dns-upstream.c on a test host: name servers with manners as told. */
import type { TestHost } from '../harness/host.ts';
import { Pinned } from './place.ts';
import { dnsUpstreamProgram } from './programs.ts';

export const UPSTREAMS = ['10.53.0.1', '10.53.0.2', '10.53.0.3'] as const;

/** Microseconds, `drop`, `servfail` or `gone`. */
export type Manner = number | 'drop' | 'servfail' | 'gone';

export class Upstreams {
  readonly #program: Pinned;

  private constructor(program: Pinned) {
    this.#program = program;
  }

  static async open(host: TestHost, cpu: number): Promise<Upstreams> {
    for (const at of UPSTREAMS) await host.ip('address', 'add', `${at}/32`, 'dev', 'lo');
    const words = [await dnsUpstreamProgram(), ...UPSTREAMS];
    const program = new Pinned({ netns: host, cgroup: host }, words, cpu);
    await program.line(); // "ready"
    return new Upstreams(program);
  }

  async behave(at: (typeof UPSTREAMS)[number], manner: Manner): Promise<void> {
    this.#program.say(`${at} ${manner}`);
    await this.#program.line();
  }

  async behaveAll(manners: readonly Manner[]): Promise<void> {
    for (const [nth, at] of UPSTREAMS.entries()) await this.behave(at, manners[nth] ?? 'drop');
  }

  /** Queries that all of them have had so far. */
  async queries(): Promise<number> {
    this.#program.say('counts');
    const counts = (await this.#program.line()).split(' ').map(Number);
    return counts.reduce((sum, count) => sum + count, 0);
  }
}
