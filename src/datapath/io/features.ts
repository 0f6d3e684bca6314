/**
 * What this kernel can do, asked by loading tiny programs (never by version
 * number: distributions backport).
 */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { probe } from '../../../addon/index.ts';
import { whyNoLsm } from '../../acl/io/enforcement.ts';

export interface Feature {
  readonly name: string;
  readonly available: boolean;
  /** Without it the agent cannot run. */
  readonly required: boolean;
  /** First kernel that has it. */
  readonly since: string;
  /** What is different without it. */
  readonly without: string;
}

const SOCK_ADDR = 'BPF_PROG_TYPE_CGROUP_SOCK_ADDR';

function attempt(check: () => boolean): boolean {
  try {
    return check();
  } catch {
    return false;
  }
}

/** bpf_set_retval in sock_addr programs (187 in enum bpf_func_id). */
export function haveSetRetval(): boolean {
  return attempt(() => probe.helper(SOCK_ADDR, 187));
}

/** bpf_skc_to_mptcp_sock in sock_addr programs (196 in enum bpf_func_id). */
export function canTellSubflows(): boolean {
  return attempt(() => probe.helper(SOCK_ADDR, 196));
}

/**
 * Whether a BPF LSM program can be attached again after it was detached: Linux
 * ≥ 5.13 ("bpf: Allow trampoline re-attach for tracing and lsm programs"). By
 * version, since to try would use a program up; where a distribution has it
 * earlier, nothing is lost but a little time in connect().
 */
export function lsmReattaches(kernel = release()): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => parseInt(part, 10));
  return major > 5 || (major === 5 && minor >= 13);
}

/** Every feature that something in zerohop uses or degrades without. */
export function probeFeatures(): Feature[] {
  return [
    {
      name: 'cgroup sock_addr programs',
      available: attempt(() => probe.programType(SOCK_ADDR)),
      required: true,
      since: '4.17',
      without: 'no service VIPs at all',
    },
    {
      name: 'cgroup sock_release programs',
      available: attempt(() => probe.programType('BPF_PROG_TYPE_CGROUP_SOCK')),
      required: true,
      since: '5.9',
      without: 'sockets would never be forgotten',
    },
    {
      name: 'socket storage maps',
      available: attempt(() => probe.mapType('BPF_MAP_TYPE_SK_STORAGE')),
      required: true,
      since: '5.2',
      without: 'unconnected UDP could not be answered from the VIP',
    },
    {
      name: 'socket cookie helper',
      available: attempt(() => probe.helper(SOCK_ADDR, 46)),
      required: true,
      since: '4.12',
      without: 'getpeername could not show the VIP',
    },
    {
      name: 'bpf_set_retval',
      available: haveSetRetval(),
      required: false,
      since: '5.18',
      without:
        'a service with no usable backend refuses through a closed loopback port: UDP connect() succeeds and the error comes with the first datagram',
    },
    {
      name: 'bpf_skc_to_mptcp_sock',
      available: canTellSubflows(),
      required: false,
      since: '5.19, kernel BTF',
      without: 'each MPTCP connection to a VIP takes a place in zh_socks for good',
    },
    {
      name: 'ring buffer',
      available: attempt(() => probe.mapType('BPF_MAP_TYPE_RINGBUF')),
      required: false,
      since: '5.8',
      without: 'no events from the kernel (access control log)',
    },
    {
      name: 'kernel BTF',
      available: existsSync('/sys/kernel/btf/vmlinux'),
      required: false,
      since: '5.4, CONFIG_DEBUG_INFO_BTF',
      without: 'services work; access control does not: rules are stored, and none is enforced',
    },
    {
      name: 'BPF LSM',
      available: whyNoLsm() === undefined,
      required: false,
      since: '5.7, lsm=…,bpf on the kernel command line',
      without: 'the cgroup hooks judge alone; raw, SCTP, DCCP and ping sockets are then not judged',
    },
  ];
}

/** Capabilities the agent needs, with what for (capabilities(7)). */
const needed = [
  { bit: 39, name: 'CAP_BPF', coveredBy: 21, why: 'load programs and open maps' },
  { bit: 38, name: 'CAP_PERFMON', coveredBy: 21, why: 'see who calls, for access control' },
  { bit: 12, name: 'CAP_NET_ADMIN', coveredBy: undefined, why: 'attach cgroup socket programs' },
] as const;

/** Capabilities that are missing, `CAP_BPF (load programs and open maps)`. CAP_SYS_ADMIN covers the first two. */
export function missingCapabilities(): string[] {
  const status = readFileSync('/proc/self/status', 'utf8');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const has = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
  return needed
    .filter(({ bit, coveredBy }) => !has(bit) && !(coveredBy !== undefined && has(coveredBy)))
    .map(({ name, why }) => `${name} (${why})`);
}
