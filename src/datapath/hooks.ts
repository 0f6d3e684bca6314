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

export type MapName = (typeof tableMaps)[number] | (typeof socketMaps)[number];

export interface MapSizes {
  readonly services: number;
  readonly backends: number;
  readonly slots: number;
  readonly sockets: number;
  readonly socketsSpilled: number;
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
};
