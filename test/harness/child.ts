/** A child process with its output kept, bounded waits, and a sure end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { eventually, within } from './eventually.ts';

const OUTPUT_CHARS_MAX = 64 * 1024 * 1024;

export interface SpawnOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Written to standard input, which is then closed; without it standard input stays open. */
  readonly input?: string;
}

export interface Result {
  /** Exit code, or 128 + signal number as shells say it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Child {
  readonly #process: ChildProcess;
  readonly #words: string;
  readonly #readers = new Set<() => void>();
  stdout = '';
  stderr = '';
  /** Resolves when the process is gone and its output is read. Never rejects. */
  readonly exited: Promise<Result>;
  running = true;

  constructor(command: readonly string[], options: SpawnOptions = {}) {
    const [file, ...args] = command;
    if (file === undefined) throw new Error('an empty command');
    this.#words = command.join(' ');
    this.#process = spawn(file, args, {
      stdio: 'pipe',
      env: options.env ?? testEnvironment(),
      cwd: options.cwd,
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (this.stdout.length < OUTPUT_CHARS_MAX) this.stdout += text;
      for (const look of this.#readers) look();
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (this.stderr.length < OUTPUT_CHARS_MAX) this.stderr += text;
    });
    this.#process.stdin?.on('error', () => {}); // the child may be gone
    if (options.input !== undefined) this.#process.stdin?.end(options.input);
    this.exited = new Promise((resolve) => {
      this.#process.on('error', (error) => {
        this.running = false;
        resolve({ code: 127, stdout: '', stderr: error.message });
      });
      this.#process.on('close', (code, signal) => {
        this.running = false;
        const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
        resolve({ code: status, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  get pid(): number {
    const pid = this.#process.pid;
    if (pid === undefined) throw new Error(`${this.#words} did not start`);
    return pid;
  }

  /** Closes standard input, after some last words. */
  endInput(words = ''): void {
    this.#process.stdin?.end(words);
  }

  /** Writes to standard input. */
  say(words: string): void {
    this.#process.stdin?.write(words);
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.#process.kill(signal);
  }

  /** Waits for the end; past the bound kills the process and throws. */
  async result(timeoutMs = 30_000): Promise<Result> {
    try {
      return await within(`the end of ${this.#words}`, this.exited, timeoutMs);
    } catch (error) {
      this.kill();
      throw new Error(`${(error as Error).message}\n${this.stdout}\n${this.stderr}`, {
        cause: error,
      });
    }
  }

  /** Asks the process to end with `signal`, waits, kills it if it does not. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 10_000): Promise<Result> {
    if (this.running) this.kill(signal);
    return await this.result(timeoutMs);
  }

  /** Waits for a line of standard output, counted from 0; costs nothing until something is printed. */
  async line(n: number, timeoutMs: number): Promise<string> {
    const found = new Promise<string>((resolve) => {
      const look = (): void => {
        const line = this.stdout.split('\n').slice(0, -1)[n];
        if (line === undefined) return;
        this.#readers.delete(look);
        resolve(line);
      };
      this.#readers.add(look);
      look();
    });
    return await within(`line ${n} of ${this.#words}`, found, timeoutMs);
  }

  /** Waits until the output matches; throws when the process ends first. */
  async says(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpExecArray> {
    const found = await eventually(
      `${String(pattern)} from ${this.#words}`,
      () => {
        const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
        if (match !== null) return match;
        return this.running ? undefined : null;
      },
      { timeoutMs },
    );
    if (found === null)
      throw new Error(
        `${this.#words} ended without ${String(pattern)}\n${this.stdout}\n${this.stderr}`,
      );
    return found;
  }
}

/** This process' environment without what would make a child take itself for a part of the test runner. */
export function testEnvironment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { NODE_TEST_CONTEXT: _context, NODE_OPTIONS: _options, ...rest } = process.env;
  return { ...rest, ...extra };
}

/** Runs a command to its end. Throws when it fails. */
export async function run(
  command: readonly string[],
  { timeoutMs = 120_000, ...options }: SpawnOptions & { readonly timeoutMs?: number } = {},
): Promise<string> {
  const child = new Child(command, { input: '', ...options });
  const { code, stdout, stderr } = await child.result(timeoutMs);
  if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}\n${stderr}${stdout}`);
  return stdout;
}
