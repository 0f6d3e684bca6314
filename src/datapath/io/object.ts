/** Where the built BPF object is: dist/bpf, from a checkout or from the package. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProblemError } from '../../state/problem.ts';

/** The folder that holds package.json. */
export function packageRoot(): string {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(at, 'package.json')) && dirname(at) !== at) at = dirname(at);
  return at;
}

export function objectPath(object: 'zerohop' | 'zerohop_dns' = 'zerohop'): string {
  const path = join(packageRoot(), 'dist', 'bpf', `${object}.bpf.o`);
  if (!existsSync(path)) {
    throw new ProblemError([
      {
        code: 'unavailable',
        message: `the BPF object ${path} is missing`,
        hint: 'build it: scripts/build (from a checkout), or install the package again',
      },
    ]);
  }
  return path;
}
