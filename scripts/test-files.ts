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

/** Whose outcome depends on the kernel: of the contracts that of `run`, as a guest's disk is no real one. */
const KERNEL_FOLDERS = ['scenarios', 'addon', 'bpf', 'system', 'cluster'];

/**
 * What each row of the matrix runs unless told --full: filters, as for scripts/test. Chosen by what a kernel can break,
 * and by time in an emulated guest (vagrant/README.md).
 */
const SHORT_SET = ['addon/probe', 'addon/program', 'bpf'];
/** Besides: the scenarios of access control on the oldest and the newest kernel, the data path on those between. */
const OF_ENDS = ['system/acl-scenarios'];
const OF_OTHERS = ['system/datapath'];
const ENDS = ['5.10', '7'];
/** Without bpf in lsm= the cgroup hooks judge, as they do in the scenarios on this machine. */
const SHORT_SET_WITHOUT_LSM = ['bpf'];

/** As far as the choice of tests goes: vagrant/qemu/rows.ts has the rest. */
interface MatrixRow {
  readonly name: string;
  readonly bpfLsm: boolean;
}

function shortSet({ name, bpfLsm }: MatrixRow): readonly string[] {
  if (!bpfLsm) return SHORT_SET_WITHOUT_LSM;
  return [...SHORT_SET, ...(ENDS.includes(name) ? OF_ENDS : OF_OTHERS)];
}

/** Tests left out of the short set, by name, for the time they take in an emulated guest. */
const SHORT_SET_SKIPS = ['swapping a pinned link under load', '20,000 connects', '^Java'];

/**
 * As --test-skip-pattern of node takes them. Where BPF LSM judges, the cgroup hooks alone are left to
 * other rows; DNS, which asks for no LSM, is left to rows with it.
 */
export const shortSetSkips = (bpfLsm: boolean): readonly string[] => [
  ...SHORT_SET_SKIPS,
  ...(bpfLsm ? ['by cgroup hooks$', ', judged by cgroup:'] : ['^this kernel answers a name']),
];

export const dependsOnKernel = (file: string): boolean =>
  KERNEL_FOLDERS.includes(folderOf(file)) || file === 'test/contract/run.test.ts';

/** Test files for a guest: the short set, all that depend on the kernel, or what the filters mean. */
export function guestTestFiles(
  filters: readonly string[],
  full: boolean,
  row: MatrixRow,
): string[] {
  const found = testFiles(filters).filter((file) => folderOf(file) !== 'vm');
  const dependent = found.filter(dependsOnKernel);
  // Asked for by name, anything can be run in a guest.
  if (filters.length > 0) return dependent.length > 0 ? dependent : found;
  if (full) return dependent;
  const short = testFiles(shortSet(row));
  return dependent.filter((file) => short.includes(file));
}
