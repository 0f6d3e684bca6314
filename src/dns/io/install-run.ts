/** Programs of the host that `dns install` runs: what they say, and what went wrong, for people. */
import { execFile } from 'node:child_process';

/** A guess: systemctl waits for resolved, which starts in less than a second. */
const COMMAND_TIMEOUT_MS = 30_000;
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

interface Outcome {
  readonly stdout: string;
  /** Absent: it went well. */
  readonly problem?: string;
}

function outcomeOf([file = '', ...args]: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { timeout: COMMAND_TIMEOUT_MS, env: { ...process.env, PATH } };
    execFile(file, args, options, (error, stdout, stderr) => {
      resolve(error === null ? { stdout } : { stdout, problem: stderr.trim() || error.message });
    });
  });
}

/** What went wrong, for people. */
export async function run(command: readonly string[]): Promise<string | undefined> {
  const { problem } = await outcomeOf(command);
  if (problem === undefined) return undefined;
  return `${command.join(' ')} failed (${problem}): run it by hand, or nothing changes`;
}

/** What it says; undefined: it is not there, or failed. */
export async function outputOf(command: readonly string[]): Promise<string | undefined> {
  const { stdout, problem } = await outcomeOf(command);
  return problem === undefined ? stdout : undefined;
}
