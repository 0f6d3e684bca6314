/**
 * Where a process of a measurement runs: network namespace, cgroup, CPU.
 *
 * Every one is pinned to the same CPU, unless it is told otherwise, and runs under SCHED_FIFO, so that other
 * work on the machine delays no measurement and wake-ups are the same each time.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import type { TestHost } from '../harness/host.ts';
import { testEnvironment } from '../harness/child.ts';

/** The last CPU: interrupts and this process prefer the first. */
export const measuredCpu = availableParallelism() - 1;

export interface Place {
  readonly netns: TestHost;
  /** Its agent, if it has one, sees the sockets made here. */
  readonly cgroup: TestHost;
}

const START_MS = 10_000;

/** A pinned process that is talked to in lines. Ends with the host whose cgroup it is in. */
export class Pinned {
  readonly #process: ChildProcess;
  readonly #words: string;
  #lines: string[] = [];
  #rest = '';
  #errors = '';
  #wanted: { resolve: (line: string) => void; reject: (error: Error) => void } | undefined;
  #ended = false;

  constructor(place: Place, command: readonly string[], cpu = measuredCpu) {
    this.#words = command.join(' ');
    const enter = ['sh', '-c', 'echo 0 >"$0" && exec "$@"', `${place.cgroup.cgroup}/cgroup.procs`];
    const pin = ['taskset', '-c', String(cpu), 'chrt', '-f', '1'];
    this.#process = spawn(
      'nsenter',
      [`--net=/run/netns/${place.netns.name}`, ...enter, ...pin, ...command],
      { stdio: 'pipe', env: testEnvironment() },
    );
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => this.#read(text));
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
    this.#process.stdin?.on('error', () => {}); // it may be gone
    this.#process.on('close', () => {
      this.#ended = true;
      this.#wanted?.reject(this.#gone());
    });
  }

  /** How it ended, if it did. */
  get ended(): Error | undefined {
    return this.#ended ? this.#gone() : undefined;
  }

  /** Its next line. */
  line(timeoutMs = START_MS): Promise<string> {
    const ready = this.#lines.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    if (this.#ended) return Promise.reject(this.#gone());
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () => reject(new Error(`${this.#words} said nothing for ${timeoutMs} ms`)),
        timeoutMs,
      );
      const done =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(late);
          this.#wanted = undefined;
          then(value);
        };
      this.#wanted = { resolve: done(resolve), reject: done(reject) };
    });
  }

  say(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  /** Lets it end by closing its input. */
  async end(): Promise<void> {
    if (this.#ended) return;
    const closed = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.stdin?.end();
    await closed;
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    this.#lines.push(...lines);
    if (this.#wanted !== undefined && this.#lines.length > 0)
      this.#wanted.resolve(this.#lines.shift() ?? '');
  }

  #gone(): Error {
    return new Error(`${this.#words} ended: ${this.#errors.trim()}`);
  }
}
