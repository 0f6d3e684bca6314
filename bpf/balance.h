/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From an address and port to a backend. Never touches the context: callers
 * read the address, ask here, and write the answer.
 */
#ifndef ZH_BALANCE_H
#define ZH_BALANCE_H

#define ZH_ECONNREFUSED 111
#define ZH_TRIES 4

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

enum zh_verdict {
  ZH_PASS = 0,   /* not a VIP: untouched */
  ZH_PICKED = 1, /* the pair holds the backend */
  ZH_REFUSE = 2, /* a VIP, but nobody can serve it */
  ZH_FORBID = 3, /* access control says no */
};

static __always_inline int zh_same_addr(const __u32 a[4], const __u32 b[4])
{
  return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline void zh_copy_addr(__u32 to[4], const __u32 from[4])
{
  to[0] = from[0];
  to[1] = from[1];
  to[2] = from[2];
  to[3] = from[3];
}

static __always_inline int zh_in_vip_range(const __u32 a[4])
{
  if (a[0] == 0 && a[1] == 0 && a[2] == bpf_htonl(0xffff))
    return (a[3] & zh_vip4_mask) == zh_vip4_net;
  return a[0] == zh_vip6_net[0] && a[1] == zh_vip6_net[1];
}

/* One look at the tables. 0 and a filled pair, -ECONNREFUSED, or -EAGAIN when
 * something was being replaced under us. */
static __always_inline int zh_draw(__u32 index, const struct zh_vip_key *key, struct zh_pair *pair)
{
  struct zh_service *service = bpf_map_lookup_elem(&zh_services, &index);
  if (!service)
    return -11;
  /* The set first, its owner second: an index that gets a new owner in between
   * has the new key already, so a set is never taken for another VIP's. */
  __u64 word = READ_ONCE(service->set_word);
  struct zh_set set = *(struct zh_set *)&word;
  asm volatile("" ::: "memory");
  if (!zh_same_addr(service->key.addr, key->addr) || service->key.port != key->port ||
      service->key.protocol != key->protocol)
    return -11;
  if (set.count == 0)
    return -ZH_ECONNREFUSED;

  /* 32.32 fixed point: whole part = slot, fraction = which half of the slot. */
  __u64 draw = (__u64)bpf_get_prandom_u32() * set.count;
  __u32 at = set.base + (__u32)(draw >> 32);
  struct zh_slot *slot = bpf_map_lookup_elem(&zh_slots, &at);
  if (!slot || slot->gen != set.gen)
    return -11;
  __u32 id = (__u32)draw < slot->threshold ? slot->backend : slot->alias;
  struct zh_backend *backend = bpf_map_lookup_elem(&zh_backends, &id);
  if (!backend || backend->service != index || backend->state == ZH_BACKEND_FREE)
    return -11;

  zh_copy_addr(pair->vip, key->addr);
  zh_copy_addr(pair->addr, backend->addr);
  pair->vip_port = key->port;
  pair->port = backend->port;
  pair->service = index;
  pair->backend = id;
  pair->incarnation = backend->incarnation;
  return 0;
}

/* Of zh_find, beside a service index and ZH_NO_SUCH_PORT. */
#define ZH_STRANGER 0xfffffffeU /* no VIP */
#define ZH_STALE 0xfffffffdU    /* the element was given away while we held it */

/* Strangers pay for one lookup; only addresses of the VIP range pay for two.
 * A hash element may be reused at once, so its value is read once, and one that
 * cannot belong to the key is not believed. */
static __always_inline __u32 zh_find(struct zh_vip_key *key)
{
  __u32 *index = bpf_map_lookup_elem(&zh_vips, key);
  if (index) {
    __u32 at = READ_ONCE(*index);
    return at == ZH_NO_SUCH_PORT ? ZH_STALE : at;
  }
  if (!zh_in_vip_range(key->addr))
    return ZH_STRANGER;
  struct zh_vip_key any = {};
  zh_copy_addr(any.addr, key->addr);
  return bpf_map_lookup_elem(&zh_vips, &any) ? ZH_NO_SUCH_PORT : ZH_STRANGER;
}

static __always_inline void zh_refused(__u32 index)
{
  if (index == ZH_NO_SUCH_PORT) {
    struct zh_counters *counters = zh_count();
    if (counters)
      __sync_fetch_and_add(&counters->no_such_port, 1);
    return;
  }
  struct zh_service_stats *stats = bpf_map_lookup_elem(&zh_svc_stats, &index);
  if (stats)
    __sync_fetch_and_add(&stats->refused, 1);
}

static __always_inline void zh_served(const struct zh_pair *pair, int connect)
{
  struct zh_backend_stats *backend = bpf_map_lookup_elem(&zh_bk_stats, &pair->backend);
  if (backend)
    __sync_fetch_and_add(connect ? &backend->connects : &backend->sends, 1);
}

/* Draws until a look is consistent. A service removed meanwhile is refused. */
static __always_inline int zh_pick(struct zh_vip_key *key, __u32 index, struct zh_pair *pair)
{
  for (int try = 0; try < ZH_TRIES; try++) {
    if (index == ZH_STRANGER)
      return ZH_REFUSE;
    if (index == ZH_NO_SUCH_PORT) {
      zh_refused(index);
      return ZH_REFUSE;
    }
    int err = zh_draw(index, key, pair);
    if (err == 0)
      return ZH_PICKED;
    if (err == -ZH_ECONNREFUSED || try == ZH_TRIES - 1) {
      zh_refused(index);
      return ZH_REFUSE;
    }
    struct zh_service_stats *stats = bpf_map_lookup_elem(&zh_svc_stats, &index);
    if (stats)
      __sync_fetch_and_add(&stats->retries, 1);
    index = zh_find(key);
  }
  return ZH_REFUSE;
}

#endif
