/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a connected socket asked for: TCP and connected UDP.
 *
 * A direct-mapped array by socket cookie costs one cache line and no
 * allocation. Cookies are handed out in sequence (net/core/sock_diag.c,
 * gen_cookie_next), so neighbours do not collide; a socket whose slot belongs
 * to another living socket goes to the hash zh_socks_more. Entries go when the
 * socket is released. A living socket is forgotten only if it is one of more
 * such sockets than zh_socks_more holds, the longest unasked first.
 */
#ifndef ZH_SOCKS_H
#define ZH_SOCKS_H

static __always_inline struct zh_sock *zh_sock_slot(__u64 cookie)
{
  __u32 at = (__u32)cookie & zh_socks_mask;
  return bpf_map_lookup_elem(&zh_socks, &at);
}

static __always_inline void zh_sock_spill(struct zh_sock *slot, __u64 cookie, struct zh_pair *pair)
{
  struct zh_counters *counters = zh_count();
  int known = bpf_map_lookup_elem(&zh_socks_more, &cookie) != 0;
  if (bpf_map_update_elem(&zh_socks_more, &cookie, pair, BPF_ANY)) {
    if (counters)
      __sync_fetch_and_add(&counters->untracked, 1);
    return;
  }
  if (known)
    return;
  __sync_fetch_and_add(&slot->spilled, 1);
  if (counters)
    __sync_fetch_and_add(&counters->spilled, 1);
}

static __always_inline void zh_sock_remember(__u64 cookie, struct zh_pair *pair)
{
  struct zh_sock *slot = zh_sock_slot(cookie);
  if (!slot)
    return;
  int mine = 0;
  bpf_spin_lock(&slot->lock);
  if (slot->cookie == 0 || slot->cookie == cookie) {
    slot->cookie = cookie;
    slot->pair = *pair;
    mine = 1;
  }
  bpf_spin_unlock(&slot->lock);
  if (!mine)
    zh_sock_spill(slot, cookie, pair);
}

/* A socket may have both: spilled first, then given the slot when it fell free. */
static __always_inline void zh_sock_unspill(struct zh_sock *slot, __u64 cookie)
{
  if (READ_ONCE(slot->spilled) && bpf_map_delete_elem(&zh_socks_more, &cookie) == 0)
    __sync_fetch_and_add(&slot->spilled, -1);
}

static __always_inline void zh_sock_forget(__u64 cookie)
{
  struct zh_sock *slot = zh_sock_slot(cookie);
  if (!slot)
    return;
  if (READ_ONCE(slot->cookie) == cookie) {
    bpf_spin_lock(&slot->lock);
    if (slot->cookie == cookie)
      slot->cookie = 0;
    bpf_spin_unlock(&slot->lock);
  }
  zh_sock_unspill(slot, cookie);
}

/* As above, for a socket with no other user: nobody else gives away a slot that
 * holds its cookie, or writes that cookie, so one store needs no lock. */
static __always_inline void zh_sock_forget_last(__u64 cookie)
{
  struct zh_sock *slot = zh_sock_slot(cookie);
  if (!slot)
    return;
  if (READ_ONCE(slot->cookie) == cookie)
    WRITE_ONCE(slot->cookie, 0);
  zh_sock_unspill(slot, cookie);
}

/* The VIP of a socket whose peer is addr:port, if it asked for one. */
static __always_inline int zh_sock_recall(__u64 cookie, const __u32 addr[4], __be16 port,
                                          struct zh_pair *pair)
{
  struct zh_sock *slot = zh_sock_slot(cookie);
  if (!slot)
    return 0;
  int found = 0;
  if (READ_ONCE(slot->cookie) == cookie) {
    bpf_spin_lock(&slot->lock);
    if (slot->cookie == cookie) {
      *pair = slot->pair;
      found = 1;
    }
    bpf_spin_unlock(&slot->lock);
  }
  if (!found && READ_ONCE(slot->spilled)) {
    struct zh_pair *more = bpf_map_lookup_elem(&zh_socks_more, &cookie);
    if (more) {
      *pair = *more;
      found = 1;
    }
  }
  return found && pair->port == port && zh_same_addr(pair->addr, addr);
}

#endif
