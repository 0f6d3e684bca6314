/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From the address that clients know to the link, and back: UDP, in the
 * resolver's own network namespace, by sockets that are bound to no other address
 * and no interface. A socket needs no memory of it: nobody else talks from the
 * link's far end.
 */
#ifndef ZH_DNS_HOOKS_H
#define ZH_DNS_HOOKS_H

static __always_inline struct zh_dns_config *zh_dns_settings(void)
{
  __u32 zero = 0;
  return bpf_map_lookup_elem(&zh_dns_config, &zero);
}

static __always_inline int zh_dns_is_home(struct bpf_sock_addr *ctx, const struct zh_dns_config *c)
{
  struct bpf_sock *sk = ctx->sk;
  return c->netns != 0 && bpf_get_netns_cookie(ctx) == c->netns && sk && sk->bound_dev_if == 0;
}

/* The agent asks which namespace it is in: no system call tells before Linux 5.14. */
static __always_inline void zh_dns_tell(struct bpf_sock_addr *ctx, const struct zh_dns_config *c,
                                        __u32 addr, __be16 port)
{
  if (c->nonce_port == 0 || addr != c->nonce_addr || port != c->nonce_port)
    return;
  __u32 zero = 0;
  __u64 cookie = bpf_get_netns_cookie(ctx);
  bpf_map_update_elem(&zh_dns_netns, &zero, &cookie, BPF_ANY);
}

/* Whether a socket bound to `source` may leave over the link. */
static __always_inline int zh_dns_is_free4(__u32 source)
{
  return source == 0 || source == zh_dns_here4;
}

static __always_inline int zh_dns_to4(struct bpf_sock_addr *ctx, const struct zh_dns_config *c,
                                      __u32 addr, __be16 port)
{
  return c->is_redirecting4 && addr == c->listen4 && port == c->listen_port4 &&
         zh_dns_is_home(ctx, c);
}

SEC("cgroup/connect4")
int zh_dns_connect4(struct bpf_sock_addr *ctx)
{
  if (ctx->protocol != IPPROTO_UDP)
    return 1;
  struct zh_dns_config *c = zh_dns_settings();
  if (!c)
    return 1;
  __u32 addr = ctx->user_ip4;
  __be16 port = (__be16)ctx->user_port;
  zh_dns_tell(ctx, c, addr, port);
  struct bpf_sock *sk = ctx->sk;
  if (zh_dns_to4(ctx, c, addr, port) && sk && zh_dns_is_free4(sk->src_ip4)) {
    ctx->user_ip4 = zh_dns_there4;
    ctx->user_port = bpf_htons(ZH_DNS_PORT);
  }
  return 1;
}

SEC("cgroup/sendmsg4")
int zh_dns_sendmsg4(struct bpf_sock_addr *ctx)
{
  struct zh_dns_config *c = zh_dns_settings();
  if (!c || ctx->protocol != IPPROTO_UDP)
    return 1;
  if (zh_dns_to4(ctx, c, ctx->user_ip4, (__be16)ctx->user_port) &&
      zh_dns_is_free4(ctx->msg_src_ip4)) {
    ctx->user_ip4 = zh_dns_there4;
    ctx->user_port = bpf_htons(ZH_DNS_PORT);
  }
  return 1;
}

static __always_inline void zh_dns_from4(struct bpf_sock_addr *ctx)
{
  if (ctx->protocol != IPPROTO_UDP || ctx->user_ip4 != zh_dns_there4 ||
      (__be16)ctx->user_port != bpf_htons(ZH_DNS_PORT))
    return;
  struct zh_dns_config *c = zh_dns_settings();
  if (!c || c->listen_port4 == 0 || !zh_dns_is_home(ctx, c))
    return;
  ctx->user_ip4 = c->listen4;
  ctx->user_port = c->listen_port4;
}

SEC("cgroup/recvmsg4")
int zh_dns_recvmsg4(struct bpf_sock_addr *ctx)
{
  zh_dns_from4(ctx);
  return 1;
}

SEC("cgroup/getpeername4")
int zh_dns_getpeername4(struct bpf_sock_addr *ctx)
{
  zh_dns_from4(ctx);
  return 1;
}

static __always_inline int zh_is_mapped(const __u32 *addr)
{
  return addr[0] == 0 && addr[1] == 0 && addr[2] == bpf_htonl(0xffff);
}

static __always_inline int zh_is_none(const __u32 *addr)
{
  return addr[0] == 0 && addr[1] == 0 && addr[2] == 0 && addr[3] == 0;
}

static __always_inline int zh_dns_is_free6(const __u32 *source)
{
  return zh_is_none(source) || zh_same6(source, zh_dns_here6);
}

static __always_inline void zh_dns_write6(struct bpf_sock_addr *ctx, const volatile __u32 *addr,
                                          __be16 port)
{
  ctx->user_ip6[0] = addr[0];
  ctx->user_ip6[1] = addr[1];
  ctx->user_ip6[2] = addr[2];
  ctx->user_ip6[3] = addr[3];
  ctx->user_port = port;
}

static __always_inline int zh_dns_to6(struct bpf_sock_addr *ctx, const struct zh_dns_config *c,
                                      const __u32 *addr, __be16 port)
{
  return c->is_redirecting6 && zh_same6(addr, c->listen6) && port == c->listen_port6 &&
         zh_dns_is_home(ctx, c);
}

SEC("cgroup/connect6")
int zh_dns_connect6(struct bpf_sock_addr *ctx)
{
  if (ctx->protocol != IPPROTO_UDP)
    return 1;
  struct zh_dns_config *c = zh_dns_settings();
  struct bpf_sock *sk = ctx->sk;
  if (!c || !sk)
    return 1;
  __u32 addr[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
  __u32 source[4] = {sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]};
  __be16 port = (__be16)ctx->user_port;
  if (zh_is_mapped(addr)) {
    if (zh_dns_to4(ctx, c, addr[3], port) &&
        (zh_is_none(source) || (zh_is_mapped(source) && zh_dns_is_free4(source[3])))) {
      ctx->user_ip6[3] = zh_dns_there4;
      ctx->user_port = bpf_htons(ZH_DNS_PORT);
    }
  } else if (zh_dns_to6(ctx, c, addr, port) && zh_dns_is_free6(source)) {
    zh_dns_write6(ctx, zh_dns_there6, bpf_htons(ZH_DNS_PORT));
  }
  return 1;
}

/* Mapped addresses come to sendmsg4 (net/ipv6/udp.c, udpv6_sendmsg). */
SEC("cgroup/sendmsg6")
int zh_dns_sendmsg6(struct bpf_sock_addr *ctx)
{
  struct zh_dns_config *c = zh_dns_settings();
  if (!c || ctx->protocol != IPPROTO_UDP)
    return 1;
  __u32 addr[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
  __u32 source[4] = {ctx->msg_src_ip6[0], ctx->msg_src_ip6[1], ctx->msg_src_ip6[2],
                     ctx->msg_src_ip6[3]};
  if (zh_dns_to6(ctx, c, addr, (__be16)ctx->user_port) && zh_dns_is_free6(source))
    zh_dns_write6(ctx, zh_dns_there6, bpf_htons(ZH_DNS_PORT));
  return 1;
}

static __always_inline void zh_dns_from6(struct bpf_sock_addr *ctx)
{
  if (ctx->protocol != IPPROTO_UDP || (__be16)ctx->user_port != bpf_htons(ZH_DNS_PORT))
    return;
  __u32 addr[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
  int is_mapped = zh_is_mapped(addr) && addr[3] == zh_dns_there4;
  if (!is_mapped && (zh_is_none(addr) || !zh_same6(addr, zh_dns_there6)))
    return;
  struct zh_dns_config *c = zh_dns_settings();
  if (!c || !zh_dns_is_home(ctx, c))
    return;
  if (!is_mapped) {
    if (c->listen_port6)
      zh_dns_write6(ctx, c->listen6, c->listen_port6);
  } else if (c->listen_port4) {
    ctx->user_ip6[3] = c->listen4;
    ctx->user_port = c->listen_port4;
  }
}

SEC("cgroup/recvmsg6")
int zh_dns_recvmsg6(struct bpf_sock_addr *ctx)
{
  zh_dns_from6(ctx);
  return 1;
}

SEC("cgroup/getpeername6")
int zh_dns_getpeername6(struct bpf_sock_addr *ctx)
{
  zh_dns_from6(ctx);
  return 1;
}

#endif
