// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The service load balancer at the socket layer: thin cgroup entries over the
 * inner functions of balance.h, socks.h and flows.h. It stands where an
 * address enters the kernel (connect, sendmsg) and where one leaves it
 * (getpeername, recvmsg); no packet ever passes through it.
 *
 * Documentation/bpf/prog_cgroup_sock_addr; hooks: net/ipv4/af_inet.c,
 * net/ipv4/udp.c and their IPv6 twins. Loads on Linux >= 5.10.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "acl_abi.h"
#include "kernel.h"
#include "maps.h"
#include "acl_maps.h"
#include "balance.h"
#include "flows.h"
#include "socks.h"
#include "acl_task.h"
#include "acl.h"
#include "acl_hooks.h"
#include "acl_lsm.h"
#include "acl_cgroups.h"
#include "acl_ingress.h"

#define ZH_ALLOW 1
#define ZH_DENY 0

/* By number, as older headers lack them. */
static long (*const zh_set_retval)(int retval) = (void *)187;         /* BPF_FUNC_set_retval */
static void *(*const zh_skc_to_mptcp_sock)(void *sk) = (void *)196; /* BPF_FUNC_skc_to_mptcp_sock */

static __always_inline void zh_key4(struct bpf_sock_addr *ctx, struct zh_vip_key *key)
{
  key->addr[2] = bpf_htonl(0xffff);
  key->addr[3] = ctx->user_ip4;
  key->port = (__be16)ctx->user_port;
  key->protocol = ctx->protocol;
}

static __always_inline void zh_key6(struct bpf_sock_addr *ctx, struct zh_vip_key *key)
{
  key->addr[0] = ctx->user_ip6[0];
  key->addr[1] = ctx->user_ip6[1];
  key->addr[2] = ctx->user_ip6[2];
  key->addr[3] = ctx->user_ip6[3];
  key->port = (__be16)ctx->user_port;
  key->protocol = ctx->protocol;
}

static __always_inline void zh_write4(struct bpf_sock_addr *ctx, const __u32 addr[4], __be16 port)
{
  ctx->user_ip4 = addr[3];
  ctx->user_port = port;
}

static __always_inline void zh_write6(struct bpf_sock_addr *ctx, const __u32 addr[4], __be16 port)
{
  ctx->user_ip6[0] = addr[0];
  ctx->user_ip6[1] = addr[1];
  ctx->user_ip6[2] = addr[2];
  ctx->user_ip6[3] = addr[3];
  ctx->user_port = port;
}

/* Ping sockets are SOCK_DGRAM too, so the protocol counts, not the type. */
static __always_inline int zh_ours(struct bpf_sock_addr *ctx)
{
  return ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_UDP;
}

/* Where bpf_set_retval is missing, the address becomes one that refuses: the
 * same host's loopback. For TCP at port 0, which nobody can listen on. UDP may
 * not send there (EINVAL), hence tcpmux (1): the connect succeeds, and the
 * first send or receive answers ECONNREFUSED. */
static __always_inline void zh_refuge(struct zh_vip_key *key, struct zh_pair *pair, __be16 port)
{
  __builtin_memset(pair->addr, 0, sizeof(pair->addr));
  if (key->addr[0] == 0 && key->addr[1] == 0 && key->addr[2] == bpf_htonl(0xffff)) {
    pair->addr[2] = bpf_htonl(0xffff);
    pair->addr[3] = bpf_htonl(0x7f000001);
  } else {
    pair->addr[3] = bpf_htonl(1);
  }
  pair->port = port;
}

/* A subflow of MPTCP is a socket of the kernel's own: nobody can ask for its
 * peer, and no release hook ever runs for it (net/ipv4/af_inet.c, inet_release). */
static __always_inline int zh_is_subflow(struct bpf_sock_addr *ctx)
{
  struct bpf_sock *sk = ctx->sk;
  return zh_have_mptcp && sk && zh_skc_to_mptcp_sock(sk);
}

static __always_inline int zh_connect(struct bpf_sock_addr *ctx, struct zh_vip_key *key,
                                      struct zh_pair *pair)
{
  __u32 index = zh_find(key);
  if (index == ZH_STRANGER) {
    if (zh_stranger_denied(ctx, key, 0, ZH_ACL_CGROUP_CONNECT))
      return ZH_FORBID;
    /* A UDP socket may have been connected to a VIP before. */
    if (key->protocol == IPPROTO_UDP)
      zh_sock_forget(bpf_get_socket_cookie(ctx));
    return ZH_PASS;
  }
  int verdict = zh_pick(key, index, pair);
  if (verdict == ZH_PICKED) {
    if (zh_pair_denied(ctx, key, pair, ZH_ACL_CGROUP_CONNECT))
      return ZH_FORBID;
    if (!zh_is_subflow(ctx))
      zh_sock_remember(bpf_get_socket_cookie(ctx), pair);
    zh_served(pair, 1);
  } else {
    zh_refuge(key, pair, key->protocol == IPPROTO_UDP ? bpf_htons(1) : 0);
  }
  return verdict;
}

/* source4: what an IPv4 datagram leaves from, if that is known already. */
static __always_inline int zh_sendmsg(struct bpf_sock_addr *ctx, struct zh_vip_key *key,
                                      __u32 source4, struct zh_pair *pair)
{
  __u32 index = zh_find(key);
  if (index == ZH_STRANGER)
    return zh_stranger_denied(ctx, key, source4, ZH_ACL_CGROUP_SENDMSG) ? ZH_FORBID : ZH_PASS;
  struct bpf_sock *sk = ctx->sk;
  struct zh_flows *flows = 0;
  if (sk)
    flows = bpf_sk_storage_get(&zh_flows, sk, 0, 0);
  int kept = flows && zh_flow_by_vip(flows, key, pair) && pair->service == index &&
             zh_flow_valid(pair);
  int verdict = kept ? ZH_PICKED : zh_pick(key, index, pair);
  if (verdict != ZH_PICKED) {
    zh_refuge(key, pair, bpf_htons(1));
    return verdict;
  }
  if (zh_pair_denied(ctx, key, pair, ZH_ACL_CGROUP_SENDMSG))
    return ZH_FORBID;
  zh_served(pair, 0);
  if (kept)
    return verdict;
  if (!flows && sk)
    flows = bpf_sk_storage_get(&zh_flows, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!flows || zh_flow_put(flows, pair)) {
    struct zh_counters *counters = zh_count();
    if (counters)
      __sync_fetch_and_add(flows ? &counters->flows_evicted : &counters->untracked, 1);
  }
  return verdict;
}

/* Protocols that have the hooks, but no services: UDP-Lite, ping. */
static __always_inline int zh_other(struct bpf_sock_addr *ctx, const struct zh_vip_key *key,
                                    __u8 hook)
{
  return zh_stranger_denied(ctx, key, 0, hook) ? ZH_DENY : ZH_ALLOW;
}

/* The verdict at the edge. 0 without a set error reads as EPERM, which is for
 * access control alone. */
#define ZH_VERDICT(ctx, verdict, pair, write)                                                      \
  ({                                                                                               \
    int answer = ZH_ALLOW;                                                                         \
    if (verdict == ZH_REFUSE && zh_have_set_retval) {                                              \
      zh_set_retval(-ZH_ECONNREFUSED);                                                             \
      answer = ZH_DENY;                                                                            \
    } else if (verdict == ZH_FORBID) {                                                             \
      answer = ZH_DENY;                                                                            \
    } else if (verdict != ZH_PASS) {                                                               \
      write(ctx, (pair)->addr, (pair)->port);                                                      \
    }                                                                                              \
    answer;                                                                                        \
  })

SEC("cgroup/connect4")
int zh_connect4(struct bpf_sock_addr *ctx)
{
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key4(ctx, &key);
  if (!zh_ours(ctx))
    return zh_other(ctx, &key, ZH_ACL_CGROUP_CONNECT);
  int verdict = zh_connect(ctx, &key, &pair);
  return ZH_VERDICT(ctx, verdict, &pair, zh_write4);
}

SEC("cgroup/connect6")
int zh_connect6(struct bpf_sock_addr *ctx)
{
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key6(ctx, &key);
  if (!zh_ours(ctx))
    return zh_other(ctx, &key, ZH_ACL_CGROUP_CONNECT);
  int verdict = zh_connect(ctx, &key, &pair);
  return ZH_VERDICT(ctx, verdict, &pair, zh_write6);
}

SEC("cgroup/sendmsg4")
int zh_sendmsg4(struct bpf_sock_addr *ctx)
{
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key4(ctx, &key);
  if (!zh_ours(ctx))
    return zh_other(ctx, &key, ZH_ACL_CGROUP_SENDMSG);
  int verdict = zh_sendmsg(ctx, &key, ctx->msg_src_ip4, &pair);
  return ZH_VERDICT(ctx, verdict, &pair, zh_write4);
}

SEC("cgroup/sendmsg6")
int zh_sendmsg6(struct bpf_sock_addr *ctx)
{
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key6(ctx, &key);
  if (!zh_ours(ctx))
    return zh_other(ctx, &key, ZH_ACL_CGROUP_SENDMSG);
  int verdict = zh_sendmsg(ctx, &key, 0, &pair);
  return ZH_VERDICT(ctx, verdict, &pair, zh_write6);
}

/* Both hooks below may answer only "allow". */
static __always_inline int zh_peer(struct bpf_sock_addr *ctx, const struct zh_vip_key *key,
                                   struct zh_pair *pair)
{
  return zh_sock_recall(bpf_get_socket_cookie(ctx), key->addr, key->port, pair);
}

/* A connected UDP socket hears its peer, an unconnected one those it sent to.
 * Neither store is emptied by connect(AF_UNSPEC), so the state decides. */
static __always_inline int zh_sender(struct bpf_sock_addr *ctx, const struct zh_vip_key *key,
                                     struct zh_pair *pair)
{
  struct bpf_sock *sk = ctx->sk;
  if (!sk)
    return 0;
  if (sk->state == BPF_TCP_ESTABLISHED)
    return zh_peer(ctx, key, pair);
  struct zh_flows *flows = bpf_sk_storage_get(&zh_flows, sk, 0, 0);
  return flows && zh_flow_by_peer(flows, key->addr, key->port, pair);
}

SEC("cgroup/recvmsg4")
int zh_recvmsg4(struct bpf_sock_addr *ctx)
{
  if (!zh_ours(ctx))
    return ZH_ALLOW;
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key4(ctx, &key);
  if (zh_sender(ctx, &key, &pair))
    zh_write4(ctx, pair.vip, pair.vip_port);
  return ZH_ALLOW;
}

SEC("cgroup/recvmsg6")
int zh_recvmsg6(struct bpf_sock_addr *ctx)
{
  if (!zh_ours(ctx))
    return ZH_ALLOW;
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key6(ctx, &key);
  if (zh_sender(ctx, &key, &pair))
    zh_write6(ctx, pair.vip, pair.vip_port);
  return ZH_ALLOW;
}

SEC("cgroup/getpeername4")
int zh_getpeername4(struct bpf_sock_addr *ctx)
{
  if (!zh_ours(ctx))
    return ZH_ALLOW;
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key4(ctx, &key);
  if (zh_peer(ctx, &key, &pair))
    zh_write4(ctx, pair.vip, pair.vip_port);
  return ZH_ALLOW;
}

SEC("cgroup/getpeername6")
int zh_getpeername6(struct bpf_sock_addr *ctx)
{
  if (!zh_ours(ctx))
    return ZH_ALLOW;
  struct zh_vip_key key = {};
  struct zh_pair pair = {};
  zh_key6(ctx, &key);
  if (zh_peer(ctx, &key, &pair))
    zh_write6(ctx, pair.vip, pair.vip_port);
  return ZH_ALLOW;
}

SEC("cgroup/sock_release")
int zh_sock_release(struct bpf_sock *sk)
{
  if (sk->protocol == IPPROTO_TCP || sk->protocol == IPPROTO_UDP)
    zh_sock_forget_last(bpf_get_socket_cookie(sk));
  return ZH_ALLOW;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
