// This checkout as it is now, for a guest: sources and what is built of them lie over the shared file system, so that
// an edit or a build on the host meanwhile changes nothing in a guest that runs. Large folders nobody edits are left out.
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Entry } from './cpio.ts';

const LEFT_OUT = ['node_modules', '.git', '.node', '.cache', 'addon/build', 'vagrant/.vagrant'];
const FILE_BYTES_MAX = 4 << 20; // packages and other things that lie around

/** Entries whose paths are `prefix` and the absolute path of the file. */
export function snapshot(checkout: string, prefix: string): Entry[] {
  const entries: Entry[] = [{ path: prefix, folder: true }];
  const parents = (path: string): void => {
    if (path !== '/') parents(dirname(path));
    if (path !== '/') entries.push({ path: prefix + path, folder: true });
  };
  parents(checkout);
  const walk = (folder: string): void => {
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      if (LEFT_OUT.includes(relative(checkout, path))) continue;
      try {
        add(path);
      } catch (error) {
        if ((error as { code?: string }).code !== 'ENOENT') throw error; // somebody just removed it
      }
    }
  };
  const add = (path: string): void => {
    const stat = lstatSync(path);
    if (stat.isSymbolicLink()) entries.push({ path: prefix + path, link: readlinkSync(path) });
    else if (stat.isDirectory()) {
      entries.push({ path: prefix + path, folder: true });
      walk(path);
    } else if (stat.isFile() && stat.size <= FILE_BYTES_MAX) {
      const executable = (stat.mode & 0o100) !== 0;
      entries.push({ path: prefix + path, data: readFileSync(path), executable });
    }
  };
  walk(checkout);
  return entries;
}
