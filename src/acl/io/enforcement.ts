/**
 * Which of the kernel's doors judge: BPF LSM and the cgroup hooks, the cgroup
 * hooks alone, or none. Found by trying, never by version number.
 */
import { existsSync, readFileSync } from 'node:fs';
import { probe } from '../../../addon/index.ts';
import { ProblemError } from '../../state/problem.ts';

/** zh_acl_mode of bpf/acl.h */
export const aclMode = { none: 0, cgroup: 1, lsm: 2 } as const;
export type EnforcementName = keyof typeof aclMode;

/** `acl.enforcement` of the configuration. */
export type WantedEnforcement = 'auto' | 'lsm' | 'cgroup';

export interface Enforcement {
  readonly name: EnforcementName;
  /** `BPF LSM + cgroup hooks` */
  readonly text: string;
  /** Why not more; why at all where it was asked for. */
  readonly why: string;
  /** Ways past the rules on this host, each a sentence; empty when all is judged. */
  readonly notCovered: readonly string[];
}

const texts: Readonly<Record<EnforcementName, string>> = {
  lsm: 'BPF LSM + cgroup hooks',
  cgroup: 'cgroup hooks only',
  none: 'none',
};

/** Whatever judges. */
const neverSeen = [
  'calls of AF_RXRPC sockets: no hook is shown their addresses',
  'packets that a program with CAP_NET_RAW forges on packet sockets (AF_PACKET, AF_XDP) or under its own IP header on raw ones, and io on tun devices',
];

const uncovered: Readonly<Record<EnforcementName, readonly string[]>> = {
  lsm: neverSeen,
  cgroup: [
    'raw, SCTP, DCCP, L2TP and ping sockets, and connect() of UDP-Lite: no cgroup hook is called for them',
    'a socket that was made in a cgroup outside the agent’s and passed on',
    ...neverSeen,
  ],
  none: ['everything: rules are stored, and none is enforced'],
};

const lsmFile = '/sys/kernel/security/lsm';

/** Why BPF LSM programs would not judge here; undefined when they would. */
export function whyNoLsm(): string | undefined {
  let order: string;
  try {
    order = readFileSync(lsmFile, 'utf8').trim();
  } catch {
    return `${lsmFile} cannot be read, so it is not known whether this kernel asks BPF LSM (mount -t securityfs securityfs /sys/kernel/security)`;
  }
  if (!order.split(',').includes('bpf')) {
    return `this kernel runs without bpf among its security modules (${order}); boot with lsm=${order},bpf`;
  }
  try {
    if (probe.programType('BPF_PROG_TYPE_LSM')) return undefined;
  } catch {
    // As if it had said no.
  }
  return 'the kernel has BPF LSM, but does not let this process load such a program (a policy of this machine, or CAP_PERFMON is missing)';
}

function enforcement(name: EnforcementName, why: string): Enforcement {
  return { name, text: texts[name], why, notCovered: uncovered[name] };
}

/** Why nothing can be judged here, by any door; undefined when it can. */
function whyNothing(): string | undefined {
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    return 'the kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which access control needs';
  }
  try {
    if (probe.helper('BPF_PROG_TYPE_CGROUP_SOCK_ADDR', 'probe_read_kernel')) return undefined;
  } catch {
    // As if it had said no.
  }
  return 'programs may not read who calls them (kernel lockdown in confidentiality mode, or CAP_PERFMON is missing)';
}

/** What will be in force. Throws ProblemError when exactly what was asked for cannot be had. */
export function chooseEnforcement(wanted: WantedEnforcement): Enforcement {
  const nothing = whyNothing();
  const noLsm = nothing ?? whyNoLsm();
  if (wanted === 'lsm' && noLsm !== undefined) {
    throw new ProblemError([
      {
        code: 'unavailable',
        message: `acl.enforcement is lsm, but ${noLsm}`,
        path: 'acl.enforcement',
        hint: 'set it to auto: the cgroup hooks judge then; zerohop doctor says what they do not cover',
      },
    ]);
  }
  if (nothing !== undefined) return enforcement('none', nothing);
  if (wanted === 'cgroup') return enforcement('cgroup', 'acl.enforcement is cgroup');
  if (noLsm !== undefined) return enforcement('cgroup', noLsm);
  return enforcement('lsm', 'the kernel has BPF LSM, and it is on');
}
