// The rows of the kernel matrix: a Debian kernel, with BPF LSM switched on at boot or not. Names only; touches nothing.

export type Archive = 'debian' | 'security';

export interface KernelSource {
  /** Suites to look in, best first, and which of the machine's archives has them. */
  readonly suites: readonly (readonly [suite: string, archive: Archive])[];
  /** Of the package with the kernel image. */
  readonly pattern: RegExp;
}

/** Debian renames and drops packages: only the series is fixed, the name is looked up when a kernel is fetched. */
const SOURCES: readonly (readonly [label: string, source: KernelSource])[] = [
  [
    '5.10',
    {
      suites: [
        ['bullseye-security', 'security'],
        ['bullseye', 'debian'],
      ],
      pattern: /^linux-image-5\.10\.[0-9.-]*-cloud-amd64$/,
    },
  ],
  [
    '6.1',
    {
      suites: [
        ['bookworm-security', 'security'],
        ['bookworm', 'debian'],
      ],
      pattern: /^linux-image-6\.1\.[0-9.-]*-cloud-amd64$/,
    },
  ],
  [
    '6.12',
    {
      suites: [
        ['trixie-security', 'security'],
        ['trixie', 'debian'],
        ['bookworm-backports', 'debian'],
      ],
      pattern: /^linux-image-6\.12\.\S*-cloud-amd64$/,
    },
  ],
  // From 7 on the image is in linux-binary-…, and linux-image-… is empty.
  ['7', { suites: [['sid', 'debian']], pattern: /^linux-binary-7\.\S*-cloud-amd64$/ }],
];
/** In this order. */
export const KERNELS: ReadonlyMap<string, KernelSource> = new Map(SOURCES);

export const DEFAULT_ROWS = ['5.10', '6.1', '6.12', '7', '5.10-nobpf', '6.12-nobpf'];
/** Gone from the archive now and then: the matrix says so, and does without, unless asked for by name. */
export const OPTIONAL_ROWS = ['7'];
/** Not a kernel but a wish, for where one guest stands in for a host that may not load BPF programs. */
export const NEWEST = 'newest';

export interface Row {
  /** As people write it: 6.12 or 6.12-nobpf. */
  readonly name: string;
  /** A key of KERNELS, or NEWEST. */
  readonly kernel: string;
  /** Whether lsm= on the kernel's command line names bpf. */
  readonly bpfLsm: boolean;
}

/** 6.1, 6.1+lsm: with BPF LSM. 6.1-nobpf, 6.1-lsm: without. */
export function parseRow(text: string): Row {
  const [, kernel = '', suffix = ''] = /^([0-9.]+|newest)(\+lsm|-lsm|-nobpf)?$/.exec(text) ?? [];
  if (kernel !== NEWEST && !KERNELS.has(kernel))
    throw new Error(
      `no kernel "${text}": there are ${[...KERNELS.keys()].join(', ')}, each also with -nobpf (no bpf in lsm=)`,
    );
  const bpfLsm = suffix === '' || suffix === '+lsm';
  return { name: bpfLsm ? kernel : `${kernel}-nobpf`, kernel, bpfLsm };
}
