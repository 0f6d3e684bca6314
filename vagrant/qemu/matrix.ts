// The matrix: for each row a guest that runs the repository's own scripts/test, its output line by line with the row's
// name before it, and what came of it. Honest about rows that did not run.
import { execFileSync } from 'node:child_process';
import { KernelUnavailable, type Say } from './fetch.ts';
import { checkout, shellWords } from './guest.ts';
import { guestsAtOnce, needMachine } from './machine.ts';
import type { TestResult } from './reporter.ts';
import type { Row } from './rows.ts';
import { run, type RunEnd } from './run.ts';

const RESULTS = '/.vm/results';
const MEMORY_MB = 2048;

export interface FileResult {
  readonly pass: number;
  readonly fail: number;
  readonly skip: number;
  readonly failed: readonly string[];
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
}

export interface RowResult {
  readonly row: string;
  /** Debian's package and version; empty when it could not be had. */
  readonly kernel: string;
  readonly verdict: 'passed' | 'failed' | 'not run';
  /** Why it did not pass. */
  readonly why: readonly string[];
  readonly seconds: number;
  readonly files: Readonly<Record<string, FileResult>>;
}

export interface MatrixOptions {
  readonly rows: readonly Row[];
  /** Test files for a row. */
  readonly filesFor: (row: Row) => readonly string[];
  /** For `node --test`. */
  readonly nodeArgumentsFor: (row: Row) => readonly string[];
  readonly timeoutMs: number;
  readonly jobs?: number | undefined;
  readonly say: Say;
}

/** Whole lines, each with the row's name before it; what comes in pieces waits for its end. */
function lines(
  prefix: string,
  stream: NodeJS.WriteStream,
): {
  take: (data: Buffer) => void;
  end: () => void;
} {
  const decoder = new TextDecoder();
  let rest = '';
  const print = (text: string): void => void stream.write(`${prefix}${text}\n`);
  return {
    take: (data) => {
      const parts = (rest + decoder.decode(data, { stream: true })).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) print(part);
    },
    end: () => {
      if (rest !== '') print(rest);
    },
  };
}

/** What the reporter wrote, counted by file. */
export function countResults(text: string): Record<string, FileResult> {
  const files: Record<string, FileResult> = {};
  for (const line of text.split('\n').filter(Boolean)) {
    const { file, name, outcome, reason = 'no reason given' } = JSON.parse(line) as TestResult;
    const sum = files[file] ?? { pass: 0, fail: 0, skip: 0, failed: [], skipped: [] };
    files[file] = {
      pass: sum.pass + Number(outcome === 'pass'),
      fail: sum.fail + Number(outcome === 'fail'),
      skip: sum.skip + Number(outcome === 'skip'),
      failed: outcome === 'fail' ? [...sum.failed, name] : sum.failed,
      skipped: outcome === 'skip' ? [...sum.skipped, { name, reason }] : sum.skipped,
    };
  }
  return files;
}

export const total = (row: RowResult, what: 'pass' | 'fail' | 'skip'): number =>
  Object.values(row.files).reduce((sum, file) => sum + file[what], 0);

/** Everything that keeps a row from having passed. */
export function faults(
  end: Pick<RunEnd, 'code' | 'died' | 'problems'>,
  files: Readonly<Record<string, FileResult>>,
  expected: readonly string[],
): string[] {
  const silent = expected.filter((file) => files[file] === undefined);
  const failed = Object.entries(files).flatMap(([file, { failed: names }]) =>
    names.map((name) => `${file}: ${name}`),
  );
  return [
    ...(end.code === 124 ? ['killed after its time was up'] : []),
    ...(end.died && end.code !== 124 ? ['the guest died'] : []),
    ...failed,
    ...(!end.died && end.code !== 0 && failed.length === 0
      ? [`scripts/test ended with exit code ${end.code}`]
      : []),
    ...(!end.died && silent.length > 0 ? [`nothing heard of ${silent.join(', ')}`] : []),
    ...end.problems.map((problem) => `kernel: ${problem}`),
  ];
}

async function runRow(row: Row, options: MatrixOptions): Promise<RowResult> {
  const prefix = `${row.name.padEnd(10)} | `;
  const [out, err] = [lines(prefix, process.stdout), lines(prefix, process.stderr)];
  const testFiles = options.filesFor(row);
  const start = performance.now();
  const result = (
    kernel: string,
    why: readonly string[],
    files: RowResult['files'],
    verdict: RowResult['verdict'] = why.length === 0 ? 'passed' : 'failed',
  ): RowResult => ({
    row: row.name,
    kernel,
    verdict,
    why,
    seconds: Math.round((performance.now() - start) / 1000),
    files,
  });
  try {
    const end = await run({
      row,
      command: shellWords([
        './scripts/test',
        '--tests-only',
        ...testFiles,
        '--',
        ...options.nodeArgumentsFor(row),
      ]),
      cwd: checkout,
      env: { ZEROHOP_TEST_RESULTS: RESULTS, ...forwarded() },
      timeoutMs: options.timeoutMs,
      memoryMb: MEMORY_MB,
      out: out.take,
      err: err.take,
      say: (text) => options.say(`${row.name}: ${text}`),
    });
    const files = countResults(end.results);
    return result(end.kernel.package, faults(end, files, testFiles), files);
  } catch (error) {
    if (!(error instanceof KernelUnavailable)) throw error;
    return result('', [error.message], {}, 'not run');
  } finally {
    out.end();
    err.end();
  }
}

/** Of our environment, what tests listen to. */
function forwarded(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      /^(ZEROHOP_TEST_SEED|CI|NO_COLOR)$/.test(name) && value !== undefined ? [[name, value]] : [],
    ),
  );
}

export async function runMatrix(options: MatrixOptions): Promise<RowResult[]> {
  needMachine();
  // Compilers take a hundred times longer in an emulated guest, and what they make there is lost.
  execFileSync(
    process.execPath,
    ['-e', "await (await import('./test/harness/programs.ts')).compileAll()"],
    { cwd: checkout, stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const jobs = options.jobs ?? guestsAtOnce(MEMORY_MB);
  const waiting = [...options.rows];
  const results = new Map<string, RowResult>();
  const worker = async (): Promise<void> => {
    for (let row = waiting.shift(); row !== undefined; row = waiting.shift()) {
      const result = await runRow(row, options);
      results.set(row.name, result);
      options.say(summary(result));
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return options.rows.flatMap((row) => results.get(row.name) ?? []);
}

export function summary(result: RowResult): string {
  const counts = `${total(result, 'pass')} passed, ${total(result, 'fail')} failed, ${total(result, 'skip')} skipped`;
  const head = `${result.row.padEnd(10)} ${result.verdict.toUpperCase()}`;
  const why = result.why.map((line) => `\n    ${line}`).join('');
  if (result.verdict === 'not run') return `${head}${why}`;
  return `${head}: ${counts} in ${result.seconds} s (${result.kernel})${why}`;
}
