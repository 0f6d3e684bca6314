/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps of the resolver; the size of zh_dns_names is set from the configuration. */
#ifndef ZH_DNS_MAPS_H
#define ZH_DNS_MAPS_H

/* Not preallocated: a host with ten names pays for ten. Elements are used again at once (zh_dns_take). */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct zh_dns_key);
  __type(value, struct zh_dns_answer);
} zh_dns_names SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct zh_dns_config);
} zh_dns_config SEC(".maps");

/* The cookie of the namespace that the nonce was seen in. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} zh_dns_netns SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct zh_dns_counts);
} zh_dns_counts SEC(".maps");

#endif
