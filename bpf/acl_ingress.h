/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who may reach this host's ports from outside: connections at the listener,
 * datagrams at the socket. Packets of connections that stand pass unjudged, and
 * loopback's do: their senders were judged where they called.
 */
#ifndef ZH_ACL_INGRESS_H
#define ZH_ACL_INGRESS_H

#define ZH_IFINDEX_LO 1 /* in every network namespace */
#define ZH_ETH_P_IP 0x0800
#define ZH_ETH_P_IPV6 0x86dd

static __always_inline int zh_source(struct __sk_buff *skb, __u32 addr[4])
{
  if (skb->protocol == bpf_htons(ZH_ETH_P_IP)) {
    addr[2] = bpf_htonl(0xffff);
    return bpf_skb_load_bytes(skb, 12, &addr[3], 4) == 0;
  }
  return skb->protocol == bpf_htons(ZH_ETH_P_IPV6) && bpf_skb_load_bytes(skb, 8, addr, 16) == 0;
}

/* The policy of the port, and what it says of the source. */
static __always_inline __u64 zh_ingress_judge(__u64 high, __u64 low, __u16 port, __u8 protocol,
                                              __u32 gen)
{
  struct zh_acl_dest_key key = {
    .gen = gen, .port = bpf_htons(port), .protocol = protocol, .ingress = 1};
  struct zh_acl_dest dest = {};
  if (!zh_dest(&key, &dest))
    return ZH_ACL_ALLOW;
  struct zh_acl_source_key source = {.prefixlen = 192, .gen = gen, .policy = dest.policy};
  zh_split(high, low, source.addr);
  struct zh_acl_match *match = bpf_map_lookup_elem(&zh_acl_sources, &source);
  return zh_acl_conclude(&dest, match ? ZH_SUM(match->deny, match->allow, match->audit) : 0);
}

/* As zh_acl_find: the same generation before and after, else denied. */
__noinline __u64 zh_ingress_find(__u64 high, __u64 low, __u32 port, __u32 protocol)
{
  struct zh_acl *acl = zh_acl_head();
  for (int try = 0; acl && try < ZH_ACL_TRIES; try++) {
    struct zh_acl_gen gen = {};
    if (!zh_acl_current(acl, &gen))
      continue;
    __u64 found = ZH_ACL_ALLOW;
    if (gen.flags & ZH_ACL_HAVE_INGRESS)
      found = zh_ingress_judge(high, low, port, protocol, gen.gen);
    asm volatile("" ::: "memory");
    if (READ_ONCE(acl->gen) == gen.gen)
      return found;
  }
  return ZH_ACL_DENY;
}

static __always_inline void zh_ingress_report(struct bpf_sock *sk, const __u32 addr[4],
                                              const struct zh_finding *found)
{
  struct zh_acl_event event = {.boot_ns = bpf_ktime_get_boot_ns(),
                               .cgroup_id = bpf_sk_cgroup_id(sk),
                               .rule = found->rule,
                               .port = bpf_htons(sk->src_port),
                               .protocol = sk->protocol,
                               .verdict = found->verdict,
                               .hook = ZH_ACL_INGRESS};
  zh_copy_addr(event.addr, addr);
  zh_acl_tell(&event);
}

static __always_inline int zh_ingress_denies(struct __sk_buff *skb, struct bpf_sock *sk)
{
  __u32 addr[4] = {};
  if (!zh_source(skb, addr))
    return 0;
  struct zh_finding found;
  zh_unpack(zh_ingress_find(zh_half(addr), zh_half(addr + 2), sk->src_port, sk->protocol), &found);
  if (found.verdict != ZH_ACL_ALLOW) {
    zh_acl_stat(found.rule, found.verdict);
    zh_ingress_report(sk, addr, &found);
  }
  if (found.verdict == ZH_ACL_DENY)
    return 1;
  if (found.allow != 0)
    zh_acl_stat(found.allow, ZH_ACL_ALLOW);
  return 0;
}

SEC("?cgroup_skb/ingress")
int zh_ingress(struct __sk_buff *skb)
{
  if (skb->ifindex == ZH_IFINDEX_LO)
    return 1;
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return 1;
  int judged = sk->protocol == IPPROTO_TCP ? sk->state == ZH_TCP_LISTEN : sk->protocol == IPPROTO_UDP;
  if (!judged || (zh_acl_flags() & ZH_ACL_HAVE_INGRESS) == 0)
    return 1;
  return !zh_ingress_denies(skb, sk);
}

#endif
