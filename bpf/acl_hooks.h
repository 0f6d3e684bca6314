/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Judging in the cgroup hooks: where a VIP led, and without BPF LSM all else. */
#ifndef ZH_ACL_HOOKS_H
#define ZH_ACL_HOOKS_H

static __always_inline int zh_is_any4(const __u32 a[4])
{
  return a[0] == 0 && a[1] == 0 && a[2] == bpf_htonl(0xffff) && a[3] == 0;
}

static __always_inline int zh_is_any6(const __u32 a[4])
{
  return a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == 0;
}

static __always_inline void zh_loopback4(__u32 a[4])
{
  a[0] = a[1] = 0;
  a[2] = bpf_htonl(0xffff);
  a[3] = bpf_htonl(0x7f000001);
}

/* Where the unspecified address leads: IPv4 to the socket's own source address
 * (of the datagram, if it was given one), else to loopback (net/ipv4/route.c,
 * ip_route_output_key_hash_rcu); IPv6 to loopback, which is IPv4's if the socket
 * is bound to a v4-mapped address (net/ipv6/tcp_ipv6.c, tcp_v6_connect). */
static __always_inline void zh_land(struct zh_ask *ask, __u32 source4)
{
  struct sock *sk = zh_sock_of(&ask->sk);
  if (zh_is_any4(ask->addr)) {
    if (source4 == 0 && sk)
      source4 = BPF_CORE_READ((struct inet_sock *)sk, inet_saddr);
    zh_loopback4(ask->addr);
    if (source4 != 0)
      ask->addr[3] = source4;
  } else if (zh_is_any6(ask->addr)) {
    struct in6_addr bound = {};
    if (sk)
      BPF_CORE_READ_INTO(&bound, sk, __sk_common.skc_v6_rcv_saddr);
    if (bound.s6_addr32[2] == bpf_htonl(0xffff))
      zh_loopback4(ask->addr);
    else
      ask->addr[3] = bpf_htonl(1);
  }
}

/* The backend that a VIP led to. */
static __always_inline int zh_pair_denied(struct bpf_sock_addr *ctx, const struct zh_vip_key *key,
                                          const struct zh_pair *pair, __u8 hook)
{
  if (zh_acl_flags() == 0)
    return 0;
  struct zh_ask ask = {.port = pair->port,
                       .vip_port = pair->vip_port,
                       .protocol = key->protocol,
                       .hook = hook,
                       .sk = ctx->sk};
  zh_copy_addr(ask.addr, pair->addr);
  zh_copy_addr(ask.vip, pair->vip);
  return zh_acl_denies(&ask);
}

/* An address that is no VIP. With BPF LSM only the unspecified ones are judged
 * here: it does not know where they lead. */
static __always_inline int zh_stranger_denied(struct bpf_sock_addr *ctx,
                                              const struct zh_vip_key *key, __u32 source4,
                                              __u8 hook)
{
  if (zh_acl_flags() == 0)
    return 0;
  int any = zh_is_any4(key->addr) || zh_is_any6(key->addr);
  if (zh_acl_mode == 2 && (!any || !zh_has_ports(key->protocol)))
    return 0;
  struct zh_ask ask = {
    .port = key->port, .protocol = key->protocol, .hook = hook, .sk = ctx->sk};
  zh_copy_addr(ask.addr, key->addr);
  if (any)
    zh_land(&ask, source4);
  return zh_acl_denies(&ask);
}

#endif
