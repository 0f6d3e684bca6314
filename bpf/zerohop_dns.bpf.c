// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * DNS answered in the kernel, on a link of the resolver's own: no packet of
 * anything else passes through here. The hooks lead local clients of the
 * resolver's loopback address to that link (UDP alone), so that they need not
 * know of it; where the link is not, they do nothing, and the resolver answers as
 * it does without. Loads on Linux >= 5.10.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "dns_abi.h"
#include "dns_maps.h"
#include "dns_link.h"
#include "dns_answer.h"
#include "dns_refuse.h"
#include "dns_hooks.h"

/* What is counted, when the packet goes on to user space. */
#define ZH_DNS_ON(field)                                                                           \
  ({                                                                                               \
    counts->field++;                                                                               \
    -1;                                                                                            \
  })

/* 0: answered; its length is given, and its sum if wanted. Otherwise counted, and nothing is written. */
static __always_inline int zh_dns_answer(struct __sk_buff *skb, __u32 at, __u32 *length,
                                         const struct zh_dns_config *config,
                                         struct zh_dns_counts *counts, __u32 *sum)
{
  __u32 zero = 0;
  struct zh_dns_scratch *s = bpf_map_lookup_elem(&zh_dns_scratches, &zero);
  struct zh_dns_query query = {};
  if (!s || zh_dns_read(skb, at, *length, config, s, &query))
    return ZH_DNS_ON(unfit);
  struct zh_dns_answer *answer = bpf_map_lookup_elem(&zh_dns_names, &s->key);
  if (!answer)
    return ZH_DNS_ON(unknown);
  if (zh_dns_take(s, answer))
    return ZH_DNS_ON(torn);
  int verdict = zh_dns_write(skb, at, length, config, s, &query, sum);
  if (verdict > 0)
    return ZH_DNS_ON(too_big);
  return verdict < 0 ? -2 : 0;
}

/* As zh_dns_answer(), but that nothing is counted. */
static __always_inline int zh_dns_refused(struct __sk_buff *skb, __u32 at, __u32 *length, __u32 *sum)
{
  __s64 refusal = zh_dns_refuse(skb, at, *length);
  if (refusal <= 0)
    return refusal == 0 ? -1 : -2;
  *length = (__u32)refusal;
  if (sum)
    *sum = (__u32)(refusal >> 32);
  return 0;
}

static __always_inline int zh_dns_packet4(struct __sk_buff *skb, const struct zh_dns_config *config,
                                          struct zh_dns_counts *counts)
{
  __u64 *counted = &counts->answered4;
  struct {
    struct zh_ip4 ip;
    struct zh_udp udp;
  } h = {};
  if (bpf_skb_load_bytes(skb, ZH_ETH_BYTES, &h.ip, sizeof(h.ip)) || h.ip.version_length != 0x45 ||
      h.ip.source != zh_dns_here4 || h.ip.target != zh_dns_there4) {
    counts->strangers++;
    return TC_ACT_SHOT;
  }
  __u32 at = ZH_ETH_BYTES + sizeof(h), length = skb->len - at;
  int verdict = -1;
  if (h.ip.protocol == IPPROTO_UDP && !(h.ip.fragment & bpf_htons(ZH_IP_FRAGMENT)) &&
      !bpf_skb_load_bytes(skb, ZH_ETH_BYTES + ZH_IP_BYTES, &h.udp, sizeof(h.udp)) &&
      h.udp.target == bpf_htons(ZH_DNS_PORT)) {
    if (bpf_ntohs(h.udp.length) != length + ZH_UDP_BYTES || skb->gso_segs) {
      counts->unfit++;
    } else {
      verdict = zh_dns_answer(skb, at, &length, config, counts, 0);
      if (verdict == -1 && !zh_dns_is_served4(skb, h.udp.source)) {
        verdict = zh_dns_refused(skb, at, &length, 0);
        counted = &counts->refused4;
      }
    }
  } else {
    counts->others++;
  }
  if (verdict == -2)
    return TC_ACT_SHOT;
  if (verdict)
    return zh_dns_exchange4(skb, &h.ip)
               ? TC_ACT_SHOT
               : zh_dns_turn(skb, config, h.udp.source == bpf_htons(ZH_DNS_PORT));
  h.ip.total = bpf_htons(sizeof(h) + length);
  h.ip.ttl = 64;
  h.ip.source = zh_dns_there4;
  h.ip.target = zh_dns_here4;
  h.ip.check = 0;
  h.ip.check = ~zh_fold(bpf_csum_diff(0, 0, (__be32 *)&h.ip, sizeof(h.ip), 0));
  h.udp.target = h.udp.source;
  h.udp.source = bpf_htons(ZH_DNS_PORT);
  h.udp.length = bpf_htons(ZH_UDP_BYTES + length);
  h.udp.check = 0; /* IPv4 does without */
  if (bpf_skb_store_bytes(skb, ZH_ETH_BYTES, &h, sizeof(h), 0))
    return TC_ACT_SHOT;
  ++*counted;
  return zh_dns_turn(skb, config, 1);
}

static __always_inline int zh_dns_packet6(struct __sk_buff *skb, const struct zh_dns_config *config,
                                          struct zh_dns_counts *counts)
{
  __u64 *counted = &counts->answered6;
  struct {
    struct zh_ip6 ip;
    struct zh_udp udp;
  } h = {};
  if (bpf_skb_load_bytes(skb, ZH_ETH_BYTES, &h.ip, sizeof(h.ip)) ||
      !zh_same6(h.ip.source, zh_dns_here6) || !zh_same6(h.ip.target, zh_dns_there6)) {
    counts->strangers++;
    return TC_ACT_SHOT;
  }
  __u32 at = ZH_ETH_BYTES + sizeof(h), length = skb->len - at, sum = 0;
  int verdict = -1;
  if (h.ip.next == IPPROTO_UDP &&
      !bpf_skb_load_bytes(skb, ZH_ETH_BYTES + ZH_IPV6_BYTES, &h.udp, sizeof(h.udp)) &&
      h.udp.target == bpf_htons(ZH_DNS_PORT)) {
    if (bpf_ntohs(h.udp.length) != length + ZH_UDP_BYTES || skb->gso_segs) {
      counts->unfit++;
    } else {
      verdict = zh_dns_answer(skb, at, &length, config, counts, &sum);
      if (verdict == -1 && !zh_dns_is_served6(skb, h.udp.source)) {
        verdict = zh_dns_refused(skb, at, &length, &sum);
        counted = &counts->refused6;
      }
    }
  } else {
    counts->others++;
  }
  if (verdict == -2)
    return TC_ACT_SHOT;
  if (verdict)
    return zh_dns_exchange6(skb, &h.ip) ? TC_ACT_SHOT : zh_dns_turn(skb, config, 0);
  __u32 source[4];
  __builtin_memcpy(source, h.ip.source, sizeof(source));
  __builtin_memcpy(h.ip.source, h.ip.target, sizeof(source));
  __builtin_memcpy(h.ip.target, source, sizeof(source));
  h.ip.payload = bpf_htons(ZH_UDP_BYTES + length);
  h.ip.hops = 64;
  h.udp.target = h.udp.source;
  h.udp.source = bpf_htons(ZH_DNS_PORT);
  h.udp.length = h.ip.payload;
  h.udp.check = 0;
  /* The pseudo-header (RFC 8200, 8.1): both addresses, length, protocol; then UDP's own. */
  sum += zh_fold(bpf_csum_diff(0, 0, (__be32 *)h.ip.source, 32 + sizeof(h.udp), 0));
  sum += h.ip.payload + bpf_htons(IPPROTO_UDP);
  h.udp.check = ~zh_fold(sum);
  if (h.udp.check == 0)
    h.udp.check = 0xffff;
  if (bpf_skb_store_bytes(skb, ZH_ETH_BYTES, &h, sizeof(h), 0))
    return TC_ACT_SHOT;
  ++*counted;
  return zh_dns_turn(skb, config, 0);
}

SEC("tc")
int zh_dns_egress(struct __sk_buff *skb)
{
  __u32 zero = 0;
  struct zh_dns_config *config = bpf_map_lookup_elem(&zh_dns_config, &zero);
  struct zh_dns_counts *counts = bpf_map_lookup_elem(&zh_dns_counts, &zero);
  if (!config || !counts)
    return TC_ACT_SHOT;
  if (skb->protocol == bpf_htons(ZH_ETH_IP))
    return zh_dns_packet4(skb, config, counts);
  if (skb->protocol == bpf_htons(ZH_ETH_IPV6))
    return zh_dns_packet6(skb, config, counts);
  counts->strangers++;
  return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
