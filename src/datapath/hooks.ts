/**
 * The programs of bpf/zerohop.bpf.c, and which maps belong together.
 *
 * Order of attachment: what undoes a rewrite comes before what rewrites, so
 * that no socket is ever rewritten without being remembered.
 */

export interface Hook {
  readonly program: string;
  /** Section and pin name, and what `status` shows. */
  readonly name: string;
  /** enum bpf_attach_type */
  readonly attachType: string;
}

/** A program whose section names its place in the kernel: lsm/…, raw_tp/… */
export interface TraceHook {
  readonly program: string;
  readonly name: string;
  readonly attachType?: undefined;
  /** Of raw_tp/…: which. */
  readonly tracepoint?: string;
}

export type AnyHook = Hook | TraceHook;

export const hooks: readonly Hook[] = [
  { program: 'zh_sock_release', name: 'sock_release', attachType: 'BPF_CGROUP_INET_SOCK_RELEASE' },
  { program: 'zh_getpeername4', name: 'getpeername4', attachType: 'BPF_CGROUP_INET4_GETPEERNAME' },
  { program: 'zh_getpeername6', name: 'getpeername6', attachType: 'BPF_CGROUP_INET6_GETPEERNAME' },
  { program: 'zh_recvmsg4', name: 'recvmsg4', attachType: 'BPF_CGROUP_UDP4_RECVMSG' },
  { program: 'zh_recvmsg6', name: 'recvmsg6', attachType: 'BPF_CGROUP_UDP6_RECVMSG' },
  { program: 'zh_connect4', name: 'connect4', attachType: 'BPF_CGROUP_INET4_CONNECT' },
  { program: 'zh_connect6', name: 'connect6', attachType: 'BPF_CGROUP_INET6_CONNECT' },
  { program: 'zh_sendmsg4', name: 'sendmsg4', attachType: 'BPF_CGROUP_UDP4_SENDMSG' },
  { program: 'zh_sendmsg6', name: 'sendmsg6', attachType: 'BPF_CGROUP_UDP6_SENDMSG' },
];

/**
 * Access control, attached only while a policy needs it. watch: new cgroups are
 * classified; judge: BPF LSM (where that is in force); ingress: sources outside.
 */
export const aclHooks = {
  watch: [
    { program: 'zh_cgroup_mkdir', name: 'cgroup_mkdir', tracepoint: 'cgroup_mkdir' },
    { program: 'zh_cgroup_rmdir', name: 'cgroup_rmdir', tracepoint: 'cgroup_rmdir' },
  ],
  judge: [
    { program: 'zh_lsm_connect', name: 'lsm_connect' },
    { program: 'zh_lsm_sendmsg', name: 'lsm_sendmsg' },
    { program: 'zh_lsm_sctp', name: 'lsm_sctp' },
  ],
  ingress: [{ program: 'zh_ingress', name: 'ingress', attachType: 'BPF_CGROUP_INET_INGRESS' }],
} as const satisfies Record<string, readonly AnyHook[]>;

export type AclPart = keyof typeof aclHooks;
export const aclParts: readonly AclPart[] = ['watch', 'judge', 'ingress'];

/** Written by the reconciler alone, from state: can be made anew at any time. */
export const tableMaps = [
  'zh_vips',
  'zh_services',
  'zh_slots',
  'zh_backends',
  'zh_names',
  'zh_svc_stats',
  'zh_bk_stats',
  'zh_meta',
] as const;

/** Written by the programs: what living sockets asked for. Nobody else knows it. */
export const socketMaps = ['zh_socks', 'zh_socks_more', 'zh_flows', 'zh_counters'] as const;

/** Of access control: the policy from state, what the kernel counted, and what new cgroups are. */
export const aclMaps = [
  'zh_acl_gens',
  'zh_acl_dests',
  'zh_acl_cidrs',
  'zh_acl_matches',
  'zh_acl_sources',
  'zh_acl_cgroups',
  'zh_acl_globs',
  'zh_acl_emits',
  'zh_acl_places',
  'zh_acl_rules',
  'zh_acl_stats',
  'zh_acl_counts',
  'zh_acl_events',
  'zh_acl',
] as const;

/** Of DNS in the kernel, in an object of its own (src/dns/io/kernel.ts); nobody adopts them. */
export const dnsMaps = ['zh_dns_names', 'zh_dns_config', 'zh_dns_netns', 'zh_dns_counts'] as const;

export type DnsMapName = (typeof dnsMaps)[number];
export type AclMapName = (typeof aclMaps)[number];
export type MapName =
  | (typeof tableMaps)[number]
  | (typeof socketMaps)[number]
  | AclMapName
  | DnsMapName;

export interface MapSizes {
  readonly services: number;
  readonly backends: number;
  readonly slots: number;
  readonly sockets: number;
  readonly socketsSpilled: number;
  readonly aclRules: number;
  readonly aclEntries: number;
  readonly aclCgroups: number;
  readonly aclGlobs: number;
}

/** max_entries by map; maps not named here have a fixed size. */
export function entriesOf(sizes: MapSizes): Partial<Record<MapName, number>> {
  return {
    // A VIP has one entry per port and one for all its other ports.
    zh_vips: sizes.services * 2,
    zh_services: sizes.services,
    zh_names: sizes.services,
    zh_svc_stats: sizes.services,
    zh_slots: sizes.slots,
    zh_backends: sizes.backends,
    zh_bk_stats: sizes.backends,
    zh_socks: sizes.sockets,
    zh_socks_more: sizes.socketsSpilled,
    // One policy beside the next, while it is replaced.
    zh_acl_dests: sizes.aclEntries * 2,
    zh_acl_cidrs: sizes.aclEntries * 2,
    zh_acl_matches: sizes.aclEntries * 2,
    zh_acl_sources: sizes.aclEntries * 2,
    zh_acl_cgroups: sizes.aclCgroups * 2,
    zh_acl_globs: sizes.aclGlobs * 2,
    zh_acl_emits: sizes.aclGlobs * 2,
    zh_acl_rules: sizes.aclRules,
    zh_acl_stats: sizes.aclRules,
  };
}

/** The configuration key that sizes a map. */
export const limitOf: Partial<Record<MapName, `maps.${keyof MapSizes}`>> = {
  zh_vips: 'maps.services',
  zh_services: 'maps.services',
  zh_slots: 'maps.slots',
  zh_backends: 'maps.backends',
  zh_socks: 'maps.sockets',
  zh_socks_more: 'maps.socketsSpilled',
  zh_acl_dests: 'maps.aclEntries',
  zh_acl_cidrs: 'maps.aclEntries',
  zh_acl_matches: 'maps.aclEntries',
  zh_acl_sources: 'maps.aclEntries',
  zh_acl_cgroups: 'maps.aclCgroups',
  zh_acl_globs: 'maps.aclGlobs',
  zh_acl_emits: 'maps.aclGlobs',
  zh_acl_rules: 'maps.aclRules',
  zh_acl_stats: 'maps.aclRules',
};
