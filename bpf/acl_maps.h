/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps of access control, and its settings. Sizes are placeholders, as in
 * maps.h. What the cgroup tracepoints use is preallocated: a tracing program may
 * not allocate on older kernels.
 */
#ifndef ZH_ACL_MAPS_H
#define ZH_ACL_MAPS_H

ZH_MAP(zh_acl, BPF_MAP_TYPE_ARRAY, __u32, struct zh_acl, 1, 0);
ZH_MAP(zh_acl_gens, BPF_MAP_TYPE_ARRAY, __u32, struct zh_acl_gen, 2, 0);
ZH_MAP(zh_acl_dests, BPF_MAP_TYPE_HASH, struct zh_acl_dest_key, struct zh_acl_dest, 1024,
       BPF_F_NO_PREALLOC);
ZH_MAP(zh_acl_cidrs, BPF_MAP_TYPE_LPM_TRIE, struct zh_acl_cidr_key, __u32, 1024, BPF_F_NO_PREALLOC);
ZH_MAP(zh_acl_matches, BPF_MAP_TYPE_HASH, struct zh_acl_match_key, struct zh_acl_match, 1024,
       BPF_F_NO_PREALLOC);
ZH_MAP(zh_acl_sources, BPF_MAP_TYPE_LPM_TRIE, struct zh_acl_source_key, struct zh_acl_match, 1024,
       BPF_F_NO_PREALLOC);
ZH_MAP(zh_acl_cgroups, BPF_MAP_TYPE_HASH, struct zh_acl_cgroup_key, struct zh_acl_cgroup, 1024, 0);
ZH_MAP(zh_acl_globs, BPF_MAP_TYPE_HASH, struct zh_acl_glob_key, __u32, 1024, 0);
ZH_MAP(zh_acl_emits, BPF_MAP_TYPE_HASH, struct zh_acl_emit_key, struct zh_acl_emit, 1024, 0);
/* LRU: entries outlive their cgroups, for the log; those of long ago must go. */
ZH_MAP(zh_acl_places, BPF_MAP_TYPE_LRU_HASH, __u64, struct zh_acl_place, 2048, 0);
/* For dumps and for an agent that starts anew: the programs do not read names. */
ZH_MAP(zh_acl_rules, BPF_MAP_TYPE_HASH, __u32, struct zh_acl_rule, 1024, BPF_F_NO_PREALLOC);
ZH_MAP(zh_acl_stats, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct zh_acl_stats, 1024, 0);
ZH_MAP(zh_acl_counts, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct zh_acl_counts, 1, 0);

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 256 * 1024);
} zh_acl_events SEC(".maps");

/* 0: no access control (the kernel has no BTF). 1: the cgroup hooks judge
 * everything. 2: BPF LSM judges what is no VIP, the cgroup hooks what is one. */
const volatile __u8 zh_acl_mode = 0;
/* LSM programs judge only tasks that have an ancestor cgroup with this id, as
 * the cgroup hooks do. 0: every task of the host. */
const volatile __u64 zh_scope_id = 0;

#endif
