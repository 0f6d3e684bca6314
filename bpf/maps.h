/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps. Sizes here are placeholders: the loader sets them from the
 * configuration (src/config/limits.ts) before loading. */
#ifndef ZH_MAPS_H
#define ZH_MAPS_H

#define ZH_MAP(map_name, map_type, key_type, value_type, entries, map_flags_)  \
  struct {                                                                     \
    __uint(type, map_type);                                                    \
    __uint(max_entries, entries);                                              \
    __uint(map_flags, map_flags_);                                             \
    __type(key, key_type);                                                     \
    __type(value, value_type);                                                 \
  } map_name SEC(".maps")

/* Not preallocated: a host with ten services pays for ten. */
ZH_MAP(zh_vips, BPF_MAP_TYPE_HASH, struct zh_vip_key, __u32, 1024, BPF_F_NO_PREALLOC);
ZH_MAP(zh_services, BPF_MAP_TYPE_ARRAY, __u32, struct zh_service, 1024, 0);
ZH_MAP(zh_slots, BPF_MAP_TYPE_ARRAY, __u32, struct zh_slot, 1024, 0);
ZH_MAP(zh_backends, BPF_MAP_TYPE_ARRAY, __u32, struct zh_backend, 1024, 0);
ZH_MAP(zh_names, BPF_MAP_TYPE_HASH, __u32, struct zh_name, 1024, BPF_F_NO_PREALLOC);
ZH_MAP(zh_svc_stats, BPF_MAP_TYPE_ARRAY, __u32, struct zh_service_stats, 1024, 0);
ZH_MAP(zh_bk_stats, BPF_MAP_TYPE_ARRAY, __u32, struct zh_backend_stats, 1024, 0);
ZH_MAP(zh_socks, BPF_MAP_TYPE_ARRAY, __u32, struct zh_sock, 1024, 0);
/* Preallocated: connect() must not wait for memory. LRU: sockets of the kernel's
 * own (NFS, SMB) leave entries that no release hook takes away; they must age. */
ZH_MAP(zh_socks_more, BPF_MAP_TYPE_LRU_HASH, __u64, struct zh_pair, 1024, 0);
ZH_MAP(zh_counters, BPF_MAP_TYPE_ARRAY, __u32, struct zh_counters, 1, 0);
ZH_MAP(zh_meta, BPF_MAP_TYPE_ARRAY, __u32, struct zh_meta, 1, 0);

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct zh_flows);
} zh_flows SEC(".maps");

/* Set by the loader before loading; the verifier then drops dead branches. */
const volatile __u32 zh_socks_mask = 1023;     /* entries of zh_socks - 1; a power of two - 1 */
const volatile __u8 zh_have_set_retval = 0;    /* bpf_set_retval, Linux >= 5.18 */
const volatile __u8 zh_have_mptcp = 0;         /* bpf_skc_to_mptcp_sock, Linux >= 5.19 */
const volatile __u32 zh_vip4_net = 0;          /* network order */
const volatile __u32 zh_vip4_mask = 0xffffffff; /* network order */
const volatile __u32 zh_vip6_net[2] = {};      /* first 64 bits, network order */

static __always_inline struct zh_counters *zh_count(void)
{
  __u32 zero = 0;
  return bpf_map_lookup_elem(&zh_counters, &zero);
}

#endif
