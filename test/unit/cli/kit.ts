/** The command line as processes, against an agent without a kernel. One for each test file. */
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { after, before } from 'node:test';
import { startApi, type ApiServer } from '../../../src/api/io/server.ts';
import { FakeEngine } from '../api/fake-engine.ts';

export interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The door, and what a shell runs for it. */
export const main = join(import.meta.dirname, '../../../src/main.ts');

export class Cli {
  readonly engine = new FakeEngine();
  readonly directory = mkdtempSync(join(tmpdir(), 'zerohop-cli-'));
  readonly socket = join(this.directory, 'agent.sock');
  readonly env: NodeJS.ProcessEnv = {
    ...process.env,
    // Types are stripped once, not in each of these processes.
    NODE_COMPILE_CACHE: join(this.directory, 'cache'),
    ZEROHOP_SOCKET: this.socket,
  };
  #api: ApiServer | undefined;
  #script: string | undefined;

  async start(): Promise<void> {
    const log = { debug: () => undefined, error: () => undefined };
    this.#api = await startApi(this.engine, { socketPath: this.socket, version: '0', log });
  }

  /** The agent ends; can be called again. */
  async stop(): Promise<void> {
    const api = this.#api;
    this.#api = undefined;
    await api?.close();
  }

  async run(
    args: readonly string[],
    { input = '', env = {} }: { input?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Result> {
    return await new Promise((resolve) => {
      const options = { env: { ...this.env, ...env } };
      const child = execFile(process.execPath, [main, ...args], options, (error, out, err) =>
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
      );
      child.stdin?.end(input);
    });
  }

  /** Succeeds, prints nothing on standard error, and gives back what it printed. */
  async must(...args: string[]): Promise<string> {
    const { code, out, err } = await this.run(args);
    assert.equal(code, 0, err);
    assert.equal(err, '');
    return out;
  }

  /** One that goes on. */
  spawn(...args: string[]): ChildProcessByStdio<null, Readable, Readable> {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    return spawn(process.execPath, [main, ...args], { env: this.env, stdio: [...stdio] });
  }

  /** What bash offers for the last of these words, with `zerohop` in front. */
  async complete(...typed: string[]): Promise<string[]> {
    this.#script ??= await this.must('completion', 'bash');
    const line = typed.map((word) => `'${word}'`).join(' ');
    const ask = `zerohop() { '${process.execPath}' '${main}' "$@"; }`;
    const text = `${ask}\n${this.#script}\nCOMP_WORDS=(zerohop ${line})\nCOMP_CWORD=${typed.length}\n_zerohop\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
    return await new Promise((resolve, reject) => {
      const options = { env: this.env, cwd: this.directory };
      execFile('bash', ['-c', text], options, (error, answer) =>
        error === null ? resolve(answer.split('\n').filter(Boolean)) : reject(error),
      );
    });
  }
}

/** Started before the tests of the file that asks for it, and gone after them. */
export function cliForTests(): Cli {
  const cli = new Cli();
  before(() => cli.start());
  after(async () => {
    await cli.stop();
    rmSync(cli.directory, { recursive: true });
  });
  return cli;
}
