/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The resolver's own link. This end has an address, "here"; the address that
 * clients send to, "there", is nobody's and lies behind the link. What leaves is
 * turned round: answered in place, or sent in again with both addresses
 * exchanged. So a client's query for `there` arrives at the server, which listens
 * at `here`, as one from `there`, and its answer arrives at the client the same
 * way. The exchange leaves all checksums right, and needs no state.
 */
#ifndef ZH_DNS_LINK_H
#define ZH_DNS_LINK_H

#define ZH_ETH_BYTES 14
#define ZH_ETH_IP 0x0800
#define ZH_ETH_IPV6 0x86dd
#define ZH_IP_BYTES 20
#define ZH_IPV6_BYTES 40
#define ZH_UDP_BYTES 8
#define ZH_IP_FRAGMENT 0x3fff /* more fragments, or not the first */
#define ZH_ICMP_UNREACHABLE 3
#define ZH_ICMPV6_UNREACHABLE 1

/* Set by the loader before loading. Network order. */
const volatile __u32 zh_dns_here4 = 0;
const volatile __u32 zh_dns_there4 = 0;
const volatile __u32 zh_dns_here6[4] = {};
const volatile __u32 zh_dns_there6[4] = {};

struct zh_ip4 {
  __u8 version_length;
  __u8 tos;
  __be16 total;
  __be16 id;
  __be16 fragment;
  __u8 ttl;
  __u8 protocol;
  __u16 check;
  __u32 source;
  __u32 target;
};

struct zh_ip6 {
  __u32 version_class_flow;
  __be16 payload;
  __u8 next;
  __u8 hops;
  __u32 source[4];
  __u32 target[4];
};

struct zh_udp {
  __be16 source;
  __be16 target;
  __be16 length;
  __u16 check;
};

static __always_inline int zh_same6(const __u32 *a, const volatile __u32 *b)
{
  return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/*
 * In again, as if from outside. lo has the address 00:00:00:00:00:00, the link its own as target.
 *
 * IPv4 answers come as link-layer broadcasts: what is none is looked up among the connected UDP
 * sockets before it is routed (udp_v4_early_demux), and the socket keeps the route, for packets that
 * come to it from any interface. A neighbour's would then not be found martian. What comes on lo
 * itself has its route already, and leaves none either.
 */
static __always_inline int zh_dns_turn(struct __sk_buff *skb, const struct zh_dns_config *config,
                                       int is_answer4)
{
  static const __u8 none[6] = {};
  static const __u8 all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  if (is_answer4) {
    if (bpf_skb_store_bytes(skb, 0, all, sizeof(all), 0))
      return TC_ACT_SHOT;
  } else if (config->ingress != skb->ifindex) {
    if (bpf_skb_store_bytes(skb, 0, none, sizeof(none), 0))
      return TC_ACT_SHOT;
  }
  return bpf_redirect(config->ingress, BPF_F_INGRESS);
}

/* An ICMP error has the packet's header inside, which is the client's only when exchanged too. */
static __always_inline int zh_dns_exchange4(struct __sk_buff *skb, const struct zh_ip4 *ip)
{
  __u32 both[2] = {ip->target, ip->source};
  __u32 source = ZH_ETH_BYTES + __builtin_offsetof(struct zh_ip4, source);
  if (bpf_skb_store_bytes(skb, source, both, sizeof(both), 0))
    return -1;
  __u8 type = 0;
  __u32 inner = ZH_ETH_BYTES + ZH_IP_BYTES;
  if (ip->protocol != IPPROTO_ICMP || bpf_skb_load_bytes(skb, inner, &type, 1) ||
      type != ZH_ICMP_UNREACHABLE)
    return 0;
  source += ZH_IP_BYTES + 8;
  if (bpf_skb_load_bytes(skb, source, both, sizeof(both)))
    return -1;
  __u32 exchanged[2] = {both[1], both[0]};
  return bpf_skb_store_bytes(skb, source, exchanged, sizeof(exchanged), 0);
}

static __always_inline int zh_dns_exchange6(struct __sk_buff *skb, struct zh_ip6 *ip)
{
  __u32 source = ZH_ETH_BYTES + __builtin_offsetof(struct zh_ip6, source);
  if (bpf_skb_store_bytes(skb, source, ip->target, 16, 0) ||
      bpf_skb_store_bytes(skb, source + 16, ip->source, 16, 0))
    return -1;
  __u8 type = 0;
  if (ip->next != IPPROTO_ICMPV6 ||
      bpf_skb_load_bytes(skb, ZH_ETH_BYTES + ZH_IPV6_BYTES, &type, 1) ||
      type != ZH_ICMPV6_UNREACHABLE)
    return 0;
  source += ZH_IPV6_BYTES + 8;
  if (bpf_skb_load_bytes(skb, source, ip->source, 32) ||
      bpf_skb_store_bytes(skb, source, ip->target, 16, 0))
    return -1;
  return bpf_skb_store_bytes(skb, source + 16, ip->source, 16, 0);
}

static __always_inline __u16 zh_fold(__u32 sum)
{
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum;
}

#endif
