/** How `node --test` runs here, in the sealed run and beside a guest alike. */
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const preload = join(import.meta.dirname, '../test/harness/fast-check-seed.ts');

export const NODE_TEST = [
  `--import=${pathToFileURL(preload).href}`, // a file's children have other working directories
  '--test',
  '--test-concurrency=1', // files one by one: they share this machine's kernel
  '--test-timeout=900000',
] as const;
