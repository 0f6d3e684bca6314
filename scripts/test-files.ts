// Which test files there are, and which of them a filter means. Runs nothing.
import { globSync } from 'node:fs';

export const FOLDERS = [
  'unit',
  'contract',
  'sim',
  'scenarios',
  'vm',
  'addon',
  'bpf',
  'system',
  'cluster',
];

const folderOf = (file: string): string => file.split('/')[1] ?? '';

/** All test files, or those that one of the filters means: a folder of test/, or a part of the path. */
export function testFiles(filters: readonly string[]): string[] {
  return globSync('test/**/*.test.ts')
    .filter((file) => FOLDERS.includes(folderOf(file)))
    .filter((file) => filters.length === 0 || filters.some((filter) => matches(file, filter)))
    .toSorted(
      (a, b) => FOLDERS.indexOf(folderOf(a)) - FOLDERS.indexOf(folderOf(b)) || (a < b ? -1 : 1),
    );
}

function matches(file: string, filter: string): boolean {
  const wanted = filter.replace(/^\.\//, '').replace(/\/$/, '');
  return FOLDERS.includes(wanted) ? folderOf(file) === wanted : file.includes(wanted);
}

/** Whose outcome depends on the kernel. */
const KERNEL_FOLDERS = ['scenarios', 'addon', 'bpf', 'system', 'cluster'];

/**
 * What each kernel of the matrix runs unless told --full: filters, as for scripts/test. Chosen by what a kernel can
 * break, and by time in an emulated guest (vagrant/README.md).
 */
export const SHORT_SET = [
  'addon/errors',
  'addon/map',
  'addon/object',
  'addon/probe',
  'addon/program',
  'addon/ringbuf',
  'bpf',
  'acl', // wherever they are
  'system/datapath',
  'system/refuge',
  'system/repair',
  'system/sockets',
  'system/start',
];

/** Left out of the short set by name: a JVM takes 20 s to start in an emulated guest, and makes the same calls as C. */
export const SHORT_SET_SKIPS = 'Java';

export const dependsOnKernel = (file: string): boolean => KERNEL_FOLDERS.includes(folderOf(file));

/** Test files for a guest: the short set, all that depend on the kernel, or what the filters mean. */
export function guestTestFiles(filters: readonly string[], full: boolean): string[] {
  const found = testFiles(filters).filter((file) => folderOf(file) !== 'vm');
  const dependent = found.filter(dependsOnKernel);
  // Asked for by name, anything can be run in a guest.
  if (filters.length > 0) return dependent.length > 0 ? dependent : found;
  if (full) return dependent;
  const short = testFiles(SHORT_SET);
  return dependent.filter((file) => short.includes(file));
}
