/** Whether a run finds what is wrong with a copy of the sources in which one place was broken on purpose. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Break {
  readonly what: string;
  /** From the root of the checkout. */
  readonly file: string;
  /** Is there exactly once. */
  readonly from: string;
  readonly to: string;
}

export interface Found {
  /** Undefined: it survived. */
  readonly seed: number | undefined;
  readonly violation: string;
}

export interface Search {
  /** What is copied. */
  readonly folders: readonly string[];
  /** A module that ends with 1 and prints `SEED<tab>VIOLATION` when it finds something. */
  readonly runner: string;
  readonly args: readonly string[];
}

const TRY_MS = 600_000;

export function findBreak({ what, file, from, to }: Break, search: Search): Found {
  const dir = mkdtempSync(join(tmpdir(), 'zh-broken.'));
  try {
    for (const folder of search.folders) cpSync(folder, join(dir, folder), { recursive: true });
    symlinkSync(join(process.cwd(), 'node_modules'), join(dir, 'node_modules'));
    writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');
    const path = join(dir, file);
    const source = readFileSync(path, 'utf8');
    if (source.split(from).length !== 2)
      throw new Error(`mutation "${what}": its lines are not in ${file} exactly once`);
    writeFileSync(
      path,
      source.replace(from, () => to),
    );
    writeFileSync(join(dir, 'run.ts'), search.runner);
    const args = [join(dir, 'run.ts'), ...search.args];
    const run = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: dir, timeout: TRY_MS });
    if (run.status === 0) return { seed: undefined, violation: 'survived' };
    if (run.signal !== null)
      return { seed: undefined, violation: `nothing found in ${TRY_MS / 1000} s` };
    const [seed, violation] = run.stdout.trim().split('\t');
    if (seed === undefined || violation === undefined)
      throw new Error(`mutation "${what}" does not run: ${run.stderr.slice(0, 300)}`);
    return { seed: Number(seed), violation: violation.slice(0, 160) };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
