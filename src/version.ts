/**
 * The version in package.json, which lies above src/ and above dist/src/ alike.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

let known: string | undefined;

/** Of this process: as it was when it was first asked for. */
export function version(): string {
  known ??= read();
  return known;
}

function read(): string {
  let directory = import.meta.dirname;
  while (!existsSync(join(directory, 'package.json'))) {
    if (directory === dirname(directory)) return 'unknown';
    directory = dirname(directory);
  }
  const found = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as {
    version?: string;
  };
  return found.version ?? 'unknown';
}
